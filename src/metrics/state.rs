//! What merely is, read when somebody scrapes: lag, ages, sessions, the relay, the group.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use super::lane_name;
use crate::{
    event::Priority,
    health::{Facts, Health, PartitionFacts},
};

/// Tells the state of the service's parts.
#[derive(Debug)]
pub struct State(pub Health);

impl Collector for State {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        encode(&self.0.facts(), encoder)
    }
}

struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauge<V: EncodeGaugeValue>(&mut self, name: &str, help: &str, value: V) -> fmt::Result {
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn number(count: usize) -> u64 {
    count as u64
}

pub(super) fn encode(facts: &Facts, encoder: DescriptorEncoder<'_>) -> fmt::Result {
    let mut out = Out(encoder);
    out.gauge("postlane_ready", "Whether /readyz answers 200.", u64::from(facts.readiness().ready()))?;
    pipeline(facts, &mut out)?;
    partitions(facts, &mut out)?;
    relay(facts, &mut out)?;
    kafka(facts, &mut out)
}

fn pipeline(facts: &Facts, out: &mut Out<'_>) -> fmt::Result {
    out.gauges(
        "postlane_ready_mails",
        "Mails that wait for a session.",
        Priority::ALL.into_iter().map(|lane| ([("lane", lane_name(lane))], number(facts.waiting[lane.index()]))),
    )?;
    out.gauge(
        "postlane_dead_letters_writable",
        "Whether dead letters can be written, as far as the last look and the last attempts have shown.",
        u64::from(facts.dead_letters().ready),
    )?;
    out.counter(
        "postlane_trace_spans_dropped",
        "Spans that the collector did not take, or for which the queue had no room.",
        facts.spans_dropped,
    )
}

fn partitions(facts: &Facts, out: &mut Out<'_>) -> fmt::Result {
    fn labels(partition: &PartitionFacts) -> [(&'static str, String); 3] {
        let (topic, number) = (partition.topic.to_string(), partition.number.to_string());
        [("lane", lane_name(partition.lane).to_owned()), ("topic", topic), ("partition", number)]
    }
    let all = || facts.present_partitions();
    out.gauges(
        "postlane_in_flight_records",
        "Records that are read and not settled.",
        all().map(|partition| (labels(partition), number(partition.vitals.in_flight))),
    )?;
    out.gauges(
        "postlane_lag_records",
        "Offsets from the lowest unsettled record to the end of the log; absent before the end is known.",
        all().filter_map(|partition| Some((labels(partition), partition.vitals.lag?))),
    )?;
    out.gauges(
        "postlane_oldest_unsettled_age_seconds",
        "Age of the lowest unsettled record by its timestamp; where none is read though the log holds more, for how \
         long that is so; else 0.",
        all().map(|partition| (labels(partition), partition.vitals.oldest.as_secs_f64())),
    )?;
    out.gauges(
        "postlane_partition_halted",
        "Whether reading makes no progress.",
        all().map(|partition| (labels(partition), u64::from(partition.vitals.halted.is_some()))),
    )?;
    out.counters(
        "postlane_records_lost",
        "Records that retention deleted before they were read.",
        all().map(|partition| (labels(partition), partition.vitals.lost)),
    )
}

fn relay(facts: &Facts, out: &mut Out<'_>) -> fmt::Result {
    let relay = &facts.relay;
    out.gauge("postlane_relay_up", "Whether mails may be sent, as far as is known.", u64::from(relay.is_up()))?;
    out.counter("postlane_relay_down", "How often the relay went down.", relay.outages)?;
    out.gauge("postlane_smtp_sessions", "Open SMTP sessions.", number(relay.sessions))?;
    out.gauge(
        "postlane_smtp_sessions_limit",
        "The most SMTP sessions in force: fewer than configured where the relay took no further one.",
        number(relay.sessions_limit),
    )?;
    out.gauge(
        "postlane_smtp_rate_limit",
        "The most mails per second in force; +Inf where there is no limit.",
        relay.rate.unwrap_or(f64::INFINITY),
    )?;
    out.counter("postlane_throttled", "Replies of the relay that asked for a slower pace.", relay.throttled)
}

fn kafka(facts: &Facts, out: &mut Out<'_>) -> fmt::Result {
    let assignment = &facts.assignment;
    out.gauge("postlane_broker_up", "Whether the brokers answer.", u64::from(facts.broker().ready))?;
    out.gauge(
        "postlane_commit_age_seconds",
        "Time since all that was settled was committed, while something is due; else 0.",
        facts.commit_age().as_secs_f64(),
    )?;
    out.counters(
        "postlane_commits",
        "Commits of offsets; one failed where any of its offsets was not stored.",
        [("ok", assignment.commits_ok), ("failed", assignment.commits_failed)]
            .into_iter()
            .map(|(outcome, count)| ([("outcome", outcome)], count)),
    )?;
    out.counter(
        "postlane_forgotten_records",
        "Records settled out of order for which a commit's metadata had no room: a crash would send them again.",
        assignment.forgotten,
    )
}
