//! A session belongs to whoever holds the key now (PROTOCOL II.2).

use super::super::*;
use super::world::*;
use socp_proto::limits::{HELLO_AGE_MAX_MS, HELLO_WAIT_MAX_MS};
use socp_proto::payload::{CtrlClose, ErrorNotice, ListRequest, UserHello};
use socp_proto::{Bytes32, Capabilities, Challenge, DELEGATE, Envelope, Id, PROOF, Proof, hello_digest};

/// One server that takes only whoever proves the key.
pub(super) fn proof_only() -> World {
    with(|_| {})
}

fn with(change: impl Fn(&mut Config)) -> World {
    let mut world = World::empty();
    let mut config = config("a");
    config.accept = Accept::Proof;
    change(&mut config);
    world.add(config, "a");
    world
}

fn caps(names: &[&str]) -> Option<Capabilities> {
    Some(Capabilities::of(names).unwrap())
}

/// The hello of a program that can prove it, with this key.
pub(super) fn able(key_name: &str) -> UserHello {
    UserHello {
        caps: caps(&[PROOF]),
        ..plain_hello(key_name)
    }
}

/// Says hello on a wire; what it was, and the answer.
fn ask(world: &mut World, wire: Wire, id: &str, hello: UserHello) -> (Envelope, Vec<Frame>) {
    let said = unsigned(draft(id, "*", world.now.unix, &Payload::UserHello(hello)));
    world.send(wire, &said);
    (said, world.take(wire))
}

fn challenge_in(frames: &[Frame]) -> Challenge {
    match frames {
        [
            Frame {
                payload: Payload::Challenge(challenge),
                ..
            },
        ] => challenge.clone(),
        other => panic!("{other:?} is no challenge"),
    }
}

/// What answers a challenge.
fn proof(world: &World, said: &Envelope, asked: &Challenge) -> Proof {
    Proof {
        tls: None,
        nonce: asked.nonce,
        server_id: asked.server_id.clone(),
        key: asked.server_pub.fingerprint().into(),
        by: said.from.clone(),
        hello: hello_digest(&said.payload),
        ts: world.now.unix,
    }
}

/// Sends a proof, signed with this key.
fn prove(world: &mut World, wire: Wire, proof: &Proof, key_name: &str) -> Envelope {
    let by = proof.by.to_string();
    let envelope = signed(
        draft(&by, "a", world.now.unix, &Payload::Proof(proof.clone())),
        key_name,
    );
    world.send(wire, &envelope);
    envelope
}

/// A link on which an id's user has proved this key, and the answer.
pub(super) fn enter(world: &mut World, node: &'static str, id: &str, key_name: &str) -> (Wire, Vec<Frame>) {
    enter_with(world, node, id, key_name, able(key_name))
}

/// The same with another hello.
pub(super) fn enter_with(
    world: &mut World,
    node: &'static str,
    id: &str,
    key_name: &str,
    hello: UserHello,
) -> (Wire, Vec<Frame>) {
    let wire = world.connect(node);
    let (said, frames) = ask(world, wire, id, hello);
    let [
        Frame {
            payload: Payload::Challenge(challenge),
            ..
        },
    ] = frames.as_slice()
    else {
        return (wire, frames);
    };
    let proof = proof(world, &said, challenge);
    let by = proof.by.to_string();
    let envelope = signed(draft(&by, node, world.now.unix, &Payload::Proof(proof)), key_name);
    world.send(wire, &envelope);
    let frames = world.take(wire);
    (wire, frames)
}

fn is_in(frames: &[Frame]) -> bool {
    frames
        .first()
        .is_some_and(|frame| frame.envelope.kind == FrameKind::Ack)
}

fn errors(frames: Vec<Frame>) -> Vec<ErrorCode> {
    let code = |frame: Frame| match frame.payload {
        Payload::Error(notice) => notice.code,
        other => panic!("{other:?} is no error"),
    };
    frames.into_iter().map(code).collect()
}

#[test]
fn a_hello_is_challenged_in_every_mode_and_nobody_is_in_before_the_proof() {
    for accept in [Accept::Proof, Accept::Signed, Accept::Open] {
        let mut world = with(|config| config.accept = accept);
        let wire = world.connect("a");
        let (said, frames) = ask(&mut world, wire, "u", able("u"));
        assert_eq!(frames[0].envelope.from, server_id("a"));
        let asked = challenge_in(&frames);
        assert_eq!((&asked.server_id, &asked.server_pub), (&server_id("a"), &key("a")));
        assert_eq!(asked.hello, hello_digest(&said.payload));
        assert!(asked.caps.as_ref().unwrap().has(PROOF) && asked.delegation.is_none());
        let node = world.node("a");
        assert!(node.users.is_empty() && node.server.people.get(&user_id("u")).is_none());
        let good = proof(&world, &said, &asked);
        prove(&mut world, wire, &good, "u");
        let frames = world.take(wire);
        let Payload::Ack(ack) = &frames[0].payload else {
            panic!("{frames:?}");
        };
        assert!(ack.caps.as_ref().unwrap().has(PROOF));
        assert_eq!(world.node("a").users[&user_id("u")].pubkey, key("u"));
        let unproven = |note: &Note| matches!(note, Note::UnprovenHello { .. });
        assert!(!world.node("a").has_noted(unproven), "{accept:?}");
    }
}

#[test]
fn a_delegated_key_signs_the_challenge_where_the_program_can_check_that() {
    let mut world = with(|config| config.delegation = Some(delegation("a", 1)));
    for (names, is_delegated) in [(&[PROOF, DELEGATE][..], true), (&[PROOF], false)] {
        let wire = world.connect("a");
        let hello = UserHello {
            caps: caps(names),
            ..plain_hello("u")
        };
        let (said, frames) = ask(&mut world, wire, "u", hello);
        let asked = challenge_in(&frames);
        let envelope = &frames[0].envelope;
        assert_eq!(asked.delegation.is_some(), is_delegated);
        assert_eq!(envelope.is_delegated(), is_delegated);
        if let Some(told) = &asked.delegation {
            assert_eq!(
                envelope.sig.decode(),
                toy_delegate_sig(told, &envelope.delegated_text())
            );
        }
        let good = proof(&world, &said, &asked);
        prove(&mut world, wire, &good, "u");
        let frames = world.take(wire);
        assert!(is_in(&frames) && !frames[0].envelope.is_delegated());
    }
}

#[test]
fn every_challenge_has_its_own_nonce() {
    let mut world = proof_only();
    let nonces: Vec<Vec<u8>> = (0..3)
        .map(|_| {
            let wire = world.connect("a");
            let (_, frames) = ask(&mut world, wire, "u", able("u"));
            socp_proto::Base64Url::from(challenge_in(&frames).nonce).decode()
        })
        .collect();
    assert!(nonces[0] != nonces[1] && nonces[1] != nonces[2] && nonces[0] != nonces[2]);
}

/// What is wrong with a proof gets `INVALID_SIG`, ends the link, and leaves no trace of the user.
#[test]
fn a_proof_that_is_not_the_one_asked_for() {
    type Change = fn(&mut Proof);
    let zero = || Bytes32::from([0; 32]);
    let rows: [(&str, Change, &str); 12] = [
        ("another nonce", |proof| proof.nonce = [0; 32].into(), "u"),
        ("the digest as the nonce", |proof| proof.nonce = proof.hello, "u"),
        ("another server", |proof| proof.server_id = server_id("b"), "u"),
        (
            "another key of the server",
            |proof| proof.key = key("b").fingerprint().into(),
            "u",
        ),
        (
            "its own key for the server's",
            |proof| proof.key = key("u").fingerprint().into(),
            "u",
        ),
        ("another user", |proof| proof.by = Id::from(user_id("v")), "u"),
        ("the server itself", |proof| proof.by = Id::from(server_id("a")), "u"),
        ("another hello", |proof| proof.hello = [0; 32].into(), "u"),
        ("too old", |proof| proof.ts = BEGIN - HELLO_AGE_MAX_MS - 1, "u"),
        ("too new", |proof| proof.ts = BEGIN + HELLO_AGE_MAX_MS + 1, "u"),
        ("the end of time", |proof| proof.ts = u64::MAX, "u"),
        ("signed by another", |_| {}, "thief"),
    ];
    for accept in [Accept::Proof, Accept::Open] {
        for (what, change, signer) in rows {
            let mut world = with(|config| config.accept = accept);
            let wire = world.connect("a");
            let (said, frames) = ask(&mut world, wire, "u", able("u"));
            let mut wrong = proof(&world, &said, &challenge_in(&frames));
            assert_ne!(wrong.nonce, zero());
            change(&mut wrong);
            // As the reader of the link has it: `from` decides nothing.
            let envelope = signed(draft("u", "a", BEGIN, &Payload::Proof(wrong)), signer);
            world.send(wire, &envelope);
            assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig], "{what}");
            assert_eq!(world.closed(wire), Some(1002), "{what}");
            let node = world.node("a");
            assert!(node.users.is_empty() && node.server.people.get(&user_id("u")).is_none());
            let (_, frames) = enter(&mut world, "a", "u", "u");
            assert!(is_in(&frames), "{what}: the owner comes in all the same");
        }
    }
}

#[test]
fn a_proof_just_within_two_minutes_counts() {
    for ts in [BEGIN - HELLO_AGE_MAX_MS, BEGIN + HELLO_AGE_MAX_MS] {
        let mut world = proof_only();
        let wire = world.connect("a");
        let (said, frames) = ask(&mut world, wire, "u", able("u"));
        let good = Proof {
            ts,
            ..proof(&world, &said, &challenge_in(&frames))
        };
        prove(&mut world, wire, &good, "u");
        assert!(is_in(&world.take(wire)));
    }
}

/// What is no proof, instead of one.
#[test]
fn anything_else_than_a_proof_ends_a_challenged_link() {
    let unknown = ErrorCode::UnknownType;
    let mut rows: Vec<(&str, String, Option<ErrorCode>, u16)> = Vec::new();
    let text = |payload: &Payload, signer: Option<&str>| {
        let draft = draft("u", "a", BEGIN, payload);
        signer
            .map_or_else(|| unsigned(draft.clone()), |by| signed(draft.clone(), by))
            .to_text()
    };
    let others = [
        ("a second hello", Payload::UserHello(able("u"))),
        ("a hello to the letter", Payload::UserHello(plain_hello("u"))),
        ("a hello of another", Payload::UserHello(able("v"))),
        ("a question", Payload::ListRequest(ListRequest::default())),
        ("its leave", Payload::CtrlClose(CtrlClose {})),
        ("an announcement", Payload::ServerAnnounce(identity("u"))),
    ];
    for (what, payload) in &others {
        let signer = match payload {
            Payload::UserHello(hello) if hello.pubkey == key("v") => "v",
            _ => "u",
        };
        rows.push((what, text(payload, Some(signer)), Some(unknown.clone()), 1002));
    }
    let complaint = ErrorNotice {
        code: ErrorCode::UnknownType,
        detail: "CHALLENGE".to_owned(),
        msg_ref: None,
        seq: None,
    };
    rows.push(("an error", text(&Payload::Error(complaint), None), None, 1000));
    for (what, text, code, close) in rows {
        let mut world = proof_only();
        let wire = world.connect("a");
        ask(&mut world, wire, "u", able("u"));
        world.send_text(wire, text);
        assert_eq!(world.take_errors(wire), code.into_iter().collect::<Vec<_>>(), "{what}");
        assert_eq!(world.closed(wire), Some(close), "{what}");
        assert!(world.node("a").users.is_empty(), "{what}");
    }
}

/// A proof with a field missing, of the wrong form, or cut short.
#[test]
fn a_proof_that_is_broken_ends_a_challenged_link() {
    let fields = ["nonce", "server_id", "key", "by", "hello", "ts"];
    type Damage = fn(&mut socp_proto::Object, &str);
    let damages: [(&str, Damage); 5] = [
        ("missing", |payload, field| drop(payload.remove(field))),
        ("a truth", |payload, field| {
            drop(payload.insert(field.to_owned(), true.into()))
        }),
        ("empty", |payload, field| {
            drop(payload.insert(field.to_owned(), "".into()))
        }),
        ("too long", |payload, field| {
            drop(payload.insert(field.to_owned(), "A".repeat(100).into()))
        }),
        ("below zero", |payload, field| {
            drop(payload.insert(field.to_owned(), (-1).into()))
        }),
    ];
    for field in fields {
        for (what, damage) in damages {
            let mut world = proof_only();
            let wire = world.connect("a");
            let (said, frames) = ask(&mut world, wire, "u", able("u"));
            let good = proof(&world, &said, &challenge_in(&frames));
            let mut envelope = unsigned(draft("u", "a", BEGIN, &Payload::Proof(good)));
            damage(&mut envelope.payload, field);
            envelope.sig = socp_proto::Base64Url::encode(&toy_sig(&key("u"), &envelope.signed_text()));
            world.send(wire, &envelope);
            let got = world.take_errors(wire);
            assert_eq!(got.len(), 1, "{field} {what}: {got:?}");
            assert_eq!(world.closed(wire), Some(1002), "{field} {what}");
            assert!(world.node("a").users.is_empty());
        }
    }
    let mut world = proof_only();
    let wire = world.connect("a");
    let (said, frames) = ask(&mut world, wire, "u", able("u"));
    let good = Payload::Proof(proof(&world, &said, &challenge_in(&frames)));
    let text = signed(draft("u", "a", BEGIN, &good), "u").to_text();
    world.send_text(wire, text[..text.len() / 2].to_owned());
    assert_eq!(world.take_errors(wire).len(), 1);
    assert_eq!(world.closed(wire), Some(1002));
}

#[test]
fn an_unsigned_proof_proves_nothing() {
    let mut world = proof_only();
    let wire = world.connect("a");
    let (said, frames) = ask(&mut world, wire, "u", able("u"));
    let good = Payload::Proof(proof(&world, &said, &challenge_in(&frames)));
    world.send(wire, &unsigned(draft("u", "a", BEGIN, &good)));
    assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig]);
    assert_eq!(world.closed(wire), Some(1002));
    // Nor does the signature of the same payload outside its domain.
    let wire = world.connect("a");
    let (said, frames) = ask(&mut world, wire, "u", able("u"));
    let payload = Payload::Proof(proof(&world, &said, &challenge_in(&frames)));
    let bare = toy_sig(&key("u"), &socp_proto::utf8_form(&payload.to_object()));
    world.send(wire, &draft("u", "a", BEGIN, &payload).sign(&bare));
    assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig]);
}

/// Whoever has recorded a proof says it again: on a new link, in answer to the same hello, and on the link itself.
#[test]
fn a_recorded_proof_is_of_no_use() {
    let mut world = proof_only();
    let wire = world.connect("a");
    let (said, frames) = ask(&mut world, wire, "u", able("u"));
    let good = proof(&world, &said, &challenge_in(&frames));
    let recorded = prove(&mut world, wire, &good, "u");
    assert!(is_in(&world.take(wire)));
    // Again on the link that it was for: it has no place there any more.
    world.send(wire, &recorded);
    assert_eq!(world.take_errors(wire), [ErrorCode::UnknownType]);
    for is_owner_there in [true, false] {
        if !is_owner_there {
            world.hang_up(wire);
        }
        // Before any hello, and behind the same one.
        let thief = world.connect("a");
        world.send(thief, &recorded);
        assert_eq!(world.closed(thief), Some(1002));
        let thief = world.connect("a");
        world.send(thief, &said);
        world.take(thief);
        world.send(thief, &recorded);
        assert_eq!(world.take_errors(thief), [ErrorCode::InvalidSig]);
        assert_eq!(world.closed(thief), Some(1002));
    }
}

/// Two links of one user at the same time: the proof of one is none on the other.
#[test]
fn proofs_that_change_places_prove_nothing() {
    let mut world = proof_only();
    let wires = [world.connect("a"), world.connect("a")];
    let asked = wires.map(|wire| ask(&mut world, wire, "u", able("u")));
    let proofs = asked.map(|(said, frames)| proof(&world, &said, &challenge_in(&frames)));
    prove(&mut world, wires[0], &proofs[1], "u");
    prove(&mut world, wires[1], &proofs[0], "u");
    for wire in wires {
        assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig]);
        assert_eq!(world.closed(wire), Some(1002));
    }
}

#[test]
fn a_proof_comes_within_ten_seconds_of_the_links_beginning() {
    let mut world = proof_only();
    let wire = world.connect("a");
    world.wait(4_000);
    let (said, frames) = ask(&mut world, wire, "u", able("u"));
    let good = proof(&world, &said, &challenge_in(&frames));
    world.wait(HELLO_WAIT_MAX_MS - 4_001);
    assert_eq!(world.closed(wire), None);
    world.wait(1);
    assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig]);
    assert_eq!(world.closed(wire), Some(1002));
    prove(&mut world, wire, &good, "u");
    assert!(world.node("a").users.is_empty());
}

#[test]
fn sessions_that_proved_the_same_key_live_side_by_side() {
    for accept in [Accept::Proof, Accept::Signed, Accept::Open] {
        let mut world = with(|config| config.accept = accept);
        let v = enter(&mut world, "a", "v", "v").0;
        let wires: Vec<Wire> = (0..3)
            .map(|_| {
                let (wire, frames) = enter(&mut world, "a", "u", "u");
                assert!(is_in(&frames));
                wire
            })
            .collect();
        let message = Payload::MsgDirect(direct("v", "u", BEGIN, b"hi"));
        world.send(v, &unsigned(draft("v", "u", BEGIN, &message)));
        for wire in &wires {
            assert!(world.take_kinds(*wire).contains(&FrameKind::UserDeliver));
            assert_eq!(world.closed(*wire), None);
        }
        // The first to leave takes nobody with it.
        world.take(v);
        world.hang_up(wires[0]);
        assert!(!world.take_kinds(v).contains(&FrameKind::UserRemove));
    }
}

#[test]
fn a_hello_that_proves_nothing_finds_the_name_in_use() {
    let mut world = with(|config| config.accept = Accept::Open);
    let (_, frames) = enter(&mut world, "a", "u", "u");
    assert!(is_in(&frames));
    let wire = world.connect("a");
    world.hello(wire, "u", plain_hello("u"));
    assert_eq!(world.take_errors(wire), [ErrorCode::NameInUse]);
    // And whoever proves comes in beside one who was let in without.
    let mut world = with(|config| config.accept = Accept::Open);
    world.user("u", "a");
    assert!(is_in(&enter(&mut world, "a", "u", "u").1));
}

#[test]
fn a_program_without_the_capability_is_told_which_mode_keeps_it_out() {
    let mut world = proof_only();
    for hello in ["to the letter", "of ours from before", "signed"] {
        let wire = world.connect("a");
        match hello {
            "to the letter" => world.hello(wire, "u", plain_hello("u")),
            "signed" => drop(world.proven_hello(wire, "u")),
            _ => {
                let before = UserHello {
                    caps: caps(&[DELEGATE]),
                    ..plain_hello("u")
                };
                world.hello(wire, "u", before);
            }
        }
        let frames = world.take(wire);
        let [
            Frame {
                payload: Payload::Error(notice),
                ..
            },
        ] = frames.as_slice()
        else {
            panic!("{hello}: {frames:?}");
        };
        assert_eq!(notice.code, ErrorCode::InvalidSig, "{hello}");
        assert!(notice.detail.contains("--accept proof"), "{}", notice.detail);
        assert!(notice.detail.ends_with("--accept open"), "cut: {}", notice.detail);
        assert_eq!(world.closed(wire), None, "it may try again");
        assert!(world.node("a").users.is_empty());
    }
    // Which is bounded, as any refused hello.
    let wire = world.connect("a");
    for _ in 0..3 {
        assert_eq!(world.closed(wire), None);
        world.hello(wire, "u", plain_hello("u"));
        assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig]);
    }
    assert_eq!(world.closed(wire), Some(1008));
}

/// What no proof would help gets its refusal at once, and costs no challenge.
#[test]
fn what_a_proof_would_not_mend_is_refused_before_one() {
    let mut world = proof_only();
    enter(&mut world, "a", "u", "u");
    for (id, key_name, code) in [("u", "thief", ErrorCode::BadKey), ("a", "v", ErrorCode::NameInUse)] {
        let wire = world.connect("a");
        let (_, frames) = ask(&mut world, wire, id, able(key_name));
        assert_eq!(errors(frames), [code]);
    }
    // The link may try again, with a fresh nonce.
    let wire = world.connect("a");
    ask(&mut world, wire, "u", able("thief"));
    let (said, frames) = ask(&mut world, wire, "v", able("v"));
    let good = proof(&world, &said, &challenge_in(&frames));
    prove(&mut world, wire, &good, "v");
    assert!(is_in(&world.take(wire)));
}

/// Challenges that wait bind nothing and keep nobody out.
#[test]
fn hellos_that_are_never_proved_take_no_id() {
    let mut world = proof_only();
    let squatters: Vec<Wire> = (0..50)
        .map(|_| {
            let wire = world.connect("a");
            // The owner's public key is no secret.
            ask(&mut world, wire, "u", able("u"));
            wire
        })
        .collect();
    let (owner, frames) = enter(&mut world, "a", "u", "u");
    assert!(is_in(&frames));
    world.wait(HELLO_WAIT_MAX_MS);
    for wire in squatters {
        assert_eq!(world.closed(wire), Some(1002));
    }
    assert_eq!(world.closed(owner), None);
}

/// Two keys for one new id at the same time: who proved first has it, whoever asked first.
#[test]
fn of_two_who_are_challenged_for_one_id_the_first_to_prove_has_it() {
    let mut world = proof_only();
    let (first, second) = (world.connect("a"), world.connect("a"));
    let (said, frames) = ask(&mut world, first, "u", able("one"));
    let late = proof(&world, &said, &challenge_in(&frames));
    let (said, frames) = ask(&mut world, second, "u", able("two"));
    let early = proof(&world, &said, &challenge_in(&frames));
    prove(&mut world, second, &early, "two");
    assert!(is_in(&world.take(second)));
    prove(&mut world, first, &late, "one");
    assert_eq!(errors(world.take(first)), [ErrorCode::BadKey]);
    assert_eq!(world.node("a").users[&user_id("u")].pubkey, key("two"));
}
