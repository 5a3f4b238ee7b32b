//! Whose names look alike, among those whose keys are pinned.

use super::io::UserPin;
use crate::names::likeness;
use socp_proto::UserId;
use std::collections::{BTreeMap, BTreeSet};

/// The pinned users by what their names look like. As many as there are pins.
#[derive(Debug, Default)]
pub(super) struct Likenesses {
    users: BTreeMap<String, BTreeSet<UserId>>,
}

impl Likenesses {
    pub(super) fn of<'a>(pins: impl Iterator<Item = &'a UserPin>) -> Self {
        let mut likenesses = Self::default();
        pins.for_each(|pin| likenesses.add(pin));
        likenesses
    }

    pub(super) fn add(&mut self, pin: &UserPin) {
        if let Some(name) = &pin.name {
            self.users.entry(likeness(name)).or_default().insert(pin.user.clone());
        }
    }

    /// Somebody else whose name looks like this one.
    pub(super) fn other(&self, user: &UserId, name: &str) -> Option<&UserId> {
        if self.users.is_empty() {
            return None;
        }
        self.users.get(&likeness(name))?.iter().find(|other| *other != user)
    }
}
