//! The listener and its sessions: start, stop, start again; the handle that tests hold.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::builder::{Builder, Options};
use super::rule::{Context, decide};
use super::session::Session;
use super::tls::{Mode, Tls};
use super::{Action, Command, Ledger, Rule};

const BACKLOG: u32 = 1024;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port could not be bound.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// The port that was asked for.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The certificate could not be used.
    #[error("cannot use the certificate")]
    Tls(#[from] tokio_rustls::rustls::Error),
}

/// A condition that did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error(
    "not within {waited:?}: {accepted} accepted, {refused} refused, {taken} taken without an answer, {open} connections \
     open, {held} held"
)]
pub struct WaitError {
    /// How long it was waited for.
    pub waited: Duration,
    /// Mails accepted by then.
    pub accepted: usize,
    /// Mails refused by then.
    pub refused: usize,
    /// Mails taken without an answer by then.
    pub taken: usize,
    /// Connections open then.
    pub open: usize,
    /// Sessions that waited at a held point.
    pub held: usize,
}

/// A scripted SMTP server on 127.0.0.1. Dropping it closes all connections.
///
/// ```
/// use std::time::Duration;
/// use devkit::smtp::{Command, SmtpServer, on};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let server = SmtpServer::builder()
///     .rule(on(Command::Rcpt).recipient("nobody@example.org").reply(550, "5.1.1", "no such user"))
///     .start()
///     .await;
/// let _port = server.port(); // where the program under test sends to
/// server.wait_for_mails(0, Duration::from_secs(5)).await?;
/// assert!(server.ledger().violations().is_empty());
/// # Ok::<(), devkit::smtp::WaitError>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SmtpServer {
    shared: Arc<Shared>,
    addr: SocketAddr,
    /// Keeps the port ours while the server is stopped.
    _reservation: Option<TcpSocket>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl SmtpServer {
    /// A server that accepts every mail, offers PIPELINING, 8BITMIME, SMTPUTF8, ENHANCEDSTATUSCODES and SIZE, and knows
    /// neither TLS nor AUTH.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(super) async fn start(builder: Builder) -> Result<Self, StartError> {
        let tls = match builder.options.tls {
            Mode::Never => None,
            Mode::StartTls | Mode::Implicit => Some(Tls::new(&builder.certificate)?),
        };
        let listen = |source| StartError::Listen { port: builder.port, source };
        let (reservation, addr) = reserve(builder.port).map_err(listen)?;
        let shared = Arc::new(Shared {
            login: Mutex::new(builder.options.login.clone()),
            options: builder.options,
            tls,
            ledger: Mutex::default(),
            changed: Notify::new(),
            scripted: AtomicBool::new(!builder.rules.is_empty()),
            rules: Mutex::new(builder.rules),
            holds: watch::Sender::new(0),
        });
        let mut server = Self { shared, addr, _reservation: reservation, running: None };
        server.start_again().await.map_err(listen)?;
        Ok(server)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The certificate of the authority that signed the server's, in PEM; `None` without TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.shared.tls.as_ref().map(|tls| tls.ca_pem.as_str())
    }

    /// A certificate of the same authority for a client, and its key, in PEM; `None` without TLS.
    pub fn client_identity_pem(&self) -> Option<(&str, &str)> {
        self.shared.tls.as_ref().map(|tls| (tls.client_pem.0.as_str(), tls.client_pem.1.as_str()))
    }

    /// From now on AUTH takes this user with this password or token, and no other.
    pub fn set_login(&self, user: &str, secret: &str) {
        *lock(&self.shared.login) = Some((user.to_owned(), secret.to_owned()));
    }

    /// Writes [`SmtpServer::ca_pem`] to a file; an empty one without TLS.
    pub fn write_ca(&self, path: &Path) -> std::io::Result<()> {
        std::fs::write(path, self.ca_pem().unwrap_or_default())
    }

    /// Stops listening, so that connections are refused, and closes all connections. Returns when that is done. Does
    /// nothing when it is stopped already.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            // An error means that the task has ended already; then the wait below says so too.
            let _ = running.stop.send(());
            let _ = running.task.await;
        }
    }

    /// Listens again on the same port with the ledger, rules and certificate it had. Does nothing when it is running.
    ///
    /// # Errors
    ///
    /// The port cannot be bound.
    #[expect(clippy::unused_async, reason = "needs a runtime to run in, as the signature says")]
    pub async fn start_again(&mut self) -> std::io::Result<()> {
        if self.running.is_none() {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(self.addr)?;
            let listener = socket.listen(BACKLOG)?;
            let (stop, stopped) = oneshot::channel();
            let task = tokio::spawn(listen(Arc::clone(&self.shared), listener, stopped));
            self.running = Some(Running { stop, task });
        }
        Ok(())
    }

    /// Replaces all rules; turns are counted anew.
    pub fn set_rules(&self, rules: impl IntoIterator<Item = Rule>) {
        let mut current = lock(&self.shared.rules);
        *current = rules.into_iter().collect();
        self.shared.scripted.store(!current.is_empty(), Ordering::Release);
    }

    /// Adds a rule before all others.
    pub fn add_rule(&self, rule: Rule) {
        let mut current = lock(&self.shared.rules);
        current.insert(0, rule);
        self.shared.scripted.store(true, Ordering::Release);
    }

    /// Removes all rules. What is held stays held.
    pub fn clear(&self) {
        self.set_rules([]);
    }

    /// From now on sessions wait at this point, before any rule is asked; see [`Ledger::held`].
    pub fn hold(&self, command: Command) {
        self.shared.holds.send_modify(|holds| *holds |= bit(command));
    }

    /// Lets all sessions that wait at this point go on, and further ones pass.
    pub fn release(&self, command: Command) {
        self.shared.holds.send_modify(|holds| *holds &= !bit(command));
    }

    /// The ledger as it is now; what comes later does not change it. Mails and sessions are shared, not copied.
    pub fn ledger(&self) -> Ledger {
        lock(&self.shared.ledger).clone()
    }

    /// Waits until the condition holds; it is tried at once and after each change. All sessions stand still while it is
    /// tried: it must not ask the server for anything, [`SmtpServer::ledger`] included.
    ///
    /// # Errors
    ///
    /// It did not hold within this time.
    pub async fn wait_until(
        &self,
        mut condition: impl FnMut(&Ledger) -> bool,
        within: Duration,
    ) -> Result<(), WaitError> {
        let deadline = Instant::now() + within;
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if condition(&lock(&self.shared.ledger)) {
                return Ok(());
            }
            if timeout_at(deadline, changed).await.is_err() {
                let ledger = lock(&self.shared.ledger);
                return Err(WaitError {
                    waited: within,
                    accepted: ledger.accepted().len(),
                    refused: ledger.refused().len(),
                    taken: ledger.taken().len(),
                    open: ledger.open(),
                    held: ledger.held(),
                });
            }
        }
    }

    /// Waits until so many mails have been accepted, counted from the first start.
    ///
    /// # Errors
    ///
    /// They had not within this time.
    pub async fn wait_for_mails(&self, count: usize, within: Duration) -> Result<(), WaitError> {
        self.wait_until(|ledger| ledger.accepted().len() >= count, within).await
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.task.abort();
        }
    }
}

/// What the handle and all sessions have in common.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) tls: Option<Tls>,
    login: Mutex<Option<(String, String)>>,
    ledger: Mutex<Ledger>,
    changed: Notify,
    rules: Mutex<Vec<Rule>>,
    /// Whether there are rules: spares the lock where there are none.
    scripted: AtomicBool,
    /// One bit for each point that is held.
    holds: watch::Sender<u32>,
}

impl Shared {
    pub(super) fn action(&self, context: &Context<'_>) -> Action {
        if self.scripted.load(Ordering::Acquire) { decide(&mut lock(&self.rules), context) } else { Action::Accept }
    }

    /// Whom AUTH takes, and with which secret.
    pub(super) fn login(&self) -> Option<(String, String)> {
        lock(&self.login).clone()
    }

    pub(super) fn is_scripted(&self) -> bool {
        self.scripted.load(Ordering::Acquire)
    }

    pub(super) fn is_held(&self, command: Command) -> bool {
        *self.holds.borrow() & bit(command) != 0
    }

    pub(super) async fn released(&self, command: Command) {
        // The sender is ours, so the channel cannot close.
        let _ = self.holds.subscribe().wait_for(|holds| holds & bit(command) == 0).await;
    }

    pub(super) fn write<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        let value = change(&mut lock(&self.ledger));
        self.changed.notify_waiters();
        value
    }

    /// For what changes beside the ledger's lock.
    pub(super) fn notify(&self) {
        self.changed.notify_waiters();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Another thread's panic while it held the lock is that test's failure; the data are sound between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bit(command: Command) -> u32 {
    1 << command.index()
}

/// Binds a port without listening, so that nobody else gets it while the server is stopped.
#[cfg(target_os = "linux")]
fn reserve(port: u16) -> std::io::Result<(Option<TcpSocket>, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    let addr = socket.local_addr()?;
    Ok((Some(socket), addr))
}

/// Other systems let no second socket bind a port that is bound: there the port is only looked for.
#[cfg(not(target_os = "linux"))]
fn reserve(port: u16) -> std::io::Result<(Option<TcpSocket>, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    Ok((None, socket.local_addr()?))
}

async fn listen(shared: Arc<Shared>, listener: TcpListener, mut stopped: oneshot::Receiver<()>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            Some(ended) = sessions.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    shared.write(|ledger| ledger.violation(format!("the server panicked: {error}")));
                }
            }
            accepted = listener.accept() => {
                // Out of file descriptors or the like: the client's connect fails, which its test will notice.
                if let Ok((stream, _)) = accepted {
                    accept(&shared, stream, &mut sessions);
                }
            }
        }
    }
    drop(listener);
    sessions.shutdown().await;
}

fn accept(shared: &Arc<Shared>, stream: TcpStream, sessions: &mut JoinSet<()>) {
    // Only slower without it.
    let _ = stream.set_nodelay(true);
    let (number, full) = shared.write(|ledger| {
        let full = shared.options.max_connections.is_some_and(|most| ledger.open() >= most);
        (ledger.open_session(full), full)
    });
    let session = Session::new(Arc::clone(shared), number, stream);
    sessions.spawn(async move { if full { session.turn_away().await } else { session.run().await } });
}
