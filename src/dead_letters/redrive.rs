//! Sends letters back to their lanes, each once.
//!
//! Owns the order of things: all letters are looked at first, then those that are meant are sent in portions, and each
//! portion is remembered as soon as the brokers have acknowledged it, before the next one goes. So a crash repeats at most
//! one portion, and nothing is sent that could not be remembered.

mod portion;

use std::collections::{BTreeMap, HashSet};

use chrono::Utc;
use tokio::time::{Duration, Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::portion::Portion;
use super::{
    Desk, Error, Filter, Found, Groups, Lanes, Letter, Memory, Place, Skip, Store, Target, judge, memory::Kept, store,
};
use crate::kafka::dead_letter::{Sender, Sent};

/// The most letters of a portion: what a crash can repeat.
pub const PORTION: usize = 200;
/// Bytes of letters of a portion, unless it is a single one.
const PORTION_BYTES: usize = 1 << 20;
/// For how long a write is repeated while the brokers are away.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often others are shown that this redrive is at work.
const BEAT: Duration = Duration::from_secs(1);
/// Bytes beside an offset that stay free for letters that are answered out of order.
const SPARE: usize = 256;
/// Refusals that are told one by one.
const TOLD: usize = 20;

/// Which letters are sent back, and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which ones are meant.
    pub filter: Filter,
    /// The most letters that are sent.
    pub limit: Option<usize>,
    /// The most letters a second.
    pub rate: Option<f64>,
    /// Also those that were sent back already.
    pub again: bool,
    /// Also those that another consumer group gave up, from the same lanes.
    pub any_group: bool,
}

/// What would be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Letters in the topic.
    pub letters: usize,
    /// Letters that are to be sent.
    pub chosen: usize,
    /// The same by the topic to which they go.
    pub targets: BTreeMap<String, usize>,
    /// Letters that are meant and cannot be sent, by [`Skip::word`].
    pub skipped: BTreeMap<&'static str, usize>,
    /// The groups of those that stay because another one than ours gave them up.
    pub other_groups: Groups,
    /// Places that were asked for and hold no letter.
    pub missing: Vec<Place>,
    /// Offsets of which nothing can be read: not sent, and not looked at.
    pub undecodable: u64,
    /// Whether all of it can be remembered.
    pub fits: bool,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Letters that were sent back.
    pub sent: usize,
    /// Letters that were to be sent.
    pub of: usize,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Letters that were sent back, acknowledged and remembered.
    pub sent: usize,
    /// The same by the topic to which they went.
    pub targets: BTreeMap<String, usize>,
    /// Letters of a death of which another letter was sent back: remembered with it.
    pub twins: usize,
    /// Letters that the brokers have refused; the first of them.
    pub refused: Vec<(Place, String)>,
    /// All of them.
    pub refusals: usize,
    /// Letters of which nobody knows whether their lane has them.
    pub unknown: usize,
    /// Letters that were sent and could not be remembered.
    pub forgotten: usize,
}

/// Why it has ended.
#[derive(Debug)]
pub enum Stop {
    /// All that were meant were tried.
    End,
    /// It was told to stop.
    Interrupted,
    /// No more can be remembered: there are too many gaps between the letters that were sent.
    Full,
    /// The brokers did not take a letter in time: why.
    Brokers(String),
    /// The memory cannot be read or written, or belongs to another redrive.
    Error(Error),
}

/// One redrive.
pub struct Redrive {
    desk: Desk,
    store: Store,
    lanes: Lanes,
    options: Options,
    /// What the group kept at first, and what of it belongs to this topic.
    kept: (Kept, Kept),
    memory: Memory,
    /// Deaths of which a letter was sent back.
    sent: HashSet<u128>,
    undecodable: u64,
    chosen: usize,
}

impl Redrive {
    /// Looks at every letter of the topic, and at what was sent back.
    ///
    /// # Errors
    ///
    /// When the topic or the memory cannot be read.
    pub async fn open(desk: Desk, options: Options) -> Result<Self, Error> {
        let limit = desk.metadata_limit().await.saturating_sub(store::LEASE + SPARE);
        let mut store = desk.store();
        let kept = desk.kept(&mut store).await?;
        let memory = Memory::new(&kept.1, desk.ends(), limit)
            .map_err(|source| Error::Memory { group: store.group().to_owned(), source })?;
        let lanes = desk.lanes().clone();
        let lanes = if options.any_group { lanes.for_any_group() } else { lanes };
        let mut redrive =
            Self { desk, store, lanes, options, kept, memory, sent: HashSet::new(), undecodable: 0, chosen: 0 };
        redrive.survey().await?;
        Ok(redrive)
    }

    /// The group that remembers.
    pub fn group(&self) -> &str {
        self.store.group()
    }

    /// Takes note of every letter, and of the deaths that were undone.
    async fn survey(&mut self) -> Result<(), Error> {
        let mut scan = self.desk.scan();
        while let Some(found) = scan.next().await? {
            match found {
                Found::Letter(letter) => {
                    let place = letter.place();
                    self.memory.see(place);
                    if !self.memory.is_waiting(place) {
                        self.sent.extend(letter.identity());
                    }
                }
                // it waits: a later version may be able to read it
                Found::Undecodable { partition, from, to, .. } => {
                    for offset in from..to {
                        self.memory.see(Place { partition, offset });
                        self.undecodable += 1;
                    }
                }
            }
        }
        self.memory.seen_all();
        Ok(())
    }

    /// Tells what would become of each letter that is meant, and counts.
    ///
    /// # Errors
    ///
    /// When the topic cannot be read.
    pub async fn plan(&mut self, mut each: impl FnMut(&Letter, &Result<Target, Skip>)) -> Result<Plan, Error> {
        let mut plan = Plan { undecodable: self.undecodable, ..Plan::default() };
        let (mut places, mut asked) = (Vec::new(), self.options.filter.places.clone());
        let mut picked = HashSet::new();
        let mut scan = self.desk.scan();
        while let Some(found) = scan.next().await? {
            let Found::Letter(letter) = found else { continue };
            plan.letters += 1;
            asked.remove(&letter.place());
            let Some(verdict) = self.pick(&letter, &picked, plan.chosen) else { continue };
            match &verdict {
                Ok(target) => {
                    plan.chosen += 1;
                    *plan.targets.entry(target.topic.to_string()).or_default() += 1;
                    picked.extend(letter.identity());
                    places.push(letter.place());
                }
                Err(skip) => {
                    *plan.skipped.entry(skip.word()).or_default() += 1;
                    if let Skip::GroupDiffers { group, .. } = skip {
                        plan.other_groups.add(group);
                    }
                }
            }
            each(&letter, &verdict);
        }
        plan.missing = asked.into_iter().collect();
        plan.fits = self.memory.has_room_for(&places);
        self.chosen = plan.chosen;
        Ok(plan)
    }

    /// What becomes of a letter, if it is meant. `picked` are the deaths that this redrive undoes.
    fn pick(&self, letter: &Letter, picked: &HashSet<u128>, chosen: usize) -> Option<Result<Target, Skip>> {
        if self.options.limit.is_some_and(|limit| chosen >= limit) || !self.options.filter.takes(letter) {
            return None;
        }
        let identity = letter.identity();
        let before = !self.memory.is_waiting(letter.place()) || identity.is_some_and(|it| self.sent.contains(&it));
        let now = identity.is_some_and(|it| picked.contains(&it));
        if now || (before && !self.options.again) {
            return Some(Err(Skip::SentBack));
        }
        Some(judge(letter, &self.lanes, Utc::now()))
    }

    /// Sends what is meant, until the end or until `stop` is cancelled; then what is on its way is still finished.
    pub async fn send(mut self, stop: &CancellationToken, mut progress: impl FnMut(Progress)) -> (Summary, Stop) {
        let mut summary = Summary::default();
        match stop.run_until_cancelled(self.store.claim(&self.kept.0, &self.kept.1)).await {
            None => return (summary, Stop::Interrupted),
            Some(Err(error)) => return (summary, Stop::Error(error.into())),
            Some(Ok(())) => {}
        }
        let end = self.send_all(stop, &mut summary, &mut progress).await.unwrap_or_else(Stop::Error);
        let released = match end {
            Stop::Error(_) => Ok(()),
            _ => self.store.release().await,
        };
        if let Err(error) = released {
            // all is remembered; the next redrive waits some seconds for the lease
            tracing::debug!(%error, "the lease is not given back");
        }
        (summary, end)
    }

    async fn send_all(
        &mut self,
        stop: &CancellationToken,
        summary: &mut Summary,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Stop, Error> {
        let mut sender = Sender::new(self.desk.shared().clone(), PATIENCE);
        let mut scan = self.desk.scan();
        let mut picked: HashSet<u128> = HashSet::new();
        let most = self.options.rate.map_or(PORTION, |rate| per_second(rate).min(PORTION));
        let (mut chosen, mut due, mut more) = (0, Instant::now(), true);
        while more {
            let mut portion = Portion::default();
            while portion.len() < most && portion.bytes() < PORTION_BYTES {
                let Some(found) = scan.next().await? else {
                    more = false;
                    break;
                };
                let Found::Letter(letter) = found else { continue };
                match (self.pick(&letter, &picked, chosen), letter.identity()) {
                    (Some(Ok(target)), identity) => {
                        chosen += 1;
                        picked.extend(identity);
                        portion.add(*letter, identity, target);
                    }
                    (_, Some(identity))
                        if self.memory.is_waiting(letter.place())
                            && (self.sent.contains(&identity) || picked.contains(&identity)) =>
                    {
                        portion.add_twin(letter.place(), identity);
                    }
                    _ => {}
                }
                if self.options.limit.is_some_and(|limit| chosen >= limit) {
                    more = false;
                    break;
                }
            }
            if portion.is_empty() {
                continue;
            }
            if !self.memory.has_room_for(&portion.places().collect::<Vec<_>>()) {
                return Ok(Stop::Full);
            }
            if !self.wait(due, stop).await? {
                return Ok(Stop::Interrupted);
            }
            if let Some(rate) = self.options.rate {
                let count = f64::from(u32::try_from(portion.len()).unwrap_or(u32::MAX));
                due = due.max(Instant::now()) + Duration::from_secs_f64(count / rate);
            }
            if let Some(stopped) = self.send_portion(portion, &mut sender, stop, summary).await? {
                return Ok(stopped);
            }
            progress(Progress { sent: summary.sent, of: self.chosen.max(summary.sent) });
            if stop.is_cancelled() && more {
                return Ok(Stop::Interrupted);
            }
        }
        Ok(Stop::End)
    }

    async fn send_portion(
        &mut self,
        portion: Portion,
        sender: &mut Sender,
        stop: &CancellationToken,
        summary: &mut Summary,
    ) -> Result<Option<Stop>, Error> {
        let mut lost = None;
        let told = {
            let sending = sender.send(portion.parcels(Utc::now()), stop);
            tokio::pin!(sending);
            loop {
                match timeout(BEAT, &mut sending).await {
                    Ok(told) => break told,
                    // an error of the moment is no reason to stop: the commit will tell
                    Err(_) => {
                        if let Err(error @ store::Error::Overtaken { .. }) = self.store.beat().await {
                            lost = Some(error);
                        }
                    }
                }
            }
        };
        let mut stored = BTreeMap::new();
        let mut count = 0;
        let mut away = None;
        for (letter, sent) in portion.letters().zip(told) {
            match sent {
                Sent::Stored => {
                    self.memory.settle(letter.place);
                    self.sent.extend(letter.identity);
                    *stored.entry(letter.topic.to_string()).or_insert(0) += 1;
                    count += 1;
                }
                Sent::Refused(why) => {
                    summary.refusals += 1;
                    if summary.refused.len() < TOLD {
                        summary.refused.push((letter.place, why));
                    }
                }
                Sent::Failed(why) => away = Some(why),
                Sent::Unknown(why) => {
                    summary.unknown += 1;
                    away = Some(why);
                }
            }
        }
        let mut twins = 0;
        for (place, identity) in portion.twins() {
            if self.sent.contains(&identity) {
                self.memory.settle(place);
                twins += 1;
            }
        }
        let committed = match lost {
            Some(error) => Err(error),
            None if count + twins > 0 => self.store.commit(self.memory.positions()).await,
            None => Ok(()),
        };
        if let Err(error) = committed {
            summary.forgotten += count;
            return Err(error.into());
        }
        summary.sent += count;
        summary.twins += twins;
        for (topic, count) in stored {
            *summary.targets.entry(topic).or_default() += count;
        }
        Ok(away.map(|why| if stop.is_cancelled() { Stop::Interrupted } else { Stop::Brokers(why) }))
    }

    /// Waits until then and shows meanwhile that this redrive is at work; false if it is to stop.
    async fn wait(&mut self, until: Instant, stop: &CancellationToken) -> Result<bool, Error> {
        while Instant::now() < until && !stop.is_cancelled() {
            let next = until.min(Instant::now() + BEAT);
            if stop.run_until_cancelled(sleep_until(next)).await.is_some() && next < until {
                self.store.beat().await?;
            }
        }
        Ok(!stop.is_cancelled())
    }
}

/// Letters that go at once where so many may go in a second.
fn per_second(rate: f64) -> usize {
    let portion = u32::try_from(PORTION).unwrap_or(u32::MAX);
    (1..=portion).rev().find(|count| f64::from(*count) <= rate).map_or(1, |count| count as usize)
}
