//! What is known of the secrets that we log in with.
//!
//! Owns how many sessions log in at once. A secret may be wrong whenever nobody has just seen it work: sixteen sessions
//! that come back to a relay with another password would be sixteen failed logins, and relays lock accounts for fewer.
//! So the first one tries alone, and each login that goes well lets one more run beside it.

use std::{
    future::Future,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use crate::{
    config::{Secret, SecretSource},
    smtp::auth,
};

/// A file whose secret was refused is looked at this often.
const LOOK: Duration = Duration::from_secs(1);
/// A secret that was refused for good this short a time ago is not tried: who comes now was on its way already.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// Logins at once at the most, however well they go: where a secret ends while they run, so many are refused.
const FEW: usize = 3;

/// The state that all sessions share.
#[derive(Debug)]
pub(super) struct Logins {
    /// Logins at once at the most: [`FEW`], and more for a crowd of sessions, which would wait for too long.
    most: usize,
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// Sessions that log in or wait for it.
    present: usize,
    running: usize,
    /// Logins that went well since somebody has been present.
    went_well: usize,
    /// The secret that the server took last.
    proven: Option<Secret>,
    refused: Option<Refused>,
    /// Counts refusals: a session that was being opened while one came need not ask for another.
    refusals: u64,
    /// The file that gave no good secret, and what it held, if it could be read.
    bad: Option<(SecretSource, Option<Secret>)>,
    /// A login with another secret than the bad one has gone well.
    mended: bool,
    watched: bool,
}

#[derive(Debug)]
struct Refused {
    secret: Secret,
    error: auth::Error,
    at: Instant,
}

impl Refused {
    fn is_final(&self) -> bool {
        matches!(&self.error, auth::Error::Refused { reply, .. } if !reply.is_transient())
    }
}

impl Logins {
    /// For so many sessions.
    pub(super) fn new(sessions: usize) -> Self {
        Self { most: FEW.max(sessions / 8), known: Mutex::default(), changed: Notify::new() }
    }

    /// Refusals so far. Whoever begins a session notes them, for [`Self::log_in`].
    pub(super) fn refusals(&self) -> u64 {
        self.lock().refusals
    }

    /// Runs an exchange with this secret when its turn has come, and not at all where it was refused since `before` was
    /// noted.
    pub(super) async fn log_in(
        &self,
        source: &SecretSource,
        secret: &Secret,
        before: u64,
        exchange: impl Future<Output = Result<(), auth::Error>>,
    ) -> Result<(), auth::Error> {
        let _present = Present::new(self);
        let turn = self.turn(secret, before).await?;
        let outcome = exchange.await;
        let mut known = self.lock();
        match &outcome {
            Ok(()) => {
                known.went_well += 1;
                let another = known.bad.take().is_some_and(|(_, held)| held.as_ref() != Some(secret));
                known.mended |= another;
                known.proven = Some(secret.clone());
                if known.refused.as_ref().is_some_and(|refused| refused.secret == *secret) {
                    known.refused = None;
                }
            }
            Err(error) => {
                known.went_well = 0;
                if let auth::Error::Refused { reply, .. } = error {
                    // a server that cannot tell for now has not taken anything back
                    if !reply.is_transient() {
                        known.proven = None;
                    }
                    known.refusals += 1;
                    known.refused = Some(Refused { secret: secret.clone(), error: error.clone(), at: Instant::now() });
                    (known.bad, known.mended) = (Some((source.clone(), Some(secret.clone()))), false);
                }
            }
        }
        drop(known);
        drop(turn);
        outcome
    }

    async fn turn(&self, secret: &Secret, before: u64) -> Result<Turn<'_>, auth::Error> {
        let mut changed = pin!(self.changed.notified());
        loop {
            changed.as_mut().enable();
            {
                let mut known = self.lock();
                let proven = known.proven.as_ref() == Some(secret);
                if let Some(refused) = known.refused.as_ref().filter(|refused| refused.secret == *secret) {
                    let just_now = refused.is_final() && refused.at.elapsed() < ON_ITS_WAY;
                    if known.refusals != before || just_now {
                        return Err(refused.error.clone());
                    }
                }
                let limit = if proven { (1 + known.went_well).min(self.most) } else { 1 };
                if known.running < limit {
                    known.running += 1;
                    return Ok(Turn(self));
                }
            }
            changed.as_mut().await;
            changed.set(self.changed.notified());
        }
    }

    /// Whether the server has taken this secret, and not refused it for good since.
    pub(super) fn has_proven(&self, secret: &Secret) -> bool {
        self.lock().proven.as_ref() == Some(secret)
    }

    /// The file gave no secret at all.
    pub(super) fn unreadable(&self, source: &SecretSource) {
        let mut known = self.lock();
        (known.bad, known.mended) = (Some((source.clone(), None)), false);
    }

    /// Waits until the file whose secret was no good holds another one; false where a login with the same one has gone well
    /// meanwhile, the secret is in no file, or another task waits already.
    pub(super) async fn replaced(&self) -> bool {
        let _watch = match self.lock() {
            known if known.watched => return false,
            mut known => {
                known.watched = true;
                Watch(self)
            }
        };
        loop {
            let bad = {
                let mut known = self.lock();
                // it may have been another session that took note of the change
                let mended = std::mem::take(&mut known.mended);
                if mended && known.bad.is_none() {
                    return true;
                }
                known.bad.clone()
            };
            let Some((source, held)) = bad else { return false };
            if matches!(source, SecretSource::Value(_)) {
                return false;
            }
            if source.load().await.is_ok_and(|secret| Some(secret) != held) {
                return true;
            }
            sleep(LOOK).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // no method panics between two changes that belong together
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that logs in or waits for it. When nobody does any more, the next one tries alone again.
struct Present<'a>(&'a Logins);

impl<'a> Present<'a> {
    fn new(logins: &'a Logins) -> Self {
        logins.lock().present += 1;
        Self(logins)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        let mut known = self.0.lock();
        known.present -= 1;
        if known.present == 0 {
            known.went_well = 0;
        }
    }
}

/// One that logs in, whether it ends or is given up.
struct Turn<'a>(&'a Logins);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.changed.notify_waiters();
    }
}

struct Watch<'a>(&'a Logins);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.lock().watched = false;
    }
}

#[cfg(test)]
mod tests {
    use tokio::{sync::Notify, task::JoinSet};

    use super::*;
    use crate::{config::AuthMethod, smtp::Reply};

    fn source() -> SecretSource {
        SecretSource::Value(Secret::new("hunter2"))
    }

    fn refusal() -> auth::Error {
        // any error that the exchange itself can give
        let capabilities = crate::smtp::Capabilities { auth: vec!["PLAIN".to_owned()], ..Default::default() };
        let credentials = crate::config::Credentials { user: "me".to_owned(), password: Some(source()), token: None };
        let (mechanism, _) = auth::choose(AuthMethod::Auto, &credentials, &capabilities).expect("PLAIN");
        auth::Error::Refused { mechanism, reply: Reply::new(535, "5.7.8 no"), reason: None }
    }

    /// Sixteen sessions that log in at once; how many exchanges there were, the first ending so.
    async fn sixteen(first: Result<(), auth::Error>) -> (usize, usize) {
        let logins = std::sync::Arc::new(Logins::new(16));
        let (begun, go) = (std::sync::Arc::new(Mutex::new(0)), std::sync::Arc::new(Notify::new()));
        let mut tasks = JoinSet::new();
        for _ in 0..16 {
            let (logins, begun, go, first) = (logins.clone(), begun.clone(), go.clone(), first.clone());
            tasks.spawn(async move {
                let exchange = async {
                    let number = {
                        let mut begun = begun.lock().expect("no panic");
                        *begun += 1;
                        *begun
                    };
                    if number == 1 {
                        go.notified().await;
                        return first;
                    }
                    Ok(())
                };
                let secret = Secret::new("hunter2");
                logins.log_in(&source(), &secret, 0, exchange).await.is_ok()
            });
        }
        while *begun.lock().expect("no panic") == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*begun.lock().expect("no panic"), 1, "the others wait");
        go.notify_one();
        let good = tasks.join_all().await.into_iter().filter(|good| *good).count();
        let begun = *begun.lock().expect("no panic");
        (begun, good)
    }

    #[tokio::test]
    async fn a_wrong_secret_is_tried_once_however_many_sessions_want_in() {
        assert_eq!(sixteen(Err(refusal())).await, (1, 0));
    }

    #[tokio::test]
    async fn a_right_one_lets_all_in() {
        assert_eq!(sixteen(Ok(())).await, (16, 16));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_later_is_a_new_try() {
        let logins = Logins::new(16);
        let secret = Secret::new("hunter2");
        let before = logins.refusals();
        assert!(logins.log_in(&source(), &secret, before, async { Err(refusal()) }).await.is_err());
        let late = logins.log_in(&source(), &secret, before, async { Ok(()) }).await;
        assert!(late.is_err(), "a session that was on its way then is not");
        let soon = logins.log_in(&source(), &secret, logins.refusals(), async { Ok(()) }).await;
        assert!(soon.is_err(), "nor is one whose worker had not heard of it");
        tokio::time::advance(ON_ITS_WAY).await;
        assert!(logins.log_in(&source(), &secret, logins.refusals(), async { Ok(()) }).await.is_ok());
        assert!(!logins.replaced().await, "nothing is wrong any more, and no file was replaced");
    }

    /// Sixteen sessions that come back at once with a secret that was good; how many logins ran, how many at once.
    async fn back(outcome: Result<(), auth::Error>) -> (usize, usize) {
        let logins = std::sync::Arc::new(Logins::new(16));
        let secret = Secret::new("hunter2");
        for _ in 0..16 {
            logins.log_in(&source(), &secret, 0, async { Ok(()) }).await.expect("proven");
        }
        let (counts, mut tasks) = (std::sync::Arc::new(Mutex::new((0, 0, 0))), JoinSet::new());
        for _ in 0..16 {
            let (logins, counts, outcome) = (logins.clone(), counts.clone(), outcome.clone());
            tasks.spawn(async move {
                let exchange = async {
                    {
                        let (begun, running, peak) = &mut *counts.lock().expect("no panic");
                        *begun += 1;
                        *running += 1;
                        *peak = (*running).max(*peak);
                    }
                    for _ in 0..50 {
                        tokio::task::yield_now().await;
                    }
                    counts.lock().expect("no panic").1 -= 1;
                    outcome
                };
                let secret = Secret::new("hunter2");
                let _ = logins.log_in(&source(), &secret, logins.refusals(), exchange).await;
            });
        }
        tasks.join_all().await;
        let (begun, running, peak) = *counts.lock().expect("no panic");
        assert_eq!(running, 0);
        (begun, peak)
    }

    #[tokio::test]
    async fn a_secret_that_was_good_and_is_refused_now_is_tried_by_few() {
        assert_eq!(back(Err(refusal())).await, (1, 1));
    }

    #[tokio::test]
    async fn a_server_that_cannot_tell_for_now_is_asked_by_few_as_well() {
        let auth::Error::Refused { mechanism, reason, .. } = refusal() else { unreachable!("it is one") };
        let busy = auth::Error::Refused { mechanism, reply: Reply::new(454, "4.7.0 not now"), reason };
        assert_eq!(back(Err(busy)).await, (1, 1));
    }

    #[tokio::test]
    async fn one_that_is_still_good_is_soon_tried_by_several() {
        assert_eq!(back(Ok(())).await, (16, FEW));
        assert_eq!(Logins::new(1000).most, 125, "a crowd does not wait for a minute");
    }

    #[tokio::test]
    async fn a_login_that_is_given_up_frees_its_turn() {
        let logins = Logins::new(16);
        let secret = Secret::new("hunter2");
        let source = source();
        let hung = logins.log_in(&source, &secret, 0, std::future::pending());
        assert!(tokio::time::timeout(Duration::from_millis(1), hung).await.is_err());
        let next = logins.log_in(&source, &secret, 0, async { Ok(()) });
        assert!(tokio::time::timeout(Duration::from_secs(5), next).await.expect("its turn").is_ok());
    }

    #[tokio::test]
    async fn a_file_that_another_session_saw_first_has_changed_all_the_same() {
        let logins = Logins::new(16);
        let (old, new) = (Secret::new("hunter2"), Secret::new("hunter3"));
        assert!(logins.log_in(&source(), &old, 0, async { Err(refusal()) }).await.is_err());
        assert!(logins.log_in(&source(), &new, logins.refusals(), async { Ok(()) }).await.is_ok());
        // refused a moment ago, another one is tried at once
        assert!(logins.replaced().await, "the relay is to be tried at once");
        assert!(!logins.replaced().await, "and once");
    }
}
