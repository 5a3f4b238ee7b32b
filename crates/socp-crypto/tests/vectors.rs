//! Replays the vectors that Python wrote (`vectors/README.md`), so that agreeing with ourselves is not enough.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde_json::Value;
use socp_crypto::content::{
    ContentFamily, ContentParts, ContentScheme, FileChunkParts, FileStartParts, channel_preimage, file_chunk_preimage,
    file_start_preimage, key_share_preimage, verify_content,
};
use socp_crypto::digest::sha256;
use socp_crypto::{
    CryptoError, KeyFault, PrivateKey, PublicKey, SafetyCode, SafetyParty, check_deletion, check_history,
};
use socp_proto::payload::Deletion;
use socp_proto::{Fingerprint, Frame, KeyHistory, KeyText, Payload, UserId, hello_digest};

#[test]
fn keys_json() {
    let mut refused = 0;
    for case in cases("keys.json") {
        let name = text(&case, "name");
        let parsed = BASE64URL_NOPAD
            .decode(text(&case, "spki_b64u").as_bytes())
            .map_err(|_| CryptoError::BadKey(KeyFault::Encoding))
            .and_then(|der| PublicKey::from_spki_der(&der).map(|key| (key, der)));
        if case["accept"] == true {
            let (key, der) = parsed.unwrap();
            assert_eq!(key.spki_der(), der, "{name}");
            assert_eq!(key.fingerprint(), sha256(&der), "{name}");
            continue;
        }
        refused += 1;
        let Err(CryptoError::BadKey(fault)) = parsed else {
            panic!("{name}: {parsed:?}")
        };
        let reason = match fault {
            KeyFault::Encoding => "encoding",
            KeyFault::Algorithm => "algorithm",
            KeyFault::ModulusBits(bits) => {
                assert_eq!(name, format!("modulus_{bits}"));
                "modulus_bits"
            }
            KeyFault::Exponent => "exponent",
            KeyFault::Numbers => "numbers",
        };
        // Padding is a matter of base64url, which our decoder does not tell apart.
        assert_eq!(reason, text(&case, "reason").replace("padding", "encoding"), "{name}");
    }
    assert!(refused > 30);
}

#[test]
fn private_keys_of_keys_json_round_trip_and_sign() {
    let mut seen = 0;
    for case in cases("keys.json").iter().filter(|case| case["pkcs8_b64u"].is_string()) {
        let der = bytes(case, "pkcs8_b64u");
        let key = PrivateKey::from_pkcs8_der(&der).unwrap();
        assert_eq!(key.to_pkcs8_der().unwrap().expose(), der);
        assert_eq!(key.public_key().spki_der(), bytes(case, "spki_b64u"));
        let signature = key.sign(b"message").unwrap();
        key.public_key().verify(b"message", &signature).unwrap();
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn transport_json() {
    let keys = public_keys();
    for case in cases("transport.json") {
        let payload: Value = serde_json::from_str(text(&case, "payload")).unwrap();
        let mut canonical = serde_json::to_string(&payload).unwrap();
        if case["form"] == "escaped" {
            canonical = escaped(&canonical);
        }
        check_signature(&keys, &case, canonical.as_bytes());
    }
}

#[test]
fn proof_json() {
    let keys = public_keys();
    for case in cases("proof.json") {
        let name = text(&case, "name");
        let payload: Value = serde_json::from_str(text(&case, "payload")).unwrap();
        let frame = serde_json::json!({"type": "PROOF", "from": "a", "to": "b", "ts": 1, "payload": payload});
        let Frame { envelope, payload } = Frame::parse(&frame.to_string()).unwrap();
        let Payload::Proof(proof) = payload else {
            panic!("{name}");
        };
        let fingerprint = |field: &str| Fingerprint::of(keys[text(&case, field)].spki_der());
        let hello: socp_proto::Object = serde_json::from_str(text(&case, "hello")).unwrap();
        assert_eq!(proof.hello, hello_digest(&hello), "{name}");
        assert_eq!(proof.key, fingerprint("server_key").into(), "{name}");
        let id = UserId::try_from(text(&case, "user_id")).unwrap();
        assert_eq!(
            (UserId::made_from(fingerprint("key")), proof.by),
            (id.clone(), id.into()),
            "{name}"
        );
        check_signature(&keys, &case, envelope.signed_text().as_bytes());
    }
}

#[test]
fn history_json() {
    for case in cases("history.json") {
        let name = text(&case, "name");
        let history = serde_json::from_value::<KeyHistory>(case["history"].clone());
        assert_eq!(history.is_ok(), case["form"] == true, "{name}: {history:?}");
        let Ok(history) = history else { continue };
        assert_eq!(check_history(&history).is_ok(), case["valid"] == true, "{name}");
        let owner = UserId::made_from(history.first().pubkey.fingerprint());
        assert!(history.is_of(&owner), "{name}");
        let again = serde_json::to_value(&history).unwrap();
        assert_eq!(again, case["history"], "{name}");
    }
}

#[test]
fn deletion_json() {
    for case in cases("deletion.json") {
        let name = text(&case, "name");
        let deletion: Deletion = serde_json::from_value(case["deletion"].clone()).unwrap();
        let (user, server) = (text(&case, "user_id"), text(&case, "server_id"));
        let checked = check_deletion(&deletion, &user.try_into().unwrap(), &server.try_into().unwrap());
        assert_eq!(checked.is_ok(), case["valid"] == true, "{name}");
        assert_eq!(serde_json::to_value(&deletion).unwrap(), case["deletion"], "{name}");
    }
}

#[test]
fn content_json() {
    let keys = public_keys();
    for case in cases("content.json") {
        let parts = ContentParts {
            ciphertext: text(&case, "ciphertext"),
            from: text(&case, "from"),
            to: text(&case, "to"),
            ts: number(&case, "ts"),
        };
        let key = &keys[text(&case, "key")];
        let expected = if case["valid"] == true {
            Ok(scheme(&case))
        } else {
            Err(CryptoError::BadSignature)
        };
        assert_eq!(
            verify_content(key, parts, &bytes(&case, "sig_b64u")),
            expected,
            "{}",
            case["name"]
        );
    }
}

#[test]
fn channel_json() {
    let keys = public_keys();
    for case in cases("channel.json") {
        let preimage = match text(&case, "kind") {
            "message" => channel_preimage(text(&case, "ciphertext"), text(&case, "from"), number(&case, "ts")),
            "key_share" => {
                let shares: Value = serde_json::from_str(text(&case, "shares")).unwrap();
                key_share_preimage(&shares.to_string(), &bytes(&case, "creator_pub"))
            }
            other => panic!("{other}"),
        };
        check_signature(&keys, &case, &preimage);
    }
}

#[test]
fn files_json() {
    let keys = public_keys();
    for case in cases("files.json") {
        let (from, to, ts) = (text(&case, "from"), text(&case, "to"), number(&case, "ts"));
        let file_id = text(&case, "file_id");
        let preimage = match text(&case, "kind") {
            "start" => file_start_preimage(&FileStartParts {
                file_id,
                from,
                mode: text(&case, "mode"),
                name: text(&case, "file_name"),
                sha256: text(&case, "sha256"),
                size: number(&case, "size"),
                to,
                ts,
            })
            .unwrap(),
            "chunk" => file_chunk_preimage(&FileChunkParts {
                ciphertext: text(&case, "ciphertext"),
                from,
                to,
                ts,
                file_id,
                index: number(&case, "index"),
                total: number(&case, "total"),
            }),
            other => panic!("{other}"),
        };
        check_signature(&keys, &case, &preimage);
    }
}

#[test]
fn oaep_json() {
    let keys = private_keys();
    for case in cases("oaep.json") {
        let opened = keys[text(&case, "key")].open(&bytes(&case, "ciphertext_b64u"), 4096);
        if case["valid"] == true {
            assert_eq!(opened.unwrap().expose(), plaintext(&case), "{}", case["name"]);
        } else {
            assert_eq!(opened, Err(CryptoError::Decrypt), "{}", case["name"]);
        }
    }
}

#[test]
fn refs_json() {
    let keys = public_keys();
    for case in cases("refs.json") {
        match text(&case, "kind") {
            "msg_ref" => {
                let digest = sha256(&bytes(&case, "content_sig"));
                assert_eq!(BASE64URL_NOPAD.encode(&digest[..16]), text(&case, "msg_ref"));
            }
            "fingerprint" => {
                let key = PublicKey::from_spki_der(&bytes(&case, "spki_b64u")).unwrap();
                assert_eq!(HEXLOWER.encode(&key.fingerprint()), text(&case, "fingerprint_hex"));
            }
            "directory" => {
                let fields = ["user_id", "pubkey", "enc_pubkey", "version"];
                let statement: BTreeMap<_, _> = fields.iter().map(|field| (field, &case[field])).collect();
                check_signature(&keys, &case, serde_json::to_string(&statement).unwrap().as_bytes());
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn safety_json() {
    for case in cases("safety.json") {
        let (one, other) = (SafetyPerson::read(&case["one"]), SafetyPerson::read(&case["other"]));
        let code = SafetyCode::new(one.party(), other.party());
        let list = bip39::Language::English.word_list();
        let indices: Vec<_> = case["word_indices"].as_array().unwrap().iter().collect();
        let words: Vec<_> = indices
            .iter()
            .map(|index| list[usize::try_from(index.as_u64().unwrap()).unwrap()])
            .collect();
        assert_eq!(code.words(), words, "{}", case["name"]);
        assert_eq!(
            serde_json::to_value(code.digits()).unwrap(),
            case["digits"],
            "{}",
            case["name"]
        );
        assert_eq!(code.qr_text(), text(&case, "qr"), "{}", case["name"]);
    }
}

struct SafetyPerson {
    user: UserId,
    pubkey: KeyText,
    enc_pubkey: Option<KeyText>,
}

impl SafetyPerson {
    fn read(case: &Value) -> Self {
        let key = |field: &str| {
            case[field]
                .as_str()
                .map(|text| KeyText::try_from(text.to_owned()).unwrap())
        };
        Self {
            user: UserId::try_from(case["user_id"].as_str().unwrap()).unwrap(),
            pubkey: key("spki_b64u").unwrap(),
            enc_pubkey: key("enc_b64u"),
        }
    }

    fn party(&self) -> SafetyParty<'_> {
        SafetyParty {
            user: &self.user,
            pubkey: &self.pubkey,
            enc_pubkey: self.enc_pubkey.as_ref(),
        }
    }
}

fn check_signature(keys: &BTreeMap<String, PublicKey>, case: &Value, message: &[u8]) {
    let verified = keys[text(case, "key")].verify(message, &bytes(case, "sig_b64u"));
    let expected = if case["valid"] == true {
        Ok(())
    } else {
        Err(CryptoError::BadSignature)
    };
    assert_eq!(verified, expected, "{}", case["name"]);
}

fn scheme(case: &Value) -> ContentScheme {
    let family = match text(case, "family") {
        "text" => ContentFamily::Text,
        "raw" => ContentFamily::Raw,
        "json" => ContentFamily::Json,
        other => panic!("{other}"),
    };
    ContentScheme {
        family,
        prehashed: case["prehashed"] == true,
    }
}

fn plaintext(case: &Value) -> Vec<u8> {
    match case["plaintext_utf8"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => HEXLOWER.decode(text(case, "plaintext_hex").as_bytes()).unwrap(),
    }
}

/// The form of canonical JSON that Python writes by default: all but printable ASCII as `\uXXXX`.
fn escaped(json: &str) -> String {
    let mut out = String::new();
    for character in json.chars() {
        if (' '..='~').contains(&character) {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}").unwrap();
        }
    }
    out
}

fn public_keys() -> BTreeMap<String, PublicKey> {
    accepted()
        .map(|case| {
            (
                name(&case),
                PublicKey::from_spki_der(&bytes(&case, "spki_b64u")).unwrap(),
            )
        })
        .collect()
}

fn private_keys() -> BTreeMap<String, PrivateKey> {
    accepted()
        .map(|case| {
            (
                name(&case),
                PrivateKey::from_pkcs8_der(&bytes(&case, "pkcs8_b64u")).unwrap(),
            )
        })
        .collect()
}

fn accepted() -> impl Iterator<Item = Value> {
    cases("keys.json").into_iter().filter(|case| case["accept"] == true)
}

fn cases(file: &str) -> Vec<Value> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors")).join(file);
    let document: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = document["cases"].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

fn name(case: &Value) -> String {
    text(case, "name").to_owned()
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} of {}", case["name"]))
}

fn number(case: &Value, field: &str) -> u64 {
    case[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field} of {}", case["name"]))
}

fn bytes(case: &Value, field: &str) -> Vec<u8> {
    BASE64URL_NOPAD.decode(text(case, field).as_bytes()).unwrap()
}
