//! Who is where (SOCP §8.2).

use super::super::*;
use super::world::*;
use socp_proto::Meta;

fn lists(world: &mut World, node: &'static str) -> Vec<String> {
    world.list(node)
}

#[test]
fn a_user_elsewhere_is_advertised_to_users_here_and_removed_on_leaving() {
    let mut world = World::mesh(&["a", "b"]);
    let here = world.user("u", "a");
    let there = world.user("v", "b");
    let frames = world.take(here.wire);
    let [frame] = frames.as_slice() else {
        panic!("{frames:?}");
    };
    assert_eq!(frame.envelope.from, server_id("a"), "our own signed frame");
    let Payload::UserAdvertise(advertise) = &frame.payload else {
        panic!("{frame:?}");
    };
    assert_eq!(advertise.user_id, user_id("v"));
    assert_eq!(advertise.server_id, server_id("b"));
    assert_eq!(advertise.pubkey, Some(key("v")));
    assert_eq!(advertise.server_name.as_deref(), Some("server b"));
    world.hang_up(there.wire);
    assert_eq!(world.take_kinds(here.wire), [FrameKind::UserRemove]);
    assert_eq!(lists(&mut world, "a"), ["u"]);
}

#[test]
fn a_newcomer_is_told_who_is_online_after_its_welcome() {
    let mut world = World::mesh(&["a", "b"]);
    world.user("u", "a");
    world.user("v", "b");
    let wire = world.connect("a");
    world.hello(wire, "w", plain_hello("w"));
    let frames = world.take(wire);
    assert_eq!(frames[0].envelope.kind, FrameKind::Ack);
    let told = frames.iter().filter_map(|frame| match &frame.payload {
        Payload::UserAdvertise(advertise) => Some(advertise.user_id.as_str().to_owned()),
        _ => None,
    });
    let told: Vec<String> = told.collect();
    assert!(told.starts_with(&["u".to_owned(), "v".to_owned()]), "{told:?}");
}

#[test]
fn users_who_were_there_before_the_link_are_known_after_it() {
    let mut world = World::one("a");
    world.user("u", "a");
    let mut second = config("b");
    second.bootstrap = vec![entry("a", Some(key("a")))];
    world.add(second, "b");
    assert_eq!(lists(&mut world, "b"), ["u"]);
}

#[test]
fn a_local_user_beats_gossip() {
    let mut world = World::one("a");
    let user = world.user("u", "a");
    let peer = world.peer("x", "a");
    world.peer_says(peer, "x", "*", &advert("u", "x"));
    world.peer_says(peer, "x", "*", &remove("u", "x"));
    assert!(world.take(user.wire).is_empty());
    assert_eq!(lists(&mut world, "a"), ["u"]);
}

#[test]
fn a_user_who_comes_here_from_another_server_is_local_then() {
    let mut world = World::mesh(&["a", "b"]);
    let old = world.user("u", "b");
    world.user("u", "a");
    world.hang_up(old.wire);
    assert_eq!(lists(&mut world, "a"), ["u"]);
}

#[test]
fn a_stale_remove_is_ignored() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    let y = world.peer("y", "a");
    world.peer_says(x, "x", "*", &advert("u", "x"));
    world.peer_says(y, "y", "*", &advert("u", "y"));
    world.peer_says(x, "x", "*", &remove("u", "x"));
    assert_eq!(lists(&mut world, "a"), ["u"]);
    world.peer_says(y, "y", "*", &remove("u", "y"));
    assert!(lists(&mut world, "a").is_empty());
}

#[test]
fn gossip_of_others_about_our_users_is_dropped() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    world.user("u", "a");
    world.peer_says(x, "x", "*", &remove("u", "a"));
    world.peer_says(x, "x", "*", &advert("v", "a"));
    assert_eq!(lists(&mut world, "a"), ["u"]);
    // Even our own words, signed by us, count for nothing when they come back.
    let ours = signed(draft("a", "*", BEGIN, &remove("u", "a")), "a");
    world.send(x, &ours);
    assert_eq!(lists(&mut world, "a"), ["u"]);
}

#[test]
fn an_advertisement_by_another_than_the_users_server_is_refused() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    world.peer("y", "a");
    world.take(x);
    world.peer_says(x, "x", "*", &advert("u", "y"));
    assert_eq!(world.take_errors(x), [ErrorCode::InvalidSig]);
    assert!(lists(&mut world, "a").is_empty());
}

#[test]
fn gossip_about_a_linked_server_counts_only_on_its_own_link() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    let y = world.peer("y", "a");
    world.peer_says(x, "y", "*", &advert("u", "y"));
    assert!(lists(&mut world, "a").is_empty());
    world.peer_says(y, "y", "*", &advert("u", "y"));
    assert_eq!(lists(&mut world, "a"), ["u"]);
}

#[test]
fn the_key_of_a_known_user_does_not_change_by_gossip() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    let y = world.peer("y", "a");
    world.peer_says(x, "x", "*", &advert("u", "x"));
    let Payload::UserAdvertise(mut stolen) = advert("u", "y") else {
        panic!("not an advertisement");
    };
    stolen.pubkey = Some(key("thief"));
    world.take(x);
    world.peer_says(y, "y", "*", &Payload::UserAdvertise(stolen.clone()));
    let conflict = |note: &Note| matches!(note, Note::KeyConflict { user, .. } if *user == user_id("u"));
    assert!(world.node("a").has_noted(conflict));
    assert!(world.take(x).is_empty(), "what is refused is not passed on");
    let user = world.user("v", "a");
    let request = socp_proto::payload::PubkeyRequest { user_id: user_id("u") };
    world.say(user, "a", &Payload::PubkeyRequest(request));
    let Payload::PubkeyResponse(response) = &world.take(user.wire)[0].payload else {
        panic!("no response");
    };
    assert_eq!(response.pubkey, Some(key("u")));
    assert_eq!(response.server_id, Some(server_id("x")));
}

#[test]
fn a_local_users_key_holds_against_gossip_after_the_user_left() {
    let mut world = World::one("a");
    let user = world.user("u", "a");
    world.hang_up(user.wire);
    let x = world.peer("x", "a");
    let Payload::UserAdvertise(mut stolen) = advert("u", "x") else {
        panic!("not an advertisement");
    };
    stolen.pubkey = Some(key("thief"));
    world.peer_says(x, "x", "*", &Payload::UserAdvertise(stolen));
    assert!(lists(&mut world, "a").is_empty());
}

#[test]
fn a_peer_whose_clock_is_wrong_loses_its_link_so_that_it_begins_anew() {
    for ts in [BEGIN - 5 * 60_000 - 1, BEGIN + 2 * 60_000 + 1] {
        let mut world = World::one("a");
        let x = world.peer("x", "a");
        let gossip = signed(draft("x", "*", ts, &advert("u", "x")), "x");
        world.send(x, &gossip);
        assert_eq!(world.take_errors(x), [ErrorCode::Timeout]);
        assert_eq!(world.closed(x), Some(1008));
        assert!(lists(&mut world, "a").is_empty());
    }
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    for (user, ts) in [("u", BEGIN - 5 * 60_000), ("v", BEGIN + 2 * 60_000)] {
        let gossip = signed(draft("x", "*", ts, &advert(user, "x")), "x");
        world.send(x, &gossip);
    }
    assert_eq!(lists(&mut world, "a"), ["u", "v"]);
}

#[test]
fn gossip_cannot_make_a_user_of_a_server() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    world.peer("y", "a");
    let before = world.user("u", "a");
    world.take(before.wire);
    for id in ["a", "x", "y"] {
        world.peer_says(x, "x", "*", &advert(id, "x"));
        assert_eq!(world.take_kinds(before.wire), [], "a user called {id}");
        assert_eq!(lists(&mut world, "a"), ["u"], "a user called {id}");
        world.take(before.wire);
    }
}

#[test]
fn replayed_gossip_changes_nothing() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    let gossip = signed(draft("x", "*", BEGIN, &advert("u", "x")), "x");
    world.send(x, &gossip);
    world.peer_says(x, "x", "*", &remove("u", "x"));
    world.send(x, &gossip);
    assert!(lists(&mut world, "a").is_empty());
}

#[test]
fn gossip_is_passed_on_unchanged_and_never_back() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    let y = world.peer("y", "a");
    world.wait(3_000);
    world.take(x);
    let gossip = signed(draft("x", "*", BEGIN, &advert("u", "x")), "x");
    world.send(x, &gossip);
    assert!(world.take(x).is_empty());
    let frames = world.take(y);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].envelope, gossip);
    world.send(x, &gossip);
    assert!(world.take(y).is_empty(), "once only");
}

#[test]
fn users_of_a_lost_server_are_not_listed_and_come_back_once() {
    let mut world = World::mesh(&["a", "b"]);
    let here = world.user("u", "a");
    world.user("v", "b");
    assert_eq!(lists(&mut world, "a"), ["u", "v"]);
    world.part("a", "b");
    assert_eq!(lists(&mut world, "a"), ["u"]);
    let message = world.tell(here, "v", b"to nobody");
    let frames = world.take(here.wire);
    let Some(Payload::Error(notice)) = frames.last().map(|frame| &frame.payload) else {
        panic!("{frames:?}");
    };
    assert_eq!(notice.code, ErrorCode::UserNotFound);
    let reference = socp_proto::payload::msg_ref(&message.content_sig);
    assert_eq!(notice.msg_ref, Some(reference));
    world.wait(5_000);
    let frames = world.take(here.wire);
    let adverts = frames.iter().filter(
        |frame| matches!(&frame.payload, Payload::UserAdvertise(advertise) if advertise.user_id == user_id("v")),
    );
    assert_eq!(adverts.count(), 1, "{frames:?}");
    assert_eq!(lists(&mut world, "a"), ["u", "v"]);
}

#[test]
fn users_of_a_lost_server_are_out_of_reach_at_once_and_forgotten_after_ten_minutes() {
    let mut world = World::mesh(&["a", "b"]);
    let here = world.user("u", "a");
    world.answer_pings(here.wire, true);
    world.user("v", "b");
    world.wait(1_000); // The channel's version is told by then.
    world.take(here.wire);
    world.crash("b");
    assert_eq!(world.take_kinds(here.wire), [FrameKind::UserRemove]);
    world.wait(10 * 60_000 - 1);
    assert_eq!(world.node("a").server.status().stale_users, 1);
    world.wait(1);
    assert_eq!(world.node("a").server.status().stale_users, 0);
    assert!(world.take(here.wire).is_empty(), "nothing new to tell");
}

#[test]
fn users_beyond_a_lost_middle_server_are_not_listed() {
    let mut world = World::one("a");
    let middle = world.peer("m", "a");
    let far = world.peer("z", "a");
    world.hang_up(far); // Its key is pinned, it has no link.
    world.peer_says(middle, "z", "*", &advert("u", "z"));
    assert_eq!(lists(&mut world, "a"), ["u"]);
    world.hang_up(middle);
    assert!(lists(&mut world, "a").is_empty());
}

#[test]
fn a_user_of_two_servers_stays_listed_when_the_one_before_is_lost() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    let y = world.peer("y", "a");
    world.peer_says(x, "x", "*", &advert("u", "x"));
    world.peer_says(y, "y", "*", &advert("u", "y"));
    world.hang_up(x);
    assert_eq!(lists(&mut world, "a"), ["u"]);
    world.hang_up(y);
    assert!(lists(&mut world, "a").is_empty());
}

#[test]
fn users_whose_server_has_a_link_of_its_own_outlast_the_middle() {
    let mut world = World::one("a");
    let middle = world.peer("m", "a");
    let far = world.peer("z", "a");
    world.hang_up(far);
    world.peer_says(middle, "z", "*", &advert("u", "z"));
    let z = world.peer("z", "a");
    world.hang_up(middle);
    assert_eq!(lists(&mut world, "a"), ["u"]);
    let v = world.user("v", "a");
    world.take(z);
    world.tell(v, "u", b"sealed");
    assert_eq!(world.take_kinds(z), [FrameKind::ServerDeliver]);
}

#[test]
fn a_middle_servers_second_link_still_leads_beyond() {
    let mut world = World::one("a");
    let far = world.peer("z", "a");
    world.hang_up(far);
    let first = world.peer("m", "a");
    world.peer_says(first, "z", "*", &advert("u", "z"));
    let second = world.peer("m", "a");
    assert_eq!(world.closed(first), Some(1000));
    let v = world.user("v", "a");
    world.take(second);
    world.tell(v, "u", b"sealed");
    assert_eq!(world.take_kinds(second), [FrameKind::ServerDeliver]);
}

/// What is still under way on a link that is being given up counts for the one that stays.
#[test]
fn what_comes_on_a_link_that_was_given_up_does_not_lose_a_user() {
    for seed in 1..60 {
        let mut world = World::one("a");
        let first = world.peer("m", "a");
        let second = world.connect("a");
        world.shuffle = seed;
        let ts = world.now.unix;
        let says = |ts: u64, payload: &Payload| signed(draft("m", "*", ts, payload), "m");
        world.post(second, &says(ts, &Payload::ServerAnnounce(identity("m"))));
        world.post(second, &says(ts + 2, &advert("u", "m")));
        for (ts, payload) in [(ts + 1, advert("u", "m")), (ts + 3, advert("v", "m"))] {
            world.post(first, &says(ts, &payload));
        }
        world.settle();
        world.wait(35_000);
        assert_eq!(lists(&mut world, "a"), ["u", "v"], "seed {seed}");
        world.hang_up(second);
        assert!(lists(&mut world, "a").is_empty(), "seed {seed}");
    }
}

/// A link that comes late replaces one that is dead at the far end, which may have begun anew: what is still read from
/// the old one is older than anything the new one says.
#[test]
fn what_comes_on_a_link_long_dead_counts_no_more() {
    for seed in 1..60 {
        let mut world = World::one("a");
        let first = world.peer("m", "a");
        world.wait(20_000);
        let second = world.connect("a");
        world.shuffle = seed;
        let ts = world.now.unix;
        let says = |ts: u64, payload: &Payload| signed(draft("m", "*", ts, payload), "m");
        world.post(second, &says(ts, &Payload::ServerAnnounce(identity("m"))));
        world.post(second, &says(ts + 2, &advert("u", "m")));
        for (ts, payload) in [(ts + 1, advert("ghost", "m")), (ts + 1, advert("u", "m"))] {
            world.post(first, &says(ts, &payload));
        }
        world.settle();
        world.wait(35_000);
        assert_eq!(lists(&mut world, "a"), ["u"], "seed {seed}");
    }
}

#[test]
fn a_user_without_keys_in_the_gossip_keeps_those_that_are_known() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    world.peer_says(x, "x", "*", &advert("u", "x"));
    let Payload::UserAdvertise(mut bare) = advert("u", "x") else {
        panic!("not an advertisement");
    };
    bare.pubkey = None;
    bare.meta = Meta::named(Some("u"), None).unwrap();
    world.peer_says(x, "x", "*", &Payload::UserAdvertise(bare));
    let asker = world.user("v", "a");
    let request = socp_proto::payload::PubkeyRequest { user_id: user_id("u") };
    world.say(asker, "a", &Payload::PubkeyRequest(request));
    let Payload::PubkeyResponse(response) = &world.take(asker.wire)[0].payload else {
        panic!("no response");
    };
    assert_eq!(response.pubkey, Some(key("u")));
    assert_eq!(response.enc_pubkey, Some(key("u")));
}

#[test]
fn a_user_who_leaves_and_comes_back_within_a_millisecond_is_known_elsewhere() {
    let mut world = World::mesh(&["a", "b"]);
    for _ in 0..3 {
        let user = world.user("u", "b");
        world.hang_up(user.wire);
    }
    world.user("u", "b");
    assert_eq!(lists(&mut world, "a"), ["u"]);
}

#[test]
fn a_newcomer_is_told_of_a_crowd_in_portions_and_misses_nobody() {
    let mut world = World::mesh(&["a", "b"]);
    let names: Vec<&'static str> = (0..100).map(|n| &*format!("user-{n:03}").leak()).collect();
    for name in &names {
        world.user(name, "a");
    }
    assert_eq!(world.list("b").len(), names.len());
    let wire = world.connect("b");
    world.hello(wire, "zoe", plain_hello("zoe"));
    let frames = world.take(wire);
    let is_told = |name: &str| {
        let is_it = |frame: &Frame| matches!(&frame.payload, Payload::UserAdvertise(a) if a.user_id == user_id(name));
        frames.iter().any(is_it)
    };
    assert!(names.iter().all(|name| is_told(name)));

    // A peer that comes back is told as well.
    world.part("a", "b");
    world.wait(5_000);
    assert_eq!(world.list("b").len(), names.len() + 1);
}
