//! What must, may and must not happen.
//!
//! The oracle keeps books of its own: what users did, as they saw it themselves, and which faults were at work. It never
//! looks into a server. While the network is in unrest nearly everything may happen once and little must; when it has
//! been calm for long enough, and the people concerned have not just come or gone, everything that was promised must.
//!
//! `messages` judges what was said, `kept` what was acknowledged, `presence` who is shown where, `channel` what is shown of the group, `links` what goes
//! over links and what is pinned.

mod channel;
mod kept;
mod links;
mod messages;
mod presence;

pub(crate) use kept::Reading;
pub(crate) use messages::Delivery;
pub(crate) use presence::Listed;

use crate::net::{Host, UserNo};
use crate::queue::Time;
use crate::report::{Rule, Stats, Violation};
use messages::Messages;
use socp_proto::{KeyText, ServerId, UserId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// After the last fault the network has this long to find itself: the longest wait before a redial, a dial that is
/// given up, and some.
pub(crate) const CALM_MS: u64 = 120_000;
/// The number of a server that nobody of the cast is.
pub(crate) const NO_SERVER: u32 = u32::MAX - 1;

/// The books.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) stats: Stats,
    violations: Vec<Violation>,
    now: Time,
    honest: usize,
    users: Vec<UserBook>,
    // Never iterated: its order cannot leak.
    by_id: HashMap<UserId, UserNo>,
    servers: BTreeMap<ServerId, u32>,
    server_keys: BTreeMap<Host, KeyText>,
    faults: usize,
    /// Since when no fault is at work.
    calm_since: Option<Time>,
    /// Counts the times of calm.
    calm_number: u64,
    /// Users whom a hostile server has claimed with their own key: it may be believed, for nothing proves where a user
    /// is but the word of a server.
    claimed: BTreeSet<UserNo>,
    /// Users whose id a hostile server has claimed with another key: whoever heard that first may believe it.
    squatted: BTreeSet<UserNo>,
    /// Servers that are hostile.
    hostile: BTreeSet<u32>,
    messages: Messages,
    links: links::Links,
    kept: kept::KeptBook,
}

/// What is known of one user.
#[derive(Debug)]
struct UserBook {
    id: UserId,
    key: KeyText,
    attached: Option<Host>,
    /// What it takes.
    reading: Reading,
    /// Counts comings and goings.
    session: u64,
    /// From when on everybody must know where the user is.
    settled_at: Time,
}

impl Oracle {
    pub(crate) fn new(honest: usize, counts_crossings: bool, is_mesh: bool) -> Self {
        Self {
            stats: Stats::default(),
            violations: Vec::new(),
            now: 0,
            honest,
            users: Vec::new(),
            by_id: HashMap::new(),
            servers: BTreeMap::new(),
            server_keys: BTreeMap::new(),
            faults: 0,
            calm_since: Some(0),
            calm_number: 0,
            claimed: BTreeSet::new(),
            squatted: BTreeSet::new(),
            hostile: BTreeSet::new(),
            messages: Messages::default(),
            links: links::Links::new(counts_crossings, is_mesh),
            kept: kept::KeptBook::default(),
        }
    }

    pub(crate) fn add_user(&mut self, id: UserId, key: KeyText) {
        self.by_id.insert(id.clone(), self.users.len());
        self.users.push(UserBook {
            id,
            key,
            attached: None,
            reading: Reading::ToTheLetter,
            session: 0,
            settled_at: 0,
        });
    }

    pub(crate) fn add_server(&mut self, host: Host, id: ServerId, key: KeyText) {
        let number = u32::try_from(host).unwrap_or(NO_SERVER);
        if host >= self.honest {
            self.hostile.insert(number);
        } else {
            self.server_keys.insert(host, key);
        }
        self.servers.insert(id, number);
    }

    pub(crate) fn set_time(&mut self, now: Time) {
        self.now = now;
    }

    pub(crate) fn user_of(&self, id: &UserId) -> Option<UserNo> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn server_number(&self, id: &ServerId) -> u32 {
        self.servers.get(id).copied().unwrap_or(NO_SERVER)
    }

    pub(crate) fn is_attached(&self, user: UserNo) -> bool {
        self.users[user].attached.is_some()
    }

    /// A fault begins.
    pub(crate) fn on_fault_begins(&mut self) {
        self.faults += 1;
        self.calm_since = None;
        self.calm_number += 1;
    }

    pub(crate) fn on_fault_ends(&mut self) {
        self.faults = self.faults.saturating_sub(1);
        if self.faults == 0 {
            self.calm_since = Some(self.now);
        }
    }

    /// Whether everything that was promised must hold.
    pub(crate) fn is_calm(&self) -> bool {
        self.calm_since.is_some_and(|since| self.now >= since + CALM_MS)
    }

    /// A user's server has said that the user is there.
    pub(crate) fn on_attached(&mut self, user: UserNo, host: Host, settled_at: Time) {
        let book = &mut self.users[user];
        book.attached = Some(host);
        book.session += 1;
        book.settled_at = book.settled_at.max(settled_at);
        self.stats.arrivals += 1;
    }

    /// A user is at no server any more, as far as the user knows.
    pub(crate) fn on_gone(&mut self, user: UserNo) {
        let book = &mut self.users[user];
        book.attached = None;
        book.session += 1;
    }

    /// Others may be wrong about a user until then.
    pub(crate) fn on_unsettled(&mut self, user: UserNo, until: Time) {
        let book = &mut self.users[user];
        book.settled_at = book.settled_at.max(until);
    }

    fn is_settled(&self, user: UserNo) -> bool {
        self.users[user].settled_at <= self.now
    }

    /// A hostile server says that a user is there.
    pub(crate) fn on_claim(&mut self, user: UserNo, is_true_key: bool) {
        if is_true_key {
            self.claimed.insert(user);
        } else {
            self.squatted.insert(user);
        }
    }

    /// The run is over: every observer must have had its list, for what was not asked was not shown.
    pub(crate) fn on_end(&mut self, lists: u64) {
        if self.stats.lists_judged < lists {
            let what = format!(
                "{} lists were judged, {lists} should have been",
                self.stats.lists_judged
            );
            self.violate(Rule::Unanswered, what, &[]);
        }
    }

    fn is_contested(&self, user: UserNo) -> bool {
        self.claimed.contains(&user) || self.squatted.contains(&user)
    }

    /// The simulator itself, or a server, said what nobody may say.
    pub(crate) fn broken(&mut self, what: String) {
        self.violate(Rule::Nonsense, what, &[]);
    }

    fn violate(&mut self, rule: Rule, what: String, who: &[String]) {
        let who = who.to_vec();
        let at = self.now;
        self.violations.push(Violation { at, rule, what, who });
    }

    pub(crate) fn has_failed(&self) -> bool {
        !self.violations.is_empty()
    }

    pub(crate) fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }
}

/// How a report calls a user.
fn user_name(user: UserNo) -> String {
    format!("u{user}")
}

/// How a report calls a host.
fn host_name(host: Host) -> String {
    format!("h{host}")
}
