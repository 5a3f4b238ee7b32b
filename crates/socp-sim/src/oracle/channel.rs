//! The version of the group `public`: servers that are linked to each other agree on it (PROTOCOL I.8).
//!
//! A server takes the higher of what it counts and what its peers tell, tells them only when somebody joins at it, and
//! says nothing again on a new link. What a storm kept from some is therefore missing until the next newcomer, but once
//! every server has had one in the calm, that of the highest has told all the others. Observers are such newcomers.

use super::{Oracle, host_name};
use crate::net::Host;
use crate::report::Rule;
use std::collections::BTreeMap;

impl Oracle {
    /// What each server, each linked to all others, told its observer last.
    pub(crate) fn on_versions(&mut self, told: &BTreeMap<Host, u64>) {
        if !self.is_calm() || told.len() < self.honest {
            return;
        }
        self.stats.versions_judged += 1;
        let highest = told.iter().max_by_key(|(_, version)| **version);
        let Some((best, highest)) = highest else { return };
        for (host, version) in told.iter().filter(|(_, version)| *version < highest) {
            let what = format!("h{host} has version {version} of the group, h{best} {highest}");
            self.violate(Rule::Disagreed, what, &[host_name(*host), host_name(*best)]);
        }
    }
}
