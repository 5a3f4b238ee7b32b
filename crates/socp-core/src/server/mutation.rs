//! Rules left out on purpose, to show that the simulator's oracle would notice (docs/TESTING.md).
//!
//! Only with the feature `mutations`, which nothing that ships switches on. Without it every question here is a
//! constant `false`.

use super::Server;

/// One rule of the protocol that a mutated server breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Nothing is ever a duplicate (PROTOCOL I.7).
    NoSeenCache,
    /// Gossip goes back to where it came from and to its origin (PROTOCOL I.5).
    ForwardToOrigin,
    /// Any key will do for a known server (PROTOCOL I.4).
    NoPinCheck,
    /// A removal counts whatever the user's mapping says (SOCP §8.2).
    RemoveWithoutMapping,
    /// Introductions count without proof (PROTOCOL II.2).
    NoProofCheck,
    /// Gossip about a local user counts (PROTOCOL I.5).
    GossipBeatsLocal,
    /// What a peer's batches leave out is not missed (PROTOCOL II.8).
    NoGapCheck,
    /// What is not on the disk yet is acknowledged (PROTOCOL II.6).
    AckBeforeDisk,
    /// What waits for a server goes with the link to it (PROTOCOL II.6).
    ForgetOutbound,
    /// Mail goes as soon as one device has it (PROTOCOL II.6).
    OneDeviceIsEnough,
}

impl Server {
    /// Breaks a rule from now on.
    #[cfg(feature = "mutations")]
    pub fn mutate(&mut self, mutation: Mutation) {
        self.mutation = Some(mutation);
    }

    /// Whether this rule is broken here.
    #[cfg(feature = "mutations")]
    pub(super) fn is_mutated(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// Whether this rule is broken here: never, in what ships.
    #[cfg(not(feature = "mutations"))]
    #[expect(clippy::unused_self, reason = "its twin looks")]
    pub(super) const fn is_mutated(&self, _mutation: Mutation) -> bool {
        false
    }
}
