//! What bad input gets where servers tell of their users in batches (PROTOCOL II.8); what only peers that take them can
//! say stands in `heard`.

use super::super::*;
use super::table::*;
use super::table_fields::*;
use super::world::*;
use socp_proto::payload::{PresenceRequest, ServerPresence, UserGone};

const BATCH: Fields = &[
    ("server_id", Id, Must),
    ("epoch", Number, Must),
    ("from_seq", Number, Must),
    ("seq", Number, Must),
    ("page", Number, May),
    ("add", List, May),
    ("remove", List, May),
];
const BATCH_FOREIGN: &[&str] = &["user_id", "meta", "pubkey", "ciphertext", "code"];
const REQUEST: Fields = &[("epoch", Number, Must), ("from_seq", Number, Must)];

fn batch() -> Said {
    by_x(&Payload::ServerPresence(ServerPresence {
        server_id: server_id("x"),
        epoch: 1,
        from_seq: 1,
        seq: 1,
        page: 0,
        more: false,
        add: Vec::new(),
        remove: vec![UserGone {
            user_id: user_id("xena"),
            ts: NOW,
            deletion: None,
        }],
    }))
}

#[test]
fn the_fields_of_a_batch() {
    let by = By::Peer;
    let good = batch();
    let mut rows = wrong_fields(by, &good, BATCH, BATCH_FOREIGN);
    rows.extend(wrong_envelope(by, &good));
    let entry = |fields: &str| format!("[{{{fields}}}]");
    let here = "\"user_id\":\"eve\",\"ts\":1";
    for (field, json) in [
        ("add", entry(here)),
        ("add", entry("\"user_id\":\"eve\",\"meta\":{}")),
        ("add", entry("\"ts\":1,\"meta\":{}")),
        ("add", entry("\"user_id\":\"a b\",\"ts\":1,\"meta\":{}")),
        ("add", entry("\"user_id\":\"eve\",\"ts\":-1,\"meta\":{}")),
        ("add", entry(&format!("{here},\"meta\":7"))),
        ("add", entry(&format!("{here},\"meta\":{{}},\"pubkey\":\"AAA=\""))),
        (
            "add",
            entry(&format!("{here},\"meta\":{{}},\"enc_pubkey\":{}", long(2052))),
        ),
        ("add", entry(&format!("{here},\"meta\":{{}},\"caps\":[\"x\"]"))),
        (
            "add",
            entry(&format!("{here},\"meta\":{{}},\"directory_sig\":{}", long(690))),
        ),
        ("remove", "[\"xena\"]".to_owned()),
        ("remove", entry("\"user_id\":\"xena\"")),
        ("remove", entry("\"ts\":1")),
        ("remove", entry("\"user_id\":\"\",\"ts\":1")),
        ("more", "7".to_owned()),
    ] {
        let said = good.clone().saying(field, &json);
        rows.push(refused_as_no_frame(
            Row::bad(by, format!("{field} {json:.60}"), &said),
            by,
        ));
    }
    // Nobody here takes batches: neither of us says so.
    rows.push(Row::bad(by, "a batch", &good).gets(ErrorCode::UnknownType));
    rows.push(Row::bad(by, "unsigned", &good.clone().unsigned()).gets(ErrorCode::InvalidSig));
    rows.push(Row::bad(by, "by another", &good.clone().signed_by("w")).gets(ErrorCode::InvalidSig));
    rows.push(Row::good(by, "a good removal", &by_x(&remove("xena", "x"))));
    check(&rows);
}

#[test]
fn the_fields_of_a_request() {
    let by = By::Peer;
    let request = by_x(&Payload::PresenceRequest(PresenceRequest {
        epoch: 1,
        from_seq: 1,
        to_the_letter: true,
    }));
    let mut rows = wrong_fields(by, &request, REQUEST, &["server_id", "user_id", "ciphertext"]);
    for json in ["7", "\"true\"", "[]"] {
        let said = request.clone().saying("to_the_letter", json);
        rows.push(refused_as_no_frame(
            Row::bad(by, format!("to_the_letter {json}"), &said),
            by,
        ));
    }
    rows.push(Row::bad(by, "a request", &request).gets(ErrorCode::UnknownType));
    rows.push(Row::good(by, "a good removal", &by_x(&remove("xena", "x"))));
    check(&rows);
}
