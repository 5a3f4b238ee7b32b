//! A user whom several servers claim at once (SOCP §8.2, PROTOCOL I.5).

use super::super::*;
use super::world::*;

#[test]
fn who_moved_elsewhere_with_a_dead_link_here_is_found_there_once_that_is_noticed() {
    let mut world = World::mesh(&["a", "b"]);
    let dead = world.user("u", "a");
    let watcher = world.user("w", "a");
    world.answer_pings(watcher.wire, true);
    world.user("u", "b");
    assert_eq!(world.list("a"), ["u", "w"]);
    world.take(watcher.wire);
    world.hang_up(dead.wire);
    assert_eq!(world.list("a"), ["u", "w"]);
    let frames = world.take(watcher.wire);
    let homes: Vec<_> = frames
        .iter()
        .filter_map(|frame| match &frame.payload {
            Payload::UserAdvertise(advertise) => Some((advertise.user_id.clone(), advertise.server_id.clone())),
            Payload::UserRemove(remove) if remove.user_id == user_id("u") => panic!("{frame:?}"),
            _ => None,
        })
        .collect();
    assert!(homes.contains(&(user_id("u"), server_id("b"))), "{homes:?}");
}

#[test]
fn a_claim_that_ends_uncovers_the_one_before() {
    let mut world = World::one("a");
    let (x, y) = (world.peer("x", "a"), world.peer("y", "a"));
    // The older claim comes last, by a slow link, and its removal after it.
    world.peer_says(y, "y", "*", &advert("u", "y"));
    world.peer_says(x, "x", "*", &advert("u", "x"));
    world.peer_says(x, "x", "*", &remove("u", "x"));
    assert_eq!(world.list("a"), ["u"]);
    let v = world.user("v", "a");
    world.take(y);
    world.tell(v, "u", b"sealed");
    assert!(world.take_kinds(y).contains(&FrameKind::ServerDeliver));
    world.peer_says(y, "y", "*", &remove("u", "y"));
    assert_eq!(world.list("a"), ["v"]);
}

#[test]
fn a_claim_of_a_living_server_takes_over_from_a_lost_one() {
    let mut world = World::one("a");
    let (x, y) = (world.peer("x", "a"), world.peer("y", "a"));
    world.peer_says(x, "x", "*", &advert("u", "x"));
    world.peer_says(y, "y", "*", &advert("u", "y"));
    world.hang_up(y);
    assert_eq!(world.list("a"), ["u"]);
    world.hang_up(x);
    assert!(world.list("a").is_empty());
}

#[test]
fn the_sixth_claim_is_not_believed_and_pushes_nobody_out() {
    let mut world = World::one("a");
    let honest = world.peer("h", "a");
    world.peer_says(honest, "h", "*", &advert("u", "h"));
    let names = ["p", "q", "r", "s", "t", "w", "x"];
    let peers: Vec<Wire> = names.iter().map(|name| world.peer(name, "a")).collect();
    for (name, peer) in names.iter().zip(&peers) {
        world.peer_says(*peer, name, "*", &advert("u", name));
    }
    assert_eq!(world.node("a").server.people.remote_count(), 5);
    for peer in &peers {
        world.hang_up(*peer);
    }
    assert_eq!(world.list("a"), ["u"], "the honest claim stood by");
    world.peer_says(honest, "h", "*", &remove("u", "h"));
    assert!(world.list("a").is_empty());
}

#[test]
fn the_counts_stay_right_through_every_change() {
    let mut world = World::one("a");
    let (x, y) = (world.peer("x", "a"), world.peer("y", "a"));
    world.shuffle = 7;
    let mut dice = 1_u64;
    let mut here = None;
    for _ in 0..400 {
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let user = ["u", "v"][usize::try_from(dice >> 40).unwrap() % 2];
        match (dice >> 50) % 6 {
            0 => world.peer_says(x, "x", "*", &advert(user, "x")),
            1 => world.peer_says(y, "y", "*", &advert(user, "y")),
            2 => world.peer_says(x, "x", "*", &remove(user, "x")),
            3 => world.peer_says(y, "y", "*", &remove(user, "y")),
            4 if here.is_none() => here = Some(world.user("u", "a")),
            _ => {
                if let Some(user) = here.take() {
                    world.hang_up(user.wire);
                }
            }
        }
        // Gossip with the same words in the same millisecond would be a repetition.
        world.now.unix += 1;
        let people = &world.node("a").server.people;
        let behind: usize = ["x", "y"]
            .iter()
            .map(|name| people.count_behind(&server_id(name)))
            .sum();
        assert_eq!(behind, people.remote_count());
    }
}
