//! Handles are one user's each at a server (PROTOCOL I.6).

use super::super::*;
use super::challenge::{able, enter_with};
use super::world::*;
use socp_proto::Meta;
use socp_proto::payload::UserHello;

fn world() -> World {
    let mut world = World::empty();
    world.add(config("a"), "a");
    world
}

fn named(key_name: &str, name: &str) -> UserHello {
    UserHello {
        meta: Some(Meta::named(Some(name), None).unwrap()),
        ..able(key_name)
    }
}

/// What a user who says this hello is told, and what is stored.
fn come(world: &mut World, id: &str, hello: UserHello) -> (Option<String>, Option<String>) {
    let (_, frames) = enter_with(world, "a", id, id, hello);
    let told = frames.iter().find_map(|frame| match &frame.payload {
        Payload::Ack(ack) => Some(ack.name_in_use.clone()),
        _ => None,
    });
    let stored = world.node("a").users[&user_id(id)].meta.name().map(str::to_owned);
    (told.expect("is let in"), stored)
}

#[test]
fn the_first_keeps_a_handle_and_a_second_is_let_in_without_and_told() {
    let mut world = world();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(come(&mut world, "u", named("u", "Alice")), (None, text("Alice")));
    assert_eq!(come(&mut world, "v", named("v", "aLICE")), (text("aLICE"), None));
    assert_eq!(
        come(&mut world, "u", named("u", "Alice")),
        (None, text("Alice")),
        "it is still its own"
    );
    // Neither may the name to show be somebody's handle, since it serves where there is none.
    let shown = UserHello {
        meta: Some(Meta::named(None, Some("ALICE")).unwrap()),
        ..able("w")
    };
    assert_eq!(come(&mut world, "w", shown), (text("ALICE"), None));
    assert_eq!(come(&mut world, "v", named("v", "vera")), (None, text("vera")));
}

#[test]
fn a_handle_that_is_given_up_is_free_and_one_of_before_is_not() {
    let mut world = world();
    come(&mut world, "u", named("u", "alice"));
    come(&mut world, "u", named("u", "alina"));
    assert_eq!(come(&mut world, "v", named("v", "alice")).0, None);
    world.crash("a");
    world.start(&["a"]);
    assert_eq!(come(&mut world, "w", named("w", "alice")).0.as_deref(), Some("alice"));
    assert_eq!(come(&mut world, "x", named("x", "alina")).0.as_deref(), Some("alina"));
}

#[test]
fn of_two_at_the_same_moment_one_has_it_and_what_was_not_stored_is_free() {
    let mut world = world();
    world.node_mut("a").is_slow = true;
    for id in ["u", "v"] {
        let (_, frames) = enter_with(&mut world, "a", id, id, named(id, "alice"));
        assert!(frames.is_empty(), "both wait for a signature: {frames:?}");
    }
    let sig = socp_proto::Base64Url::encode(&[]);
    world.handle(
        "a",
        Input::Endorsed {
            user: user_id("u"),
            sig,
        },
    );
    world.node_mut("a").is_slow = false;
    world.answer_slow("a", 9);
    assert_eq!(come(&mut world, "w", named("w", "alice")).0, None);
}
