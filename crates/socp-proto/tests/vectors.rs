//! What another implementation says: canonical JSON and references (`vectors/`), and frames of any text.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::Value;
use socp_proto::json::parse_object;
use socp_proto::payload::msg_ref;
use socp_proto::{Base64Url, Frame, FrameKind, JsonFault, KeyText, escaped_form, utf8_form};

fn cases(file: &str) -> Vec<Value> {
    let path = format!("{}/../../vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let Value::Object(mut file) = serde_json::from_str(&text).unwrap() else {
        panic!("{path} is not an object");
    };
    let Some(Value::Array(cases)) = file.remove("cases") else {
        panic!("{path} has no cases");
    };
    assert!(!cases.is_empty(), "{path} has no cases");
    cases
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field]
        .as_str()
        .unwrap_or_else(|| panic!("{}: no text `{field}`", case["name"]))
}

fn fault(reason: &str) -> JsonFault {
    match reason {
        "syntax" => JsonFault::Syntax,
        "duplicate_key" => JsonFault::DuplicateKey,
        "depth" => JsonFault::Depth,
        "float" | "number_range" => JsonFault::Number,
        other => panic!("unknown reason {other}"),
    }
}

#[test]
fn texts_have_the_canonical_forms_of_the_vectors() {
    for case in cases("canonical.json")
        .iter()
        .filter(|case| case.get("refuse").is_none())
    {
        let object = parse_object(text(case, "input")).unwrap_or_else(|fault| panic!("{}: {fault}", case["name"]));
        let utf8 = utf8_form(&object);
        assert_eq!(utf8, text(case, "utf8"), "{}", case["name"]);
        let escaped = escaped_form(&utf8).unwrap_or_else(|| utf8.clone());
        assert_eq!(escaped, text(case, "escaped"), "{}", case["name"]);
        for form in [&utf8, &escaped] {
            let again = parse_object(form).unwrap();
            assert_eq!(again, object, "{}: {form} means something else", case["name"]);
        }
    }
}

#[test]
fn texts_are_refused_for_the_reason_of_the_vectors() {
    for case in &cases("canonical.json") {
        if let Some(reason) = case.get("refuse") {
            let expected = fault(reason.as_str().unwrap());
            let got = parse_object(text(case, "input"));
            assert_eq!(got, Err(expected), "{}", case["name"]);
        }
    }
}

#[test]
fn references_and_fingerprints_are_those_of_the_vectors() {
    for case in &cases("refs.json") {
        match text(case, "kind") {
            "msg_ref" => {
                let sig = Base64Url::try_from(text(case, "content_sig").to_owned()).unwrap();
                assert_eq!(msg_ref(&sig), text(case, "msg_ref"), "{}", case["name"]);
            }
            "fingerprint" => {
                let key = KeyText::try_from(text(case, "spki_b64u").to_owned()).unwrap();
                let shown = key.fingerprint().to_string();
                assert_eq!(shown, text(case, "fingerprint_hex"), "{}", case["name"]);
            }
            // A signature, which is for socp-crypto to verify.
            "directory" => {}
            other => panic!("unknown kind {other}"),
        }
    }
}

/// Texts that get past the JSON, so that the fields behind it are reached too.
fn nearly_a_frame() -> impl Strategy<Value = String> {
    let names: Vec<&str> = FrameKind::ALL.iter().map(|kind| kind.name()).collect();
    let id = prop_oneof![Just("a".to_owned()), "[ -~]{0,70}", Just("*".to_owned())];
    let key = prop_oneof![
        Just("user_id"),
        Just("server_id"),
        Just("meta"),
        Just("pubkey"),
        Just("host"),
        Just("port"),
        Just("ciphertext"),
        Just("sender"),
        Just("sender_pub"),
        Just("content_sig"),
        Just("msg_ref"),
        Just("code"),
        Just("client"),
        Just("caps"),
        Just("ts"),
        Just("users"),
        Just("novel"),
    ];
    let value = prop_oneof![
        Just("{}".to_owned()),
        Just("[]".to_owned()),
        Just("null".to_owned()),
        Just("\"AAAA\"".to_owned()),
        Just("\"é\\u0007😀\"".to_owned()),
        any::<u64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}")),
        Just("[\"ack/1\"]".to_owned()),
        Just("{\"display_name\":\"é\",\"extras\":{\"name\":\"x\"}}".to_owned()),
    ];
    let fields = prop::collection::vec((key, value), 0..8);
    let sig = prop_oneof![Just("AAAA"), Just(""), Just("=")];
    (
        prop::sample::select(names),
        id,
        any::<u64>(),
        fields,
        sig,
        any::<bool>(),
    )
        .prop_map(|(name, id, ts, fields, sig, has_extra)| {
            let id = Value::from(id);
            let fields: Vec<String> = fields
                .iter()
                .map(|(key, value)| format!("\"{key}\":{value}"))
                .collect();
            let extra = if has_extra { ",\"relay\":[{\"b\":1,\"a\":-2}]" } else { "" };
            format!(
                "{{\"payload\":{{{}}},\"ts\":{ts},\"from\":{id},\"to\":{id},\"type\":\"{name}\",\"sig\":\"{sig}\"{extra}}}",
                fields.join(",")
            )
        })
}

/// Reads it, which must not panic; what is read survives being written and read again.
fn survives(text: &str) -> Result<(), TestCaseError> {
    if let Ok(frame) = Frame::parse(text) {
        let written = frame.envelope.to_text();
        let again = Frame::parse(&written);
        prop_assert_eq!(again.as_ref(), Ok(&frame), "{} became {}", text, written);
        prop_assert_eq!(again.unwrap().envelope.to_text(), written);
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_a_frame_or_a_refusal(text in any::<String>()) {
        survives(&text)?;
    }

    #[test]
    fn json_like_text_is_a_frame_or_a_refusal(text in "[{}\\[\\]\":, 0-9a-z\\\\-]{0,200}") {
        survives(&text)?;
    }

    #[test]
    fn a_frame_survives_being_written_and_read(text in nearly_a_frame()) {
        survives(&text)?;
    }
}

#[test]
fn the_generator_makes_frames_and_refusals() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut taken = 0;
    for _ in 0..4_000 {
        let text = nearly_a_frame().new_tree(&mut runner).unwrap().current();
        taken += usize::from(Frame::parse(&text).is_ok());
    }
    assert!((10..3_990).contains(&taken), "{taken} of 4,000 are frames");
}
