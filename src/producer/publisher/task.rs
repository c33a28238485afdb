//! The task that writes the records of one topic.
//!
//! Owns the connections to the leaders of its partitions, one request on each at a time, and what becomes of a batch
//! whose answer is bad or never comes. What comes while a request is on its way goes with the next one, so that batches
//! grow with the load and a lone record waits for nothing.

mod records;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use kafka_protocol::messages::ProduceResponse;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use self::records::{BATCH_BYTES, Partition};
use super::{
    NotStored, Topic, Trouble,
    batch::{Batch, Identity},
    link::{self, Identified, Link, LinkState, Opened, WriteError, Written},
};
use crate::{
    delay::Delays,
    kafka::wire,
    producer::partitions::{Routes, Unrouted},
};

/// Age at which the partitions are asked for again, so that new ones are noticed.
const ROUTES_AGE: Duration = Duration::from_secs(300);
/// Time for which a topic may be missing: one that was made just now is not known to all brokers yet.
const MISSING: Duration = Duration::from_millis(500);
/// Time between two looks for records whose callers have gone elsewhere.
const SWEEP: Duration = Duration::from_secs(1);
/// Time for which we write without an identity where none could be had.
const WITHOUT: Duration = Duration::from_secs(60);

/// First and longest pause of what the brokers cannot do now.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// Longest time for which a broker's word is taken that we have used up our quota.
const LONGEST_THROTTLE: Duration = Duration::from_secs(60);

/// Records in a request from which on their callers are waited for before the next one.
const MANY: usize = 16;

enum Done {
    Routed(Result<Routes, Unrouted>),
    Opened(Opened),
    Written(Written),
}

/// Who we are for the brokers.
enum Known {
    Unknown,
    As(Identity),
    /// Nobody, until then.
    Nobody(Instant),
}

pub(super) struct Task {
    topic: Arc<Topic>,
    routes: Option<Routes>,
    /// The routes have led to the wrong place.
    stale: bool,
    asking: bool,
    ask_not_before: Instant,
    ask_delays: Delays,
    missing_since: Option<Instant>,
    links: HashMap<i32, Link>,
    partitions: BTreeMap<i32, Partition>,
    known: Known,
    batch_bytes: usize,
    /// Partition that comes first in the next request, so that none is always last.
    turn: i32,
    swept: Instant,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    /// When to look again although nothing has happened.
    alarm: Option<Instant>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.topic.queue.leave();
    }
}

impl Task {
    pub(super) fn new(topic: Arc<Topic>) -> Self {
        let now = Instant::now();
        Self {
            topic,
            routes: None,
            stale: false,
            asking: false,
            ask_not_before: now,
            ask_delays: Delays::doubling(FIRST_PAUSE, MAX_PAUSE),
            missing_since: None,
            links: HashMap::new(),
            partitions: BTreeMap::new(),
            known: Known::Unknown,
            batch_bytes: BATCH_BYTES,
            turn: 0,
            swept: now,
            work: FuturesUnordered::new(),
            alarm: None,
        }
    }

    /// Writes until the publisher is gone.
    pub(super) async fn run(mut self) {
        let topic = Arc::clone(&self.topic);
        loop {
            self.alarm = None;
            self.dispatch(Instant::now());
            let alarm = self.alarm;
            tokio::select! {
                () = topic.stop.notified() => return,
                () = topic.queue.wake.notified() => {}
                Some(done) = self.work.next(), if !self.work.is_empty() => self.finished(done),
                () = async { sleep_until(alarm.unwrap_or_else(Instant::now)).await }, if alarm.is_some() => {}
            }
        }
    }

    fn wake_at(&mut self, at: Instant) {
        self.alarm = Some(self.alarm.map_or(at, |alarm| alarm.min(at)));
    }

    fn finished(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Routed(outcome) => self.routed(outcome, now),
            Done::Opened(opened) => self.opened(opened, now),
            Done::Written(written) => self.written(written, now),
        }
    }

    /// Starts all that can be started now.
    fn dispatch(&mut self, now: Instant) {
        let warm = self.topic.queue.readiness_is_asked();
        let mut waiting = self.topic.queue.partitions();
        self.drop_abandoned(now);
        waiting.extend(self.partitions.iter().filter(|(_, it)| it.in_doubt.is_some()).map(|(index, _)| *index));
        waiting.sort_unstable();
        waiting.dedup();
        if waiting.is_empty() && !warm {
            return;
        }
        if now >= self.swept + SWEEP {
            self.swept = now;
            self.topic.queue.sweep(now);
        }
        self.wake_at(now + SWEEP);
        let aged = self.routes.as_ref().is_none_or(|routes| now >= routes.at + ROUTES_AGE);
        if (aged || self.stale) && !self.asking {
            if now >= self.ask_not_before {
                self.ask();
            } else {
                self.wake_at(self.ask_not_before);
            }
        }
        let Some(routes) = &self.routes else { return };
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        if warm {
            by_leader.extend(routes.leaders.values().map(|leader| (*leader, Vec::new())));
        }
        let (ready, mut alarm) = (|it: &Partition| it.not_before <= now, None::<Instant>);
        let mut without_leader = false;
        let mut all_stand = routes.leaders.len() >= routes.count as usize;
        waiting.retain(|index| self.partitions.get(index).is_none_or(|partition| !partition.busy));
        for partition in waiting {
            if let Some(state) = self.partitions.get(&partition).filter(|it| !ready(it)) {
                alarm = Some(alarm.map_or(state.not_before, |alarm| alarm.min(state.not_before)));
                continue;
            }
            match routes.leaders.get(&partition) {
                Some(leader) => by_leader.entry(*leader).or_default().push(partition),
                None => without_leader = true,
            }
        }
        if (without_leader || warm && !all_stand) && !self.stale {
            self.stale = true;
            self.topic
                .queue
                .set_trouble(Trouble::passing(format!("a partition of topic {} has no leader", self.topic.name)));
            alarm = Some(now);
        }
        if let Some(alarm) = alarm {
            self.wake_at(alarm);
        }
        for (broker, partitions) in by_leader {
            all_stand &= self.serve(broker, &partitions, now);
        }
        if warm && all_stand {
            self.topic.queue.is_ready();
        }
    }

    fn ask(&mut self) {
        self.asking = true;
        let known = self.routes.iter().flat_map(|routes| routes.addresses.values().cloned()).collect();
        let (connector, topic) = (self.topic.connector.clone(), Arc::clone(&self.topic));
        self.work.push(Box::pin(async move { Done::Routed(Routes::ask(connector, known, &topic.name).await) }));
    }

    /// Brings the connection to a broker on, or writes to it; whether it stands.
    fn serve(&mut self, broker: i32, partitions: &[i32], now: Instant) -> bool {
        let identify = match self.known {
            Known::Unknown => true,
            Known::As(_) => false,
            Known::Nobody(until) => until <= now,
        };
        let link = self.links.entry(broker).or_insert_with(|| Link::new(now));
        link.check(now);
        match &link.state {
            LinkState::Opening => false,
            LinkState::Busy => true,
            LinkState::Closed(until) if *until > now => {
                let until = *until;
                self.wake_at(until);
                false
            }
            LinkState::Closed(_) => {
                self.open(broker, None, identify);
                false
            }
            LinkState::Idle(..) => {
                let (last, answered) = link.last;
                let throttled = link.throttled_until;
                let LinkState::Idle(connection, since) = std::mem::replace(&mut link.state, LinkState::Busy) else {
                    unreachable!("just matched")
                };
                if identify {
                    self.open(broker, Some(connection), true);
                    return false;
                }
                // many callers have just been answered: most of them come back at once
                let lingers = last >= MANY && self.topic.queue.len() < last;
                let until = if lingers { throttled.max(answered + self.topic.linger) } else { throttled };
                let batches = if until > now { Vec::new() } else { self.batches(partitions, now) };
                if batches.is_empty() {
                    if until > now {
                        self.wake_at(until);
                    }
                    self.link(broker).state = LinkState::Idle(connection, since);
                } else {
                    self.write(broker, connection, batches, now);
                }
                true
            }
        }
    }

    fn link(&mut self, broker: i32) -> &mut Link {
        self.links.entry(broker).or_insert_with(|| Link::new(Instant::now()))
    }

    fn open(&mut self, broker: i32, connection: Option<Box<wire::Connection>>, identify: bool) {
        let address = self.routes.as_ref().and_then(|routes| routes.addresses.get(&broker)).cloned();
        let Some(address) = address else {
            self.stale = true;
            self.link(broker).failed(Instant::now());
            return;
        };
        self.link(broker).state = LinkState::Opening;
        let connector = self.topic.connector.clone();
        self.work.push(Box::pin(async move {
            Done::Opened(link::open(broker, address, connector, connection, identify).await)
        }));
    }

    fn write(&mut self, broker: i32, connection: Box<wire::Connection>, batches: Vec<Batch>, now: Instant) {
        let until = batches.iter().filter_map(|batch| batch.deadline(now)).max().unwrap_or(now);
        let topic = Arc::clone(&self.topic);
        self.link(broker).state = LinkState::Busy;
        self.work.push(Box::pin(async move {
            Done::Written(link::write(broker, connection, &topic.name, batches, until).await)
        }));
    }

    fn routed(&mut self, outcome: Result<Routes, Unrouted>, now: Instant) {
        self.asking = false;
        match outcome {
            Ok(routes) => {
                debug!(topic = %self.topic.name, partitions = routes.count, "partitions are known");
                self.topic.queue.set_count(routes.count);
                let unsettled = routes.leaders.len() < routes.count as usize;
                // what was just found out is not asked for again at once
                self.ask_not_before = now + self.ask_delays.advance();
                if !unsettled {
                    self.stale = false;
                }
                self.links.retain(|broker, link| {
                    routes.addresses.contains_key(broker) || matches!(link.state, LinkState::Busy | LinkState::Opening)
                });
                self.missing_since = None;
                self.routes = Some(routes);
                return;
            }
            Err(Unrouted::Missing) => {
                let since = *self.missing_since.get_or_insert(now);
                let why = format!(
                    "the brokers list no topic {}: it is missing, or this user may not describe it",
                    self.topic.name
                );
                let trouble = Trouble::setup(why);
                if now >= since + MISSING {
                    self.routes = None;
                    self.topic.queue.refuse_all(&NotStored::Refused(trouble.clone()));
                }
                self.topic.queue.set_trouble(trouble);
            }
            Err(Unrouted::Denied(why)) => {
                let why = format!("topic {}: {why}", self.topic.name);
                self.topic.queue.refuse_all(&NotStored::Refused(Trouble::setup(why)));
            }
            Err(Unrouted::Unavailable(trouble)) => {
                self.missing_since = None;
                self.topic.queue.set_trouble(trouble);
            }
        }
        self.ask_not_before = now + self.ask_delays.advance();
    }

    fn opened(&mut self, opened: Opened, now: Instant) {
        match opened.identified {
            Identified::Unasked => {}
            Identified::As(identity) => self.known = Known::As(identity),
            Identified::Not { why, for_good } => {
                // once for all topics
                if !self.topic.told.swap(true, Ordering::Relaxed) {
                    warn!(
                        why,
                        "no producer id from the brokers; a mail whose answer is lost is written again all the same, \
                         and may be in its topic twice"
                    );
                }
                self.known = Known::Nobody(now + if for_good { ROUTES_AGE } else { WITHOUT });
            }
        }
        match opened.connection {
            Ok(connection) => {
                let link = self.link(opened.broker);
                link.state = LinkState::Idle(connection, now);
            }
            Err(error) => self.lost(opened.broker, error.into(), now),
        }
    }

    /// A connection has failed: perhaps the partitions have other leaders by now.
    fn lost(&mut self, broker: i32, trouble: Trouble, now: Instant) {
        debug!(topic = %self.topic.name, broker, %trouble, "a connection to a broker failed");
        self.topic.queue.set_trouble(trouble);
        self.link(broker).failed(now);
        self.stale = true;
    }

    fn written(&mut self, written: Written, now: Instant) {
        let Written { broker, batches, outcome } = written;
        let count = batches.iter().map(|batch| batch.orders.len()).sum();
        self.back_from_wire(&batches);
        match outcome {
            Ok((connection, response)) => {
                let link = self.link(broker);
                link.state = LinkState::Idle(connection, now);
                link.delays.reset();
                link.last = (count, now);
                link.throttled_until = now + throttle(&response);
                for batch in batches {
                    self.answered(batch, &response, now);
                }
            }
            Err(WriteError { trouble, sent }) => {
                for batch in batches {
                    if sent { self.doubt(batch, now) } else { self.back(batch, now) }
                }
                self.lost(broker, trouble, now);
            }
        }
    }
}

/// For how long a broker reads nothing more of us, because we have used up our quota.
fn throttle(response: &ProduceResponse) -> Duration {
    Duration::from_millis(u64::try_from(response.throttle_time_ms).unwrap_or(0)).min(LONGEST_THROTTLE)
}
