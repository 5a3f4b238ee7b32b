//! Nobody is kept out of an id that is made from their key, and nobody else stays in it (PROTOCOL I.6).

use super::super::*;
use super::challenge::{enter, proof_only};
use super::world::*;
use socp_proto::KeyText;
use socp_proto::payload::{UserAdvertise, UserRemove};

/// The id that is made from a key.
fn id_of(key_name: &str) -> String {
    UserId::made_from(key(key_name).fingerprint()).to_string()
}

fn is_in(frames: &[Frame]) -> bool {
    frames
        .first()
        .is_some_and(|frame| frame.envelope.kind == FrameKind::Ack)
}

fn codes(frames: &[Frame]) -> Vec<ErrorCode> {
    let code = |frame: &Frame| match &frame.payload {
        Payload::Error(notice) => Some(notice.code.clone()),
        _ => None,
    };
    frames.iter().filter_map(code).collect()
}

/// A server's gossip that an id is there, with this key.
fn claims(world: &mut World, wire: Wire, server: &str, id: &str, key_name: &str) {
    let advert = UserAdvertise {
        pubkey: Some(key(key_name)),
        ..match advert(id, server) {
            Payload::UserAdvertise(advert) => advert,
            other => panic!("{other:?}"),
        }
    };
    world.peer_says(wire, server, "*", &Payload::UserAdvertise(advert));
}

fn leaves(world: &mut World, wire: Wire, server: &str, id: &str) {
    let remove = UserRemove {
        user_id: user_id(id),
        server_id: server_id(server),
        deletion: None,
    };
    world.peer_says(wire, server, "*", &Payload::UserRemove(remove));
}

fn key_at(world: &World, id: &str) -> Option<KeyText> {
    world.node("a").server.key_of(&user_id(id)).cloned()
}

/// A squatter at this server, while the owner is somewhere else or nowhere yet.
#[test]
fn a_squatter_gets_nowhere_before_and_after_the_owners_first_visit() {
    let mut world = proof_only();
    let home = world.peer("x", "a");
    let id = id_of("owner");
    claims(&mut world, home, "x", &id, "owner");
    // The owner is at home: another key is refused, and so is the owner's without the secret.
    assert_eq!(codes(&enter(&mut world, "a", &id, "thief").1), [ErrorCode::BadKey]);
    // The owner has left home lately.
    world.wait(1);
    leaves(&mut world, home, "x", &id);
    assert_eq!(codes(&enter(&mut world, "a", &id, "thief").1), [ErrorCode::BadKey]);
    // The owner's first visit, and after it.
    let (visit, frames) = enter(&mut world, "a", &id, "owner");
    assert!(is_in(&frames));
    assert_eq!(codes(&enter(&mut world, "a", &id, "thief").1), [ErrorCode::BadKey]);
    world.hang_up(visit);
    assert_eq!(codes(&enter(&mut world, "a", &id, "thief").1), [ErrorCode::BadKey]);
    assert!(is_in(&enter(&mut world, "a", &id, "owner").1));
}

/// A squatter who was at this server before anybody had heard of the owner.
#[test]
fn the_owner_takes_the_id_back_from_whoever_had_it_before() {
    let mut world = proof_only();
    let id = id_of("owner");
    let (squatter, frames) = enter(&mut world, "a", &id, "thief");
    assert!(is_in(&frames), "nobody can tell yet");
    let (_, frames) = enter(&mut world, "a", &id, "owner");
    assert!(is_in(&frames));
    assert_eq!(world.take_errors(squatter), [ErrorCode::BadKey]);
    assert_eq!(world.closed(squatter), Some(1008));
    assert_eq!(world.node("a").users[&user_id(&id)].pubkey, key("owner"));
    assert!(world.node("a").has_noted(|note| matches!(note, Note::Ousted { .. })));
    assert_eq!(codes(&enter(&mut world, "a", &id, "thief").1), [ErrorCode::BadKey]);
    // Also over a restart.
    world.crash("a");
    world.start(&["a"]);
    assert_eq!(codes(&enter(&mut world, "a", &id, "thief").1), [ErrorCode::BadKey]);
    assert!(is_in(&enter(&mut world, "a", &id, "owner").1));
}

/// The squatter is let in while the disk is slow: before the record is signed, and before it is stored.
#[test]
fn the_owner_overtakes_a_squatter_who_waits_for_the_disk() {
    for answered in 0..3 {
        let mut world = proof_only();
        let id = id_of("owner");
        world.node_mut("a").is_slow = true;
        let (squatter, _) = enter(&mut world, "a", &id, "thief");
        world.answer_slow("a", answered);
        let (owner, _) = enter(&mut world, "a", &id, "owner");
        world.node_mut("a").is_slow = false;
        world.settle();
        let frames = world.take(owner);
        assert!(is_in(&frames), "{answered}: {frames:?}");
        assert_eq!(world.closed(squatter), Some(1008), "{answered}");
        assert_eq!(world.node("a").users[&user_id(&id)].pubkey, key("owner"));
        assert_eq!(key_at(&world, &id), Some(key("owner")), "{answered}");
    }
}

/// A squatter at another server, whose gossip came first.
#[test]
fn what_another_server_claims_with_another_key_keeps_no_owner_out() {
    let mut world = proof_only();
    let x = world.peer("x", "a");
    let id = id_of("owner");
    claims(&mut world, x, "x", &id, "thief");
    assert_eq!(key_at(&world, &id), Some(key("thief")));
    let (owner, frames) = enter(&mut world, "a", &id, "owner");
    assert!(is_in(&frames));
    // It goes on claiming: in vain, while the owner is here and afterwards.
    for is_here in [true, false] {
        if !is_here {
            world.hang_up(owner);
        }
        world.wait(1);
        claims(&mut world, x, "x", &id, "thief");
        assert_eq!(key_at(&world, &id), Some(key("owner")), "here: {is_here}");
    }
    assert!(is_in(&enter(&mut world, "a", &id, "owner").1));
}

/// The owner is heard of at home: whoever squats here, or at a third server, is out.
#[test]
fn the_owners_key_in_gossip_undoes_what_another_has() {
    let mut world = proof_only();
    let (home, third) = (world.peer("x", "a"), world.peer("y", "a"));
    let id = id_of("owner");
    claims(&mut world, third, "y", &id, "thief");
    claims(&mut world, home, "x", &id, "owner");
    assert_eq!(key_at(&world, &id), Some(key("owner")));
    world.wait(1);
    claims(&mut world, third, "y", &id, "thief");
    assert_eq!(key_at(&world, &id), Some(key("owner")));

    let mut world = proof_only();
    let home = world.peer("x", "a");
    let (squatter, frames) = enter(&mut world, "a", &id, "thief");
    assert!(is_in(&frames));
    claims(&mut world, home, "x", &id, "owner");
    assert_eq!(world.take_errors(squatter), [ErrorCode::BadKey]);
    assert_eq!(world.closed(squatter), Some(1008));
    assert_eq!(key_at(&world, &id), Some(key("owner")));
    assert!(!world.node("a").users.contains_key(&user_id(&id)));
}

/// Of an id that is made from nobody's key the first key here is the owner's; gossip binds it while it lasts.
#[test]
fn any_other_id_belongs_to_its_first_key() {
    let mut world = proof_only();
    let x = world.peer("x", "a");
    claims(&mut world, x, "x", "u", "first");
    assert_eq!(codes(&enter(&mut world, "a", "u", "second").1), [ErrorCode::BadKey]);
    world.wait(1);
    leaves(&mut world, x, "x", "u");
    // What another server said of somebody who has left binds nobody.
    assert!(is_in(&enter(&mut world, "a", "u", "second").1));
    world.wait(1);
    claims(&mut world, x, "x", "u", "first");
    assert_eq!(key_at(&world, "u"), Some(key("second")));
    assert_eq!(codes(&enter(&mut world, "a", "u", "first").1), [ErrorCode::BadKey]);
}

/// Without a proof nobody is the owner, whose key is no secret.
#[test]
fn whoever_only_names_the_owners_key_takes_nothing_back() {
    let mut world = World::one("a");
    let id = id_of("owner");
    let (squatter, _) = enter(&mut world, "a", &id, "thief");
    let wire = world.connect("a");
    world.hello(wire, &id, plain_hello("owner"));
    assert_eq!(world.take_errors(wire), [ErrorCode::BadKey]);
    assert_eq!(world.closed(squatter), None);
}
