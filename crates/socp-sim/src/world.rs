//! A whole network in one process: everything that happens, in the order of one virtual clock.

use crate::event::{Event, Item};
use crate::faults::{self, MEETING_MS, Trouble};
use crate::hostile::Hostile;
use crate::net::{Host, Net, Party};
use crate::node::Node;
use crate::options::{FaultKind, Options, Topology};
use crate::oracle::{CALM_MS, Oracle};
use crate::program::Programs;
use crate::queue::{Queue, Time};
use crate::random::Dice;
use crate::report::{Report, Violation};
use crate::toys;
use crate::user::{User, VANISH_MS};
use socp_core::server::{Accept, BootstrapEntry, Config, Directory, LinkId};
use socp_proto::limits::STALE_USER_MAX_MS;
use socp_proto::{ServerId, UserId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A network and everyone in it.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) queue: Queue<Event>,
    pub(crate) net: Net,
    pub(crate) nodes: Vec<Node>,
    pub(crate) users: Vec<User>,
    pub(crate) hostiles: Vec<Hostile>,
    pub(crate) oracle: Oracle,
    pub(crate) plan: Vec<Trouble>,
    /// Who listens where.
    pub(crate) addresses: BTreeMap<String, Host>,
    pub(crate) pace: Pace,
    /// Nobody comes or goes any more.
    pub(crate) is_resting: bool,
    pub(crate) user_dice: Dice,
    pub(crate) program_dice: Dice,
    pub(crate) disk_dice: Dice,
    pub(crate) loss_dice: Dice,
    /// Links that have lost a batch.
    pub(crate) lossy: BTreeSet<LinkId>,
    pub(crate) fault_dice: Dice,
    story: VecDeque<(Time, String)>,
    trace: u64,
    events: u64,
    /// The observers have asked for their lists; so many lists had been judged before.
    has_asked: bool,
    /// How often the end may still wait for versions of the group to be told.
    waits_for_versions: u32,
    lists_before_audit: u64,
}

/// How lively users are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Mean pause between two doings, ms.
    pub(crate) pause_ms: u64,
    /// How often in a hundred a user who is offline comes.
    pub(crate) come: u64,
    /// How often in a hundred it comes to another server.
    pub(crate) move_away: u64,
    /// How often in a thousand a user leaves.
    pub(crate) leave: u64,
    /// How often in a thousand a user asks for the list.
    pub(crate) list: u64,
    /// How often in a thousand a user speaks to all.
    pub(crate) channel: u64,
}

/// At the end each user comes back with one device and then with the other, and once more with the first for what the
/// second still had to say; each stays so long, ms.
const RETURN_MS: u64 = 30_000;
const RETURN_ROUNDS: usize = 3;
/// How many lines of the story are kept.
const STORY_COUNT_MAX: usize = 50_000;
/// How many of them a report shows.
const STORY_SHOWN_COUNT: usize = 40;
/// The servers start within this time, ms.
const START_MS: u64 = 4_000;
/// How long a version of the group may take to reach everyone, ms.
const VERSIONS_MS: u64 = 5_000;
/// Users come from then on, ms.
const USERS_MS: u64 = 10_000;

impl Pace {
    fn of(options: &Options) -> Self {
        let users = options.users;
        if options.power.is_some() {
            return Self {
                pause_ms: 300,
                come: 80,
                move_away: 10,
                leave: 100,
                list: 5,
                channel: 5,
            };
        }
        // Everybody hears of everybody, so that the work grows with the square.
        let scaled = |count: u64| (count * 500 / u64::try_from(users).unwrap_or(1).max(500)).max(1);
        Self {
            pause_ms: 8_000,
            come: 50,
            move_away: 25,
            leave: scaled(60),
            list: scaled(30),
            channel: scaled(10),
        }
    }
}

impl World {
    pub(crate) fn new(options: Options) -> Self {
        let Options {
            seed, servers, users, ..
        } = options;
        let liars = match options.faults.has(FaultKind::Hostile) {
            true => 1 + servers / 25,
            false => 0,
        };
        let mut dice = Dice::new(seed, "cast");
        let mut world = Self {
            queue: Queue::new(),
            net: Net::new(seed, servers + liars),
            nodes: Vec::new(),
            users: Vec::new(),
            hostiles: Vec::new(),
            oracle: Oracle::new(servers, options.counts_crossings, options.topology == Topology::Mesh),
            plan: faults::plan(&options),
            addresses: BTreeMap::new(),
            pace: Pace::of(&options),
            is_resting: false,
            user_dice: Dice::new(seed, "users"),
            program_dice: Dice::new(seed, "programs"),
            disk_dice: Dice::new(seed, "disks"),
            loss_dice: Dice::new(seed, "lost batches"),
            lossy: BTreeSet::new(),
            fault_dice: Dice::new(seed, "restarts"),
            story: VecDeque::new(),
            trace: 0xcbf2_9ce4_8422_2325,
            events: 0,
            has_asked: false,
            waits_for_versions: 3,
            lists_before_audit: 0,
            options,
        };
        for host in 0..servers {
            world.add_server(&mut dice, host);
        }
        for host in servers..servers + liars {
            world.add_liar(host);
        }
        for _ in 0..users {
            world.add_user(&mut dice);
        }
        world.schedule(&mut dice);
        world
    }

    fn add_server(&mut self, dice: &mut Dice, host: Host) {
        // Ids in random order, since the protocol looks at which is the smaller.
        let name = format!("srv-{:06x}-{host}", dice.below(0x0100_0000));
        let server_id = ServerId::try_from(name.as_str()).expect("a name made here is an id");
        let key = toys::key(&name);
        let (clock_behind_ms, clock_ahead_ms) = Config::CLOCK_TOLERANCE_MS;
        let mut introducers: Vec<Host> = (0..host.min(3)).map(|_| dice.index(host)).collect();
        if host > 0 {
            introducers.push(0);
        }
        introducers.sort_unstable();
        introducers.dedup();
        let entry = |introducer: Host| BootstrapEntry {
            tls: None,
            host: format!("h{introducer}"),
            port: 1,
            key: Some(self.nodes[introducer].config.key.clone()),
        };
        let config = Config {
            has_tls: false,
            history: None,
            server_id: server_id.clone(),
            name: Some(format!("server {host}")),
            key: key.clone(),
            host: format!("h{host}"),
            port: 1,
            bootstrap: introducers.into_iter().map(entry).collect(),
            accept: Accept::Signed,
            takes_users: true,
            directory: Directory::Open,
            verify_content: true,
            allow_unsigned_join: false,
            delegation: None,
            proves: true,
            batches: self.speaks_batches(host),
            passwords: false,
            keeps: self.keeps(host),
            run: 0,
            clock_behind_ms,
            clock_ahead_ms,
            seed: socp_proto::sha256(format!("{} {host}", self.options.seed).as_bytes()),
        };
        let clock_ms = match self.options.faults.has(FaultKind::Clock) {
            true => i64::try_from(dice.below(80_000)).unwrap_or(0) - 40_000,
            false => 0,
        };
        self.addresses.insert(format!("h{host}:1"), host);
        self.oracle.add_server(host, server_id, key);
        self.nodes.push(Node::new(config, clock_ms));
        let at = if host == 0 { 0 } else { dice.between(1, START_MS) };
        self.queue.at(at, Event::Start { host });
    }

    /// In some worlds all servers tell presence in batches, in some none does, in others some (PROTOCOL II.8).
    fn speaks_batches(&self, host: Host) -> bool {
        match self.options.seed % 5 {
            0 => false,
            1 | 2 => true,
            _ => Dice::new(self.options.seed, &format!("batches {host}")).chance(60),
        }
    }

    /// In the same way some servers keep what they acknowledge, and some are of before (PROTOCOL II.6).
    fn keeps(&self, host: Host) -> bool {
        // What is for a server that can never be linked directly would wait for good (SECURITY.md).
        if self.options.topology != Topology::Mesh {
            return false;
        }
        match self.options.seed % 4 {
            _ if self.options.power.is_some() => true,
            0 => false,
            1 | 2 => true,
            _ => Dice::new(self.options.seed, &format!("keeps {host}")).chance(60),
        }
    }

    /// In some worlds nobody's program knows of that, in some everybody's does.
    fn has_program(&self, user: usize) -> bool {
        match self.options.seed % 5 {
            0 if self.options.power.is_none() => false,
            1 => true,
            _ => Dice::new(self.options.seed, &format!("program {user}")).chance(60),
        }
    }

    fn add_liar(&mut self, host: Host) {
        let liar = Hostile::new(self.options.seed, host);
        self.oracle.add_server(host, liar.id.clone(), liar.key.clone());
        self.addresses.insert(format!("{}:1", liar.name()), host);
        self.hostiles.push(liar);
        self.queue.at(MEETING_MS / 2, Event::Scheme { host });
    }

    fn add_user(&mut self, dice: &mut Dice) {
        let user = self.users.len();
        let name = format!("usr-{:06x}-{user}", dice.below(0x0100_0000));
        let id = UserId::try_from(name.as_str()).expect("a name made here is an id");
        let key = toys::key(&name);
        let home = dice.index(self.options.servers);
        let clock_ms = i64::try_from(dice.below(20_000)).unwrap_or(0) - 10_000;
        self.oracle.add_user(id.clone(), key.clone());
        let mut cast = User::new(id, key, home, clock_ms);
        if self.has_program(user) {
            cast.programs = Some(Box::new(Programs::new(self.options.seed, user)));
        }
        self.users.push(cast);
        let spread = 40_000_u64.max(u64::try_from(self.options.users).unwrap_or(0) * 10);
        let at = USERS_MS + dice.below(spread);
        self.queue.at(at, Event::Wake { user });
    }

    /// One more user per server, who stays to the end.
    fn add_observers(&mut self) {
        let mut dice = Dice::new(self.options.seed, "observers");
        for host in 0..self.nodes.len() {
            let user = self.users.len();
            let name = format!("obs-{:06x}-{user}", dice.below(0x0100_0000));
            let id = UserId::try_from(name.as_str()).expect("a name made here is an id");
            let key = toys::key(&name);
            self.oracle.add_user(id.clone(), key.clone());
            let mut observer = User::new(id, key, host, 0);
            observer.is_observer = true;
            self.users.push(observer);
            self.queue.after(dice.between(0, 3_000), Event::Wake { user });
        }
    }

    fn schedule(&mut self, dice: &mut Dice) {
        if self.options.topology != Topology::Mesh {
            self.queue.at(MEETING_MS - 20_000, Event::Restrict);
        }
        self.queue.at(MEETING_MS, Event::CountCrossings);
        for (index, trouble) in self.plan.iter().enumerate() {
            self.queue.at(trouble.begins, Event::FaultBegins { index });
            self.queue.at(trouble.ends, Event::FaultEnds { index });
        }
        let planned = MEETING_MS + self.options.minutes * 60_000;
        let last = self.plan.iter().map(|trouble| trouble.ends).max();
        let over = last.unwrap_or(0).max(planned);
        // Redials and stale users have had their time (PROTOCOL I.5, I.11).
        let is_passing = !self.plan.is_empty();
        let audit = over + CALM_MS + if is_passing { STALE_USER_MAX_MS } else { 60_000 };
        let rest = audit - VANISH_MS - 40_000;
        self.queue.at(rest - 10_000, Event::Observe);
        self.queue.at(rest, Event::Rest);
        for round in 0..RETURN_ROUNDS {
            let at = rest + 1_000 + u64::try_from(round).unwrap_or(0) * RETURN_MS;
            self.queue.at(at, Event::Return { round });
        }
        self.queue.at(audit + dice.below(1_000), Event::Audit);
    }

    /// Whether a user may still go away without a word: the server needs its time to notice.
    pub(crate) fn may_vanish(&self) -> bool {
        !self.options.faults.is_empty()
    }

    /// Whether somebody answers at a host.
    pub(crate) fn is_listening(&self, host: Host) -> bool {
        self.nodes.get(host).is_none_or(Node::is_up)
    }

    /// Writes down what happens, for a report.
    pub(crate) fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.story.len() >= STORY_COUNT_MAX {
            self.story.pop_front();
        }
        self.story.push_back((self.queue.now(), what()));
    }

    /// Runs to the end, or to the first rule that breaks.
    pub(crate) fn run(mut self) -> Report {
        self.run_to_end();
        self.into_report()
    }

    fn run_to_end(&mut self) {
        while let Some(event) = self.queue.next() {
            self.events += 1;
            self.oracle.set_time(self.queue.now());
            self.count(&event);
            if self.on_event(event) || self.oracle.has_failed() {
                return;
            }
        }
    }

    pub(crate) fn into_report(mut self) -> Report {
        let violations = self.oracle.take_violations();
        Report {
            story: violations.first().map(|first| self.story_of(first)).unwrap_or_default(),
            violations,
            ended_at: self.queue.now(),
            events: self.events,
            trace: self.trace,
            stats: self.oracle.stats.clone(),
            options: self.options,
        }
    }

    /// What led to a broken rule: faults, and what those concerned did.
    fn story_of(&self, violation: &Violation) -> Vec<String> {
        let (users, hosts): (Vec<&String>, Vec<&String>) = violation.who.iter().partition(|who| who.starts_with('u'));
        let concerns = |line: &str| {
            let mut words = line.split(|c: char| !c.is_ascii_alphanumeric());
            let first = words.clone().next().unwrap_or_default();
            let is_of_host = hosts.iter().any(|host| *host == first) && !line.contains(" link to u");
            line.starts_with("fault") || is_of_host || words.any(|word| users.iter().any(|who| *who == word))
        };
        let lines = self.story.iter().filter(|(_, line)| concerns(line));
        let lines: Vec<String> = lines.map(|(at, line)| format!("{at:>9} {line}")).collect();
        lines[lines.len().saturating_sub(STORY_SHOWN_COUNT)..].to_vec()
    }

    /// Adds an event to the trace, by which two runs are compared.
    fn count(&mut self, event: &Event) {
        let mut add = |number: u64| {
            self.trace = (self.trace ^ number)
                .wrapping_mul(0x0000_0100_0000_01b3)
                .rotate_left(23);
        };
        add(self.queue.now());
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the others are told apart by their time and order"
        )]
        match event {
            Event::Arrive { to, item, .. } => {
                add(to.0);
                if let Item::Frame(parcel) = item {
                    add(u64::try_from(parcel.bytes).unwrap_or(0));
                    add(parcel.frame.envelope.ts);
                }
            }
            Event::ToUsers { links, .. } => add(links.iter().map(|link| link.0).sum()),
            Event::Timer { host, .. } | Event::Written { host, .. } => add(u64::try_from(*host).unwrap_or(0)),
            _ => add(7),
        }
    }

    /// One thing happens; whether it was the last.
    fn on_event(&mut self, event: Event) -> bool {
        match event {
            Event::Start { host } => self.on_start(host),
            Event::Timer { host, life, at } => self.on_timer(host, life, at),
            Event::Arrive { from, to, item } => self.on_arrive(from, to, item),
            Event::ToUsers { links, item } => self.on_users_arrival(&links, &item),
            Event::Gone { party, link } => self.on_gone(party, link),
            Event::CloseOverdue { host, link } => self.on_close_overdue(host, link),
            Event::Dial {
                host,
                life,
                dial,
                address,
                key,
            } => self.on_dial(host, life, dial, &address, key),
            Event::DialFailed {
                host,
                life,
                dial,
                reason,
            } => self.on_dial_failed(host, life, dial, reason),
            Event::Flushed { host, link } => self.on_flushed(host, link),
            Event::ReadOn { host, link } => self.read_on(host, link),
            Event::Overflow { host, link } => self.on_overflow(host, link),
            Event::Written { host, life, save } => self.on_written(host, life, save),
            Event::Read {
                host,
                life,
                link,
                shelf,
                after,
            } => self.on_read(host, life, link, (&shelf, after)),
            Event::Endorsed { host, life, user, sig } => self.on_endorsed(host, life, user, sig),
            Event::Pong { host, link } => self.on_pong(host, link),
            Event::Wake { user } => self.on_wake(user),
            Event::ProgramWrites { user, link } => self.on_program_writes(user, link),
            Event::ProgramAcks { user, link } => self.on_program_acks(user, link),
            Event::ProgramResends { user, link } => self.on_program_resends(user, link),
            Event::Return { round } => self.on_return(round),
            Event::FaultBegins { index } => self.on_fault_begins(index),
            Event::FaultEnds { index } => self.on_fault_ends(index),
            Event::Scheme { host } => self.on_scheme(host),
            Event::HostileHangsUp { host, link } => self.hang_up_on(host, link),
            Event::Judge { said } => self.oracle.on_judge(said),
            Event::Restrict => self.on_restrict(),
            Event::CountCrossings => self.oracle.count_crossings(),
            Event::Observe => self.add_observers(),
            Event::Rest => self.is_resting = true,
            Event::Audit => return self.on_audit(),
        }
        false
    }

    fn on_arrive(&mut self, from: LinkId, to: LinkId, item: Item) {
        let Some(party) = self.net.end(to).map(|end| end.party) else {
            // The connection is gone on this side; whoever is there says so, if there is anybody.
            if let Some(end) = self.net.end(from) {
                let is_answered = match end.far {
                    Party::Host(host) => self.is_listening(host),
                    Party::User(_) => false,
                };
                let (party, link) = (end.party, from);
                if is_answered {
                    self.queue.after(5, Event::Gone { party, link });
                }
            }
            return;
        };
        match party {
            Party::Host(host) if host >= self.nodes.len() => self.hostile_hears(host, to, &item),
            Party::Host(host) => self.on_arrival(host, to, item),
            Party::User(_) => {}
        }
    }

    fn on_gone(&mut self, party: Party, link: LinkId) {
        match party {
            Party::Host(host) if host >= self.nodes.len() => self.hostile_loses(host, link),
            Party::Host(host) => self.forget_link(host, link),
            Party::User(user) => self.on_user_gone(user, link),
        }
    }

    /// From now on only neighbours reach each other.
    fn on_restrict(&mut self) {
        let count = self.nodes.len();
        let topology = self.options.topology;
        self.tell(|| "only neighbours reach each other from now on".to_owned());
        self.oracle.on_fault_begins();
        for a in 0..count {
            for b in (0..count).filter(|b| *b != a && !topology.joins(a, *b, count)) {
                self.block(a, b, true);
                self.cut_between(a, b);
            }
        }
        self.oracle.on_fault_ends();
    }

    /// Whether what is said comes in order: nobody in the middle changes that, and no disk takes the second and not the
    /// first.
    fn keeps_order(&self) -> bool {
        let spoilers = [
            FaultKind::Loss,
            FaultKind::Doubling,
            FaultKind::Disorder,
            FaultKind::Hostile,
            FaultKind::Disk,
        ];
        !spoilers.iter().any(|kind| self.options.faults.has(*kind))
    }

    fn topology_tells_versions(&self) -> bool {
        self.options.topology == Topology::Mesh
    }

    /// The end is near: observers ask for lists, then the run is over.
    fn on_audit(&mut self) -> bool {
        let observers: Vec<usize> = (0..self.users.len())
            .filter(|user| self.users[*user].is_observer)
            .collect();
        if self.has_asked {
            // A liar may have come as a user a moment ago; that is still being told.
            if self.topology_tells_versions() && self.versions_differ() && self.waits_for_versions > 0 {
                self.waits_for_versions -= 1;
                self.queue.after(VERSIONS_MS, Event::Audit);
                return false;
            }
            self.audit_views();
            if self.topology_tells_versions() {
                self.audit_versions();
            }
            self.oracle.on_promises_due(self.keeps_order());
            self.oracle
                .on_end(self.lists_before_audit + u64::try_from(observers.len()).unwrap_or(0));
            return true;
        }
        self.has_asked = true;
        self.lists_before_audit = self.oracle.stats.lists_judged;
        for user in observers {
            self.ask_list(user, None);
        }
        self.queue.after(5_000, Event::Audit);
        false
    }
}
