//! One run of postlane over a backlog, and what its log says about the time that it took.

use std::{
    fs::File,
    io::Read as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};
use devkit::{
    kafka::Cluster,
    service::{Builder, Names, Service},
    smtp::SmtpServer,
};

use super::backlog;

/// The longest time for a run.
const LIMIT: Duration = Duration::from_secs(600);
/// The log is looked at this often; reading it takes time from the run.
const POLL: Duration = Duration::from_millis(50);

/// What is run.
pub(super) struct Run<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) program: &'a Path,
    pub(super) mails: usize,
    pub(super) sessions: u32,
    pub(super) partitions: i32,
    pub(super) template: &'a str,
}

/// What a run has taken.
pub(super) struct Measured {
    mails: usize,
    /// Between the log lines of the first and the last mail.
    between: Duration,
    /// From the start of the process to the last mail.
    pub(super) sent: Duration,
    /// From the start of the process to its end, when all is committed.
    pub(super) ended: Duration,
    /// In bytes.
    peak_memory: usize,
    /// Of all threads, in user mode and in the kernel, from the start to the last mail.
    pub(super) cpu: Duration,
}

impl Measured {
    /// Mails a second between the first and the last.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(super) fn rate(&self) -> f64 {
        (self.mails - 1) as f64 / self.between.as_secs_f64()
    }

    /// The most memory at once, in MiB.
    #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
    pub(super) fn peak_mebibytes(&self) -> f64 {
        self.peak_memory as f64 / f64::from(1 << 20)
    }
}

impl Run<'_> {
    /// Bytes of one mail as the relay gets it.
    pub(super) async fn size_of_a_mail(&self) -> Result<usize> {
        let smtp = SmtpServer::builder().start().await;
        let event = backlog::event(self.template, 0)?;
        let names = backlog::publish(self.cluster, 1, 1, |_| event.clone()).await?;
        let _service = self.start(&names, smtp.port())?;
        smtp.wait_for_mails(1, Duration::from_secs(60)).await?;
        smtp.ledger().accepted().first().map(|mail| mail.size).context("a mail")
    }

    /// Publishes a backlog, lets postlane send it, and demands that nothing of it is left.
    pub(super) async fn measure(&self, port: u16) -> Result<Measured> {
        backlog::event(self.template, 0)?;
        let event = |number| backlog::event(self.template, number).unwrap_or_default();
        let names = backlog::publish(self.cluster, self.partitions, self.mails, event).await?;
        let begun = Utc::now();
        let started = Instant::now();
        let mut service = self.start(&names, port)?;
        let log = Outcomes::follow(&mut service, self.mails).await?;
        let (peak_memory, cpu) = (peak_memory(&service)?, cpu_time(&service)?);
        let status = service.terminate(Duration::from_secs(30)).await?;
        let ended = started.elapsed();
        ensure!(status.success(), "postlane ended with {status}:\n{}", service.tail());
        let lag: Option<i64> = self.cluster.group_lag(&names.group).await?.iter().map(|partition| partition.lag).sum();
        ensure!(lag == Some(0), "all mails are sent, but the lag is {lag:?}");
        backlog::remove(self.cluster, &names).await?;
        Ok(Measured {
            mails: self.mails,
            between: (log.last - log.first).to_std()?,
            sent: (log.last - begun).to_std()?,
            ended,
            peak_memory,
            cpu,
        })
    }

    /// With the default settings, the log as text.
    fn start(&self, names: &Names, port: u16) -> Result<Service> {
        builder(self.program, self.cluster, names, port).set("SMTP_SESSIONS", self.sessions).start()
    }
}

/// A service with the default settings and a log in text.
pub(super) fn builder(program: &Path, cluster: &Cluster, names: &Names, port: u16) -> Builder {
    Builder::new(program)
        .names(names)
        .set("LOG_FORMAT", "text")
        .set("KAFKA_BROKERS", cluster.bootstrap())
        .set("SMTP_HOST", "127.0.0.1")
        .set("SMTP_PORT", port)
        .set("SMTP_ENCRYPTION", "none")
}

/// The most memory that a running service has had at once, in bytes.
pub(super) fn peak_memory(service: &Service) -> Result<usize> {
    memory(service, "VmHWM:")
}

/// A figure of a running service from `/proc/PID/status`, in bytes.
pub(super) fn memory(service: &Service, name: &str) -> Result<usize> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.id()))?;
    let line = status.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name} Not Linux?"))?;
    let kib: usize = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kib * 1024)
}

/// The processor time that a running service has used.
pub(super) fn cpu_time(service: &Service) -> Result<Duration> {
    // proc_pid_stat(5): utime and stime are the 12th and 13th field behind the name, in hundredths of a second
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", service.id()))?;
    let (_, behind_name) = stat.rsplit_once(')').context("a name")?;
    let fields = behind_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// Times of the first and the last mail, as the log has them.
pub(super) struct Outcomes {
    pub(super) first: DateTime<Utc>,
    pub(super) last: DateTime<Utc>,
}

impl Outcomes {
    /// Reads the log until so many mails were sent. Any other outcome is an error.
    pub(super) async fn follow(service: &mut Service, mails: usize) -> Result<Self> {
        let mut file = File::open(service.log_file())?;
        let (mut text, mut count, mut first, mut last) = (String::new(), 0, None, None);
        let deadline = Instant::now() + LIMIT;
        while count < mails {
            ensure!(Instant::now() < deadline, "only {count} of {mails} mails in {LIMIT:?}:\n{}", service.tail());
            let ended = service.exit_status()?;
            ensure!(ended.is_none(), "postlane has ended:\n{}", service.tail());
            tokio::time::sleep(POLL).await;
            file.read_to_string(&mut text)?;
            let whole = text.rfind('\n').map_or(0, |at| at + 1);
            for line in text[..whole].lines().filter(|line| line.contains(" outcome=")) {
                ensure!(line.contains("outcome=\"sent\""), "not sent: {line}");
                count += 1;
                if count == 1 || count == mails {
                    let time = line.split_whitespace().next().context("a time")?;
                    last = Some(DateTime::parse_from_rfc3339(time)?.to_utc());
                    first = first.or(last);
                }
            }
            text.drain(..whole);
        }
        Ok(Self { first: first.context("no mails")?, last: last.context("no mails")? })
    }
}
