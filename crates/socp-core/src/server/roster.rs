//! Telling who is there in batches: everyone to whoever is new, then numbered changes (PROTOCOL II.8).
//!
//! A change costs each link a frame of its own to the letter; here one frame tells all that has changed since the last
//! one, and is the same for everyone. Who is new gets pages of everyone, each the same for all who wait for it.
//!
//! Our users hear so of everyone we know, our peers of our own users. `batch` makes the frames.

use super::Server;
use super::io::{LinkId, Output};
use super::people::Person;
use super::timers::Timer;
use crate::clock::{Mono, Now};
use socp_proto::limits::{
    LETTER_DEPARTURES_MS, PRESENCE_CHANGES_COUNT_MAX, PRESENCE_INTERVAL_MAX_MS, PRESENCE_INTERVAL_MS,
    PRESENCE_LOG_COUNT_MAX, PRESENCE_PEERS_INTERVAL_MS,
};
use socp_proto::payload::PresenceRequest;
use socp_proto::{Address, Payload, UserId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Batches sent to everyone at once; what has changed beyond them waits for the next time.
const BATCHES_AT_ONCE_MAX: usize = 2;

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Audience {
    /// Our users: of everyone.
    Users,
    /// Our peers: of our users.
    Peers,
}

/// How a user's link is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    /// Each change in a frame of its own.
    ToTheLetter,
    /// Many at once. `known`: what the program still knows from an earlier link.
    InBatches { known: Option<PresenceRequest> },
}

/// What each audience has been told.
#[derive(Debug)]
pub(super) struct Rosters {
    pub(super) users: Roster,
    pub(super) peers: Roster,
}

/// What has changed, and who has been told how much of it.
#[derive(Debug)]
pub(super) struct Roster {
    audience: Audience,
    /// Tells the numbering of this run from others.
    epoch: u64,
    /// The number of the last change.
    last: u64,
    /// Up to where everyone who is up to date has been told.
    told: u64,
    /// The changes up to here are not known any more.
    forgotten: u64,
    /// Whether somebody may come back and ask for what has changed meanwhile, though nobody is there now.
    is_missed: bool,
    /// Who changed, by the number of the last change of each.
    log: BTreeMap<u64, Changed>,
    numbers: BTreeMap<UserId, u64>,
    /// Links of users that take each change in a frame of its own.
    to_the_letter: BTreeSet<LinkId>,
    up_to_date: BTreeSet<LinkId>,
    behind: BTreeMap<LinkId, Behind>,
    /// Links that want each change by itself, once they know what the others know.
    leaving: BTreeSet<LinkId>,
    /// When the last changes were told, and when something to those behind.
    told_at: Option<Mono>,
    caught_up_at: Option<Mono>,
    /// When the next will be.
    due_at: Option<Mono>,
}

/// A user who has come, changed or left.
#[derive(Debug, Clone)]
pub(super) struct Changed {
    pub(super) user: UserId,
    /// The `ts` of that.
    pub(super) ts: u64,
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

impl Rosters {
    pub(super) fn new(now: Now) -> Self {
        Self {
            users: Roster::new(now, Audience::Users),
            peers: Roster::new(now, Audience::Peers),
        }
    }

    pub(super) fn of(&self, audience: Audience) -> &Roster {
        match audience {
            Audience::Users => &self.users,
            Audience::Peers => &self.peers,
        }
    }

    fn of_mut(&mut self, audience: Audience) -> &mut Roster {
        match audience {
            Audience::Users => &mut self.users,
            Audience::Peers => &mut self.peers,
        }
    }

    pub(super) fn forget(&mut self, link: LinkId) {
        self.users.forget(link);
        self.peers.forget(link);
    }
}

impl Roster {
    fn new(now: Now, audience: Audience) -> Self {
        Self {
            audience,
            epoch: now.unix,
            last: 0,
            told: 0,
            forgotten: 0,
            is_missed: false,
            log: BTreeMap::new(),
            numbers: BTreeMap::new(),
            to_the_letter: BTreeSet::new(),
            up_to_date: BTreeSet::new(),
            behind: BTreeMap::new(),
            leaving: BTreeSet::new(),
            told_at: None,
            caught_up_at: None,
            due_at: None,
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The number of a user's last change.
    pub(super) fn number_of(&self, user: &UserId) -> Option<u64> {
        self.numbers.get(user).copied()
    }

    /// The links of users that are told each change by itself.
    pub(super) fn links_to_the_letter(&self) -> Vec<LinkId> {
        self.to_the_letter.iter().copied().collect()
    }

    /// Whether a link is told in batches.
    pub(super) fn has(&self, link: LinkId) -> bool {
        self.up_to_date.contains(&link) || self.behind.contains_key(&link)
    }

    fn forget(&mut self, link: LinkId) {
        self.to_the_letter.remove(&link);
        self.up_to_date.remove(&link);
        self.behind.remove(&link);
        self.leaving.remove(&link);
    }

    /// Writes down that a user has come, changed or left. Until somebody is told, and while no peer is, nothing is kept.
    fn note(&mut self, user: &UserId, ts: u64) {
        self.last = self.last.saturating_add(1);
        if self.up_to_date.is_empty() && self.behind.is_empty() && !self.is_missed {
            self.log.clear();
            self.numbers.clear();
            self.told = self.last;
            self.forgotten = self.last;
            return;
        }
        if let Some(before) = self.numbers.insert(user.clone(), self.last) {
            self.log.remove(&before);
        }
        let user = user.clone();
        self.log.insert(self.last, Changed { user, ts });
        if self.log.len() > PRESENCE_LOG_COUNT_MAX
            && let Some((number, oldest)) = self.log.pop_first()
        {
            self.numbers.remove(&oldest.user);
            self.forgotten = number;
        }
    }

    /// The next changes behind a number, up to another, and the number that they lead to.
    pub(super) fn changes(&self, since: u64, until: u64) -> (Vec<Changed>, u64) {
        let wanted = self.log.range((Bound::Excluded(since), Bound::Included(until)));
        let mut wanted = wanted.take(PRESENCE_CHANGES_COUNT_MAX.saturating_add(1));
        let mut changed = Vec::new();
        let mut reached = since;
        for (number, change) in wanted.by_ref().take(PRESENCE_CHANGES_COUNT_MAX) {
            changed.push(change.clone());
            reached = *number;
        }
        let is_all = wanted.next().is_none();
        (changed, if is_all { until } else { reached })
    }

    /// Who has changed lately, the last first.
    fn recent(&self, since: u64) -> Vec<Changed> {
        let recent = self.log.values().rev().take(PRESENCE_CHANGES_COUNT_MAX);
        let recent = recent.filter(|change| change.ts >= since);
        recent.cloned().collect()
    }

    /// What whoever says how much it knows is to be told: what follows, where that is still known, else everyone.
    fn wanted(&self, request: PresenceRequest) -> Behind {
        let since = request.from_seq.checked_sub(1);
        let is_known = |since: &u64| request.epoch == self.epoch && (self.forgotten..=self.told).contains(since);
        match since.filter(is_known) {
            Some(since) => Behind::Changes { since },
            None => Behind::everyone(self.told),
        }
    }

    /// How long after one batch the next may follow.
    fn interval_ms(&self) -> u64 {
        match self.audience {
            Audience::Users => {
                let links = self.up_to_date.len().saturating_add(self.behind.len());
                let links = u64::try_from(links).unwrap_or(u64::MAX);
                links.clamp(PRESENCE_INTERVAL_MS, PRESENCE_INTERVAL_MAX_MS)
            }
            Audience::Peers => PRESENCE_PEERS_INTERVAL_MS,
        }
    }

    /// From when on there may be changes to tell.
    fn changes_due_at(&self) -> Option<Mono> {
        let next = self.told_at.map_or(0, |then| then.saturating_add(self.interval_ms()));
        (self.told < self.last).then_some(next)
    }

    /// From when on those behind may be told something.
    fn behind_due_at(&self) -> Option<Mono> {
        let is_ready = |state: &Behind| !matches!(state, Behind::Waits(_));
        let next = self
            .caught_up_at
            .map_or(0, |then| then.saturating_add(PRESENCE_INTERVAL_MS));
        self.behind.values().any(is_ready).then_some(next)
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

    /// Links that want each change by itself and know what everyone knows.
    fn take_leaving(&mut self) -> Vec<LinkId> {
        if self.told < self.last {
            return Vec::new();
        }
        let able = self.leaving.intersection(&self.up_to_date).copied();
        let able: Vec<LinkId> = able.collect();
        for link in &able {
            self.forget(*link);
        }
        able
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
    /// A user's link is told who is there: everyone first, or what it does not know yet, then each change.
    pub(super) fn join_roster(&mut self, now: Now, link: LinkId, telling: Telling) {
        let users = &mut self.rosters.users;
        match telling {
            Telling::ToTheLetter => {
                users.to_the_letter.insert(link);
                self.begin_telling(now, link);
            }
            Telling::InBatches { known } => {
                users.is_missed = true;
                let first = known.map_or_else(|| Behind::everyone(users.told), |known| users.wanted(known));
                users.behind.insert(link, first);
                self.tell_roster_soon(now, Audience::Users);
            }
        }
    }

    /// A link is told everyone, and then what changes.
    pub(super) fn begin_batches(&mut self, now: Now, audience: Audience, link: LinkId) {
        let roster = self.rosters.of_mut(audience);
        let since = roster.told;
        roster.behind.insert(link, Behind::everyone(since));
        self.tell_roster_soon(now, audience);
    }

    /// A user has come, changed or left: whoever takes batches hears of it with the next one.
    pub(super) fn note_in_roster(&mut self, now: Now, audience: Audience, user: &UserId, ts: u64) {
        let roster = self.rosters.of_mut(audience);
        roster.note(user, ts);
        if roster.up_to_date.is_empty() {
            roster.told = roster.last; // Those behind are told up to there.
        }
        self.tell_roster_soon(now, audience);
    }

    fn tell_roster_soon(&mut self, now: Now, audience: Audience) {
        let roster = self.rosters.of_mut(audience);
        let next = [roster.changes_due_at(), roster.behind_due_at()];
        let Some(at) = next.into_iter().flatten().min().map(|next| next.max(now.mono)) else {
            return;
        };
        if roster.due_at.is_none_or(|due| at < due) {
            roster.due_at = Some(at);
            self.timers.set(at, Timer::Roster(audience));
        }
    }

    /// `PRESENCE_REQUEST`: a link has missed something. Whether it is told in batches at all.
    pub(super) fn on_presence_request(
        &mut self,
        now: Now,
        audience: Audience,
        link: LinkId,
        request: PresenceRequest,
    ) -> bool {
        let roster = self.rosters.of_mut(audience);
        if !roster.has(link) {
            return false;
        }
        let wanted = roster.wanted(request);
        let wanted = match roster.behind.get(&link) {
            Some(Behind::Waits(_)) => Behind::Waits(Box::new(wanted)),
            Some(Behind::Changes { .. } | Behind::List { .. }) | None => wanted,
        };
        roster.up_to_date.remove(&link);
        roster.behind.insert(link, wanted);
        self.tell_roster_soon(now, audience);
        true
    }

    /// A peer wants to hear our users to the letter from now on: it does as soon as it knows what the others know.
    pub(super) fn leave_roster(&mut self, now: Now, link: LinkId) {
        // It may ask before it is told anything, and again when it has left, which changes nothing.
        self.rosters.peers.leaving.insert(link);
        self.let_leave(now);
    }

    fn let_leave(&mut self, now: Now) {
        for link in self.rosters.peers.take_leaving() {
            // Whom it has just heard to be gone it may have to tell others of.
            let since = now.unix.saturating_sub(LETTER_DEPARTURES_MS);
            for changed in self.rosters.peers.recent(since) {
                self.repeat_departure(now, link, &changed);
            }
            self.begin_letters(now, link);
        }
    }

    /// What a link was told is on its way; whether that was for the roster.
    pub(super) fn on_roster_flushed(&mut self, now: Now, link: LinkId) -> bool {
        for audience in [Audience::Users, Audience::Peers] {
            let roster = self.rosters.of_mut(audience);
            if let Some(Behind::Waits(then)) = roster.behind.get(&link) {
                let then = Behind::clone(then);
                roster.behind.insert(link, then);
                self.tell_roster_soon(now, audience);
                return true;
            }
        }
        false
    }

    /// Tells the changes to those who are up to date, and the others something of what they lack.
    pub(super) fn on_roster_due(&mut self, now: Now, audience: Audience) {
        let roster = self.rosters.of_mut(audience);
        if roster.due_at.is_none_or(|at| at > now.mono) {
            return; // It was told earlier.
        }
        roster.due_at = None;
        roster.begin_again_where_forgotten();
        let is_due = |at: Option<Mono>| at.is_some_and(|at| at <= now.mono);
        let (has_changes, has_behind) = (is_due(roster.changes_due_at()), is_due(roster.behind_due_at()));
        if has_changes {
            roster.told_at = Some(now.mono);
            self.tell_changes(now, audience);
        }
        if has_behind {
            let roster = self.rosters.of_mut(audience);
            roster.caught_up_at = Some(now.mono);
            for (state, links) in roster.waiting() {
                self.tell_behind(now, audience, state, &links);
            }
        }
        self.let_leave(now);
        self.tell_roster_soon(now, audience);
    }

    fn tell_changes(&mut self, now: Now, audience: Audience) {
        for batch in 1..=BATCHES_AT_ONCE_MAX {
            let roster = self.rosters.of(audience);
            let (since, last) = (roster.told, roster.last);
            if since >= last {
                return;
            }
            let links: Vec<LinkId> = roster.up_to_date.iter().copied().collect();
            let reached = self.send_changes(now, audience, &links, since, last);
            self.rosters.of_mut(audience).told = reached;
            if batch == BATCHES_AT_ONCE_MAX && reached < last {
                // So much happens that each goes on only once what it was told has left.
                self.wait_for_flush(audience, &links, &Behind::Changes { since: reached });
                self.rosters.of_mut(audience).told = last;
            }
        }
    }

    /// Tells peers at once what has changed, all of it: there will be no other time.
    pub(super) fn tell_peers_the_rest(&mut self, now: Now) {
        let audience = Audience::Peers;
        loop {
            let roster = &self.rosters.peers;
            let (since, last) = (roster.told, roster.last);
            if since >= last {
                return;
            }
            let links: Vec<LinkId> = roster.up_to_date.iter().copied().collect();
            let reached = self.send_changes(now, audience, &links, since, last);
            self.rosters.peers.told = reached;
        }
    }

    /// Before peers get something of a user of ours they must have heard of the user: else they take it for nobody's, and
    /// their users cannot ask for the key. Those who are up to date are told what has changed, the others of this one.
    pub(super) fn introduce(&mut self, now: Now, author: &UserId, links: &[LinkId]) {
        let peers = &self.rosters.peers;
        let is_pending = peers.number_of(author).is_some_and(|number| number > peers.told);
        if is_pending && links.iter().any(|link| peers.up_to_date.contains(link)) {
            self.rosters.peers.told_at = Some(now.mono);
            self.tell_peers_the_rest(now);
        }
        let behind = links
            .iter()
            .filter(|link| self.rosters.peers.behind.contains_key(link))
            .copied();
        let behind: Vec<LinkId> = behind.collect();
        if behind.is_empty() || !self.people.get(author).is_some_and(Person::is_local) {
            return;
        }
        let ts = self.letter_ts(now, author);
        if let Some(advertise) = self.advertisement(author, false) {
            self.send_at(&behind, ts, Address::everyone(), &Payload::UserAdvertise(advertise));
        }
    }

    /// Tells one state of those behind its next frame.
    fn tell_behind(&mut self, now: Now, audience: Audience, state: Behind, links: &[LinkId]) {
        let next = match state {
            Behind::Waits(_) => return,
            Behind::List { page, after, since } => {
                let (last, more) = self.send_page(now, audience, links, page, after.as_ref(), since);
                let page = page.saturating_add(1);
                match more {
                    true => Behind::List {
                        page,
                        after: last,
                        since,
                    },
                    false => Behind::Changes { since },
                }
            }
            Behind::Changes { since } => Behind::Changes { since },
        };
        let told = self.rosters.of(audience).told;
        let next = match next {
            Behind::Changes { since } if since < told => {
                let since = self.send_changes(now, audience, links, since, told);
                Behind::Changes { since }
            }
            other @ (Behind::Changes { .. } | Behind::List { .. } | Behind::Waits(_)) => other,
        };
        if next.since() >= told && matches!(next, Behind::Changes { .. }) {
            let roster = self.rosters.of_mut(audience);
            for link in links {
                roster.behind.remove(link);
                roster.up_to_date.insert(*link);
            }
        } else {
            self.wait_for_flush(audience, links, &next);
        }
    }

    fn wait_for_flush(&mut self, audience: Audience, links: &[LinkId], then: &Behind) {
        let roster = self.rosters.of_mut(audience);
        for link in links {
            roster.up_to_date.remove(link);
            roster.behind.insert(*link, Behind::Waits(Box::new(then.clone())));
            self.outputs.push_back(Output::Fence { link: *link });
        }
    }
}
