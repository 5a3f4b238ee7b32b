//! Joining the network and being joined (SOCP §8.1).

use super::super::*;
use super::world::*;
use socp_proto::KeyText;
use socp_proto::payload::{ServerIdentity, ServerWelcome};

fn join(name: &str, to: &str, ts: u64) -> Draft {
    draft(name, to, ts, &Payload::ServerHelloJoin(identity(name)))
}

fn welcome(by: &str, assigned: &str) -> ServerWelcome {
    ServerWelcome {
        tls: false,
        history: None,
        assigned_id: server_id(assigned),
        clients: Vec::new(),
        servers: Vec::new(),
        server_id: Some(server_id(by)),
        pubkey: Some(key(by)),
        host: Some(by.to_owned()),
        port: Some(1),
        name: None,
        caps: None,
        nonce: None,
    }
}

/// A server that dialled the test as its introducer, and the wire to it.
fn joining(key: Option<KeyText>) -> (World, Wire) {
    let mut world = World::empty();
    world.listens.insert("x:1".to_owned(), Vec::new());
    let mut config = config("a");
    config.bootstrap = vec![entry("x", key)];
    world.add(config, "a");
    let wire = world.listens["x:1"][0];
    assert_eq!(world.take_kinds(wire), [FrameKind::ServerHelloJoin]);
    (world, wire)
}

#[test]
fn a_newcomer_is_welcomed_announces_itself_and_is_answered() {
    let mut world = World::one("a");
    let wire = world.connect("a");
    let hello = signed(join("x", "a:1", BEGIN), "x");
    world.send(wire, &hello);
    let frames = world.take(wire);
    let [frame] = frames.as_slice() else {
        panic!("{frames:?}");
    };
    let Payload::ServerWelcome(welcome) = &frame.payload else {
        panic!("{frame:?}");
    };
    assert_eq!(welcome.assigned_id, server_id("x"));
    assert_eq!(welcome.server_id, Some(server_id("a")));
    assert_eq!(welcome.pubkey, Some(key("a")));
    assert_eq!(world.node("a").pins[&server_id("x")].key, key("x"));
    world.announce(wire, "x", identity("x"));
    assert_eq!(world.take_kinds(wire), [FrameKind::ServerAnnounce]);
    world.announce(wire, "x", identity("x"));
    assert!(world.take(wire).is_empty(), "the announcement goes out once");
}

#[test]
fn two_servers_pin_each_other_and_share_one_link() {
    let world = World::mesh(&["a", "b"]);
    for (here, there) in [("a", "b"), ("b", "a")] {
        let pin = &world.node(here).pins[&server_id(there)];
        assert_eq!((&pin.key, pin.host.as_str()), (&key(there), there));
        assert_eq!(pin.name.as_deref(), Some(format!("server {there}").as_str()));
        assert_eq!(world.links_between(here, there).len(), 1);
    }
}

#[test]
fn a_third_server_learns_the_second_from_the_welcome_and_links_to_it() {
    let world = World::mesh(&["a", "b", "c"]);
    assert_eq!(world.links_between("b", "c").len(), 1);
    assert_eq!(world.node("b").pins[&server_id("c")].key, key("c"));
    assert_eq!(world.node("c").pins[&server_id("b")].key, key("b"));
}

#[test]
fn a_joiner_whose_id_is_taken_adopts_a_fresh_one() {
    let mut world = World::mesh(&["a", "b"]);
    let mut third = config("c");
    third.server_id = server_id("b");
    third.bootstrap = vec![entry("a", Some(key("a")))];
    world.add(third, "c");
    let id = world.node("c").server.id().clone();
    assert!(id != server_id("b") && id.as_str().len() == 36, "{id}");
    assert_eq!(world.node("a").pins[&id].key, key("c"));
    assert_eq!(world.node("b").pins[&id].key, key("c"));
    assert_eq!(world.node("a").pins[&server_id("b")].key, key("b"));
    // It is stored: the next start is under the new id.
    world.crash("c");
    world.start(&["c"]);
    assert_eq!(*world.node("c").server.id(), id);
    assert_eq!(world.links_between("c", "a").len(), 1);
}

#[test]
fn a_joiner_that_comes_again_under_the_taken_id_gets_the_same_id_as_before() {
    let mut world = World::mesh(&["a", "b"]);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let wire = world.connect("a");
        let mut joiner = join("b", "a:1", world.now.unix);
        joiner.payload = Payload::ServerHelloJoin(identity("x")).to_object();
        world.send(wire, &signed(joiner, "x"));
        let Payload::ServerWelcome(welcome) = &world.take(wire)[0].payload else {
            panic!("no welcome");
        };
        ids.push(welcome.assigned_id.clone());
        world.hang_up(wire);
    }
    assert!(ids[0] == ids[1] && ids[0] != server_id("b"), "{ids:?}");
}

#[test]
fn the_same_id_with_another_key_is_refused_and_the_pin_stays() {
    let mut world = World::mesh(&["a", "b"]);
    let wire = world.connect("a");
    let mut announce = draft("b", "*", BEGIN, &Payload::ServerAnnounce(identity("thief")));
    announce.kind = FrameKind::ServerAnnounce;
    world.send(wire, &signed(announce, "thief"));
    assert_eq!(world.take_errors(wire), [ErrorCode::BadKey]);
    assert_eq!(world.closed(wire), Some(1008));
    assert_eq!(world.node("a").pins[&server_id("b")].key, key("b"));
    assert!(
        world
            .node("a")
            .has_noted(|note| matches!(note, Note::PinConflict { .. }))
    );
    assert_eq!(world.links_between("a", "b").len(), 1, "the true b stays linked");
}

#[test]
fn pins_outlast_a_restart() {
    let mut world = World::mesh(&["a", "b"]);
    world.crash("a");
    world.start(&["a"]);
    let wire = world.connect("a");
    let announce = draft("b", "*", BEGIN, &Payload::ServerAnnounce(identity("thief")));
    world.send(wire, &signed(announce, "thief"));
    assert_eq!(world.take_errors(wire), [ErrorCode::BadKey]);
}

#[test]
fn an_unsigned_or_stale_join_is_refused() {
    let mut world = World::one("a");
    let wire = world.connect("a");
    world.send(wire, &unsigned(join("x", "a:1", BEGIN)));
    assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig]);
    assert_eq!(world.closed(wire), Some(1002));
    for ts in [BEGIN - 5 * 60_000 - 1, BEGIN + 2 * 60_000 + 1] {
        let wire = world.connect("a");
        world.send(wire, &signed(join("x", "a:1", ts), "x"));
        assert_eq!(world.take_errors(wire), [ErrorCode::Timeout]);
        assert_eq!(world.closed(wire), Some(1002));
    }
    assert!(world.node("a").pins.is_empty());
}

#[test]
fn an_unsigned_join_is_taken_where_the_operator_says_so() {
    let mut world = World::empty();
    let mut config = config("a");
    config.allow_unsigned_join = true;
    world.add(config, "a");
    let wire = world.connect("a");
    world.send(wire, &unsigned(join("x", "a:1", BEGIN)));
    assert_eq!(world.take_kinds(wire), [FrameKind::ServerWelcome]);
}

#[test]
fn an_introducer_with_another_key_than_the_told_one_is_refused() {
    let (mut world, wire) = joining(Some(key("true x")));
    world.peer_says(wire, "x", "a", &Payload::ServerWelcome(welcome("x", "a")));
    assert_eq!(world.take_errors(wire), [ErrorCode::BadKey]);
    assert_eq!(world.closed(wire), Some(1008));
    assert!(world.node("a").pins.is_empty());
    assert!(world.node("a").has_noted(|note| matches!(note, Note::WrongKey { .. })));
}

#[test]
fn an_introducer_without_a_told_key_is_trusted_on_first_use_with_a_note() {
    let (mut world, wire) = joining(None);
    world.peer_says(wire, "x", "a", &Payload::ServerWelcome(welcome("x", "a")));
    assert_eq!(world.node("a").pins[&server_id("x")].key, key("x"));
    let node = world.node("a");
    assert!(node.has_noted(|note| matches!(note, Note::TrustedOnFirstUse { .. })));
}

#[test]
fn a_welcome_cannot_assign_the_id_of_the_introducer_or_of_a_known_server() {
    let (mut world, wire) = joining(Some(key("x")));
    world.peer_says(wire, "x", "a", &Payload::ServerWelcome(welcome("x", "x")));
    assert_eq!(*world.node("a").server.id(), server_id("a"));
    assert!(world.closed(wire).is_some());
}

#[test]
fn a_refused_welcome_leaves_our_id_alone() {
    let (mut world, wire) = joining(None);
    let other = world.peer("x", "a");
    world.hang_up(other);
    let mut stolen = welcome("thief", "fresh");
    stolen.server_id = Some(server_id("x"));
    let envelope = draft("x", "a", BEGIN, &Payload::ServerWelcome(stolen));
    world.send(wire, &signed(envelope, "thief"));
    assert_eq!(world.take_errors(wire), [ErrorCode::BadKey]);
    assert_eq!(*world.node("a").server.id(), server_id("a"));
}

#[test]
fn a_dialled_server_cannot_turn_into_a_user() {
    let (mut world, wire) = joining(None);
    world.hello(wire, "u", plain_hello("u"));
    assert_eq!(world.take_errors(wire), [ErrorCode::UnknownType]);
    assert_eq!(world.closed(wire), Some(1002));
    world.wait(2_000);
    assert_eq!(world.listens["x:1"].len(), 2, "it is dialled again");
}

#[test]
fn nobody_is_told_of_users_before_the_welcome() {
    let mut world = World::one("a");
    let known = world.user("u", "a");
    world.hang_up(known.wire);
    world.node_mut("a").is_slow = true;
    let joiner = world.connect("a");
    world.send(joiner, &signed(join("x", "a:1", BEGIN), "x"));
    let announcer = world.connect("a");
    world.announce(announcer, "y", identity("y"));
    let again = world.connect("a");
    world.hello(again, "u", plain_hello("u"));
    assert!(world.take(joiner).is_empty() && world.take(announcer).is_empty());
    world.answer_slow("a", 9);
    let expected = [FrameKind::ServerWelcome, FrameKind::UserAdvertise];
    assert_eq!(world.take_kinds(joiner), expected);
    let expected = [FrameKind::ServerAnnounce, FrameKind::UserAdvertise];
    assert_eq!(world.take_kinds(announcer), expected);
}

#[test]
fn two_links_between_a_pair_become_one_and_presence_survives() {
    for seed in 0..200 {
        let mut world = World::mesh(&["a", "b"]);
        let user = world.user("u", "b");
        world.shuffle = seed;
        // Both lose the link at once and both dial.
        world.crash("a");
        world.start(&["a"]);
        world.wait(5_000);
        assert_eq!(world.links_between("a", "b").len(), 1, "seed {seed}");
        for (here, there) in [("a", "b"), ("b", "a")] {
            let link = world.node(here).server.peers.get(&server_id(there));
            let links = world.links_between(here, there);
            assert_eq!(link, links.first(), "seed {seed}: {here} uses another link");
        }
        assert_eq!(world.list("a"), ["u"], "seed {seed}");
        world.hang_up(user.wire);
        assert!(world.list("a").is_empty(), "seed {seed}");
    }
}

#[test]
fn servers_that_lose_each_other_find_each_other_again_in_any_order() {
    for seed in 0..200 {
        let mut world = World::mesh(&["a", "b", "c"]);
        world.user("u", "b");
        world.shuffle = seed;
        world.part("a", "b");
        world.part("b", "c");
        world.wait(5_000);
        for (here, there) in [("a", "b"), ("b", "c"), ("a", "c")] {
            let links = world.links_between(here, there);
            assert_eq!(links.len(), 1, "seed {seed}: {here} and {there}");
        }
        assert_eq!(world.list("a"), ["u"], "seed {seed}");
        assert_eq!(world.list("c"), ["u"], "seed {seed}");
    }
}

#[test]
fn a_server_that_knows_its_introducer_from_before_keeps_one_link_to_it() {
    for seed in 0..200 {
        let mut world = World::mesh(&["a", "b"]);
        world.user("u", "a");
        world.crash("b");
        world.shuffle = seed;
        let noted = world.node("b").notes.len();
        world.start(&["b"]);
        assert_eq!(world.links_between("a", "b").len(), 1, "seed {seed}");
        let is_down = |note: &Note| matches!(note, Note::PeerDown { .. });
        assert!(!world.node("b").notes[noted..].iter().any(is_down), "seed {seed}");
        assert_eq!(world.list("b"), ["u"], "seed {seed}");
    }
}

/// Both ends agree on their one link, and know each other's users.
fn is_whole(world: &mut World, seed: u64) {
    for (here, there) in [("a", "b"), ("b", "a")] {
        let links = world.links_between(here, there);
        assert_eq!(links.len(), 1, "seed {seed}: {here} and {there}");
        let used = world.node(here).server.peers.get(&server_id(there));
        assert_eq!(used, links.first(), "seed {seed}: {here} uses another");
    }
    assert_eq!(world.list("a"), ["u", "v"], "seed {seed}");
    assert_eq!(world.list("b"), ["u", "v"], "seed {seed}");
}

#[test]
fn servers_that_dial_each_other_at_the_same_moment_keep_the_same_link() {
    let mut doubles = 0;
    for seed in 1..300 {
        let mut world = World::mesh(&["a", "b"]);
        world.crash("a");
        world.crash("b");
        world.shuffle = seed;
        world.start(&["a", "b"]);
        let double = |note: &Note| matches!(note, Note::DuplicateLink { .. });
        doubles += usize::from(world.node("a").has_noted(double));
        world.user("u", "a");
        world.user("v", "b");
        is_whole(&mut world, seed);
        // One of the two may have been closed before the other was up; from then on nothing is lost.
        let noted = world.node("a").notes.len();
        world.wait(120_000);
        let was_lost = |note: &Note| matches!(note, Note::PeerDown { .. });
        assert!(!world.node("a").notes[noted..].iter().any(was_lost), "seed {seed}");
    }
    assert!(doubles > 20, "only {doubles} worlds had two links");
}

#[test]
fn users_who_come_while_servers_link_are_known_everywhere() {
    for seed in 1..300 {
        let mut world = World::mesh(&["a", "b"]);
        world.crash("b");
        world.shuffle = seed;
        let (here, there) = (world.connect("a"), world.connect("b"));
        world.hello(here, "u", plain_hello("u"));
        world.start(&["b"]);
        world.take(there);
        let late = world.connect("b");
        world.hello(late, "v", plain_hello("v"));
        is_whole(&mut world, seed);
    }
}

#[test]
fn a_server_at_the_address_of_an_earlier_one_is_dialled_with_its_own_key() {
    let mut world = World::one("a");
    world.listens.insert("x:1".to_owned(), Vec::new());
    let at_x = |name: &str| socp_proto::payload::ServerIdentity {
        host: "x".to_owned(),
        port: 1,
        ..identity(name)
    };
    for name in ["old", "new"] {
        let wire = world.connect("a");
        world.announce(wire, name, at_x(name));
        world.announce(wire, name, at_x(name));
        world.hang_up(wire);
    }
    world.wait(10_000);
    // Whoever answers there, as the newer one, is linked by one of the dials.
    for wire in world.listens["x:1"].clone() {
        world.announce(wire, "new", at_x("new"));
    }
    let is_up = |note: &&Note| matches!(note, Note::PeerUp { server, .. } if *server == server_id("new"));
    assert_eq!(world.node("a").notes.iter().filter(is_up).count(), 2);
}

#[test]
fn users_who_come_while_servers_dial_each_other_are_known_everywhere() {
    for seed in 1..300 {
        let mut world = World::mesh(&["a", "b"]);
        world.crash("a");
        world.crash("b");
        world.shuffle = seed;
        world.begin(&["a", "b"]);
        for (user, node) in [("u", "a"), ("v", "b")] {
            let wire = world.connect(node);
            let hello = Payload::UserHello(plain_hello(user));
            world.post(wire, &unsigned(draft(user, "*", BEGIN, &hello)));
        }
        world.settle();
        is_whole(&mut world, seed);
    }
}

#[test]
fn a_pin_that_could_not_be_stored_is_no_pin_and_is_stored_at_the_next_try() {
    let mut world = World::one("a");
    world.node_mut("a").is_slow = true;
    let wire = world.connect("a");
    world.send(wire, &signed(join("x", "a:1", BEGIN), "x"));
    world.node_mut("a").pins.clear();
    world.fail_slow("a");
    assert!(world.node("a").server.pins.is_empty());
    assert_eq!(world.closed(wire), Some(1011));

    world.node_mut("a").is_slow = false;
    let wire = world.connect("a");
    world.send(wire, &signed(join("x", "a:1", BEGIN + 1), "x"));
    assert_eq!(world.take_kinds(wire), [FrameKind::ServerWelcome]);
    assert_eq!(world.node("a").pins[&server_id("x")].key, key("x"));
}

#[test]
fn a_key_keeps_the_id_it_has_and_no_server_takes_a_users_id() {
    let mut world = World::one("a");
    let wire = world.connect("a");
    world.send(wire, &signed(join("x", "a:1", BEGIN), "x"));
    world.hang_up(wire);
    // The same key under another name: it is told the name it has.
    let again = Draft::new(
        server_id("y"),
        Address::everyone(),
        BEGIN,
        &Payload::ServerHelloJoin(identity("x")),
    );
    let wire = world.connect("a");
    world.send(wire, &signed(again, "x"));
    let frames = world.take(wire);
    let [
        Frame {
            payload: Payload::ServerWelcome(welcome),
            ..
        },
    ] = frames.as_slice()
    else {
        panic!("{frames:?}");
    };
    assert_eq!(welcome.assigned_id, server_id("x"));

    world.user("u", "a");
    let wire = world.connect("a");
    world.announce(wire, "u", identity("u"));
    assert_eq!(world.take_errors(wire), [ErrorCode::BadKey]);
    assert_eq!(world.closed(wire), Some(1008));
}

#[test]
fn a_welcome_fits_into_a_message_however_many_servers_are_known() {
    let mut world = World::one("a");
    for number in 0..1500_u64 {
        let name = format!("server-{number}");
        let identity = ServerIdentity {
            host: "h".repeat(253),
            port: 1,
            ..identity(&name)
        };
        let wire = world.connect("a");
        world.send(
            wire,
            &signed(
                draft(&name, "a:1", world.now.unix, &Payload::ServerAnnounce(identity)),
                &name,
            ),
        );
        world.hang_up(wire);
    }
    let (wire, ts) = (world.connect("a"), world.now.unix);
    world.send(wire, &signed(join("x", "a:1", ts), "x"));
    let frames = world.take(wire);
    let text = frames[0].envelope.to_text();
    let bytes = text.len();
    assert!(
        (200_000..socp_proto::limits::FRAME_BYTES_MAX).contains(&bytes),
        "{bytes}"
    );
}
