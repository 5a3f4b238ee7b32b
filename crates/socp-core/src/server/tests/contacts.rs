//! Who may see whom (PROTOCOL II.12).

use super::world::*;
use crate::server::io::Directory;
use socp_proto::limits::CONTACTS_PER_LINK_COUNT_MAX;
use socp_proto::payload::{ListRequest, PRESENCE, PubkeyRequest, UserHello};
use socp_proto::{Capabilities, FrameKind, Payload, UserId};

fn hiding() -> World {
    let mut world = World::empty();
    for name in ["a", "b"] {
        let bootstrap = if name == "b" {
            vec![entry("a", Some(key("a")))]
        } else {
            Vec::new()
        };
        let config = crate::server::Config {
            bootstrap,
            directory: Directory::Contacts,
            ..config(name)
        };
        world.add(config, name);
    }
    world.start(&["a", "b"]);
    world
}

fn seen(world: &mut World, user: User) -> Vec<String> {
    world.say(user, "a", &Payload::ListRequest(ListRequest::default()));
    match world.take(user.wire).pop().map(|frame| frame.payload) {
        Some(Payload::ListResponse(list)) => list.users.iter().map(|id| id.as_str().to_owned()).collect(),
        other => panic!("{other:?}"),
    }
}

fn ask(world: &mut World, user: User, of: &str) {
    let request = PubkeyRequest { user_id: user_id(of) };
    world.say(user, "a", &Payload::PubkeyRequest(request));
}

#[test]
fn a_session_sees_whom_it_has_shown_to_know_and_nobody_else() {
    let mut world = hiding();
    let u = world.user("u", "a");
    world.take(u.wire);
    let v = world.user("v", "a");
    let w = world.user("w", "b");
    assert!(
        world.take(u.wire).is_empty(),
        "nobody is told of to whom they are nothing"
    );
    assert_eq!(seen(&mut world, u), ["u"]);

    // The full id suffices, and then presence is told; of strangers still nothing.
    ask(&mut world, u, "w");
    assert_eq!(
        world.take_kinds(u.wire),
        [FrameKind::PubkeyResponse, FrameKind::UserAdvertise]
    );
    assert_eq!(seen(&mut world, u), ["u", "w"]);
    world.hang_up(w.wire);
    assert_eq!(world.take_kinds(u.wire), [FrameKind::UserRemove]);
    world.hang_up(v.wire);
    assert!(world.take(u.wire).is_empty());
    let w = world.user("w", "b");
    assert_eq!(world.take_kinds(u.wire), [FrameKind::UserAdvertise]);
    // It is one way: who is asked about is told nothing.
    assert_eq!(seen_at_b(&mut world, w), ["w"]);
    // A message makes both known to each other.
    let v = world.user("v", "a");
    world.tell(u, "v", b"sealed");
    assert_eq!(seen(&mut world, v), ["u", "v"]);
    assert_eq!(seen(&mut world, u), ["u", "v", "w"]);
}

fn seen_at_b(world: &mut World, user: User) -> Vec<String> {
    world.take(user.wire);
    world.say(user, "b", &Payload::ListRequest(ListRequest::default()));
    match world.take(user.wire).pop().map(|frame| frame.payload) {
        Some(Payload::ListResponse(list)) => list.users.iter().map(|id| id.as_str().to_owned()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_that_takes_batches_gets_none_that_name_others() {
    let mut world = hiding();
    let wire = world.connect("a");
    let hello = UserHello {
        caps: Capabilities::of(&[PRESENCE]).ok(),
        ..plain_hello("u")
    };
    world.hello(wire, "u", hello);
    world.user("v", "a");
    world.wait(5_000);
    let told = world.take(wire);
    let names_another = |frame: &socp_proto::Frame| match &frame.payload {
        Payload::Presence(_) => true,
        Payload::UserAdvertise(advertise) => advertise.user_id != user_id("u"),
        _ => false,
    };
    assert!(!told.iter().any(names_another), "{told:?}");
}

#[test]
fn whom_one_session_knows_is_bounded() {
    let mut world = hiding();
    let u = world.user("u", "a");
    for number in 0..CONTACTS_PER_LINK_COUNT_MAX {
        let user = UserId::try_from(format!("nobody-{number}")).unwrap();
        world.say(u, "a", &Payload::PubkeyRequest(PubkeyRequest { user_id: user }));
    }
    world.user("v", "a");
    ask(&mut world, u, "v");
    assert_eq!(seen(&mut world, u), ["u"]);
}
