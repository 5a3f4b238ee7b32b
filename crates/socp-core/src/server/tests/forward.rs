//! Gossip that is passed on, and how often (SOCP §8.2, PROTOCOL I.5).

use super::super::*;
use super::world::*;
use std::collections::BTreeMap;

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const USERS: [&str; 8] = ["u-a", "u-b", "u-c", "u-d", "u-e", "u-f", "u-g", "u-h"];

/// Servers that have all met, of which then only some can reach each other.
fn restricted(names: &[&'static str], is_linked: impl Fn(usize, usize) -> bool) -> World {
    let mut world = World::mesh(names);
    world.wait(5_000);
    for (one, a) in names.iter().enumerate() {
        for (other, b) in names.iter().enumerate().skip(one + 1) {
            if !is_linked(one, other) {
                world.block(a, b);
            }
        }
    }
    world.wait(30_000);
    world
}

fn is_in_ring(one: usize, other: usize) -> bool {
    other - one == 1 || other - one == NAMES.len() - 1
}

/// How often each presence change crossed each link, in either direction.
fn crossings(world: &World) -> BTreeMap<(String, &'static str, &'static str), usize> {
    let mut counts = BTreeMap::new();
    for (from, to, frame) in world.overheard.iter().flatten() {
        let kind = frame.envelope.kind;
        if matches!(kind, FrameKind::UserAdvertise | FrameKind::UserRemove) {
            let change = format!("{} {} {}", kind.name(), frame.envelope.ts, frame.envelope.signed_text());
            *counts.entry((change, *from.min(to), *from.max(to))).or_default() += 1;
        }
    }
    counts
}

/// A user comes to each server and some leave: everyone knows, and no change crosses a link twice.
fn each_change_crosses_each_link_at_most_once(mut world: World, names: &[&'static str], wait: u64) -> usize {
    world.overheard = Some(Vec::new());
    for (name, user) in names.iter().zip(USERS) {
        let user = world.user(user, name);
        world.answer_pings(user.wire, true);
        world.wait(wait);
        if *name < "c" {
            world.hang_up(user.wire);
        }
    }
    world.wait(10_000);
    let present = &USERS[2..names.len()];
    let counts = crossings(&world);
    let over: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(over.is_empty(), "{over:#?}");
    for name in names {
        assert_eq!(world.list(name), present, "at {name}");
    }
    counts.values().sum()
}

#[test]
fn in_a_full_mesh_nothing_is_passed_on() {
    let mut world = World::mesh(&NAMES);
    world.wait(5_000);
    let sent = each_change_crosses_each_link_at_most_once(world, &NAMES, 0);
    // Ten changes, each to seven others.
    assert_eq!(sent, 10 * 7);
}

#[test]
fn in_a_star_the_middle_tells_everyone_else_once() {
    let world = restricted(&NAMES, |one, _| one == 0);
    let sent = each_change_crosses_each_link_at_most_once(world, &NAMES, 0);
    assert_eq!(sent, 10 * 7);
}

#[test]
fn in_a_ring_the_two_ways_around_meet_and_nothing_crosses_twice() {
    for seed in [0, 1, 2, 3] {
        let mut world = restricted(&NAMES, is_in_ring);
        world.shuffle = seed;
        each_change_crosses_each_link_at_most_once(world, &NAMES, 500);
    }
}

#[test]
fn where_one_link_is_missing_one_server_fills_in() {
    let names = ["a", "b", "c", "d"];
    let world = restricted(&names, |one, other| (one, other) != (0, 3));
    let sent = each_change_crosses_each_link_at_most_once(world, &names, 0);
    // Six changes, each known to three others.
    assert_eq!(sent, 6 * 3);
}

#[test]
fn users_who_were_there_before_are_shown_by_the_middle_and_messages_flow() {
    let mut world = World::mesh(&["a", "m", "z"]);
    let (u, v) = (world.user("u", "a"), world.user("v", "z"));
    for user in [u, v] {
        world.answer_pings(user.wire, true);
    }
    // Long enough that the gossip of before is older than the clock tolerance.
    world.wait(10 * 60_000);
    world.block("a", "z");
    assert_eq!(world.list("a"), ["u"]);
    world.wait(15_000);
    assert_eq!(world.list("a"), ["u", "v"]);
    assert_eq!(world.list("z"), ["u", "v"]);
    world.take(v.wire);
    world.tell(u, "v", b"around");
    assert!(world.take_kinds(v.wire).contains(&FrameKind::UserDeliver));
    let share = channel_copy("u", "v", world.now.unix, b"to all, around");
    world.say(u, "v", &share);
    assert!(world.take_kinds(v.wire).contains(&FrameKind::MsgPublicChannel));
    // The direct way comes back, and is used.
    world.unblock("a", "z");
    world.wait(120_000);
    assert_eq!(world.links_between("a", "z").len(), 1);
    world.overheard = Some(Vec::new());
    world.tell(u, "v", b"straight");
    let heard: Vec<_> = world
        .overheard
        .iter()
        .flatten()
        .map(|(from, to, frame)| (*from, *to, frame.envelope.kind))
        .collect();
    assert_eq!(
        heard,
        [("a", "z", FrameKind::ServerDeliver), ("z", "a", FrameKind::Ack)]
    );
}

#[test]
fn a_lost_link_that_comes_back_at_once_is_not_filled_in() {
    let mut world = World::mesh(&["a", "m", "z"]);
    world.user("u", "a");
    world.user("v", "z");
    world.wait(5_000);
    world.overheard = Some(Vec::new());
    world.part("a", "z");
    world.wait(20_000);
    assert_eq!(world.list("a"), ["u", "v"]);
    let by_middle = world.overheard.iter().flatten().filter(|(from, _, frame)| {
        *from == "m" && frame.envelope.kind == FrameKind::UserAdvertise && frame.envelope.from != server_id("m")
    });
    assert_eq!(by_middle.count(), 0);
}

#[test]
fn older_gossip_by_a_longer_way_changes_nothing() {
    let mut world = World::one("a");
    let m = world.peer("m", "a");
    let z = world.peer("z", "a");
    world.hang_up(z);
    let at = |ts: u64, payload: &Payload| signed(draft("z", "*", ts, payload), "z");
    world.send(m, &at(BEGIN, &advert("u", "z")));
    assert_eq!(world.list("a"), ["u"]);
    world.send(m, &at(BEGIN - 1, &remove("u", "z")));
    assert_eq!(world.list("a"), ["u"]);
    world.send(m, &at(BEGIN + 1, &remove("u", "z")));
    assert!(world.list("a").is_empty());
    world.send(m, &at(BEGIN - 2, &advert("u", "z")));
    assert!(world.list("a").is_empty());
    world.send(m, &at(BEGIN + 2, &advert("u", "z")));
    assert_eq!(world.list("a"), ["u"]);
}

#[test]
fn gossip_that_is_unlike_ours_is_shown_as_it_came() {
    let mut world = World::one("m");
    let (x, y) = (world.peer("x", "m"), world.peer("y", "m"));
    world.hang_up(y);
    let mut gossip = draft("x", "*", BEGIN, &advert("u", "x"));
    gossip.payload.insert("novel".to_owned(), 1.into());
    let gossip = signed(gossip, "x");
    world.send(x, &gossip);
    let y = world.peer("y", "m");
    world.wait(3_000);
    let frames = world.take(y);
    let shown: Vec<_> = frames
        .iter()
        .filter(|frame| frame.envelope.kind == FrameKind::UserAdvertise)
        .collect();
    assert_eq!(shown.len(), 1, "{frames:?}");
    assert_eq!(shown[0].envelope, gossip);
}

#[test]
fn whom_a_server_does_not_name_itself_is_not_there_whatever_others_said() {
    let mut world = World::one("a");
    let m = world.peer("m", "a");
    let z = world.peer("z", "a");
    world.hang_up(z);
    for user in ["u", "v"] {
        world.peer_says(m, "z", "*", &advert(user, "z"));
    }
    let z = world.peer("z", "a");
    world.now.unix += 1;
    world.peer_says(z, "z", "*", &advert("v", "z"));
    assert_eq!(world.list("a"), ["u", "v"]);
    world.wait(30_000);
    assert_eq!(world.list("a"), ["v"]);
    world.hang_up(m);
    assert_eq!(world.list("a"), ["v"]);
}

#[test]
fn whom_a_server_names_in_the_words_that_others_passed_on_is_there() {
    let mut world = World::one("a");
    let m = world.peer("m", "a");
    let z = world.peer("z", "a");
    world.hang_up(z);
    let word = signed(draft("z", "*", world.now.unix, &advert("u", "z")), "z");
    world.send(m, &word);
    let z = world.peer("z", "a");
    world.send(z, &word);
    world.hang_up(m);
    world.wait(40_000);
    assert_eq!(world.list("a"), ["u"]);
    let asker = world.user("v", "a");
    world.take(z);
    world.tell(asker, "u", b"sealed");
    assert_eq!(world.take_kinds(z), [FrameKind::ServerDeliver]);
}

#[test]
fn users_of_a_server_that_is_lost_beyond_the_middle_are_out_of_reach() {
    let mut world = World::mesh(&["a", "m", "n", "z"]);
    world.user("v", "z");
    for (one, other) in [("a", "n"), ("a", "z"), ("m", "z")] {
        world.block(one, other);
    }
    world.wait(60_000);
    assert_eq!(world.list("a"), ["v"], "over two servers in the middle");
    world.crash("z");
    world.wait(40_000);
    assert!(world.list("n").is_empty());
    assert!(world.list("m").is_empty());
    assert!(world.list("a").is_empty());
    assert_eq!(world.node("a").server.status().stale_users, 1);
    world.start(&["z"]);
    let back = world.user("v", "z");
    world.answer_pings(back.wire, true);
    world.wait(120_000);
    assert_eq!(world.list("a"), ["v"]);
}

/// Servers in a line, each linked to its neighbours alone; users at the last one are known at the first.
fn line(names: &[&'static str]) -> World {
    let mut world = restricted(names, |one, other| other - one == 1);
    for user in ["u", "v"] {
        let user = world.user(user, names.last().unwrap());
        world.answer_pings(user.wire, true);
    }
    world.wait(5_000);
    assert_eq!(world.list(names[0]), ["u", "v"]);
    world
}

#[test]
fn users_who_left_while_the_middle_was_without_a_link_are_gone_beyond_it_too() {
    for names in [
        &["a", "m", "z"][..],
        &["z", "m", "a"],
        &["a", "m", "k", "z"],
        &["z", "k", "m", "a"],
    ] {
        let (first, last) = (names[0], names[names.len() - 1]);
        let mut world = line(names);
        // So quickly that most links would be back before anybody hears of it.
        world.crash(last);
        world.start(&[last]);
        let back = world.user("v", last);
        world.answer_pings(back.wire, true);
        world.wait(40_000);
        assert_eq!(world.list(first), ["v"], "{names:?}");
    }
}
