//! Peers that talk too much (SOCP §8.2, PROTOCOL I.5, I.11).

use super::super::*;
use super::world::*;

fn flood(world: &mut World, peer: Wire, name: &str, count: usize) {
    for number in 0..count {
        let gossip = signed(
            draft(name, "*", world.now.unix, &advert(&format!("{name}-{number:06}"), name)),
            name,
        );
        world.post(peer, &gossip);
    }
    world.settle();
}

fn users(world: &World) -> usize {
    world.node("a").server.status().remote_users
}

#[test]
fn changes_over_budget_come_late_and_are_not_lost() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    flood(&mut world, x, "x", 4_000);
    assert_eq!(users(&world), 4_000);
    // 1,000 of the burst are left; half of the removals must wait.
    for number in 0..2_000 {
        let gone = remove(&format!("x-{number:06}"), "x");
        world.post(x, &signed(draft("x", "*", world.now.unix, &gone), "x"));
    }
    world.settle();
    assert_eq!(users(&world), 3_000);
    // The newest word counts: one of those that wait comes back.
    world.now.unix += 1;
    world.peer_says(x, "x", "*", &advert("x-001999", "x"));
    world.wait(2_000);
    assert_eq!(users(&world), 2_001);
    let warned = world
        .node("a")
        .notes
        .iter()
        .filter(|note| matches!(note, Note::PeerOverBudget { .. }));
    assert_eq!(warned.count(), 1, "the operator is told once a minute");
}

#[test]
fn a_flood_does_not_touch_others() {
    let mut world = World::one("a");
    let (x, y) = (world.peer("x", "a"), world.peer("y", "a"));
    flood(&mut world, x, "x", 12_000);
    let before = users(&world);
    world.peer_says(y, "y", "*", &advert("u", "y"));
    assert_eq!(users(&world), before + 1);
    world.peer_says(y, "y", "*", &remove("u", "y"));
    assert_eq!(users(&world), before);
    assert_eq!((world.closed(x), world.closed(y)), (None, None));
}

#[test]
fn coming_back_does_not_fill_the_budget() {
    let mut world = World::one("a");
    let mut x = world.peer("x", "a");
    flood(&mut world, x, "x", 5_000);
    world.hang_up(x);
    x = world.peer("x", "a");
    world.now.unix += 1;
    for number in 0..3 {
        let gone = remove(&format!("x-{number:06}"), "x");
        world.peer_says(x, "x", "*", &gone);
    }
    let waiting = world.node("a").server.status();
    assert_eq!(waiting.stale_users, 5_000, "nothing was taken yet");
    world.wait(10);
    assert_eq!(world.node("a").server.status().stale_users, 4_997);
}

#[test]
fn fake_users_of_one_server_are_bounded() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    flood(&mut world, x, "x", 20_000);
    world.wait(30_000);
    assert_eq!(users(&world), 5_000);
    assert!(
        world
            .node("a")
            .has_noted(|note| matches!(note, Note::PeerOverBudget { .. }))
    );
}

#[test]
fn a_refused_key_is_told_to_our_own_programs_not_too_often() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    let (native, stranger) = (world.native_user("n", "a"), world.user("s", "a"));
    world.peer_says(x, "x", "*", &advert("u", "x"));
    world.take(native.wire);
    world.take(stranger.wire);
    let Payload::UserAdvertise(mut changed) = advert("u", "x") else {
        panic!("not an advertisement");
    };
    for attempt in 0..20 {
        changed.pubkey = Some(key(&format!("thief {attempt}")));
        world.peer_says(x, "x", "*", &Payload::UserAdvertise(changed.clone()));
    }
    assert_eq!(world.take_errors(native.wire), [ErrorCode::BadKey]);
    assert!(world.take(stranger.wire).is_empty());
}

#[test]
fn gossip_that_is_too_long_is_not_kept() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    for (length, is_taken) in [(30 * 1024, true), (49 * 1024, false)] {
        let mut gossip = draft("x", "*", BEGIN, &advert(&format!("u{length}"), "x"));
        gossip.payload.insert("novel".to_owned(), "x".repeat(length).into());
        world.send(x, &signed(gossip, "x"));
        assert_eq!(users(&world), 1, "{length} bytes, {is_taken}");
    }
    assert_eq!(world.closed(x), None);
}

#[test]
fn what_waits_of_one_user_does_not_replace_what_another_server_says_of_it() {
    let mut world = World::one("a");
    let m = world.peer("m", "a");
    for server in ["y", "z"] {
        let wire = world.peer(server, "a");
        world.hang_up(wire);
    }
    world.peer_says(m, "y", "*", &advert("u", "y"));
    // The budget of one server is used up by its own users.
    for number in 0..5_100 {
        let gone = remove(&format!("y-{number}"), "y");
        world.post(m, &signed(draft("y", "*", world.now.unix, &gone), "y"));
    }
    world.settle();
    world.now.unix += 1;
    world.peer_says(m, "z", "*", &advert("u", "z"));
    world.peer_says(m, "y", "*", &remove("u", "y"));
    world.wait(2_000);
    assert_eq!(world.list("a"), ["u"]);
}
