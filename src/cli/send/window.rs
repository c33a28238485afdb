//! Which lines of a file are settled: all below a place, and some beyond it.

use std::collections::BTreeMap;

/// Lines that are settled. Memory grows with the lines beyond the lowest that is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    /// The lowest line that is not settled, and where it starts.
    next: (u64, u64),
    /// Settled lines beyond, and where each ends.
    beyond: BTreeMap<u64, u64>,
}

impl Window {
    /// All lines below `next` are settled; it starts at `offset`.
    pub(super) fn new(next: u64, offset: u64) -> Self {
        Self { next: (next, offset), beyond: BTreeMap::new() }
    }

    /// Notes that a line is settled, which ends at `end`.
    pub(super) fn settle(&mut self, number: u64, end: u64) {
        if number < self.next.0 {
            return;
        }
        self.beyond.insert(number, end);
        while let Some(end) = self.beyond.remove(&self.next.0) {
            self.next = (self.next.0 + 1, end);
        }
    }

    /// Number of the lowest line that is not settled.
    pub(super) fn next(&self) -> u64 {
        self.next.0
    }

    /// Where it starts.
    pub(super) fn offset(&self) -> u64 {
        self.next.1
    }

    /// Where the last line that is settled beyond ends, or the place itself.
    pub(super) fn end(&self) -> u64 {
        self.beyond.values().next_back().copied().unwrap_or(self.next.1)
    }

    /// What is settled beyond it: first and last line of each stretch.
    pub(super) fn beyond(&self) -> Vec<(u64, u64)> {
        let mut stretches: Vec<(u64, u64)> = Vec::new();
        for number in self.beyond.keys() {
            match stretches.last_mut() {
                Some((_, last)) if *last + 1 == *number => *last = *number,
                _ => stretches.push((*number, *number)),
            }
        }
        stretches
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_place_moves_over_what_is_settled_in_a_row() {
        let mut window = Window::new(1, 0);
        for number in [3, 2, 6, 7, 9] {
            window.settle(number, number * 10);
        }
        assert_eq!((window.next(), window.offset()), (1, 0));
        assert_eq!(window.beyond(), [(2, 3), (6, 7), (9, 9)]);
        window.settle(1, 10);
        assert_eq!((window.next(), window.offset()), (4, 30));
        assert_eq!(window.beyond(), [(6, 7), (9, 9)]);
        window.settle(2, 20);
        assert_eq!(window.next(), 4);
    }

    proptest! {
        #[test]
        fn any_order_ends_at_the_same_place(order in Just((1..=50_u64).collect::<Vec<_>>()).prop_shuffle(), cut in 0..50_usize) {
            let mut window = Window::new(1, 0);
            for number in &order[..cut] {
                window.settle(*number, number * 7);
            }
            let settled = |number: u64| {
                number < window.next() || window.beyond().iter().any(|(first, last)| (*first..=*last).contains(&number))
            };
            for number in 1..=50 {
                prop_assert_eq!(settled(number), order[..cut].contains(&number));
            }
            prop_assert_eq!(window.offset(), (window.next() - 1) * 7);
        }
    }
}
