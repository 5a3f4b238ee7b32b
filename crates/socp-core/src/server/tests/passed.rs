//! Errors that find their way back to the author, and presence corrected by them (SOCP §8.3).

use super::super::*;
use super::world::*;
use socp_proto::Base64Url;
use socp_proto::payload::{ErrorNotice, msg_ref};

fn not_found(user: &str, msg_ref: Option<String>) -> Payload {
    Payload::Error(ErrorNotice {
        code: ErrorCode::UserNotFound,
        detail: user.to_owned(),
        msg_ref,
        seq: None,
    })
}

fn notices(frames: Vec<Frame>) -> Vec<ErrorNotice> {
    let notice = |frame: Frame| match frame.payload {
        Payload::Error(notice) => Some(notice),
        _ => None,
    };
    frames.into_iter().filter_map(notice).collect()
}

#[test]
fn a_recipient_who_is_not_there_is_told_to_the_author_and_no_longer_listed() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    world.peer_says(x, "x", "*", &advert("v", "x"));
    let u = world.user("u", "a");
    assert_eq!(world.list("a"), ["u", "v"]);
    let reference = msg_ref(&world.tell(u, "v", b"sealed").content_sig);
    world.take(u.wire);
    world.peer_says(x, "x", "a", &not_found("v", Some(reference.clone())));
    let frames = world.take(u.wire);
    let kinds: Vec<FrameKind> = frames.iter().map(|frame| frame.envelope.kind).collect();
    assert_eq!(kinds, [FrameKind::UserRemove, FrameKind::Error]);
    let [notice] = &notices(frames)[..] else {
        panic!("no notice");
    };
    assert_eq!(
        (notice.detail.as_str(), notice.msg_ref.as_ref()),
        ("v", Some(&reference))
    );
    assert_eq!(world.list("a"), ["u"]);
    // Once only.
    world.take(u.wire);
    world.peer_says(x, "x", "a", &not_found("v", Some(reference)));
    assert!(world.take(u.wire).is_empty());
}

#[test]
fn the_error_goes_back_over_every_hop() {
    let mut world = World::mesh(&["a", "m", "z"]);
    let u = world.user("u", "a");
    world.user("v", "z");
    world.block("a", "z");
    world.wait(20_000);
    assert_eq!(world.list("a"), ["u", "v"], "by the middle server");
    world.take(u.wire);
    // The user leaves, and the news of it is still on its way when the message comes.
    world.node_mut("z").server.people.forget(&user_id("v"));
    let reference = msg_ref(&world.tell(u, "v", b"sealed").content_sig);
    let notices = notices(world.take(u.wire));
    let [notice] = &notices[..] else {
        panic!("{notices:?}");
    };
    assert_eq!(notice.msg_ref, Some(reference));
    assert_eq!(world.list("a"), ["u"]);
    assert!(world.list("m").iter().all(|user| user != "v"));
}

#[test]
fn what_found_nobody_elsewhere_may_be_sent_again() {
    let rows = [
        (
            FrameKind::ServerDeliver,
            Payload::MsgDirect(direct("u", "v", BEGIN, b"sealed")),
        ),
        (FrameKind::MsgPublicChannel, channel_copy("u", "v", BEGIN, b"sealed")),
    ];
    for (kind, payload) in rows {
        let mut world = World::one("a");
        let x = world.peer("x", "a");
        world.peer_says(x, "x", "*", &advert("v", "x"));
        let u = world.user("u", "a");
        world.take(x);
        let message = unsigned(draft("u", "v", BEGIN, &payload));
        world.send(u.wire, &message);
        assert_eq!(world.take_kinds(x), [kind]);
        world.send(u.wire, &message);
        assert!(world.take(x).is_empty(), "it is still on its way");
        let sig = message.payload["content_sig"].as_str().unwrap();
        let reference = msg_ref(&Base64Url::try_from(sig.to_owned()).unwrap());
        world.peer_says(x, "x", "a", &not_found("v", Some(reference)));
        world.wait(1_000);
        world.peer_says(x, "x", "*", &advert("v", "x"));
        world.take(x);
        world.send(u.wire, &message);
        assert_eq!(world.take_kinds(x), [kind]);
    }
}

#[test]
fn and_takes_the_same_way_over_every_hop() {
    let mut world = World::mesh(&["a", "m", "z"]);
    let u = world.user("u", "a");
    world.answer_pings(u.wire, true);
    let gone = world.user("v", "z");
    world.block("a", "z");
    world.wait(20_000);
    let ts = world.now.unix;
    let messages = [
        Payload::MsgDirect(direct("u", "v", ts, b"sealed")),
        channel_copy("u", "v", ts, b"sealed"),
    ];
    let messages = messages.map(|payload| unsigned(draft("u", "v", ts, &payload)));
    world.take(u.wire);
    for message in &messages {
        // The user leaves, and the news of it is still on its way.
        world.node_mut("z").server.people.forget(&user_id("v"));
        world.hang_up(gone.wire);
        world.send(u.wire, message);
        assert_eq!(notices(world.take(u.wire)).len(), 1);
        world.wait(1_000);
        let v = world.user("v", "z");
        world.wait(2_000);
        assert_eq!(world.list("a"), ["u", "v"], "by the middle server");
        world.take(v.wire);
        world.send(u.wire, message);
        assert_eq!(world.take(v.wire).len(), 1);
        assert!(notices(world.take(u.wire)).is_empty());
    }
}

#[test]
fn a_peer_cannot_speak_of_what_did_not_go_to_it() {
    let mut world = World::one("a");
    let (x, y) = (world.peer("x", "a"), world.peer("y", "a"));
    world.peer_says(x, "x", "*", &advert("v", "x"));
    let u = world.user("u", "a");
    let reference = msg_ref(&world.tell(u, "v", b"sealed").content_sig);
    world.take(u.wire);
    for notice in [
        not_found("v", Some(reference)),
        not_found("v", None),
        not_found("u", None),
    ] {
        world.peer_says(y, "y", "a", &notice);
        assert!(world.take(u.wire).is_empty(), "{notice:?}");
    }
    assert_eq!(world.list("a"), ["u", "v"]);
}

#[test]
fn a_late_error_is_nobodys() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    world.peer_says(x, "x", "*", &advert("v", "x"));
    let u = world.user("u", "a");
    world.answer_pings(u.wire, true);
    let first = msg_ref(&world.tell(u, "v", b"first").content_sig);
    for _ in 0..5 {
        world.wait(14_000);
        world.peer_says(
            x,
            "x",
            "a",
            &Payload::Heartbeat(socp_proto::payload::Heartbeat::default()),
        );
    }
    world.tell(u, "v", b"second");
    world.take(u.wire);
    world.peer_says(x, "x", "a", &not_found("v", Some(first)));
    assert!(world.take(u.wire).is_empty());
}

#[test]
fn what_was_delivered_is_not_delivered_again_after_a_restart() {
    let mut world = World::one("a");
    let (u, v) = (world.user("u", "a"), world.user("v", "a"));
    let message = world.tell(u, "v", b"sealed");
    assert!(world.take_kinds(v.wire).contains(&FrameKind::UserDeliver));
    world.crash("a");
    world.start(&["a"]);
    let (u, v) = (world.user("u", "a"), world.user("v", "a"));
    world.say(u, "v", &Payload::MsgDirect(message));
    assert!(!world.take_kinds(v.wire).contains(&FrameKind::UserDeliver));
    world.tell(u, "v", b"another");
    assert!(world.take_kinds(v.wire).contains(&FrameKind::UserDeliver));
}

#[test]
fn content_older_than_what_is_remembered_or_dated_ahead_is_refused() {
    const DAY_MS: u64 = 24 * 3_600_000;
    const THIRTY_DAYS_MS: u64 = 30 * DAY_MS;
    let mut world = World::one("a");
    let (u, v) = (world.user("u", "a"), world.user("v", "a"));
    world.take(u.wire);
    world.take(v.wire);
    let rows = [
        (BEGIN - THIRTY_DAYS_MS - 1, 1),
        (BEGIN - THIRTY_DAYS_MS, 0),
        (BEGIN + DAY_MS, 0),
        (BEGIN + DAY_MS + 1, 1),
    ];
    for (ts, errors) in rows {
        let message = Payload::MsgDirect(direct("u", "v", ts, b"sealed"));
        world.send(u.wire, &unsigned(draft("u", "v", ts, &message)));
        let notices = notices(world.take(u.wire));
        assert_eq!(notices.len(), errors, "at {ts}");
        assert!(notices.iter().all(|notice| notice.msg_ref.is_some()), "{notices:?}");
        assert_eq!(world.take(v.wire).len(), 1 - errors, "at {ts}");
    }
}

/// A server in the middle may hear late that somebody behind it was not there, and say so when the user has come to it.
#[test]
fn a_late_error_takes_nobody_away_who_has_come_since() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    world.peer_says(x, "x", "*", &advert("v", "x"));
    let u = world.user("u", "a");
    let reference = msg_ref(&world.tell(u, "v", b"sealed").content_sig);
    world.take(u.wire);
    world.wait(1_000);
    world.peer_says(x, "x", "*", &remove("v", "x"));
    world.wait(1_000);
    world.peer_says(x, "x", "*", &advert("v", "x"));
    world.take(u.wire);
    world.peer_says(x, "x", "a", &not_found("v", Some(reference)));
    assert_eq!(
        world.take_kinds(u.wire),
        [FrameKind::Error],
        "its author is told all the same"
    );
    assert_eq!(world.list("a"), ["u", "v"]);
}
