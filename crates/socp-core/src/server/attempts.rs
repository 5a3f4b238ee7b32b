//! Tries at passwords, counted: a few cost nothing, each one more doubles the wait (PROTOCOL II.9).

use crate::clock::Mono;
use socp_proto::limits::{LOGIN_TRIES_COUNT_MAX, LOGIN_TRIES_FORGOTTEN_MS, LOGIN_WAIT_MIN_MS};
use std::collections::{BTreeMap, BTreeSet};

/// How many tries are free, and how long the wait becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) free: u32,
    pub(super) wait_max_ms: u64,
}

/// Tries by whatever they are counted for. What was quiet for long is forgotten, and the quietest where there are too many.
#[derive(Debug)]
pub(super) struct Attempts<K> {
    patience: Patience,
    of: BTreeMap<K, Tries>,
    by_age: BTreeSet<(Mono, K)>,
}

#[derive(Debug, Clone, Copy)]
struct Tries {
    count: u32,
    last: Mono,
    free_at: Mono,
}

impl<K: Ord + Clone> Attempts<K> {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            patience,
            of: BTreeMap::new(),
            by_age: BTreeSet::new(),
        }
    }

    /// Counts a try as one that failed; [`Self::forgive`] and [`Self::forget`] say otherwise. During a wait nothing is
    /// counted: else whoever keeps trying would keep everybody else waiting for ever.
    ///
    /// # Errors
    /// How long to wait, in ms.
    pub(super) fn begin(&mut self, now: Mono, key: &K) -> Result<(), u64> {
        self.drop_old(now);
        let before = self.of.get(key).copied();
        if let Some(tries) = before.filter(|tries| tries.free_at > now) {
            return Err(tries.free_at.saturating_sub(now));
        }
        let count = before.map_or(1, |tries| tries.count.saturating_add(1));
        let free_at = now.saturating_add(self.wait_after(count));
        self.put(
            key.clone(),
            Tries {
                count,
                last: now,
                free_at,
            },
        );
        if self.of.len() > LOGIN_TRIES_COUNT_MAX
            && let Some((_, quietest)) = self.by_age.pop_first()
        {
            self.of.remove(&quietest);
        }
        Ok(())
    }

    /// Of how many something is counted.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.of.len()
    }

    /// One try did not fail.
    pub(super) fn forgive(&mut self, key: &K) {
        if let Some(tries) = self.of.get(key).copied() {
            self.put(
                key.clone(),
                Tries {
                    count: tries.count.saturating_sub(1),
                    free_at: tries.last,
                    ..tries
                },
            );
        }
    }

    /// Nothing is held against it any more.
    pub(super) fn forget(&mut self, key: &K) {
        if let Some(tries) = self.of.remove(key) {
            self.by_age.remove(&(tries.last, key.clone()));
        }
    }

    fn put(&mut self, key: K, tries: Tries) {
        self.forget(&key);
        self.by_age.insert((tries.last, key.clone()));
        self.of.insert(key, tries);
    }

    fn wait_after(&self, count: u32) -> u64 {
        let Some(doublings) = count.checked_sub(self.patience.free) else {
            return 0;
        };
        let wait = LOGIN_WAIT_MIN_MS.checked_shl(doublings).unwrap_or(u64::MAX);
        // A shift that loses bits is far beyond the longest wait.
        if doublings >= 32 {
            self.patience.wait_max_ms
        } else {
            wait.min(self.patience.wait_max_ms)
        }
    }

    fn drop_old(&mut self, now: Mono) {
        while let Some((last, _)) = self.by_age.first()
            && now.saturating_sub(*last) >= LOGIN_TRIES_FORGOTTEN_MS
            && let Some((_, key)) = self.by_age.pop_first()
        {
            self.of.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        free: 3,
        wait_max_ms: 8_000,
    };

    #[test]
    fn the_wait_begins_after_the_free_ones_and_doubles_up_to_the_longest() {
        let mut attempts = Attempts::new(PATIENCE);
        let mut now = 5;
        for _ in 0..3 {
            assert_eq!(attempts.begin(now, &'a'), Ok(()));
        }
        let mut waits = Vec::new();
        for _ in 0..40 {
            let wait = attempts.begin(now, &'a').unwrap_err();
            assert_eq!(
                attempts.begin(now + wait - 1, &'a'),
                Err(1),
                "a try in vain costs nothing"
            );
            waits.push(wait);
            now += wait;
            assert_eq!(attempts.begin(now, &'a'), Ok(()));
        }
        assert_eq!(waits[..5], [1000, 2000, 4000, 8000, 8000]);
        assert_eq!(waits[39], 8000);
        assert_eq!(attempts.begin(now, &'b'), Ok(()), "another waits for nothing");
    }

    #[test]
    fn success_and_time_make_up_for_tries() {
        let mut attempts = Attempts::new(PATIENCE);
        let fill = |attempts: &mut Attempts<char>| (0..3).for_each(|_| attempts.begin(0, &'a').unwrap());
        fill(&mut attempts);
        assert!(attempts.begin(0, &'a').is_err());
        attempts.forgive(&'a');
        assert_eq!(attempts.begin(0, &'a'), Ok(()));
        assert!(attempts.begin(0, &'a').is_err());
        attempts.forget(&'a');
        fill(&mut attempts);
        assert_eq!(attempts.begin(LOGIN_TRIES_FORGOTTEN_MS, &'a'), Ok(()));
        assert_eq!(attempts.of[&'a'].count, 1);
    }

    #[test]
    fn so_many_are_remembered_and_the_quietest_goes_first() {
        let mut attempts = Attempts::new(PATIENCE);
        for key in 0..=LOGIN_TRIES_COUNT_MAX {
            let now = u64::try_from(key / 64).unwrap();
            attempts.begin(now, &key).unwrap();
        }
        assert_eq!(
            (attempts.of.len(), attempts.by_age.len()),
            (LOGIN_TRIES_COUNT_MAX, LOGIN_TRIES_COUNT_MAX)
        );
        assert!(!attempts.of.contains_key(&0) && attempts.of.contains_key(&LOGIN_TRIES_COUNT_MAX));
    }
}
