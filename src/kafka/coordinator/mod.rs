//! The consumer group's coordinator: where offsets are committed and read, and who else is in the group.
//!
//! Owns the connection to the coordinator and finds it again when it moves. Decides nothing about offsets: which ones
//! are committed, and when, is the caller's.

mod error;
mod find;
mod group;
mod offsets;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use kafka_protocol::protocol::{Request, VersionRange};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::debug;

pub use error::Error;
pub use group::{Group, Member, Protocol, State};
pub use offsets::{Commit, Committed, Refusal, Settled};

use super::{client::Connector, wire};
use error::Origin;

/// Time after which a call that never succeeded returns what it saw last.
const DEADLINE: Duration = Duration::from_secs(10);

/// Time for the answer to one request: longer than a broker takes to replicate a commit or to give up on it (5 s).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(6);

/// Time for a bootstrap broker to answer who the coordinator is, before the next one is asked.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

/// First pause before a call is repeated; each further one is twice as long.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// Longest pause before a call is repeated.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// One kind of request to the coordinator: how it is written and what its answer means, without any I/O.
trait Call {
    type Request: Request;
    type Output;

    /// The versions that [`Call::request`] and [`Call::read`] know.
    const VERSIONS: VersionRange;

    fn request(&self, group: &str, version: i16) -> Self::Request;

    fn read(&self, from: &Origin<'_>, response: <Self::Request as Request>::Response) -> Result<Self::Output, Error>;
}

/// Speaks for one consumer group with the broker that coordinates it.
///
/// Each call finds the coordinator where needed, repeats what may go well a second time, and returns within the
/// deadline. A call may be dropped at any point; the next one starts on a new connection.
pub struct Coordinator {
    connector: Connector,
    group: Arc<str>,
    deadline: Duration,
    connection: Option<wire::Connection>,
    /// Index of the bootstrap broker that is asked first, modulo their number: the one that answered last.
    bootstrap: usize,
}

impl Coordinator {
    /// Prepares for the group; nothing is sent before the first call. A call gives up after ten seconds.
    pub fn new(connector: Connector, group: impl Into<Arc<str>>) -> Self {
        Self { connector, group: group.into(), deadline: DEADLINE, connection: None, bootstrap: 0 }
    }

    /// Sets the time after which a call gives up.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The group's name.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Reads what the group has committed for these partitions, in the order in which they are named.
    ///
    /// Offsets that an open transaction is about to change are waited for.
    ///
    /// # Errors
    ///
    /// When any of the partitions cannot be told, or the deadline has passed.
    pub async fn committed(&mut self, partitions: &[(Arc<str>, Vec<i32>)]) -> Result<Vec<Committed>, Error> {
        self.call(&offsets::Fetch { partitions }, self.until()).await
    }

    /// Commits as a consumer that is no member (generation -1), and tells for each offset whether it was stored.
    ///
    /// Sending the same offsets again does no harm, so a commit whose answer was lost is repeated.
    ///
    /// # Errors
    ///
    /// [`Error::LiveMembers`] while another program is a member of the group: nothing was stored. Otherwise when the
    /// group as a whole is refused, or the deadline has passed; then some of the offsets may have been stored.
    pub async fn commit(&mut self, offsets: &[Commit]) -> Result<Vec<Settled>, Error> {
        if offsets.is_empty() {
            return Ok(Vec::new());
        }
        self.store(&offsets::Store { offsets }).await
    }

    /// The same, and has the brokers keep the offsets for so long from now on, whatever their own retention is
    /// (`offsets.retention.minutes`, 7 days) and whether or not the group has members.
    ///
    /// Versions 2 to 4 of `OffsetCommit` can say that. A broker that knows none of them takes a usual commit.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub async fn commit_for(&mut self, offsets: &[Commit], retention: Duration) -> Result<Vec<Settled>, Error> {
        if offsets.is_empty() {
            return Ok(Vec::new());
        }
        let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        match self.store(&offsets::Keep { store: offsets::Store { offsets }, retention }).await {
            Err(Error::Wire(wire::Error::Unsupported { theirs: Some(_), .. })) => self.commit(offsets).await,
            outcome => outcome,
        }
    }

    async fn store<C: Call<Output = Vec<Settled>>>(&mut self, call: &C) -> Result<Vec<Settled>, Error> {
        let until = self.until();
        match self.call(call, until).await {
            Err(Error::LiveMembers { group, .. }) => {
                let members = self.describe_until(until).await.map(|group| group.members).unwrap_or_default();
                Err(Error::LiveMembers { group, members })
            }
            outcome => outcome,
        }
    }

    /// Tells the state of the group and who its members are.
    ///
    /// # Errors
    ///
    /// When the group may not be described, or the deadline has passed.
    pub async fn describe(&mut self) -> Result<Group, Error> {
        self.describe_until(self.until()).await
    }

    /// Asks in the classic way first: it is known everywhere, and calls a group of the newer protocol (KIP-848) absent.
    async fn describe_until(&mut self, until: Instant) -> Result<Group, Error> {
        let classic = self.call(&group::DescribeClassic, until).await?;
        let knows_newer = self.connection.as_ref().is_some_and(group::DescribeConsumer::is_known_to);
        if classic.state == State::Absent && knows_newer {
            let newer = self.call(&group::DescribeConsumer, until).await?;
            return Ok(Group { may_commit: newer.may_commit.or(classic.may_commit), ..newer });
        }
        Ok(classic)
    }

    fn until(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// Repeats a call until it has an answer, fails for good, or the time is up.
    async fn call<C: Call>(&mut self, call: &C, until: Instant) -> Result<C::Output, Error> {
        let mut delay = FIRST_DELAY;
        let mut last = None;
        loop {
            let failed = match timeout_at(until, self.attempt(call)).await {
                Ok(Ok(output)) => return Ok(output),
                Ok(Err(error)) => error,
                Err(_) => return Err(self.out_of_time(last)),
            };
            if failed.is_retriable() || matches!(failed, Error::Wire(_)) {
                self.connection = None;
            }
            if !failed.is_retriable() {
                return Err(failed);
            }
            let next = Instant::now() + delay;
            if next >= until {
                return Err(self.out_of_time(Some(failed)));
            }
            debug!(group = %self.group, error = &failed as &dyn std::error::Error, ?delay, "repeating a group request");
            last = Some(failed);
            sleep_until(next).await;
            delay = (delay * 2).min(MAX_DELAY);
        }
    }

    async fn attempt<C: Call>(&mut self, call: &C) -> Result<C::Output, Error> {
        let mut connection = match self.connection.take() {
            Some(connection) if connection.is_usable() => connection,
            _ => self.connect().await?,
        };
        let outcome = converse(&mut connection, &self.group, call).await;
        self.connection = Some(connection);
        outcome
    }

    /// Asks one bootstrap broker after the other who coordinates the group, and connects to that one.
    async fn connect(&mut self) -> Result<wire::Connection, Error> {
        let mut failed = None;
        for _ in 0..self.connector.brokers().len() {
            // Moves on before the answer is there, so that a broker that hangs is not the first to be asked again.
            let index = self.bootstrap % self.connector.brokers().len();
            self.bootstrap = index + 1;
            match self.lookup(index).await {
                Ok(address) => {
                    self.bootstrap = index;
                    let connection = wire::Connection::open(&self.connector, &address, REQUEST_TIMEOUT).await?;
                    debug!(group = %self.group, broker = address, "connected to the group's coordinator");
                    return Ok(connection);
                }
                Err(error @ Error::Wire(_)) => failed = failed.or(Some(error)),
                Err(error) if error.is_retriable() => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(failed.unwrap_or_else(|| Error::NoBrokers { group: self.group.clone() }))
    }

    async fn lookup(&self, bootstrap: usize) -> Result<String, Error> {
        let broker = &self.connector.brokers()[bootstrap];
        let mut connection = wire::Connection::open(&self.connector, broker, LOOKUP_TIMEOUT).await?;
        converse(&mut connection, &self.group, &find::Find).await
    }

    fn out_of_time(&self, last: Option<Error>) -> Error {
        Error::Deadline { group: self.group.clone(), after: self.deadline, last: last.map(Box::new) }
    }
}

/// One request and the meaning of its answer.
async fn converse<C: Call>(connection: &mut wire::Connection, group: &Arc<str>, call: &C) -> Result<C::Output, Error> {
    let version = connection.version::<C::Request>(C::VERSIONS)?;
    let response = connection.call(version, &call.request(group, version)).await?;
    call.read(&Origin { group, address: connection.address() }, response)
}
