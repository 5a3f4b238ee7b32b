//! The clocks of this machine.

use socp_core::Now;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Both clocks of this machine.
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(super) fn now(&self) -> Now {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: ms(self.start.elapsed()),
            unix: ms(unix),
        }
    }

    pub(super) fn instant(&self, mono: u64) -> Instant {
        self.start + Duration::from_millis(mono)
    }
}
