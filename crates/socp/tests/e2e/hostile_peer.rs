//! What a peer server gets for breaking the protocol, by the section of docs/PROTOCOL.md that it breaks: an answer or a
//! close, and another peer, its users and ours notice nothing.

use crate::data_dirs::with_key;
use crate::hostile_stage::Answer::{Closed, Ended, Nothing, Refused};
use crate::hostile_stage::{Answer, BYSTANDER, HONEST, HOSTILE, MAL, PIA, Stage};
use crate::letter_client::{LetterClient, decode, encode, key_case, now_ms, sign, test_key, verifies};
use crate::letter_server::{advertisement, delivery, identity, join};
use crate::process::{socp, stdout_of};
use crate::sites::{Site, Talker, everyone_talks, expected, site_id};
use crate::wires::Wires;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio_tungstenite::tungstenite::Message;

fn envelope(kind: &str, from: &str, payload: &Value, sig: &str) -> String {
    json!({"type": kind, "from": from, "to": "*", "ts": now_ms(), "payload": payload, "sig": sig}).to_string()
}

/// A payload signed by somebody out of the vectors.
fn signed(kind: &str, from: &str, payload: &Value, key: &str) -> String {
    let sig = sign(&test_key(key).private, 32, payload.to_string().as_bytes());
    envelope(kind, from, payload, &sig)
}

#[test]
fn first_frames_of_servers_that_are_refused() {
    let mut stage = Stage::new();
    let ours = stage.server.server_id.clone();
    let own = identity(&test_key("server").spki);
    let with = |key: &str, value: Value| {
        let mut payload = own.clone();
        payload[key] = value;
        payload
    };
    let mut late: Value = serde_json::from_str(&signed("SERVER_HELLO_JOIN", HOSTILE, &own, "server")).unwrap();
    late["ts"] = (now_ms() - 10 * 60_000).into();
    let bobs = identity(&test_key("bob").spki);
    let welcome = json!({"assigned_id": ours, "clients": [], "servers": []});
    let advert = advertisement(HOSTILE, MAL, &test_key("server").spki);
    let table: Vec<(&str, String, &str, u16)> = vec![
        (
            "I.4 join, unsigned",
            envelope("SERVER_HELLO_JOIN", HOSTILE, &own, ""),
            "INVALID_SIG",
            1002,
        ),
        (
            "I.4 join, signed by another",
            signed("SERVER_HELLO_JOIN", HOSTILE, &own, "bob"),
            "INVALID_SIG",
            1002,
        ),
        (
            "I.4 join, with another's key",
            signed("SERVER_HELLO_JOIN", HOSTILE, &bobs, "server"),
            "INVALID_SIG",
            1002,
        ),
        ("I.4 join, ten minutes old", late.to_string(), "TIMEOUT", 1002),
        (
            "I.4 join, no port",
            signed("SERVER_HELLO_JOIN", HOSTILE, &with("port", json!(null)), "server"),
            "UNKNOWN_TYPE",
            1002,
        ),
        (
            "I.4 join, port 70000",
            signed("SERVER_HELLO_JOIN", HOSTILE, &with("port", json!(70_000)), "server"),
            "UNKNOWN_TYPE",
            1002,
        ),
        (
            "I.4 join, long host",
            signed(
                "SERVER_HELLO_JOIN",
                HOSTILE,
                &with("host", json!("h".repeat(254))),
                "server",
            ),
            "UNKNOWN_TYPE",
            1002,
        ),
        (
            "I.1 join, RSA-2048",
            envelope(
                "SERVER_HELLO_JOIN",
                HOSTILE,
                &with("pubkey", key_case("modulus_2048")["spki_b64u"].clone()),
                "",
            ),
            "BAD_KEY",
            1002,
        ),
        (
            "I.4 announce, unsigned",
            envelope("SERVER_ANNOUNCE", HOSTILE, &own, ""),
            "INVALID_SIG",
            1002,
        ),
        (
            "I.4 announce, a pinned id with another key",
            signed("SERVER_ANNOUNCE", HONEST, &own, "server"),
            "BAD_KEY",
            1008,
        ),
        (
            "I.4 announce, a pinned key for another id",
            signed("SERVER_ANNOUNCE", "third-server", &bobs, "bob"),
            "BAD_KEY",
            1008,
        ),
        (
            "I.4 announce, our id",
            signed("SERVER_ANNOUNCE", &ours, &own, "server"),
            "BAD_KEY",
            1008,
        ),
        (
            "I.4 announce, our user's id",
            signed("SERVER_ANNOUNCE", BYSTANDER, &own, "server"),
            "BAD_KEY",
            1008,
        ),
        (
            "I.4 announce, a remote user's id",
            signed("SERVER_ANNOUNCE", PIA, &own, "server"),
            "BAD_KEY",
            1008,
        ),
        (
            "I.3 announce as link, a pinned id",
            signed("SERVER_HELLO_LINK", HONEST, &own, "server"),
            "BAD_KEY",
            1008,
        ),
        (
            "I.3 a welcome nobody asked for",
            signed("SERVER_WELCOME", HOSTILE, &welcome, "server"),
            "UNKNOWN_TYPE",
            1002,
        ),
        (
            "I.3 gossip first",
            signed("USER_ADVERTISE", HOSTILE, &advert, "server"),
            "UNKNOWN_TYPE",
            1002,
        ),
        (
            "I.3 a heartbeat first",
            signed("HEARTBEAT", HOSTILE, &json!({}), "server"),
            "UNKNOWN_TYPE",
            1002,
        ),
        (
            "I.2 a join with fields of a message",
            signed("SERVER_HELLO_JOIN", HOSTILE, &with("ciphertext", json!("AA")), "server"),
            "UNKNOWN_TYPE",
            1002,
        ),
    ];
    for (what, text, code, close) in table {
        println!("{what}");
        let mut stranger = stage.stranger();
        stranger.send_text(&text);
        let error = stranger.receive_type("ERROR");
        assert_eq!(error["payload"]["code"], code, "{what}: {error}");
        assert_eq!(stranger.receive_close(), close, "{what}");
        stage.check_undisturbed();
    }
}

#[test]
fn a_server_that_wishes_for_somebody_elses_id_gets_another() {
    let mut stage = Stage::new();
    let ours = stage.server.server_id.clone();
    for wished in [HONEST, BYSTANDER, PIA, &ours] {
        let hostile = join(stage.server.address(), wished, "server");
        assert!(
            ![HONEST, BYSTANDER, PIA, &ours].contains(&hostile.user.as_str()),
            "{wished}"
        );
        drop(hostile);
        stage.check_undisturbed();
    }
}

type Act = Box<dyn FnOnce(&mut LetterClient)>;

/// A frame as the hostile server would send it, signed by it.
fn says(kind: &'static str, payload: Value) -> Act {
    Box::new(move |hostile| hostile.send(kind, "*", payload))
}

/// The same with somebody else's `from`.
fn says_as(from: &'static str, kind: &'static str, to: &'static str, payload: Value) -> Act {
    Box::new(move |hostile| hostile.send_as(from, kind, to, &payload, now_ms()))
}

/// A text as it is.
fn sends(text: String) -> Act {
    Box::new(move |hostile| hostile.send_text(&text))
}

#[test]
fn envelopes_of_a_peer_that_are_refused() {
    let mut stage = Stage::new();
    let gossip = advertisement(HOSTILE, "mal-2", &test_key("server").spki);
    let rows: Vec<(&str, Act, Answer)> = vec![
        (
            "I.2 unsigned",
            sends(envelope("HEARTBEAT", HOSTILE, &json!({}), "")),
            Refused("INVALID_SIG"),
        ),
        (
            "I.2 signed by another",
            sends(signed("HEARTBEAT", HOSTILE, &json!({}), "bob")),
            Refused("INVALID_SIG"),
        ),
        (
            "I.2 another payload signed",
            sends({
                let sig = sign(&test_key("server").private, 32, b"{\"a\":1}");
                envelope("HEARTBEAT", HOSTILE, &json!({}), &sig)
            }),
            Refused("INVALID_SIG"),
        ),
        (
            "I.2 a peer's name, our own signature",
            says_as(HONEST, "HEARTBEAT", "*", json!({})),
            Nothing,
        ),
        (
            "I.2 a peer's name and signature",
            sends(signed("HEARTBEAT", HONEST, &json!({}), "bob")),
            Refused("INVALID_SIG"),
        ),
        (
            "I.2 a name nobody knows",
            says_as("third-server", "USER_ADVERTISE", "*", gossip.clone()),
            Nothing,
        ),
        (
            "I.2 gossip of ten minutes ago",
            {
                let gossip = gossip.clone();
                Box::new(move |hostile| hostile.send_at("USER_ADVERTISE", "*", gossip, now_ms() - 10 * 60_000))
            },
            Ended("TIMEOUT", 1008),
        ),
        (
            "I.2 gossip of the day after tomorrow",
            { Box::new(move |hostile| hostile.send_at("USER_ADVERTISE", "*", gossip, now_ms() + 48 * 3_600_000)) },
            Ended("TIMEOUT", 1008),
        ),
        ("I.1 no JSON", sends("{".to_owned()), Refused("UNKNOWN_TYPE")),
        (
            "I.1 a key twice",
            sends(r#"{"type":"HEARTBEAT","type":"HEARTBEAT","from":"h","to":"*","ts":1}"#.to_owned()),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.1 a fraction",
            says("HEARTBEAT", json!({"x": 0.5})),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.2 no ts",
            sends(format!(r#"{{"type":"HEARTBEAT","from":"{HOSTILE}","to":"*"}}"#)),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.2 an id with a space",
            sends(envelope("HEARTBEAT", "a b", &json!({}), "")),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.10 a type nobody defined",
            says("NONSENSE", json!({})),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.1 binary",
            Box::new(|hostile| hostile.send_message(Message::binary(vec![1, 2, 3]))),
            Closed(1003),
        ),
        (
            "I.1 more than a mebibyte",
            says("HEARTBEAT", json!({"x": "x".repeat(1024 * 1024)})),
            Closed(1009),
        ),
        ("I.11 goodbye", says("CTRL_CLOSE", json!({})), Closed(1000)),
    ];
    for (what, act, answer) in rows {
        stage.play(what, act, &answer);
    }
}

#[test]
fn gossip_of_a_peer_that_changes_nothing() {
    let mut stage = Stage::new();
    let (ours, spki) = (stage.server.server_id.clone(), test_key("server").spki);
    let pias = test_key("exponent_65539").spki;
    let remove = |server: &str, user: &str| json!({"user_id": user, "server_id": server});
    let rows: Vec<(&str, Act, Answer)> = vec![
        (
            "I.5 our user moves there",
            says(
                "USER_ADVERTISE",
                advertisement(HOSTILE, BYSTANDER, &test_key("alice").spki),
            ),
            Nothing,
        ),
        (
            "I.5 our user with another key",
            says("USER_ADVERTISE", advertisement(HOSTILE, BYSTANDER, &spki)),
            Nothing,
        ),
        (
            "I.5 a peer's user with another key",
            says("USER_ADVERTISE", advertisement(HOSTILE, PIA, &spki)),
            Nothing,
        ),
        (
            "I.5 a user of a peer",
            says("USER_ADVERTISE", advertisement(HONEST, "newcomer", &spki)),
            Refused("INVALID_SIG"),
        ),
        (
            "I.5 a user of ours",
            says("USER_ADVERTISE", advertisement(&ours, "newcomer", &spki)),
            Refused("INVALID_SIG"),
        ),
        (
            "I.5 a user with a server's id",
            says("USER_ADVERTISE", advertisement(HOSTILE, HONEST, &spki)),
            Nothing,
        ),
        (
            "I.5 a user with our id",
            {
                let payload = advertisement(HOSTILE, &ours, &spki);
                says("USER_ADVERTISE", payload)
            },
            Nothing,
        ),
        (
            "I.1 a user with a short key",
            says(
                "USER_ADVERTISE",
                advertisement(
                    HOSTILE,
                    "short",
                    key_case("modulus_1024")["spki_b64u"].as_str().unwrap(),
                ),
            ),
            Refused("BAD_KEY"),
        ),
        (
            "I.5 a peer's user leaves",
            says("USER_REMOVE", remove(HONEST, PIA)),
            Refused("INVALID_SIG"),
        ),
        (
            "I.5 a peer's user leaves here",
            says("USER_REMOVE", remove(HOSTILE, PIA)),
            Nothing,
        ),
        (
            "I.5 our user leaves",
            says("USER_REMOVE", remove(HOSTILE, BYSTANDER)),
            Nothing,
        ),
        (
            "I.5 our user leaves us",
            says("USER_REMOVE", remove(&ours, BYSTANDER)),
            Refused("INVALID_SIG"),
        ),
        (
            "I.2 a peer's true word on another link",
            sends(signed("USER_REMOVE", HONEST, &remove(HONEST, PIA), "bob")),
            Nothing,
        ),
        (
            "I.2 an arrival as a departure",
            {
                let mut payload = advertisement(HOSTILE, MAL, &spki);
                payload["meta"] = json!({"display_name": "x"});
                says("USER_REMOVE", payload)
            },
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.6 a long name",
            {
                let mut payload = advertisement(HOSTILE, "mal-2", &spki);
                payload["meta"] = json!({"display_name": "x".repeat(65)});
                says("USER_ADVERTISE", payload)
            },
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.6 a large profile",
            {
                let mut payload = advertisement(HOSTILE, "mal-2", &spki);
                payload["meta"] = json!({"extras": {"x": "x".repeat(4096)}});
                says("USER_ADVERTISE", payload)
            },
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.5 no user",
            says(
                "USER_ADVERTISE",
                json!({"server_id": HOSTILE, "meta": {}, "pubkey": pias}),
            ),
            Refused("UNKNOWN_TYPE"),
        ),
    ];
    for (what, act, answer) in rows {
        stage.play(what, act, &answer);
    }
}

#[test]
fn content_from_a_peer_that_reaches_nobody() {
    let mut stage = Stage::new();
    let (own, pia, alice) = (test_key("server"), test_key("exponent_65539"), test_key("alice").spki);
    let ts = now_ms();
    let month = ts - 31 * 24 * 3_600_000;
    let forged = delivery(PIA, &own, BYSTANDER, &alice, "not hers", ts);
    let ours = delivery(BYSTANDER, &own, BYSTANDER, &alice, "not his own", ts);
    let old = delivery(MAL, &own, BYSTANDER, &alice, "old", month);
    let direct = json!({"ciphertext": encode(&[7; 512]), "sender_pub": own.spki, "content_sig": encode(&[7; 512])});
    let mut in_channel = direct.clone();
    in_channel["group_id"] = "public".into();
    let mut with_pias_key = in_channel.clone();
    with_pias_key["sender_pub"] = pia.spki.clone().into();
    let share = json!({"shares": [{"member": BYSTANDER, "wrapped_public_channel_key": encode(&[7; 512])}],
        "creator_pub": own.spki, "content_sig": encode(&[7; 512])});
    let start = json!({"file_id": "f", "name": "a.png", "size": 3, "sha256": "0".repeat(64), "mode": "dm"});
    let chunk = json!({"file_id": "f", "index": 0, "ciphertext": encode(&[7; 512])});
    let but = |payload: &Value, key: &str, value: Value| {
        let mut payload = payload.clone();
        payload[key] = value;
        payload
    };
    let huge = encode(&vec![7; 300_000]);
    let rows: Vec<(&str, Act, Answer)> = vec![
        (
            "I.7 a peer's user with our key",
            says("SERVER_DELIVER", forged.clone()),
            Refused("INVALID_SIG"),
        ),
        (
            "I.7 our user with their key",
            says("SERVER_DELIVER", ours),
            Refused("INVALID_SIG"),
        ),
        (
            "I.7 older than a month",
            Box::new(move |hostile| hostile.send_at("SERVER_DELIVER", "*", old, month)),
            Refused("TIMEOUT"),
        ),
        (
            "I.7 no ciphertext",
            says("SERVER_DELIVER", but(&forged, "ciphertext", json!(null))),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.7 a long ciphertext",
            says("SERVER_DELIVER", but(&forged, "ciphertext", json!(huge))),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.7 a user's frame",
            says("MSG_DIRECT", direct.clone()),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.7 a delivery to a user",
            says("USER_DELIVER", but(&direct, "sender", json!(MAL))),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.6 a user's hello",
            says("USER_HELLO", json!({"client": "x", "pubkey": own.spki})),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.6 a user's question",
            says("LIST_REQUEST", json!({})),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.8 a peer's user in the channel",
            says_as(PIA, "MSG_PUBLIC_CHANNEL", BYSTANDER, in_channel.clone()),
            Nothing,
        ),
        (
            "I.8 our user in the channel",
            says_as(BYSTANDER, "MSG_PUBLIC_CHANNEL", "public", in_channel.clone()),
            Nothing,
        ),
        (
            "I.8 their user with another's key",
            says_as(MAL, "MSG_PUBLIC_CHANNEL", BYSTANDER, with_pias_key),
            Refused("INVALID_SIG"),
        ),
        (
            "I.8 nobody in the channel",
            says_as("nobody", "MSG_PUBLIC_CHANNEL", "public", in_channel),
            Nothing,
        ),
        (
            "I.8 keys from a peer's user",
            says_as(PIA, "PUBLIC_CHANNEL_KEY_SHARE", "public", share),
            Nothing,
        ),
        (
            "I.8 a version beyond all",
            says("PUBLIC_CHANNEL_UPDATED", json!({"version": u64::MAX, "wraps": []})),
            Nothing,
        ),
        (
            "I.8 a version below zero",
            says("PUBLIC_CHANNEL_UPDATED", json!({"version": -1, "wraps": []})),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.8 members that are none",
            says("PUBLIC_CHANNEL_ADD", json!({"add": ["a b"]})),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.9 a file from a peer's user",
            says_as(PIA, "FILE_START", BYSTANDER, start.clone()),
            Nothing,
        ),
        (
            "I.9 a chunk from a peer's user",
            says_as(PIA, "FILE_CHUNK", BYSTANDER, chunk.clone()),
            Nothing,
        ),
        (
            "I.9 an end from a peer's user",
            says_as(PIA, "FILE_END", BYSTANDER, json!({"file_id": "f"})),
            Nothing,
        ),
        (
            "I.9 no hash",
            says_as(MAL, "FILE_START", BYSTANDER, but(&start, "sha256", json!("00"))),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.9 a size below zero",
            says_as(MAL, "FILE_START", BYSTANDER, but(&start, "size", json!(-1))),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.9 another mode",
            says_as(MAL, "FILE_START", BYSTANDER, but(&start, "mode", json!("all"))),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.9 a chunk that is a file",
            says_as(MAL, "FILE_CHUNK", BYSTANDER, but(&chunk, "sha256", json!("00"))),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.9 a long chunk",
            says_as(MAL, "FILE_CHUNK", BYSTANDER, but(&chunk, "ciphertext", json!(huge))),
            Refused("UNKNOWN_TYPE"),
        ),
    ];
    for (what, act, answer) in rows {
        stage.play(what, act, &answer);
    }
}

#[test]
fn errors_and_heartbeats_of_a_peer_that_change_nothing() {
    let mut stage = Stage::new();
    let many: Vec<String> = (0..20_000).map(|number| format!("s-{number}")).collect();
    let rows: Vec<(&str, Act, Answer)> = vec![
        (
            "I.10 an error about nothing",
            says("ERROR", json!({"code": "USER_NOT_FOUND", "detail": PIA})),
            Nothing,
        ),
        (
            "I.10 an error of an unknown code",
            says("ERROR", json!({"code": "OH_NO", "detail": ""})),
            Nothing,
        ),
        (
            "I.10 an error signed wrongly",
            sends(envelope("ERROR", HOSTILE, &json!({"code": "TIMEOUT"}), "")),
            Nothing,
        ),
        (
            "I.10 an acknowledgement of nothing",
            says("ACK", json!({"msg_ref": "AAAA"})),
            Nothing,
        ),
        (
            "I.11 linked to everyone",
            says("HEARTBEAT", json!({"peers": many})),
            Nothing,
        ),
        (
            "I.11 linked to no server",
            says("HEARTBEAT", json!({"peers": [7]})),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "I.11 a heartbeat with a user",
            says("HEARTBEAT", json!({"user_id": PIA})),
            Refused("UNKNOWN_TYPE"),
        ),
    ];
    for (what, act, answer) in rows {
        stage.play(what, act, &answer);
    }
}

#[test]
fn ten_faults_close_the_link_of_the_peer_and_no_other() {
    let mut stage = Stage::new();
    let faults: Act = Box::new(|hostile| {
        for _ in 0..10 {
            hostile.send_text(&envelope("HEARTBEAT", HOSTILE, &json!({}), ""));
        }
    });
    stage.play("I.10 ten faults", faults, &Closed(1008));
}

#[test]
fn a_peer_cannot_answer_for_what_went_to_another() {
    let mut stage = Stage::new();
    let mut hostile = stage.hostile();
    let pia = test_key("exponent_65539");
    let ts = now_ms();
    let payload = stage.bystander.sealed(&pia.spki, PIA, "for her only", ts);
    let content_sig = decode(payload["content_sig"].as_str().unwrap());
    stage.bystander.send_at("MSG_DIRECT", PIA, payload, ts);
    stage.honest.receive_type("SERVER_DELIVER");
    let msg_ref = encode(&Sha256::digest(content_sig)[..16]);
    hostile.send(
        "ERROR",
        "*",
        json!({"code": "USER_NOT_FOUND", "detail": PIA, "msg_ref": msg_ref}),
    );
    stage.is_alive("an error about another's message", &mut hostile);
    drop(hostile);
    stage.check_undisturbed();
}

/// A delegation that this key signs for a server, so many minutes from now until so many.
fn delegation(server: &str, key: &str, from_min: i64, to_min: i64) -> Value {
    let at = |minutes: i64| now_ms().saturating_add_signed(minutes * 60_000);
    let mut delegation = json!({
        "alg": "ed25519", "key": encode(&[7; 32]), "server_id": server, "not_before": at(from_min), "not_after": at(to_min),
    });
    let text = format!("socp-delegation-v1\0{delegation}");
    delegation["sig"] = sign(&test_key(key).private, 32, text.as_bytes()).into();
    json!({ "delegation": delegation })
}

#[test]
fn delegations_and_delegated_frames_that_are_refused() {
    let mut stage = Stage::new();
    let told = |server: &str, key: &str, from_min: i64, to_min: i64| {
        says("HEARTBEAT", delegation(server, key, from_min, to_min))
    };
    let sealed = || envelope("HEARTBEAT", HOSTILE, &json!({}), &encode(&[7; 64]));
    let good = || delegation(HOSTILE, "server", 0, 60);
    let mut changed = good();
    changed["delegation"]["not_after"] = (now_ms() + 1).into();
    let rows: Vec<(&str, Act, Answer)> = vec![
        (
            "II.3 another server's",
            told(HONEST, "bob", 0, 60),
            Refused("INVALID_SIG"),
        ),
        (
            "II.3 for another server",
            told(HONEST, "server", 0, 60),
            Refused("INVALID_SIG"),
        ),
        (
            "II.3 by another key",
            told(HOSTILE, "bob", 0, 60),
            Refused("INVALID_SIG"),
        ),
        ("II.3 changed", says("HEARTBEAT", changed), Refused("INVALID_SIG")),
        (
            "II.3 expired",
            told(HOSTILE, "server", -60, -10),
            Refused("INVALID_SIG"),
        ),
        (
            "II.3 of the future",
            told(HOSTILE, "server", 10, 60),
            Refused("INVALID_SIG"),
        ),
        (
            "II.3 for three days",
            told(HOSTILE, "server", 0, 3 * 24 * 60),
            Refused("UNKNOWN_TYPE"),
        ),
        (
            "II.3 a delegated frame without a delegation",
            sends(sealed()),
            Refused("INVALID_SIG"),
        ),
        (
            "II.3 a delegated frame of another key",
            Box::new(move |hostile| {
                hostile.send("HEARTBEAT", "*", good());
                hostile.send_text(&sealed());
            }),
            Refused("INVALID_SIG"),
        ),
        (
            "II.3 the letter, after a delegation",
            Box::new(move |hostile| {
                hostile.send("HEARTBEAT", "*", good());
                hostile.send("HEARTBEAT", "*", json!({}));
            }),
            Refused("INVALID_SIG"),
        ),
        ("II.3 a good one", told(HOSTILE, "server", -60, 60), Nothing),
    ];
    for (what, act, answer) in rows {
        stage.play(what, act, &answer);
    }
}

/// Two servers that are linked through gates, and what the second said first to the first: its introductions, by type.
struct Recorded {
    sites: Vec<Site>,
    people: Vec<Talker>,
    wires: Wires,
    introductions: Arc<Mutex<BTreeMap<String, Value>>>,
    dir: tempfile::TempDir,
}

/// Starts them; the second has a key that the test has too.
fn recorded() -> Recorded {
    let dir = tempfile::tempdir().unwrap();
    with_key(&dir.path().join("b"), "server");
    let wires = Wires::new();
    let introductions = Arc::<Mutex<BTreeMap<String, Value>>>::default();
    let recorder = Arc::clone(&introductions);
    wires.alter(move |from, _, text| {
        let frame: Value = serde_json::from_str(text).unwrap();
        let kind = frame["type"].as_str().unwrap().to_owned();
        if from == site_id("b") && frame["payload"].get("nonce").is_some() && kind != "PROOF" {
            recorder.lock().unwrap().insert(kind, frame);
        }
        vec![text.to_owned()]
    });
    let mut sites = vec![Site::start(&wires, dir.path(), "a", &[])];
    let introducer = sites[0].bootstrap();
    sites.push(Site::start(&wires, dir.path(), "b", &[introducer]));
    let mut people: Vec<Talker> = Vec::new();
    for site in &sites {
        people.push(Talker::register(
            dir.path(),
            &format!("at-{}", site.name),
            &site.served.url,
        ));
    }
    let everyone = expected(&sites, &people);
    for talker in &mut people {
        talker.sees(&everyone);
    }
    Recorded {
        sites,
        people,
        wires,
        introductions,
        dir,
    }
}

#[test]
fn what_a_linked_server_once_said_of_itself_takes_nothing_over() {
    let Recorded {
        sites,
        mut people,
        wires,
        introductions,
        dir: _dir,
    } = recorded();
    let mut recorded = introductions.lock().unwrap().clone();
    assert!(recorded.contains_key("SERVER_HELLO_JOIN"), "{recorded:?}");
    // `sig` does not cover the type either.
    for kind in ["SERVER_ANNOUNCE", "SERVER_HELLO_LINK"] {
        let mut other = recorded["SERVER_HELLO_JOIN"].clone();
        other["type"] = kind.into();
        recorded.entry(kind.to_owned()).or_insert(other);
    }
    let begun = Instant::now();
    let linked = wires.open();
    let (one, two) = (&sites[0], &sites[1]);
    let mut silent = Vec::new();
    for (kind, mut frame) in recorded {
        println!("II.2 {kind} said again");
        frame["ts"] = now_ms().into();
        let answer = if kind == "SERVER_HELLO_JOIN" {
            "SERVER_WELCOME"
        } else {
            "SERVER_ANNOUNCE"
        };
        let connect = || LetterClient::connect(one.served.address(), &two.id, test_key("bob"), 32);
        // Without a word more.
        let mut thief = connect();
        thief.send_text(&frame.to_string());
        let introduction = thief.receive();
        assert_eq!(introduction["type"], answer);
        let own = thief.receive();
        assert_eq!(own["type"], "PROOF");
        let signed = format!("socp-proof-v1\0{}", own["payload"]);
        let sig = own["sig"].as_str().unwrap();
        assert!(verifies(&one.served.pubkey, signed.as_bytes(), sig));
        assert_eq!(own["payload"]["server_id"], two.id.as_str());
        assert_eq!(own["payload"]["nonce"], frame["payload"]["nonce"]);
        silent.push(thief);
        // With a proof that another key signs, and with gossip instead.
        let proof = |introduction: &Value| {
            let text = |value: &Value| encode(&Sha256::digest(value.to_string().as_bytes()));
            json!({
                "nonce": introduction["payload"]["nonce"], "server_id": one.id, "by": two.id, "ts": now_ms(),
                "key": encode(&Sha256::digest(decode(&one.served.pubkey))), "hello": text(&frame["payload"]),
            })
        };
        for (what, code) in [("PROOF", "INVALID_SIG"), ("HEARTBEAT", "UNKNOWN_TYPE")] {
            let mut thief = connect();
            thief.send_text(&frame.to_string());
            let introduction = thief.receive();
            let payload = if what == "PROOF" {
                proof(&introduction)
            } else {
                json!({})
            };
            thief.send_text(&signed_proof(what, &two.id, &payload, "bob"));
            let error = thief.receive_type("ERROR");
            assert_eq!(error["payload"]["code"], code, "{kind}, {what}: {error}");
            assert_eq!(thief.receive_close(), 1002, "{kind}, {what}");
        }
        let mut talkers: Vec<&mut Talker> = people.iter_mut().collect();
        assert_eq!(everyone_talks(&mut talkers, &kind).0, 2);
    }
    for mut thief in silent {
        let error = thief.receive();
        assert_eq!(
            (&error["type"], &error["payload"]["code"]),
            (&json!("ERROR"), &json!("INVALID_SIG"))
        );
        assert_eq!(thief.receive_close(), 1002);
    }
    assert_eq!(wires.open(), linked, "the same connection");
    assert!(one.lost(begun, two).is_none() && two.lost(begun, one).is_none());
    let mut talkers: Vec<&mut Talker> = people.iter_mut().collect();
    assert_eq!(everyone_talks(&mut talkers, "after all that").0, 2);
}

/// A frame signed as a proof is.
fn signed_proof(kind: &str, from: &str, payload: &Value, key: &str) -> String {
    let domain = if kind == "PROOF" { "socp-proof-v1\0" } else { "" };
    let sig = sign(&test_key(key).private, 32, format!("{domain}{payload}").as_bytes());
    envelope(kind, from, payload, &sig)
}

#[test]
fn a_server_that_has_proved_itself_comes_without_proof_only_once_it_is_unpinned() {
    let Recorded {
        mut sites, people, dir, ..
    } = recorded();
    drop(people);
    let (one, two) = (sites.remove(0), sites.remove(0));
    let id = two.id.clone();
    two.served.stop();
    let begun = Instant::now();
    let by_letter = || LetterClient::connect(one.served.address(), &id, test_key("server"), 32);
    let own = identity(&test_key("server").spki);
    for kind in ["SERVER_HELLO_JOIN", "SERVER_ANNOUNCE"] {
        let mut old = by_letter();
        old.send(kind, "*", own.clone());
        let error = old.receive();
        assert_eq!(error["payload"]["code"], "INVALID_SIG", "{error}");
        let detail = error["payload"]["detail"].as_str().unwrap();
        assert!(
            detail.contains("proof/1") && detail.contains("socp admin unpin"),
            "{detail}"
        );
        assert_eq!(old.receive_close(), 1008);
    }
    let words = ["without proof", &id, "socp admin unpin"];
    assert!(one.served.process.logged(begun, &words).is_some());
    let mut unpin = socp();
    unpin
        .args(["admin", "unpin", &id, "--yes", "--data"])
        .arg(dir.path().join("a"));
    stdout_of(&mut unpin);
    let joined = join(one.served.address(), &id, "server");
    assert_eq!(joined.user, id);
}
