//! Budgets per link (PROTOCOL I.11).

use crate::clock::Mono;

/// A token bucket: so many at once after a rest, so many per second over time.
#[derive(Debug, Clone)]
pub struct Bucket {
    per_second: u64,
    burst: u64,
    /// Thousandths of a token.
    milli_tokens: u64,
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

    /// How long until there is a token, in ms; 0 if there is one now.
    pub fn wait_ms(&mut self, now: Mono) -> u64 {
        self.fill(now);
        let missing = 1000_u64.saturating_sub(self.milli_tokens);
        missing.div_ceil(self.per_second.max(1))
    }

    fn fill(&mut self, now: Mono) {
        let elapsed_ms = now.saturating_sub(self.filled_at);
        let filled = self
            .milli_tokens
            .saturating_add(elapsed_ms.saturating_mul(self.per_second));
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
}
