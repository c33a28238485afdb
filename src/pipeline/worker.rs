//! A worker: owns one SMTP session at a time and sends the mails whose turn has come.
//!
//! Owns when a session is opened, used again and closed. What an attempt means for its mail is [`Pipeline`]'s.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

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
        Attempt, Class, Connector, Observer, OpenPhase, Outgoing, Progress, Session, Stage, Verdict, classify,
        relay::{Pass, Permit, SessionPlace, Trouble},
    },
};

/// Mails that a probe passes over at the most.
const PASS_OVER: usize = 100;

/// An open session and its place among those of the relay.
struct Held {
    session: Session,
    _place: SessionPlace,
    used: Instant,
}

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
        let idle_until = self.held.as_ref().map(|held| held.used + self.settings.idle_timeout);
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

    /// Sends one mail, once the relay lets it through and a session is there.
    async fn serve(&mut self) {
        let drain = self.pipeline.shutdown.drain.clone();
        // as long as the rate in force asks for
        self.station.busy();
        let Some(permit) = self.pace().await else { return };
        self.station.free();
        if !self.pipeline.relay.is_open() {
            // a session that only waits may be what keeps the probe's from being opened
            self.close().await;
        }
        let Some(pass) = drain.run_until_cancelled(self.pipeline.relay.admit()).await else { return };
        if pass.is_probe() {
            self.held = None;
        }
        self.station.busy_within(self.settings.timeouts.quit + self.settings.timeouts.opening());
        self.retire().await;
        let pass = match self.hold_session(pass).await {
            Ok(pass) => pass,
            Err(NoSession::Full) => {
                drop(permit);
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
        self.station.busy();
        self.pipeline.lanes.set_others_limit(self.pipeline.relay.others_limit());
        // another worker may have been faster; then a probe's pass goes back as it is
        if let Some((slot, job, mail)) = self.next_mail(&pass) {
            self.attempt(slot, job, &mail, pass, permit).await;
        }
    }

    /// Waits until the rate in force lets one more mail go; the session that waits with it may grow too old meanwhile.
    async fn pace(&mut self) -> Option<Permit> {
        let pipeline = Arc::clone(&self.pipeline);
        let pace = pipeline.relay.pace();
        tokio::pin!(pace);
        loop {
            let idle_until = self.held.as_ref().map(|held| held.used + self.settings.idle_timeout);
            tokio::select! {
                biased;
                () = pipeline.shutdown.drain.cancelled() => return None,
                permit = &mut pace => return Some(permit),
                () = sleep_until(idle_until.unwrap_or_else(Instant::now)), if idle_until.is_some() => self.close().await,
            }
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
        self.station.busy_within(self.deadlines(mail));
        let open: Vec<usize> = job.attempts.as_ref().map(|attempts| attempts.open().collect()).unwrap_or_default();
        let (begun, recipients) = (job.trace.begin(), open.len());
        let attempted = tokio::select! {
            attempted = self.transactions(mail, open, &progress, (pass, permit), job.lane) => Some(attempted),
            () = cut => None,
        };
        drop(slot);
        let classes = attempted.as_ref().map(|(attempted, _)| attempted.classes.as_slice());
        job.trace.attempted(begun, job.attempts_used() + 1, recipients, classes);
        match attempted {
            Some((attempted, pass)) => self.pipeline.conclude(job, attempted, pass),
            None => self.held = None,
        }
    }

    /// One attempt: a transaction, more of them where the relay takes fewer recipients at a time, and a second session
    /// where the first one was stale.
    async fn transactions(
        &mut self,
        mail: &Mail,
        mut open: Vec<usize>,
        progress: &Progress,
        (mut pass, mut permit): (Pass, Permit),
        lane: Priority,
    ) -> (Attempted, Option<Pass>) {
        let (mut classes, mut renewed) = (Vec::new(), false);
        loop {
            // there is none where the transaction before has ended it
            let Ok(held) = self.hold_session(pass).await else {
                self.pipeline.metrics.interrupted(lane);
                return (Attempted { classes, interrupted: true }, None);
            };
            pass = held;
            permit.begin();
            let verdict = self.transaction(mail, &open, progress).await;
            match &verdict {
                Verdict::All(class) => self.pipeline.metrics.attempted(lane, [class]),
                Verdict::Each(each) => self.pipeline.metrics.attempted(lane, each),
            }
            if matches!(verdict, Verdict::All(Class::Stale { .. })) && !renewed {
                renewed = true;
                self.held = None;
                permit = self.further(permit, self.deadlines(mail)).await;
                continue;
            }
            let each = match verdict {
                Verdict::All(class) => vec![class; open.len()],
                Verdict::Each(each) => each,
            };
            let (split, done): (Vec<_>, Vec<_>) =
                open.into_iter().zip(each).partition(|(_, class)| matches!(class, Class::Split(_)));
            classes.extend(done);
            open = split.into_iter().map(|(index, _)| index).collect();
            if open.is_empty() {
                return (Attempted { classes, interrupted: false }, Some(pass));
            }
            permit = self.further(permit, self.deadlines(mail)).await;
        }
    }

    /// All that an attempt may take, however many transactions it needs.
    fn deadlines(&self, mail: &Mail) -> Duration {
        self.settings.timeouts.attempt(mail.recipients.len(), mail.bytes.len())
    }

    /// Leave for a further transaction of the same mail, which counts for the relay as another one, and has ended
    /// within `deadlines`.
    pub(crate) async fn further(&self, permit: Permit, deadlines: Duration) -> Permit {
        drop(permit);
        // as long as the rate in force asks for
        self.station.busy();
        let permit = self.pipeline.relay.pace().await;
        self.station.busy_within(deadlines);
        permit
    }

    async fn transaction(&mut self, mail: &Mail, open: &[usize], progress: &Progress) -> Verdict {
        let addresses: Vec<_> = mail
            .recipients
            .iter()
            .filter(|recipient| open.contains(&recipient.index))
            .map(|recipient| recipient.address.clone())
            .collect();
        let broken = |detail: String| Attempt::Lost { fresh: true, reply: None, detail };
        let attempt = match (Outgoing::new(Some(&mail.envelope_from), &addresses, &mail.bytes), &mut self.held) {
            (Ok(outgoing), Some(held)) => {
                held.used = Instant::now();
                let attempt = held.session.send(&outgoing, progress).await;
                held.used = Instant::now();
                attempt
            }
            (Err(error), _) => broken(error.to_string()),
            (Ok(_), None) => broken("there is no session".to_owned()),
        };
        if let Attempt::Lost { detail, .. } = &attempt {
            debug!(message_id = mail.message_id, detail = mask::text(detail), "session lost");
        }
        if self.held.as_ref().is_some_and(|held| !held.session.is_usable()) {
            self.held = None;
        }
        classify(&attempt, &self.settings.throttle_replies)
    }

    /// Sees to it that there is a session.
    async fn hold_session(&mut self, pass: Pass) -> Result<Pass, NoSession> {
        if self.held.is_some() {
            return Ok(pass);
        }
        let Some(mut place) = self.pipeline.relay.try_session() else { return Err(NoSession::Full) };
        let drain = self.pipeline.shutdown.drain.clone();
        match drain.run_until_cancelled(self.connector.open()).await {
            None => Err(NoSession::Stop),
            Some(Ok(session)) => {
                place.establish();
                self.held = Some(Held { session, _place: place, used: Instant::now() });
                Ok(pass)
            }
            Some(Err(error)) => {
                let (relay, why) = (&self.pipeline.relay, mask::text(&chain(&error)));
                let trouble = match (error.phase(), error.reply()) {
                    _ if error.is_login_refused() => Trouble::Login,
                    (OpenPhase::Connect, _) => Trouble::Unreachable,
                    (_, Some(reply)) if reply.code == 421 => Trouble::Full,
                    _ => Trouble::Other,
                };
                relay.session_failed(pass, trouble, &why);
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
        let limit = self.settings.max_messages_per_session;
        let idle = self.settings.idle_timeout;
        let over =
            |held: &Held| !held.session.is_usable() || held.session.mails() >= limit || held.used.elapsed() >= idle;
        if self.held.as_ref().is_some_and(over) {
            self.close().await;
        }
    }

    async fn close(&mut self) {
        if let Some(held) = self.held.take() {
            held.session.quit().await;
        }
    }
}
