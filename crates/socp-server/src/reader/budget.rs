//! How fast one link may be read (PROTOCOL I.11). What is over it waits where it is, before the parser and the pool.

use crate::link::LinkRole;
use crate::settings::Budgets;
use socp_core::server::Bucket;
use socp_proto::limits::DELEGATED_PER_VERIFICATION;

/// A long frame fills others' queues, and takes as long to read and to hash, as many short ones do: each so many bytes
/// beyond the first count for one frame more.
const FREE_BYTES: usize = 4096;
const BYTES_PER_FRAME: usize = 1024;

/// What one link has left; without limits before it has a role.
#[derive(Debug, Default)]
pub(super) struct Budget {
    is_set: bool,
    /// Signatures by delegated keys that are not charged yet.
    delegated: u32,
    frames: Option<Bucket>,
    verifications: Option<Bucket>,
}

impl Budget {
    /// How long the next frame has to wait, in ms.
    pub(super) fn wait_ms(&mut self, now: u64, role: Option<&LinkRole>, budgets: &Budgets) -> u64 {
        if !self.is_set && role.is_some() {
            self.is_set = true;
            let is_user = matches!(role, Some(LinkRole::User(_)));
            let frames = if is_user { budgets.user } else { budgets.peer };
            self.frames = frames.map(|(per_second, burst)| Bucket::new(now, per_second, burst));
            let verifications = budgets.verifications;
            self.verifications = verifications.map(|per_second| Bucket::new(now, per_second, per_second));
        }
        let buckets = [&mut self.frames, &mut self.verifications].into_iter().flatten();
        buckets.map(|bucket| bucket.wait_ms(now)).max().unwrap_or(0)
    }

    /// A frame of so many bytes is read.
    pub(super) fn charge_frame(&mut self, now: u64, bytes: usize) {
        let parts = bytes.saturating_sub(FREE_BYTES) / BYTES_PER_FRAME;
        if let Some(frames) = &mut self.frames {
            frames.charge(now, u32::try_from(parts).unwrap_or(u32::MAX).saturating_add(1));
        }
    }

    /// So many signatures are about to be verified.
    pub(super) fn charge_verifications(&mut self, now: u64, count: u32) {
        if let Some(verifications) = &mut self.verifications {
            verifications.charge(now, count);
        }
    }

    /// A signature by a delegated key is about to be verified.
    pub(super) fn charge_delegated(&mut self, now: u64) {
        self.delegated = self.delegated.saturating_add(1);
        if self.delegated >= DELEGATED_PER_VERIFICATION {
            self.delegated = 0;
            self.charge_verifications(now, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGETS: Budgets = Budgets {
        user: Some((200, 600)),
        peer: Some((20_000, 20_000)),
        verifications: Some(1_000),
    };

    fn peer() -> LinkRole {
        LinkRole::Peer("srv-b".try_into().unwrap())
    }

    #[test]
    fn a_flood_of_signatures_is_read_as_fast_as_it_may_be_verified() {
        let (mut budget, role) = (Budget::default(), peer());
        let (mut now, mut verified) = (5, 0_u64);
        // Ten seconds of frames with two signatures each, as fast as the link may be read.
        while now < 10_005 {
            now += budget.wait_ms(now, Some(&role), &BUDGETS);
            budget.charge_frame(now, 2_000);
            budget.charge_verifications(now, 2);
            verified += 2;
        }
        // What may come at once, and a thousand a second after that.
        assert!((10_990..=11_010).contains(&verified), "{verified}");
    }

    #[test]
    fn frames_without_signatures_wait_for_the_budget_of_frames_alone() {
        let (mut budget, role) = (Budget::default(), peer());
        for _ in 0..20_000 {
            assert_eq!(budget.wait_ms(1, Some(&role), &BUDGETS), 0);
            budget.charge_frame(1, 5_000);
        }
        assert!(budget.wait_ms(1, Some(&role), &BUDGETS) > 0);
    }

    #[test]
    fn a_servers_long_frames_count_as_many() {
        let (mut budget, role) = (Budget::default(), peer());
        let (mut now, mut bytes) = (5, 0_u64);
        while now < 10_005 {
            now += budget.wait_ms(now, Some(&role), &BUDGETS);
            budget.charge_frame(now, 1_000_000);
            bytes += 1_000_000;
        }
        // 20 MiB at once, and as much in each second.
        assert!((220_000_000..=230_000_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn delegated_signatures_are_verified_ten_times_as_fast_and_no_faster() {
        let (mut budget, role) = (Budget::default(), peer());
        let (mut now, mut verified) = (5, 0_u64);
        while now < 10_005 {
            now += budget.wait_ms(now, Some(&role), &BUDGETS);
            budget.charge_frame(now, 2_000);
            budget.charge_delegated(now);
            verified += 1;
        }
        assert!((109_900..=110_100).contains(&verified), "{verified}");
    }

    #[test]
    fn nothing_is_counted_before_there_is_a_role_or_without_limits() {
        let mut budget = Budget::default();
        let unlimited = Budgets {
            user: None,
            peer: None,
            verifications: None,
        };
        for (role, budgets) in [(None, &BUDGETS), (Some(peer()), &unlimited)] {
            for _ in 0..100_000 {
                assert_eq!(budget.wait_ms(1, role.as_ref(), budgets), 0);
                budget.charge_frame(1, 4_000);
                budget.charge_verifications(1, 4);
                budget.charge_delegated(1);
            }
        }
    }
}
