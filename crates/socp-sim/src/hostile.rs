//! Servers that lie: they speak the protocol with keys of their own and say whatever suits them.
//!
//! What they cannot do is sign with another's key. Everything else goes: forged and repeated frames, other servers'
//! users, users with other keys, floods, a welcome full of lies, false answers, texts that are no frames.

use crate::event::{Event, Item};
use crate::net::{Host, Party, UserNo};
use crate::node::BEGIN;
use crate::random::Dice;
use crate::toys::{self, Parcel};
use crate::world::World;
use socp_core::server::LinkId;
use socp_proto::payload::{
    ErrorNotice, Heartbeat, ListResponse, ServerDeliver, ServerIdentity, ServerWelcome, UserAdvertise, UserHello,
    UserRemove, WelcomeClient, WelcomeServer, msg_ref,
};
use socp_proto::{
    Address, Base64Url, Capabilities, Draft, ErrorCode, FrameKind, Id, KeyText, Meta, Object, PROOF, Payload, ServerId,
    UserId,
};
use std::collections::BTreeMap;
use std::rc::Rc;

/// One hostile server.
#[derive(Debug)]
pub(crate) struct Hostile {
    host: Host,
    pub(crate) id: ServerId,
    pub(crate) key: KeyText,
    pub(crate) dice: Dice,
    pub(crate) lines: BTreeMap<LinkId, Line>,
    /// Frames of others, to be said again.
    pub(crate) changes: Vec<Rc<Parcel>>,
    deliveries: Vec<Rc<Parcel>>,
    /// What honest servers said of themselves, and how they proved it.
    pub(crate) introductions: Vec<Rc<Parcel>>,
    pub(crate) proofs: Vec<Rc<Parcel>>,
    /// It proves whose key it has, as honest servers do (PROTOCOL II.2), and lies all the same.
    proves: bool,
    invented: u64,
    floods: u64,
}

/// A connection to an honest server.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) far: Host,
    /// The other side knows who this is.
    pub(crate) is_up: bool,
    pub(crate) part: Part,
    /// What was said first on it.
    pub(crate) said: Option<Object>,
}

/// Whom it plays on a line.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// Itself.
    Itself,
    /// A server under this id and with this key, which nobody knows.
    Mask(ServerId, KeyText),
    /// An honest server, by what that once said.
    Echo,
    /// Nobody: whatever comes goes on to that line.
    Wire(LinkId),
    /// Nobody: what is proved on it is said again on that line.
    Proofs(LinkId),
}

/// How many frames of others it keeps.
const RECORDED_COUNT_MAX: usize = 200;
/// Longest pause between two schemes, ms.
const PAUSE_MS: u64 = 3_000;
/// How many it invents in one flood.
const FLOOD_COUNT: u64 = 120;
/// A flood goes on in batches of so many, so often: 20,000 a second, which is what a link takes (PROTOCOL I.11).
const FLOOD_BATCH_COUNT: u64 = 1_000;
const FLOOD_BATCH_MS: u64 = 50;
/// How many floods one run has of each.
const FLOODS_COUNT_MAX: u64 = 2;

impl Hostile {
    pub(crate) fn new(seed: u64, host: Host) -> Self {
        let name = format!("liar-{host}");
        let mut dice = Dice::new(seed, &name);
        Self {
            host,
            id: server_id(&name),
            key: toys::key(&name),
            proves: dice.chance(50),
            dice,
            introductions: Vec::new(),
            proofs: Vec::new(),
            lines: BTreeMap::new(),
            changes: Vec::new(),
            deliveries: Vec::new(),
            invented: 0,
            floods: 0,
        }
    }

    /// The host name under which it listens.
    pub(crate) fn name(&self) -> String {
        format!("x{}", self.host)
    }

    /// What it says of itself, or of the mask it wears.
    fn identity(&mut self, proves: bool) -> ServerIdentity {
        let nonce = socp_proto::sha256(&self.dice.number().to_be_bytes());
        ServerIdentity {
            tls: false,
            history: None,
            host: self.name(),
            port: 1,
            pubkey: self.key.clone(),
            name: Some("a fine server".to_owned()),
            caps: Some(caps(proves)),
            nonce: proves.then(|| nonce.into()),
        }
    }

    pub(crate) fn own_identity(&mut self) -> ServerIdentity {
        self.identity(self.proves)
    }

    fn record(&mut self, parcel: &Rc<Parcel>) {
        let kind = parcel.frame.envelope.kind;
        let place = if kind == FrameKind::ServerDeliver {
            &mut self.deliveries
        } else if matches!(kind, FrameKind::ServerAnnounce | FrameKind::ServerHelloJoin) {
            &mut self.introductions
        } else if kind == FrameKind::Proof {
            &mut self.proofs
        } else if crate::node::is_change(kind) {
            &mut self.changes
        } else {
            return;
        };
        if place.len() < RECORDED_COUNT_MAX {
            place.push(Rc::clone(parcel));
        } else {
            let index = self.dice.index(RECORDED_COUNT_MAX);
            place[index] = Rc::clone(parcel);
        }
    }

    /// A user that it makes up.
    fn invent(&mut self) -> UserId {
        self.invented += 1;
        user_id(&format!("nobody-{}-{}", self.host, self.invented))
    }
}

/// The kinds of users that a hostile server picks on, so that the others stay under the full rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// It says with the user's own key that the user is with it.
    Claimed,
    /// It says so with another key.
    Squatted,
}

impl Victim {
    fn remainder(self) -> usize {
        match self {
            Self::Claimed => 3,
            Self::Squatted => 7,
        }
    }
}

impl World {
    pub(crate) fn liar(&mut self, host: Host) -> &mut Hostile {
        let index = host - self.nodes.len();
        &mut self.hostiles[index]
    }

    /// A hostile server is connected to.
    pub(crate) fn hostile_accepts(&mut self, host: Host, link: LinkId) {
        let Some(Party::Host(far)) = self.net.end(link).map(|end| end.far) else {
            return;
        };
        self.liar(host).lines.insert(link, Line::new(far));
    }

    /// Something reaches a hostile server.
    pub(crate) fn hostile_hears(&mut self, host: Host, link: LinkId, item: &Item) {
        match item {
            Item::Frame(parcel) => self.hostile_reads(host, link, parcel),
            Item::Close { wants_answer } => {
                if *wants_answer {
                    self.net
                        .send(&mut self.queue, link, Item::Close { wants_answer: false });
                }
                self.hostile_loses(host, link);
            }
            Item::Hangup | Item::Noise(_) => self.hostile_loses(host, link),
        }
    }

    pub(crate) fn hostile_loses(&mut self, host: Host, link: LinkId) {
        self.net.remove(link);
        self.liar(host).lines.remove(&link);
    }

    fn hostile_reads(&mut self, host: Host, link: LinkId, parcel: &Rc<Parcel>) {
        let liar = self.liar(host);
        liar.record(parcel);
        if self.hostile_is_introduced(host, link, parcel) {
            return;
        }
        let liar = self.liar(host);
        #[expect(clippy::wildcard_enum_match_arm, reason = "it answers only what it can use")]
        match &parcel.frame.payload {
            Payload::ServerDeliver(deliver) if liar.dice.chance(50) => {
                let notice = ErrorNotice {
                    code: ErrorCode::UserNotFound,
                    detail: deliver.user_id.to_string(),
                    msg_ref: Some(msg_ref(&deliver.content_sig)),
                    seq: None,
                };
                self.lie(host, link, "*", &Payload::Error(notice));
            }
            _ => {}
        }
    }

    /// A welcome that lists servers where they are not and users who are not there.
    pub(crate) fn lying_welcome(&mut self, host: Host, wished: &str) -> ServerWelcome {
        let honest: Vec<(ServerId, KeyText)> = self
            .nodes
            .iter()
            .map(|node| (node.config.server_id.clone(), node.config.key.clone()))
            .collect();
        let mut servers = Vec::new();
        for (index, (id, key)) in honest.iter().enumerate() {
            let (host_name, pubkey) = match self.liar(host).dice.below(4) {
                0 => (format!("nowhere{index}"), key.clone()),
                1 => (format!("x{host}"), key.clone()),
                2 => (format!("h{index}"), toys::key("a lie")),
                _ => continue,
            };
            servers.push(WelcomeServer {
                tls: false,
                server_id: id.clone(),
                host: host_name,
                port: 1,
                pubkey,
            });
        }
        // A server that does not exist, at the address of one that does.
        servers.push(WelcomeServer {
            tls: false,
            server_id: server_id("phantom"),
            host: "h0".to_owned(),
            port: 1,
            pubkey: toys::key("phantom"),
        });
        let mut clients = Vec::new();
        for kind in [Victim::Claimed, Victim::Squatted] {
            if let Some(user) = self.victim(host, kind) {
                let pubkey = self.claimed_key(host, user, kind);
                clients.push(WelcomeClient {
                    user_id: self.users[user].id.clone(),
                    host: None,
                    port: None,
                    pubkey: Some(pubkey),
                    server_id: None,
                });
            }
        }
        let identity = self.liar(host).own_identity();
        let liar = self.liar(host);
        let stolen = honest.first().map(|(id, _)| id.clone());
        let assigned_id = match (liar.dice.below(3), stolen) {
            (0, Some(stolen)) => stolen,
            (1, _) => server_id("renamed-by-a-liar"),
            (_, _) => server_id(wished),
        };
        ServerWelcome {
            tls: false,
            history: None,
            assigned_id,
            clients,
            servers,
            server_id: Some(liar.id.clone()),
            pubkey: Some(liar.key.clone()),
            host: Some(liar.name()),
            port: Some(1),
            name: None,
            caps: identity.caps,
            nonce: identity.nonce,
        }
    }

    /// Says something with its own signature.
    fn lie(&mut self, host: Host, link: LinkId, to: &str, payload: &Payload) {
        let from = Id::from(&self.liar(host).id);
        self.lie_as(host, link, from, to, payload);
    }

    /// Says something in another's name; the signature is its own all the same.
    fn lie_as(&mut self, host: Host, link: LinkId, from: Id, to: &str, payload: &Payload) {
        let key = self.liar(host).key.clone();
        self.lie_with(link, (from, &key), to, payload);
    }

    pub(crate) fn lie_with(&mut self, link: LinkId, (from, key): (Id, &KeyText), to: &str, payload: &Payload) {
        let ts = BEGIN + self.queue.now();
        let Ok(to) = Address::try_from(to) else { return };
        let draft = Draft::new(from, to, ts, payload);
        match Parcel::of(draft, key) {
            Ok(parcel) => {
                self.net.send(&mut self.queue, link, Item::Frame(Rc::new(parcel)));
            }
            Err(why) => self.oracle.broken(format!("a liar says what is no frame: {why}")),
        }
    }

    /// Does something bad, and plans the next.
    pub(crate) fn on_scheme(&mut self, host: Host) {
        if let Some(count) = self.options.flood {
            return self.go_on_flooding(host, count);
        }
        let pause = self.liar(host).dice.between(100, PAUSE_MS);
        self.queue.after(pause, Event::Scheme { host });
        self.oracle.stats.schemes += 1;
        let lines: Vec<LinkId> = self.liar(host).lines.keys().copied().collect();
        // Stays linked.
        if self.liar(host).dice.chance(25) {
            for link in &lines {
                self.lie(host, *link, "*", &Payload::Heartbeat(Heartbeat::default()));
            }
        }
        let up = self.liar(host).lines.iter().filter(|(_, line)| line.is_up);
        let up: Vec<(LinkId, Host)> = up.map(|(link, line)| (*link, line.far)).collect();
        let Some((link, far)) = self.liar(host).dice.pick(&up).copied() else {
            return self.hostile_dials(host);
        };
        match self.liar(host).dice.below(20) {
            0 | 1 => self.hostile_dials(host),
            2 => self.advertise_invented(host, link, 1),
            3 => self.flood(host, link),
            4 => self.claim(host, link, Victim::Claimed),
            5 => self.claim(host, link, Victim::Squatted),
            6 => self.speak_for(host, link),
            7 => self.remove_others(host, link),
            8 => self.repeat(host, link, false),
            9 => self.repeat(host, link, true),
            10 => self.forge(host, link, far, true),
            11 => self.forge(host, link, far, false),
            12 => self.deny(host, link),
            13 => self.talk_nonsense(host, link),
            14 => self.boast(host, link),
            15 => self.pose_as_user(host, far),
            16 => self.pose_as_server(host, far),
            17 | 18 => self.echo(host),
            _ => self.hang_up_on(host, link),
        }
    }

    fn hostile_dials(&mut self, host: Host) {
        let honest = self.nodes.len();
        let far = self.liar(host).dice.index(honest);
        let is_linked = self.liar(host).lines.values().any(|line| line.far == far);
        if is_linked {
            return;
        }
        if let Some(link) = self.hostile_connects(host, far) {
            let announce = Payload::ServerAnnounce(self.liar(host).own_identity());
            self.hostile_introduces(host, link, "*", &announce);
            let is_up = !self.liar(host).proves;
            if let Some(line) = self.liar(host).lines.get_mut(&link) {
                line.is_up = is_up;
            }
        }
    }

    pub(crate) fn hostile_connects(&mut self, host: Host, far: Host) -> Option<LinkId> {
        if !self.nodes[far].is_up() {
            return None;
        }
        let (near, at_far) = self.net.connect(Party::Host(host), Party::Host(far));
        self.on_accepted(far, at_far);
        self.liar(host).lines.insert(near, Line::new(far));
        Some(near)
    }

    /// Advertises users who do not exist, as fast as a link takes frames, and sees how many are believed.
    fn go_on_flooding(&mut self, host: Host, count: u64) {
        let up = self.liar(host).lines.iter().find(|(_, line)| line.is_up);
        let link = up.map(|(link, _)| *link);
        match link {
            Some(link) => {
                let left = count.saturating_sub(self.liar(host).invented);
                let is_over = left == 0;
                let heartbeat = Payload::Heartbeat(Heartbeat::default());
                self.lie(host, link, "*", &heartbeat);
                self.advertise_invented(host, link, left.min(FLOOD_BATCH_COUNT));
                self.look_at_memory();
                let pause = if is_over { 10_000 } else { FLOOD_BATCH_MS };
                self.queue.after(pause, Event::Scheme { host });
            }
            None => {
                self.hostile_dials(host);
                self.queue.after(1_000, Event::Scheme { host });
            }
        }
    }

    fn look_at_memory(&mut self) {
        for host in 0..self.nodes.len() {
            if let Some(status) = self.nodes[host].core.as_ref().map(socp_core::server::Server::status) {
                self.oracle
                    .on_users_known(host, status.remote_users + status.stale_users);
            }
        }
    }

    /// Invents many at once; a few times only, since everybody is told of everybody.
    fn flood(&mut self, host: Host, link: LinkId) {
        let liar = self.liar(host);
        liar.floods += 1;
        let count = if liar.floods <= FLOODS_COUNT_MAX {
            FLOOD_COUNT
        } else {
            1
        };
        self.advertise_invented(host, link, count);
    }

    fn advertise_invented(&mut self, host: Host, link: LinkId, count: u64) {
        for _ in 0..count {
            let user = self.liar(host).invent();
            self.oracle.stats.invented += 1;
            let key = toys::key(user.as_str());
            let advertise = self.advertisement(host, user, key);
            self.lie(host, link, "*", &Payload::UserAdvertise(advertise));
        }
    }

    fn advertisement(&mut self, host: Host, user_id: UserId, key: KeyText) -> UserAdvertise {
        UserAdvertise {
            user_id,
            server_id: self.liar(host).id.clone(),
            meta: Meta::default(),
            pubkey: Some(key),
            enc_pubkey: None,
            caps: None,
            version: None,
            directory_sig: None,
            server_name: None,
            history: None,
        }
    }

    fn victim(&mut self, host: Host, kind: Victim) -> Option<UserNo> {
        let victims: Vec<UserNo> = (0..self.options.users)
            .filter(|user| user % 10 == kind.remainder())
            .collect();
        self.liar(host).dice.pick(&victims).copied()
    }

    fn claimed_key(&mut self, host: Host, user: UserNo, kind: Victim) -> KeyText {
        self.oracle.on_claim(user, kind == Victim::Claimed);
        match kind {
            Victim::Claimed => self.users[user].key.clone(),
            Victim::Squatted => self.liar(host).key.clone(),
        }
    }

    fn claim(&mut self, host: Host, link: LinkId, kind: Victim) {
        let Some(user) = self.victim(host, kind) else { return };
        let key = self.claimed_key(host, user, kind);
        let id = self.users[user].id.clone();
        let advertise = self.advertisement(host, id, key);
        self.lie(host, link, "*", &Payload::UserAdvertise(advertise));
    }

    fn anyone(&mut self, host: Host) -> UserNo {
        let count = self.users.len();
        self.liar(host).dice.index(count)
    }

    /// Gossip in the name of an honest server.
    fn speak_for(&mut self, host: Host, link: LinkId) {
        let user = self.anyone(host);
        let honest = self.nodes.len();
        let victim = self.liar(host).dice.index(honest);
        let server_id = self.nodes[victim].config.server_id.clone();
        let user_id = self.users[user].id.clone();
        let payload = if self.liar(host).dice.chance(50) {
            let key = self.users[user].key.clone();
            let advertise = self.advertisement(host, user_id, key);
            Payload::UserAdvertise(UserAdvertise {
                server_id: server_id.clone(),
                ..advertise
            })
        } else {
            Payload::UserRemove(UserRemove {
                user_id,
                server_id: server_id.clone(),
                deletion: None,
            })
        };
        self.lie_as(host, link, Id::from(&server_id), "*", &payload);
    }

    /// Says that a user has left it who was never there.
    fn remove_others(&mut self, host: Host, link: LinkId) {
        let user = self.anyone(host);
        let remove = UserRemove {
            user_id: self.users[user].id.clone(),
            server_id: self.liar(host).id.clone(),
            deletion: None,
        };
        self.lie(host, link, "*", &Payload::UserRemove(remove));
    }

    /// Says again, twice, what others have said.
    fn repeat(&mut self, host: Host, link: LinkId, is_delivery: bool) {
        let liar = self.liar(host);
        let recorded = if is_delivery { &liar.deliveries } else { &liar.changes };
        let Some(parcel) = liar.dice.pick(recorded).cloned() else {
            return;
        };
        for _ in 0..2 {
            if let (true, Payload::ServerDeliver(deliver)) = (is_delivery, &parcel.frame.payload) {
                self.lie(host, link, "*", &Payload::ServerDeliver(deliver.clone()));
            }
            self.net.send(&mut self.queue, link, Item::Frame(Rc::clone(&parcel)));
        }
    }

    /// A message in the name of somebody who did not write it.
    fn forge(&mut self, host: Host, link: LinkId, far: Host, has_true_key: bool) {
        let sender = self.anyone(host);
        let readers = (0..self.users.len()).filter(|user| {
            let session = self.users[*user].session.as_ref();
            session.is_some_and(|session| session.host == far)
        });
        let readers: Vec<UserNo> = readers.collect();
        let Some(reader) = self.liar(host).dice.pick(&readers).copied() else {
            return;
        };
        let ts = BEGIN + self.queue.now();
        let reader_id = self.users[reader].id.clone();
        let (sender_id, true_key) = (self.users[sender].id.clone(), self.users[sender].key.clone());
        let own = self.liar(host).key.clone();
        let message = toys::direct((sender_id.as_str(), &own), reader_id.as_str(), ts, b"pay me");
        let deliver = ServerDeliver {
            user_id: reader_id,
            ciphertext: message.ciphertext,
            sender: sender_id,
            sender_pub: if has_true_key { true_key } else { own },
            content_sig: message.content_sig,
            ts: Some(ts),
        };
        self.lie(host, link, "*", &Payload::ServerDeliver(deliver));
    }

    /// Says that somebody who is there is not.
    fn deny(&mut self, host: Host, link: LinkId) {
        let user = self.anyone(host);
        let liar = self.liar(host);
        let reference = match liar.dice.pick(&liar.deliveries).map(|parcel| &parcel.frame.payload) {
            Some(Payload::ServerDeliver(deliver)) => msg_ref(&deliver.content_sig),
            Some(_) | None => msg_ref(&Base64Url::encode(b"guess")),
        };
        let notice = ErrorNotice {
            code: ErrorCode::UserNotFound,
            detail: self.users[user].id.to_string(),
            msg_ref: Some(reference),
            seq: None,
        };
        self.lie(host, link, "*", &Payload::Error(notice));
    }

    fn talk_nonsense(&mut self, host: Host, link: LinkId) {
        let text = match self.liar(host).dice.below(5) {
            0 => "",
            1 => "{\"type\":\"HEARTBEAT\"}",
            2 => "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
            3 => "{\"type\":\"USER_ADVERTISE\",\"from\":\"a\",\"to\":\"*\",\"ts\":1,\"payload\":{\"user_id\":7}}",
            _ => {
                let response = Payload::ListResponse(ListResponse::default());
                return self.lie(host, link, "*", &response);
            }
        };
        self.net.send(&mut self.queue, link, Item::Noise(Rc::from(text)));
    }

    /// Says that it is linked to everybody, and to many more.
    fn boast(&mut self, host: Host, link: LinkId) {
        let honest = self.nodes.iter().map(|node| node.config.server_id.clone());
        let invented = (0..50).map(|number| server_id(&format!("castle-{number}")));
        let peers = Some(honest.chain(invented).collect());
        self.lie(
            host,
            link,
            "*",
            &Payload::Heartbeat(Heartbeat {
                peers,
                ..Heartbeat::default()
            }),
        );
    }

    /// Says hello with somebody's id and another key.
    fn pose_as_user(&mut self, host: Host, far: Host) {
        let Some(user) = self.victim(host, Victim::Squatted) else {
            return;
        };
        let pubkey = self.claimed_key(host, user, Victim::Squatted);
        let Some(link) = self.hostile_connects(host, far) else {
            return;
        };
        let hello = UserHello {
            client: "socp".to_owned(),
            pubkey,
            enc_pubkey: None,
            caps: None,
            meta: None,
            server_id: Some(self.nodes[far].config.server_id.clone()),
            ts: Some(BEGIN + self.queue.now()),
            history: None,
            presence: None,
            mailbox: None,
        };
        let from = Id::from(&self.users[user].id);
        self.lie_as(host, link, from, "*", &Payload::UserHello(hello));
        self.queue.after(2_000, Event::HostileHangsUp { host, link });
    }

    /// Says that it is an honest server, with another key.
    fn pose_as_server(&mut self, host: Host, far: Host) {
        let honest = self.nodes.len();
        let victim = self.liar(host).dice.index(honest);
        let Some(link) = self.hostile_connects(host, far) else {
            return;
        };
        // A key that nobody has met: its own would be known as its own.
        let liar = self.liar(host);
        let mask = toys::key(&format!("mask {}", liar.dice.number()));
        let proves = liar.dice.chance(50);
        let identity = ServerIdentity {
            pubkey: mask.clone(),
            ..liar.identity(proves)
        };
        let payload = if self.liar(host).dice.chance(50) {
            Payload::ServerAnnounce(identity)
        } else {
            Payload::ServerHelloJoin(identity)
        };
        let id = self.nodes[victim].config.server_id.clone();
        if let Some(line) = self.liar(host).lines.get_mut(&link) {
            line.part = Part::Mask(id, mask);
        }
        self.hostile_introduces(host, link, "*", &payload);
        self.queue.after(5_000, Event::HostileHangsUp { host, link });
    }

    /// Goes away, to come back later.
    pub(crate) fn hang_up_on(&mut self, host: Host, link: LinkId) {
        self.net.send(&mut self.queue, link, Item::Hangup);
        self.hostile_loses(host, link);
    }
}

impl Line {
    fn new(far: Host) -> Self {
        Self {
            far,
            is_up: false,
            part: Part::Itself,
            said: None,
        }
    }
}

fn caps(proves: bool) -> Capabilities {
    let names: &[&str] = if proves { &[PROOF] } else { &[] };
    Capabilities::of(names).expect("known names")
}

fn server_id(name: &str) -> ServerId {
    ServerId::try_from(name).expect("a name made here is an id")
}

fn user_id(name: &str) -> UserId {
    UserId::try_from(name).expect("a name made here is an id")
}
