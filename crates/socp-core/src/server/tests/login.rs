//! Passwords (PROTOCOL II.9): who may set one, what a login gets, and that nothing tells one failure from another.

use super::super::*;
use super::challenge::{able, enter, enter_with};
use super::toy_opaque::{finalization, login_request, no_record, record, registration_request};
use super::world::*;
use socp_proto::limits::{
    HELLO_WAIT_MAX_MS, LOGIN_ACCOUNT_TRIES_MAX, LOGIN_ACCOUNT_WAIT_MAX_MS, LOGIN_ADDRESS_TRIES_MAX, REGISTER_TRIES_MAX,
};
use socp_proto::payload::{
    KeptIdentity, LOGIN_REFUSED, LoginFinish, LoginStart, OPAQUE, RegisterFinish, RegisterStart, UserHello,
};
use socp_proto::{Base64Url, Capabilities, DELEGATE, KeyHistory, Meta, PublicPair};

fn world() -> World {
    let mut world = World::empty();
    let mut config = config("a");
    config.passwords = true;
    world.add(config, "a");
    world
}

fn sealed(text: &str) -> KeptIdentity {
    KeptIdentity {
        ciphertext: Base64Url::encode(text.as_bytes()),
        iv: Base64Url::encode(&[0; 12]),
        v: 1,
    }
}

fn start(name: &str, nonce: u8) -> Payload {
    Payload::LoginStart(LoginStart {
        name: name.to_owned(),
        request: login_request(nonce),
        caps: None,
    })
}

fn finish(password: &str, nonce: u8) -> Payload {
    Payload::LoginFinish(LoginFinish {
        finalization: finalization(password, nonce),
    })
}

fn begin_registration(password: &str) -> Payload {
    Payload::RegisterStart(RegisterStart {
        request: registration_request(password),
    })
}

fn end_registration(password: &str) -> Payload {
    Payload::RegisterFinish(RegisterFinish {
        record: record(password),
        sealed: sealed("identity"),
    })
}

fn say(world: &mut World, wire: Wire, from: &str, payload: &Payload) -> Vec<Frame> {
    let envelope = unsigned(draft(from, "a", world.now.unix, payload));
    world.send(wire, &envelope);
    world.take(wire)
}

/// A user with a handle, in by proof; what comes before is dropped.
fn user_named(world: &mut World, id: &str, name: &str) -> Wire {
    let hello = UserHello {
        meta: Some(Meta::named(Some(name), None).unwrap()),
        ..able(id)
    };
    enter_with(world, "a", id, id, hello).0
}

fn set_password(world: &mut World, wire: Wire, id: &str, password: &str) -> Vec<Frame> {
    let begun = say(world, wire, id, &begin_registration(password));
    assert!(matches!(begun[0].payload, Payload::RegisterChallenge(_)), "{begun:?}");
    say(world, wire, id, &end_registration(password))
}

/// Alice, who has a password, and nobody else.
fn world_of_alice() -> World {
    let mut world = world();
    let wire = user_named(&mut world, "u", "alice");
    let frames = set_password(&mut world, wire, "u", "right");
    assert!(
        matches!(&frames[0].payload, Payload::Ack(ack) if ack.msg_ref == "REGISTER_FINISH"),
        "{frames:?}"
    );
    world
}

/// All that a login gets, on a link of its own, by kind and text; and whether the link was closed, and with what.
fn log_in(world: &mut World, name: &str, password: &str) -> (Vec<String>, Option<u16>) {
    let wire = world.connect("a");
    let mut frames = say(world, wire, "*", &start(name, 7));
    frames.extend(say(world, wire, "*", &finish(password, 7)));
    let shown = frames.iter().map(|frame| match &frame.payload {
        Payload::LoginChallenge(challenge) => format!("challenge of {} bytes", challenge.response.bytes().len()),
        Payload::LoginResult(result) => format!("result for {}: {:?}", result.user_id, result.sealed),
        Payload::Error(notice) => format!("{} {}", notice.code, notice.detail),
        other => panic!("{other:?}"),
    });
    (shown.collect(), world.closed(wire))
}

fn is_right((frames, closed): &(Vec<String>, Option<u16>)) -> bool {
    closed.is_none() && frames.len() == 2 && frames[1].starts_with("result for u")
}

#[test]
fn a_password_that_was_set_opens_what_was_kept_by_handle_and_by_id() {
    let mut world = world_of_alice();
    for name in ["alice", "ALICE", "u"] {
        let (frames, closed) = log_in(&mut world, name, "right");
        assert_eq!(closed, None);
        assert_eq!(frames[1], format!("result for u: {:?}", sealed("identity")));
    }
    world.crash("a");
    world.start(&["a"]);
    assert!(is_right(&log_in(&mut world, "alice", "right")), "it survives a restart");
}

#[test]
fn a_new_password_takes_the_place_of_the_old_one() {
    let mut world = world_of_alice();
    let (wire, _) = enter(&mut world, "a", "u", "u");
    set_password(&mut world, wire, "u", "newer");
    assert!(!is_right(&log_in(&mut world, "alice", "right")));
    assert!(is_right(&log_in(&mut world, "alice", "newer")));
}

#[test]
fn a_wrong_password_an_unknown_name_no_password_and_a_locked_account_get_the_same() {
    let mut world = world_of_alice();
    user_named(&mut world, "v", "vera");
    let wrong = log_in(&mut world, "alice", "wrong");
    assert_eq!(wrong.1, Some(1008));
    assert_eq!(wrong.0.len(), 2);
    for name in ["nobody", "vera", "v", "no-such-id"] {
        assert_eq!(log_in(&mut world, name, "right"), wrong, "{name}");
    }
    for _ in 1..LOGIN_ACCOUNT_TRIES_MAX {
        assert_eq!(log_in(&mut world, "alice", "wrong"), wrong);
    }
    assert_eq!(
        log_in(&mut world, "alice", "right"),
        wrong,
        "it waits now, and says nothing of it"
    );
    assert_eq!(log_in(&mut world, "u", "right"), wrong, "by whatever name");
    world.wait(LOGIN_ACCOUNT_WAIT_MAX_MS);
    assert!(is_right(&log_in(&mut world, "alice", "right")));
}

#[test]
fn a_client_that_learns_it_was_wrong_and_hangs_up_has_tried_all_the_same() {
    let mut world = world_of_alice();
    for _ in 0..LOGIN_ACCOUNT_TRIES_MAX {
        let wire = world.connect("a");
        say(&mut world, wire, "*", &start("alice", 7));
        world.hang_up(wire);
    }
    assert!(!is_right(&log_in(&mut world, "alice", "right")));
}

#[test]
fn success_makes_up_for_what_was_tried_before() {
    let mut world = world_of_alice();
    for _ in 0..3 {
        for _ in 1..LOGIN_ACCOUNT_TRIES_MAX {
            log_in(&mut world, "alice", "wrong");
        }
        assert!(is_right(&log_in(&mut world, "alice", "right")));
        world.wait(LOGIN_ACCOUNT_WAIT_MAX_MS);
    }
}

#[test]
fn an_address_has_so_many_tries_and_its_neighbours_in_one_network_share_them() {
    let mut world = world_of_alice();
    world.from = "2001:db8::1".parse().unwrap();
    for number in 0..LOGIN_ADDRESS_TRIES_MAX {
        log_in(&mut world, &format!("nobody{number}"), "x");
    }
    world.from = "2001:db8::2:3".parse().unwrap();
    let wire = world.connect("a");
    let frames = say(&mut world, wire, "*", &start("alice", 7));
    assert!(
        matches!(&frames[..], [Frame { payload: Payload::Error(notice), .. }]
            if notice.code == ErrorCode::RateLimited && notice.detail.contains("1 s")),
        "{frames:?}"
    );
    world.from = "2001:db8:0:1::1".parse().unwrap();
    assert!(
        is_right(&log_in(&mut world, "alice", "right")),
        "another network waits for nothing"
    );
    world.from = "::ffff:192.0.2.1".parse().unwrap();
    assert!(
        is_right(&log_in(&mut world, "alice", "right")),
        "nor does an old address in new clothes"
    );
}

#[test]
fn every_message_has_its_place() {
    let mut world = world_of_alice();
    let out_of_place = |frames: &[Frame]| matches!(frames, [Frame { payload: Payload::Error(notice), .. }] if notice.code == ErrorCode::UnknownType);
    let first = [finish("right", 7), begin_registration("x"), end_registration("x")];
    for payload in &first {
        let wire = world.connect("a");
        let frames = say(&mut world, wire, "*", payload);
        assert!(out_of_place(&frames), "{payload:?}: {frames:?}");
        assert_eq!(world.closed(wire), Some(1002));
    }
    // A second beginning while the first waits for its end, and a hello in the midst.
    for payload in [start("alice", 8), Payload::UserHello(able("u"))] {
        let wire = world.connect("a");
        say(&mut world, wire, "*", &start("alice", 7));
        let frames = say(&mut world, wire, "u", &payload);
        assert!(out_of_place(&frames), "{payload:?}: {frames:?}");
    }
    // On a user's link nobody logs in.
    let (wire, _) = enter(&mut world, "a", "u", "u");
    assert!(out_of_place(&say(&mut world, wire, "u", &start("alice", 7))));
    assert!(
        out_of_place(&say(&mut world, wire, "u", &end_registration("x"))),
        "nothing was begun"
    );
}

#[test]
fn the_last_message_of_another_login_is_of_no_use() {
    let mut world = world_of_alice();
    let wire = world.connect("a");
    say(&mut world, wire, "*", &start("alice", 8));
    let frames = say(&mut world, wire, "*", &finish("right", 7));
    assert!(
        matches!(&frames[..], [Frame { payload: Payload::Error(notice), .. }] if notice.code == ErrorCode::NotAuthenticated)
    );
    assert_eq!(world.closed(wire), Some(1008));
}

#[test]
fn after_the_result_a_hello_follows_on_the_same_link() {
    let mut world = world_of_alice();
    let wire = world.connect("a");
    say(&mut world, wire, "*", &start("alice", 7));
    say(&mut world, wire, "*", &finish("right", 7));
    let frames = say(&mut world, wire, "u", &Payload::UserHello(able("u")));
    assert!(
        matches!(
            &frames[..],
            [Frame {
                payload: Payload::Challenge(_),
                ..
            }]
        ),
        "{frames:?}"
    );
}

#[test]
fn a_login_has_the_time_of_a_hello() {
    let mut world = world_of_alice();
    let wire = world.connect("a");
    say(&mut world, wire, "*", &start("alice", 7));
    world.wait(HELLO_WAIT_MAX_MS);
    assert_eq!(world.closed(wire), Some(1002));
}

#[test]
fn a_password_is_taken_only_from_who_has_proved_the_key() {
    let mut world = world();
    let wire = world.connect("a");
    say(&mut world, wire, "u", &Payload::UserHello(plain_hello("u")));
    let frames = say(&mut world, wire, "u", &begin_registration("x"));
    assert!(
        matches!(&frames[..], [Frame { payload: Payload::Error(notice), .. }]
            if notice.code == ErrorCode::InvalidSig && notice.detail.contains("proof/1")),
        "{frames:?}"
    );
    assert_eq!(world.closed(wire), None, "the session goes on");
}

#[test]
fn a_record_that_is_none_is_refused_and_the_password_of_before_stays() {
    let mut world = world_of_alice();
    let (wire, _) = enter(&mut world, "a", "u", "u");
    say(&mut world, wire, "u", &begin_registration("x"));
    let bad = Payload::RegisterFinish(RegisterFinish {
        record: no_record(),
        sealed: sealed("x"),
    });
    let frames = say(&mut world, wire, "u", &bad);
    assert!(matches!(&frames[..], [Frame { payload: Payload::Error(notice), .. }]
        if notice.code == ErrorCode::BadFrame && notice.detail.contains("REGISTER_FINISH")));
    assert!(is_right(&log_in(&mut world, "alice", "right")));
    let wire = world.connect("a");
    let frames = say(&mut world, wire, "*", &start("alice", 0xff));
    assert!(
        matches!(&frames[..], [Frame { payload: Payload::Error(notice), .. }] if notice.detail.contains("LOGIN_START"))
    );
}

#[test]
fn passwords_are_set_so_often() {
    let mut world = world_of_alice();
    let (wire, _) = enter(&mut world, "a", "u", "u");
    for _ in 1..REGISTER_TRIES_MAX {
        set_password(&mut world, wire, "u", "again");
    }
    let frames = say(&mut world, wire, "u", &begin_registration("again"));
    assert!(
        matches!(&frames[..], [Frame { payload: Payload::Error(notice), .. }] if notice.code == ErrorCode::RateLimited)
    );
}

#[test]
fn a_password_that_is_not_on_disk_is_none() {
    let mut world = world_of_alice();
    let (wire, _) = enter(&mut world, "a", "u", "u");
    say(&mut world, wire, "u", &begin_registration("newer"));
    let before = world.node("a").kept.clone();
    world.node_mut("a").is_slow = true;
    let frames = say(&mut world, wire, "u", &end_registration("newer"));
    assert!(frames.is_empty(), "nothing is acknowledged before: {frames:?}");
    world.answer_slow("a", 1);
    assert!(world.fail_save("a"));
    // The toy disk writes before it says that it cannot.
    world.node_mut("a").kept = before;
    let frames = world.take(wire);
    assert!(
        matches!(&frames[..], [Frame { payload: Payload::Error(notice), .. }]
            if notice.msg_ref.as_deref() == Some("REGISTER_FINISH") && notice.detail.contains("store")),
        "{frames:?}"
    );
    world.node_mut("a").is_slow = false;
    assert!(is_right(&log_in(&mut world, "alice", "right")));
}

#[test]
fn a_server_without_passwords_knows_none_of_it() {
    let mut world = World::empty();
    world.add(config("a"), "a");
    let wire = world.connect("a");
    let frames = say(&mut world, wire, "*", &start("alice", 7));
    assert!(
        matches!(&frames[..], [Frame { payload: Payload::Error(notice), .. }] if notice.code == ErrorCode::UnknownType)
    );
    let (wire, frames) = enter(&mut world, "a", "u", "u");
    assert!(!matches!(&frames[0].payload, Payload::Ack(ack) if ack.caps.as_ref().unwrap().has(OPAQUE)));
    let frames = say(&mut world, wire, "u", &begin_registration("x"));
    assert!(
        matches!(&frames[..], [Frame { payload: Payload::Error(notice), .. }] if notice.code == ErrorCode::UnknownType)
    );
}

#[test]
fn the_delegated_key_signs_for_whoever_takes_that_and_brings_its_delegation() {
    let mut world = World::empty();
    let mut config = config("a");
    config.passwords = true;
    config.delegation = Some(delegation("a", 1));
    world.add(config, "a");
    let wire = world.connect("a");
    let Payload::LoginStart(mut start) = start("alice", 7) else {
        panic!()
    };
    start.caps = Some(Capabilities::of(&[DELEGATE]).unwrap());
    let frames = say(&mut world, wire, "*", &Payload::LoginStart(start));
    let [frame] = &frames[..] else { panic!("{frames:?}") };
    assert!(frame.envelope.is_delegated());
    assert!(
        matches!(&frame.payload, Payload::LoginChallenge(challenge) if challenge.delegation == Some(delegation("a", 1)))
    );
}

#[test]
fn an_id_that_goes_to_its_owner_takes_no_password_along() {
    let mut world = world();
    let owner = UserId::made_from(key("owner").fingerprint());
    let (wire, _) = enter(&mut world, "a", owner.as_str(), "thief");
    set_password(&mut world, wire, owner.as_str(), "thief's");
    let _in = enter(&mut world, "a", owner.as_str(), "owner");
    let (frames, closed) = log_in(&mut world, owner.as_str(), "thief's");
    assert_eq!((frames.len(), closed), (2, Some(1008)), "{frames:?}");
}

#[test]
fn newer_keys_leave_no_password_that_opens_the_ones_before() {
    let mut world = world_of_alice();
    assert!(is_right(&log_in(&mut world, "alice", "right")));
    let pair = |name| PublicPair {
        pubkey: key(name),
        enc_pubkey: key(name),
    };
    let mut statement = KeyHistory::next(&user_id("u"), &pair("u"), None, pair("u2"), BEGIN);
    let text = String::from_utf8(statement.signed_text()).unwrap();
    statement.sig = Base64Url::encode(&toy_sig(&key("u"), &text));
    let hello = UserHello {
        enc_pubkey: Some(key("u2")),
        history: Some(KeyHistory::begin(pair("u"), statement).unwrap()),
        ..able("u2")
    };
    let (wire, _) = enter_with(&mut world, "a", "u", "u2", hello);
    assert_eq!(world.closed(wire), None);
    assert!(!is_right(&log_in(&mut world, "alice", "right")));
    set_password(&mut world, wire, "u", "right");
    assert!(is_right(&log_in(&mut world, "alice", "right")));
}

#[test]
fn an_id_and_a_handle_of_two_users_are_never_the_same() {
    let mut world = world_of_alice();
    let (wire, frames) = enter_with(&mut world, "a", "alice", "mallory", able("mallory"));
    assert!(
        frames.iter().any(|frame| matches!(&frame.payload,
        Payload::Error(notice) if notice.code == ErrorCode::NameInUse && notice.detail.contains("handle"))),
        "{frames:?}"
    );
    world.hang_up(wire);
    assert!(is_right(&log_in(&mut world, "alice", "right")));
    // Nor the other way round: who asks for the id of another as a handle is in without one.
    user_named(&mut world, "bob", "u");
    assert_eq!(world.node("a").users[&user_id("bob")].meta.handle(), None);
}

#[test]
fn names_of_nobody_take_no_room_from_accounts() {
    let mut world = world_of_alice();
    for number in 0..20 {
        log_in(&mut world, &format!("nobody{number}"), "wrong");
    }
    assert!(is_right(&log_in(&mut world, "alice", "right")));
    assert!(world.node("a").server.logins.accounts.count() <= 1);
}

#[test]
fn a_password_that_is_stored_after_its_keys_were_changed_is_none_and_its_user_is_told() {
    let mut world = world();
    let wire = user_named(&mut world, "u", "alice");
    let begun = say(&mut world, wire, "u", &begin_registration("right"));
    assert!(matches!(begun[0].payload, Payload::RegisterChallenge(_)));
    world.node_mut("a").is_slow = true;
    let pair = |signs, decrypts| PublicPair {
        pubkey: key(signs),
        enc_pubkey: key(decrypts),
    };
    // The signing key stays.
    let mut statement = KeyHistory::next(&user_id("u"), &pair("u", "u"), None, pair("u", "u2"), BEGIN);
    let text = String::from_utf8(statement.signed_text()).unwrap();
    statement.sig = Base64Url::encode(&toy_sig(&key("u"), &text));
    let hello = UserHello {
        enc_pubkey: Some(key("u2")),
        history: Some(KeyHistory::begin(pair("u", "u"), statement).unwrap()),
        ..able("u")
    };
    enter_with(&mut world, "a", "u", "u", hello);
    let told = say(&mut world, wire, "u", &end_registration("right"));
    world.node_mut("a").is_slow = false;
    world.answer_slow("a", 10);
    let told: Vec<Frame> = told.into_iter().chain(world.take(wire)).collect();
    let is_taken = |frame: &Frame| matches!(&frame.payload, Payload::Ack(ack) if ack.msg_ref == "REGISTER_FINISH");
    assert!(!told.iter().any(is_taken), "{told:?}");
    assert!(!is_right(&log_in(&mut world, "alice", "right")));
}

#[test]
fn a_login_begun_with_the_password_before_gets_nothing_of_the_new_one() {
    for is_saved_late in [false, true] {
        let mut world = world_of_alice();
        let (owner, _) = enter(&mut world, "a", "u", "u");
        say(&mut world, owner, "u", &begin_registration("newer"));
        let wire = world.connect("a");
        say(&mut world, wire, "*", &start("alice", 7));
        // The new password is on disk, whether or not that has been said.
        world.node_mut("a").is_slow = is_saved_late;
        say(&mut world, owner, "u", &end_registration("newer"));
        if is_saved_late {
            world.answer_slow("a", 1);
        }
        let mut frames = say(&mut world, wire, "*", &finish("right", 7));
        world.node_mut("a").is_slow = false;
        world.answer_slow("a", 10);
        frames.extend(world.take(wire));
        assert!(
            matches!(&frames[..], [Frame { payload: Payload::Error(notice), .. }]
                if notice.code == ErrorCode::NotAuthenticated && notice.detail == LOGIN_REFUSED),
            "{frames:?}"
        );
        assert_eq!(world.closed(wire), Some(1008));
        assert!(is_right(&log_in(&mut world, "alice", "newer")));
    }
}
