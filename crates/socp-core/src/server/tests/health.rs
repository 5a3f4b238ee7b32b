//! Signs of life, back-off, and the end (SOCP §8.4, §11).

use super::super::*;
use super::world::*;
use socp_proto::payload::Heartbeat;

fn heartbeat(world: &mut World, wire: Wire, name: &str) {
    world.peer_says(wire, name, "a", &Payload::Heartbeat(Heartbeat::default()));
}

#[test]
fn a_heartbeat_goes_out_every_fifteen_seconds() {
    let mut world = World::one("a");
    let wire = world.peer("x", "a");
    world.wait(14_999);
    assert!(world.take(wire).is_empty());
    world.wait(1);
    assert_eq!(world.take_kinds(wire), [FrameKind::Heartbeat]);
    heartbeat(&mut world, wire, "x");
    world.wait(15_000);
    assert_eq!(world.take_kinds(wire), [FrameKind::Heartbeat]);
}

#[test]
fn a_peer_silent_for_forty_five_seconds_is_closed() {
    for last_word in [0, 1_000, 14_000] {
        let mut world = World::one("a");
        let wire = world.peer("x", "a");
        world.wait(last_word);
        heartbeat(&mut world, wire, "x");
        world.wait(44_999);
        assert_eq!(world.closed(wire), None, "last word at {last_word}");
        world.wait(1);
        assert_eq!(world.closed(wire), Some(1001), "last word at {last_word}");
    }
}

#[test]
fn peers_that_speak_stay_linked_for_hours() {
    let mut world = World::mesh(&["a", "b"]);
    let before = world.links_between("a", "b");
    world.wait(3 * 3_600_000);
    assert_eq!(world.links_between("a", "b"), before);
}

fn waits(world: &World, from: usize) -> Vec<u64> {
    let dialled = &world.node("a").dialled;
    let times: Vec<u64> = dialled.iter().skip(from).map(|(_, at)| *at).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn a_lost_server_is_dialled_again_ever_more_slowly_until_it_speaks() {
    let mut world = World::empty();
    let mut config = config("a");
    config.bootstrap = vec![entry("x", Some(key("x")))];
    world.add(config, "a");
    world.wait(10 * 60_000);
    let first = waits(&world, 0);
    for (attempt, wait) in first.iter().enumerate() {
        let longest = (1_000_u64 << attempt.min(6)).min(60_000);
        let range = longest / 2..=longest;
        assert!(range.contains(wait), "attempt {attempt} waits {wait}: {first:?}");
    }
    assert!(first.len() > 8 && first[0] <= 1_000);
    // It answers, so the next loss begins with the shortest wait.
    world.listens.insert("x:1".to_owned(), Vec::new());
    while world.listens["x:1"].is_empty() {
        world.wait(1_000);
    }
    let wire = world.listens["x:1"][0];
    world.announce(wire, "x", identity("x"));
    let dialled = world.node("a").dialled.len();
    world.hang_up(wire);
    let lost_at = world.now.mono;
    world.wait(1_000);
    let again = world.node("a").dialled.get(dialled).map(|(_, at)| at - lost_at);
    assert!(again.is_some_and(|wait| wait <= 1_000), "{again:?}");
}

#[test]
fn a_server_that_connects_and_says_nothing_valid_keeps_its_back_off() {
    let mut world = World::empty();
    world.listens.insert("x:1".to_owned(), Vec::new());
    let mut config = config("a");
    config.bootstrap = vec![entry("x", Some(key("x")))];
    world.add(config, "a");
    for _ in 0..8 {
        let wire = *world.listens["x:1"].last().unwrap();
        world.hang_up(wire);
        world.wait(60_000);
    }
    let waits = waits(&world, 0);
    assert!(waits.last().is_some_and(|wait| *wait >= 30_000), "{waits:?}");
}

#[test]
fn a_silent_dialled_peer_is_dialled_again() {
    let mut world = World::empty();
    world.listens.insert("x:1".to_owned(), Vec::new());
    let mut config = config("a");
    config.bootstrap = vec![entry("x", Some(key("x")))];
    world.add(config, "a");
    let wire = world.listens["x:1"][0];
    world.announce(wire, "x", identity("x"));
    world.wait(45_000);
    assert_eq!(world.closed(wire), Some(1001));
    world.wait(1_000);
    assert_eq!(world.listens["x:1"].len(), 2);
}

#[test]
fn a_user_who_answers_pings_stays_and_one_who_does_not_is_closed_at_the_third() {
    let mut world = World::one("a");
    let (alive, dead) = (world.user("u", "a"), world.user("v", "a"));
    world.answer_pings(alive.wire, true);
    world.wait(89_999);
    assert_eq!((world.pings(dead.wire), world.closed(dead.wire)), (2, None));
    world.wait(1);
    assert_eq!(world.closed(dead.wire), Some(1001));
    world.wait(3_600_000);
    assert_eq!(world.closed(alive.wire), None);
    assert!(world.pings(alive.wire) > 100);
}

#[test]
fn a_frame_from_a_user_counts_as_an_answer() {
    let mut world = World::one("a");
    let user = world.user("u", "a");
    for _ in 0..10 {
        world.wait(60_000);
        world.say(user, "a", &Payload::Heartbeat(Heartbeat::default()));
    }
    assert_eq!(world.closed(user.wire), None);
}

#[test]
fn a_link_without_hello_is_closed_after_ten_seconds() {
    let mut world = World::one("a");
    let wire = world.connect("a");
    world.wait(9_999);
    assert_eq!(world.closed(wire), None);
    world.wait(1);
    assert_eq!((world.closed(wire), world.closed_at(wire)), (Some(1002), Some(10_000)));
}

#[test]
fn a_stopping_server_takes_its_leave() {
    let mut world = World::mesh(&["a", "b"]);
    let there = world.user("w", "b");
    let user = world.user("u", "a");
    let peer = world.peer("x", "a");
    world.take(user.wire);
    world.take(there.wire);
    world.stop("a");
    assert!(world.node("a").has_stopped);
    assert_eq!(world.take_kinds(peer), [FrameKind::UserRemove]);
    assert_eq!(world.closed(peer), Some(1000));
    assert_eq!(world.closed(user.wire), Some(1001));
    assert_eq!(world.take_kinds(there.wire), [FrameKind::UserRemove]);
    assert!(world.links_between("b", "a").is_empty());
}

#[test]
fn a_restarted_server_is_back_without_anyone_doing_anything() {
    let mut world = World::mesh(&["a", "b"]);
    world.user("w", "b");
    world.stop("a");
    world.crash("a");
    world.wait(120_000);
    world.start(&["a"]);
    world.wait(60_000);
    assert_eq!(world.links_between("a", "b").len(), 1);
    assert!(world.node("a").server.people.local_users().is_empty());
}

#[test]
fn a_user_whose_link_was_given_up_is_gone_at_once_and_may_come_back() {
    let mut world = World::one("a");
    let watcher = world.user("w", "a");
    let slow = world.user("u", "a");
    world.take(watcher.wire);
    let link = slow.wire.link;
    let fault = Fault::SlowReader;
    let now = world.now;
    // The driver learns of the end later than the core decides it.
    let server = &mut world.node_mut("a").server;
    server.handle(now, Input::Refused { link, fault });
    assert!(server.people.get(&user_id("u")).is_none());
    world.user("u", "a");
    world.take(watcher.wire);
    world.handle("a", Input::Closed { link });
    world.settle();
    assert!(world.take(watcher.wire).is_empty());
    assert_eq!(world.list("a"), ["u", "w"]);
}

#[test]
fn a_peer_whose_link_was_given_up_is_counted_lost_once() {
    let mut world = World::mesh(&["a", "b"]);
    world.user("u", "b");
    let link = world.links_between("a", "b")[0];
    let fault = Fault::SlowReader;
    world.refuse(Wire { node: "a", link }, fault);
    let is_down = |note: &&Note| matches!(note, Note::PeerDown { .. });
    for name in ["a", "b"] {
        assert_eq!(world.node(name).notes.iter().filter(is_down).count(), 1);
    }
    world.wait(2_000);
    assert_eq!(world.links_between("a", "b").len(), 1);
    assert_eq!(world.list("a"), ["u"]);
}

#[test]
fn nothing_is_said_or_taken_after_the_stop() {
    let mut world = World::one("a");
    let (u, v) = (world.user("u", "a"), world.user("v", "a"));
    world.stop("a");
    world.take(v.wire);
    world.tell(u, "v", b"too late");
    let late = world.connect("a");
    world.hello(late, "w", plain_hello("w"));
    assert!(world.take(v.wire).is_empty() && world.take(late).is_empty());
}
