//! A proof counts on the TLS session that it was made on (RFC 9266, PROTOCOL II.2), on links of users and of servers.

use super::super::*;
use super::world::*;
use socp_proto::payload::{ServerIdentity, UserHello};
use socp_proto::{Bytes32, Capabilities, Envelope, PROOF, Proof, hello_digest};

const HERE: [u8; 32] = [1; 32];
const ELSEWHERE: [u8; 32] = [2; 32];

fn caps() -> Option<Capabilities> {
    Some(Capabilities::of(&[PROOF]).unwrap())
}

fn able(name: &str) -> ServerIdentity {
    ServerIdentity {
        caps: caps(),
        nonce: Some([9; 32].into()),
        ..identity(name)
    }
}

/// What the session of a link exports, what a proof on it names, and whether it counts.
fn rows() -> [(Option<Bytes32>, Option<Bytes32>, bool); 6] {
    let [here, elsewhere] = [HERE, ELSEWHERE].map(|bytes| Some(Bytes32::from(bytes)));
    [
        (here, here, true),
        (here, elsewhere, false),
        (here, None, false),
        // Without TLS, or behind a proxy that ends it, nobody can tell.
        (None, None, true),
        (None, here, true),
        (None, elsewhere, true),
    ]
}

fn proof_on(said: &Envelope, nonce: Bytes32, by: &str, tls: Option<Bytes32>) -> Proof {
    Proof {
        nonce,
        server_id: server_id("a"),
        key: key("a").fingerprint().into(),
        by: by.try_into().unwrap(),
        hello: hello_digest(&said.payload),
        ts: BEGIN,
        tls,
    }
}

#[test]
fn a_user_proves_its_key_on_the_session_that_ends_at_the_server() {
    for (exported, claimed, counts) in rows() {
        let mut world = World::one("a");
        let wire = world.connect_by("a", exported);
        let hello = UserHello {
            caps: caps(),
            ..plain_hello("u")
        };
        let said = unsigned(draft("u", "*", BEGIN, &Payload::UserHello(hello)));
        world.send(wire, &said);
        let frames = world.take(wire);
        let Payload::Challenge(challenge) = &frames[0].payload else {
            panic!("{frames:?}");
        };
        assert_eq!(challenge.tls, exported, "the client can compare");
        let proof = proof_on(&said, challenge.nonce, "u", claimed);
        world.send(wire, &signed(draft("u", "a", BEGIN, &Payload::Proof(proof)), "u"));
        let what = format!("{exported:?} {claimed:?}");
        if counts {
            assert_eq!(world.take_kinds(wire)[0], FrameKind::Ack, "{what}");
            continue;
        }
        assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig], "{what}");
        assert_eq!(world.closed(wire), Some(1002), "{what}");
        assert!(world.node("a").users.is_empty(), "{what}");
    }
}

#[test]
fn a_server_that_connects_proves_its_key_on_the_session_that_ends_here() {
    for (exported, claimed, counts) in rows() {
        let mut world = World::one("a");
        let wire = world.connect_by("a", exported);
        let said = signed(draft("x", "*", BEGIN, &Payload::ServerAnnounce(able("x"))), "x");
        world.send(wire, &said);
        let frames = world.take(wire);
        let (Payload::ServerAnnounce(answer), Payload::Proof(ours)) = (&frames[0].payload, &frames[1].payload) else {
            panic!("{frames:?}");
        };
        assert_eq!(ours.tls, exported, "ours says where it was made");
        let proof = proof_on(&said, answer.nonce.unwrap(), "x", claimed);
        world.peer_says(wire, "x", "a", &Payload::Proof(proof));
        let what = format!("{exported:?} {claimed:?}");
        assert_eq!(world.node("a").pins.contains_key(&server_id("x")), counts, "{what}");
        if !counts {
            assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig], "{what}");
            assert_eq!(world.closed(wire), Some(1002), "{what}");
        }
    }
}

/// A server that dials "x" by TLS, and what came of it when x answers with these capabilities and this proof.
fn dialling(is_certified: bool, proves: bool, claimed: Option<Bytes32>) -> (World, Wire) {
    let mut world = World::empty();
    world.listens.insert("x:1".to_owned(), Vec::new());
    let near = TlsSession {
        binding: HERE.into(),
        is_certified,
    };
    world.sessions.insert("x:1".to_owned(), (near, HERE.into()));
    let mut config = config("a");
    config.bootstrap = vec![BootstrapEntry {
        tls: Some(TlsWanted::default()),
        ..entry("x", Some(key("x")))
    }];
    world.add(config, "a");
    let wire = world.listens["x:1"][0];
    let frames = world.take(wire);
    let Payload::ServerHelloJoin(join) = &frames[0].payload else {
        panic!("{frames:?}");
    };
    let answer = if proves { able("x") } else { identity("x") };
    let said = signed(draft("x", "*", BEGIN, &Payload::ServerAnnounce(answer)), "x");
    world.send(wire, &said);
    if proves {
        let proof = proof_on(&said, join.nonce.unwrap(), "x", claimed);
        world.peer_says(wire, "x", "a", &Payload::Proof(proof));
    }
    (world, wire)
}

#[test]
fn a_server_that_was_dialled_proves_its_key_on_the_session_unless_its_certificate_is_good() {
    let [here, elsewhere] = [HERE, ELSEWHERE].map(|bytes| Some(Bytes32::from(bytes)));
    for (is_certified, claimed, counts) in [
        (false, here, true),
        (false, elsewhere, false),
        (false, None, false),
        (true, here, true),
        (true, elsewhere, false),
        // Its own proxy may end TLS in front of it.
        (true, None, true),
    ] {
        let (mut world, wire) = dialling(is_certified, true, claimed);
        let what = format!("{is_certified} {claimed:?}");
        assert_eq!(world.node("a").pins.contains_key(&server_id("x")), counts, "{what}");
        if counts {
            let frames = world.take(wire);
            let ours = frames.iter().find_map(|frame| match &frame.payload {
                Payload::Proof(proof) => Some(proof.tls),
                _ => None,
            });
            assert_eq!(ours, Some(here), "{what}");
        } else {
            assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig], "{what}");
            assert_eq!(world.closed(wire), Some(1002), "{what}");
        }
    }
}

#[test]
fn a_server_to_the_letter_needs_a_good_certificate() {
    let (world, _) = dialling(true, false, None);
    assert!(world.node("a").pins.contains_key(&server_id("x")));
    let (mut world, wire) = dialling(false, false, None);
    assert!(world.node("a").pins.is_empty());
    assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig]);
    assert_eq!(world.closed(wire), Some(1008));
    let is_told = |note: &Note| matches!(note, Note::Uncertified { address } if address == "x:1");
    assert!(world.node("a").has_noted(is_told));
}

#[test]
fn a_server_that_was_met_before_proves_its_pinned_key_instead_of_a_certificate() {
    let mut world = two(HERE, HERE);
    world.crash("b");
    // The operator's list has the address alone now, and nobody vouches for the certificate.
    world.node_mut("b").config.bootstrap[0].key = None;
    world.start(&["b"]);
    assert!(!world.links_between("b", "a").is_empty());

    // Another server at that address may have any key, but is not known by it.
    world.crash("a");
    world.listens.insert("a:1".to_owned(), Vec::new());
    world.wait(5_000);
    let wire = world.listens["a:1"][0];
    let frames = world.take(wire);
    let Payload::ServerAnnounce(_) = &frames[0].payload else {
        panic!("the pin has it dialled, not the list: {frames:?}");
    };
    world.peer_says(wire, "x", "*", &Payload::ServerAnnounce(able("x")));
    assert!(!world.take_errors(wire).is_empty());
    assert!(!world.node("b").pins.contains_key(&server_id("x")));
}

#[test]
fn no_peers_word_about_where_it_is_makes_an_entry_do_without_a_certificate() {
    let mut world = World::empty();
    world.listens.insert("a:1".to_owned(), Vec::new());
    let near = TlsSession {
        binding: HERE.into(),
        is_certified: false,
    };
    world.sessions.insert("a:1".to_owned(), (near, HERE.into()));
    let mut config = config("b");
    config.bootstrap = vec![BootstrapEntry {
        tls: Some(TlsWanted::default()),
        ..entry("a", None)
    }];
    world.add(config, "b");
    let wire = world.connect("b");
    let liar = ServerIdentity {
        host: "a".to_owned(),
        port: 1,
        tls: true,
        ..identity("x")
    };
    world.peer_says(wire, "x", "*", &Payload::ServerAnnounce(liar));
    assert!(world.node("b").pins.contains_key(&server_id("x")));
    world.wait(200_000);
    let asked: Vec<FrameKind> = world.listens["a:1"]
        .clone()
        .into_iter()
        .flat_map(|wire| world.take_kinds(wire))
        .collect();
    assert!(!asked.contains(&FrameKind::ServerHelloJoin), "{asked:?}");
}

/// Two servers, of which the second dials the first by TLS with any certificate.
fn two(near: [u8; 32], far: [u8; 32]) -> World {
    let mut world = World::empty();
    let near = TlsSession {
        binding: near.into(),
        is_certified: false,
    };
    world.sessions.insert("a:1".to_owned(), (near, far.into()));
    let mut introducer = config("a");
    introducer.has_tls = true;
    world.add(introducer, "a");
    let mut joining = config("b");
    joining.bootstrap = vec![BootstrapEntry {
        tls: Some(TlsWanted::default()),
        ..entry("a", Some(key("a")))
    }];
    world.add(joining, "b");
    world
}

#[test]
fn servers_link_over_tls_and_whoever_passes_words_on_between_two_sessions_gets_nothing() {
    let world = two(HERE, HERE);
    let pin = &world.node("b").pins[&server_id("a")];
    assert!(pin.has_tls && pin.has_proved, "it is dialled in the same way again");
    assert!(!world.node("a").pins[&server_id("b")].has_tls);

    let mut world = two(HERE, ELSEWHERE);
    world.wait(10_000);
    assert!(world.node("a").pins.is_empty() && world.node("b").pins.is_empty());
    let is_told = |note: &Note| matches!(note, Note::StandsBetween { address } if address == "a:1");
    assert!(world.node("b").has_noted(is_told));
}

#[test]
fn a_welcome_says_who_speaks_tls_and_they_are_dialled_so() {
    let mut world = two(HERE, HERE);
    let mut third = config("c");
    third.bootstrap = vec![entry("b", Some(key("b")))];
    world.add(third, "c");
    world.wait(2_000);
    for (one, other) in [("c", "a"), ("c", "b"), ("a", "b")] {
        assert!(!world.links_between(one, other).is_empty(), "{one} {other}");
    }
    assert!(world.node("c").pins[&server_id("a")].has_tls);
    assert!(!world.node("c").pins[&server_id("b")].has_tls);
    // What was stored counts after a new start.
    world.crash("c");
    world.start(&["c"]);
    assert!(!world.links_between("c", "a").is_empty());
}

#[test]
fn a_server_that_moves_to_tls_says_so_and_is_dialled_so() {
    let mut world = World::mesh(&["a", "b"]);
    world.crash("a");
    world.node_mut("a").config.has_tls = true;
    let session = TlsSession {
        binding: HERE.into(),
        is_certified: false,
    };
    world.sessions.insert("a:1".to_owned(), (session, HERE.into()));
    world.start(&["a"]);
    // It dials the other, and tells.
    world.wait(5_000);
    assert!(world.node("b").pins[&server_id("a")].has_tls);
    world.part("a", "b");
    world.wait(10_000);
    assert!(!world.links_between("a", "b").is_empty());
}
