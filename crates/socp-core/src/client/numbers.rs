//! Which texts of one device of somebody's have come (PROTOCOL II.6).
//!
//! A device counts its texts to one recipient from 1. What is before the first that we ever heard is not missed: it was
//! for another device of ours, or from before this profile. What is missing after that is remembered, so that it is known
//! when it comes late, and told from what was there before.

/// Ranges of missing texts that are remembered of one device; the oldest is forgotten (our choice).
const MISSING_COUNT_MAX: usize = 32;
/// Texts that may be missing at once; who leaves out more has begun to count anew (our choice).
const MISSING_SPAN_MAX: u64 = 10_000;

/// What of one device was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    /// The next one, if none is left out.
    pub next: u64,
    /// What is missing before it: first and last of each range.
    pub missing: Vec<(u64, u64)>,
}

/// How a number fits to those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It is the next one.
    Next,
    /// It is a later one: these are missing before it, the first and the last.
    Behind(u64, u64),
    /// It was missing.
    Late,
    /// It was there, or lies before everything that we know of.
    Before,
}

impl Numbers {
    /// The first text that we hear of a device.
    #[must_use]
    pub fn begin(n: u64) -> Self {
        Self {
            next: n.saturating_add(1),
            missing: Vec::new(),
        }
    }

    /// Takes another one.
    pub fn take(&mut self, n: u64) -> Fit {
        if n == self.next {
            self.next = n.saturating_add(1);
            return Fit::Next;
        }
        if n > self.next {
            let (first, last) = (self.next, n.saturating_sub(1));
            self.next = n.saturating_add(1);
            if last.saturating_sub(first) < MISSING_SPAN_MAX {
                self.missing.push((first, last));
            }
            if self.missing.len() > MISSING_COUNT_MAX {
                self.missing.remove(0);
            }
            return Fit::Behind(first, last);
        }
        let Some(index) = self
            .missing
            .iter()
            .position(|(first, last)| (*first..=*last).contains(&n))
        else {
            return Fit::Before;
        };
        let (first, last) = self.missing.remove(index);
        let rest = [(first, n.saturating_sub(1)), (n.saturating_add(1), last)];
        let rest = rest.into_iter().filter(|(first, last)| first <= last);
        self.missing.splice(index..index, rest);
        while self.missing.len() > MISSING_COUNT_MAX {
            self.missing.remove(0);
        }
        Fit::Late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_seen_closed_and_told_from_repetitions() {
        let mut numbers = Numbers::begin(5);
        let table = [
            (6, Fit::Next),
            (6, Fit::Before),
            (10, Fit::Behind(7, 9)),
            (8, Fit::Late),
            (8, Fit::Before),
            (7, Fit::Late),
            (9, Fit::Late),
            (9, Fit::Before),
            (4, Fit::Before),
            (11, Fit::Next),
        ];
        for (n, fit) in table {
            assert_eq!(numbers.take(n), fit, "{n}");
        }
        assert_eq!(
            numbers,
            Numbers {
                next: 12,
                missing: Vec::new()
            }
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut numbers = Numbers::begin(1);
        for n in 1..=200 {
            numbers.take(n * 3);
        }
        assert_eq!(numbers.missing.len(), MISSING_COUNT_MAX);
        assert_eq!(numbers.take(2), Fit::Before, "the oldest gap is forgotten");
        // Splitting ranges does not make more of them.
        let mut numbers = Numbers::begin(1);
        numbers.take(1_000);
        for n in (2..1_000).step_by(2) {
            numbers.take(n);
        }
        assert!(numbers.missing.len() <= MISSING_COUNT_MAX);
        let huge = u64::MAX;
        assert_eq!(numbers.take(huge), Fit::Behind(1_001, huge - 1));
        assert_eq!(numbers.take(huge), Fit::Next, "there is no higher one");
        assert_eq!(
            numbers.take(2_000),
            Fit::Before,
            "nothing of so wide a gap is waited for"
        );
    }
}
