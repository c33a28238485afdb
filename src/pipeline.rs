//! The pipeline: a record comes in, and exactly one end comes out of it.
//!
//! Owns what happens between fetching and settling, and is the one place where outcomes are matched. Fetching, sending
//! and the policy live in their own modules.

mod job;
mod partition;
mod worker;

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use chrono::Utc;
use futures::FutureExt;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::task::TaskTracker;
use tracing::{error, info};

pub use self::{
    job::Job,
    partition::{Partition, Place, Reading, Room, Source, Ticket, Vitals},
    worker::Worker,
};
use crate::{
    compose::Mail,
    config,
    event::Priority,
    health::Crew,
    kafka::{
        Record,
        dead_letter::{DeadLetters, Failure, Reason, Stage},
    },
    mask,
    metrics::Metrics,
    retry::{Attempts, Decision, Ending, Now},
    schedule::Scheduler,
    shutdown::Shutdown,
    smtp::{
        Class, Reply,
        relay::{Fault, Pass, Relay},
    },
    telemetry::{Trace, Traces},
    template::Templates,
};

/// Longest time for which a mail that was refused at MAIL waits for others to show whose fault that was.
const SUSPECT_FOR: Duration = Duration::from_secs(10);

/// What joins the stages.
pub struct Pipeline {
    /// Settings of the mails.
    pub mail: config::Mail,
    /// Settings of the attempts.
    pub retry: config::Retry,
    /// What is rendered.
    pub templates: Templates,
    /// Mails that may be sent now.
    pub lanes: Arc<Scheduler<Job>>,
    /// What is known of the relay.
    pub relay: Arc<Relay>,
    /// Where mails end that cannot be sent.
    pub dead_letters: DeadLetters,
    /// Makes the spans of mails.
    pub traces: Traces,
    /// How far a shutdown has come.
    pub shutdown: Shutdown,
    /// Waiting retries and dead letters that are being written.
    pub tasks: TaskTracker,
    /// Mails that were refused at MAIL since a mail was accepted last.
    pub suspects: Mutex<Vec<(Instant, Job)>>,
    /// A task has panicked: the process must end, or the record that it held stays unsettled for as long as it lives.
    pub crashed: Notify,
    /// Counts what happens.
    pub metrics: Metrics,
    /// What the workers do.
    pub crew: Crew,
    /// The partitions that are worked on; those that are no more drop out by themselves.
    pub tracked: Mutex<Vec<Weak<Partition>>>,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pipeline")
    }
}

/// What a worker has seen of one attempt.
pub struct Attempted {
    /// The class of each recipient that got one.
    pub classes: Vec<(usize, Class)>,
    /// No session could be had for the rest of them.
    pub interrupted: bool,
}

impl Pipeline {
    /// Where the loop of a partition delivers.
    pub fn source(self: &Arc<Self>, partition: Arc<Partition>, lane: Priority, buffer: Room) -> Source {
        let mut tracked = self.tracked.lock().unwrap_or_else(PoisonError::into_inner);
        tracked.retain(|partition| partition.strong_count() > 0);
        tracked.push(Arc::downgrade(&partition));
        let fetched = self.metrics.fetched(partition.topic());
        Source { pipeline: Arc::clone(self), partition, lane, buffer, fetched }
    }

    /// The partitions that are worked on.
    pub fn partitions(&self) -> Vec<Arc<Partition>> {
        let tracked = self.tracked.lock().unwrap_or_else(PoisonError::into_inner);
        tracked.iter().filter_map(Weak::upgrade).collect()
    }

    /// Takes a record in: it is put into its lane, or it is a dead letter at once.
    fn accept(self: &Arc<Self>, record: Record, topic_lane: Priority, ticket: Ticket, buffer: Place, mut trace: Trace) {
        let record = Arc::new(record);
        let message = match job::decode(&record) {
            Ok(message) => message,
            Err(failure) => {
                log_undecodable(&record, &failure, &trace);
                return self.dead_letter(record, topic_lane, ticket, trace, failure);
            }
        };
        // an old producer knows the normal topic alone, and says there how urgent it is
        let lane = if topic_lane == Priority::Normal { message.priority } else { topic_lane };
        trace.decoded(&message, lane);
        let job = Job {
            record,
            ticket,
            lane,
            id: message.id,
            template: message.template,
            message_id: None,
            sender: String::new(),
            recipients: String::new(),
            attempts: None,
            buffer: Some(buffer),
            trace,
        };
        self.lanes.push(lane, job);
    }

    /// Makes the mail of a job whose turn has come. A job that ends before its attempt is taken care of.
    fn prepare(self: &Arc<Self>, mut job: Job) -> Option<(Job, Mail)> {
        let begun = job.trace.begin();
        let made = job::decode(&job.record)
            .and_then(|message| Ok((job::compose(&message, &self.templates, &self.mail)?, message)));
        job.trace.rendered(begun, made.as_ref().map(|(mail, _)| mail.message_id.as_str()));
        let (mail, message) = match made {
            Ok(made) => made,
            Err(failure) => {
                let failure = Failure { attempts: job.attempts_used(), ..failure };
                if failure.stage == Stage::Template {
                    self.metrics.template_failed(&job.template);
                }
                log_dead_letter(&job, &failure);
                self.dead_letter(job.record, job.lane, job.ticket, job.trace, failure);
                return None;
            }
        };
        job.message_id = Some(mail.message_id.clone());
        job.sender = mail.envelope_from.to_string();
        if job.recipients.is_empty() {
            job.recipients = mask::list(mail.recipients.iter().map(|recipient| &recipient.address));
        }
        let indices = mail.recipients.iter().map(|recipient| recipient.index);
        let attempts = job.attempts.get_or_insert_with(|| Attempts::new(&message, indices, &self.retry));
        match attempts.begin(self.now()) {
            None => Some((job, mail)),
            Some(decision) => {
                self.follow(job, decision);
                None
            }
        }
    }

    /// Takes in what a worker has seen, and does what follows from it.
    fn conclude(self: &Arc<Self>, mut job: Job, mut attempted: Attempted, pass: Option<Pass>) {
        self.tell_relay(&job, &mut attempted.classes, pass);
        let attempts = job.attempts.as_mut().expect("prepared before it was attempted");
        let decision = if attempted.interrupted {
            attempts.interrupt(attempted.classes, self.now())
        } else {
            attempts.conclude(attempted.classes, self.now())
        };
        self.follow(job, decision);
    }

    /// What the attempt says of the relay as a whole; and what the relay's past says of a refusal at MAIL.
    fn tell_relay(self: &Arc<Self>, job: &Job, classes: &mut [(usize, Class)], pass: Option<Pass>) {
        let seen = |wanted: fn(&Class) -> bool| classes.iter().any(|(_, class)| wanted(class));
        if seen(|class| matches!(class, Class::Sent(_))) {
            self.relay.accepted(&job.sender);
            self.release_suspects(|_| true);
        }
        if seen(|class| matches!(class, Class::Throttled(_))) {
            self.relay.throttled();
        }
        let Some(pass) = pass else { return };
        let locked_out = classes.iter().find_map(|(_, class)| match class {
            Class::RelayDown(reply) => Some(reply),
            _ => None,
        });
        if let Some(reply) = locked_out {
            if job.attempts.as_ref().is_some_and(|attempts| attempts.is_locked_out_alone(self.now())) {
                self.relay.answered(pass);
            } else {
                self.relay.down(pass, &mask::text(&reply.to_string()));
            }
        } else if seen(|class| matches!(class, Class::Refused { at_mail: true, .. })) {
            match self.relay.refused_at_mail(&job.sender) {
                Fault::Sender => {
                    self.relay.answered(pass);
                    for (_, class) in classes {
                        if let Class::Refused { at_mail, .. } = class {
                            *at_mail = false;
                        }
                    }
                }
                Fault::Undecided => self.relay.answered(pass),
                Fault::Relay => {
                    let why = "it has refused 20 mails in a row at MAIL: check MAIL_FROM and the relay's rules";
                    self.relay.unfit(pass, why);
                    self.requeue_suspects();
                }
            }
        } else if classes.iter().all(|(_, class)| {
            matches!(class, Class::Stale { .. } | Class::BrokenOff { .. } | Class::OutcomeUnknown { .. })
        }) {
            // nothing that a working relay must have said: a probe has not succeeded
            if pass.is_probe() {
                self.relay.unfit(pass, "it takes sessions but breaks them off");
            }
        } else {
            self.relay.answered(pass);
        }
    }

    /// Whether the relay is known to have trouble with this very mail: a probe should try another one.
    fn is_doubtful(&self, job: &Job) -> bool {
        self.relay.was_refused(&job.sender) || job.attempts.as_ref().is_some_and(Attempts::was_locked_out)
    }

    /// Does what was decided: the one place where a mail's outcome turns into what happens to its record.
    fn follow(self: &Arc<Self>, mut job: Job, decision: Decision) {
        job.trace.decided(&decision, job.attempts.as_ref());
        match decision {
            Decision::Sent => {
                let reply =
                    job.attempts.as_ref().and_then(Attempts::accepted).map(Reply::to_string).unwrap_or_default();
                let attempts = job.attempts_used();
                // before anything else may go wrong
                job.ticket.settle();
                self.metrics.sent(job.lane, job.record.written());
                info!(
                    outcome = "sent",
                    id = mask::text(&job.id),
                    message_id = job.message_id.as_deref().unwrap_or_default(),
                    template = job.template,
                    lane = %job.lane,
                    to = job.recipients,
                    attempts,
                    reply = mask::text(&reply),
                    trace_id = job.trace.id().map(display),
                );
            }
            Decision::DeadLetter(ending) => {
                let failure = failure_of(&job, ending);
                log_dead_letter(&job, &failure);
                self.dead_letter(job.record, job.lane, job.ticket, job.trace, failure);
            }
            Decision::Wait(delay) => {
                info!(
                    outcome = "deferred",
                    id = mask::text(&job.id),
                    message_id = job.message_id.as_deref().unwrap_or_default(),
                    template = job.template,
                    lane = %job.lane,
                    to = job.recipients,
                    attempts = job.attempts_used(),
                    retry_in = ?delay,
                    reply = refusal_of(&job),
                    trace_id = job.trace.id().map(display),
                );
                let pipeline = Arc::clone(self);
                let waiting = self.metrics.retry_waits(job.lane);
                self.spawn(async move {
                    let waited = pipeline.shutdown.drain.run_until_cancelled(tokio::time::sleep(delay)).await;
                    drop(waiting);
                    if waited.is_some() {
                        pipeline.lanes.push(job.lane, job);
                    }
                });
            }
            Decision::Suspect => {
                // while the relay is known to refuse everyone, it is not this mail's fault
                if self.relay.is_misconfigured() {
                    self.lanes.push(job.lane, job);
                } else {
                    self.suspect(job);
                }
            }
            Decision::RelayDown => self.lanes.push(job.lane, job),
            Decision::AtOnce => self.lanes.push_front(job.lane, job),
        }
    }

    /// Keeps a mail that was refused at MAIL until others show whose fault that was, or for [`SUSPECT_FOR`].
    fn suspect(self: &Arc<Self>, job: Job) {
        let ours = {
            let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
            suspects.push((Instant::now(), job));
            suspects.len() == 1
        };
        if ours {
            let pipeline = Arc::clone(self);
            let patience = SUSPECT_FOR.min(self.retry.initial_delay);
            self.spawn(async move {
                let drain = pipeline.shutdown.drain.clone();
                while let Some(oldest) = pipeline.oldest_suspect() {
                    if drain.run_until_cancelled(sleep_until(oldest + patience)).await.is_none() {
                        return;
                    }
                    if pipeline.relay.is_misconfigured() {
                        pipeline.requeue_suspects();
                    } else {
                        pipeline.release_suspects(|since| since.elapsed() >= patience);
                    }
                }
            });
        }
    }

    fn oldest_suspect(&self) -> Option<Instant> {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).first().map(|(since, _)| *since)
    }

    /// The relay takes mails: those that were refused at MAIL are refused for good.
    fn release_suspects(self: &Arc<Self>, which: impl Fn(Instant) -> bool) {
        for mut job in self.take_suspects(which) {
            let decision = job.attempts.as_mut().expect("prepared before it was refused").refused();
            self.follow(job, decision);
        }
    }

    /// The relay refuses everyone: the mails go back to their lanes.
    fn requeue_suspects(&self) {
        for job in self.take_suspects(|_| true) {
            self.lanes.push(job.lane, job);
        }
    }

    fn take_suspects(&self, which: impl Fn(Instant) -> bool) -> Vec<Job> {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        let (taken, kept) = std::mem::take(&mut *suspects).into_iter().partition(|(since, _)| which(*since));
        *suspects = kept;
        taken.into_iter().map(|(_, job): (Instant, Job)| job).collect()
    }

    /// Writes a dead letter and settles its record then, and not before.
    fn dead_letter(
        self: &Arc<Self>,
        record: Arc<Record>,
        lane: Priority,
        ticket: Ticket,
        mut trace: Trace,
        failure: Failure,
    ) {
        let pipeline = Arc::clone(self);
        let pending = self.metrics.dead_letter_pends();
        trace.failed(&failure);
        self.spawn(async move {
            let begun = trace.begin();
            let writing = pipeline.dead_letters.write(&record, &failure);
            match pipeline.shutdown.cut_all.run_until_cancelled(writing).await {
                Some(Ok(())) => {
                    ticket.settle();
                    pipeline.metrics.dead_letter_written(lane, &failure);
                    trace.buried(begun);
                }
                Some(Err(error)) => {
                    error!(%error, "a dead letter cannot be written");
                    pipeline.crashed.notify_one();
                }
                None => {}
            }
            drop(pending);
        });
    }

    /// Runs a task that holds a record.
    fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let pipeline = Arc::clone(self);
        self.tasks.spawn(async move {
            // what the task held is dropped with it
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                pipeline.crashed.notify_one();
            }
        });
    }

    fn now(&self) -> Now {
        Now { instant: Instant::now(), time: Utc::now(), accepted: self.relay.count() }
    }
}

fn refusal_of(job: &Job) -> String {
    let refusal = job.attempts.as_ref().and_then(Attempts::refusal);
    refusal.map_or_else(|| "none: the session was lost".to_owned(), |reply| mask::text(&reply.to_string()))
}

fn failure_of(job: &Job, ending: Ending) -> Failure {
    let reply = ending.reply;
    let said = reply.as_ref().map(|reply| format!(": the relay answered {reply}")).unwrap_or_default();
    let message = match ending.reason {
        Reason::Rejected => format!("refused for good{said}"),
        Reason::TooLarge => "larger than the relay takes".to_owned(),
        Reason::OutcomeUnknown => {
            "the attempts are used up, and at least one ended without an answer: the relay may have the mail".to_owned()
        }
        Reason::Expired => format!("message.expires_at has passed, or passes before the next attempt{said}"),
        _ => format!("the attempts are used up{said}"),
    };
    Failure {
        stage: if ending.reason == Reason::Expired { Stage::Expired } else { Stage::Send },
        reason: ending.reason,
        message,
        recipients: ending.recipients,
        attempts: job.attempts_used(),
        smtp_code: reply.as_ref().map(|reply| reply.code),
        smtp_enhanced: reply.and_then(|reply| reply.enhanced),
        message_id: Some(job.id.clone()),
    }
}

fn log_undecodable(record: &Record, failure: &Failure, trace: &Trace) {
    info!(
        outcome = "dead letter",
        topic = %record.topic,
        partition = record.partition,
        offset = record.offset,
        stage = failure.stage.as_str(),
        reason = failure.reason.as_str(),
        detail = mask::text(&failure.message),
        trace_id = trace.id().map(display),
    );
}

fn log_dead_letter(job: &Job, failure: &Failure) {
    // where the others were served: what the relay said to that
    let served = job.attempts.as_ref().and_then(Attempts::accepted).map(|reply| mask::text(&reply.to_string()));
    info!(
        outcome = "dead letter",
        id = mask::text(&job.id),
        message_id = job.message_id.as_deref().unwrap_or_default(),
        template = job.template,
        lane = %job.lane,
        to = job.recipients,
        attempts = failure.attempts,
        stage = failure.stage.as_str(),
        reason = failure.reason.as_str(),
        detail = mask::text(&failure.message),
        served = served.as_deref(),
        trace_id = job.trace.id().map(display),
    );
}
