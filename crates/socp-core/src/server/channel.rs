//! The group `public`: who is a member, and its version (SOCP §9.3, §15, PROTOCOL I.8).
//!
//! Every user whose home is here is a member for life. Each server counts the version for itself and takes the higher
//! of its own number and what it hears; what happens within a second is told together.

use super::Server;
use super::io::{AfterSave, Note, Record};
use super::timers::Timer;
use crate::clock::Now;
use socp_proto::limits::{CHANNEL_TELL_WAIT_MS, CHANNEL_VERSION_MAX, CHANNEL_VERSION_STEP_MAX};
use socp_proto::payload::{ChannelAdd, ChannelUpdated};
use socp_proto::{Address, Payload, UserId};
use std::collections::BTreeSet;

/// The group `public` as this server counts it.
#[derive(Debug, Default)]
pub(super) struct Channel {
    version: u64,
    /// Users of ours who are members.
    members: BTreeSet<UserId>,
    /// Who joined since it was last told.
    joined: Vec<UserId>,
    /// The version that was last told, while another waits to be.
    told: Option<u64>,
}

impl Channel {
    pub(super) fn new(version: u64, members: Vec<UserId>) -> Self {
        Self {
            version,
            members: members.into_iter().collect(),
            ..Self::default()
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }
}

impl Server {
    /// A user of ours was let in: a member, from the first time on.
    pub(super) fn join_channel(&mut self, now: Now, user: &UserId) {
        if !self.channel.members.insert(user.clone()) {
            return;
        }
        self.tell_channel_later(now);
        self.channel.version = self.channel.version.saturating_add(1).min(CHANNEL_VERSION_MAX);
        self.channel.joined.push(user.clone());
        let record = Record::Member {
            user: user.clone(),
            version: self.channel.version,
            at: now.unix,
        };
        self.save(record, AfterSave::Nothing);
    }

    /// A user of ours is no more.
    pub(super) fn leave_channel(&mut self, user: &UserId) {
        self.channel.members.remove(user);
        self.channel.joined.retain(|joined| joined != user);
    }

    /// `PUBLIC_CHANNEL_UPDATED` from a peer.
    pub(super) fn on_channel_updated(&mut self, now: Now, version: u64) {
        let believed = self.channel.version.saturating_add(CHANNEL_VERSION_STEP_MAX);
        if version > self.channel.version && version <= believed.min(CHANNEL_VERSION_MAX) {
            self.tell_channel_later(now);
            self.channel.version = version;
        }
    }

    fn tell_channel_later(&mut self, now: Now) {
        if self.channel.told.is_none() {
            self.channel.told = Some(self.channel.version);
            let at = now.mono.saturating_add(CHANNEL_TELL_WAIT_MS);
            self.timers.set(at, Timer::Channel);
        }
    }

    /// Peers are told who joined here, our users that the version is another.
    pub(super) fn on_channel_due(&mut self, now: Now) {
        let Some(told) = self.channel.told.take() else {
            return;
        };
        let version = self.channel.version;
        let joined = std::mem::take(&mut self.channel.joined);
        self.note(Note::ChannelVersion { version });
        let updated = Payload::PublicChannelUpdated(ChannelUpdated {
            version,
            wraps: Vec::new(),
        });
        let users = self.people.local_links();
        self.send(&users, now, Address::everyone(), &updated);
        if joined.is_empty() {
            return self.save(Record::ChannelVersion(version), AfterSave::Nothing);
        }
        let peers = self.answered_peers();
        let add = ChannelAdd {
            add: joined,
            if_version: Some(told),
        };
        self.send(&peers, now, Address::everyone(), &Payload::PublicChannelAdd(add));
        self.send(&peers, now, Address::everyone(), &updated);
    }
}
