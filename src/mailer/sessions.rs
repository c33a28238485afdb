//! The mailer's sessions: a bounded number of them, given to callers in the order in which they came.
//!
//! Owns when one is opened, handed on, kept and closed. A session is opened by a task of its own, so that a caller who
//! gives up does not cut a login in its middle, and a relay that hangs is found out however little time callers have. What
//! is sent on a session is not its business.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::{
    chain::chain,
    compose::Mail,
    config, mask,
    smtp::{
        Attempt, Connector, Held, OpenError, Progress, Session,
        relay::{Pass, Relay, SessionPlace, Trouble},
    },
};

/// Places of callers that have left are kept up to about this number.
const LEFT: usize = 100;

pub(super) struct Sessions {
    connector: Connector,
    settings: config::Smtp,
    relay: Arc<Relay>,
    state: Mutex<State>,
    /// Nobody needs a session any more.
    ended: CancellationToken,
    /// Sessions that are being closed.
    quits: TaskTracker,
}

#[derive(Default)]
struct State {
    /// Those used longest ago first.
    idle: VecDeque<Held>,
    /// Those who came first, first; some have left.
    queue: VecDeque<oneshot::Sender<Held>>,
    /// Callers in the queue that have not left.
    waiting: usize,
    /// Sessions that are being opened for the queue.
    opening: usize,
    /// A task waits until the relay takes one more session.
    watching: bool,
    /// A task closes what is idle for too long.
    reaping: bool,
}

impl Sessions {
    pub(super) fn new(connector: Connector, settings: config::Smtp, relay: Arc<Relay>) -> Arc<Self> {
        let (ended, quits) = (CancellationToken::new(), TaskTracker::new());
        Arc::new(Self { connector, settings, relay, state: Mutex::default(), ended, quits })
    }

    /// A session, when the caller's turn has come; none if the relay goes down before.
    pub(super) async fn acquire(self: &Arc<Self>) -> Option<Leased> {
        let held = match self.enqueue()? {
            Ok(held) => held,
            Err(place) => {
                self.balance();
                place.turn().await?
            }
        };
        Some(self.lease(held))
    }

    /// An idle session, if nobody else waits for one; else a place in the queue. None while the relay is down.
    fn enqueue(self: &Arc<Self>) -> Option<Result<Held, InQueue>> {
        let mut state = self.lock();
        if !self.relay.is_open() {
            return None;
        }
        while state.waiting == 0 {
            match state.idle.pop_back() {
                Some(held) if held.is_over(&self.settings) => self.quit(held),
                Some(held) => return Some(Ok(held)),
                None => break,
            }
        }
        let (turn, comes) = oneshot::channel();
        state.queue.push_back(turn);
        state.waiting += 1;
        Some(Err(InQueue { sessions: Arc::clone(self), comes }))
    }

    /// Sends away all who wait if the relay is down. To be called after everything that may have shut its gate: thousands of
    /// callers cannot all watch it.
    pub(super) fn look_at_relay(&self) {
        let mut state = self.lock();
        if !self.relay.is_open() {
            state.queue.clear();
        }
    }

    /// A place past the queue for the session of a probe, at the cost of those that are idle: they are old.
    pub(super) fn place_for_probe(&self) -> Option<SessionPlace> {
        let old = std::mem::take(&mut self.lock().idle);
        drop(old);
        self.relay.try_session()
    }

    /// A session that nobody has used, in this place: for a probe, and for a mail whose session was stale. The pass comes
    /// back with it; where it could not be opened, the relay's state has that.
    pub(super) async fn open_own(self: &Arc<Self>, place: SessionPlace, pass: Pass) -> Option<(Leased, Pass)> {
        let (tell, told) = oneshot::channel();
        let sessions = Arc::clone(self);
        spawn(async move {
            let opened = sessions.open(place, pass).await;
            let Some(opened) = opened else { return sessions.balance() };
            if let Err((held, _)) = tell.send(opened) {
                // the caller has left
                sessions.give(held);
            }
        });
        let (held, pass) = told.await.ok()?;
        Some((self.lease(held), pass))
    }

    /// Opens a session; where it cannot be had, the relay's state has the reason.
    async fn open(self: &Arc<Self>, place: SessionPlace, pass: Pass) -> Option<(Held, Pass)> {
        let opened: Result<Session, OpenError> = tokio::select! {
            opened = self.connector.open() => opened,
            () = self.ended.cancelled() => return None,
        };
        match opened {
            Ok(session) => Some((Held::new(session, place), pass)),
            Err(error) => {
                self.relay.session_failed(pass, Trouble::of(&error), &mask::text(&chain(&error)));
                self.look_at_relay();
                drop(place);
                if error.is_about_secret() {
                    self.watch_secret();
                }
                None
            }
        }
    }

    /// Opens as many sessions as callers wait for, and the relay takes.
    fn balance(self: &Arc<Self>) {
        loop {
            let (place, pass) = match self.wanted() {
                Wanted::Session(place, pass) => (place, pass),
                Wanted::Patience => {
                    spawn(Watching(Arc::clone(self)).run());
                    return;
                }
                Wanted::Nothing => return,
            };
            let opening = Opening(Arc::clone(self));
            let started = spawn(async move {
                let opened = opening.0.open(place, pass).await;
                let sessions = opening.ended();
                match opened {
                    Some((held, _)) => sessions.give(held),
                    None => sessions.balance(),
                }
            });
            if !started {
                return;
            }
        }
    }

    /// What the queue needs now; it is counted as being on its way.
    fn wanted(self: &Arc<Self>) -> Wanted {
        let mut state = self.lock();
        if state.opening >= state.waiting || !self.relay.is_open() || self.ended.is_cancelled() {
            return Wanted::Nothing;
        }
        let Some(place) = self.relay.try_session() else {
            let watched = std::mem::replace(&mut state.watching, true);
            return if watched { Wanted::Nothing } else { Wanted::Patience };
        };
        // between the two the relay may have gone down: whoever waits is sent away
        let Ok(pass) = self.relay.try_admit() else { return Wanted::Nothing };
        state.opening += 1;
        Wanted::Session(place, pass)
    }

    /// Hands a session to whoever waits longest, keeps it, or closes it.
    fn give(self: &Arc<Self>, mut held: Held) {
        if held.is_over(&self.settings) || self.ended.is_cancelled() {
            return self.quit(held);
        }
        let mut state = self.lock();
        while let Some(turn) = state.queue.pop_front() {
            match turn.send(held) {
                Ok(()) => return,
                // he has left
                Err(back) => held = back,
            }
        }
        state.idle.push_back(held);
        let reaped = std::mem::replace(&mut state.reaping, true);
        drop(state);
        if !reaped {
            spawn(Reaping(Some(Arc::clone(self))).run());
        }
    }

    /// Closes a session politely, while nobody waits for that.
    fn quit(self: &Arc<Self>, held: Held) {
        let (sessions, quitting) = (Arc::clone(self), self.quits.token());
        spawn(async move {
            held.quit().await;
            sessions.balance();
            drop(quitting);
        });
    }

    /// Sees to it that a secret that was put right is tried at once, however long the delay has grown.
    fn watch_secret(self: &Arc<Self>) {
        let sessions = Arc::clone(self);
        spawn(async move {
            let replaced = sessions.ended.run_until_cancelled(sessions.connector.secret_replaced()).await;
            if replaced == Some(true) {
                info!("the file of the relay's password or token has changed: trying again");
                sessions.relay.try_again();
            }
        });
    }

    /// Closes all sessions; nobody may want one any more.
    pub(super) async fn close(self: &Arc<Self>) {
        self.ended.cancel();
        let idle = std::mem::take(&mut self.lock().idle);
        for held in idle {
            self.quit(held);
        }
        self.quits.close();
        self.quits.wait().await;
    }

    fn lease(self: &Arc<Self>, held: Held) -> Leased {
        Leased { held: Some(held), sessions: Arc::clone(self) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // no method panics between two changes that belong together
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the queue needs.
enum Wanted {
    /// One more session, for which there is a place.
    Session(SessionPlace, Pass),
    /// To wait until the relay takes one more.
    Patience,
    /// Nothing that is not on its way.
    Nothing,
}

/// Runs a task; not behind the lock, for a task that is dropped at once takes it. False where there is no runtime, or one that ends: it drops the task at once.
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> bool {
    Handle::try_current().is_ok_and(|runtime| !runtime.spawn(task).is_finished())
}

/// The task that waits until the relay may take one more session.
struct Watching(Arc<Sessions>);

impl Watching {
    async fn run(self) {
        let sessions = Arc::clone(&self.0);
        let _ = sessions.ended.run_until_cancelled(sessions.relay.session_free()).await;
        drop(self);
        sessions.balance();
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.lock().watching = false;
    }
}

/// The task that closes what is idle for too long, until nothing is idle.
struct Reaping(Option<Arc<Sessions>>);

impl Reaping {
    async fn run(mut self) {
        let Some(sessions) = self.0.clone() else { return };
        while !sessions.ended.is_cancelled() {
            let over = {
                let mut state = sessions.lock();
                let Some(oldest) = state.idle.front() else {
                    // said behind the same lock, so that whoever gives a session back now starts another one
                    state.reaping = false;
                    self.0 = None;
                    return;
                };
                let at = oldest.used() + sessions.settings.idle_timeout;
                if at > Instant::now() { Err(at) } else { Ok(state.idle.pop_front()) }
            };
            match over {
                Ok(held) => held.into_iter().for_each(|held| sessions.quit(held)),
                Err(at) => _ = sessions.ended.run_until_cancelled(sleep_until(at)).await,
            }
        }
    }
}

impl Drop for Reaping {
    fn drop(&mut self) {
        if let Some(sessions) = self.0.take() {
            sessions.lock().reaping = false;
        }
    }
}

/// A place in the queue; whoever leaves it gives back what he got in the same moment.
struct InQueue {
    sessions: Arc<Sessions>,
    comes: oneshot::Receiver<Held>,
}

impl InQueue {
    /// None where all who wait were sent away.
    async fn turn(mut self) -> Option<Held> {
        (&mut self.comes).await.ok()
    }
}

impl Drop for InQueue {
    fn drop(&mut self) {
        {
            let mut state = self.sessions.lock();
            state.waiting -= 1;
            if state.queue.len() > 2 * state.waiting + LEFT {
                state.queue.retain(|turn| !turn.is_closed());
            }
        }
        self.comes.close();
        if let Ok(held) = self.comes.try_recv() {
            self.sessions.give(held);
        }
    }
}

/// One that is being opened for the queue, counted until that has ended in any way.
struct Opening(Arc<Sessions>);

impl Opening {
    fn ended(self) -> Arc<Sessions> {
        Arc::clone(&self.0)
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.lock().opening -= 1;
    }
}

/// A session for one mail. Dropped, it is thrown away: only [`Leased::give_back`] lets others use it.
pub(super) struct Leased {
    held: Option<Held>,
    sessions: Arc<Sessions>,
}

impl Leased {
    pub(super) async fn send(&mut self, mail: &Mail, open: &[usize], progress: &Progress) -> Attempt {
        let held = self.held.as_mut().expect("it is there until it is given back");
        held.send(mail, open, progress).await
    }

    /// Throws the session away and keeps its place.
    pub(super) fn vacate(mut self) -> SessionPlace {
        self.held.take().expect("it is there until it is given back").vacate()
    }

    /// For others, unless it is in doubt.
    pub(super) fn give_back(mut self) {
        if let Some(held) = self.held.take_if(|held| held.is_usable()) {
            self.sessions.give(held);
        }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            drop(held);
            self.sessions.balance();
        }
    }
}
