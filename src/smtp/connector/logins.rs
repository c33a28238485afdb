//! What is known of the secrets that we log in with.
//!
//! Owns that a secret nobody has proven yet is tried by one session at a time: sixteen sessions that log in at once with
//! a wrong password are sixteen failed logins, and relays lock accounts for fewer.

use std::{
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    config::{Secret, SecretSource},
    smtp::auth,
};

/// A file whose secret was refused is looked at this often.
const LOOK: Duration = Duration::from_secs(1);

/// The state that all sessions share.
#[derive(Debug, Default)]
pub(super) struct Logins {
    turn: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The secret that the server took last.
    proven: Option<Secret>,
    refused: Option<(Secret, auth::Error)>,
    /// Counts refusals: a session that was being opened while one came need not ask for another.
    refusals: u64,
    /// The file that gave no good secret, and what it held, if it could be read.
    bad: Option<(SecretSource, Option<Secret>)>,
    watched: bool,
}

impl Logins {
    /// Refusals so far. Whoever begins a session notes them, for [`Self::log_in`].
    pub(super) fn refusals(&self) -> u64 {
        self.lock().refusals
    }

    /// Runs an exchange with this secret, after those of others where it is not proven, and not at all where it was
    /// refused since `before` was noted.
    pub(super) async fn log_in(
        &self,
        source: &SecretSource,
        secret: &Secret,
        before: u64,
        exchange: impl Future<Output = Result<(), auth::Error>>,
    ) -> Result<(), auth::Error> {
        let mut turn = None;
        if !self.lock().is_proven(secret) {
            turn = Some(self.turn.lock().await);
            let known = self.lock();
            match &known.refused {
                _ if known.is_proven(secret) => turn = None,
                Some((refused, error)) if known.refusals != before && refused == secret => return Err(error.clone()),
                _ => {}
            }
        }
        let outcome = exchange.await;
        drop(turn);
        let mut known = self.lock();
        match &outcome {
            Ok(()) => (known.proven, known.bad) = (Some(secret.clone()), None),
            Err(error @ auth::Error::Refused { reply, .. }) => {
                // a server that cannot tell for now has not taken anything back
                if !reply.is_transient() {
                    known.proven = None;
                }
                known.refusals += 1;
                known.refused = Some((secret.clone(), error.clone()));
                known.bad = Some((source.clone(), Some(secret.clone())));
            }
            Err(_) => {}
        }
        outcome
    }

    /// Whether the server has taken this secret, and not refused it for good since.
    pub(super) fn has_proven(&self, secret: &Secret) -> bool {
        self.lock().is_proven(secret)
    }

    /// The file gave no secret at all.
    pub(super) fn unreadable(&self, source: &SecretSource) {
        self.lock().bad = Some((source.clone(), None));
    }

    /// Waits until the file whose secret was no good holds another one, or a login has gone well; false where the secret
    /// is in no file, or another task waits already.
    pub(super) async fn replaced(&self) -> bool {
        let _watch = match self.lock() {
            known if known.watched => return false,
            mut known => {
                known.watched = true;
                Watch(self)
            }
        };
        loop {
            let Some((source, held)) = self.lock().bad.clone() else { return true };
            if matches!(source, SecretSource::Value(_)) {
                return false;
            }
            if source.read().is_ok_and(|secret| Some(secret) != held) {
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

impl Known {
    fn is_proven(&self, secret: &Secret) -> bool {
        self.proven.as_ref() == Some(secret)
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
        let logins = std::sync::Arc::new(Logins::default());
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

    #[tokio::test]
    async fn a_probe_later_is_a_new_try() {
        let logins = Logins::default();
        let secret = Secret::new("hunter2");
        let before = logins.refusals();
        assert!(logins.log_in(&source(), &secret, before, async { Err(refusal()) }).await.is_err());
        let late = logins.log_in(&source(), &secret, before, async { Ok(()) }).await;
        assert!(late.is_err(), "a session that was on its way then is not");
        assert!(logins.log_in(&source(), &secret, logins.refusals(), async { Ok(()) }).await.is_ok());
        assert!(logins.replaced().await, "nothing is wrong any more");
    }
}
