//! What bad input gets in the public channel (SOCP §9.3, §15, PROTOCOL I.2, I.8).

use super::super::*;
use super::table::*;
use super::table_fields::*;
use super::table_frames::*;
use super::world::*;
use socp_proto::limits::{CHANNEL_VERSION_MAX, CHANNEL_VERSION_STEP_MAX, CONTENT_AGE_MAX_MS, FRAME_BYTES_MAX};

const MESSAGE: Fields = &[
    ("ciphertext", Ciphertext, Must),
    ("sender_pub", Key, Must),
    ("content_sig", Sig, Must),
    ("group_id", Text, May),
];
const MESSAGE_FOREIGN: &[&str] = &["file_id", "user_id"];
const SHARE: Fields = &[
    ("shares", Shares, Must),
    ("creator_pub", Key, Must),
    ("content_sig", Sig, Must),
];

/// A copy that `mallory` sends.
fn copy(to: &str) -> Said {
    copy_at(to, NOW)
}

fn copy_at(to: &str, ts: u64) -> Said {
    by_mallory(to, &channel_copy("mallory", to, ts, b"sealed")).at(ts)
}

/// A copy of a user's that `x` brings.
fn brought(author: &str, to: &str) -> Said {
    by_x(&channel_copy(author, to, NOW, b"sealed")).from(author).to(to)
}

fn share(members: &[&str]) -> Said {
    by_mallory("public", &key_share("mallory", members))
}

fn share_brought(author: &str, members: &[&str]) -> Said {
    by_x(&key_share(author, members)).from(author).to("public")
}

#[test]
fn the_fields_of_channel_frames() {
    let mut rows = Vec::new();
    for (by, copy, share) in [
        (By::User, copy("alice"), share(&["alice"])),
        (By::Peer, brought("xena", "alice"), share_brought("xena", &["alice"])),
    ] {
        rows.extend(wrong_fields(by, &copy, MESSAGE, MESSAGE_FOREIGN));
        rows.extend(wrong_fields(by, &share, SHARE, &[]));
        rows.push(Row::good(by, "a good copy", &copy));
        rows.push(Row::good(by, "a good share", &share));
    }
    let (add, updated) = (by_x(&channel_add("eve")), by_x(&updated(1_000)));
    rows.extend(wrong_fields(
        By::Peer,
        &add,
        &[("add", Ids, Must), ("if_version", Number, May)],
        &[],
    ));
    let fields: Fields = &[("version", Number, Must), ("wraps", List, May)];
    rows.extend(wrong_fields(By::Peer, &updated, fields, &["shares", "add"]));
    rows.push(Row::good(By::Peer, "a good version", &updated));
    check(&rows);
}

#[test]
fn a_copy_that_its_author_did_not_write_so() {
    let by = By::User;
    let mut rows = Vec::new();
    for (name, good) in [
        ("copy", copy("alice")),
        ("copy for all", copy("*")),
        ("share", share(&["alice"])),
    ] {
        rows.push(Row::good(by, format!("a good {name}"), &good));
        let key_field = if name == "share" { "creator_pub" } else { "sender_pub" };
        for (what, said) in [
            (
                "with an empty content signature",
                good.clone().saying("content_sig", "\"\""),
            ),
            (
                "with another content signature",
                good.clone().saying("content_sig", "\"AAAA\""),
            ),
            ("at another time", good.clone().at(NOW + 1)),
            (
                "with a new key",
                good.clone().saying(key_field, &quoted(key("thief").as_str())),
            ),
            (
                "with alice's key",
                good.clone().saying(key_field, &quoted(key("alice").as_str())),
            ),
            ("in the name of alice", good.clone().from("alice")),
            ("with another's transport signature", good.clone().signed_by("alice")),
        ] {
            let row = Row::bad(by, format!("a {name} {what}"), &said).gets(ErrorCode::InvalidSig);
            rows.push(row.then(Then::Attacker, &good));
        }
        let ts = NOW - CONTENT_AGE_MAX_MS - 1;
        let old = if name == "copy" {
            Some(copy_at("alice", ts))
        } else {
            None
        };
        rows.extend(old.map(|old| Row::bad(by, format!("an old {name}"), &old).gets(ErrorCode::Timeout)));
    }
    let alices = channel_copy("alice", "*", NOW, b"sealed");
    let row = Row::bad(
        by,
        "what alice wrote, in her name",
        &by_mallory("*", &alices).from("alice"),
    );
    rows.push(row.gets(ErrorCode::InvalidSig));
    let row = Row::bad(by, "what alice wrote", &by_mallory("*", &alices));
    rows.push(row.gets(ErrorCode::InvalidSig));
    let row = Row::bad(
        by,
        "a share by another creator",
        &by_mallory("public", &key_share("alice", &["bob"])),
    );
    rows.push(row.gets(ErrorCode::InvalidSig));
    check(&rows);
}

#[test]
fn channel_frames_for_nobody() {
    let by = By::User;
    let mut rows = vec![Row::good(by, "for alice", &copy("alice"))];
    for to in ["eve", "carol", "a", "b", "x", "a:1"] {
        rows.push(Row::bad(by, format!("a copy to {to}"), &copy(to)).gets(ErrorCode::UserNotFound));
        let said = brought("xena", to);
        rows.push(Row::bad(By::Peer, format!("a copy to {to}, brought"), &said).gets(ErrorCode::UserNotFound));
    }
    let row = Row::bad(By::Peer, "a copy to x's own user", &brought("xena", "xena"));
    rows.push(row.gets(ErrorCode::UserNotFound));
    for members in [&[][..], &["eve"], &["mallory"], &["a", "b", "public"]] {
        rows.push(Row::bad(by, format!("keys for {members:?}"), &share(members)));
    }
    for members in [&[][..], &["eve"], &["xena"], &["a", "b", "public"]] {
        rows.push(Row::bad(
            By::Peer,
            format!("keys for {members:?}, brought"),
            &share_brought("xena", members),
        ));
    }
    let crowd: Vec<String> = (0..5_000).map(|n| format!("nobody-{n}")).collect();
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    rows.push(Row::bad(by, "keys for a crowd that is not there", &share(&crowd)));
    let address = by_mallory(
        &"h".repeat(200),
        &channel_copy("mallory", &"h".repeat(200), NOW, b"sealed"),
    );
    rows.push(Row::bad(by, "a copy to no user's id", &address).gets(ErrorCode::UnknownType));
    check(&rows);
}

#[test]
fn a_server_speaks_for_the_authors_at_it_and_for_no_others() {
    let by = By::Peer;
    let mut rows = Vec::new();
    type Bring = fn(&str) -> Said;
    let kinds: [(&str, Bring); 3] = [
        ("a copy", |author| brought(author, "alice")),
        ("a copy for all", |author| brought(author, "*")),
        ("a share", |author| share_brought(author, &["alice", "wendy"])),
    ];
    for (name, bring) in kinds {
        rows.push(Row::good(by, format!("{name} of xena"), &bring("xena")));
        // Whose server is not linked may be behind any peer: a ring has two ways around.
        rows.push(Row::good(by, format!("{name} of zed"), &bring("zed")));
        for author in [
            "alice", "bob", "carol", "wendy", "mallory", "eve", "x", "a", "b", "public",
        ] {
            rows.push(Row::bad(by, format!("{name} of {author}"), &bring(author)));
        }
        let good = bring("xena");
        let key_field = if name == "a share" { "creator_pub" } else { "sender_pub" };
        let thief = good.clone().saying(key_field, &quoted(key("thief").as_str()));
        for (what, said) in [
            ("unsigned", good.clone().unsigned()),
            ("signed by its author", good.clone().signed_by("xena")),
            ("signed by w", good.clone().signed_by("w")),
            ("with another key", thief),
        ] {
            let row = Row::bad(by, format!("{name} {what}"), &said).gets(ErrorCode::InvalidSig);
            rows.push(row.then(Then::Attacker, &good));
        }
        rows.push(Row::bad(by, format!("{name} twice"), &good).given(&good));
        rows.push(Row::bad(by, format!("{name} at another time"), &good.clone().at(NOW - 1)).given(&good));
        rows.push(
            Row::bad(
                by,
                format!("{name} with more in it"),
                &good.clone().saying("novel", "1"),
            )
            .given(&good),
        );
        let old = good.at(NOW - CONTENT_AGE_MAX_MS - 1);
        rows.push(Row::bad(by, format!("{name}, old"), &old).gets(ErrorCode::Timeout));
    }
    check(&rows);
}

/// Whoever heard a message first must not be able to keep it from others by saying something under its signature.
#[test]
fn a_borrowed_signature_does_not_keep_the_true_message_out() {
    let by = By::Peer;
    let wendys = channel_copy("wendy", "*", NOW, b"to all");
    let Payload::MsgPublicChannel(true_one) = &wendys else {
        panic!("no channel message");
    };
    let borrowed = quoted(true_one.content_sig.as_str());
    let true_one = Said::new("wendy", "*", &wendys).signed_by("w");
    let rows = [
        // Its author is at x, so it is taken, and known for what it is by whoever reads it.
        Row::good(
            by,
            "under a signature of wendy's",
            &brought("xena", "alice").saying("content_sig", &borrowed),
        ),
        Row::bad(
            by,
            "in wendy's name",
            &brought("wendy", "alice").saying("content_sig", &borrowed),
        )
        .then(Then::Witness, &true_one),
    ];
    check(&rows);
    for to in ["*", "alice"] {
        borrow_ahead(to);
    }
}

/// `x` has a signature of wendy's before `a` has what it is for, and uses it in every way.
fn borrow_ahead(to: &str) {
    let wendys = channel_copy("wendy", to, NOW, b"to all");
    let Payload::MsgPublicChannel(true_one) = &wendys else {
        panic!("no channel message");
    };
    let borrowed = quoted(true_one.content_sig.as_str());
    let true_one = Said::new("wendy", to, &wendys).signed_by("w");
    let mut world = World::one("a");
    let (x, w) = (world.peer("x", "a"), world.peer("w", "a"));
    let alice = world.user("alice", "a");
    world.peer_says(x, "x", "*", &advert("xena", "x"));
    world.peer_says(w, "w", "*", &advert("wendy", "w"));
    world.wait(4_000);
    let deliver = server_deliver("xena", "alice", NOW, b"sealed");
    for said in [
        brought("xena", "alice").saying("content_sig", &borrowed),
        brought("xena", "*").saying("content_sig", &borrowed),
        file_chunk_under(&borrowed),
        by_x(&Payload::ServerDeliver(deliver))
            .to("a")
            .saying("content_sig", &borrowed),
    ] {
        world.send_text(x, said.text());
    }
    world.take(alice.wire);
    world.send_text(w, true_one.text());
    let kinds = world.take_kinds(alice.wire);
    assert_eq!(kinds, [FrameKind::MsgPublicChannel], "the true message to {to} is lost");
}

fn file_chunk_under(sig: &str) -> Said {
    let chunk = by_x(&file_chunk("xena", "alice")).from("xena").to("alice");
    chunk.saying("content_sig", sig)
}

#[test]
fn versions_of_the_channel() {
    let by = By::Peer;
    let mut rows = vec![
        Row::good(by, "a higher version", &by_x(&updated(1_000))),
        Row::good(by, "a much higher version", &by_x(&updated(CHANNEL_VERSION_STEP_MAX))),
    ];
    // Nobody uses the versions up in one step.
    for version in [
        0,
        1,
        CHANNEL_VERSION_STEP_MAX + 10,
        CHANNEL_VERSION_MAX,
        CHANNEL_VERSION_MAX + 1,
        u64::MAX,
    ] {
        rows.push(Row::bad(by, format!("version {version}"), &by_x(&updated(version))));
    }
    rows.push(Row::bad(by, "a lower one", &by_x(&updated(999))).given(&by_x(&updated(1_000))));
    rows.push(Row::bad(by, "the same again", &by_x(&updated(1_000))).given(&by_x(&updated(1_000))));
    for user in ["eve", "alice", "bob", "carol", "xena", "a"] {
        rows.push(Row::bad(by, format!("{user} is added"), &by_x(&channel_add(user))));
    }
    for payload in [updated(1_000), channel_add("eve")] {
        let said = by_x(&payload);
        let row = |what: &str, said: Said| Row::bad(by, format!("{what}: {payload:?}"), &said);
        rows.push(row("unsigned", said.clone().unsigned()).gets(ErrorCode::InvalidSig));
        rows.push(row("signed by another", said.clone().signed_by("thief")).gets(ErrorCode::InvalidSig));
        for server in ["b", "w", "z"] {
            let row = row(
                &format!("said by {server}"),
                said.clone().from(server).signed_by(server),
            );
            rows.push(row.gets(ErrorCode::InvalidSig));
        }
        rows.push(row("in b's name", said.clone().from("b")));
        let row = Row::bad(By::User, format!("of a user: {payload:?}"), &by_mallory("*", &payload));
        rows.push(row.gets(ErrorCode::UnknownType));
    }
    let rows: Vec<Row> = rows.into_iter().collect();
    check(&rows);
}

/// With our signature the frame must still be short enough for whoever it goes to, or it would cost them their links.
#[test]
fn a_frame_that_would_grow_too_long() {
    let filled = |said: Said, in_payload: bool| {
        let with = |filler: &str| {
            let said = said.clone();
            if in_payload {
                said.saying("novel", filler)
            } else {
                said.with("novel", filler)
            }
        };
        let room = FRAME_BYTES_MAX - with(&long(0)).text().len();
        let full = with(&long(room));
        assert_eq!(full.text().len(), FRAME_BYTES_MAX, "as long as a frame may be");
        full
    };
    let authored_with = |in_payload: bool| {
        if !in_payload {
            return filled(copy("*"), false);
        }
        // Its author signs the filler too.
        let mut said = filled(copy("*"), true);
        let text = said.text();
        let frame = Frame::parse(&text).unwrap();
        let mut payload = frame.envelope.payload.clone();
        payload.remove("content_sig");
        let covered = format!("mallory*{NOW}{}", socp_proto::utf8_form(&payload));
        let sig = socp_proto::Base64Url::encode(&toy_sig(&key("mallory"), &covered));
        said = said.saying("content_sig", &quoted(sig.as_str()));
        assert_eq!(said.text().len(), FRAME_BYTES_MAX);
        said
    };
    let rows = [
        Row::good(By::User, "a short one", &copy("*")),
        Row::bad(By::User, "a long payload", &authored_with(true)).gets(ErrorCode::TooLarge),
        Row::bad(By::User, "a long envelope", &authored_with(false)).gets(ErrorCode::TooLarge),
        Row::bad(By::Peer, "a long payload, brought", &filled(brought("xena", "*"), true)).gets(ErrorCode::TooLarge),
        Row::bad(
            By::Peer,
            "a long envelope, brought",
            &filled(brought("xena", "*"), false),
        )
        .gets(ErrorCode::TooLarge),
    ];
    check(&rows);
}
