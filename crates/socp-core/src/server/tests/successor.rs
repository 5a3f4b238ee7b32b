//! A server whose key was changed is followed from the pinned key to the new one, and by nothing less (PROTOCOL II.13).

use super::super::*;
use super::world::*;
use socp_proto::payload::ServerIdentity;
use socp_proto::{Base64Url, Capabilities, Envelope, KeyHistory, KeyText, PROOF, Proof, PublicPair, hello_digest};

fn pair(name: &str) -> PublicPair {
    PublicPair {
        pubkey: key(name),
        enc_pubkey: key(name),
    }
}

/// What "x" was known by, one after the other. Nothing here checks a signature: the driver does.
fn history_of(whose: &str, names: &[&str]) -> Option<KeyHistory> {
    let (first, rest) = names.split_first().unwrap();
    rest.iter().fold(None, |history: Option<KeyHistory>, name| {
        let statement = KeyHistory::next(&user_id(whose), &pair(first), history.as_ref(), pair(name), BEGIN);
        assert_eq!(statement.sig, Base64Url::encode(&[]));
        Some(match history {
            None => KeyHistory::begin(pair(first), statement).unwrap(),
            Some(history) => history.and(statement).unwrap(),
        })
    })
}

fn with_key(name: &str, history: Option<KeyHistory>, proves: bool) -> ServerIdentity {
    ServerIdentity {
        pubkey: key(name),
        history,
        caps: Some(Capabilities::of(if proves { &[PROOF] } else { &[] }).unwrap()),
        nonce: proves.then(|| [1; 32].into()),
        ..identity("x")
    }
}

/// "x" says who it is, with the key of that name; what it said, and the link.
fn introduce(world: &mut World, name: &str, payload: &Payload) -> (Wire, Envelope) {
    let wire = world.connect("a");
    let said = signed(draft("x", "*", world.now.unix, payload), name);
    world.send(wire, &said);
    (wire, said)
}

/// Proves what was said, if it is asked to; whether the link is the server's then.
fn prove(world: &mut World, name: &str, wire: Wire, said: &Envelope) -> bool {
    let frames = world.take(wire);
    let nonce = frames.iter().find_map(|frame| match &frame.payload {
        Payload::ServerAnnounce(identity) => identity.nonce,
        Payload::ServerWelcome(welcome) => welcome.nonce,
        _ => None,
    });
    if let Some(nonce) = nonce {
        let proof = Proof {
            tls: None,
            nonce,
            server_id: server_id("a"),
            key: key("a").fingerprint().into(),
            by: server_id("x").into(),
            hello: hello_digest(&said.payload),
            ts: world.now.unix,
        };
        let proof = draft("x", "a", world.now.unix, &Payload::Proof(proof));
        world.send(wire, &signed(proof, name));
    }
    world.node("a").server.peers.get(&server_id("x")) == Some(&wire.link)
}

/// A server that knows "x" by a key.
fn knowing_x() -> World {
    let mut world = World::one("a");
    let (wire, said) = introduce(&mut world, "x", &Payload::ServerAnnounce(with_key("x", None, true)));
    assert!(prove(&mut world, "x", wire, &said));
    world.hang_up(wire);
    world
}

fn pinned(world: &World) -> KeyText {
    world.node("a").pins[&server_id("x")].key.clone()
}

#[test]
fn a_key_that_follows_on_the_pinned_one_takes_its_place_for_good() {
    type Kind = fn(ServerIdentity) -> Payload;
    let kinds: [Kind; 2] = [Payload::ServerAnnounce, Payload::ServerHelloJoin];
    for kind in kinds {
        for names in [&["x", "x2"][..], &["w", "x", "v", "x2"]] {
            let mut world = knowing_x();
            let identity = with_key("x2", history_of("x", names), true);
            let (wire, said) = introduce(&mut world, "x2", &kind(identity));
            assert_eq!(pinned(&world), key("x"), "nothing counts before the proof");
            assert!(prove(&mut world, "x2", wire, &said));
            assert!(pinned(&world) == key("x2") && world.node("a").pins[&server_id("x")].has_proved);
            assert!(
                world
                    .node("a")
                    .has_noted(|note| matches!(note, Note::PinFollowed { .. }))
            );
            assert!(
                !world
                    .node("a")
                    .has_noted(|note| matches!(note, Note::PinConflict { .. }))
            );

            // The key that was replaced is good for nothing any more, also after a restart.
            world.hang_up(wire);
            world.crash("a");
            world.start(&["a"]);
            let (wire, said) = introduce(&mut world, "x", &Payload::ServerAnnounce(with_key("x", None, true)));
            assert!(!prove(&mut world, "x", wire, &said));
            assert!(
                world
                    .node("a")
                    .has_noted(|note| matches!(note, Note::PinConflict { .. }))
            );
            assert_eq!(pinned(&world), key("x2"));
        }
    }
}

#[test]
fn nothing_else_leads_to_another_key() {
    let revoked = history_of("x", &["x", "x2"]).map(|history| {
        let statement = KeyHistory::next(&user_id("x"), &pair("x"), Some(&history), pair("x2"), BEGIN);
        history.and(statement).unwrap()
    });
    assert!(revoked.as_ref().unwrap().is_revoked());
    let table = [
        ("no history", None, true),
        ("of others", history_of("y", &["x", "x2"]), true),
        ("that begins elsewhere", history_of("x", &["w", "x2"]), true),
        ("that ends elsewhere", history_of("x", &["x", "x2", "x3"]), true),
        ("that ends with the pinned key", history_of("x", &["x2", "x"]), true),
        ("withdrawn", revoked, true),
        ("without a proof", history_of("x", &["x", "x2"]), false),
    ];
    for (what, history, proves) in table {
        let mut world = knowing_x();
        let identity = with_key("x2", history, proves);
        let (wire, said) = introduce(&mut world, "x2", &Payload::ServerAnnounce(identity));
        assert!(!prove(&mut world, "x2", wire, &said), "{what}");
        assert_eq!(pinned(&world), key("x"), "{what}");
        assert_eq!(world.node("a").keyring.get(&server_id("x")), Some(&key("x")), "{what}");
    }
}

#[test]
fn a_linked_server_cannot_change_its_key_in_the_middle() {
    let mut world = World::one("a");
    let (wire, said) = introduce(&mut world, "x", &Payload::ServerAnnounce(with_key("x", None, true)));
    assert!(prove(&mut world, "x", wire, &said));
    let other = with_key("x2", history_of("x", &["x", "x2"]), true);
    world.announce(wire, "x", other);
    assert_eq!(pinned(&world), key("x"));
    assert!(
        world
            .node("a")
            .has_noted(|note| matches!(note, Note::PinConflict { .. }))
    );
}

#[test]
fn a_bootstrap_entry_with_the_key_before_still_finds_the_server() {
    for (history, is_found) in [(history_of("x", &["x", "x2"]), true), (None, false)] {
        let mut world = World::empty();
        world.listens.insert("x:1".to_owned(), Vec::new());
        let mut config = config("a");
        config.bootstrap = vec![entry("x", Some(key("x")))];
        config.history = history_of("a", &["before", "a"]);
        world.add(config, "a");
        let wire = world.listens["x:1"][0];
        let hello = world.take(wire).remove(0);
        let Payload::ServerHelloJoin(asked) = &hello.payload else {
            panic!("{hello:?}");
        };
        assert_eq!(asked.history, history_of("a", &["before", "a"]), "it tells its own");
        let identity = with_key("x2", history, true);
        let payload = Payload::ServerAnnounce(identity);
        let said = signed(draft("x", "*", world.now.unix, &payload), "x2");
        world.send(wire, &said);
        let proof = Proof {
            tls: None,
            nonce: asked.nonce.unwrap(),
            server_id: server_id("a"),
            key: key("a").fingerprint().into(),
            by: server_id("x").into(),
            hello: hello_digest(&said.payload),
            ts: world.now.unix,
        };
        let proof = draft("x", "a", world.now.unix, &Payload::Proof(proof));
        world.send(wire, &signed(proof, "x2"));
        let is_linked = world.node("a").server.peers.contains_key(&server_id("x"));
        assert_eq!(is_linked, is_found);
    }
}

#[test]
fn a_link_that_only_the_key_before_has_proved_ends_with_it() {
    let mut world = World::one("a");
    let (old, said) = introduce(&mut world, "x", &Payload::ServerAnnounce(with_key("x", None, true)));
    assert!(prove(&mut world, "x", old, &said));
    let identity = with_key("x2", history_of("x", &["x", "x2"]), true);
    let (wire, said) = introduce(&mut world, "x2", &Payload::ServerAnnounce(identity));
    assert!(prove(&mut world, "x2", wire, &said));
    // Not as one of two links of the same server, of which either may stay.
    assert_eq!(world.closed(old), Some(1008));
}

#[test]
fn a_new_key_that_could_not_be_stored_is_not_pinned_and_is_tried_again() {
    let mut world = knowing_x();
    let identity = || Payload::ServerAnnounce(with_key("x2", history_of("x", &["x", "x2"]), true));
    world.node_mut("a").is_slow = true;
    let (wire, said) = introduce(&mut world, "x2", &identity());
    prove(&mut world, "x2", wire, &said);
    world.fail_slow("a");
    assert_eq!(world.closed(wire), Some(1011));
    assert_eq!(world.node("a").server.pins[&server_id("x")].key, key("x"));
    assert_eq!(world.node("a").keyring.get(&server_id("x")), Some(&key("x")));
    world.hang_up(wire);
    world.node_mut("a").is_slow = false;
    let (wire, said) = introduce(&mut world, "x2", &identity());
    assert!(prove(&mut world, "x2", wire, &said));
    assert_eq!(pinned(&world), key("x2"));
}
