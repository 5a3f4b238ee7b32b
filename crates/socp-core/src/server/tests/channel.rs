//! The public channel and files: frames that keep their author (SOCP §9.3, §9.4, §15).

use super::super::*;
use super::world::*;
use socp_proto::payload::{ChannelKeyShare, ChannelShare, ChannelUpdated, FileEnd, FileMode, FileStart, FileStatus};
use socp_proto::{Base64Url, Envelope};

fn updates(frames: &[Frame]) -> Vec<u64> {
    let version = |frame: &Frame| match &frame.payload {
        Payload::PublicChannelUpdated(updated) => Some(updated.version),
        _ => None,
    };
    frames.iter().filter_map(version).collect()
}

fn of_kind(frames: Vec<Frame>, kind: FrameKind) -> Vec<Envelope> {
    let wanted = frames.into_iter().filter(|frame| frame.envelope.kind == kind);
    wanted.map(|frame| frame.envelope).collect()
}

fn version(world: &World, node: &str) -> u64 {
    world.node(node).server.status().channel_version
}

#[test]
fn every_user_joins_once_and_peers_and_users_hear_of_it() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    let u = world.user("u", "a");
    world.user("v", "a");
    world.take(x);
    world.wait(1_000);
    let frames = world.take(x);
    let added: Vec<_> = frames
        .iter()
        .filter_map(|frame| match &frame.payload {
            Payload::PublicChannelAdd(add) => Some((add.add.clone(), add.if_version)),
            _ => None,
        })
        .collect();
    assert_eq!(added, [(vec![user_id("u"), user_id("v")], Some(0))]);
    assert_eq!(updates(&frames), [2]);
    assert_eq!(updates(&world.take(u.wire)), [2]);
    world.hang_up(u.wire);
    world.user("u", "a");
    world.wait(2_000);
    assert_eq!(version(&world, "a"), 2, "a second visit is no second joining");
}

#[test]
fn members_and_version_outlast_a_restart() {
    let mut world = World::one("a");
    world.user("u", "a");
    world.user("v", "a");
    world.wait(1_000);
    world.crash("a");
    world.start(&["a"]);
    assert_eq!(version(&world, "a"), 2);
    world.user("u", "a");
    assert_eq!(version(&world, "a"), 2);
    world.user("w", "a");
    assert_eq!(version(&world, "a"), 3);
}

#[test]
fn the_higher_version_counts_within_bounds() {
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    let u = world.user("u", "a");
    world.wait(1_000);
    world.take(u.wire);
    let update = |version| {
        Payload::PublicChannelUpdated(ChannelUpdated {
            version,
            wraps: Vec::new(),
        })
    };
    for (said, counted) in [(7, 7), (3, 7), (7, 7), (1 << 53, 7), (u64::MAX, 7), (8, 8)] {
        world.peer_says(x, "x", "*", &update(said));
        assert_eq!(version(&world, "a"), counted, "after {said}");
    }
    world.wait(1_000);
    assert_eq!(updates(&world.take(u.wire)), [8], "told once");
    world.crash("a");
    world.start(&["a"]);
    assert_eq!(version(&world, "a"), 8);
}

#[test]
fn a_copy_reaches_its_member_with_its_authors_envelope_here_and_there() {
    let mut world = World::mesh(&["a", "b"]);
    let u = world.user("u", "a");
    let members = [world.user("v", "a"), world.user("w", "b")];
    for member in members {
        world.take(member.wire);
        let copy = channel_copy("u", member.id, world.now.unix, b"sealed");
        world.say(u, member.id, &copy);
        let frames = world.take(member.wire);
        let [frame] = frames.as_slice() else {
            panic!("{frames:?}");
        };
        assert_eq!(frame.payload, copy);
        assert_eq!(frame.envelope.from, user_id("u"));
        assert_eq!(frame.envelope.to.as_str(), member.id);
        assert_eq!(frame.envelope.ts, BEGIN);
    }
    assert!(of_kind(world.take(u.wire), FrameKind::Error).is_empty());
}

#[test]
fn a_copy_for_all_reaches_every_other_member_once() {
    for to in ["public", "*"] {
        let mut world = World::mesh(&["a", "b", "c"]);
        let u = world.user("u", "a");
        let members = [world.user("v", "a"), world.user("w", "b"), world.user("x", "c")];
        world.wait(5_000);
        let copy = channel_copy("u", to, world.now.unix, b"one for all");
        world.say(u, to, &copy);
        world.say(u, to, &copy);
        for member in members {
            let copies = of_kind(world.take(member.wire), FrameKind::MsgPublicChannel);
            assert_eq!(copies.len(), 1, "{} of {to}", member.id);
        }
        assert!(of_kind(world.take(u.wire), FrameKind::MsgPublicChannel).is_empty());
    }
}

#[test]
fn unknown_fields_go_along_and_each_server_signs_anew() {
    let mut world = World::mesh(&["a", "b"]);
    let u = world.user("u", "a");
    let v = world.user("v", "b");
    world.take(v.wire);
    let mut envelope = unsigned(draft(
        "u",
        "v",
        world.now.unix,
        &channel_copy("u", "v", BEGIN, b"sealed"),
    ));
    // In the envelope, since the content signature of these tests covers the payload.
    envelope.extra.insert("novel".to_owned(), 1.into());
    world.send(u.wire, &envelope);
    let frames = world.take(v.wire);
    let Envelope { extra, sig, .. } = &frames[0].envelope;
    assert_eq!(extra.get("novel"), Some(&1.into()));
    let again = signed(draft("u", "v", BEGIN, &frames[0].payload), "b");
    assert_eq!(*sig, again.sig);
}

#[test]
fn a_key_share_goes_whole_to_every_member_and_their_servers() {
    let mut world = World::mesh(&["a", "b"]);
    let u = world.user("u", "a");
    let members = [world.user("v", "a"), world.user("w", "b"), world.user("x", "b")];
    let outsider = world.user("y", "b");
    let share = |member: &User| ChannelShare {
        member: user_id(member.id),
        wrapped_public_channel_key: Base64Url::encode(b"key"),
    };
    let shares = Payload::PublicChannelKeyShare(ChannelKeyShare {
        shares: members.iter().map(share).collect(),
        creator_pub: key("u"),
        content_sig: Base64Url::encode(&[]),
    });
    world.say(u, "public", &authored("u", "public", BEGIN, shares));
    for member in members {
        let got = of_kind(world.take(member.wire), FrameKind::PublicChannelKeyShare);
        assert_eq!(got.len(), 1, "{}", member.id);
    }
    assert!(of_kind(world.take(outsider.wire), FrameKind::PublicChannelKeyShare).is_empty());
}

fn start(from: &str, to: &str) -> Payload {
    let start = FileStart {
        file_id: "f".to_owned(),
        name: "cat.png".to_owned(),
        size: 0,
        sha256: "0".repeat(64),
        mode: FileMode::Dm,
        sender_pub: Some(key(from)),
        content_sig: None,
    };
    authored(from, to, BEGIN, Payload::FileStart(start))
}

fn end(status: Option<FileStatus>) -> FileEnd {
    FileEnd {
        file_id: "f".to_owned(),
        status,
        detail: None,
        sender_pub: None,
        content_sig: None,
    }
}

#[test]
fn a_file_reaches_its_user_and_the_status_comes_back() {
    let mut world = World::mesh(&["a", "b"]);
    let (u, v) = (world.user("u", "a"), world.user("v", "b"));
    world.take(u.wire);
    world.take(v.wire);
    world.say(u, "v", &start("u", "v"));
    world.say(u, "v", &Payload::FileEnd(end(None)));
    assert_eq!(world.take_kinds(v.wire), [FrameKind::FileStart, FrameKind::FileEnd]);
    let status = Payload::FileEnd(FileEnd {
        sender_pub: Some(key("v")),
        ..end(Some(FileStatus::Received))
    });
    world.say(v, "u", &authored("v", "u", BEGIN, status));
    assert_eq!(world.take_kinds(u.wire), [FrameKind::FileEnd]);
}

#[test]
fn a_status_without_signature_is_refused() {
    let mut world = World::one("a");
    let (u, v) = (world.user("u", "a"), world.user("v", "a"));
    world.take(v.wire);
    world.take(u.wire);
    world.say(u, "v", &Payload::FileEnd(end(Some(FileStatus::Failed))));
    assert_eq!(world.take_errors(u.wire), [ErrorCode::InvalidSig]);
    assert!(world.take(v.wire).is_empty());
}

#[test]
fn a_file_for_nobody_is_told_to_its_author() {
    let mut world = World::one("a");
    let u = world.user("u", "a");
    world.say(u, "v", &start("u", "v"));
    assert_eq!(world.take_errors(u.wire), [ErrorCode::UserNotFound]);
}

#[test]
fn what_found_nobody_may_be_sent_again() {
    let mut world = World::one("a");
    let u = world.user("u", "a");
    let copy = channel_copy("u", "v", BEGIN, b"sealed");
    world.say(u, "v", &copy);
    assert_eq!(world.take_errors(u.wire), [ErrorCode::UserNotFound]);
    let v = world.user("v", "a");
    world.say(u, "v", &copy);
    assert_eq!(of_kind(world.take(v.wire), FrameKind::MsgPublicChannel).len(), 1);
    world.say(u, "v", &copy);
    assert!(of_kind(world.take(v.wire), FrameKind::MsgPublicChannel).is_empty());
}

#[test]
fn a_copy_that_was_delivered_is_not_delivered_again_after_a_restart() {
    let mut world = World::one("a");
    let copy = channel_copy("u", "v", BEGIN, b"sealed");
    for count in [1, 0] {
        let (u, v) = (world.user("u", "a"), world.user("v", "a"));
        world.say(u, "v", &copy);
        assert_eq!(of_kind(world.take(v.wire), FrameKind::MsgPublicChannel).len(), count);
        world.crash("a");
        world.start(&["a"]);
    }
}

#[test]
fn a_peer_brings_only_what_its_own_users_said() {
    let mut world = World::one("a");
    let (x, y) = (world.peer("x", "a"), world.peer("y", "a"));
    let v = world.user("v", "a");
    world.peer_says(y, "y", "*", &advert("u", "y"));
    world.take(x);
    world.take(v.wire);
    let copy = channel_copy("u", "v", BEGIN, b"sealed");
    let frame = |by: &str| signed(draft("u", "v", BEGIN, &copy), by);
    world.send(x, &frame("x"));
    world.send(x, &frame("y"));
    assert!(of_kind(world.take(v.wire), FrameKind::MsgPublicChannel).is_empty());
    world.send(y, &frame("y"));
    assert_eq!(of_kind(world.take(v.wire), FrameKind::MsgPublicChannel).len(), 1);
}

#[test]
fn what_would_be_too_long_with_our_signature_is_refused_and_no_link_is_lost() {
    let mut world = World::mesh(&["a", "b"]);
    let u = world.user("u", "a");
    world.user("v", "b");
    let member = |number: usize| ChannelShare {
        member: user_id(&format!("member-{number:050}")),
        wrapped_public_channel_key: Base64Url::encode(&[7; 64]),
    };
    let shares = Payload::PublicChannelKeyShare(ChannelKeyShare {
        shares: (0..5_530).map(member).collect(),
        creator_pub: key("u"),
        content_sig: Base64Url::encode(&[]),
    });
    let payload = authored("u", "public", BEGIN, shares);
    let text = unsigned(draft("u", "public", BEGIN, &payload)).to_text();
    assert!(text.len() > (1 << 20) - 4096 && text.len() < 1 << 20, "{}", text.len());
    world.take(u.wire);
    world.send_text(u.wire, text);
    // To a program that is not one of ours, `TOO_LARGE` is `UNKNOWN_TYPE`.
    assert_eq!(world.take_errors(u.wire), [ErrorCode::UnknownType]);
    assert_eq!(world.links_between("a", "b").len(), 1);
}
