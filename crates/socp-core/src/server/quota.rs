//! Budgets per link (PROTOCOL I.11).

use crate::clock::Mono;

/// A token bucket: so many at once after a rest, so many per second over time.
#[derive(Debug, Clone)]
pub struct Bucket {
    per_second: u64,
    burst: u64,
    /// Thousandths of a token.
    milli_tokens: u64,
    /// Thousandths of a token taken in advance, paid back before there are tokens again.
    milli_debt: u64,
    filled_at: Mono,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(now: Mono, per_second: u32, burst: u32) -> Self {
        let burst = u64::from(burst);
        Self {
            per_second: u64::from(per_second),
            burst,
            milli_tokens: burst.saturating_mul(1000),
            milli_debt: 0,
            filled_at: now,
        }
    }

    /// Takes one token if there is one.
    pub fn try_take(&mut self, now: Mono) -> bool {
        self.fill(now);
        let Some(rest) = self.milli_tokens.checked_sub(1000) else {
            return false;
        };
        self.milli_tokens = rest;
        true
    }

    /// Takes `count` tokens even where there are fewer: what is missing is owed, and waited for the next time.
    pub fn charge(&mut self, now: Mono, count: u32) {
        self.fill(now);
        let cost = u64::from(count).saturating_mul(1000);
        let missing = cost.saturating_sub(self.milli_tokens);
        self.milli_tokens = self.milli_tokens.saturating_sub(cost);
        self.milli_debt = self.milli_debt.saturating_add(missing);
    }

    /// How long until there is a token, in ms; 0 if there is one now.
    pub fn wait_ms(&mut self, now: Mono) -> u64 {
        self.fill(now);
        let missing = 1000_u64
            .saturating_add(self.milli_debt)
            .saturating_sub(self.milli_tokens);
        missing.div_ceil(self.per_second.max(1))
    }

    fn fill(&mut self, now: Mono) {
        let elapsed_ms = now.saturating_sub(self.filled_at);
        let earned = elapsed_ms.saturating_mul(self.per_second);
        let left = earned.saturating_sub(self.milli_debt);
        self.milli_debt = self.milli_debt.saturating_sub(earned);
        let filled = self.milli_tokens.saturating_add(left);
        self.milli_tokens = filled.min(self.burst.saturating_mul(1000));
        self.filled_at = self.filled_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = Bucket::new(0, 2, 3);
        assert_eq!((0..5).filter(|_| bucket.try_take(0)).count(), 3);
        assert_eq!(bucket.wait_ms(0), 500);
        assert!(!bucket.try_take(499));
        assert!(bucket.try_take(500));
        assert_eq!((0..9).filter(|_| bucket.try_take(60_000)).count(), 3);
    }

    #[test]
    fn what_is_charged_beyond_the_tokens_is_waited_for() {
        let mut bucket = Bucket::new(0, 1000, 2);
        bucket.charge(0, 5);
        assert_eq!(bucket.wait_ms(0), 4, "three owed, and one to take");
        assert!(!bucket.try_take(3));
        assert!(bucket.try_take(4));
        // Over time no more than the rate, however much each charge takes.
        let mut now = 4;
        for _ in 0..100 {
            now += bucket.wait_ms(now);
            bucket.charge(now, 5);
        }
        assert!(now >= 490, "500 tokens in {now} ms");
    }
}
