use proptest::prelude::*;

use super::*;

fn limit(count: u32, seconds: u64) -> RateLimit {
    RateLimit { count, per: Duration::from_secs(seconds) }
}

/// Sends `mails` as fast as the rate lets, each taking the next of these latencies: when each began, and its latency.
fn sent(rate: &mut Rate, start: Instant, mails: usize, latencies: &[u64]) -> Vec<(Duration, Duration)> {
    let (mut now, mut flying, mut sent) = (start, Vec::new(), Vec::new());
    while sent.len() < mails {
        flying.sort_by_key(|(end, _)| std::cmp::Reverse(*end));
        while let Some((end, share)) = flying.pop_if(|(end, _)| *end <= now) {
            rate.answered(share, end);
        }
        match rate.take(now).expect("a rate") {
            Ok(share) => {
                assert!(rate.begin(share, now));
                let latency = Duration::from_millis(latencies[sent.len() % latencies.len()]);
                sent.push((now.duration_since(start), latency));
                flying.push((now + latency, share));
            }
            Err(at) => {
                let end = flying.iter().map(|(end, _)| *end).min();
                now = end.map_or(at, |end| at.min(end)).max(now + Duration::from_nanos(1));
            }
        }
    }
    sent
}

/// When each of these mails began.
fn starts(rate: &mut Rate, start: Instant, mails: usize, latencies: &[u64]) -> Vec<Duration> {
    sent(rate, start, mails, latencies).into_iter().map(|(at, _)| at).collect()
}

/// The most arrivals in any window of this length.
fn busiest(arrivals: &[Duration], window: Duration) -> usize {
    let within = |from: &Duration| arrivals.iter().filter(|at| (*from..*from + window).contains(*at)).count();
    arrivals.iter().map(within).max().unwrap_or_default()
}

proptest! {
    #[test]
    fn no_window_holds_more_than_the_limit(
        count in 1u32..40,
        latencies in prop::collection::vec(0u64..3000, 1..20),
        counted in 0.0f64..=1.0,
    ) {
        let start = Instant::now();
        let limit = limit(count, 1);
        let sent = sent(&mut Rate::new(Some(limit), start), start, 3 * count as usize + 10, &latencies);
        let begun = busiest(&sent.iter().map(|(at, _)| *at).collect::<Vec<_>>(), limit.per);
        prop_assert!(begun <= count as usize, "{begun} of {count} began: {sent:?}");
        // counted by the relay at the same share of the latency of each, but for those that take longer than the unit
        let short = sent.iter().filter(|(_, latency)| *latency <= limit.per);
        let seen: Vec<Duration> = short.map(|(at, latency)| *at + latency.mul_f64(counted)).collect();
        let most = busiest(&seen, limit.per);
        prop_assert!(most <= count as usize, "{most} of {count}: {sent:?}");
    }

    #[test]
    fn what_is_answered_is_forgotten_only_after_a_unit(gaps in prop::collection::vec(0u64..200, 1..200)) {
        let mut now = Instant::now();
        let mut window = Window::new(limit(1_000_000, 1));
        let mut answers = Vec::new();
        for gap in gaps {
            let number = window.take(now).expect("far below the limit");
            now += Duration::from_millis(gap);
            window.answered(number, now);
            answers.push(now);
            let kept: u32 = window.answered.iter().map(|(_, _, count)| *count).sum();
            let due = answers.iter().filter(|at| now.duration_since(**at) < Duration::from_secs(1)).count();
            prop_assert!(kept as usize >= due, "{kept} kept of {due}");
            prop_assert!(window.answered.len() <= GRAIN as usize + 2);
        }
    }
}

#[test]
fn the_limit_is_reached_and_mails_go_evenly() {
    let start = Instant::now();
    let seen = starts(&mut Rate::new(Some(limit(14, 1)), start), start, 141, &[0]);
    let last = seen.last().expect("arrivals").as_secs_f64();
    assert!((9.99..10.01).contains(&last), "141 mails in {last} s");
    let gaps: Vec<_> = seen.windows(2).map(|pair| pair[1].saturating_sub(pair[0]).as_millis()).collect();
    assert!(gaps.iter().all(|gap| (71..=72).contains(gap)), "{gaps:?}");
}

#[test]
fn a_latency_costs_its_share_and_a_slow_relay_no_more_than_half() {
    for (latency, least, most) in [(100, 12.5, 13.0), (1000, 6.9, 7.3), (5000, 6.9, 7.3)] {
        let start = Instant::now();
        let seen = starts(&mut Rate::new(Some(limit(14, 1)), start), start, 280, &[latency]);
        let rate = 280.0 / seen.last().expect("arrivals").as_secs_f64();
        assert!((least..=most).contains(&rate), "{rate}/s with {latency} ms");
    }
}

#[test]
fn a_share_that_was_not_used_goes_to_the_next() {
    let now = Instant::now();
    let mut rate = Rate::new(Some(limit(6, 60)), now);
    let share = rate.take(now).expect("a rate").expect("the first one");
    assert!(rate.take(now).expect("a rate").is_err());
    rate.give_back(share, now);
    let share = rate.take(now).expect("a rate").expect("the one that came back");
    rate.answered(share, now);
    assert_eq!(rate.take(now), Some(Err(now + Duration::from_secs(10))));
}

#[test]
fn a_share_that_is_not_used_lapses() {
    let mut now = Instant::now();
    let mut rate = Rate::new(Some(limit(3, 3600)), now);
    let share = rate.take(now).expect("a rate").expect("one of three");
    now += LAPSE;
    assert!(!rate.begin(share, now), "it counts no longer");
    let mut shares = Vec::new();
    for _ in 0..3 {
        now += Duration::from_secs(1200);
        let share = rate.take(now).expect("a rate").expect("one of three");
        assert!(rate.begin(share, now));
        shares.push(share);
    }
    now += Duration::from_secs(1200);
    assert!(rate.take(now).expect("a rate").is_err(), "three are on their way");
    rate.give_back(share, now);
    assert!(rate.take(now).expect("a rate").is_err(), "nor does it come back");
}

#[test]
fn idle_time_is_not_saved_up() {
    let mut now = Instant::now();
    let mut rate = Rate::new(Some(limit(600, 60)), now);
    now += Duration::from_secs(3600);
    let seen = starts(&mut rate, now, 30, &[0]);
    assert!(busiest(&seen, Duration::from_millis(950)) <= 10, "{seen:?}");
}

#[test]
fn throttling_halves_what_is_in_force_and_comes_back_to_the_limit() {
    let mut now = Instant::now();
    let mut rate = Rate::new(Some(limit(100, 1)), now);
    for _ in 0..1000 {
        now += Duration::from_millis(10);
        rate.sent(now);
    }
    assert_eq!(rate.in_force(now), Some(100.0));
    let halved = rate.halve(now).expect("a new rate");
    assert!((49.0..=50.0).contains(&halved), "{halved}");
    assert_eq!(rate.in_force(now), Some(halved));
    now += STEP;
    let raised = rate.in_force(now).expect("a limit");
    assert!((58.0..=61.0).contains(&raised), "{raised}");
    now += 5 * STEP;
    assert_eq!(rate.in_force(now), Some(100.0), "the limit, and not beyond");
}

#[test]
fn throttling_goes_below_one_a_second_only_where_the_limit_is() {
    let mut now = Instant::now();
    let mut rate = Rate::new(Some(limit(60, 3600)), now);
    for _ in 0..10 {
        now += Duration::from_secs(3);
        let halved = rate.halve(now).expect("a new rate");
        assert!((halved - 60.0 / 3600.0).abs() < 1e-9, "{halved}");
    }
}
