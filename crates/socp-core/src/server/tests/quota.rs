//! Peers that talk too much (SOCP §8.2, PROTOCOL I.5, I.11).

use super::super::*;
use super::world::*;
use super::{long_history, person_at};
use socp_proto::limits::PEER_HISTORY_BYTES_MAX;
use socp_proto::payload::UserAdvertise;

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

#[test]
fn key_histories_of_one_peer_are_bounded_in_bytes_and_others_have_their_own() {
    let mut people = people::People::default();
    let long = long_history("u", 40_000);
    let (x, y) = (server_id("x"), server_id("y"));
    let claim = |people: &mut people::People, number: usize| {
        let history = Some(long.clone());
        let person = people::Person {
            history,
            ..person_at("x")
        };
        people.claim(user_id(&format!("u-{number}")), &x, person, false);
    };
    let kept = PEER_HISTORY_BYTES_MAX / long.text_bytes();
    for number in 0..kept {
        assert!(people.has_room_for(&user_id("u"), &x, Some(&long)), "{number}");
        claim(&mut people, number);
    }
    assert!(!people.has_room_for(&user_id("u"), &x, Some(&long)));
    assert!(people.has_room_for(&user_id("u"), &x, None), "who never changed keys");
    assert!(people.has_room_for(&user_id("u-0"), &x, Some(&long)), "the same again");
    assert!(people.has_room_for(&user_id("u"), &y, Some(&long)), "another's share");
    claim(&mut people, 0);
    assert!(!people.has_room_for(&user_id("u"), &x, Some(&long)), "counted once");
    people.withdraw(&user_id("u-0"), &x);
    assert!(people.has_room_for(&user_id("u"), &x, Some(&long)));
}

#[test]
fn who_tells_too_long_histories_is_refused_those_and_no_more() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    // Made so large that some thousand do not fit; a real one has at most 48 KiB.
    let count = PEER_HISTORY_BYTES_MAX / long_history("u", 2_000_000).text_bytes() + 1;
    let tell = |world: &mut World, id: &str, pair: socp_proto::PublicPair, history: Option<socp_proto::KeyHistory>| {
        let Payload::UserAdvertise(plain) = advert(id, "x") else {
            panic!("it is one");
        };
        let advertise = UserAdvertise {
            pubkey: Some(pair.pubkey),
            enc_pubkey: Some(pair.enc_pubkey),
            version: Some(history.as_ref().map_or(1, socp_proto::KeyHistory::version)),
            history,
            ..plain
        };
        let (now, who) = (world.now, (user_id(id), server_id("x")));
        let change = gossip::Change::Arrival(advertise);
        let server = &mut world.node_mut("a").server;
        server.on_told_change(now, x.link, who, now.unix, change);
    };
    let of_known = long_history("known", 6_000);
    tell(&mut world, "known", of_known.first().clone(), None);
    for number in 0..count {
        let id = format!("x-{number}");
        let history = long_history(&id, 2_000_000);
        tell(&mut world, &id, history.newest(), Some(history));
    }
    assert_eq!(users(&world), count);
    assert!(
        world
            .node("a")
            .server
            .outputs
            .iter()
            .any(|output| { matches!(output, Output::Note(Note::PeerOverBudget { .. })) })
    );
    world.peer_says(x, "x", "*", &advert("plain", "x"));
    assert_eq!(users(&world), count + 1);
    // Who is known has new keys, or none any more, whatever the others have.
    world.now.unix += 1;
    tell(&mut world, "known", of_known.newest(), Some(of_known.clone()));
    let core = &world.node("a").server;
    let known = core.people.get(&user_id("known")).unwrap();
    assert_eq!(known.pubkey, Some(of_known.newest().pubkey));
}
