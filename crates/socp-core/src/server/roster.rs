//! Telling our users who is there in batches: everyone to whoever is new, then numbered changes (PROTOCOL II.8).
//!
//! A change costs each link a frame of its own to the letter; here one frame tells all that has changed since the last
//! one, and is the same for everyone. Who is new gets pages of everyone, each the same for all who wait for it.

use super::Server;
use super::directory::serialised_bytes;
use super::io::{LinkId, Output};
use super::timers::Timer;
use crate::clock::{Mono, Now};
use socp_proto::limits::{FRAME_BYTES_MAX, PRESENCE_CHANGES_COUNT_MAX, PRESENCE_INTERVAL_MS, PRESENCE_LOG_COUNT_MAX};
use socp_proto::payload::{OnlineUser, Presence, PresenceRequest};
use socp_proto::{Address, Payload, UserId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Batches sent to everyone at once; what has changed beyond them waits for the next time.
const BATCHES_AT_ONCE_MAX: usize = 2;
/// Links told for each millisecond that passes between two batches, so that telling takes a small part of a core.
const LINKS_PER_MS: u64 = 10;
/// Largest part of a frame that users take.
const FRAME_USERS_BYTES_MAX: usize = FRAME_BYTES_MAX / 8;

/// What has changed, and who has been told how much of it.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Tells the numbering of this run from others.
    epoch: u64,
    /// The number of the last change.
    last: u64,
    /// Up to where everyone who is up to date has been told.
    told: u64,
    /// The changes up to here are not known any more.
    forgotten: u64,
    /// Who changed, by the number of the last change of each.
    log: BTreeMap<u64, UserId>,
    numbers: BTreeMap<UserId, u64>,
    /// Links of users that take each change in a frame of its own.
    to_the_letter: BTreeSet<LinkId>,
    up_to_date: BTreeSet<LinkId>,
    behind: BTreeMap<LinkId, Behind>,
    told_at: Option<Mono>,
    is_due: bool,
}

/// A link that has still to be told what others know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Behind {
    /// What has changed since this number.
    Changes { since: u64 },
    /// Everyone, and then what has changed since that began.
    List {
        page: u64,
        after: Option<UserId>,
        since: u64,
    },
    /// What is on its way, then this.
    Waits(Box<Self>),
}

impl Behind {
    fn everyone(since: u64) -> Self {
        let (page, after) = (0, None);
        Self::List { page, after, since }
    }

    /// The number from which changes will be wanted.
    fn since(&self) -> u64 {
        match self {
            Self::Changes { since } | Self::List { since, .. } => *since,
            Self::Waits(then) => then.since(),
        }
    }
}

impl Roster {
    pub(super) fn new(now: Now) -> Self {
        Self {
            epoch: now.unix,
            ..Self::default()
        }
    }

    /// The links of users that are told each change by itself.
    pub(super) fn links_to_the_letter(&self) -> Vec<LinkId> {
        self.to_the_letter.iter().copied().collect()
    }

    fn has(&self, link: LinkId) -> bool {
        self.up_to_date.contains(&link) || self.behind.contains_key(&link)
    }

    pub(super) fn forget(&mut self, link: LinkId) {
        self.to_the_letter.remove(&link);
        self.up_to_date.remove(&link);
        self.behind.remove(&link);
    }

    /// Writes down that a user has come, changed or left. While nobody is told, nothing is kept.
    fn note(&mut self, user: &UserId) {
        self.last = self.last.saturating_add(1);
        if self.up_to_date.is_empty() && self.behind.is_empty() {
            self.log.clear();
            self.numbers.clear();
            self.told = self.last;
            self.forgotten = self.last;
            return;
        }
        if let Some(before) = self.numbers.insert(user.clone(), self.last) {
            self.log.remove(&before);
        }
        self.log.insert(self.last, user.clone());
        if self.log.len() > PRESENCE_LOG_COUNT_MAX
            && let Some((number, oldest)) = self.log.pop_first()
        {
            self.numbers.remove(&oldest);
            self.forgotten = number;
        }
    }

    /// The next changes behind a number, up to another, and the number that they lead to.
    fn changes(&self, since: u64, until: u64) -> (Vec<UserId>, u64) {
        let wanted = self.log.range((Bound::Excluded(since), Bound::Included(until)));
        let mut wanted = wanted.take(PRESENCE_CHANGES_COUNT_MAX.saturating_add(1));
        let mut users = Vec::new();
        let mut reached = since;
        for (number, user) in wanted.by_ref().take(PRESENCE_CHANGES_COUNT_MAX) {
            users.push(user.clone());
            reached = *number;
        }
        let is_all = wanted.next().is_none();
        (users, if is_all { until } else { reached })
    }

    /// How long after one batch the next may follow.
    fn interval_ms(&self) -> u64 {
        let links = u64::try_from(self.up_to_date.len()).unwrap_or(u64::MAX);
        (links / LINKS_PER_MS).max(PRESENCE_INTERVAL_MS)
    }

    /// Those behind who can be told something, together where they wait for the same.
    fn waiting(&self) -> BTreeMap<Behind, Vec<LinkId>> {
        let mut waiting: BTreeMap<Behind, Vec<LinkId>> = BTreeMap::new();
        for (link, state) in &self.behind {
            if !matches!(state, Behind::Waits(_)) {
                waiting.entry(state.clone()).or_default().push(*link);
            }
        }
        waiting
    }

    /// Whoever wants changes that are forgotten is told everyone.
    fn begin_again_where_forgotten(&mut self) {
        if self.told < self.forgotten {
            let lost = std::mem::take(&mut self.up_to_date);
            self.told = self.last;
            let everyone = lost.into_iter().map(|link| (link, Behind::everyone(self.last)));
            self.behind.extend(everyone);
        }
        let (forgotten, told) = (self.forgotten, self.told);
        for state in self.behind.values_mut() {
            if state.since() >= forgotten {
                continue;
            }
            let everyone = Behind::everyone(told);
            *state = match state {
                Behind::Waits(_) => Behind::Waits(Box::new(everyone)),
                Behind::Changes { .. } | Behind::List { .. } => everyone,
            };
        }
    }
}

impl Server {
    /// A user's link is told who is there: everyone first, then each change. `in_batches`: it takes many at once.
    pub(super) fn join_roster(&mut self, now: Now, link: LinkId, in_batches: bool) {
        if !in_batches {
            self.roster.to_the_letter.insert(link);
            return self.begin_telling(now, link);
        }
        let since = self.roster.told;
        self.roster.behind.insert(link, Behind::everyone(since));
        self.tell_roster_soon(now);
    }

    /// A user has come, changed or left: whoever takes batches hears of it with the next one.
    pub(super) fn note_in_roster(&mut self, now: Now, user: &UserId) {
        self.roster.note(user);
        if self.roster.told < self.roster.last {
            self.tell_roster_soon(now);
        }
    }

    fn tell_roster_soon(&mut self, now: Now) {
        if std::mem::replace(&mut self.roster.is_due, true) {
            return;
        }
        let next = self
            .roster
            .told_at
            .map(|then| then.saturating_add(self.roster.interval_ms()));
        let at = next.map_or(now.mono, |next| next.max(now.mono));
        self.timers.set(at, Timer::Roster);
    }

    /// `PRESENCE_REQUEST`: a link has missed something.
    pub(super) fn on_presence_request(&mut self, now: Now, link: LinkId, request: PresenceRequest) -> bool {
        let roster = &mut self.roster;
        if !roster.has(link) {
            return false;
        }
        let since = request.from_seq.checked_sub(1);
        let is_known = |since: &u64| request.epoch == roster.epoch && (roster.forgotten..=roster.told).contains(since);
        let wanted = match since.filter(is_known) {
            Some(since) => Behind::Changes { since },
            None => Behind::everyone(roster.told),
        };
        let wanted = match roster.behind.get(&link) {
            Some(Behind::Waits(_)) => Behind::Waits(Box::new(wanted)),
            Some(Behind::Changes { .. } | Behind::List { .. }) | None => wanted,
        };
        roster.up_to_date.remove(&link);
        roster.behind.insert(link, wanted);
        self.tell_roster_soon(now);
        true
    }

    /// What a link was told is on its way; whether that was for the roster.
    pub(super) fn on_roster_flushed(&mut self, now: Now, link: LinkId) -> bool {
        if let Some(Behind::Waits(then)) = self.roster.behind.get(&link) {
            let then = Behind::clone(then);
            self.roster.behind.insert(link, then);
            self.tell_roster_soon(now);
        }
        self.roster.has(link)
    }

    /// Tells the changes to those who are up to date, and the others something of what they lack.
    pub(super) fn on_roster_due(&mut self, now: Now) {
        self.roster.is_due = false;
        self.roster.told_at = Some(now.mono);
        self.roster.begin_again_where_forgotten();
        self.tell_changes(now);
        for (state, links) in self.roster.waiting() {
            self.tell_behind(now, state, &links);
        }
        let is_ready = |state: &Behind| !matches!(state, Behind::Waits(_));
        if self.roster.told < self.roster.last || self.roster.behind.values().any(is_ready) {
            self.tell_roster_soon(now);
        }
    }

    fn tell_changes(&mut self, now: Now) {
        for batch in 1..=BATCHES_AT_ONCE_MAX {
            let since = self.roster.told;
            let last = self.roster.last;
            if since >= last {
                return;
            }
            let links: Vec<LinkId> = self.roster.up_to_date.iter().copied().collect();
            let reached = self.send_changes(now, &links, since, last);
            self.roster.told = reached;
            if batch == BATCHES_AT_ONCE_MAX && reached < last {
                // So much happens that each goes on only once what it was told has left.
                self.wait_for_flush(&links, &Behind::Changes { since: reached });
            }
        }
    }

    /// Tells one state of those behind its next frame.
    fn tell_behind(&mut self, now: Now, state: Behind, links: &[LinkId]) {
        let next = match state {
            Behind::Waits(_) => return,
            Behind::List { page, after, since } => self.send_page(now, links, page, after.as_ref(), since),
            Behind::Changes { since } => Behind::Changes { since },
        };
        let told = self.roster.told;
        let next = match next {
            Behind::Changes { since } if since < told => {
                let since = self.send_changes(now, links, since, told);
                Behind::Changes { since }
            }
            other @ (Behind::Changes { .. } | Behind::List { .. } | Behind::Waits(_)) => other,
        };
        if next.since() >= told && matches!(next, Behind::Changes { .. }) {
            for link in links {
                self.roster.behind.remove(link);
                self.roster.up_to_date.insert(*link);
            }
        } else {
            self.wait_for_flush(links, &next);
        }
    }

    fn wait_for_flush(&mut self, links: &[LinkId], then: &Behind) {
        for link in links {
            self.roster.up_to_date.remove(link);
            self.roster.behind.insert(*link, Behind::Waits(Box::new(then.clone())));
            self.outputs.push_back(Output::Fence { link: *link });
        }
    }

    /// Sends one frame of changes; the number that it leads to.
    fn send_changes(&mut self, now: Now, links: &[LinkId], since: u64, until: u64) -> u64 {
        let (users, mut reached) = self.roster.changes(since, until);
        let (mut add, mut remove, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
        for user in users {
            match self.people.get(&user).filter(|person| person.is_online()) {
                Some(person) => {
                    let online = self.online_user(&user, person);
                    bytes = bytes.saturating_add(serialised_bytes(&online));
                    add.push(online);
                }
                None => remove.push(user.clone()),
            }
            if bytes > FRAME_USERS_BYTES_MAX {
                reached = self.roster.numbers.get(&user).copied().unwrap_or(reached);
                break;
            }
        }
        let presence = Presence {
            from_seq: since.saturating_add(1),
            seq: reached,
            add,
            remove,
            ..self.empty_presence()
        };
        self.send(links, now, Address::everyone(), &Payload::Presence(presence));
        reached
    }

    /// Sends one page of everyone; what those who got it want next.
    fn send_page(&mut self, now: Now, links: &[LinkId], page: u64, after: Option<&UserId>, since: u64) -> Behind {
        let mut add: Vec<OnlineUser> = Vec::new();
        let (mut bytes, mut more) = (0_usize, false);
        for (user, person) in self.people.online_after(after) {
            if add.len() >= PRESENCE_CHANGES_COUNT_MAX || bytes > FRAME_USERS_BYTES_MAX {
                more = true;
                break;
            }
            let online = self.online_user(user, person);
            bytes = bytes.saturating_add(serialised_bytes(&online));
            add.push(online);
        }
        let after = add.last().map(|online| online.user_id.clone());
        let presence = Presence {
            from_seq: 0,
            seq: since,
            page,
            more,
            add,
            ..self.empty_presence()
        };
        self.send(links, now, Address::everyone(), &Payload::Presence(presence));
        if more {
            let page = page.saturating_add(1);
            Behind::List { page, after, since }
        } else {
            Behind::Changes { since }
        }
    }

    fn empty_presence(&self) -> Presence {
        Presence {
            server_id: self.config.server_id.clone(),
            epoch: self.roster.epoch,
            from_seq: 0,
            seq: 0,
            page: 0,
            more: false,
            add: Vec::new(),
            remove: Vec::new(),
        }
    }
}
