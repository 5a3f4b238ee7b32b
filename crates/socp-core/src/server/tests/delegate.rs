//! Which key signs what, and what is believed (PROTOCOL II.3).

use super::super::*;
use super::world::*;
use socp_proto::limits::{DELEGATION_LASTS_MS, DELEGATION_LEFT_MIN_MS};
use socp_proto::payload::{Heartbeat, ServerIdentity};
use socp_proto::{Capabilities, DELEGATE, Delegation, Envelope};

fn delegating(name: &'static str, number: u8) -> Config {
    Config {
        delegation: Some(delegation(name, number)),
        ..config(name)
    }
}

/// Servers that joined by the first; those named with a number have a delegated key.
fn mesh(servers: &[(&'static str, bool)]) -> World {
    let mut world = World::empty();
    let first = servers[0].0;
    for (name, delegates) in servers {
        let mut config = if *delegates { delegating(name, 1) } else { config(name) };
        if *name != first {
            config.bootstrap = vec![entry(first, Some(key(first)))];
        }
        world.add(config, name);
    }
    world.overheard = Some(Vec::new());
    world
}

fn caps() -> Capabilities {
    Capabilities::of(&[DELEGATE]).unwrap()
}

fn able_user(world: &mut World, id: &'static str, node: &'static str) -> Wire {
    let wire = world.connect(node);
    let hello = socp_proto::payload::UserHello {
        caps: Some(caps()),
        ..plain_hello(id)
    };
    world.hello(wire, id, hello);
    wire
}

fn seals(frames: &[Frame]) -> Vec<(FrameKind, bool)> {
    let seal = |frame: &Frame| (frame.envelope.kind, frame.envelope.is_delegated());
    frames.iter().map(seal).collect()
}

fn heartbeat(delegation: Delegation) -> Payload {
    Payload::Heartbeat(Heartbeat {
        delegation: Some(delegation),
        ..Heartbeat::default()
    })
}

#[test]
fn a_user_who_can_hears_of_the_key_and_then_everything_by_it() {
    let mut world = World::empty();
    world.add(delegating("a", 1), "a");
    let able = able_user(&mut world, "u", "a");
    let frames = world.take(able);
    assert_eq!(
        seals(&frames),
        [
            (FrameKind::Ack, false),
            (FrameKind::Heartbeat, false),
            (FrameKind::UserAdvertise, true)
        ],
        "by the server's own key until the delegated one is known"
    );
    let Payload::Heartbeat(heartbeat) = &frames[1].payload else {
        panic!("{frames:?}");
    };
    assert_eq!(heartbeat.delegation, Some(delegation("a", 1)));
    let plain = world.user("v", "a");
    assert_eq!(seals(&world.take(able)), [(FrameKind::UserAdvertise, true)]);
    let able = User { id: "u", wire: able };
    world.tell(able, "v", b"to a stranger");
    world.tell(plain, "u", b"to one of ours");
    assert_eq!(seals(&world.take(plain.wire)), [(FrameKind::UserDeliver, false)]);
    assert_eq!(seals(&world.take(able.wire)), [(FrameKind::UserDeliver, true)]);
}

#[test]
fn in_every_mix_of_old_and_new_servers_everything_arrives() {
    for mix in 0..8_u8 {
        let servers = [("a", mix & 1 != 0), ("b", mix & 2 != 0), ("c", mix & 4 != 0)];
        let mut world = mesh(&servers);
        let users = [("u", "a"), ("v", "b"), ("w", "c")].map(|(id, node)| world.user(id, node));
        world.wait(20_000);
        for user in users {
            world.take(user.wire);
        }
        for from in users {
            for to in users.iter().filter(|to| to.id != from.id) {
                world.tell(from, to.id, from.id.as_bytes());
                assert_eq!(world.take_kinds(to.wire), [FrameKind::UserDeliver], "{servers:?}");
            }
        }
        for (name, _) in servers {
            assert_eq!(world.list(name), ["u", "v", "w"], "{servers:?}");
            assert!(!world.node(name).has_noted(|note| matches!(note, Note::Refused { .. })));
        }
        // What others pass on or must verify stays signed by the server's own key, whoever hears it.
        let is_able = |name: &str| servers.iter().any(|(server, is_able)| *server == name && *is_able);
        let mut delegated = 0;
        for (from, to, frame) in world.overheard.iter().flatten() {
            let kind = frame.envelope.kind;
            let is_delegated = frame.envelope.is_delegated();
            let is_gossip = matches!(kind, FrameKind::UserAdvertise | FrameKind::UserRemove);
            assert!(
                !is_delegated || (is_able(from) && is_able(to) && !is_gossip),
                "{frame:?}"
            );
            if kind == FrameKind::ServerDeliver {
                assert_eq!(
                    is_delegated,
                    is_able(from) && is_able(to),
                    "{servers:?}: {from} to {to}"
                );
                delegated += usize::from(is_delegated);
            }
        }
        let able = servers.iter().filter(|(_, is_able)| *is_able).count();
        assert_eq!(delegated, able * able.saturating_sub(1), "{servers:?}");
    }
}

#[test]
fn what_goes_by_a_middle_server_is_signed_by_our_own_key() {
    let mut world = mesh(&[("a", true), ("m", true), ("z", true)]);
    let (u, v) = (world.user("u", "a"), world.user("v", "z"));
    for user in [u, v] {
        world.answer_pings(user.wire, true);
    }
    world.block("a", "z");
    world.wait(20_000);
    world.take(v.wire);
    world.overheard = Some(Vec::new());
    world.tell(u, "v", b"around");
    assert_eq!(world.take_kinds(v.wire), [FrameKind::UserDeliver]);
    let heard: Vec<_> = world.overheard.iter().flatten().collect();
    let delivers = heard
        .iter()
        .filter(|(.., frame)| frame.envelope.kind == FrameKind::ServerDeliver);
    let by: Vec<_> = delivers
        .map(|(from, to, frame)| (*from, *to, frame.envelope.is_delegated()))
        .collect();
    assert_eq!(by, [("a", "m", false), ("m", "z", false)]);
}

#[test]
fn a_new_key_is_told_before_it_signs_and_the_old_one_signs_no_more() {
    let mut world = mesh(&[("a", true), ("b", true)]);
    let u = able_user(&mut world, "u", "a");
    let v = world.user("v", "b");
    world.take(u);
    world.delegate("a", delegation("a", 2));
    let frames = world.take(u);
    assert_eq!(seals(&frames), [(FrameKind::Heartbeat, false)]);
    assert_eq!(frames[0].payload, heartbeat(delegation("a", 2)));
    world.overheard = Some(Vec::new());
    world.tell(User { id: "u", wire: u }, "v", b"with the new key");
    assert_eq!(world.take_kinds(v.wire).last(), Some(&FrameKind::UserDeliver));
    let heard = world.overheard.iter().flatten();
    let by: Vec<_> = heard
        .map(|(.., frame)| (frame.envelope.kind, frame.envelope.is_delegated()))
        .collect();
    assert_eq!(by, [(FrameKind::ServerDeliver, true), (FrameKind::Ack, true)]);
    // Of a key for an id that is not ours nobody hears.
    world.delegate("a", delegation("other", 3));
    assert!(world.take(u).is_empty());
    world.tell(v, "u", b"back");
    assert_eq!(seals(&world.take(u)), [(FrameKind::UserDeliver, false)]);
}

#[test]
fn a_delegation_that_does_not_hold_is_neither_told_nor_used() {
    let mut world = World::empty();
    world.add(delegating("a", 1), "a");
    let first = able_user(&mut world, "u", "a");
    world.take(first);
    // The machine slept, or its clock was wrong at the start: on the monotonic clock no time has passed.
    world.now.unix = BEGIN + DELEGATION_LASTS_MS + 1;
    let second = able_user(&mut world, "v", "a");
    let own = [(FrameKind::Ack, false), (FrameKind::UserAdvertise, false)];
    assert_eq!(seals(&world.take(second))[..2], own);
    assert_eq!(seals(&world.take(first)), [(FrameKind::UserAdvertise, false)]);
    let renewed = Delegation {
        not_before: world.now.unix,
        not_after: world.now.unix + DELEGATION_LASTS_MS,
        ..delegation("a", 2)
    };
    world.delegate("a", renewed.clone());
    world.tell(User { id: "u", wire: first }, "v", b"with the new key");
    let by_the_new = [(FrameKind::Heartbeat, false), (FrameKind::UserDeliver, true)];
    assert_eq!(seals(&world.take(second)), by_the_new);
    assert_eq!(world.take(first)[0].payload, heartbeat(renewed));
    // Set back to before it begins.
    world.now.unix -= 1;
    world.tell(User { id: "u", wire: first }, "v", b"too early");
    assert_eq!(seals(&world.take(second)), [(FrameKind::UserDeliver, false)]);
}

#[test]
fn another_delegation_is_wanted_before_this_one_ends_by_the_wall_clock() {
    let mut world = World::empty();
    world.add(delegating("a", 1), "a");
    let end = BEGIN + DELEGATION_LASTS_MS;
    let table = [
        (BEGIN, false),
        (end - DELEGATION_LEFT_MIN_MS, false),
        (end - DELEGATION_LEFT_MIN_MS + 1, true),
        (end + 1, true),
        (BEGIN - 1, true),
    ];
    let server = &world.node("a").server;
    for (unix, is_wanted) in table {
        let wanted = server.wants_delegation(Now { mono: 0, unix });
        assert_eq!(wanted, is_wanted, "{unix}");
    }
    world.delegate("a", delegation("other", 2));
    assert!(world.node("a").server.wants_delegation(world.now));
}

#[test]
fn a_server_that_gets_another_id_needs_a_key_for_that() {
    let mut world = mesh(&[("a", true)]);
    world.peer("b", "a");
    let mut config = delegating("b", 1);
    config.key = key("another b");
    config.bootstrap = vec![entry("a", Some(key("a")))];
    world.add(config, "b");
    let assigned = world.node("b").server.id().clone();
    assert_ne!(assigned, server_id("b"));
    world.wait(20_000);
    let heard = world.overheard.iter().flatten();
    assert!(
        heard
            .filter(|(from, ..)| *from == "b")
            .all(|(.., frame)| !frame.envelope.is_delegated())
    );
    let own = Delegation {
        server_id: assigned,
        ..delegation("b", 2)
    };
    world.delegate("b", own);
    world.overheard = Some(Vec::new());
    world.wait(16_000);
    let heard = world.overheard.iter().flatten();
    let mut of_b = heard.filter(|(from, ..)| *from == "b").peekable();
    assert!(of_b.peek().is_some());
    assert!(of_b.all(|(.., frame)| frame.envelope.is_delegated()));
    assert!(!world.node("a").has_noted(|note| matches!(
        note,
        Note::Refused {
            class: "signature" | "downgrade",
            ..
        }
    )));
}

/// A peer of the test, "x", which lists the capability, and has told its delegation if asked to.
fn able_peer(world: &mut World, has_told: bool) -> Wire {
    let wire = world.connect("a");
    let identity = ServerIdentity {
        caps: Some(caps()),
        ..identity("x")
    };
    world.announce(wire, "x", identity);
    if has_told {
        world.peer_says(wire, "x", "a", &heartbeat(delegation("x", 1)));
    }
    world.take(wire);
    wire
}

fn by_delegate(of: &Delegation, ts: u64, payload: &Payload) -> Envelope {
    let signed = draft("x", "a", ts, payload).sign_whole(|text| Ok::<_, ()>(toy_delegate_sig(of, text)));
    signed.unwrap()
}

#[test]
fn frames_of_a_peer_are_signed_by_the_key_that_its_link_has() {
    let plain = Payload::Heartbeat(Heartbeat::default());
    let gossip = advert("u", "x");
    let (own, other) = (delegation("x", 1), delegation("x", 2));
    // Whether the link has heard of the key, what comes, and whether it is taken.
    let table: [(bool, &str, Envelope, Option<&str>); 8] = [
        (
            false,
            "a delegated frame without a key",
            by_delegate(&own, BEGIN, &plain),
            Some("signature"),
        ),
        (true, "a delegated frame", by_delegate(&own, BEGIN, &plain), None),
        (
            true,
            "another key",
            by_delegate(&other, BEGIN, &plain),
            Some("signature"),
        ),
        (
            true,
            "gossip that others could not verify",
            by_delegate(&own, BEGIN, &gossip),
            Some("signature"),
        ),
        (true, "gossip", signed(draft("x", "*", BEGIN, &gossip), "x"), None),
        (
            true,
            "the letter again",
            signed(draft("x", "a", BEGIN, &plain), "x"),
            Some("downgrade"),
        ),
        (false, "the letter", signed(draft("x", "a", BEGIN, &plain), "x"), None),
        (
            true,
            "the next key",
            signed(draft("x", "a", BEGIN, &heartbeat(other.clone())), "x"),
            None,
        ),
    ];
    for (has_told, what, envelope, refused) in table {
        let mut world = World::empty();
        world.add(delegating("a", 1), "a");
        let wire = able_peer(&mut world, has_told);
        world.send(wire, &envelope);
        let mut classes = world.node("a").notes.iter().filter_map(|note| match note {
            Note::Refused { class, .. } => Some(*class),
            _ => None,
        });
        assert_eq!(classes.next_back(), refused, "{what}");
        assert_eq!(world.closed(wire), None, "{what}");
    }
    // Whatever a delegated signature is put under, it covers all of it.
    let mut world = World::empty();
    world.add(delegating("a", 1), "a");
    let wire = able_peer(&mut world, true);
    let mut moved = by_delegate(&own, BEGIN, &plain);
    moved.ts += 1;
    world.send(wire, &moved);
    assert!(
        world
            .node("a")
            .has_noted(|note| matches!(note, Note::Refused { class: "signature", .. }))
    );
}

#[test]
fn a_capability_is_not_taken_back() {
    let mut world = World::empty();
    world.add(delegating("a", 1), "a");
    let wire = able_peer(&mut world, true);
    let at = |host: &str, caps: Option<Capabilities>| ServerIdentity {
        caps,
        host: host.to_owned(),
        port: 7,
        ..identity("x")
    };
    for caps in [None, Some(Capabilities::default())] {
        world.announce(wire, "x", at("elsewhere", caps));
        assert!(
            world
                .node("a")
                .has_noted(|note| matches!(note, Note::Refused { class: "downgrade", .. }))
        );
        assert_ne!(world.node("a").pins[&server_id("x")].host, "elsewhere");
    }
    world.announce(wire, "x", at("moved", Some(caps())));
    assert_eq!(world.node("a").pins[&server_id("x")].host, "moved");
}

#[test]
fn what_was_signed_for_us_alone_is_not_passed_on() {
    let mut world = World::empty();
    world.add(delegating("a", 1), "a");
    let x = able_peer(&mut world, true);
    let y = world.peer("y", "a");
    world.peer_says(y, "y", "*", &advert("v", "y"));
    world.take(y);
    let deliver = super::table::server_deliver("u", "v", BEGIN, b"sealed");
    world.send(
        x,
        &by_delegate(&delegation("x", 1), BEGIN, &Payload::ServerDeliver(deliver)),
    );
    assert!(world.take(y).is_empty());
    assert_eq!(world.take_errors(x), [ErrorCode::UserNotFound]);
}
