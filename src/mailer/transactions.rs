//! The transactions of one mail: mostly one, more where the relay takes fewer recipients at a time.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::{Instant, timeout};

use super::{Delivered, Ended, Error, Failed, Inner, error, is_expired, sessions::Leased};
use crate::{
    compose::{self, Mail},
    event::Message,
    mask,
    smtp::{
        Class, Progress, Stage, Verdict, classify,
        relay::{Pass, Permit, SessionPlace},
    },
};

/// Who comes while the relay is being probed waits so long for what comes of it.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// A transaction that was cut after this time had a relay that says nothing.
const SILENCE: Duration = Duration::from_secs(5);
/// So many of them without an answer in between, and the relay is taken to be down.
const SILENT: u32 = 3;

/// What was done for a mail so far; outlives the future that does it.
pub(super) struct Transactions<'a> {
    inner: &'a Inner,
    message: &'a Message,
    /// Made when its turn has come, so that those who wait cost no memory.
    mail: Option<Mail>,
    progress: Progress,
    /// When the transaction began that is on its way.
    begun: Option<Instant>,
    pass: Option<Pass>,
    open: Vec<usize>,
    classes: Vec<(usize, Class)>,
}

impl<'a> Transactions<'a> {
    pub(super) fn new(inner: &'a Inner, message: &'a Message) -> Self {
        let progress = Progress::default();
        Self { inner, message, mail: None, progress, begun: None, pass: None, open: Vec::new(), classes: Vec::new() }
    }

    /// Where the mail stands; meant for when the future of [`Self::run`] is no more.
    pub(super) fn stage(&self) -> Stage {
        self.progress.stage()
    }

    /// What became of the mail; `why` is what became of those recipients that were not reached.
    pub(super) fn conclude(self, why: Option<Failed>) -> Result<Delivered, Error> {
        let message_id = self.mail.map(|mail| mail.message_id).unwrap_or_default();
        error::conclude(message_id, self.classes, &self.open, why)
    }

    /// Makes transactions until every recipient has a class.
    pub(super) async fn run(&mut self) -> Result<(), Ended> {
        let (mut vacant, mut renewed) = (None, false);
        self.pass = Some(self.admit().await?);
        loop {
            let (mut leased, permit) = self.turn(vacant.take()).await?;
            if self.classes.is_empty() && is_expired(self.message) {
                leased.give_back();
                return Err(Ended::Unfit(Error::Expired));
            }
            self.begun = Some(Instant::now());
            let mail = self.mail.as_ref().expect("it is made before its turn is given");
            let attempt = leased.send(mail, &self.open, &self.progress).await;
            self.begun = None;
            drop(permit);
            let verdict = classify(&attempt, &self.inner.smtp.throttle_replies);
            if matches!(verdict, Verdict::All(Class::Stale { .. })) && !renewed {
                (vacant, renewed) = (Some(leased.vacate()), true);
                continue;
            }
            leased.give_back();
            let each = match verdict {
                Verdict::All(class) => vec![class; self.open.len()],
                Verdict::Each(each) => each,
            };
            let (split, done): (Vec<_>, Vec<_>) = std::mem::take(&mut self.open)
                .into_iter()
                .zip(each)
                .partition(|(_, class)| matches!(class, Class::Split(_)));
            self.open = split.into_iter().map(|(index, _)| index).collect();
            self.tell_relay(&done);
            self.classes.extend(done);
            if self.open.is_empty() {
                return Ok(());
            }
            if self.pass.is_none() {
                self.pass = Some(self.admit().await?);
            }
        }
    }

    /// Leave to send, at once or never: only who comes while the relay is being probed waits a little.
    async fn admit(&self) -> Result<Pass, Ended> {
        let relay = &self.inner.relay;
        let refused = match relay.try_admit() {
            Ok(pass) => return Ok(pass),
            Err(closed) if closed.retry_in.is_some() => closed,
            Err(_) => {
                // an elapsed patience is an answer as well
                let _ = timeout(PROBE_PATIENCE, relay.probed()).await;
                match relay.try_admit() {
                    Ok(pass) => return Ok(pass),
                    Err(closed) => closed,
                }
            }
        };
        Err(Ended::RelayDown(Failed::RelayDown { why: refused.why, retry_in: refused.retry_in }))
    }

    /// A session and a share of the rate, when this mail's turn has come; a new session for a probe, and in a vacant place.
    async fn turn(&mut self, mut vacant: Option<SessionPlace>) -> Result<(Leased, Permit), Ended> {
        let Inner { relay, sessions, .. } = self.inner;
        loop {
            let pass = match self.pass.take() {
                Some(pass) => pass,
                None => self.admit().await?,
            };
            if pass.is_probe() && vacant.is_none() {
                vacant = sessions.place_for_probe();
                if vacant.is_none() {
                    relay.unfit(pass, "it takes no session beside those that are open");
                    continue;
                }
            }
            let (leased, pass) = if let Some(place) = vacant.take() {
                match sessions.open_own(place, pass).await {
                    Some(got) => got,
                    None => continue,
                }
            } else {
                match sessions.acquire().await {
                    Some(leased) => (leased, pass),
                    None => continue,
                }
            };
            if let Err(error) = self.make() {
                leased.give_back();
                return Err(Ended::Unfit(error));
            }
            let permit = tokio::select! {
                biased;
                () = pass.overtaken() => None,
                permit = self.permit() => Some(permit),
            };
            match permit {
                Some(permit) => {
                    self.pass = Some(pass);
                    return Ok((leased, permit));
                }
                None => leased.give_back(),
            }
        }
    }

    fn make(&mut self) -> Result<(), Error> {
        if self.mail.is_none() {
            let mail = compose::make(self.message, &self.inner.templates, &self.inner.settings)?;
            self.open = mail.recipients.iter().map(|recipient| recipient.index).collect();
            self.mail = Some(mail);
        }
        Ok(())
    }

    /// Waits for a share of the rate that has not lapsed.
    async fn permit(&self) -> Permit {
        loop {
            let mut permit = self.inner.relay.pace_further(self.message.priority).await;
            if permit.begin() {
                return permit;
            }
        }
    }

    /// What a transaction says of the relay as a whole.
    fn tell_relay(&mut self, classes: &[(usize, Class)]) {
        let (relay, mail) = (&self.inner.relay, self.mail.as_ref());
        let seen = |wanted: fn(&Class) -> bool| classes.iter().any(|(_, class)| wanted(class));
        if seen(|class| matches!(class, Class::Sent(_))) {
            relay.accepted(mail.map_or("", |mail| mail.envelope_from.as_ref()));
        }
        if seen(|class| matches!(class, Class::Throttled(_))) {
            relay.throttled();
        }
        let Some(mut pass) = self.pass.take() else { return };
        let locked_out = classes.iter().find_map(|(_, class)| match class {
            Class::RelayDown(reply) => Some(reply),
            _ => None,
        });
        if let Some(reply) = locked_out {
            relay.down(pass, &mask::text(&reply.to_string()));
            self.inner.sessions.look_at_relay();
        } else if classes.is_empty() || seen(|class| class.is_an_answer() || matches!(class, Class::Refused { .. })) {
            self.inner.silent.store(0, Ordering::Relaxed);
            relay.answers(&mut pass);
            self.pass = Some(pass);
        } else if pass.is_probe() {
            // nothing that a working relay must have said
            relay.unfit(pass, "it takes sessions but breaks them off");
        }
    }

    /// The caller's time is over: where that was the relay's doing, others are spared it.
    pub(super) fn cut(&mut self) {
        let Some(pass) = self.pass.take() else { return };
        let silent = self.begun.is_some_and(|begun| begun.elapsed() >= SILENCE);
        if silent && (pass.is_probe() || self.inner.silent.fetch_add(1, Ordering::Relaxed) + 1 >= SILENT) {
            self.inner.relay.unfit(pass, "it takes sessions but does not answer in time");
            self.inner.sessions.look_at_relay();
        }
    }
}
