//! A worker: owns one SMTP session at a time and sends the mails whose turn has come.
//!
//! Owns when a session is opened, used again and closed. What an attempt means for its mail is [`Pipeline`]'s.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::{Attempted, Job, Pipeline};
use crate::{
    chain::chain,
    compose::Mail,
    config,
    event::Priority,
    health::Station,
    mask,
    schedule::Slot,
    smtp::{
        Attempt, Class, Connector, Held, Observer, Progress, Stage, Verdict, classify,
        relay::{Pass, Permit, Trouble},
    },
};

/// Mails that a probe passes over at the most.
const PASS_OVER: usize = 100;

/// How long a mail that was sent to some of its recipients waits during a shutdown to be sent to more of them.
const FINISH: Duration = Duration::from_secs(5);

/// Sends mails, one at a time.
pub struct Worker {
    pipeline: Arc<Pipeline>,
    connector: Connector,
    settings: config::Smtp,
    held: Option<Held>,
    station: Arc<Station>,
}

/// Why a session is not there.
enum NoSession {
    /// The process is to stop.
    Stop,
    /// The relay takes no further one; another worker may have one.
    Full,
    /// It could not be opened, and the relay's state has it.
    Failed,
}

/// How an attempt ended by itself.
enum Ended {
    /// Every recipient that took part in it has a class.
    Complete(Pass),
    /// Some have none: there was no session for them, or no time.
    Interrupted,
}

/// Whether some of its recipients have the mail, in this attempt or an earlier one.
fn is_partly_sent(job: &Job, classes: &[(usize, Class)]) -> bool {
    job.attempts.as_ref().is_some_and(|attempts| attempts.accepted().is_some())
        || classes.iter().any(|(_, class)| matches!(class, Class::Sent(_)))
}

impl Worker {
    /// A worker without a session.
    pub fn new(pipeline: Arc<Pipeline>, connector: Connector, settings: config::Smtp) -> Self {
        let station = pipeline.crew.join();
        let counted = Arc::clone(&pipeline);
        let connector = connector.observed(Observer::new(move |phase, took| counted.metrics.phase(phase, took)));
        Self { pipeline, connector, settings, held: None, station }
    }

    /// Sends until the shutdown drains; a mail that is being sent then is finished or cut.
    pub async fn run(mut self) {
        let drain = self.pipeline.shutdown.drain.clone();
        while !drain.is_cancelled() {
            if self.wait_for_work().await {
                self.serve().await;
                self.station.free();
            }
        }
        self.close().await;
    }

    /// True if there is work; false if the worker was woken for another reason.
    async fn wait_for_work(&mut self) -> bool {
        let idle_until = self.held.as_ref().map(|held| held.used() + self.settings.idle_timeout);
        let pipeline = Arc::clone(&self.pipeline);
        tokio::select! {
            biased;
            () = pipeline.shutdown.drain.cancelled() => false,
            () = pipeline.lanes.ready() => true,
            () = sleep_until(idle_until.unwrap_or_else(Instant::now)), if idle_until.is_some() => {
                self.close().await;
                false
            }
        }
    }

    /// Sends one mail, once the relay lets it through, a session is there and the rate allows it.
    ///
    /// In this order: nobody who waits for the relay or for a session has a share of the rate.
    async fn serve(&mut self) {
        let drain = self.pipeline.shutdown.drain.clone();
        if !self.pipeline.relay.is_open() {
            // a session that only waits may be what keeps the probe's from being opened
            self.close().await;
        }
        let Some(pass) = drain.run_until_cancelled(self.pipeline.relay.admit()).await else { return };
        if pass.is_probe() {
            self.held = None;
        }
        self.open_within();
        self.retire().await;
        if self.held.is_none() && !pass.is_probe() && !self.is_needed(&pass).await {
            return;
        }
        self.open_within();
        let pass = match self.hold_session(pass).await {
            Ok(pass) => pass,
            Err(NoSession::Full) => {
                self.station.free();
                // the mail that woke us may be for a worker with a session
                self.pipeline.lanes.wake();
                let free = self.pipeline.relay.session_free();
                let _ = drain.run_until_cancelled(free).await;
                return;
            }
            Err(NoSession::Failed) => {
                self.pipeline.lanes.wake();
                return;
            }
            Err(NoSession::Stop) => return,
        };
        self.pipeline.lanes.set_others_limit(self.pipeline.relay.others_limit());
        let Some(permit) = self.pace(&pass).await else { return };
        self.station.busy();
        // another worker may have been faster; then pass and permit go back as they are
        if let Some((slot, job, mail)) = self.next_mail(&pass) {
            self.attempt(slot, job, &mail, pass, permit).await;
        }
    }

    /// An old session is ended and a new one opened within these deadlines.
    fn open_within(&self) {
        self.station.busy_within(self.settings.timeouts.quit + self.settings.timeouts.opening());
    }

    /// Waits until the rate needs one more session; false if there is nothing to send by then, or no leave to.
    async fn is_needed(&self, pass: &Pass) -> bool {
        self.station.waits();
        tokio::select! {
            biased;
            () = self.pipeline.shutdown.drain.cancelled() => false,
            () = pass.overtaken() => false,
            () = self.pipeline.relay.short_of_sessions() => self.pipeline.lanes.is_ready(),
        }
    }

    /// Waits until the rate in force lets one more mail go; nothing if the session has grown too old by then, or the relay
    /// has gone.
    async fn pace(&self, pass: &Pass) -> Option<Permit> {
        self.station.waits();
        tokio::select! {
            biased;
            () = self.pipeline.shutdown.drain.cancelled() => None,
            () = pass.overtaken() => None,
            permit = self.pipeline.relay.pace() => Some(permit),
            () = self.idle() => None,
        }
    }

    /// Waits until the session has been idle for too long; where there is none, for ever.
    async fn idle(&self) {
        match &self.held {
            Some(held) => sleep_until(held.used() + self.settings.idle_timeout).await,
            None => std::future::pending().await,
        }
    }

    /// The next mail that is to be sent: those that end before their attempt cost their lane nothing.
    ///
    /// A probe passes over mails that the relay is known to have trouble with, unless the lane has no others.
    fn next_mail(&self, pass: &Pass) -> Option<(Slot<Job>, Job, Mail)> {
        let (slot, mut job) = self.pipeline.lanes.take()?;
        let mut pass_over = if pass.is_probe() { slot.waiting().min(PASS_OVER) } else { 0 };
        while !self.pipeline.shutdown.drain.is_cancelled() {
            if pass_over > 0 && self.pipeline.is_doubtful(&job) {
                pass_over -= 1;
                self.pipeline.lanes.push(job.lane, job);
            } else if let Some((mut prepared, mail)) = self.pipeline.prepare(job) {
                if pass_over == 0 || !self.pipeline.is_doubtful(&prepared) {
                    prepared.buffer = None;
                    return Some((slot, prepared, mail));
                }
                pass_over -= 1;
                self.pipeline.lanes.push(prepared.lane, prepared);
            }
            job = slot.replace()?;
        }
        None
    }

    async fn attempt(&mut self, slot: Slot<Job>, mut job: Job, mail: &Mail, pass: Pass, permit: Permit) {
        let progress = Progress::default();
        let shutdown = self.pipeline.shutdown.clone();
        let cut = async {
            shutdown.cut.cancelled().await;
            if progress.stage() == Stage::AwaitingReply {
                shutdown.cut_all.cancelled().await;
            }
        };
        let recipients = job.attempts.as_ref().map_or(0, |attempts| attempts.open().count());
        let begun = job.trace.begin();
        let mut classes = Vec::new();
        self.station.busy_within(self.deadlines(mail));
        let ended = tokio::select! {
            ended = self.transactions(&job, mail, &progress, (pass, permit), &mut classes) => Some(ended),
            () = cut => None,
        };
        drop(slot);
        let attempt = job.attempts_used() + 1;
        job.trace.attempted(begun, attempt, recipients, ended.is_some().then_some(classes.as_slice()));
        let interrupted = !matches!(ended, Some(Ended::Complete(_)));
        if interrupted && shutdown.drain.is_cancelled() && is_partly_sent(&job, &classes) {
            warn!(
                message_id = mail.message_id,
                "accepted for some of its recipients before the shutdown: unsettled, it goes to all of them again"
            );
        }
        match ended {
            Some(Ended::Complete(pass)) => {
                self.pipeline.conclude(job, Attempted { classes, interrupted }, Some(pass));
            }
            Some(Ended::Interrupted) => self.pipeline.conclude(job, Attempted { classes, interrupted }, None),
            None => {
                self.held = None;
                // where the relay may have taken the rest, there is nothing to conclude
                if !classes.is_empty() && progress.stage() != Stage::AwaitingReply {
                    self.pipeline.conclude(job, Attempted { classes, interrupted }, None);
                }
            }
        }
    }

    /// One attempt: a transaction, more of them where the relay takes fewer recipients at a time, and a second session
    /// where the first one was stale. The classes are those of the recipients that need no further transaction.
    async fn transactions(
        &mut self,
        job: &Job,
        mail: &Mail,
        progress: &Progress,
        (mut pass, permit): (Pass, Permit),
        classes: &mut Vec<(usize, Class)>,
    ) -> Ended {
        let mut open: Vec<usize> = job.attempts.as_ref().map(|attempts| attempts.open().collect()).unwrap_or_default();
        let (mut permit, mut renewed) = (Some(permit), false);
        loop {
            let begins = permit.as_mut().is_some_and(Permit::begin);
            let begun = match permit.take() {
                Some(permit) if begins => Some((pass, permit)),
                lapsed => {
                    drop(lapsed);
                    self.further(pass, (job.lane, self.deadlines(mail)), is_partly_sent(job, classes)).await
                }
            };
            let Some((held, in_force)) = begun else {
                self.pipeline.metrics.interrupted(job.lane);
                return Ended::Interrupted;
            };
            pass = held;
            let verdict = self.transaction(mail, &open, progress).await;
            drop(in_force);
            match &verdict {
                Verdict::All(class) => self.pipeline.metrics.attempted(job.lane, [class]),
                Verdict::Each(each) => self.pipeline.metrics.attempted(job.lane, each),
            }
            if matches!(verdict, Verdict::All(Class::Stale { .. })) && !renewed {
                renewed = true;
                self.held = None;
                continue;
            }
            let each = match verdict {
                Verdict::All(class) => vec![class; open.len()],
                Verdict::Each(each) => each,
            };
            let (split, done): (Vec<_>, Vec<_>) =
                open.into_iter().zip(each).partition(|(_, class)| matches!(class, Class::Split(_)));
            open = split.into_iter().map(|(index, _)| index).collect();
            if !open.is_empty() && done.iter().any(|(_, class)| class.is_an_answer()) {
                self.pipeline.relay.answers(&mut pass);
            }
            classes.extend(done);
            if open.is_empty() {
                return Ended::Complete(pass);
            }
        }
    }

    /// A session, and leave for a further transaction of the same mail, which counts for the relay as another one. Nothing
    /// if no session can be had, and at a shutdown: at once, or where the mail was partly sent, once a share is not to be
    /// had soon.
    async fn further(
        &mut self,
        mut pass: Pass,
        (lane, deadlines): (Priority, Duration),
        partly_sent: bool,
    ) -> Option<(Pass, Permit)> {
        let drain = self.pipeline.shutdown.drain.clone();
        let given_up = async {
            drain.cancelled().await;
            if partly_sent {
                sleep(FINISH).await;
            }
        };
        tokio::pin!(given_up);
        loop {
            self.open_within();
            // there is none where the transaction before has ended it
            pass = self.hold_session(pass).await.ok()?;
            let permit = tokio::select! {
                biased;
                () = &mut given_up => return None,
                permit = self.turn(lane, deadlines) => Some(permit),
                () = self.idle() => None,
            };
            if let Some(mut permit) = permit {
                if permit.begin() {
                    return Some((pass, permit));
                }
                continue;
            }
            self.open_within();
            self.close().await;
            // the next session is opened when it is of use; what shows that it is goes back unused
            tokio::select! {
                biased;
                () = &mut given_up => return None,
                permit = self.turn(lane, deadlines) => drop(permit),
            }
        }
    }

    /// Waits for the turn of a mail of this lane that is in hand, which has ended within `deadlines` from then on.
    pub(crate) async fn turn(&self, lane: Priority, deadlines: Duration) -> Permit {
        self.station.waits();
        let permit = self.pipeline.relay.pace_further(lane).await;
        self.station.busy_within(deadlines);
        permit
    }

    /// All that an attempt may take, however many transactions it needs.
    fn deadlines(&self, mail: &Mail) -> Duration {
        self.settings.timeouts.attempt(mail.recipients.len(), mail.bytes.len())
    }

    async fn transaction(&mut self, mail: &Mail, open: &[usize], progress: &Progress) -> Verdict {
        let attempt = match &mut self.held {
            Some(held) => held.send(mail, open, progress).await,
            None => Attempt::Lost { fresh: true, reply: None, detail: "there is no session".to_owned() },
        };
        if self.held.as_ref().is_some_and(|held| !held.is_usable()) {
            self.held = None;
        }
        classify(&attempt, &self.settings.throttle_replies)
    }

    /// Sees to it that there is a session.
    async fn hold_session(&mut self, pass: Pass) -> Result<Pass, NoSession> {
        if self.held.is_some() {
            return Ok(pass);
        }
        let Some(place) = self.pipeline.relay.try_session() else { return Err(NoSession::Full) };
        let drain = self.pipeline.shutdown.drain.clone();
        match drain.run_until_cancelled(self.connector.open()).await {
            None => Err(NoSession::Stop),
            Some(Ok(session)) => {
                self.held = Some(Held::new(session, place));
                Ok(pass)
            }
            Some(Err(error)) => {
                let (relay, why) = (&self.pipeline.relay, mask::text(&chain(&error)));
                relay.session_failed(pass, Trouble::of(&error), &why);
                drop(place);
                if error.is_about_secret() {
                    self.watch_secret();
                }
                Err(NoSession::Failed)
            }
        }
    }

    /// Sees to it that a secret that was put right is tried at once, however long the delay has grown.
    fn watch_secret(&self) {
        let (pipeline, connector) = (Arc::clone(&self.pipeline), self.connector.clone());
        self.pipeline.spawn(async move {
            if pipeline.shutdown.drain.run_until_cancelled(connector.secret_replaced()).await == Some(true) {
                info!("the file of the relay's password or token has changed: trying again");
                pipeline.relay.try_again();
            }
        });
    }

    /// Ends a session that has sent its share or has been idle for too long.
    async fn retire(&mut self) {
        if self.held.as_ref().is_some_and(|held| held.is_over(&self.settings)) {
            self.close().await;
        }
    }

    async fn close(&mut self) {
        if let Some(held) = self.held.take() {
            held.quit().await;
        }
    }
}
