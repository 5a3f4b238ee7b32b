//! What bad input gets from users: hello, list, keys, and everything that is not theirs to say (SOCP §9.1, §13, §14,
//! PROTOCOL I.3, I.6).

use super::super::*;
use super::table::*;
use super::table_fields::*;
use super::table_frames::*;
use super::world::*;
use socp_proto::limits::HELLO_AGE_MAX_MS;
use socp_proto::payload::{CtrlClose, ListRequest, PubkeyRequest, UserHello};

const HELLO: Fields = &[
    ("client", Text, Must),
    ("pubkey", Key, Must),
    ("enc_pubkey", Key, May),
    ("caps", Caps, May),
    ("meta", Meta, May),
    ("server_id", Id, May),
    ("ts", Number, May),
];

/// A hello that proves who speaks.
fn hello(user: &'static str) -> Said {
    let hello = UserHello {
        server_id: Some(server_id("a")),
        ts: Some(NOW),
        ..plain_hello(user)
    };
    Said::new(user, "*", &Payload::UserHello(hello)).signed_by(user)
}

fn with_key(said: Said, name: &'static str) -> Said {
    said.saying("pubkey", &quoted(key(name).as_str())).signed_by(name)
}

fn signed_only(config: &mut Config) {
    config.accept = Accept::Signed;
}

#[test]
fn the_fields_of_a_hello() {
    let mut rows = wrong_fields(By::Newcomer, &hello("eve"), HELLO, &[]);
    rows.extend(wrong_envelope(By::Newcomer, &hello("eve")));
    rows.push(Row::good(By::Newcomer, "a good one", &hello("eve")));
    check(&rows);
}

#[test]
fn who_may_not_say_hello() {
    let by = By::Newcomer;
    let mut rows = Vec::new();
    type Setting = (&'static str, fn(&mut Config));
    let settings: [Setting; 2] = [("open", |_| {}), ("signed", signed_only)];
    for (setting, config) in settings {
        let row = |what: &str, said: &Said| Row::bad(by, format!("{setting}: {what}"), said).with(setting, config);
        let good = Row::good(by, format!("{setting}: eve"), &hello("eve"));
        rows.push(good.with(setting, config));
        for id in ["a", "b", "w", "x", "z"] {
            let said = with_key(hello("eve").from(id), "eve");
            rows.push(row(&format!("a server's id {id}"), &said).gets(ErrorCode::NameInUse));
        }
        for id in ["alice", "bob", "carol", "wendy", "zed", "xena", "mallory"] {
            let said = with_key(hello("eve").from(id), "thief");
            rows.push(row(&format!("{id} with another key"), &said).gets(ErrorCode::BadKey));
        }
        for id in ["alice", "carol"] {
            let said = with_key(hello("eve").from(id), id).saying("enc_pubkey", &quoted(key("thief").as_str()));
            rows.push(row(&format!("{id} with another encryption key"), &said).gets(ErrorCode::BadKey));
        }
        let wrong = hello("eve").signed_by("thief");
        rows.push(
            row("signed by another", &wrong)
                .gets(ErrorCode::InvalidSig)
                .closed(1002),
        );
    }
    check(&rows);
}

/// Hellos that prove nothing: somebody who is there keeps the id, and a server that wants proof lets nobody in.
#[test]
fn a_hello_without_proof() {
    let by = By::Newcomer;
    let unproven = |user: &'static str| {
        let hello = || hello(user);
        [
            ("unsigned", hello().unsigned()),
            ("for another server", hello().saying("server_id", "\"b\"")),
            ("for no server", hello().omitting("server_id")),
            ("of no time", hello().omitting("ts")),
            (
                "too old",
                hello().saying("ts", &(NOW - HELLO_AGE_MAX_MS - 1).to_string()),
            ),
            (
                "too new",
                hello().saying("ts", &(NOW + HELLO_AGE_MAX_MS + 1).to_string()),
            ),
            ("at the beginning of time", hello().saying("ts", "0")),
            ("at the end of time", hello().saying("ts", &u64::MAX.to_string())),
        ]
    };
    let mut rows = vec![Row::good(by, "another session of alice", &hello("alice"))];
    for (what, said) in unproven("alice") {
        let row = Row::bad(by, format!("alice, {what}"), &said);
        rows.push(row.gets(ErrorCode::NameInUse));
    }
    for user in ["alice", "carol", "eve"] {
        for (what, said) in unproven(user) {
            let row = Row::bad(by, format!("{user}, {what}"), &said).with("signed", signed_only);
            rows.push(row.gets(ErrorCode::InvalidSig));
        }
    }
    let used = UserHello {
        server_id: Some(server_id("a")),
        ts: Some(BEGIN),
        caps: Some(socp_proto::Capabilities::default()),
        meta: Some(socp_proto::Meta::default()),
        ..plain_hello("alice")
    };
    let used = Said::new("alice", "*", &Payload::UserHello(used)).signed_by("alice");
    rows.push(Row::bad(by, "alice's own, once more", &used).gets(ErrorCode::NameInUse));
    let row = Row::bad(by, "alice's own, in another envelope", &used.clone().at(NOW).to("a"));
    rows.push(row.gets(ErrorCode::NameInUse));
    let row = Row::bad(by, "alice's own, where proof is wanted", &used).with("signed", signed_only);
    rows.push(row.gets(ErrorCode::InvalidSig));
    check(&rows);
}

#[test]
fn the_third_refused_hello() {
    let thief = with_key(hello("eve").from("alice"), "thief").text();
    let refused = |count: usize| {
        let row = Row::texts(
            By::Newcomer,
            format!("{count} refused hellos"),
            vec![thief.clone(); count],
        );
        (0..count.min(3)).fold(row, |row, _| row.gets(ErrorCode::BadKey))
    };
    let rows = [
        Row::good(By::Newcomer, "eve", &hello("eve")),
        refused(1),
        refused(2),
        refused(3).closed(1008),
        refused(7).closed(1008),
        Row::texts(
            By::Newcomer,
            "a good hello behind three refused",
            [vec![thief.clone(); 3], vec![hello("eve").text()]].concat(),
        )
        .gets(ErrorCode::BadKey)
        .gets(ErrorCode::BadKey)
        .gets(ErrorCode::BadKey)
        .closed(1008),
    ];
    check(&rows);
}

fn list() -> Said {
    by_mallory("a", &Payload::ListRequest(ListRequest::default()))
}

fn ask() -> Said {
    by_mallory(
        "a",
        &Payload::PubkeyRequest(PubkeyRequest {
            user_id: user_id("alice"),
        }),
    )
}

fn farewell() -> Said {
    by_mallory("a", &Payload::CtrlClose(CtrlClose {}))
}

fn message() -> Said {
    by_mallory("alice", &Payload::MsgDirect(direct("mallory", "alice", NOW, b"sealed")))
}

#[test]
fn requests_of_a_user() {
    let by = By::User;
    let mut rows = wrong_fields(by, &list(), &[("after", Id, May), ("limit", Number, May)], &[]);
    rows.extend(wrong_fields(by, &ask(), &[("user_id", Id, Must)], &[]));
    rows.extend(wrong_fields(
        by,
        &farewell(),
        &[],
        &["user_id", "ciphertext", "pubkey", "code"],
    ));
    rows.extend(wrong_envelope(by, &ask()));
    rows.push(Row::good(by, "a message", &message()));
    rows.push(Row::bad(by, "a list", &list()).gets_frame(FrameKind::ListResponse));
    rows.push(Row::bad(by, "a key", &ask()).gets_frame(FrameKind::PubkeyResponse));
    for (field, json) in [("limit", "0"), ("limit", "18446744073709551615"), ("after", "\"zzz\"")] {
        let said = list().saying(field, json);
        rows.push(Row::bad(by, format!("a list with {field} {json}"), &said).gets_frame(FrameKind::ListResponse));
    }
    for id in ["eve", "a", "b", "public", "*"] {
        let said = ask().saying("user_id", &quoted(id));
        rows.push(Row::bad(by, format!("the key of {id}"), &said).gets_frame(FrameKind::PubkeyResponse));
    }
    for (kind, said) in [
        ("list", list()),
        ("key", ask()),
        ("farewell", farewell()),
        ("message", message()),
    ] {
        for from in ["alice", "carol", "bob", "a", "b", "x", "nobody"] {
            let said = said.clone().from(from);
            let row = Row::bad(by, format!("{kind} in the name of {from}"), &said);
            rows.push(row.gets(ErrorCode::InvalidSig));
            let said = said.signed_by("mallory");
            let row = Row::bad(by, format!("{kind} in the name of {from}, signed"), &said);
            rows.push(row.gets(ErrorCode::InvalidSig));
        }
        let row = Row::bad(
            by,
            format!("{kind} signed by another"),
            &said.clone().signed_by("thief"),
        );
        rows.push(row.gets(ErrorCode::InvalidSig));
        let row = Row::bad(by, format!("{kind} signed by alice"), &said.clone().signed_by("alice"));
        rows.push(row.gets(ErrorCode::InvalidSig));
    }
    check(&rows);
}

/// What users may say: everything else is a server's.
const OF_USERS: &[FrameKind] = &[
    FrameKind::ListRequest,
    FrameKind::PubkeyRequest,
    FrameKind::KeyUpdate,
    FrameKind::AccountDelete,
    FrameKind::CtrlClose,
    FrameKind::MsgDirect,
    FrameKind::MsgPublicChannel,
    FrameKind::PublicChannelKeyShare,
    FrameKind::FileStart,
    FrameKind::FileChunk,
    FrameKind::FileEnd,
    FrameKind::Heartbeat,
    FrameKind::Error,
    FrameKind::Ack,
];
/// What servers may say to servers after their first frame.
const OF_SERVERS: &[FrameKind] = &[
    FrameKind::ServerAnnounce,
    FrameKind::ServerHelloLink,
    FrameKind::UserAdvertise,
    FrameKind::UserRemove,
    FrameKind::ServerDeliver,
    FrameKind::Heartbeat,
    FrameKind::CtrlClose,
    FrameKind::MsgPublicChannel,
    FrameKind::PublicChannelAdd,
    FrameKind::PublicChannelUpdated,
    FrameKind::PublicChannelKeyShare,
    FrameKind::FileStart,
    FrameKind::FileChunk,
    FrameKind::FileEnd,
    FrameKind::Error,
    FrameKind::Ack,
];

#[test]
fn frames_in_the_wrong_direction() {
    let mut rows = vec![
        Row::good(By::User, "a message", &message()),
        Row::good(By::Peer, "gossip", &by_x(&advert("eve", "x"))),
    ];
    for (by, who, theirs) in [(By::User, "mallory", OF_USERS), (By::Peer, "x", OF_SERVERS)] {
        for (kind, said) in every_kind(who).into_iter().filter(|(kind, _)| !theirs.contains(kind)) {
            let row = Row::bad(by, format!("{} of {who}", kind.name()), &said.clone().signed_by(who));
            rows.push(row.gets(ErrorCode::UnknownType));
            let unsigned = Row::bad(by, format!("{} of {who}, unsigned", kind.name()), &said.unsigned());
            rows.push(match by {
                By::User => unsigned.gets(ErrorCode::UnknownType),
                By::Peer | By::Newcomer | By::Dialled => unsigned.gets(ErrorCode::InvalidSig),
            });
        }
    }
    check(&rows);
}

/// The role of a link is decided by its first frame for good.
#[test]
fn frames_for_another_role() {
    let mut rows = vec![Row::good(By::Peer, "gossip", &by_x(&advert("eve", "x")))];
    let identity = Payload::ServerAnnounce(identity("x"));
    for user in ["mallory", "alice", "eve"] {
        let row = Row::bad(
            By::User,
            format!("mallory says hello as {user}"),
            &hello(user).signed_by("mallory"),
        );
        let code = if user == "mallory" {
            ErrorCode::UnknownType
        } else {
            ErrorCode::InvalidSig
        };
        rows.push(row.gets(code));
        let row = Row::bad(By::Peer, format!("x says hello as {user}"), &hello(user));
        rows.push(row);
    }
    let row = Row::bad(By::Peer, "x says hello as a user x", &hello("x"));
    rows.push(row.gets(ErrorCode::UnknownType));
    for kind in [
        FrameKind::ServerAnnounce,
        FrameKind::ServerHelloLink,
        FrameKind::ServerHelloJoin,
    ] {
        let said = by_mallory("*", &identity).kind(kind);
        let row = Row::bad(
            By::User,
            format!("{} of mallory", kind.name()),
            &said.clone().signed_by("mallory"),
        );
        rows.push(row.gets(ErrorCode::UnknownType));
        let row = Row::bad(
            By::User,
            format!("{} of x on mallory's link", kind.name()),
            &said.from("x").signed_by("x"),
        );
        rows.push(row.gets(ErrorCode::InvalidSig));
    }
    let row = Row::bad(
        By::Peer,
        "x joins again",
        &by_x(&Payload::ServerHelloJoin(super::world::identity("x"))),
    );
    rows.push(row.gets(ErrorCode::UnknownType));
    check(&rows);
}

#[test]
fn frames_behind_a_farewell() {
    let mut rows = vec![Row::good(By::User, "a message", &message())];
    for (by, who, said) in [
        (By::User, "mallory", farewell()),
        (By::Peer, "x", by_x(&Payload::CtrlClose(CtrlClose {}))),
    ] {
        rows.push(Row::bad(by, format!("{who} closes"), &said).closed(1000));
        for (kind, behind) in every_kind(who) {
            let texts = vec![said.text(), behind.signed_by(who).text(), "{".to_owned()];
            rows.push(Row::texts(by, format!("{} behind {who}'s farewell", kind.name()), texts).closed(1000));
        }
    }
    check(&rows);
}

#[test]
fn a_server_that_takes_no_users() {
    let mut world = World::empty();
    let mut config = config("a");
    config.takes_users = false;
    world.add(config, "a");
    let wire = world.connect("a");
    world.send_text(wire, hello("eve").text());
    assert_eq!(world.take_errors(wire), [ErrorCode::UnknownType]);
    assert_eq!(world.closed(wire), Some(1002));
    assert!(world.node("a").users.is_empty());
    world.peer("x", "a");
    assert_eq!(world.node("a").server.status().peers, 1);
}
