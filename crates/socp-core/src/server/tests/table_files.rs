//! What bad input gets where files go (SOCP §9.4, PROTOCOL I.2, I.9).

use super::super::*;
use super::table::*;
use super::table_fields::*;
use super::table_frames::*;
use super::world::*;
use socp_proto::limits::CONTENT_AGE_MAX_MS;

const START: Fields = &[
    ("file_id", FileId, Must),
    ("name", FileName, Must),
    ("size", Number, Must),
    ("sha256", Digest, Must),
    ("mode", Mode, Must),
    ("sender_pub", Key, May),
    ("content_sig", Sig, May),
];
const CHUNK: Fields = &[
    ("file_id", FileId, Must),
    ("index", Number, Must),
    ("ciphertext", Ciphertext, Must),
    ("total", Number, May),
    ("sender_pub", Key, May),
    ("content_sig", Sig, May),
];
const END: Fields = &[
    ("file_id", FileId, Must),
    ("status", Status, May),
    ("detail", Detail, May),
    ("sender_pub", Key, May),
    ("content_sig", Sig, May),
];

type Make = fn(&str, &str) -> Payload;

/// The frames of a transfer, and whether their author signs them.
const FRAMES: [(&str, Make, bool); 4] = [
    ("start", file_start, true),
    ("chunk", file_chunk, true),
    ("status", file_status, true),
    ("end", |_, _| file_end(), false),
];

fn sent(make: Make, to: &str) -> Said {
    by_mallory(to, &make("mallory", to))
}

fn brought(make: Make, author: &str, to: &str) -> Said {
    by_x(&make(author, to)).from(author).to(to)
}

#[test]
fn the_fields_of_a_transfer() {
    let mut rows = Vec::new();
    for (name, make, _) in FRAMES {
        let (fields, foreign): (Fields, &[&str]) = match name {
            "start" => (START, &["index"]),
            "chunk" => (CHUNK, &["name", "sha256"]),
            _ => (END, &["index", "name", "ciphertext"]),
        };
        for (by, good) in [
            (By::User, sent(make, "alice")),
            (By::Peer, brought(make, "xena", "alice")),
        ] {
            rows.extend(wrong_fields(by, &good, fields, foreign));
            rows.push(Row::good(by, format!("a good {name}"), &good));
        }
    }
    check(&rows);
}

/// Frames of other programs have no content signature and are taken; what has one must be right.
#[test]
fn a_frame_that_its_author_did_not_write_so() {
    let by = By::User;
    let mut rows = Vec::new();
    for (name, make, is_signed) in FRAMES {
        let good = sent(make, "alice");
        rows.push(Row::good(by, format!("a good {name}"), &good));
        let row = |what: &str, said: Said| Row::bad(by, format!("a {name} {what}"), &said).gets(ErrorCode::InvalidSig);
        rows.push(row("in the name of alice", good.clone().from("alice")));
        rows.push(row(
            "with another's transport signature",
            good.clone().signed_by("alice"),
        ));
        let with_key = |name: &str| good.clone().saying("sender_pub", &quoted(key(name).as_str()));
        rows.push(row("with a new key", with_key("thief")));
        rows.push(row("with alice's key", with_key("alice")));
        rows.push(row(
            "with a content signature of nobody",
            good.clone().saying("content_sig", "\"AAAA\""),
        ));
        if is_signed {
            for (what, said) in [
                ("to another", good.clone().to("bob")),
                ("to everybody", good.clone().to("*")),
                ("at another time", good.clone().at(NOW + 1)),
                ("of another file", good.clone().saying("file_id", "\"g\"")),
                ("with more in it", good.clone().saying("novel", "1")),
            ] {
                rows.push(row(what, said).then(Then::Attacker, &good));
            }
            let bare = good.clone().omitting("content_sig").omitting("sender_pub");
            rows.push(match name {
                // It speaks for its receiver, so nobody else may say it.
                "status" => row("without a signature", bare),
                _ => Row::good(by, format!("a {name} of another program"), &bare),
            });
            rows.push(match name {
                "status" => row("with a key and no signature", good.clone().omitting("content_sig")),
                _ => Row::good(
                    by,
                    format!("a {name} with a key and no signature"),
                    &good.clone().omitting("content_sig"),
                ),
            });
        }
    }
    check(&rows);
}

#[test]
fn a_transfer_to_nobody() {
    let mut rows = Vec::new();
    for (name, make, _) in FRAMES {
        rows.push(Row::good(By::User, format!("a {name} to alice"), &sent(make, "alice")));
        for to in ["eve", "carol", "a", "b", "x", "a:1"] {
            let row = Row::bad(By::User, format!("a {name} to {to}"), &sent(make, to));
            rows.push(row.gets(ErrorCode::UserNotFound));
            let row = Row::bad(
                By::Peer,
                format!("a {name} to {to}, brought"),
                &brought(make, "xena", to),
            );
            rows.push(row.gets(ErrorCode::UserNotFound));
        }
        let row = Row::bad(
            By::Peer,
            format!("a {name} to x's own user"),
            &brought(make, "xena", "xena"),
        );
        rows.push(row.gets(ErrorCode::UserNotFound));
        let address = "h".repeat(200);
        let row = Row::bad(By::User, format!("a {name} to no user's id"), &sent(make, &address));
        rows.push(row.gets(ErrorCode::UnknownType));
    }
    check(&rows);
}

#[test]
fn a_server_speaks_for_the_authors_at_it_and_for_no_others() {
    let by = By::Peer;
    let mut rows = Vec::new();
    for (name, make, is_signed) in FRAMES {
        let good = brought(make, "xena", "alice");
        rows.push(Row::good(by, format!("a {name} of xena"), &good));
        // Whose server is not linked may be behind any peer: a ring has two ways around.
        let zeds = brought(make, "zed", "alice");
        rows.push(Row::good(by, format!("a {name} of zed"), &zeds));
        for author in ["alice", "bob", "carol", "wendy", "mallory", "eve", "x", "a", "b"] {
            rows.push(Row::bad(
                by,
                format!("a {name} of {author}"),
                &brought(make, author, "alice"),
            ));
            rows.push(Row::bad(
                by,
                format!("a {name} of {author} for all"),
                &brought(make, author, "*"),
            ));
        }
        let row = |what: &str, said: Said| Row::bad(by, format!("a {name} {what}"), &said);
        for (what, said) in [
            ("unsigned", good.clone().unsigned()),
            ("signed by its author", good.clone().signed_by("xena")),
            ("signed by w", good.clone().signed_by("w")),
        ] {
            rows.push(row(what, said).gets(ErrorCode::InvalidSig).then(Then::Attacker, &good));
        }
        let thief = good.clone().saying("sender_pub", &quoted(key("thief").as_str()));
        let thief = row("with another key", thief).then(Then::Attacker, &good);
        // Where there is no signature, there is nothing by which an answer could name the frame.
        rows.push(if is_signed {
            thief.gets(ErrorCode::InvalidSig)
        } else {
            thief
        });
        rows.push(row("twice", good.clone()).given(&good));
        if is_signed {
            rows.push(row("at another time", good.clone().at(NOW - 1)).given(&good));
            rows.push(row("to another", good.clone().to("wendy")).given(&good));
            rows.push(row("with more in it", good.clone().saying("novel", "1")).given(&good));
        }
        let old = good.at(NOW - CONTENT_AGE_MAX_MS - 1);
        rows.push(row("that is old", old).gets(ErrorCode::Timeout));
    }
    check(&rows);
}

/// The signature leaves the type out: a payload of one kind under the type of another.
#[test]
fn a_frame_under_another_type() {
    let mut rows = Vec::new();
    for (name, make, _) in FRAMES {
        let (sent, brought) = (sent(make, "alice"), brought(make, "xena", "alice"));
        rows.push(Row::good(By::User, format!("a good {name}"), &sent));
        let own = make("mallory", "alice").kind();
        for kind in [
            FrameKind::FileStart,
            FrameKind::FileChunk,
            FrameKind::FileEnd,
            FrameKind::MsgPublicChannel,
            FrameKind::PublicChannelKeyShare,
            FrameKind::MsgDirect,
            FrameKind::ServerDeliver,
            FrameKind::UserDeliver,
        ] {
            // The author's end of a transfer says no more than every frame of it does.
            if kind != own {
                for (by, said) in [(By::User, &sent), (By::Peer, &brought)] {
                    let row = Row::bad(by, format!("a {name} as {}", kind.name()), &said.clone().kind(kind));
                    rows.push(refused_as_no_frame(row, by));
                }
            }
        }
    }
    check(&rows);
}

#[test]
fn a_frame_that_found_nobody_may_be_sent_again() {
    for (name, make, _) in FRAMES {
        let mut world = World::mesh(&["a", "b"]);
        let author = world.user("mallory", "a");
        world.take(author.wire);
        let text = sent(make, "alice").text();
        for _ in 0..2 {
            world.send_text(author.wire, text.clone());
            assert_eq!(world.take_errors(author.wire), [ErrorCode::UserNotFound], "{name}");
        }
        let alice = world.user("alice", "b");
        world.take(alice.wire);
        world.send_text(author.wire, text.clone());
        world.send_text(author.wire, text);
        assert_eq!(
            world.take_kinds(alice.wire).len(),
            1,
            "{name}: once, now that there is somebody"
        );
    }
}
