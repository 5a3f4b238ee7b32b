//! What bad input gets where servers meet (SOCP §8.1, PROTOCOL I.3, I.4).

use super::super::*;
use super::table::*;
use super::table_fields::*;
use super::table_frames::*;
use super::world::*;
use socp_proto::limits::{CLOCK_AHEAD_MAX_MS, CLOCK_BEHIND_MAX_MS};
use socp_proto::payload::{ServerIdentity, ServerWelcome};

const IDENTITY: Fields = &[
    ("host", Host, Must),
    ("port", Port, Must),
    ("pubkey", Key, Must),
    ("name", Text, May),
    ("caps", Caps, May),
];
const IDENTITY_FOREIGN: &[&str] = &["assigned_id", "user_id", "ciphertext"];

const WELCOME: Fields = &[
    ("assigned_id", Id, Must),
    ("clients", List, May),
    ("servers", List, May),
    ("server_id", Id, May),
    ("pubkey", Key, May),
    ("host", Host, May),
    ("port", Port, May),
    ("name", Text, May),
    ("caps", Caps, May),
];

fn at(host: &str, name: &str) -> ServerIdentity {
    ServerIdentity {
        host: host.to_owned(),
        port: 1,
        ..identity(name)
    }
}

fn join() -> Said {
    by_n(&Payload::ServerHelloJoin(identity("n"))).to("a:1")
}

fn announce() -> Said {
    by_n(&Payload::ServerAnnounce(identity("n")))
}

fn pubkey_of(said: Said, name: &str) -> Said {
    said.saying("pubkey", &quoted(key(name).as_str()))
}

fn welcome() -> Said {
    by_n(&Payload::ServerWelcome(welcome_of_n("a"))).to("a")
}

fn welcome_of_n(assigned: &str) -> ServerWelcome {
    ServerWelcome {
        tls: false,
        history: None,
        assigned_id: server_id(assigned),
        clients: Vec::new(),
        servers: Vec::new(),
        server_id: Some(server_id("n")),
        pubkey: Some(key("n")),
        host: Some("n".to_owned()),
        port: Some(1),
        name: None,
        caps: None,
        nonce: None,
    }
}

/// What holds for each of the three ways to say who one is.
fn bad_identities(good: &Said, name: &str) -> Vec<Row> {
    let by = By::Newcomer;
    let mut rows = wrong_fields(by, good, IDENTITY, IDENTITY_FOREIGN);
    let row = |what: &str, said: &Said| Row::bad(by, format!("{name} {what}"), said);
    rows.push(Row::good(by, format!("{name}, a good one"), good));
    for (what, said) in [
        ("unsigned", good.clone().unsigned()),
        ("signed by another", good.clone().signed_by("thief")),
        ("signed by the server itself", good.clone().signed_by("a")),
    ] {
        rows.push(row(what, &said).gets(ErrorCode::InvalidSig).closed(1002));
    }
    for ts in [0, NOW - CLOCK_BEHIND_MAX_MS - 1, NOW + CLOCK_AHEAD_MAX_MS + 1, u64::MAX] {
        let said = good.clone().at(ts);
        rows.push(row(&format!("at {ts}"), &said).gets(ErrorCode::Timeout).closed(1002));
    }
    let with_our_key = pubkey_of(good.clone(), "a").signed_by("a");
    rows.push(row("with our key", &with_our_key).gets(ErrorCode::BadKey).closed(1008));
    rows
}

#[test]
fn a_join() {
    let mut rows = bad_identities(&join(), "join");
    rows.extend(wrong_envelope(By::Newcomer, &join()));
    check(&rows);
}

#[test]
fn an_announcement() {
    let mut rows = bad_identities(&announce(), "announce");
    rows.extend(bad_identities(
        &announce().kind(FrameKind::ServerHelloLink),
        "hello link",
    ));
    for kind in [FrameKind::ServerAnnounce, FrameKind::ServerHelloLink] {
        for id in ["a", "b", "w", "x", "z", "alice", "bob", "carol", "wendy", "zed", "xena"] {
            let said = announce().kind(kind).from(id);
            let row = Row::bad(By::Newcomer, format!("{} as {id}", kind.name()), &said);
            rows.push(row.gets(ErrorCode::BadKey).closed(1008));
        }
        // Who has the key of another server is that server, and not a second one.
        let said = pubkey_of(announce().kind(kind), "w").signed_by("w");
        let row = Row::bad(By::Newcomer, format!("{} with the key of w", kind.name()), &said);
        rows.push(row.gets(ErrorCode::BadKey).closed(1008));
    }
    check(&rows);
}

#[test]
fn a_joiner_never_gets_an_id_that_somebody_has() {
    let taken = ["a", "b", "w", "x", "z", "alice", "bob", "carol", "wendy", "zed", "xena"];
    for id in taken {
        let mut world = World::mesh(&["a", "b"]);
        let peers = ["w", "x"].map(|name| (name, world.peer(name, "a")));
        let z = world.peer("z", "a");
        world.hang_up(z);
        for (server, wire) in peers {
            let (user, beyond) = if server == "w" {
                ("wendy", "zed")
            } else {
                ("xena", "xavier")
            };
            world.peer_says(wire, server, "*", &advert(user, server));
            world.peer_says(wire, server, "*", &advert(beyond, server));
        }
        for (user, node) in [("alice", "a"), ("carol", "a"), ("bob", "b")] {
            world.user(user, node);
        }
        let pins = world.node("a").server.pins();
        let wire = world.connect("a");
        let mut said = signed(
            draft(id, "a:1", world.now.unix, &Payload::ServerHelloJoin(identity("n"))),
            "n",
        );
        said.ts = world.now.unix;
        world.send(wire, &said);
        let Payload::ServerWelcome(welcome) = &world.take(wire)[0].payload else {
            panic!("{id}: no welcome");
        };
        assert!(!taken.contains(&welcome.assigned_id.as_str()), "{id}");
        let kept: Vec<_> = world.node("a").server.pins();
        assert!(pins.iter().all(|pin| kept.contains(pin)), "{id}: a pin changed");
    }
}

/// Frames that never come first, whoever signs them.
#[test]
fn a_first_frame_of_another_kind() {
    let first = [
        FrameKind::ServerHelloJoin,
        FrameKind::ServerAnnounce,
        FrameKind::ServerHelloLink,
        FrameKind::UserHello,
        FrameKind::PubkeyRequest,
        FrameKind::Error,
    ];
    let mut rows = vec![Row::good(By::Newcomer, "a join", &join())];
    for kind in FrameKind::ALL.iter().filter(|kind| !first.contains(kind)) {
        let said = every_kind("n").remove(kind).unwrap();
        for said in [said.clone().signed_by("n"), said.unsigned()] {
            let row = Row::bad(By::Newcomer, format!("{} first", kind.name()), &said);
            rows.push(row.gets(ErrorCode::UnknownType).closed(1002));
        }
    }
    let error = every_kind("n").remove(&FrameKind::Error).unwrap();
    for said in [error.clone().unsigned(), error.signed_by("n")] {
        rows.push(Row::bad(By::Newcomer, "ERROR first", &said).closed(1002));
    }
    check(&rows);
}

#[test]
fn frames_behind_a_refused_first_frame() {
    let refused = join().unsigned().text();
    let mut rows = vec![Row::good(By::Newcomer, "a join", &join())];
    for (kind, said) in every_kind("n") {
        let texts = vec![refused.clone(), said.signed_by("n").text(), join().text()];
        let row = Row::texts(By::Newcomer, format!("{} behind", kind.name()), texts);
        rows.push(row.gets(ErrorCode::InvalidSig).closed(1002));
    }
    check(&rows);
}

#[test]
fn an_announcement_on_the_link_of_a_peer() {
    let good = by_x(&Payload::ServerAnnounce(at("x", "x")));
    let mut rows = wrong_fields(By::Peer, &good, IDENTITY, IDENTITY_FOREIGN);
    rows.extend(wrong_envelope(By::Peer, &good));
    rows.push(Row::good(By::Peer, "a new address", &good));
    for kind in [FrameKind::ServerAnnounce, FrameKind::ServerHelloLink] {
        for name in ["thief", "a", "b", "w"] {
            let said = pubkey_of(good.clone().kind(kind), name);
            let row = Row::bad(By::Peer, format!("{} with the key of {name}", kind.name()), &said);
            rows.push(row.gets(ErrorCode::BadKey).closed(1008));
        }
        let row = |what: &str, said: Said| Row::bad(By::Peer, format!("{} {what}", kind.name()), &said.kind(kind));
        rows.push(row("unsigned", good.clone().unsigned()).gets(ErrorCode::InvalidSig));
        rows.push(row("signed by another", good.clone().signed_by("thief")).gets(ErrorCode::InvalidSig));
        // What b or w really said once, shown by x: it is not x's to say.
        for (from, signer) in [("b", "b"), ("w", "w"), ("z", "z")] {
            let said = pubkey_of(good.clone(), signer).from(from).signed_by(signer);
            rows.push(row(&format!("of {from}"), said).gets(ErrorCode::InvalidSig));
        }
        // In the name of another and without that one's signature nobody is to blame, least of all b.
        for from in ["a", "b", "w", "stranger"] {
            rows.push(row(&format!("in the name of {from}"), good.clone().from(from)));
        }
    }
    check(&rows);
}

#[test]
fn a_welcome_of_the_introducer() {
    let by = By::Dialled;
    let mut rows = wrong_fields(by, &welcome(), WELCOME, &["user_id", "ciphertext"]);
    rows.push(Row::good(by, "a good one", &welcome()));
    for (name, json) in [
        ("a client without an id", "[{}]"),
        ("a client with a bad id", "[{\"user_id\":\"a b\"}]"),
        ("a client with a bad key", "[{\"user_id\":\"eve\",\"pubkey\":\"A+/A\"}]"),
        ("a client with a bad port", "[{\"user_id\":\"eve\",\"port\":65536}]"),
    ] {
        let row = Row::bad(by, name, &welcome().saying("clients", json));
        rows.push(refused_as_no_frame(row, by));
    }
    for (name, json) in [
        (
            "a server without a key",
            "[{\"server_id\":\"s\",\"host\":\"s\",\"port\":1}]",
        ),
        (
            "a server with a bad host",
            "[{\"server_id\":\"s\",\"host\":\"s s\",\"port\":1,\"pubkey\":\"AAAA\"}]",
        ),
    ] {
        let row = Row::bad(by, name, &welcome().saying("servers", json));
        rows.push(refused_as_no_frame(row, by));
    }
    let row = |what: &str, said: Said| Row::bad(by, format!("welcome {what}"), &said);
    rows.push(
        row("unsigned", welcome().unsigned())
            .gets(ErrorCode::InvalidSig)
            .closed(1002),
    );
    rows.push(
        row("signed by another", welcome().signed_by("thief"))
            .gets(ErrorCode::InvalidSig)
            .closed(1002),
    );
    let thief = pubkey_of(welcome(), "thief").signed_by("thief");
    rows.push(
        row("with another key than told", thief)
            .gets(ErrorCode::BadKey)
            .closed(1008),
    );
    for ts in [NOW - CLOCK_BEHIND_MAX_MS - 1, NOW + CLOCK_AHEAD_MAX_MS + 1] {
        rows.push(
            row(&format!("at {ts}"), welcome().at(ts))
                .gets(ErrorCode::Timeout)
                .closed(1002),
        );
    }
    for id in ["n", "b", "w", "x", "z"] {
        let said = welcome().saying("assigned_id", &quoted(id));
        rows.push(
            row(&format!("assigning {id}"), said)
                .gets(ErrorCode::InvalidSig)
                .closed(1002),
        );
    }
    for id in ["a", "b", "stranger"] {
        let said = welcome().saying("server_id", &quoted(id));
        rows.push(
            row(&format!("of one who is {id}"), said)
                .gets(ErrorCode::InvalidSig)
                .closed(1002),
        );
    }
    for id in ["a", "b", "alice", "carol", "xena"] {
        let said = welcome()
            .from(id)
            .saying("server_id", &quoted(id))
            .saying("assigned_id", "\"fresh\"");
        rows.push(row(&format!("from {id}"), said).gets(ErrorCode::BadKey).closed(1008));
    }
    check(&rows);
}

/// What an introducer says of others is believed where it speaks for itself, and dialled where it might be true.
#[test]
fn a_welcome_that_lies() {
    let by = By::Dialled;
    let client = |fields: &str| format!("[{{\"user_id\":{fields}}}]");
    let keyed = |user: &str, name: &str| format!("\"{user}\",\"pubkey\":\"{}\"", key(name).as_str());
    let server = |id: &str, host: &str, port: u16, name: &str| {
        let key = key(name);
        let key = key.as_str();
        format!("[{{\"server_id\":\"{id}\",\"host\":\"{host}\",\"port\":{port},\"pubkey\":\"{key}\"}}]")
    };
    let mut rows = Vec::new();
    for (field, what, json, is_taken) in [
        ("clients", "a user of its own", client("\"eve\""), true),
        ("clients", "a user of b's", client("\"eve\",\"server_id\":\"b\""), false),
        (
            "clients",
            "a user of ours",
            client("\"eve\",\"server_id\":\"a\""),
            false,
        ),
        (
            "clients",
            "a user of nobody's",
            client("\"eve\",\"server_id\":\"stranger\""),
            false,
        ),
        (
            "clients",
            "alice with another key",
            client(&keyed("alice", "thief")),
            false,
        ),
        ("clients", "bob with another key", client(&keyed("bob", "thief")), false),
        ("clients", "zed with another key", client(&keyed("zed", "thief")), false),
        ("servers", "a new server", server("new", "new", 1, "new"), true),
        ("servers", "itself elsewhere", server("n", "elsewhere", 1, "n"), false),
        ("servers", "us elsewhere", server("a", "elsewhere", 1, "a"), false),
        (
            "servers",
            "us with another key",
            server("a", "elsewhere", 1, "thief"),
            false,
        ),
        (
            "servers",
            "our key under another id",
            server("new", "elsewhere", 1, "a"),
            false,
        ),
        (
            "servers",
            "b with another key",
            server("b", "elsewhere", 1, "thief"),
            false,
        ),
        (
            "servers",
            "w with another key",
            server("w", "elsewhere", 1, "thief"),
            false,
        ),
        ("servers", "a server nowhere", server("new", "", 1, "new"), false),
        (
            "servers",
            "a server without a port",
            server("new", "new", 0, "new"),
            false,
        ),
    ] {
        let row = match is_taken {
            true => Row::good(by, what, &welcome().saying(field, &json)),
            false => Row::bad(by, what, &welcome().saying(field, &json)),
        };
        rows.push(row.instead_of(&welcome()));
    }
    for (user, json) in [
        ("carol", keyed("carol", "thief")),
        ("b", "\"b\"".to_owned()),
        ("a", "\"a\"".to_owned()),
    ] {
        let row = Row::bad(
            by,
            format!("{user} as a user"),
            &welcome().saying("clients", &client(&json)),
        );
        rows.push(row.instead_of(&welcome()).alarms(user));
    }
    check(&rows);
}

#[test]
fn another_first_frame_on_a_link_that_we_dialled() {
    let by = By::Dialled;
    let mut rows = vec![Row::good(by, "an announcement", &announce())];
    let may_come = [
        FrameKind::ServerWelcome,
        FrameKind::ServerAnnounce,
        FrameKind::ServerHelloLink,
        FrameKind::Error,
    ];
    for (kind, said) in every_kind("n").into_iter().filter(|(kind, _)| !may_come.contains(kind)) {
        let row = Row::bad(by, format!("{} on a dialled link", kind.name()), &said.signed_by("n"));
        rows.push(row.gets(ErrorCode::UnknownType).closed(1002));
    }
    let thief = pubkey_of(announce(), "thief").signed_by("thief");
    rows.push(
        Row::bad(by, "another key than told", &thief)
            .gets(ErrorCode::BadKey)
            .closed(1008),
    );
    let unsigned = announce().unsigned();
    rows.push(
        Row::bad(by, "unsigned", &unsigned)
            .gets(ErrorCode::InvalidSig)
            .closed(1002),
    );
    check(&rows);
}

/// A server that is lied about in a welcome, or lies about its own address: dialling it must not cost another its link.
#[test]
fn an_address_that_is_anothers_costs_nobody_a_link() {
    for (near, far) in [("a", "b"), ("b", "a")] {
        for (liar, host) in [
            ("x", far),
            ("x", near),
            ("ghost", far),
            ("ghost", near),
            (far, "nowhere"),
        ] {
            let told = format!("{near} is told that {liar} is at {host}");
            let mut world = lied_to(near, far, liar, host);
            let (alice, bob) = (world.user("alice", near), world.user("bob", far));
            world.answer_pings(alice.wire, true);
            world.answer_pings(bob.wire, true);
            // Long enough for every attempt.
            for second in 0..300 {
                world.wait(1_000);
                assert!(
                    !world.links_between(near, far).is_empty(),
                    "{told}: no link after {second} s"
                );
            }
            for wire in [alice.wire, bob.wire] {
                assert!(!world.take_kinds(wire).contains(&FrameKind::UserRemove), "{told}");
            }
            world.tell(alice, "bob", b"there");
            world.tell(bob, "alice", b"back");
            for wire in [bob.wire, alice.wire] {
                assert_eq!(world.take_kinds(wire), [FrameKind::UserDeliver], "{told}");
            }
            let pins = world.node(near).server.pins();
            assert!(
                pins.iter()
                    .any(|pin| pin.server_id == server_id(far) && pin.host == far && pin.key == key(far))
            );
        }
    }
}

/// Two linked servers, one of which is told by `liar` itself, or by an introducer, that `liar` is at `host`. Who told it
/// is gone.
fn lied_to(near: &'static str, far: &'static str, liar: &str, host: &str) -> World {
    let mut world = World::empty();
    world.listens.insert("n:1".to_owned(), Vec::new());
    let mut config_of_near = config(near);
    config_of_near.bootstrap = vec![entry("n", None)];
    world.add(config_of_near, near);
    let mut config_of_far = config(far);
    config_of_far.bootstrap = vec![entry(near, Some(key(near)))];
    world.add(config_of_far, far);
    let introducer = world.listens["n:1"][0];
    let mut welcome = welcome_of_n(near);
    if liar == "x" {
        let x = world.peer("x", near);
        world.announce(x, "x", at(host, "x"));
        world.hang_up(x);
    } else {
        welcome.servers.push(socp_proto::payload::WelcomeServer {
            tls: false,
            server_id: server_id(liar),
            host: host.to_owned(),
            port: 1,
            pubkey: key(liar),
        });
    }
    world.peer_says(introducer, "n", near, &Payload::ServerWelcome(welcome));
    assert_eq!(world.closed(introducer), None);
    world.listens.clear();
    world.hang_up(introducer);
    assert_eq!(world.links_between(near, far).len(), 1);
    world
}
