//! The public channel (SOCP §9.3, §15, PROTOCOL I.8).

use socp_proto::UserId;
use std::collections::BTreeSet;

/// The group `public` as this server counts it.
#[derive(Debug, Default)]
pub(super) struct Channel {
    version: u64,
    /// Users of ours who are members.
    members: BTreeSet<UserId>,
}

impl Channel {
    pub(super) fn new(version: u64, members: Vec<UserId>) -> Self {
        Self {
            version,
            members: members.into_iter().collect(),
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }
}
