//! How fast this machine is right now: RSA-4096 and Ed25519, one thread, by processor time, so that figures taken on
//! different days or machines can be compared as ratios.

use super::proc::float;
use aws_lc_rs::signature::Ed25519KeyPair;
use color_eyre::eyre::{Result, eyre};
use rustix::time::{ClockId, clock_gettime};
use socp_crypto::PrivateKey;
use std::time::Duration;

/// Processor time that each turn of each operation takes, at most.
const SLICE_MAX: Duration = Duration::from_millis(500);

/// Operations, and the processor time that they took.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    count: u64,
    took: Duration,
}

impl Tally {
    fn per_cpu_s(self) -> f64 {
        float(self.count) / self.took.as_secs_f64()
    }
}

/// What was measured, over all turns.
#[derive(Debug)]
pub(super) struct Machine {
    slice: Duration,
    sign: Tally,
    verify: Tally,
    ed25519: Tally,
}

impl Machine {
    /// Turns that are short beside a run of this length.
    pub(super) fn beside(run: Duration) -> Self {
        Self {
            slice: (run / 20).min(SLICE_MAX),
            sign: Tally::default(),
            verify: Tally::default(),
            ed25519: Tally::default(),
        }
    }

    /// One turn of each; called before and after what is being measured, since a shared machine changes its pace.
    pub(super) fn measure(&mut self, key: &PrivateKey) -> Result<()> {
        let message = [0x5a; 1500];
        let signature = key.sign(&message)?;
        let pair = Ed25519KeyPair::generate().map_err(|_| eyre!("no Ed25519 key could be made"))?;
        let slice = self.slice;
        time(slice, &mut self.sign, 1, || key.sign(&message).map(drop))?;
        time(slice, &mut self.verify, 16, || {
            key.public_key().verify(&message, &signature)
        })?;
        time(slice, &mut self.ed25519, 64, || pair.try_sign(&message).map(drop))?;
        Ok(())
    }

    pub(super) fn rsa_sign_per_cpu_s(&self) -> f64 {
        self.sign.per_cpu_s()
    }

    pub(super) fn rsa_verify_per_cpu_s(&self) -> f64 {
        self.verify.per_cpu_s()
    }

    pub(super) fn ed25519_sign_per_cpu_s(&self) -> f64 {
        self.ed25519.per_cpu_s()
    }
}

/// Repeats `work` for a slice, `batch` times between looks at the clock.
fn time<E>(slice: Duration, tally: &mut Tally, batch: u64, mut work: impl FnMut() -> Result<(), E>) -> Result<()>
where
    color_eyre::Report: From<E>,
{
    let begun = thread_cpu();
    loop {
        for _ in 0..batch {
            work()?;
        }
        tally.count += batch;
        let took = thread_cpu().saturating_sub(begun);
        if took >= slice {
            tally.took += took;
            return Ok(());
        }
    }
}

/// Processor time of this thread.
fn thread_cpu() -> Duration {
    cpu(ClockId::ThreadCPUTime)
}

/// Processor time of this process.
pub(super) fn process_cpu() -> Duration {
    cpu(ClockId::ProcessCPUTime)
}

fn cpu(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}
