//! The network: connections, and what happens to what is sent over them.
//!
//! A connection has two ends, each with a pipe to the other. A pipe keeps the order as TCP does. What is blocked waits
//! and goes on when the path is free again, as TCP would send it again. Loss, doubling and disorder are a bad path or
//! somebody in the middle; they last for a while, then the connection breaks.

use crate::event::{Event, Item};
use crate::queue::{Queue, Time};
use crate::random::Dice;
use socp_core::server::LinkId;
use socp_proto::limits::OUTBOUND_FRAMES_COUNT_MAX;
use std::collections::BTreeMap;

/// The number of a host: an honest server, or behind those a hostile one.
pub(crate) type Host = usize;
/// The number of a user.
pub(crate) type UserNo = usize;

/// Who holds an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Host(Host),
    User(UserNo),
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) party: Party,
    pub(crate) far: Party,
    pub(crate) far_link: LinkId,
    /// When everything sent so far has left.
    free_at: Time,
    last_arrival: Time,
    stalled: Vec<Item>,
}

/// One direction between two hosts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Path {
    /// Time on the way, ms.
    base_ms: u64,
    /// How many faults block it now.
    pub(crate) blocks: u32,
    /// Frames lost, doubled, out of order, in a hundred.
    pub(crate) loss: u64,
    pub(crate) doubling: u64,
    pub(crate) disorder: u64,
    /// More time on the way, ms.
    pub(crate) delay_ms: u64,
    /// Time that one frame takes to leave, ms.
    pub(crate) frame_ms: u64,
}

/// What became of something sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Yes,
    /// The end is gone.
    Nowhere,
    /// More waits to leave than an outbox holds.
    Overflow,
}

/// All connections and paths.
#[derive(Debug)]
pub(crate) struct Net {
    dice: Dice,
    ends: BTreeMap<LinkId, End>,
    paths: Vec<Path>,
    hosts: usize,
    last_link: u64,
    /// When what a host sent to its users last arrives.
    users_last_arrival: Vec<Time>,
    pub(crate) frames: u64,
}

/// Extra time on the way that a frame may take, ms.
const JITTER_MS: u64 = 10;
/// How much later a frame out of order comes, ms.
const DISORDER_MS: u64 = 400;
/// Time between a user and its server, ms.
pub(crate) const USER_PATH_MS: u64 = 20;

impl Net {
    pub(crate) fn new(seed: u64, hosts: usize) -> Self {
        let mut dice = Dice::new(seed, "net");
        let mut path = || Path {
            base_ms: dice.between(1, 120),
            ..Path::default()
        };
        let paths = (0..hosts * hosts).map(|_| path()).collect();
        Self {
            dice,
            ends: BTreeMap::new(),
            paths,
            hosts,
            last_link: 0,
            users_last_arrival: vec![0; hosts],
            frames: 0,
        }
    }

    pub(crate) fn path(&mut self, from: Host, to: Host) -> &mut Path {
        &mut self.paths[from * self.hosts + to]
    }

    pub(crate) fn is_blocked(&self, from: Host, to: Host) -> bool {
        self.paths[from * self.hosts + to].blocks > 0
    }

    /// Time there and back, ms.
    pub(crate) fn round_trip_ms(&self, a: Host, b: Host) -> u64 {
        let way = |from: Host, to: Host| {
            let path = &self.paths[from * self.hosts + to];
            path.base_ms + path.delay_ms
        };
        way(a, b) + way(b, a)
    }

    pub(crate) fn end(&self, link: LinkId) -> Option<&End> {
        self.ends.get(&link)
    }

    /// A new connection: the ends of both.
    pub(crate) fn connect(&mut self, a: Party, b: Party) -> (LinkId, LinkId) {
        self.last_link += 2;
        let (at_a, at_b) = (LinkId(self.last_link - 1), LinkId(self.last_link));
        let end = |party, far, far_link| End {
            party,
            far,
            far_link,
            free_at: 0,
            last_arrival: 0,
            stalled: Vec::new(),
        };
        self.ends.insert(at_a, end(a, b, at_b));
        self.ends.insert(at_b, end(b, a, at_a));
        (at_a, at_b)
    }

    /// Takes an end away; what comes for it is lost.
    pub(crate) fn remove(&mut self, link: LinkId) -> Option<End> {
        self.ends.remove(&link)
    }

    /// Sends something from one end to the other. To users hosts send by [`Self::users_arrival`] instead.
    pub(crate) fn send(&mut self, queue: &mut Queue<Event>, from: LinkId, item: Item) -> Sent {
        let Some(end) = self.ends.get_mut(&from) else {
            return Sent::Nowhere;
        };
        let path = match (end.party, end.far) {
            (Party::Host(a), Party::Host(b)) => &self.paths[a * self.hosts + b],
            (Party::User(_), _) | (_, Party::User(_)) => &Path {
                base_ms: USER_PATH_MS,
                ..Path::default()
            },
        };
        self.frames += u64::from(item.is_frame());
        if path.blocks > 0 {
            end.stalled.push(item);
            let is_too_much = end.stalled.len() > OUTBOUND_FRAMES_COUNT_MAX;
            return if is_too_much { Sent::Overflow } else { Sent::Yes };
        }
        let now = queue.now();
        end.free_at = end.free_at.max(now) + path.frame_ms;
        let longest = path.frame_ms.saturating_mul(1_024);
        let is_overflow = path.frame_ms > 0 && end.free_at - now > longest;
        let mut at = end.free_at + path.base_ms + path.delay_ms + self.dice.below(JITTER_MS);
        let to = end.far_link;
        if item.is_frame() && path.loss > 0 && self.dice.chance(path.loss) {
            return Sent::Yes;
        }
        if item.is_frame() && path.disorder > 0 && self.dice.chance(path.disorder) {
            at += self.dice.between(1, DISORDER_MS);
        } else {
            at = at.max(end.last_arrival);
            end.last_arrival = at;
        }
        if item.is_frame() && path.doubling > 0 && self.dice.chance(path.doubling) {
            let again = at + self.dice.between(0, DISORDER_MS);
            let item = item.clone();
            queue.at(again, Event::Arrive { from, to, item });
        }
        queue.at(at, Event::Arrive { from, to, item });
        if is_overflow { Sent::Overflow } else { Sent::Yes }
    }

    /// When something that a host sends to users now arrives: in order, whoever they are.
    pub(crate) fn users_arrival(&mut self, now: Time, host: Host) -> Time {
        let at = (now + USER_PATH_MS + self.dice.below(JITTER_MS)).max(self.users_last_arrival[host]);
        self.users_last_arrival[host] = at;
        at
    }

    /// When everything sent on this link is on its way.
    pub(crate) fn free_at(&self, link: LinkId) -> Time {
        self.ends.get(&link).map_or(0, |end| end.free_at)
    }

    /// A path is free again: what waited goes on.
    pub(crate) fn resume(&mut self, queue: &mut Queue<Event>, from: Host, to: Host) {
        if self.is_blocked(from, to) {
            return;
        }
        let is_it = |end: &End| end.party == Party::Host(from) && end.far == Party::Host(to);
        let mut waiting = Vec::new();
        for (link, end) in self.ends.iter_mut().filter(|(_, end)| is_it(end)) {
            waiting.extend(end.stalled.drain(..).map(|item| (*link, item)));
        }
        for (link, item) in waiting {
            self.send(queue, link, item);
        }
    }

    /// The ends at one party whose far end is at another.
    pub(crate) fn links_between(&self, a: Host, b: Host) -> Vec<LinkId> {
        let is_it = |end: &End| end.party == Party::Host(a) && end.far == Party::Host(b);
        let links = self.ends.iter().filter(|(_, end)| is_it(end));
        links.map(|(link, _)| *link).collect()
    }

    /// All ends at a host.
    pub(crate) fn links_of(&self, host: Host) -> Vec<LinkId> {
        let links = self.ends.iter().filter(|(_, end)| end.party == Party::Host(host));
        links.map(|(link, _)| *link).collect()
    }

    /// Breaks a connection for both, at once: what is on its way is lost.
    pub(crate) fn cut(&mut self, queue: &mut Queue<Event>, link: LinkId) {
        let Some(end) = self.ends.remove(&link) else { return };
        queue.after(0, Event::Gone { party: end.party, link });
        if let Some(far) = self.ends.remove(&end.far_link) {
            let event = Event::Gone {
                party: far.party,
                link: end.far_link,
            };
            queue.after(0, event);
        }
    }
}
