//! Servers, the links among them and whoever else connects, all in memory.
//!
//! A [`World`] does for each [`Server`] what the driver does: it reads texts, verifies, answers saves and signatures,
//! dials and closes. Only the signatures are toys: SHA-256 over the public key and the text, so that anyone who knows
//! the key can make them.

use super::super::*;
use super::shelves::Shelves;
use super::toy_opaque;
use crate::clock::Now;
use socp_proto::limits::DELEGATION_LASTS_MS;
use socp_proto::payload::{DirectMessage, UserHello, msg_ref};
use socp_proto::{Base64Url, Delegation, Envelope, Id, KeyText, Meta, utf8_form};
use std::collections::{BTreeMap, BTreeSet};

/// When every world begins, ms since the Unix epoch.
pub(super) const BEGIN: u64 = 1_700_000_000_000;

/// The test's end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) node: &'static str,
    pub(super) link: LinkId,
}

/// A user at a wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct User {
    pub(super) id: &'static str,
    pub(super) wire: Wire,
}

/// What came out of a wire.
#[derive(Debug, Default)]
struct WireBox {
    texts: Vec<String>,
    pings: usize,
    closed: Option<u16>,
    closed_at: Option<u64>,
    answers_pings: bool,
}

/// What is on its way to one end of a link.
#[derive(Debug)]
enum Item {
    Text(String),
    Pong,
    /// The far end is gone; it hears back if it said so itself.
    Close {
        wants_answer: bool,
    },
}

/// One server's end of a link.
#[derive(Debug)]
struct End {
    /// The other server's end; none: the test's.
    far: Option<(&'static str, LinkId)>,
    role: Option<Role>,
    /// The delegation that came on it.
    delegation: Option<Delegation>,
    expected_key: Option<KeyText>,
    /// The key of the introduction that came on it.
    introduced: Option<KeyText>,
    inbox: VecDeque<Item>,
    /// A first frame waits for its answer.
    is_waiting: bool,
    has_permit: bool,
    is_closing: bool,
}

/// One server with what its driver keeps.
pub(super) struct Node {
    pub(super) server: Server,
    pub(super) config: Config,
    /// The key that signs where the server's own does not.
    delegation: Option<Delegation>,
    is_up: bool,
    links: BTreeMap<LinkId, End>,
    pub(super) keyring: BTreeMap<ServerId, KeyText>,
    pub(super) pins: BTreeMap<ServerId, ServerPin>,
    pub(super) users: BTreeMap<UserId, UserRecord>,
    /// What passwords open.
    pub(super) kept: BTreeMap<UserId, KeptPassword>,
    /// What else is durable: the channel, what was delivered.
    pub(super) memory: Memory,
    pub(super) shelves: Shelves,
    pub(super) notes: Vec<Note>,
    pub(super) has_stopped: bool,
    /// Where and when it dialled.
    pub(super) dialled: Vec<(String, u64)>,
    /// Saves and signatures wait for the test.
    pub(super) is_slow: bool,
    slow: VecDeque<Input>,
}

pub(super) struct World {
    pub(super) now: Now,
    nodes: BTreeMap<&'static str, Node>,
    wires: BTreeMap<LinkId, WireBox>,
    /// Addresses at which the test itself listens, and the wires that came of it.
    pub(super) listens: BTreeMap<String, Vec<Wire>>,
    /// Addresses at which TLS is spoken: what the dialling end has of the session, and what the far end exports.
    pub(super) sessions: BTreeMap<String, (TlsSession, Bytes32)>,
    last_link: u64,
    /// From where the next connection comes.
    pub(super) from: IpAddr,
    /// Which link is served next; 0: in turn.
    pub(super) shuffle: u64,
    /// Pairs of servers that cannot reach each other.
    blocked: BTreeSet<(&'static str, &'static str)>,
    /// What servers said to each other, since the test began to listen.
    pub(super) overheard: Option<Vec<(&'static str, &'static str, Frame)>>,
}

pub(super) fn key(name: &str) -> KeyText {
    KeyText::from_der(format!("key of {name}").as_bytes())
}

pub(super) fn server_id(name: &str) -> ServerId {
    ServerId::try_from(name).unwrap()
}

pub(super) fn user_id(name: &str) -> UserId {
    UserId::try_from(name).unwrap()
}

pub(super) fn toy_sig(key: &KeyText, text: &str) -> Vec<u8> {
    let mut bytes = key.der();
    bytes.push(0);
    bytes.extend(text.as_bytes());
    socp_proto::sha256(&bytes).to_vec()
}

/// As long as an Ed25519 signature.
pub(super) fn toy_delegate_sig(delegation: &Delegation, text: &[u8]) -> Vec<u8> {
    let half = socp_proto::sha256(&[&delegation.key, text].concat());
    [half, half].concat()
}

/// What a server's own key would say of another.
pub(super) fn delegation(server: &str, number: u8) -> Delegation {
    Delegation {
        key: [number; 32],
        server_id: server_id(server),
        not_before: BEGIN,
        not_after: BEGIN + DELEGATION_LASTS_MS,
        sig: Base64Url::encode(&[number]),
        extra: socp_proto::Object::new(),
    }
}

fn verifies(envelope: &Envelope, key: &KeyText) -> bool {
    envelope.sig.decode() == toy_sig(key, &envelope.signed_text())
}

fn content_text(ciphertext: &str, from: &str, to: &str, ts: u64) -> String {
    format!("{ciphertext}{from}{to}{ts}")
}

/// An unsigned frame.
pub(super) fn draft(from: &str, to: &str, ts: u64, payload: &Payload) -> Draft {
    let to = Address::try_from(to).unwrap();
    Draft::new(Id::try_from(from).unwrap(), to, ts, payload)
}

pub(super) fn unsigned(draft: Draft) -> Envelope {
    draft.sign(&[])
}

pub(super) fn signed(draft: Draft, by: &str) -> Envelope {
    let sig = toy_sig(&key(by), &draft.signed_text());
    draft.sign(&sig)
}

/// A message with the author's content signature.
pub(super) fn direct(from: &str, to: &str, ts: u64, ciphertext: &[u8]) -> DirectMessage {
    let ciphertext = Base64Url::encode(ciphertext);
    let text = content_text(ciphertext.as_str(), from, to, ts);
    DirectMessage {
        content_sig: Base64Url::encode(&toy_sig(&key(from), &text)),
        sender_pub: key(from),
        ciphertext,
        home: None,
    }
}

/// The hello to the letter of SOCP §9.1.
pub(super) fn plain_hello(user: &str) -> UserHello {
    UserHello {
        client: "test".to_owned(),
        pubkey: key(user),
        enc_pubkey: None,
        caps: None,
        meta: None,
        server_id: None,
        ts: None,
        history: None,
        presence: None,
        mailbox: None,
    }
}

pub(super) fn config(name: &'static str) -> Config {
    let (clock_behind_ms, clock_ahead_ms) = Config::CLOCK_TOLERANCE_MS;
    Config {
        has_tls: false,
        history: None,
        server_id: server_id(name),
        name: Some(format!("server {name}")),
        key: key(name),
        host: name.to_owned(),
        port: 1,
        bootstrap: Vec::new(),
        accept: Accept::Open,
        takes_users: true,
        directory: Directory::Open,
        verify_content: true,
        allow_unsigned_join: false,
        delegation: None,
        proves: true,
        batches: false,
        passwords: false,
        clock_behind_ms,
        clock_ahead_ms,
        seed: socp_proto::sha256(name.as_bytes()),
        keeps: true,
        run: 1,
    }
}

pub(super) fn entry(host: &str, key: Option<KeyText>) -> BootstrapEntry {
    BootstrapEntry {
        tls: None,
        host: host.to_owned(),
        port: 1,
        key,
    }
}

impl World {
    pub(super) fn empty() -> Self {
        Self {
            now: Now { mono: 0, unix: BEGIN },
            nodes: BTreeMap::new(),
            wires: BTreeMap::new(),
            listens: BTreeMap::new(),
            sessions: BTreeMap::new(),
            last_link: 0,
            from: IpAddr::from([192, 0, 2, 7]),
            shuffle: 0,
            blocked: BTreeSet::new(),
            overheard: None,
        }
    }

    /// One server, open to everyone.
    pub(super) fn one(name: &'static str) -> Self {
        let mut world = Self::empty();
        world.add(config(name), name);
        world
    }

    /// Servers that joined by the first.
    pub(super) fn mesh(names: &[&'static str]) -> Self {
        Self::mesh_of(names, |_| false)
    }

    /// The same, where these tell their peers of users in batches.
    pub(super) fn mesh_of(names: &[&'static str], in_batches: impl Fn(&str) -> bool) -> Self {
        let mut world = Self::empty();
        for name in names {
            let mut config = config(name);
            config.batches = in_batches(name);
            if *name != names[0] {
                config.bootstrap = vec![entry(names[0], Some(key(names[0])))];
            }
            world.add(config, name);
        }
        world
    }

    pub(super) fn add(&mut self, config: Config, name: &'static str) {
        let server = Server::new(self.now, config.clone(), Memory::default());
        let node = Node {
            server,
            delegation: config.delegation.clone(),
            config,
            is_up: true,
            links: BTreeMap::new(),
            keyring: BTreeMap::new(),
            pins: BTreeMap::new(),
            users: BTreeMap::new(),
            kept: BTreeMap::new(),
            memory: Memory::default(),
            shelves: Shelves::default(),
            notes: Vec::new(),
            has_stopped: false,
            dialled: Vec::new(),
            is_slow: false,
            slow: VecDeque::new(),
        };
        self.nodes.insert(name, node);
        self.perform(name);
        self.settle();
    }

    pub(super) fn node(&self, name: &str) -> &Node {
        &self.nodes[name]
    }

    pub(super) fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).unwrap()
    }

    /// A server's links are gone, nobody answers at its address; what it saved stays.
    pub(super) fn crash(&mut self, name: &'static str) {
        let links: Vec<LinkId> = self.node(name).links.keys().copied().collect();
        for link in links {
            self.cut(Wire { node: name, link });
        }
        let node = self.node_mut(name);
        node.is_up = false;
        node.slow.clear();
        self.settle();
    }

    /// Servers begin again, at the same moment, with what they saved.
    pub(super) fn start(&mut self, names: &[&'static str]) {
        self.begin(names);
        self.settle();
    }

    /// The same, but nothing has happened yet.
    pub(super) fn begin(&mut self, names: &[&'static str]) {
        let now = self.now;
        for name in names {
            let node = self.node_mut(name);
            let (mailboxes, outbound) = node.shelves.memory();
            node.config.run += 1;
            let memory = Memory {
                mailboxes,
                outbound,
                pins: node.pins.values().cloned().collect(),
                users: node.users.values().cloned().collect(),
                ..node.memory.clone()
            };
            node.delegation.clone_from(&node.config.delegation);
            node.server = Server::new(now, node.config.clone(), memory);
            node.keyring.clear();
            node.is_up = true;
            node.has_stopped = false;
            self.perform(name);
        }
    }

    /// Breaks a connection: both ends learn it, what was on its way is lost.
    pub(super) fn cut(&mut self, wire: Wire) {
        let Some(end) = self.node_mut(wire.node).links.remove(&wire.link) else {
            return;
        };
        self.handle(wire.node, Input::Closed { link: wire.link });
        if let Some((node, link)) = end.far {
            self.cut(Wire { node, link });
        }
    }

    /// Breaks every link between two servers.
    pub(super) fn part(&mut self, a: &'static str, b: &'static str) {
        for link in self.links_between(a, b) {
            self.cut(Wire { node: a, link });
        }
        self.settle();
    }

    /// From now on two servers cannot reach each other.
    pub(super) fn block(&mut self, a: &'static str, b: &'static str) {
        self.blocked.extend([(a, b), (b, a)]);
        self.part(a, b);
    }

    /// From now on they can.
    pub(super) fn unblock(&mut self, a: &'static str, b: &'static str) {
        self.blocked.remove(&(a, b));
        self.blocked.remove(&(b, a));
    }

    /// The links of `a` whose far end is `b`.
    pub(super) fn links_between(&self, a: &str, b: &str) -> Vec<LinkId> {
        let links = self.node(a).links.iter();
        let to_b = links.filter(|(_, end)| end.far.is_some_and(|(node, _)| node == b));
        to_b.map(|(link, _)| *link).collect()
    }

    /// Opens a connection to a server.
    pub(super) fn connect(&mut self, node: &'static str) -> Wire {
        self.connect_by(node, None)
    }

    /// The same by TLS that ends there and exports this.
    pub(super) fn connect_by(&mut self, node: &'static str, tls: Option<Bytes32>) -> Wire {
        let link = self.new_link(node, None, None);
        self.wires.insert(link, WireBox::default());
        let from = self.from;
        self.handle(node, Input::Accepted { link, from, tls });
        Wire { node, link }
    }

    /// Two servers dial each other, as far as the driver goes.
    fn dialled(&mut self, from: &'static str, dial: DialId, address: &str, key: Option<KeyText>, wants_tls: bool) {
        let at = self.now.mono;
        self.node_mut(from).dialled.push((address.to_owned(), at));
        let session = self.sessions.get(address).copied();
        if session.is_some() != wants_tls {
            let reason = "one end speaks TLS".to_owned();
            return self.handle(from, Input::DialFailed { dial, reason });
        }
        // The driver takes any certificate only where it is told which key must be proved instead.
        if session.is_some_and(|(near, _)| !near.is_certified) && key.is_none() {
            let reason = "nobody vouches for the certificate".to_owned();
            return self.handle(from, Input::DialFailed { dial, reason });
        }
        let (tls, far_tls) = (session.map(|(near, _)| near), session.map(|(_, far)| far));
        let target = self
            .nodes
            .iter()
            .find(|(_, node)| node.is_up && format!("{}:{}", node.config.host, node.config.port) == address)
            .map(|(name, _)| *name)
            .filter(|name| !self.blocked.contains(&(from, *name)));
        if let Some(target) = target {
            let near = self.new_link(from, None, key);
            let far = self.new_link(target, Some((from, near)), None);
            self.node_mut(from).links.get_mut(&near).unwrap().far = Some((target, far));
            let address = self.from;
            self.handle(
                target,
                Input::Accepted {
                    link: far,
                    from: address,
                    tls: far_tls,
                },
            );
            self.handle(from, Input::Dialled { dial, link: near, tls });
        } else if self.listens.contains_key(address) {
            let link = self.new_link(from, None, key);
            self.wires.insert(link, WireBox::default());
            let wire = Wire { node: from, link };
            self.listens.get_mut(address).unwrap().push(wire);
            self.handle(from, Input::Dialled { dial, link, tls });
        } else {
            let reason = "refused".to_owned();
            self.handle(from, Input::DialFailed { dial, reason });
        }
    }

    fn new_link(
        &mut self,
        node: &'static str,
        far: Option<(&'static str, LinkId)>,
        expected_key: Option<KeyText>,
    ) -> LinkId {
        self.last_link += 1;
        let link = LinkId(self.last_link);
        let end = End {
            far,
            role: None,
            delegation: None,
            expected_key,
            introduced: None,
            inbox: VecDeque::new(),
            is_waiting: false,
            has_permit: false,
            is_closing: false,
        };
        self.node_mut(node).links.insert(link, end);
        link
    }

    /// Sends an envelope out of a wire and lets the world come to rest.
    pub(super) fn send(&mut self, wire: Wire, envelope: &Envelope) {
        self.send_text(wire, envelope.to_text());
    }

    /// Sends an envelope, but nothing has happened yet.
    pub(super) fn post(&mut self, wire: Wire, envelope: &Envelope) {
        self.push(wire.node, wire.link, Item::Text(envelope.to_text()));
    }

    pub(super) fn send_text(&mut self, wire: Wire, text: String) {
        self.push(wire.node, wire.link, Item::Text(text));
        self.settle();
    }

    /// The test's end goes away.
    pub(super) fn hang_up(&mut self, wire: Wire) {
        let gone = Item::Close { wants_answer: false };
        self.push(wire.node, wire.link, gone);
        self.settle();
    }

    /// What the driver found wrong itself.
    pub(super) fn refuse(&mut self, wire: Wire, fault: Fault) {
        let link = wire.link;
        self.handle(wire.node, Input::Refused { link, fault });
        self.settle();
    }

    pub(super) fn stop(&mut self, name: &'static str) {
        self.handle(name, Input::Stop);
        self.settle();
    }

    /// The next save that waits fails; false if another thing waits.
    pub(super) fn fail_save(&mut self, name: &'static str) -> bool {
        let Some(Input::Saved { save }) = self.node_mut(name).slow.pop_front() else {
            return false;
        };
        let reason = "disk full".to_owned();
        self.handle(name, Input::SaveFailed { save, reason });
        self.settle();
        true
    }

    /// Answers what waited while the server was slow, oldest first.
    pub(super) fn answer_slow(&mut self, name: &'static str, count: usize) {
        for _ in 0..count {
            let Some(input) = self.node_mut(name).slow.pop_front() else {
                break;
            };
            self.handle(name, input);
        }
        self.settle();
    }

    /// As if the oldest save had failed.
    pub(super) fn fail_slow(&mut self, name: &'static str) {
        let Some(Input::Saved { save }) = self.node_mut(name).slow.pop_front() else {
            panic!("no save waits");
        };
        let reason = "disk full".to_owned();
        self.handle(name, Input::SaveFailed { save, reason });
        self.settle();
    }

    /// What came out of a wire since the last time.
    pub(super) fn take(&mut self, wire: Wire) -> Vec<Frame> {
        let texts = std::mem::take(&mut self.wires.get_mut(&wire.link).unwrap().texts);
        let frames = texts.iter().map(|text| Frame::parse(text).unwrap());
        frames.collect()
    }

    pub(super) fn take_kinds(&mut self, wire: Wire) -> Vec<FrameKind> {
        let frames = self.take(wire);
        frames.iter().map(|frame| frame.envelope.kind).collect()
    }

    /// The codes of the errors that came out of a wire; nothing else may have come.
    pub(super) fn take_errors(&mut self, wire: Wire) -> Vec<ErrorCode> {
        let code = |frame: Frame| match frame.payload {
            Payload::Error(notice) => notice.code,
            other => panic!("{other:?} is no error"),
        };
        self.take(wire).into_iter().map(code).collect()
    }

    pub(super) fn closed(&self, wire: Wire) -> Option<u16> {
        self.wires[&wire.link].closed
    }

    /// When it was closed, ms since the world began.
    pub(super) fn closed_at(&self, wire: Wire) -> Option<u64> {
        self.wires[&wire.link].closed_at
    }

    pub(super) fn pings(&self, wire: Wire) -> usize {
        self.wires[&wire.link].pings
    }

    pub(super) fn answer_pings(&mut self, wire: Wire, is_answering: bool) {
        self.wires.get_mut(&wire.link).unwrap().answers_pings = is_answering;
    }

    /// Lets time pass.
    pub(super) fn wait(&mut self, ms: u64) {
        let end = self.now.mono + ms;
        loop {
            let up = self.nodes.values().filter(|node| node.is_up);
            let due = up.filter_map(|node| node.server.poll_timeout()).min();
            let Some(due) = due.filter(|due| *due <= end) else {
                break;
            };
            self.set_clock(due.max(self.now.mono));
            self.settle();
        }
        self.set_clock(end);
    }

    fn set_clock(&mut self, mono: u64) {
        let unix = self.now.unix + (mono - self.now.mono);
        self.now = Now { mono, unix };
    }

    /// All wall clocks are set to another time.
    pub(super) fn set_wall_clocks(&mut self, unix: u64) {
        self.now.unix = unix;
    }

    /// Delivers everything and fires every timer that is due.
    pub(super) fn settle(&mut self) {
        for _ in 0..5_000_000 {
            let is_at_rest = match self.random(3) {
                0 => !self.deliver_one() && !self.fire() && !self.answer_one(),
                1 => !self.fire() && !self.answer_one() && !self.deliver_one(),
                _ => !self.answer_one() && !self.deliver_one() && !self.fire(),
            };
            if is_at_rest {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// A number below `count`; 0 in a world that is not shuffled.
    fn random(&mut self, count: usize) -> usize {
        if self.shuffle == 0 {
            return 0;
        }
        // Knuth's generator for MMIX; any would do.
        self.shuffle = self
            .shuffle
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.shuffle >> 40).unwrap() % count
    }

    /// Answers a save or a signature of a server that is not slow.
    fn answer_one(&mut self) -> bool {
        let waiting: Vec<&'static str> = self
            .nodes
            .iter()
            .filter(|(_, node)| !node.is_slow && !node.slow.is_empty())
            .map(|(name, _)| *name)
            .collect();
        if waiting.is_empty() {
            return false;
        }
        let name = waiting[self.random(waiting.len())];
        let answer = self.node_mut(name).slow.pop_front().unwrap();
        self.handle(name, answer);
        true
    }

    fn fire(&mut self) -> bool {
        let now = self.now;
        let is_due = |node: &Node| node.is_up && node.server.poll_timeout().is_some_and(|at| at <= now.mono);
        let due = self.nodes.iter().filter(|(_, node)| is_due(node));
        let due: Vec<&'static str> = due.map(|(name, _)| *name).collect();
        if due.is_empty() {
            return false;
        }
        let name = due[self.random(due.len())];
        self.node_mut(name).server.handle_timeout(now);
        self.perform(name);
        true
    }

    /// Reads one thing from some link that has something.
    fn deliver_one(&mut self) -> bool {
        let ready: Vec<Wire> = self
            .nodes
            .iter()
            .flat_map(|(name, node)| {
                let ready = node
                    .links
                    .iter()
                    .filter(|(_, end)| !end.inbox.is_empty() && !end.is_waiting);
                ready.map(|(link, _)| Wire {
                    node: name,
                    link: *link,
                })
            })
            .collect();
        if ready.is_empty() {
            return false;
        }
        let choice = self.random(ready.len());
        let Wire { node, link } = ready[choice];
        let end = self.node_mut(node).links.get_mut(&link).unwrap();
        match end.inbox.pop_front().unwrap() {
            Item::Text(text) => self.read(node, link, &text),
            Item::Pong => self.handle(node, Input::Alive { link }),
            Item::Close { wants_answer } => {
                let end = self.node_mut(node).links.remove(&link).unwrap();
                if let (true, Some((far, far_link))) = (wants_answer, end.far) {
                    let answer = Item::Close { wants_answer: false };
                    self.push(far, far_link, answer);
                }
                self.handle(node, Input::Closed { link });
            }
        }
        true
    }

    fn push(&mut self, node: &str, link: LinkId, item: Item) {
        if let Some(end) = self.node_mut(node).links.get_mut(&link) {
            end.inbox.push_back(item);
        }
    }

    /// What the driver's reader does with one text.
    fn read(&mut self, name: &'static str, link: LinkId, text: &str) {
        let node = self.node_mut(name);
        let end = node.links.get_mut(&link).unwrap();
        let checked = match (Frame::parse(text), &end.role) {
            (Err(error), _) => Err(Fault::Frame(error)),
            (Ok(frame), None) => {
                end.is_waiting = !std::mem::take(&mut end.has_permit);
                let introduced = end.introduced.clone();
                let first = check_first(frame, end.expected_key.clone(), introduced);
                if let Ok(FirstFrame { key: Some(key), .. }) = &first {
                    end.introduced = Some(key.clone());
                }
                first.map(|first| Input::First { link, first })
            }
            (Ok(frame), Some(Role::Peer(peer))) => {
                let delegation = end.delegation.as_ref();
                let checked = check_peer(frame, peer, &node.keyring, delegation);
                if let Ok(frame) = &checked
                    && let Payload::Heartbeat(heartbeat) = &frame.get().payload
                    && heartbeat.delegation.is_some()
                {
                    end.delegation.clone_from(&heartbeat.delegation);
                }
                checked.map(|frame| Input::Peer { link, frame })
            }
            (Ok(frame), Some(Role::User(_, key))) => check_user(frame, key, link, node.config.verify_content),
        };
        let input = checked.unwrap_or_else(|fault| Input::Refused { link, fault });
        self.handle(name, input);
    }

    pub(super) fn handle(&mut self, name: &'static str, input: Input) {
        let now = self.now;
        let node = self.node_mut(name);
        if node.is_up {
            node.server.handle(now, input);
            self.perform(name);
        }
    }

    /// What the driver's hub does with outputs.
    fn perform(&mut self, name: &'static str) {
        let mut answers = Vec::new();
        let mut dials = Vec::new();
        let mut flushed = Vec::new();
        while let Some(output) = self.node_mut(name).server.poll_output() {
            match output {
                Output::Send { to, draft, by } => {
                    let key = self.node(name).config.key.clone();
                    let envelope = match by {
                        Seal::Server => {
                            let sig = toy_sig(&key, &draft.signed_text());
                            draft.sign(&sig)
                        }
                        Seal::Delegate => {
                            let delegation = self.node(name).delegation.clone().unwrap();
                            let signed = draft.sign_whole(|text| Ok::<_, ()>(toy_delegate_sig(&delegation, text)));
                            signed.unwrap()
                        }
                    };
                    self.transmit(name, &to, &envelope.to_text());
                }
                Output::Forward { to, envelope } => {
                    self.transmit(name, &to, &envelope.to_text());
                }
                Output::Close { link, code, .. } => self.close(name, link, code.number()),
                Output::Fence { link } => flushed.push(link),
                Output::Ping { link } => {
                    let wire = self.wires.get_mut(&link).unwrap();
                    wire.pings += 1;
                    if wire.answers_pings {
                        self.push(name, link, Item::Pong);
                    }
                }
                Output::Dial {
                    dial,
                    host,
                    port,
                    key,
                    tls,
                } => dials.push((dial, format!("{host}:{port}"), key, tls.is_some())),
                Output::Identified { link, role } => {
                    if let Some(end) = self.node_mut(name).links.get_mut(&link) {
                        end.role = Some(role);
                    }
                }
                Output::Proceed { link } => {
                    if let Some(end) = self.node_mut(name).links.get_mut(&link) {
                        end.has_permit = !std::mem::take(&mut end.is_waiting);
                    }
                }
                Output::Trust { server, key } => {
                    self.node_mut(name).keyring.insert(server, key);
                }
                Output::Distrust { server } => {
                    self.node_mut(name).keyring.remove(&server);
                }
                Output::Endorse { user, statement } => {
                    let sig = toy_sig(&self.node(name).config.key, &utf8_form(&statement));
                    let sig = Base64Url::encode(&sig);
                    answers.push(Input::Endorsed { user, sig });
                }
                Output::Opaque { link, work } => {
                    let done = toy_opaque::compute(work);
                    answers.push(Input::Opaque { link, done });
                }
                Output::Fetch { link, user } => {
                    let kept = self.node(name).kept.get(&user).cloned();
                    answers.push(Input::Fetched { link, kept });
                }
                Output::ReadPage { link, shelf, after } => {
                    let page = Some(self.node(name).shelves.read_page(&shelf, after));
                    answers.push(Input::PageRead { link, page });
                }
                Output::Save { save, record } => {
                    self.node_mut(name).write(record);
                    answers.push(Input::Saved { save });
                }
                Output::Note(note) => self.node_mut(name).notes.push(note),
                Output::Stopped => self.node_mut(name).has_stopped = true,
            }
        }
        self.node_mut(name).slow.extend(answers);
        for (dial, address, key, wants_tls) in dials {
            self.dialled(name, dial, &address, key, wants_tls);
        }
        for link in flushed {
            self.handle(name, Input::Flushed { link });
        }
    }

    fn transmit(&mut self, name: &str, to: &[LinkId], text: &str) {
        assert!(!self.node(name).has_stopped, "output after the last one");
        for link in to {
            let Some(end) = self.node(name).links.get(link).filter(|end| !end.is_closing) else {
                continue;
            };
            match end.far {
                Some((node, far)) => {
                    if let Some(overheard) = &mut self.overheard {
                        let from = *self.nodes.get_key_value(name).unwrap().0;
                        overheard.push((from, node, Frame::parse(text).unwrap()));
                    }
                    self.push(node, far, Item::Text(text.to_owned()));
                }
                None => {
                    let wire = self.wires.get_mut(link).unwrap();
                    wire.texts.push(text.to_owned());
                }
            }
        }
    }

    fn close(&mut self, name: &'static str, link: LinkId, code: u16) {
        let at = self.now.mono;
        let Some(end) = self.node_mut(name).links.get_mut(&link) else {
            return;
        };
        if std::mem::replace(&mut end.is_closing, true) {
            return;
        }
        match end.far {
            Some((node, far)) => self.push(node, far, Item::Close { wants_answer: true }),
            None => {
                end.is_waiting = false;
                end.inbox.push_back(Item::Close { wants_answer: false });
                let wire = self.wires.get_mut(&link).unwrap();
                (wire.closed, wire.closed_at) = (Some(code), Some(at));
            }
        }
    }
}

impl Node {
    /// For the next start.
    pub(super) fn add_bootstrap(&mut self, entry: BootstrapEntry) {
        self.config.bootstrap.push(entry);
    }

    fn write(&mut self, record: Record) {
        match record {
            Record::Identity(id) => self.config.server_id = id,
            Record::Pin(pin) | Record::PinReplaced(pin) => {
                self.pins.insert(pin.server_id.clone(), pin);
            }
            Record::User(user) => {
                self.users.insert(user.user_id.clone(), user);
            }
            Record::Ousted(user) | Record::Deleted(user) => {
                self.users.remove(&user);
                self.memory.passwords.retain(|(known, _)| *known != user);
                self.kept.remove(&user);
            }
            Record::Password(set) => {
                self.memory.passwords.retain(|(user, _)| *user != set.user_id);
                let (record, sealed) = (set.record.clone(), set.sealed);
                self.memory.passwords.push((set.user_id.clone(), set.record));
                self.kept.insert(set.user_id, KeptPassword { record, sealed });
            }
            Record::Unpinned(server) => {
                self.pins.remove(&server);
            }
            Record::Member { user, version, .. } => {
                self.memory.members.push(user);
                self.memory.channel_version = version;
            }
            Record::ChannelVersion(version) => self.memory.channel_version = version,
            Record::Delivered(delivered) => self.memory.delivered.push(delivered),
            other => {
                if let Record::Mail(mail) = &other {
                    let (content, at) = (mail.content, mail.row.at);
                    self.memory
                        .delivered
                        .extend(content.map(|content| Delivered { content, at }));
                }
                self.shelves.write(other);
            }
        }
    }

    pub(super) fn has_noted(&self, is_it: impl Fn(&Note) -> bool) -> bool {
        self.notes.iter().any(is_it)
    }
}

fn check_first(frame: Frame, expected: Option<KeyText>, introduced: Option<KeyText>) -> Result<FirstFrame, Fault> {
    let offered = match &frame.payload {
        Payload::UserHello(hello) => Some(hello.pubkey.clone()),
        Payload::ServerHelloJoin(identity) | Payload::ServerAnnounce(identity) | Payload::ServerHelloLink(identity) => {
            Some(identity.pubkey.clone())
        }
        Payload::ServerWelcome(welcome) => welcome.pubkey.clone().or(expected),
        Payload::Proof(_) => introduced,
        _ => None,
    };
    let signer = match &offered {
        None => None,
        Some(_) if frame.envelope.sig.is_empty() => None,
        Some(key) if verifies(&frame.envelope, key) => Some(key.fingerprint()),
        Some(_) => {
            let kind = frame.envelope.kind;
            return Err(Fault::Signature { kind });
        }
    };
    Ok(FirstFrame {
        frame,
        key: offered,
        signer,
    })
}

fn check_peer(
    frame: Frame,
    peer: &ServerId,
    keyring: &BTreeMap<ServerId, KeyText>,
    delegation: Option<&Delegation>,
) -> Result<Verified<Frame>, Fault> {
    let kind = frame.envelope.kind;
    if let (Seal::Delegate, Some(delegation)) = (seal_of(&frame, peer, delegation.is_some())?, delegation) {
        let is_good = frame.envelope.sig.decode() == toy_delegate_sig(delegation, &frame.envelope.delegated_text());
        return match is_good {
            true => Ok(Verified::checked(frame, keyring[peer].fingerprint())),
            false => Err(Fault::Signature { kind }),
        };
    }
    let origin = frame.envelope.signer(peer);
    match keyring.get(&origin) {
        Some(key) if verifies(&frame.envelope, key) => Ok(Verified::checked(frame, key.fingerprint())),
        // Whoever only passes a frame on is not to blame for it.
        Some(_) | None if origin == *peer => Err(Fault::Signature { kind }),
        Some(_) | None => Err(Fault::UnknownOrigin { kind }),
    }
}

fn check_user(frame: Frame, key: &KeyText, link: LinkId, verify_content: bool) -> Result<Input, Fault> {
    let Envelope { kind, from, to, ts, .. } = &frame.envelope;
    if !frame.envelope.sig.is_empty() && !verifies(&frame.envelope, key) {
        return Err(Fault::Signature { kind: *kind });
    }
    let mut content = None;
    if let (Some((text, sig)), true) = (authored_text(&frame), verify_content) {
        if sig.decode() != toy_sig(key, &text) {
            let msg_ref = msg_ref(sig);
            return Err(Fault::Content { msg_ref });
        }
        content = Some(key.fingerprint());
    }
    if let (Payload::MsgDirect(message), true) = (&frame.payload, verify_content) {
        let ciphertext = message.ciphertext.as_str();
        let text = content_text(ciphertext, from.as_str(), to.as_str(), *ts);
        if message.content_sig.decode() != toy_sig(key, &text) {
            let msg_ref = msg_ref(&message.content_sig);
            return Err(Fault::Content { msg_ref });
        }
        content = Some(key.fingerprint());
    }
    if let Some((text, sig)) = account_text(&frame.payload) {
        let is_good = sig.decode() == toy_sig(key, &text);
        content = is_good.then(|| key.fingerprint());
    }
    Ok(Input::User { link, frame, content })
}

/// What a change of an account is signed over, and the signature.
fn account_text(payload: &Payload) -> Option<(String, &Base64Url)> {
    let (text, sig) = match payload {
        Payload::KeyUpdate(update) => (update.statement.signed_text(), &update.statement.sig),
        Payload::AccountDelete(delete) => (delete.signed_text(), &delete.sig),
        _ => return None,
    };
    Some((String::from_utf8(text).unwrap(), sig))
}

/// What the content signature of a channel, key share or file frame covers in these tests: sender, recipient, time,
/// and all of the payload but the signature itself.
fn authored_text(frame: &Frame) -> Option<(String, &Base64Url)> {
    let sig = match &frame.payload {
        Payload::MsgPublicChannel(message) => &message.content_sig,
        Payload::PublicChannelKeyShare(share) => &share.content_sig,
        Payload::FileStart(start) => start.content_sig.as_ref()?,
        Payload::FileChunk(chunk) => chunk.content_sig.as_ref()?,
        Payload::FileEnd(end) => end.content_sig.as_ref()?,
        _ => return None,
    };
    let Envelope { from, to, ts, .. } = &frame.envelope;
    let mut payload = frame.envelope.payload.clone();
    payload.remove("content_sig");
    Some((format!("{from}{to}{ts}{}", utf8_form(&payload)), sig))
}

/// Puts the author's content signature into a channel, key share or file payload.
pub(super) fn authored(from: &str, to: &str, ts: u64, payload: Payload) -> Payload {
    let sign = |text: &str| Base64Url::encode(&toy_sig(&key(from), text));
    // Any signature, so that the field is there to be taken out.
    let blank = with_sig(payload, sign(""));
    let frame = Frame {
        envelope: unsigned(draft(from, to, ts, &blank)),
        payload: blank.clone(),
    };
    let (text, _) = authored_text(&frame).expect("a payload with a content signature");
    with_sig(blank, sign(&text))
}

fn with_sig(mut payload: Payload, sig: Base64Url) -> Payload {
    match &mut payload {
        Payload::MsgPublicChannel(message) => message.content_sig = sig,
        Payload::PublicChannelKeyShare(share) => share.content_sig = sig,
        Payload::FileStart(start) => start.content_sig = Some(sig),
        Payload::FileChunk(chunk) => chunk.content_sig = Some(sig),
        Payload::FileEnd(end) => end.content_sig = Some(sig),
        other => panic!("{other:?} has no content signature"),
    }
    payload
}

/// A copy of a channel message for one member, or for all.
pub(super) fn channel_copy(from: &str, to: &str, ts: u64, ciphertext: &[u8]) -> Payload {
    let message = socp_proto::payload::ChannelMessage {
        ciphertext: Base64Url::encode(ciphertext),
        sender_pub: key(from),
        content_sig: Base64Url::encode(&[]),
        group_id: Some("public".to_owned()),
    };
    authored(from, to, ts, Payload::MsgPublicChannel(message))
}

impl World {
    /// A user says hello to the letter, which an open server takes.
    pub(super) fn user(&mut self, id: &'static str, node: &'static str) -> User {
        let wire = self.connect(node);
        self.hello(wire, id, plain_hello(id));
        assert!(
            self.wires[&wire.link].texts.iter().any(|text| text.contains("\"ACK\"")),
            "{id} is refused at {node}: {:?}",
            self.wires[&wire.link].texts
        );
        self.take(wire);
        User { id, wire }
    }

    pub(super) fn native_user(&mut self, id: &'static str, node: &'static str) -> User {
        let wire = self.connect(node);
        let hello = UserHello {
            caps: Some(socp_proto::Capabilities::default()),
            ..plain_hello(id)
        };
        self.hello(wire, id, hello);
        self.take(wire);
        User { id, wire }
    }

    /// Sends an unsigned hello.
    pub(super) fn hello(&mut self, wire: Wire, id: &str, hello: UserHello) {
        let ts = self.now.unix;
        self.send(wire, &unsigned(draft(id, "*", ts, &Payload::UserHello(hello))));
    }

    /// Sends a hello for this server, signed and fresh.
    pub(super) fn proven_hello(&mut self, wire: Wire, id: &str) -> Envelope {
        let ts = self.now.unix;
        let hello = UserHello {
            server_id: Some(self.node(wire.node).server.id().clone()),
            ts: Some(ts),
            meta: Some(Meta::default()),
            ..plain_hello(id)
        };
        let hello = signed(draft(id, "*", ts, &Payload::UserHello(hello)), id);
        self.send(wire, &hello);
        hello
    }

    /// The user sends an unsigned frame.
    pub(super) fn say(&mut self, user: User, to: &str, payload: &Payload) {
        let envelope = unsigned(draft(user.id, to, self.now.unix, payload));
        self.send(user.wire, &envelope);
    }

    /// The user sends a message with a good content signature.
    pub(super) fn tell(&mut self, user: User, to: &str, ciphertext: &[u8]) -> DirectMessage {
        let message = direct(user.id, to, self.now.unix, ciphertext);
        self.say(user, to, &Payload::MsgDirect(message.clone()));
        message
    }

    /// The driver makes a new key for a server.
    pub(super) fn delegate(&mut self, name: &'static str, delegation: Delegation) {
        self.node_mut(name).delegation = Some(delegation.clone());
        self.handle(name, Input::Delegated { delegation });
        self.settle();
    }

    /// The ids that a server lists.
    pub(super) fn list(&mut self, node: &'static str) -> Vec<String> {
        let asker = self.user("asker", node);
        let request = socp_proto::payload::ListRequest::default();
        self.say(asker, node, &Payload::ListRequest(request));
        let mut listed = Vec::new();
        for frame in self.take(asker.wire) {
            if let Payload::ListResponse(response) = frame.payload {
                listed.extend(response.users.iter().map(ToString::to_string));
            }
        }
        self.hang_up(asker.wire);
        listed.retain(|id| id != "asker");
        listed
    }
}

/// Who a server of the test says it is; without an address, so that nobody dials it.
pub(super) fn identity(name: &str) -> socp_proto::payload::ServerIdentity {
    socp_proto::payload::ServerIdentity {
        tls: false,
        history: None,
        host: String::new(),
        port: 0,
        pubkey: key(name),
        name: None,
        caps: None,
        nonce: None,
    }
}

impl World {
    /// The test speaks as a server that announced itself.
    pub(super) fn peer(&mut self, name: &str, node: &'static str) -> Wire {
        let wire = self.connect(node);
        self.announce(wire, name, identity(name));
        assert_eq!(self.take_kinds(wire)[0], FrameKind::ServerAnnounce);
        wire
    }

    pub(super) fn announce(&mut self, wire: Wire, name: &str, identity: socp_proto::payload::ServerIdentity) {
        self.peer_says(wire, name, "*", &Payload::ServerAnnounce(identity));
    }

    /// A frame of a server of the test, signed with its key.
    pub(super) fn peer_says(&mut self, wire: Wire, name: &str, to: &str, payload: &Payload) {
        let envelope = signed(draft(name, to, self.now.unix, payload), name);
        self.send(wire, &envelope);
    }
}

/// Gossip of a server about its user.
pub(super) fn advert(user: &str, server: &str) -> Payload {
    Payload::UserAdvertise(socp_proto::payload::UserAdvertise {
        user_id: user_id(user),
        server_id: server_id(server),
        meta: Meta::default(),
        pubkey: Some(key(user)),
        enc_pubkey: None,
        caps: None,
        version: None,
        directory_sig: None,
        server_name: None,
        history: None,
    })
}

pub(super) fn remove(user: &str, server: &str) -> Payload {
    Payload::UserRemove(socp_proto::payload::UserRemove {
        user_id: user_id(user),
        server_id: server_id(server),
        deletion: None,
    })
}
