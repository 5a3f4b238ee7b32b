//! Hello, list and keys (SOCP §9.1, §13, §14).

use super::super::*;
use super::world::*;
use socp_proto::limits::STRANGER_ASKS_COUNT_MAX;
use socp_proto::payload::{ListRequest, ListResponse, PubkeyRequest, PubkeyResponse, UserHello, directory_statement};
use socp_proto::{Base64Url, Meta};

fn signed_only() -> World {
    let mut world = World::empty();
    let mut config = config("a");
    config.accept = Accept::Signed;
    world.add(config, "a");
    world
}

fn hello_for(server: Option<&str>, ts: Option<u64>) -> Draft {
    let hello = UserHello {
        server_id: server.map(server_id),
        ts,
        ..plain_hello("u")
    };
    draft("u", "*", BEGIN, &Payload::UserHello(hello))
}

#[test]
fn a_hello_is_acknowledged_with_who_the_server_is() {
    let mut world = World::one("a");
    let wire = world.connect("a");
    world.hello(wire, "u", plain_hello("u"));
    let frames = world.take(wire);
    let Payload::Ack(ack) = &frames[0].payload else {
        panic!("{frames:?}");
    };
    assert_eq!(ack.msg_ref, "USER_HELLO");
    assert_eq!(ack.server_id, Some(server_id("a")));
    assert_eq!(ack.server_pub, Some(key("a")));
    assert_eq!(world.node("a").users[&user_id("u")].pubkey, key("u"));
}

#[test]
fn a_signed_server_wants_its_id_a_fresh_ts_and_the_signature() {
    let mut world = signed_only();
    let old = BEGIN - 2 * 60_000 - 1;
    let future = BEGIN + 2 * 60_000 + 1_000;
    let refused = [
        unsigned(hello_for(Some("a"), Some(BEGIN))),
        signed(hello_for(None, Some(BEGIN)), "u"),
        signed(hello_for(Some("b"), Some(BEGIN)), "u"),
        signed(hello_for(Some("a"), None), "u"),
        signed(hello_for(Some("a"), Some(old)), "u"),
        signed(hello_for(Some("a"), Some(future)), "u"),
    ];
    for hello in refused {
        let wire = world.connect("a");
        world.send(wire, &hello);
        assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig], "{hello:?}");
        assert_eq!(world.closed(wire), None, "it may try again");
        // And so it does, on the same link.
        world.wait(1);
        world.proven_hello(wire, "u");
        assert_eq!(world.take_kinds(wire)[0], FrameKind::Ack, "{hello:?}");
    }
}

#[test]
fn a_hello_with_a_wrong_signature_is_refused_and_closed() {
    let mut world = signed_only();
    let wire = world.connect("a");
    world.send(wire, &signed(hello_for(Some("a"), Some(BEGIN)), "thief"));
    assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig]);
    assert_eq!(world.closed(wire), Some(1002));
}

#[test]
fn the_refusal_of_a_hello_names_the_server_to_sign_for() {
    let mut world = signed_only();
    let wire = world.connect("a");
    world.send(wire, &unsigned(hello_for(None, None)));
    let frames = world.take(wire);
    assert_eq!(frames[0].envelope.from, server_id("a"));
}

#[test]
fn a_replayed_hello_proves_nothing() {
    let mut world = signed_only();
    let wire = world.connect("a");
    let hello = world.proven_hello(wire, "u");
    let thief = world.connect("a");
    world.send(thief, &hello);
    assert_eq!(world.take_errors(thief), [ErrorCode::InvalidSig]);
    world.hang_up(wire);
    world.send(thief, &hello);
    assert_eq!(world.take_errors(thief), [ErrorCode::InvalidSig]);
}

#[test]
fn three_refused_hellos_close_the_link() {
    let mut world = signed_only();
    let wire = world.connect("a");
    for tries in 1..=3 {
        assert_eq!(world.closed(wire), None, "before try {tries}");
        world.send(wire, &unsigned(hello_for(None, None)));
        assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig]);
    }
    assert_eq!(world.closed(wire), Some(1008));
}

#[test]
fn a_second_session_without_proof_is_name_in_use() {
    let mut world = World::one("a");
    let first = world.user("u", "a");
    let second = world.connect("a");
    world.hello(second, "u", plain_hello("u"));
    assert_eq!(world.take_errors(second), [ErrorCode::NameInUse]);
    world.hang_up(first.wire);
    world.hello(second, "u", plain_hello("u"));
    assert_eq!(world.take_kinds(second)[0], FrameKind::Ack);
}

#[test]
fn proven_sessions_live_side_by_side_and_the_user_leaves_with_the_last() {
    let mut world = World::one("a");
    let watcher = world.user("w", "a");
    let first = world.user("u", "a");
    let second = world.connect("a");
    world.proven_hello(second, "u");
    assert_eq!(world.take_kinds(second)[0], FrameKind::Ack);
    world.take(watcher.wire);
    world.hang_up(first.wire);
    assert!(world.take(watcher.wire).is_empty());
    world.hang_up(second);
    assert_eq!(world.take_kinds(watcher.wire), [FrameKind::UserRemove]);
}

#[test]
fn an_id_belongs_to_its_first_key_even_after_a_restart() {
    let mut world = World::one("a");
    let user = world.user("u", "a");
    world.hang_up(user.wire);
    for round in 0..2 {
        let wire = world.connect("a");
        let hello = UserHello {
            pubkey: key("thief"),
            ..plain_hello("u")
        };
        world.hello(wire, "u", hello);
        assert_eq!(world.take_errors(wire), [ErrorCode::BadKey], "round {round}");
        let hello = UserHello {
            enc_pubkey: Some(key("thief")),
            ..plain_hello("u")
        };
        world.hello(wire, "u", hello);
        assert_eq!(world.take_errors(wire), [ErrorCode::BadKey], "round {round}");
        world.crash("a");
        world.start(&["a"]);
    }
    world.user("u", "a");
}

#[test]
fn the_id_of_a_server_is_no_users() {
    let mut world = World::mesh(&["a", "b"]);
    for id in ["a", "b"] {
        let wire = world.connect("a");
        world.hello(wire, id, plain_hello(id));
        assert_eq!(world.take_errors(wire), [ErrorCode::NameInUse]);
    }
}

#[test]
fn of_two_keys_that_race_for_an_id_the_first_wins() {
    let mut world = World::one("a");
    world.node_mut("a").is_slow = true;
    let (first, second) = (world.connect("a"), world.connect("a"));
    world.hello(first, "u", plain_hello("u"));
    let hello = UserHello {
        pubkey: key("thief"),
        ..plain_hello("u")
    };
    world.hello(second, "u", hello);
    assert!(world.take(first).is_empty() && world.take(second).is_empty());
    world.answer_slow("a", 9);
    assert_eq!(world.take_kinds(first)[0], FrameKind::Ack);
    assert_eq!(world.take_errors(second), [ErrorCode::BadKey]);
    assert_eq!(world.node("a").users[&user_id("u")].pubkey, key("u"));
}

#[test]
fn of_two_unproven_hellos_that_race_with_one_key_only_one_gets_a_session() {
    let mut world = World::one("a");
    for round in 0..2 {
        world.node_mut("a").is_slow = true;
        let (first, second) = (world.connect("a"), world.connect("a"));
        // A changed profile is saved first, so the race is there for a known user too.
        let hello = || UserHello {
            meta: Some(Meta::named(Some(&format!("name {round}")), None).unwrap()),
            ..plain_hello("u")
        };
        world.hello(first, "u", hello());
        world.hello(second, "u", hello());
        world.answer_slow("a", 9);
        assert_eq!(world.take_kinds(first)[0], FrameKind::Ack, "round {round}");
        assert_eq!(world.take_errors(second), [ErrorCode::NameInUse], "round {round}");
        world.hang_up(first);
        world.node_mut("a").is_slow = false;
    }
}

#[test]
fn two_proven_hellos_that_race_both_get_a_session() {
    let mut world = World::one("a");
    world.node_mut("a").is_slow = true;
    let (first, second) = (world.connect("a"), world.connect("a"));
    world.proven_hello(first, "u");
    world.wait(1);
    world.proven_hello(second, "u");
    world.answer_slow("a", 9);
    assert_eq!(world.take_kinds(first)[0], FrameKind::Ack);
    assert_eq!(world.take_kinds(second)[0], FrameKind::Ack);
}

#[test]
fn a_user_who_hangs_up_before_the_record_is_stored_never_appears() {
    let mut world = World::one("a");
    let watcher = world.user("w", "a");
    world.node_mut("a").is_slow = true;
    let wire = world.connect("a");
    world.hello(wire, "u", plain_hello("u"));
    let link = wire.link;
    world.handle("a", Input::Closed { link });
    world.answer_slow("a", 9);
    assert!(world.take(watcher.wire).is_empty());
}

#[test]
fn a_key_that_could_not_be_stored_is_stored_at_the_next_hello() {
    let mut world = World::one("a");
    world.node_mut("a").is_slow = true;
    let wire = world.connect("a");
    world.hello(wire, "u", plain_hello("u"));
    world.answer_slow("a", 1); // The signature.
    world.node_mut("a").users.clear();
    world.fail_slow("a");
    assert_eq!(world.closed(wire), Some(1011));
    world.node_mut("a").is_slow = false;
    world.user("u", "a");
    assert_eq!(world.node("a").users[&user_id("u")].pubkey, key("u"));
}

#[test]
fn a_known_users_key_stays_bound_when_a_new_profile_cannot_be_stored() {
    let mut world = World::one("a");
    let user = world.user("u", "a");
    world.hang_up(user.wire);
    world.node_mut("a").is_slow = true;
    let wire = world.connect("a");
    let hello = UserHello {
        meta: Some(Meta::named(Some("new"), None).unwrap()),
        ..plain_hello("u")
    };
    world.hello(wire, "u", hello);
    world.fail_slow("a");
    world.node_mut("a").is_slow = false;
    let wire = world.connect("a");
    let hello = UserHello {
        pubkey: key("thief"),
        ..plain_hello("u")
    };
    world.hello(wire, "u", hello);
    assert_eq!(world.take_errors(wire), [ErrorCode::BadKey]);
}

#[test]
fn a_changed_profile_is_spread() {
    let mut world = World::mesh(&["a", "b"]);
    let user = world.user("u", "a");
    let watcher = world.user("w", "b");
    world.hang_up(user.wire);
    world.take(watcher.wire);
    let wire = world.connect("a");
    let meta = Meta::named(Some("new"), None).unwrap();
    let hello = UserHello {
        meta: Some(meta.clone()),
        ..plain_hello("u")
    };
    world.hello(wire, "u", hello);
    let frames = world.take(watcher.wire);
    assert_eq!(frames.len(), 1);
    assert!(matches!(&frames[0].payload, Payload::UserAdvertise(told) if told.meta == meta));
}

fn list(world: &mut World, user: User, after: Option<&str>, limit: Option<u64>) -> ListResponse {
    let request = ListRequest {
        after: after.map(user_id),
        limit,
    };
    world.say(user, "a", &Payload::ListRequest(request));
    match world.take(user.wire).pop().map(|frame| frame.payload) {
        Some(Payload::ListResponse(response)) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_list_is_sorted_and_comes_in_pages() {
    let mut world = World::mesh(&["a", "b"]);
    let asker = world.user("m", "a");
    for (id, node) in [("z", "a"), ("q", "b"), ("c", "a"), ("b2", "b")] {
        world.user(id, node);
    }
    let ids = |response: &ListResponse| {
        let ids = response.users.iter().map(ToString::to_string);
        ids.collect::<Vec<String>>()
    };
    let all = list(&mut world, asker, None, None);
    assert_eq!(ids(&all), ["b2", "c", "m", "q", "z"]);
    assert!(!all.more);
    let homes: Vec<&str> = all.online.iter().map(|o| o.server_id.as_str()).collect();
    assert_eq!(homes, ["b", "a", "a", "b", "a"]);
    let page = list(&mut world, asker, None, Some(2));
    assert_eq!((ids(&page).len(), page.more), (2, true));
    let page = list(&mut world, asker, Some("c"), Some(2));
    assert_eq!((ids(&page), page.more), (vec!["m".to_owned(), "q".to_owned()], true));
    let page = list(&mut world, asker, Some("q"), Some(2));
    assert_eq!((ids(&page), page.more), (vec!["z".to_owned()], false));
    let page = list(&mut world, asker, Some("z"), Some(0));
    assert_eq!((ids(&page), page.more), (Vec::new(), false));
}

fn pubkey(world: &mut World, user: User, of: &str) -> PubkeyResponse {
    let request = PubkeyRequest { user_id: user_id(of) };
    world.say(user, "a", &Payload::PubkeyRequest(request));
    match world.take(user.wire).pop().map(|frame| frame.payload) {
        Some(Payload::PubkeyResponse(response)) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_directory_knows_users_here_there_and_gone_with_the_homes_signature() {
    let mut world = World::mesh(&["a", "b"]);
    let asker = world.user("u", "a");
    world.user("v", "b");
    let gone = world.user("w", "a");
    world.hang_up(gone.wire);
    for (id, home) in [("u", "a"), ("v", "b"), ("w", "a")] {
        let response = pubkey(&mut world, asker, id);
        assert_eq!(response.pubkey, Some(key(id)));
        assert_eq!(response.enc_pubkey, Some(key(id)));
        assert_eq!(response.server_id, Some(server_id(home)));
        assert_eq!(response.version, Some(1));
        assert!(response.meta.is_some(), "{id}");
        assert_eq!(response.server_name, Some(format!("server {home}")), "{id}");
        let statement = directory_statement(&user_id(id), &key(id), &key(id), 1);
        let payload = Payload::CtrlClose(socp_proto::payload::CtrlClose {});
        let mut vouched = draft(home, "*", 0, &payload);
        vouched.payload = statement;
        let sig: Base64Url = signed(vouched, home).sig;
        assert_eq!(response.directory_sig, Some(sig), "{id}");
    }
}

#[test]
fn an_unknown_users_key_is_null() {
    let mut world = World::one("a");
    let asker = world.user("u", "a");
    let response = pubkey(&mut world, asker, "nobody");
    assert_eq!((response.pubkey, response.server_id), (None, None));
}

#[test]
fn ctrl_close_closes_normally() {
    let mut world = World::one("a");
    let user = world.user("u", "a");
    let close = Payload::CtrlClose(socp_proto::payload::CtrlClose {});
    world.say(user, "a", &close);
    assert_eq!(world.closed(user.wire), Some(1000));
}

#[test]
fn a_record_that_could_not_be_signed_admits_nobody_and_binds_nothing() {
    let mut world = World::one("a");
    world.node_mut("a").is_slow = true;
    let wire = world.connect("a");
    world.hello(wire, "u", plain_hello("u"));
    let (user, sig) = (user_id("u"), Base64Url::encode(&[]));
    world.handle("a", Input::Endorsed { user, sig });
    world.settle();
    assert_eq!(world.closed(wire), Some(1011));
    assert!(world.node("a").server.records.is_empty() && world.node("a").users.is_empty());
}

#[test]
fn two_sessions_that_begin_in_the_same_millisecond_are_both_proven() {
    let mut world = World::one("a");
    let now = world.now.unix;
    let hello = UserHello {
        server_id: Some(server_id("a")),
        ts: Some(now),
        ..plain_hello("u")
    };
    let payload = Payload::UserHello(hello);
    let mut say = |sig: &[u8]| {
        let wire = world.connect("a");
        let envelope = draft("u", "a", now, &payload).sign(sig);
        let frame = Frame {
            envelope,
            payload: payload.clone(),
        };
        let (key, signer) = (Some(key("u")), Some(key("u").fingerprint()));
        let first = FirstFrame { frame, key, signer };
        world.handle("a", Input::First { link: wire.link, first });
        world.settle();
        world.take(wire)[0].envelope.kind
    };
    assert_eq!(say(b"one salt"), FrameKind::Ack);
    assert_eq!(say(b"another salt"), FrameKind::Ack);
    assert_eq!(say(b"one salt"), FrameKind::Error, "a replay proves nothing");
}

/// Whoever compares keys need not say who they are, and learns no more than the key.
#[test]
fn a_stranger_may_ask_for_some_keys_and_learns_nothing_else() {
    let mut world = World::mesh(&["a", "b"]);
    let user = world.user("u", "a");
    world.user("v", "b");
    let wire = world.connect("a");
    let ask = |of: &str| {
        let request = Payload::PubkeyRequest(PubkeyRequest { user_id: user_id(of) });
        unsigned(draft("stranger", "*", 5, &request))
    };
    for (of, known) in [("u", Some(key("u"))), ("v", Some(key("v"))), ("nobody", None)] {
        world.send(wire, &ask(of));
        let answer = world.take(wire).pop().map(|frame| frame.payload);
        let Some(Payload::PubkeyResponse(answer)) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!((answer.pubkey, answer.meta, answer.server_name), (known, None, None));
    }
    // It may still become somebody, and is nobody until then.
    assert_eq!(world.list("a"), ["u", "v"]);
    for _ in 3..STRANGER_ASKS_COUNT_MAX {
        world.send(wire, &ask("u"));
    }
    assert_eq!(world.closed(wire), None);
    world.take(wire);
    world.send(wire, &ask("u"));
    assert_eq!(world.closed(wire), Some(1008));
    // As a program of others is told it (PROTOCOL I.10).
    assert!(world.take_errors(wire).contains(&ErrorCode::Timeout));
    world.hang_up(user.wire);
}
