//! What presence costs a server of a lively network, without signatures: `cargo bench -p socp-core --bench presence`.
//!
//! One server with 1,000 users and 19 peers of 1,000 users each, of whom one in ten leaves and comes back each minute, as
//! programs that were just begun, or with `-- resume` as ones that still know what they were told a minute ago. A
//! state machine as it ships runs through virtual seconds; frames are parsed, and written to sockets of this machine.
//! Processor time of the thread, by phase, as `/proc/thread-self/schedstat` counts it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a benchmark that cannot go on must fail, and says what it found"
)]

use socp_core::server::{Accept, Config, Directory, FirstFrame, Input, LinkId, Memory, Output, Server};
use socp_core::{Now, Verified};
use socp_proto::payload::{Batch, PRESENCE, PresenceRequest, ServerIdentity, UserGone, UserHello, UserHere};
use socp_proto::{Address, Base64Url, Capabilities, Draft, Frame, FrameKind, KeyText, Meta, Payload, ServerId, UserId};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

const PEERS: u64 = 19;
const USERS: u64 = 1_000;
const SECONDS: u64 = 300;
/// Comings and goings of one server's users in five minutes.
const CHANGES: u64 = 2 * USERS / 10 * (SECONDS / 60);

fn key(name: &str) -> KeyText {
    let mut der = [0x30; 550];
    for (byte, from) in der.iter_mut().zip(name.bytes()) {
        *byte = from;
    }
    KeyText::from_der(&der)
}

fn peer_id(peer: u64) -> ServerId {
    ServerId::try_from(format!("0f000000-0000-4000-8000-00000000{peer:04}")).unwrap()
}

fn user_id(peer: u64, user: u64) -> UserId {
    UserId::try_from(format!("1f000000-0000-4000-8000-{peer:06}{user:06}")).unwrap()
}

fn here(peer: u64, user: u64, ts: u64) -> UserHere {
    UserHere {
        user_id: user_id(peer, user),
        ts,
        meta: Meta::named(Some(&format!("user-{user}")), None).unwrap(),
        pubkey: Some(key(user_id(peer, user).as_str())),
        enc_pubkey: None,
        caps: Capabilities::of(&["delegate/1", PRESENCE]).ok(),
        version: Some(1),
        directory_sig: Some(Base64Url::encode(&[0x22; 512])),
        history: None,
    }
}

/// Processor time of this thread, ns.
fn spent() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// What is measured, by phase.
#[derive(Default)]
struct Costs(BTreeMap<&'static str, (u64, u64)>);

impl Costs {
    fn add<T>(&mut self, phase: &'static str, count: u64, work: impl FnOnce() -> T) -> T {
        let before = spent();
        let done = work();
        let entry = self.0.entry(phase).or_default();
        *entry = (entry.0 + count, entry.1 + spent() - before);
        done
    }
}

struct Stage {
    server: Server,
    now: Now,
    sockets: BTreeMap<LinkId, TcpStream>,
    costs: Costs,
    /// The numbering, and the last number that users were told.
    told: (u64, u64),
}

impl Stage {
    /// Does what is to be done, and counts what goes where.
    fn drain(&mut self) {
        let mut batches = Vec::new();
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Save { save, .. } => self.server.handle(self.now, Input::Saved { save }),
                Output::Fence { link } => self.server.handle(self.now, Input::Flushed { link }),
                Output::Send { to, draft, .. }
                    if matches!(draft.kind, FrameKind::Presence | FrameKind::ServerPresence) =>
                {
                    batches.push((to, draft));
                }
                _ => {}
            }
        }
        for (to, draft) in batches {
            let number = |name: &str| draft.payload.get(name).and_then(serde_json::Value::as_u64).unwrap();
            let is_list = number("from_seq") == 0;
            if draft.kind == FrameKind::Presence {
                self.told = (number("epoch"), self.told.1.max(number("seq")));
            }
            let (make, send) = match (draft.kind, is_list) {
                (FrameKind::ServerPresence, false) => ("write a batch for peers", "send it to a peer"),
                // Those who were there all the time are many.
                (FrameKind::Presence, false) if to.len() as u64 > USERS / 2 => {
                    ("write a batch for users", "send it to a user")
                }
                (FrameKind::Presence, false) => ("write what changed for who comes back", "send it to who comes back"),
                _ => ("write a page for who comes", "send it to who comes"),
            };
            let text = self.costs.add(make, 1, || {
                let signed = draft.sign_whole(|digest| Ok::<_, ()>(vec![digest[0]; 64]));
                signed.unwrap().to_text()
            });
            let links = u64::try_from(to.len()).unwrap();
            let sockets = &mut self.sockets;
            self.costs.add(send, links, || {
                for link in to {
                    if let Some(socket) = sockets.get_mut(&link) {
                        socket.write_all(text.as_bytes()).unwrap();
                    }
                }
            });
        }
    }

    fn handle(&mut self, input: Input) {
        self.server.handle(self.now, input);
        self.drain();
    }

    fn first(&mut self, link: LinkId, from: &str, key: KeyText, payload: &Payload) {
        self.handle(Input::Accepted {
            link,
            from: std::net::Ipv4Addr::LOCALHOST.into(),
            tls: None,
        });
        let from = socp_proto::Id::try_from(from).unwrap();
        let text = Draft::new(from, Address::everyone(), self.now.unix, payload)
            .sign(&[])
            .to_text();
        let signer = Some(key.fingerprint());
        let first = FirstFrame {
            frame: Frame::parse(&text).unwrap(),
            key: Some(key),
            signer,
        };
        self.handle(Input::First { link, first });
    }

    fn user_comes(&mut self, link: LinkId, user: u64, known: Option<(u64, u64)>) {
        let key = key(user_id(0, user).as_str());
        let hello = UserHello {
            client: "bench".to_owned(),
            pubkey: key.clone(),
            enc_pubkey: None,
            caps: Capabilities::of(&[PRESENCE]).ok(),
            meta: Meta::named(Some(&format!("user-{user}")), None).ok(),
            server_id: None,
            ts: None,
            history: None,
            presence: known.map(|(epoch, from_seq)| PresenceRequest {
                epoch,
                from_seq,
                to_the_letter: false,
            }),
            mailbox: None,
        };
        self.first(link, user_id(0, user).as_str(), key, &Payload::UserHello(hello));
        let user = user_id(0, user);
        let sig = Base64Url::encode(&[0x22; 512]);
        self.handle(Input::Endorsed { user, sig });
    }

    fn hear(&mut self, peer: u64, batch: Batch<UserHere, UserGone>) {
        let payload = Payload::ServerPresence(batch);
        let draft = Draft::new(peer_id(peer), Address::everyone(), self.now.unix, &payload);
        let text = draft.sign(&[0x11; 64]).to_text();
        let (server, now) = (&mut self.server, self.now);
        self.costs.add("parse a batch of a peer and take it", 1, || {
            let frame = Frame::parse(&text).unwrap();
            let _digest = frame.envelope.delegated_text();
            let frame = Verified::checked(frame, key(peer_id(peer).as_str()).fingerprint());
            let link = LinkId(peer);
            server.handle(now, Input::Peer { link, frame });
        });
        self.drain();
    }

    fn wait(&mut self, ms: u64) {
        self.all_live();
        let end = self.now.mono + ms;
        while let Some(due) = self.server.poll_timeout().filter(|due| *due <= end) {
            self.set_clock(due.max(self.now.mono));
            let (server, now) = (&mut self.server, self.now);
            self.costs
                .add("timers: choose what a batch says", 1, || server.handle_timeout(now));
            self.drain();
        }
        self.set_clock(end);
    }

    /// Everyone is still there.
    fn all_live(&mut self) {
        for link in self.sockets.keys().copied().collect::<Vec<_>>() {
            self.server.handle(self.now, Input::Alive { link });
        }
    }

    fn set_clock(&mut self, mono: u64) {
        self.now.unix += mono - self.now.mono;
        self.now.mono = mono;
    }
}

fn stage() -> Stage {
    let now = Now {
        mono: 1_000,
        unix: 1_700_000_000_000,
    };
    let config = Config {
        has_tls: false,
        history: None,
        server_id: peer_id(0),
        name: None,
        key: key(peer_id(0).as_str()),
        host: "127.0.0.1".to_owned(),
        port: 1,
        bootstrap: Vec::new(),
        accept: Accept::Open,
        takes_users: true,
        directory: Directory::Open,
        verify_content: false,
        allow_unsigned_join: false,
        proves: false,
        batches: true,
        passwords: false,
        delegation: None,
        clock_behind_ms: Config::CLOCK_TOLERANCE_MS.0,
        clock_ahead_ms: Config::CLOCK_TOLERANCE_MS.1,
        seed: [7; 32],
        keeps: true,
        run: 1,
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut sockets = BTreeMap::new();
    for link in (1..=PEERS).chain(1_000..1_000 + USERS) {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        far.set_nonblocking(false).unwrap();
        // The far end reads and forgets.
        std::thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(move || {
                let mut buffer = vec![0; 16 * 1024];
                while far.read(&mut buffer).is_ok_and(|count| count > 0) {}
            })
            .unwrap();
        sockets.insert(LinkId(link), socket);
    }
    Stage {
        server: Server::new(now, config, Memory::default()),
        now,
        sockets,
        costs: Costs::default(),
        told: (0, 0),
    }
}

fn empty(peer: u64) -> Batch<UserHere, UserGone> {
    Batch {
        server_id: peer_id(peer),
        epoch: 1,
        from_seq: 0,
        seq: 0,
        page: 0,
        more: false,
        add: Vec::new(),
        remove: Vec::new(),
    }
}

/// Everyone has come and is known.
fn settled() -> Stage {
    let mut stage = stage();
    for peer in 1..=PEERS {
        let identity = ServerIdentity {
            tls: false,
            history: None,
            host: String::new(),
            port: 0,
            pubkey: key(peer_id(peer).as_str()),
            name: None,
            caps: Capabilities::of(&[PRESENCE]).ok(),
            nonce: None,
        };
        let from = peer_id(peer);
        let payload = Payload::ServerAnnounce(identity);
        stage.first(LinkId(peer), from.as_str(), key(from.as_str()), &payload);
    }
    for user in 0..USERS {
        stage.user_comes(LinkId(1_000 + user), user, None);
        stage.wait(200);
    }
    for peer in 1..=PEERS {
        for page in 0..USERS / 50 {
            let add = (page * 50..(page + 1) * 50)
                .map(|user| here(peer, user, stage.now.unix))
                .collect();
            let more = page + 1 < USERS / 50;
            stage.hear(
                peer,
                Batch {
                    page,
                    more,
                    add,
                    ..empty(peer)
                },
            );
        }
        stage.wait(2_000);
    }
    for _ in 0..60 {
        stage.wait(1_000);
    }
    assert_eq!(stage.server.status().remote_users, 19_000);
    assert_eq!(stage.server.status().local_users, 1_000);
    stage
}

/// People come and go.
fn live(stage: &mut Stage) {
    stage.costs = Costs::default();
    let (mut told, mut next_link) = (0, 10_000);
    let resumes = std::env::args().any(|arg| arg == "resume");
    let mut known = BTreeMap::new();
    let mut links: BTreeMap<u64, LinkId> = (0..USERS).map(|user| (user, LinkId(1_000 + user))).collect();
    for second in 0..SECONDS {
        // As many changes as have fallen due; whoever leaves is back a minute later.
        let due = (second + 1) * CHANGES / SECONDS;
        let changes: Vec<u64> = (told..due).collect();
        let user_of = |change: u64| (change / 2) % USERS;
        for peer in 1..=PEERS {
            let add = changes
                .iter()
                .filter(|change| *change % 2 == 1)
                .map(|change| here(peer, user_of(*change), stage.now.unix));
            let remove = changes.iter().filter(|change| *change % 2 == 0).map(|change| UserGone {
                user_id: user_id(peer, user_of(change + 200)),
                ts: stage.now.unix,
                deletion: None,
            });
            let batch = Batch {
                from_seq: told + 1,
                seq: due,
                add: add.collect(),
                remove: remove.collect(),
                ..empty(peer)
            };
            stage.hear(peer, batch);
        }
        for change in changes {
            if change % 2 == 0 {
                let user = user_of(change + 200);
                let link = links[&user];
                stage.handle(Input::Closed { link });
                known.insert(user, stage.told);
            } else if let Some(known) = known.remove(&user_of(change)) {
                let user = user_of(change);
                let socket = stage.sockets.remove(&links[&user]);
                next_link += 1;
                let link = LinkId(next_link);
                stage.sockets.extend(socket.map(|socket| (link, socket)));
                links.insert(user, link);
                stage.user_comes(link, user, resumes.then_some(known));
            }
        }
        told = due;
        stage.wait(1_000);
    }
}

fn main() {
    let mut stage = settled();
    live(&mut stage);
    let costs = stage.costs;
    let mut all = 0.0;
    for (phase, (count, ns)) in &costs.0 {
        let (per_second, us) = (*count as f64 / SECONDS as f64, *ns as f64 / 1_000.0);
        let percent = us / 10_000.0 / SECONDS as f64;
        println!(
            "{phase:40} {per_second:8.1} a second, {:8.1} us each, {percent:6.3} % of a core",
            us / (*count as f64)
        );
        if !phase.contains("who comes") {
            all += percent;
        }
    }
    println!("without pages for who comes: {all:.3} % of a core");
}
