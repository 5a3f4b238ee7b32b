//! What is checked of a frame before the core sees it.

use super::*;
use socp_crypto::PrivateKey;
use socp_crypto::frame_content::{Saying, content_preimage_of};
use socp_proto::payload::{AccountDelete, ChannelKeyShare, ServerPresence, UserAdvertise, UserGone, UserRemove};
use socp_proto::payload::{ChannelMessage, ChannelShare, FileChunk, FileEnd, FileMode, FileStart, FileStatus};
use socp_proto::{Base64Url, Draft, Object};
use std::sync::LazyLock;

const TS: u64 = 1_800_000_000_000;

static ALICE: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate().unwrap());
static MALLORY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate().unwrap());

fn text_of(key: &PrivateKey) -> KeyText {
    KeyText::from_der(key.public_key().spki_der())
}

fn ciphertext() -> Base64Url {
    Base64Url::encode(&[7; 512])
}

/// The kinds of content beside direct messages, with room for a signature.
fn contents() -> Vec<Payload> {
    let none = Some(Base64Url::encode(&[]));
    let key = text_of(&ALICE);
    vec![
        Payload::MsgPublicChannel(ChannelMessage {
            ciphertext: ciphertext(),
            sender_pub: key.clone(),
            content_sig: Base64Url::encode(&[]),
            group_id: Some("public".to_owned()),
        }),
        Payload::PublicChannelKeyShare(ChannelKeyShare {
            shares: vec![ChannelShare {
                member: "bob".try_into().unwrap(),
                wrapped_public_channel_key: ciphertext(),
            }],
            creator_pub: key.clone(),
            content_sig: Base64Url::encode(&[]),
        }),
        Payload::FileStart(FileStart {
            file_id: "f".to_owned(),
            name: "a.png".to_owned(),
            size: 446,
            sha256: "0".repeat(64),
            mode: FileMode::Dm,
            sender_pub: Some(key.clone()),
            content_sig: none.clone(),
        }),
        Payload::FileChunk(FileChunk {
            file_id: "f".to_owned(),
            index: 0,
            ciphertext: ciphertext(),
            total: Some(1),
            sender_pub: Some(key.clone()),
            content_sig: none.clone(),
        }),
        Payload::FileEnd(FileEnd {
            file_id: "f".to_owned(),
            status: Some(FileStatus::Received),
            detail: None,
            sender_pub: Some(key),
            content_sig: none,
        }),
    ]
}

#[expect(clippy::wildcard_enum_match_arm, reason = "no other payload is made here")]
fn with_signature(mut payload: Payload, sig: &[u8]) -> Payload {
    let sig = Base64Url::encode(sig);
    match &mut payload {
        Payload::MsgPublicChannel(message) => message.content_sig = sig,
        Payload::PublicChannelKeyShare(share) => share.content_sig = sig,
        Payload::FileStart(start) => start.content_sig = Some(sig),
        Payload::FileChunk(chunk) => chunk.content_sig = Some(sig),
        Payload::FileEnd(end) => end.content_sig = Some(sig),
        other => panic!("{other:?} has no place for one"),
    }
    payload
}

fn signed_by(key: &PrivateKey, payload: Payload, ts: u64) -> Payload {
    let (from, to) = ("alice", "bob");
    let preimage = content_preimage_of(&payload, Saying { from, to, ts }).unwrap().unwrap();
    with_signature(payload, &key.sign(&preimage).unwrap())
}

/// As it comes from alice's link.
fn frame(payload: &Payload) -> Frame {
    let from: socp_proto::UserId = "alice".try_into().unwrap();
    let to: socp_proto::UserId = "bob".try_into().unwrap();
    let draft = Draft::new(&from, &to, TS, payload);
    Frame::parse(&draft.sign(&[]).to_text()).unwrap()
}

#[test]
fn content_of_every_kind_is_checked_with_its_authors_key() {
    let key = ALICE.public_key();
    for payload in contents() {
        let kind = payload.kind().name();
        let good = frame(&signed_by(&ALICE, payload.clone(), TS));
        let checked = check_user(&good, key, false, true).unwrap();
        assert_eq!(checked, Some(text_of(&ALICE).fingerprint()), "{kind}");
        // Where the check is off nothing is said about it.
        assert_eq!(check_user(&good, key, false, false).unwrap(), None, "{kind}");

        let mut elsewhere = good.clone();
        elsewhere.envelope.from = "mallory".try_into().unwrap();
        let wrong = [
            ("another's key", frame(&signed_by(&MALLORY, payload.clone(), TS))),
            ("no signature", frame(&with_signature(payload.clone(), &[]))),
            ("a forged one", frame(&with_signature(payload.clone(), &[7; 512]))),
            ("another author", elsewhere),
        ];
        for (what, frame) in wrong {
            // The key share says who made it by key alone.
            if what == "another author" && frame.envelope.kind == FrameKind::PublicChannelKeyShare {
                continue;
            }
            let fault = check_user(&frame, key, false, true).unwrap_err();
            assert!(matches!(fault, Fault::Content { .. }), "{kind}, {what}: {fault:?}");
        }
        if payload.kind() != FrameKind::PublicChannelKeyShare {
            let late = frame(&signed_by(&ALICE, payload, TS - 1));
            let fault = check_user(&late, key, false, true).unwrap_err();
            assert!(
                matches!(fault, Fault::Content { .. }),
                "{kind}, another time: {fault:?}"
            );
        }
    }
}

#[test]
fn a_foreign_file_frame_without_a_signature_rests_on_the_manifests_hash() {
    let mut chunk = FileChunk {
        file_id: "f".to_owned(),
        index: 0,
        ciphertext: ciphertext(),
        total: None,
        sender_pub: None,
        content_sig: None,
    };
    let key = ALICE.public_key();
    let unsigned = frame(&Payload::FileChunk(chunk.clone()));
    assert_eq!(check_user(&unsigned, key, false, true).unwrap(), None);
    // One that is there must be good, and covers what a foreign frame does not have.
    chunk.content_sig = Some(Base64Url::encode(&ALICE.sign(b"anything").unwrap()));
    let claimed = frame(&Payload::FileChunk(chunk));
    let fault = check_user(&claimed, key, false, true).unwrap_err();
    assert!(matches!(fault, Fault::Content { .. }), "{fault:?}");
}

/// Gossip about alice by a home server whose key is Mallory's, vouched for by `voucher`.
fn gossip(voucher: Option<&PrivateKey>, version: Option<u64>) -> Frame {
    let (pubkey, user_id) = (text_of(&ALICE), socp_proto::UserId::try_from("alice").unwrap());
    let statement = directory_statement(&user_id, &pubkey, &pubkey, 1);
    let sig = voucher.map(|key| Base64Url::encode(&key.sign(utf8_form(&statement).as_bytes()).unwrap()));
    let home: ServerId = "srv-m".try_into().unwrap();
    let payload = Payload::UserAdvertise(UserAdvertise {
        user_id,
        server_id: home.clone(),
        meta: socp_proto::Meta::try_from(Object::new()).unwrap(),
        pubkey: Some(pubkey.clone()),
        enc_pubkey: Some(pubkey),
        caps: None,
        version,
        directory_sig: sig,
        server_name: None,
        history: None,
    });
    let draft = Draft::new(&home, socp_proto::Address::everyone(), TS, &payload);
    let sig = MALLORY.sign(draft.signed_text().as_bytes()).unwrap();
    Frame::parse(&draft.sign(&sig).to_text()).unwrap()
}

fn recorded(frame: Frame) -> (Option<Base64Url>, Metrics) {
    let metrics = Metrics::new();
    let as_it_came = frame.envelope.clone();
    let checked = check_peer(frame, MALLORY.public_key(), &metrics, &Histories::default()).unwrap();
    assert_eq!(checked.envelope, as_it_came, "it is passed on as it came");
    let Payload::UserAdvertise(advertise) = checked.payload else {
        panic!("{:?}", checked.payload)
    };
    assert_eq!(advertise.pubkey, Some(text_of(&ALICE)), "the gossip itself counts");
    (advertise.directory_sig, metrics)
}

#[test]
fn only_a_home_servers_own_directory_signature_is_recorded() {
    let good = gossip(Some(&MALLORY), Some(1));
    assert_eq!(vouchers_in(&good.payload), 1);
    assert!(recorded(good).0.is_some());
    assert_eq!(recorded(gossip(None, Some(1))).0, None);
    for (what, frame) in [
        ("another server's", gossip(Some(&ALICE), Some(1))),
        ("for another version", gossip(Some(&MALLORY), Some(2))),
        ("for no version", gossip(Some(&MALLORY), None)),
    ] {
        let (sig, metrics) = recorded(frame);
        assert_eq!(sig, None, "{what}");
        assert_eq!(metrics.drops_of(Loss::DirectorySignature), 1, "{what}");
    }
}

#[test]
fn a_peers_frame_needs_the_signature_of_who_answers_for_it() {
    let (metrics, key) = (Metrics::new(), ALICE.public_key());
    let fault = check_peer(gossip(Some(&MALLORY), Some(1)), key, &metrics, &Histories::default()).unwrap_err();
    assert!(matches!(fault, Fault::Signature { .. }), "{fault:?}");
    let home: ServerId = "srv-m".try_into().unwrap();
    let remove = Payload::UserRemove(UserRemove {
        user_id: "alice".try_into().unwrap(),
        server_id: home.clone(),
        deletion: None,
    });
    let draft = Draft::new(&home, socp_proto::Address::everyone(), TS, &remove);
    let unsigned = Frame::parse(&draft.sign(&[]).to_text()).unwrap();
    assert!(matches!(
        check_peer(unsigned, key, &metrics, &Histories::default()),
        Err(Fault::Signature { .. })
    ));
}

#[test]
fn a_proof_is_signed_by_the_key_of_the_introduction_and_as_a_proof() {
    let proof = Payload::Proof(socp_proto::Proof {
        tls: None,
        nonce: [1; 32].into(),
        server_id: "srv-a".try_into().unwrap(),
        key: text_of(&MALLORY).fingerprint().into(),
        by: "srv-m".try_into().unwrap(),
        hello: [2; 32].into(),
        ts: TS,
    });
    let from: ServerId = "srv-m".try_into().unwrap();
    let draft = Draft::new(&from, socp_proto::Address::everyone(), TS, &proof);
    let signed = |key: &PrivateKey, text: &str| {
        let sig = key.sign(text.as_bytes()).unwrap();
        Frame::parse(&draft.clone().sign(&sig).to_text()).unwrap()
    };
    let as_proof = draft.signed_text();
    let plain = utf8_form(&draft.payload);
    let alice = text_of(&ALICE);
    let checked = check_first(signed(&ALICE, &as_proof), Some(alice.clone()), &Histories::default()).unwrap();
    assert_eq!(checked.signer, Some(alice.fingerprint()));
    for (what, frame) in [
        ("another's", signed(&MALLORY, &as_proof)),
        ("signed as any payload", signed(&ALICE, &plain)),
    ] {
        let fault = check_first(frame, Some(alice.clone()), &Histories::default()).unwrap_err();
        assert!(matches!(fault, Fault::Signature { .. }), "{what}: {fault:?}");
    }
    // Before any introduction there is no key.
    let checked = check_first(signed(&ALICE, &as_proof), None, &Histories::default()).unwrap();
    assert_eq!((checked.key, checked.signer), (None, None));
    assert_eq!(offered_key(&proof, Some(alice)), None);
}

#[test]
fn a_change_of_an_account_names_who_signed_it_and_acceptable_keys() {
    let key = ALICE.public_key();
    let pair = |key: &PrivateKey| socp_proto::PublicPair {
        pubkey: text_of(key),
        enc_pubkey: text_of(key),
    };
    let user = UserId::try_from("alice").unwrap();
    let statement = socp_proto::KeyHistory::next(&user, &pair(&ALICE), None, pair(&MALLORY), TS);
    let frame = |statement| {
        let payload = Payload::KeyUpdate(KeyUpdate { statement });
        let draft = Draft::new(&user, ServerId::try_from("srv").unwrap(), TS, &payload);
        Frame::parse(&draft.sign(&[]).to_text()).unwrap()
    };
    let signed = |by: &PrivateKey| frame(socp_crypto::sign_statement(statement.clone(), by).unwrap());
    let by_alice = Fingerprint::from_bytes(key.fingerprint());
    assert_eq!(check_user(&signed(&ALICE), key, false, true), Ok(Some(by_alice)));
    assert_eq!(check_user(&signed(&MALLORY), key, false, true), Ok(None));
    let mut of_no_key = statement.clone();
    of_no_key.enc_pubkey = KeyText::from_der(b"no key");
    assert!(matches!(
        check_user(&frame(of_no_key), key, false, true),
        Err(Fault::Key(_))
    ));
}

#[test]
fn the_end_of_an_account_counts_by_the_signature_of_the_key_that_it_brings() {
    let home: ServerId = "srv-m".try_into().unwrap();
    let wish = |user: &str, server: &str| AccountDelete {
        user_id: user.try_into().unwrap(),
        server_id: server.try_into().unwrap(),
        ts: TS,
        sig: Base64Url::encode(&[]),
    };
    let said = |wish: AccountDelete, by: &PrivateKey, names: &PrivateKey| {
        socp_crypto::sign_delete(wish, by)
            .unwrap()
            .into_deletion(text_of(names))
    };
    let good = said(wish("alice", "srv-m"), &ALICE, &ALICE);
    let table = [
        (good.clone(), true),
        (said(wish("alice", "srv-m"), &MALLORY, &ALICE), false),
        (said(wish("bob", "srv-m"), &ALICE, &ALICE), false),
        (said(wish("alice", "srv-x"), &ALICE, &ALICE), false),
        (
            Deletion {
                ts: TS + 1,
                ..good.clone()
            },
            false,
        ),
        (
            Deletion {
                pubkey: KeyText::from_der(b"no key"),
                ..good
            },
            false,
        ),
    ];
    for (deletion, is_good) in table {
        let user_id = UserId::try_from("alice").unwrap();
        let letter = Payload::UserRemove(UserRemove {
            user_id: user_id.clone(),
            server_id: home.clone(),
            deletion: Some(deletion.clone()),
        });
        let batch = Payload::ServerPresence(ServerPresence {
            server_id: home.clone(),
            epoch: 1,
            from_seq: 1,
            seq: 1,
            page: 0,
            more: false,
            add: Vec::new(),
            remove: vec![UserGone {
                user_id,
                ts: TS,
                deletion: Some(deletion),
            }],
        });
        for payload in [letter, batch] {
            let metrics = Metrics::new();
            let draft = Draft::new(&home, socp_proto::Address::everyone(), TS, &payload);
            let sig = MALLORY.sign(draft.signed_text().as_bytes()).unwrap();
            let frame = Frame::parse(&draft.sign(&sig).to_text()).unwrap();
            assert_eq!(vouchers_in(&frame.payload), 1);
            let frame = check_peer(frame, MALLORY.public_key(), &metrics, &Histories::default()).unwrap();
            assert_eq!(metrics.drops_of(Loss::Deletion), u64::from(!is_good));
            // That the user has left counts in any case.
            assert_eq!(frame.payload == payload, is_good);
        }
    }
}
