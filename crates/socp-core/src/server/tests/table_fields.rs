//! Every way in which a field can be wrong, as rows of a table: missing, of another type, empty, too long, of another
//! kind of payload.

use super::super::*;
use super::table::*;
use socp_proto::limits::*;

/// What a field holds, and so what it cannot hold.
#[derive(Debug, Clone, Copy)]
pub(super) enum Holds {
    Id,
    Ids,
    Key,
    Sig,
    Ciphertext,
    Bytes,
    Text,
    Port,
    Number,
    Host,
    Caps,
    Meta,
    FileId,
    FileName,
    Digest,
    Mode,
    Status,
    Detail,
    Shares,
    List,
}

/// Whether a payload can do without a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Must,
    May,
}

pub(super) use Holds::*;
pub(super) use Need::*;

/// A text of so many characters, as JSON.
pub(super) fn long(count: usize) -> String {
    quoted(&"A".repeat(count))
}

impl Holds {
    /// JSON that such a field must not hold; never `null`, which stands for absent.
    fn bad_values(self) -> Vec<String> {
        let texts = |bad: &[&str]| bad.iter().map(|text| quoted(text)).collect::<Vec<_>>();
        let raw = |bad: &[&str]| bad.iter().map(|json| (*json).to_owned()).collect::<Vec<_>>();
        let no_text = || raw(&["7", "true", "[]", "{}"]);
        let no_number = || raw(&["-1", "\"1\"", "true", "[]", "{}", "1.5", "1e3", "18446744073709551616"]);
        let no_list = || raw(&["7", "true", "{}", "\"x\"", "[7]", "[[]]"]);
        let (sig_chars, cipher_chars) = (SIGNATURE_BYTES_MAX * 4 / 3 + 4, DIRECT_CIPHERTEXT_BYTES_MAX * 4 / 3 + 4);
        let (others, own) = match self {
            Self::Id => (
                no_text(),
                [texts(&["", "a b", "é", "\\u0000", "a\\n"]), vec![long(65)]].concat(),
            ),
            Self::Ids => (
                no_list(),
                raw(&["[\"\"]", "[\"a b\"]", "[\"ok\",null]", "[{\"user_id\":\"u\"}]"]),
            ),
            Self::Key => (
                no_text(),
                [texts(&["", "=", "AAA=", "A+/A", "A", "é"]), vec![long(2052)]].concat(),
            ),
            Self::Sig => (
                no_text(),
                [texts(&["=", "AAA=", "A+/A", "A", "é"]), vec![long(sig_chars)]].concat(),
            ),
            Self::Ciphertext => (
                no_text(),
                [texts(&["=", "AAA=", "A+/A", "A", "é"]), vec![long(cipher_chars)]].concat(),
            ),
            Self::Bytes => (no_text(), texts(&["=", "AAA=", "A+/A", "A", "é"])),
            Self::Text => (no_text(), Vec::new()),
            Self::Port => (no_number(), raw(&["65536"])),
            Self::Number => (no_number(), Vec::new()),
            Self::Host => (no_text(), [texts(&["a b", "é", "a\\n"]), vec![long(254)]].concat()),
            Self::Caps => (
                no_list(),
                raw(&["[\"proof\"]", "[\"/1\"]", "[\"a b/1\"]", &many("\"c/1\"", 33)]),
            ),
            Self::Meta => (raw(&["7", "true", "[]", "\"x\""]), bad_profiles()),
            Self::FileId => (no_text(), [texts(&["", "a b", "é"]), vec![long(65)]].concat()),
            Self::FileName => (no_text(), [texts(&[""]), vec![long(256)]].concat()),
            Self::Digest => (
                no_text(),
                [texts(&["", "00", &"g".repeat(64)]), vec![long(65)]].concat(),
            ),
            Self::Mode => (no_text(), texts(&["", "DM", "group", "all"])),
            Self::Status => (no_text(), texts(&["", "lost", "RECEIVED"])),
            Self::Detail => (no_text(), vec![long(1025)]),
            Self::Shares => (no_list(), bad_shares()),
            Self::List => (raw(&["7", "true", "{}", "\"x\""]), Vec::new()),
        };
        [others, own].concat()
    }
}

fn many(json: &str, count: usize) -> String {
    format!("[{}]", vec![json; count].join(","))
}

fn bad_profiles() -> Vec<String> {
    let field = |name: &str, json: &str| format!("{{\"{name}\":{json}}}");
    vec![
        field("display_name", &long(65)),
        field("display_name", "7"),
        field("avatar_url", &long(513)),
        field("avatar_url", "[]"),
        field("extras", &long(4096)),
        field("age", "1.5"),
        "{\"a\":1,\"a\":2}".to_owned(),
    ]
}

fn bad_shares() -> Vec<String> {
    let share =
        |member: &str, wrapped: &str| format!("[{{\"member\":{member},\"wrapped_public_channel_key\":{wrapped}}}]");
    vec![
        "[{}]".to_owned(),
        "[{\"member\":\"alice\"}]".to_owned(),
        share("\"a b\"", "\"AAAA\""),
        share("7", "\"AAAA\""),
        share("\"alice\"", "7"),
        share("\"alice\"", "\"A+/A\""),
    ]
}

fn shown(json: &str) -> String {
    json.chars().take(32).collect()
}

/// The names of a payload type's fields, what they hold, and whether it needs them.
pub(super) type Fields = &'static [(&'static str, Holds, Need)];

/// A row for every wrong field of a good frame. On a link without a role it ends the link.
pub(super) fn wrong_fields(by: By, good: &Said, fields: Fields, foreign: &[&str]) -> Vec<Row> {
    let mut frames = Vec::new();
    for (field, holds, need) in fields {
        if *need == Must {
            frames.push((format!("without {field}"), good.clone().omitting(field)));
            frames.push((format!("{field} null"), good.clone().saying(field, "null")));
        }
        for json in holds.bad_values() {
            frames.push((format!("{field} {}", shown(&json)), good.clone().saying(field, &json)));
        }
    }
    for field in foreign {
        frames.push((format!("with a {field}"), good.clone().saying(field, "\"AAAA\"")));
    }
    let row = |(name, said): (String, Said)| refused_as_no_frame(Row::bad(by, name, &said), by);
    frames.into_iter().map(row).collect()
}

/// What a text gets that is not a frame.
pub(super) fn refused_as_no_frame(row: Row, by: By) -> Row {
    let row = row.gets(ErrorCode::BadFrame);
    match by {
        By::User | By::Peer => row,
        By::Newcomer | By::Dialled => row.closed(1002),
    }
}

/// A row for every wrong field of a good envelope.
pub(super) fn wrong_envelope(by: By, good: &Said) -> Vec<Row> {
    let mut frames = Vec::new();
    for (field, holds) in [("type", Text), ("from", Id), ("ts", Number), ("sig", Bytes)] {
        for json in holds.bad_values() {
            frames.push((
                format!("envelope {field} {}", shown(&json)),
                good.clone().with(field, &json),
            ));
        }
        if field != "sig" {
            frames.push((format!("envelope without {field}"), good.clone().without(field)));
        }
    }
    for json in ["7", "[]", "\"\"", "\"a b\"", &long(273)] {
        frames.push((format!("envelope to {}", shown(json)), good.clone().with("to", json)));
    }
    for json in ["7", "[]", "\"{}\"", "null", "true"] {
        frames.push((format!("envelope payload {json}"), good.clone().with("payload", json)));
    }
    let row = |(name, said): (String, Said)| refused_as_no_frame(Row::bad(by, name, &said), by);
    frames.into_iter().map(row).collect()
}
