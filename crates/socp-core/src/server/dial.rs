//! Whom we dial, and how often (SOCP §8.1, §11): every bootstrap entry and every server ever met, with back-off.

use super::Server;
use super::io::{BootstrapEntry, DialId, LinkId, Note, Output, ServerPin, TlsSession, TlsWanted};
use super::timers::Timer;
use crate::clock::Now;
use rand_core::Rng;
use socp_proto::limits::{REDIAL_WAIT_MAX_MS, REDIAL_WAIT_MIN_MS, SERVERS_COUNT_MAX};
use socp_proto::{KeyText, ServerId};
use std::collections::{BTreeMap, VecDeque};

/// How often an address is tried that was only heard of, in somebody's welcome.
const HEARSAY_ATTEMPTS_MAX: u32 = 8;

/// Addresses at which one server is looked for: its own word and others' (our choice).
const ADDRESSES_PER_SERVER_COUNT_MAX: usize = 2;

/// Where a server is: host, port, and whether TLS is spoken there.
type Place = (String, u16, bool);

/// All dial targets.
#[derive(Debug, Default)]
pub(super) struct Dials {
    targets: BTreeMap<DialId, Target>,
    last: u64,
    /// Bootstrap entries that were not tried yet, in the order of the list.
    untried: VecDeque<DialId>,
    /// The bootstrap entry that is being tried for the first time.
    trying: Option<DialId>,
}

/// One server that we want to be linked to.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    /// Whether TLS is spoken there, and with which certificate.
    pub(super) tls: Option<TlsWanted>,
    /// The key it must have.
    pub(super) key: Option<KeyText>,
    /// Who it is, once known.
    pub(super) server: Option<ServerId>,
    /// Whether we ask it for admission instead of announcing ourselves.
    pub(super) is_introducer: bool,
    /// Somebody else said that it is there.
    is_hearsay: bool,
    is_active: bool,
    attempts: u32,
}

impl Dials {
    pub(super) fn get(&self, dial: DialId) -> Option<&Target> {
        self.targets.get(&dial)
    }

    pub(super) fn get_mut(&mut self, dial: DialId) -> Option<&mut Target> {
        self.targets.get_mut(&dial)
    }

    fn add(&mut self, target: Target) -> DialId {
        self.last = self.last.saturating_add(1);
        let dial = DialId(self.last);
        self.targets.insert(dial, target);
        dial
    }

    /// Whether a bootstrap entry has this address, and no other key. An address that another server had before is
    /// another matter, and so is one where an entry without a key has failed: it may want another certificate than is there.
    fn is_wanted(&self, at: (&str, u16, bool), key: &KeyText) -> bool {
        let is_it = |target: &Target| target.is_at(at);
        let is_open_to = |target: &Target| match &target.key {
            Some(told) => told == key,
            None => target.tls.is_none() || target.attempts == 0,
        };
        self.targets
            .values()
            .any(|target| target.is_introducer && is_it(target) && is_open_to(target))
    }

    /// Dials a server no more, unless a bootstrap entry says to: which ones do.
    fn forget(&mut self, server: &ServerId) -> Vec<DialId> {
        self.targets
            .retain(|_, target| target.is_introducer || target.server.as_ref() != Some(server));
        let entries: Vec<DialId> = self.of_server(server).collect();
        for entry in &entries {
            if let Some(target) = self.targets.get_mut(entry) {
                target.server = None;
                target.attempts = 0;
            }
        }
        entries
    }

    fn of_server<'a>(&'a self, server: &'a ServerId) -> impl Iterator<Item = DialId> + 'a {
        self.targets
            .iter()
            .filter(move |(_, t)| t.server.as_ref() == Some(server))
            .map(|(dial, _)| *dial)
    }
}

impl Target {
    fn new((host, port, has_tls): Place, key: Option<KeyText>, server: Option<ServerId>) -> Self {
        Self {
            host,
            port,
            tls: has_tls.then(TlsWanted::default),
            key,
            server,
            is_introducer: false,
            is_hearsay: false,
            is_active: false,
            attempts: 0,
        }
    }

    fn is_at(&self, (host, port, has_tls): (&str, u16, bool)) -> bool {
        self.host == host && self.port == port && self.tls.is_some() == has_tls
    }

    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl Server {
    /// Dials the bootstrap list in its order, and the servers met before.
    pub(super) fn dial_everyone(&mut self, now: Now) {
        for entry in self.config.bootstrap.clone() {
            let BootstrapEntry { host, port, key, tls } = entry;
            let target = Target {
                is_introducer: true,
                tls,
                ..Target::new((host, port, tls.is_some()), key, None)
            };
            let dial = self.dials.add(target);
            self.dials.untried.push_back(dial);
        }
        self.try_entry(now);
        for server in self.pins.keys().cloned().collect::<Vec<_>>() {
            self.want_link(now, &server);
        }
    }

    /// An entry has let us in, or cannot: the next one's turn (SOCP §8.1). From then on each has its own back-off.
    pub(super) fn try_next_entry(&mut self, now: Now, dial: DialId) {
        if self.dials.trying == Some(dial) {
            self.try_entry(now);
        }
    }

    fn try_entry(&mut self, now: Now) {
        self.dials.trying = self.dials.untried.pop_front();
        if let Some(dial) = self.dials.trying {
            self.timers.set(now.mono, Timer::Dial(dial));
        }
    }

    /// Sees to it that a pinned server is dialled whenever it is not linked.
    pub(super) fn want_link(&mut self, now: Now, server: &ServerId) {
        let Some(pin) = self.pins.get(server) else {
            return;
        };
        let (host, port, has_tls, key) = (pin.host.clone(), pin.port, pin.has_tls, pin.key.clone());
        let is_unreachable = host.is_empty() || port == 0;
        let is_self = host == self.config.host && port == self.config.port;
        if is_unreachable || is_self {
            return;
        }
        self.want_address(now, (host, port, has_tls), key, server.clone(), false);
    }

    /// Sees to it that this address is dialled whenever its server is not linked. `is_hearsay`: somebody else says so, and
    /// it is tried beside what the server itself said.
    pub(super) fn want_address(
        &mut self,
        now: Now,
        (host, port, has_tls): Place,
        key: KeyText,
        server: ServerId,
        is_hearsay: bool,
    ) {
        let known: Vec<DialId> = self
            .dials
            .of_server(&server)
            .filter(|dial| self.dials.get(*dial).is_some_and(|target| !target.is_introducer))
            .collect();
        let is_there = |dial: &DialId| {
            let target = self.dials.get(*dial);
            target.is_some_and(|target| target.is_at((&host, port, has_tls)))
        };
        let there = known.iter().copied().find(is_there);
        let target = if is_hearsay {
            there
        } else {
            there.or(known.first().copied())
        };
        if let Some(target) = target.and_then(|dial| self.dials.get_mut(dial)) {
            target.is_hearsay &= is_hearsay;
            (target.host, target.port) = (host, port);
            if target.tls.is_some() != has_tls {
                target.tls = has_tls.then(TlsWanted::default);
            }
            return;
        }
        if self.dials.is_wanted((&host, port, has_tls), &key) {
            return; // A bootstrap entry: dialled anyway.
        }
        if self.dials.targets.len() >= SERVERS_COUNT_MAX || known.len() >= ADDRESSES_PER_SERVER_COUNT_MAX {
            return;
        }
        let target = Target {
            is_hearsay,
            ..Target::new((host, port, has_tls), Some(key), Some(server))
        };
        let dial = self.dials.add(target);
        self.timers.set(now.mono, Timer::Dial(dial));
    }

    /// A pin was removed: the server is dialled no more, or, where it is a bootstrap entry, at once, since the
    /// operator waits for it.
    pub(super) fn dial_anew(&mut self, now: Now, server: &ServerId) {
        for entry in self.dials.forget(server) {
            self.timers.set(now.mono, Timer::Dial(entry));
        }
    }

    pub(super) fn on_dial_due(&mut self, dial: DialId) {
        let Some(target) = self.dials.get_mut(dial) else {
            return;
        };
        let is_linked = target
            .server
            .as_ref()
            .is_some_and(|server| self.peers.contains_key(server));
        if target.is_active || is_linked {
            return;
        }
        target.is_active = true;
        let (host, port, tls, key) = (target.host.clone(), target.port, target.tls, target.key.clone());
        self.outputs.push_back(Output::Dial {
            dial,
            host,
            port,
            key,
            tls,
        });
    }

    pub(super) fn on_dialled(&mut self, now: Now, dial: DialId, link: LinkId, tls: Option<TlsSession>) {
        self.open_link(now, link, Some(dial), tls);
        self.introduce_ourselves(now, dial, link);
    }

    pub(super) fn on_dial_failed(&mut self, now: Now, dial: DialId, reason: String) {
        let retry_ms = self.schedule_redial(now, dial);
        self.dial_pinned_instead(now, dial);
        if let Some(target) = self.dials.get(dial) {
            let address = target.address();
            self.note(Note::DialFailed {
                address,
                reason,
                retry_ms,
            });
        }
    }

    /// Where TLS is spoken, and an entry without a key has failed: a server that says it is there is dialled beside the
    /// entry, as itself and by its pinned key. Its word must not make the entry itself do without a good certificate.
    fn dial_pinned_instead(&mut self, now: Now, dial: DialId) {
        let Some(target) = self.dials.get(dial) else { return };
        if !target.is_introducer || target.key.is_some() || target.tls.is_none() {
            return;
        }
        let is_there = |pin: &ServerPin| target.is_at((&pin.host, pin.port, pin.has_tls));
        let there = self.pins.values().filter(|pin| is_there(pin));
        for server in there.map(|pin| pin.server_id.clone()).collect::<Vec<_>>() {
            self.want_link(now, &server);
        }
    }

    /// A link that we dialled, or a peer's, is gone: try again later.
    pub(super) fn redial_later(&mut self, now: Now, dial: Option<DialId>, server: Option<&ServerId>) {
        if let Some(dial) = dial {
            self.schedule_redial(now, dial);
        }
        let others: Vec<DialId> = server
            .map(|server| self.dials.of_server(server).collect())
            .unwrap_or_default();
        for other in others.into_iter().filter(|other| Some(*other) != dial) {
            if self.dials.get(other).is_some_and(|target| !target.is_active) {
                self.schedule_redial(now, other);
            }
        }
    }

    /// A valid frame came: the next loss starts with the shortest wait again (SOCP §11).
    pub(super) fn reset_backoff(&mut self, server: &ServerId) {
        for target in self
            .dials
            .targets
            .values_mut()
            .filter(|t| t.server.as_ref() == Some(server))
        {
            target.attempts = 0;
        }
    }

    fn schedule_redial(&mut self, now: Now, dial: DialId) -> u64 {
        self.try_next_entry(now, dial);
        let Some(target) = self.dials.targets.get_mut(&dial) else {
            return 0;
        };
        target.is_active = false;
        let is_pinned = target
            .server
            .as_ref()
            .is_some_and(|server| self.pins.contains_key(server));
        if !target.is_introducer && (!is_pinned || target.is_hearsay) && target.attempts >= HEARSAY_ATTEMPTS_MAX {
            self.dials.targets.remove(&dial);
            return 0;
        }
        let doubled = REDIAL_WAIT_MIN_MS.saturating_mul(1 << target.attempts.min(6));
        target.attempts = target.attempts.saturating_add(1);
        let longest = doubled.min(REDIAL_WAIT_MAX_MS);
        // Jitter, so that a network that lost one server does not come back to it in step.
        let wait = longest.saturating_sub(self.rng.next_u64() % (longest / 2).max(1));
        self.timers.set(now.mono.saturating_add(wait), Timer::Dial(dial));
        wait
    }
}
