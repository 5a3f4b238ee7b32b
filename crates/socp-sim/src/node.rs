//! One honest server: a [`Server`] with what its driver keeps, and a disk that survives.
//!
//! The driver here does what `socp-server` does around the core: it verifies, signs, saves, dials and closes. Only the
//! signatures are toys, and time is the world's.

use crate::disk::Disk;
use crate::event::{Event, Item, UserItem};
use crate::net::{Host, Party, Sent};
use crate::options::Flaw;
use crate::queue::Time;
use crate::toys::{self, Content, Parcel};
use crate::world::World;
use socp_core::server::{Config, Fault, FirstFrame, Input, LinkId, Note, Output, Record, Role, SaveId, Server, Shelf};
use socp_core::{Now, Verified};
use socp_proto::limits::{DIAL_WAIT_MAX_MS, STOP_FLUSH_MAX_MS};
use socp_proto::payload::msg_ref;
use socp_proto::{Base64Url, Draft, Frame, FrameKind, KeyText, Payload, ServerId, UserId, utf8_form};
use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::rc::Rc;

/// When every world begins, ms since the Unix epoch.
pub(crate) const BEGIN: u64 = 1_700_000_000_000;
/// Longest time that a disk takes to write, ms.
const DISK_MS: u64 = 15;
/// Until then batches get lost where that is asked for: long enough before anything is judged that each server has had
/// something to tell since.
const BATCHES_LOST_UNTIL_MS: u64 = 60_000;
/// Time that a signature for a record takes, ms.
const ENDORSE_MS: u64 = 5;

/// One honest server.
pub(crate) struct Node {
    pub(crate) config: Config,
    /// None while it is down.
    pub(crate) core: Option<Server>,
    /// How often it has started; what belongs to an earlier life is dropped.
    pub(crate) life: u32,
    pub(crate) links: BTreeMap<LinkId, Link>,
    keyring: BTreeMap<ServerId, KeyText>,
    pub(crate) disk: Disk,
    writing: BTreeMap<SaveId, Record>,
    /// When its disk has done everything that it was given.
    disk_until: Time,
    timer_at: Option<Time>,
    /// How many faults keep its disk from writing now.
    pub(crate) refusals: u32,
    /// How far its clock is off, ms.
    pub(crate) clock_ms: i64,
    /// Outputs so far.
    pub(crate) outputs: u64,
}

/// What a driver knows of a link.
#[derive(Debug, Default)]
pub(crate) struct Link {
    role: Option<Role>,
    expected_key: Option<KeyText>,
    /// The key that a server introduced itself with.
    introduced: Option<KeyText>,
    inbox: VecDeque<Item>,
    /// A first frame waits for its answer.
    is_waiting: bool,
    has_permit: bool,
    pub(crate) is_closing: bool,
}

impl Node {
    pub(crate) fn new(config: Config, clock_ms: i64) -> Self {
        Self {
            config,
            core: None,
            life: 0,
            links: BTreeMap::new(),
            keyring: BTreeMap::new(),
            disk: Disk::default(),
            writing: BTreeMap::new(),
            disk_until: 0,
            timer_at: None,
            refusals: 0,
            clock_ms,
            outputs: 0,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.core.is_some()
    }

    fn write(&mut self, record: Record) {
        if let Record::Identity(id) = record {
            self.config.server_id = id;
        } else {
            self.disk.write(record);
        }
    }

    /// What the driver's reader makes of a frame.
    fn check(&mut self, link: LinkId, parcel: &Parcel) -> Option<Input> {
        let state = self.links.get_mut(&link)?;
        let checked = match &state.role {
            None => {
                state.is_waiting = !std::mem::take(&mut state.has_permit);
                let key = match parcel.frame.envelope.kind == FrameKind::Proof {
                    true => state.introduced.clone(),
                    false => offered_key(&parcel.frame.payload, state.expected_key.clone()),
                };
                state.introduced.clone_from(&key);
                check_first(parcel, key).map(|first| Input::First { link, first })
            }
            Some(Role::Peer(peer)) => check_peer(parcel, peer, &self.keyring).map(|frame| Input::Peer { link, frame }),
            Some(Role::User(_, key)) => check_user(parcel, key, link),
        };
        Some(checked.unwrap_or_else(|fault| Input::Refused { link, fault }))
    }
}

impl World {
    /// What a host's clocks show.
    fn clock(&self, host: Host) -> Now {
        let mono = self.queue.now();
        let unix = (BEGIN + mono).saturating_add_signed(self.nodes[host].clock_ms);
        Now { mono, unix }
    }

    pub(crate) fn on_start(&mut self, host: Host) {
        let now = self.clock(host);
        let node = &mut self.nodes[host];
        node.config.run += 1;
        let mut core = Server::new(now, node.config.clone(), node.disk.memory());
        if let Some(Flaw::Core(mutation)) = self.options.flaw {
            core.mutate(mutation);
        }
        node.core = Some(core);
        node.life += 1;
        node.timer_at = None;
        node.disk_until = 0;
        node.keyring.clear();
        self.tell(|| format!("h{host} starts"));
        self.perform(host);
    }

    /// A server dies. `is_machine`: with its machine, so that nobody is told.
    pub(crate) fn crash(&mut self, host: Host, is_machine: bool) {
        self.tell(|| format!("h{host} {}", if is_machine { "loses power" } else { "is killed" }));
        for link in self.net.links_of(host) {
            let is_user = self.net.end(link).is_some_and(|end| matches!(end.far, Party::User(_)));
            if !is_machine || is_user {
                self.hang_up(link);
            }
            self.net.remove(link);
        }
        // What was being written is on disk up to somewhere, in order: the store has one writer.
        let writing = std::mem::take(&mut self.nodes[host].writing);
        let break_chance = if self.options.power.is_some() { 40 } else { 10 };
        for record in writing.into_values() {
            if self.disk_dice.chance(break_chance) || self.nodes[host].refusals > 0 {
                break;
            }
            self.write(host, record);
        }
        self.oracle.on_crash(host);
        let node = &mut self.nodes[host];
        node.core = None;
        node.links.clear();
    }

    /// Tells the far end that the connection is over.
    pub(crate) fn hang_up(&mut self, link: LinkId) {
        let Some(end) = self.net.end(link) else { return };
        match end.far {
            Party::Host(_) => {
                self.net.send(&mut self.queue, link, Item::Hangup);
            }
            Party::User(_) => {
                let (party, link) = (end.far, end.far_link);
                self.queue.after(1, Event::Gone { party, link });
            }
        }
    }

    /// Gives a server an input and does what it wants done.
    pub(crate) fn feed(&mut self, host: Host, input: Input) {
        let now = self.clock(host);
        if let Some(core) = &mut self.nodes[host].core {
            core.handle(now, input);
            self.perform(host);
        }
    }

    pub(crate) fn on_timer(&mut self, host: Host, life: u32, at: Time) {
        let now = self.clock(host);
        let node = &mut self.nodes[host];
        if node.life != life || node.timer_at != Some(at) {
            return;
        }
        node.timer_at = None;
        if let Some(core) = &mut node.core {
            core.handle_timeout(now);
            self.perform(host);
        }
    }

    /// Something reaches a server's end of a link.
    pub(crate) fn on_arrival(&mut self, host: Host, link: LinkId, item: Item) {
        let Some(state) = self.nodes[host].links.get_mut(&link) else {
            return;
        };
        state.inbox.push_back(item);
        self.read_on(host, link);
    }

    /// Reads what has come, until a first frame waits for its answer.
    pub(crate) fn read_on(&mut self, host: Host, link: LinkId) {
        while let Some(state) = self.nodes[host].links.get_mut(&link)
            && !state.is_waiting
            && let Some(item) = state.inbox.pop_front()
        {
            match item {
                Item::Frame(parcel) => {
                    if let Some(input) = self.nodes[host].check(link, &parcel) {
                        self.feed(host, input);
                    }
                }
                Item::Noise(text) => self.read_noise(host, link, &text),
                Item::Close { wants_answer } => {
                    if wants_answer {
                        self.net
                            .send(&mut self.queue, link, Item::Close { wants_answer: false });
                    }
                    self.forget_link(host, link);
                }
                Item::Hangup => self.forget_link(host, link),
            }
        }
    }

    fn read_noise(&mut self, host: Host, link: LinkId, text: &str) {
        if let Some(state) = self.nodes[host].links.get_mut(&link)
            && state.role.is_none()
        {
            state.is_waiting = !std::mem::take(&mut state.has_permit);
        }
        match Frame::parse(text) {
            Err(error) => {
                let fault = Fault::Frame(error);
                self.feed(host, Input::Refused { link, fault });
            }
            Ok(_) => self.oracle.broken(format!("noise is a frame: {text}")),
        }
    }

    /// The connection is over on this side.
    pub(crate) fn forget_link(&mut self, host: Host, link: LinkId) {
        self.net.remove(link);
        if self.nodes[host].links.remove(&link).is_some() {
            self.feed(host, Input::Closed { link });
        }
    }

    pub(crate) fn on_close_overdue(&mut self, host: Host, link: LinkId) {
        if self.nodes[host].links.contains_key(&link) {
            self.hang_up(link);
            self.forget_link(host, link);
        }
    }

    pub(crate) fn on_flushed(&mut self, host: Host, link: LinkId) {
        if self.nodes[host].links.contains_key(&link) {
            self.feed(host, Input::Flushed { link });
        }
    }

    pub(crate) fn on_overflow(&mut self, host: Host, link: LinkId) {
        if self.nodes[host].links.contains_key(&link) {
            let fault = Fault::SlowReader;
            self.feed(host, Input::Refused { link, fault });
        }
    }

    pub(crate) fn on_written(&mut self, host: Host, life: u32, save: SaveId) {
        let node = &mut self.nodes[host];
        if node.life != life {
            return;
        }
        let Some(record) = node.writing.remove(&save) else {
            return;
        };
        if node.refusals > 0 {
            self.oracle.stats.refused_writes += 1;
            let reason = "no space left".to_owned();
            return self.feed(host, Input::SaveFailed { save, reason });
        }
        if let Record::Pin(pin) = &record {
            self.oracle.on_pin_saved(host, pin);
        }
        if let Record::Identity(id) = &record {
            self.oracle.on_identity(host, id.clone());
        }
        self.write(host, record);
        self.feed(host, Input::Saved { save });
    }

    /// A record reaches the disk.
    fn write(&mut self, host: Host, record: Record) {
        self.oracle.on_record(host, &self.nodes[host].disk, &record);
        self.nodes[host].write(record);
    }

    /// When a disk has done everything that it was given before, and this.
    fn disk_is_free(&mut self, host: Host, ms: u64) -> Time {
        let now = self.queue.now();
        let node = &mut self.nodes[host];
        node.disk_until = node.disk_until.max(now + ms);
        node.disk_until
    }

    /// A disk has read a page.
    pub(crate) fn on_read(&mut self, host: Host, life: u32, link: LinkId, (shelf, after): (&Shelf, u64)) {
        if self.nodes[host].life == life {
            let page = Some(self.nodes[host].disk.read_page(shelf, after));
            self.feed(host, Input::PageRead { link, page });
        }
    }

    pub(crate) fn on_endorsed(&mut self, host: Host, life: u32, user: UserId, sig: Base64Url) {
        if self.nodes[host].life == life {
            self.feed(host, Input::Endorsed { user, sig });
        }
    }

    /// Does what the driver's hub does with outputs.
    fn perform(&mut self, host: Host) {
        while let Some(output) = self.nodes[host].core.as_mut().and_then(Server::poll_output) {
            self.nodes[host].outputs += 1;
            self.perform_one(host, output);
        }
        let node = &mut self.nodes[host];
        let wanted = node.core.as_ref().and_then(Server::poll_timeout);
        if let Some(at) = wanted
            && node.timer_at.is_none_or(|planned| at < planned)
        {
            node.timer_at = Some(at);
            let life = node.life;
            self.queue.at(at, Event::Timer { host, life, at });
        }
    }

    fn perform_one(&mut self, host: Host, output: Output) {
        let life = self.nodes[host].life;
        match output {
            Output::Send { to, draft, by: _ } => self.send_draft(host, to, draft),
            Output::Forward { to, envelope } => match Parcel::read(&envelope.to_text()) {
                Ok(parcel) => self.send_parcel(host, &to, &Rc::new(parcel)),
                Err(why) => self.oracle.broken(format!("h{host} passes on what is no frame: {why}")),
            },
            Output::Close { link, code, reason } => self.close(host, link, code.number(), reason),
            Output::Fence { link } => {
                let at = self.net.free_at(link);
                self.queue.at(at, Event::Flushed { host, link });
            }
            Output::Ping { link } => self.ping(host, link),
            Output::Dial {
                dial,
                host: name,
                port,
                key,
                ..
            } => {
                let address = format!("{name}:{port}");
                let ms = self.reach_ms(host, &address);
                let event = Event::Dial {
                    host,
                    life,
                    dial,
                    address,
                    key,
                };
                self.queue.after(ms, event);
            }
            Output::Identified { link, role } => {
                if let Some(state) = self.nodes[host].links.get_mut(&link) {
                    state.role = Some(role);
                }
            }
            Output::Proceed { link } => {
                if let Some(state) = self.nodes[host].links.get_mut(&link) {
                    state.has_permit = !std::mem::take(&mut state.is_waiting);
                    if !state.inbox.is_empty() {
                        self.queue.after(0, Event::ReadOn { host, link });
                    }
                }
            }
            Output::Trust { server, key } => {
                self.nodes[host].keyring.insert(server, key);
            }
            Output::Distrust { server } => {
                self.nodes[host].keyring.remove(&server);
            }
            Output::Endorse { user, statement } => {
                let sig = toys::sign(&self.nodes[host].config.key, utf8_form(&statement).as_bytes());
                let sig = Base64Url::encode(&sig);
                self.queue.after(ENDORSE_MS, Event::Endorsed { host, life, user, sig });
            }
            Output::Save { .. } | Output::ReadPage { .. } | Output::Opaque { .. } | Output::Fetch { .. } => {
                self.perform_on_disk(host, output);
            }
            Output::Note(note) => self.on_note(host, &note),
            Output::Stopped => {}
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "it is called for these alone")]
    fn perform_on_disk(&mut self, host: Host, output: Output) {
        let life = self.nodes[host].life;
        match output {
            Output::Save { save, record } => {
                self.nodes[host].writing.insert(save, record);
                let ms = self.disk_dice.between(1, DISK_MS);
                let at = self.disk_is_free(host, ms);
                self.queue.at(at, Event::Written { host, life, save });
            }
            Output::ReadPage { link, shelf, after } => {
                let at = self.disk_is_free(host, 1);
                let event = Event::Read {
                    host,
                    life,
                    link,
                    shelf,
                    after,
                };
                self.queue.at(at, event);
            }
            // Its servers take no passwords.
            _ => self.oracle.broken(format!("h{host} computes for a password")),
        }
    }

    fn on_note(&mut self, host: Host, note: &Note) {
        self.oracle.stats.notes += 1;
        if self.options.is_verbose {
            let at = self.queue.now();
            eprintln_note(at, host, note);
        }
    }

    fn send_draft(&mut self, host: Host, to: Vec<LinkId>, draft: Draft) {
        if draft.kind == FrameKind::Ack && draft.payload.contains_key("status") {
            self.oracle.on_ack(host, &draft);
        }
        let is_user = |link: &LinkId| {
            let end = self.net.end(*link);
            end.is_some_and(|end| matches!(end.far, Party::User(_)))
        };
        let (users, hosts): (Vec<LinkId>, Vec<LinkId>) = to.into_iter().partition(is_user);
        if hosts.is_empty() {
            return self.send_to_users(host, users, draft);
        }
        if !users.is_empty() {
            self.send_to_users(host, users, draft.clone());
        }
        if draft.kind == FrameKind::PublicChannelUpdated && self.options.flaw == Some(Flaw::SecretVersion) {
            return;
        }
        match Parcel::of(draft, &self.nodes[host].config.key) {
            Ok(parcel) => self.send_parcel(host, &hosts, &Rc::new(parcel)),
            Err(why) => self.oracle.broken(format!("h{host} says what is no frame: {why}")),
        }
    }

    /// What becomes of something for users where servers have a flaw.
    fn flawed(&self, mut draft: Draft) -> Option<Draft> {
        let is_content = matches!(draft.kind, FrameKind::UserDeliver | FrameKind::MsgPublicChannel);
        match self.options.flaw {
            Some(Flaw::AlteredContent) if is_content => {
                let other = Base64Url::encode(b"something else");
                draft.payload.insert("ciphertext".to_owned(), other.as_str().into());
                Some(draft)
            }
            Some(Flaw::SilentHello) if draft.kind == FrameKind::Ack => None,
            Some(Flaw::SilentList) if draft.kind == FrameKind::ListResponse => None,
            Some(_) | None => Some(draft),
        }
    }

    fn send_to_users(&mut self, host: Host, links: Vec<LinkId>, draft: Draft) {
        let Some(draft) = self.flawed(draft) else { return };
        let far = |link: LinkId| {
            let is_closing = self.nodes[host].links.get(&link).is_none_or(|state| state.is_closing);
            let end = self.net.end(link).filter(|_| !is_closing);
            end.map(|end| end.far_link)
        };
        let links: Vec<LinkId> = links.into_iter().filter_map(far).collect();
        self.oracle.stats.user_frames += u64::try_from(links.len()).unwrap_or(u64::MAX);
        let at = self.net.users_arrival(self.queue.now(), host);
        let item = UserItem::Frame(Rc::new(draft));
        self.queue.at(at, Event::ToUsers { links, item });
    }

    fn send_parcel(&mut self, host: Host, to: &[LinkId], parcel: &Rc<Parcel>) {
        for link in to {
            let is_open = self.nodes[host].links.get(link).is_some_and(|state| !state.is_closing);
            if !is_open {
                continue;
            }
            self.oracle
                .on_peer_frame(host, self.net.end(*link), *link, &parcel.frame);
            if self.is_lost_batch(*link, parcel) {
                self.oracle.stats.batches_lost += 1;
                continue;
            }
            let item = Item::Frame(Rc::clone(parcel));
            if self.net.send(&mut self.queue, *link, item) == Sent::Overflow {
                // As the driver does: nobody else waits for who does not read.
                let link = *link;
                self.queue.after(0, Event::Overflow { host, link });
            }
        }
    }

    /// Whether a batch gets lost, where that is asked for.
    fn is_lost_batch(&mut self, link: LinkId, parcel: &Parcel) -> bool {
        let Payload::ServerPresence(batch) = &parcel.frame.payload else {
            return false;
        };
        let is_early = self.queue.now() < BATCHES_LOST_UNTIL_MS;
        let may_lose = self.options.loses_batches && is_early && batch.from_seq > 0;
        // One on each link: what is asked for then must come.
        may_lose && self.loss_dice.chance(30) && self.lossy.insert(link)
    }

    fn close(&mut self, host: Host, link: LinkId, code: u16, reason: &'static str) {
        let Some(state) = self.nodes[host].links.get_mut(&link) else {
            return;
        };
        if std::mem::replace(&mut state.is_closing, true) {
            return;
        }
        state.is_waiting = false;
        let Some(end) = self.net.end(link) else { return };
        let (far, far_link) = (end.far, end.far_link);
        let is_far_gone = self.net.end(far_link).is_none();
        self.oracle
            .on_close(self.queue.now(), host, far, is_far_gone, code, reason);
        self.tell(|| format!("h{host} closes its link to {}: {code} {reason}", name_of(far)));
        match far {
            Party::Host(_) => {
                self.net.send(&mut self.queue, link, Item::Close { wants_answer: true });
            }
            Party::User(_) => {
                let at = self.net.users_arrival(self.queue.now(), host);
                let (links, item) = (vec![far_link], UserItem::Close);
                self.queue.at(at, Event::ToUsers { links, item });
            }
        }
        self.queue.after(STOP_FLUSH_MAX_MS, Event::CloseOverdue { host, link });
    }

    fn ping(&mut self, host: Host, link: LinkId) {
        let Some(end) = self.net.end(link) else { return };
        if self.net.end(end.far_link).is_some() && matches!(end.far, Party::User(_)) {
            self.queue
                .after(2 * crate::net::USER_PATH_MS, Event::Pong { host, link });
        }
    }

    /// How long it takes until a connection attempt has reached an address or is refused there.
    fn reach_ms(&self, host: Host, address: &str) -> u64 {
        let target = self.addresses.get(address);
        target.map_or(1, |target| self.net.round_trip_ms(host, *target))
    }

    /// A connection attempt reaches its address.
    pub(crate) fn on_dial(
        &mut self,
        host: Host,
        life: u32,
        dial: socp_core::server::DialId,
        address: &str,
        key: Option<KeyText>,
    ) {
        if self.nodes[host].life != life || !self.nodes[host].is_up() {
            return;
        }
        let refused = |reason| Input::DialFailed {
            dial,
            reason: str::to_owned(reason),
        };
        let Some(target) = self.addresses.get(address).copied() else {
            return self.feed(host, refused("nobody is there"));
        };
        if self.net.is_blocked(host, target) || self.net.is_blocked(target, host) {
            let reason = "no answer";
            let event = Event::DialFailed {
                host,
                life,
                dial,
                reason,
            };
            return self.queue.after(DIAL_WAIT_MAX_MS, event);
        }
        if !self.is_listening(target) {
            return self.feed(host, refused("connection refused"));
        }
        let (near, far) = self.net.connect(Party::Host(host), Party::Host(target));
        let link = Link {
            expected_key: key,
            ..Link::default()
        };
        self.nodes[host].links.insert(near, link);
        self.on_accepted(target, far);
        self.feed(
            host,
            Input::Dialled {
                dial,
                link: near,
                tls: None,
            },
        );
    }

    pub(crate) fn on_dial_failed(&mut self, host: Host, life: u32, dial: socp_core::server::DialId, reason: &str) {
        if self.nodes[host].life == life {
            let reason = reason.to_owned();
            self.feed(host, Input::DialFailed { dial, reason });
        }
    }

    /// Somebody connected to a host.
    pub(crate) fn on_accepted(&mut self, host: Host, link: LinkId) {
        if host >= self.nodes.len() {
            return self.hostile_accepts(host, link);
        }
        self.nodes[host].links.insert(link, Link::default());
        self.feed(
            host,
            Input::Accepted {
                link,
                from: Ipv4Addr::LOCALHOST.into(),
                tls: None,
            },
        );
    }
}

fn name_of(party: Party) -> String {
    match party {
        Party::Host(host) => format!("h{host}"),
        Party::User(user) => format!("u{user}"),
    }
}

#[expect(clippy::print_stderr, reason = "asked for with --verbose")]
fn eprintln_note(at: Time, host: Host, note: &Note) {
    eprintln!("{at:>9} h{host} {note:?}");
}

fn offered_key(payload: &Payload, expected: Option<KeyText>) -> Option<KeyText> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these kinds bring a key")]
    match payload {
        Payload::UserHello(hello) => Some(hello.pubkey.clone()),
        Payload::ServerHelloJoin(identity) | Payload::ServerAnnounce(identity) | Payload::ServerHelloLink(identity) => {
            Some(identity.pubkey.clone())
        }
        Payload::ServerWelcome(welcome) => welcome.pubkey.clone().or(expected),
        _ => None,
    }
}

fn check_first(parcel: &Parcel, offered: Option<KeyText>) -> Result<FirstFrame, Fault> {
    let frame = &parcel.frame;
    let signer = match &offered {
        Some(_) if frame.envelope.sig.is_empty() => None,
        Some(key) if parcel.verifies(key) => Some(key.fingerprint()),
        Some(_) => {
            let kind = frame.envelope.kind;
            return Err(Fault::Signature { kind });
        }
        None => None,
    };
    Ok(FirstFrame {
        frame: frame.clone(),
        key: offered,
        signer,
    })
}

fn check_peer(
    parcel: &Parcel,
    peer: &ServerId,
    keyring: &BTreeMap<ServerId, KeyText>,
) -> Result<Verified<Frame>, Fault> {
    let kind = parcel.frame.envelope.kind;
    let origin = parcel.frame.envelope.signer(peer);
    match keyring.get(&origin) {
        Some(key) if parcel.verifies(key) => Ok(Verified::checked(parcel.frame.clone(), key.fingerprint())),
        Some(_) | None if origin == *peer => Err(Fault::Signature { kind }),
        Some(_) | None => Err(Fault::UnknownOrigin { kind }),
    }
}

fn check_user(parcel: &Parcel, key: &KeyText, link: LinkId) -> Result<Input, Fault> {
    let frame = &parcel.frame;
    let kind = frame.envelope.kind;
    if !frame.envelope.sig.is_empty() && !parcel.verifies(key) {
        return Err(Fault::Signature { kind });
    }
    let content = match toys::check_content(frame, key) {
        Content::Absent => None,
        Content::Good => Some(key.fingerprint()),
        Content::Wrong => {
            #[expect(clippy::wildcard_enum_match_arm, reason = "only these two are checked")]
            let sig = match &frame.payload {
                Payload::MsgDirect(message) => &message.content_sig,
                Payload::MsgPublicChannel(message) => &message.content_sig,
                _ => return Err(Fault::OutOfPlace { kind }),
            };
            return Err(Fault::Content { msg_ref: msg_ref(sig) });
        }
    };
    let frame = frame.clone();
    Ok(Input::User { link, frame, content })
}

/// Whether a frame is a presence change.
pub(crate) fn is_change(kind: FrameKind) -> bool {
    matches!(kind, FrameKind::UserAdvertise | FrameKind::UserRemove)
}
