//! Which questions are answered with our signature, and who is believed without having asked (PROTOCOL II.2).

use super::super::testkit::*;
use super::super::*;
use socp_proto::payload::{Ack, UserHello};
use socp_proto::{Bytes32, Capabilities, Challenge, Draft, KeyHistory, PROOF, Proof, PublicPair, hello_digest};

fn able() -> Option<Capabilities> {
    Some(Capabilities::of(&[PROOF]).unwrap())
}

/// A pin of a server that has asked before.
fn asking() -> ServerPin {
    ServerPin {
        asks_for_proof: true,
        ..server_pin()
    }
}

/// The acknowledgement of a server that can ask.
fn able_ack() -> Payload {
    Payload::Ack(Ack {
        caps: able(),
        ..ack(SERVER, 200)
    })
}

fn draft_of(outputs: &[Output], kind: FrameKind) -> Option<Draft> {
    outputs.iter().find_map(|output| match output {
        Output::Send(draft) if draft.kind == kind => Some(draft.clone()),
        _ => None,
    })
}

/// A client that has just said hello, and the digest of that.
fn greeting(server: Option<ServerPin>) -> (Kit, Bytes32) {
    let mut kit = Kit::new(server);
    let hello = draft_of(&kit.input(Input::Connected { tls: None }), FrameKind::UserHello).unwrap();
    let Ok(Payload::UserHello(UserHello { caps, .. })) = Payload::parse(FrameKind::UserHello, &hello.payload) else {
        panic!("{hello:?}");
    };
    assert!(caps.unwrap().has(PROOF), "it always offers a proof");
    (kit, hello_digest(&hello.payload))
}

fn challenge(hello: Bytes32) -> Challenge {
    Challenge {
        tls: None,
        history: None,
        nonce: [9; 32].into(),
        server_id: server(SERVER),
        server_pub: key(200),
        hello,
        caps: able(),
        delegation: None,
    }
}

fn ask(kit: &mut Kit, challenge: Challenge) -> Vec<Output> {
    kit.frame(SERVER, Payload::Challenge(challenge), 200)
}

#[test]
fn a_good_question_is_answered_in_its_domain_and_remembered() {
    for pin in [None, Some(server_pin()), Some(asking())] {
        let (mut kit, hello) = greeting(pin.clone());
        let outputs = ask(&mut kit, challenge(hello));
        let draft = draft_of(&outputs, FrameKind::Proof).unwrap();
        assert!(
            draft.signed_text().starts_with("socp-proof-v1\0{"),
            "nothing else is signed"
        );
        let expected = Proof {
            tls: None,
            nonce: [9; 32].into(),
            server_id: server(SERVER),
            key: key(200).fingerprint().into(),
            by: user(ME).into(),
            hello,
            ts: kit.now.unix,
        };
        assert_eq!(
            Payload::parse(FrameKind::Proof, &draft.payload),
            Ok(Payload::Proof(expected))
        );
        let outputs = kit.frame(SERVER, able_ack(), 200);
        assert!(kit.client.session.is_online());
        let saved = outputs.iter().find_map(|output| match output {
            Output::SaveServer(pin) => Some(pin.clone()),
            _ => None,
        });
        assert_eq!(saved, (pin != Some(asking())).then(asking));
        let first = |event: &Event| {
            matches!(
                event,
                Event::Online {
                    first_contact: true,
                    ..
                }
            )
        };
        assert_eq!(events(outputs).iter().any(first), pin.is_none());
    }
}

/// Nothing of this is signed, and the link ends.
#[test]
fn questions_that_are_not_answered() {
    type Change = fn(&mut Challenge);
    type Check = fn(&Stop) -> bool;
    let is_challenge: Check = |stop| matches!(stop, Stop::Challenge(_));
    let rows: [(&str, Change, u8, Check); 6] = [
        ("of another hello", |it| it.hello = [0; 32].into(), 200, is_challenge),
        ("without the capability", |it| it.caps = None, 200, is_challenge),
        (
            "for another server",
            |it| it.server_id = server("other"),
            200,
            |stop| matches!(stop, Stop::ServerIdChanged { .. } | Stop::Challenge(_)),
        ),
        (
            "for another key",
            |it| it.server_pub = key(201),
            200,
            |stop| matches!(stop, Stop::ServerKeyChanged { .. } | Stop::Unsigned { .. }),
        ),
        (
            "of another key",
            |it| it.server_pub = key(201),
            201,
            |stop| matches!(stop, Stop::ServerKeyChanged { .. }),
        ),
        (
            "signed by another",
            |_| {},
            201,
            |stop| matches!(stop, Stop::Unsigned { .. }),
        ),
    ];
    for pin in [None, Some(server_pin()), Some(asking())] {
        for (what, change, signer, is_right) in rows {
            let is_first_contact = pin.is_none() && what == "of another key";
            if is_first_contact {
                continue; // Any key is as good as another then.
            }
            let (mut kit, hello) = greeting(pin.clone());
            let mut asked = challenge(hello);
            change(&mut asked);
            let outputs = kit.frame(SERVER, Payload::Challenge(asked), signer);
            assert!(sent(&outputs).is_empty(), "{what}");
            let stop = stop_of(outputs).unwrap();
            assert!(is_right(&stop), "{what}: {stop}");
        }
        let (mut kit, hello) = greeting(pin.clone());
        let unsigned = frame_to(SERVER, ME, Payload::Challenge(challenge(hello)));
        let outputs = kit.input(Input::Unverified(unsigned));
        assert!(sent(&outputs).is_empty());
        assert!(matches!(stop_of(outputs), Some(Stop::Unsigned { .. })));
        // Whoever asks must be who sends.
        let (mut kit, hello) = greeting(pin);
        let outputs = kit.frame("other", Payload::Challenge(challenge(hello)), 200);
        assert!(sent(&outputs).is_empty());
        assert!(matches!(stop_of(outputs), Some(Stop::Challenge(_))));
    }
}

#[test]
fn a_second_question_on_one_hello_is_not_answered() {
    let (mut kit, hello) = greeting(Some(asking()));
    ask(&mut kit, challenge(hello));
    let again = Challenge {
        nonce: [8; 32].into(),
        ..challenge(hello)
    };
    let outputs = ask(&mut kit, again);
    assert!(sent(&outputs).is_empty());
    assert!(matches!(stop_of(outputs), Some(Stop::Challenge(_))));
}

/// A question on a link that is in, or before there is one, is nobody's.
#[test]
fn a_question_at_another_time_is_not_answered() {
    let mut kit = Kit::online();
    let outputs = ask(&mut kit, challenge([1; 32].into()));
    assert!(sent(&outputs).is_empty() && kit.client.session.is_online());
    let mut kit = Kit::new(None);
    assert!(sent(&ask(&mut kit, challenge([1; 32].into()))).is_empty());
}

#[test]
fn whoever_has_asked_once_must_ask_again() {
    let (mut kit, _) = greeting(Some(asking()));
    assert_eq!(
        stop_of(kit.frame(SERVER, Payload::Ack(ack(SERVER, 200)), 200)),
        Some(Stop::NoChallenge)
    );
    // Whoever says that it can and does not is not believed either: such words can be repeated.
    for pin in [None, Some(server_pin())] {
        let (mut kit, _) = greeting(pin);
        assert_eq!(stop_of(kit.frame(SERVER, able_ack(), 200)), Some(Stop::NoChallenge));
        assert!(!kit.client.session.is_online());
    }
    // A server to the letter, or one of before, never asked.
    let (mut kit, _) = greeting(Some(server_pin()));
    kit.frame(SERVER, Payload::Ack(ack(SERVER, 200)), 200);
    assert!(kit.client.session.is_online());
}

/// Another answers than the one that asked.
#[test]
fn the_one_that_asked_is_the_one_that_lets_us_in() {
    let rows = [("other", 200), (SERVER, 201)];
    for (id, number) in rows {
        let (mut kit, hello) = greeting(None);
        ask(&mut kit, challenge(hello));
        let outputs = kit.frame(id, Payload::Ack(ack(id, number)), number);
        let stop = stop_of(outputs).unwrap();
        assert!(
            matches!(stop, Stop::ServerIdChanged { .. } | Stop::ServerKeyChanged { .. }),
            "{stop}"
        );
    }
}

#[test]
fn a_refused_proof_is_not_tried_again_under_another_servers_name() {
    let (mut kit, hello) = greeting(None);
    ask(&mut kit, challenge(hello));
    let refusal = error(ErrorCode::InvalidSig, "PROOF: its time is off", None);
    let outputs = kit.input(Input::Unverified(frame_to("other", ME, refusal)));
    assert!(sent(&outputs).is_empty());
    assert!(matches!(stop_of(outputs), Some(Stop::InvalidSig { .. })));
}

#[test]
fn all_of_it_is_to_be_over_in_ten_seconds() {
    let (mut kit, hello) = greeting(Some(asking()));
    assert!(kit.wait(9_000).is_empty());
    ask(&mut kit, challenge(hello));
    assert_eq!(stop_of(kit.wait(1_000)), Some(Stop::NoAnswer));
}

/// A link over TLS on which we have said hello, and the digest of that.
fn greeting_over(tls: Option<Bytes32>) -> (Kit, Bytes32) {
    let mut kit = Kit::new(Some(asking()));
    let hello = draft_of(&kit.input(Input::Connected { tls }), FrameKind::UserHello).unwrap();
    (kit, hello_digest(&hello.payload))
}

#[test]
fn a_question_from_another_tls_session_is_not_answered_and_ours_is_named() {
    let [here, elsewhere] = [1, 2].map(|byte| Some(Bytes32::from([byte; 32])));
    for (ours, theirs, is_answered) in [
        (here, here, true),
        (here, elsewhere, false),
        // TLS may end in front of the server, or of us.
        (here, None, true),
        (None, here, true),
        (None, None, true),
    ] {
        let (mut kit, hello) = greeting_over(ours);
        let asked = Challenge {
            tls: theirs,
            ..challenge(hello)
        };
        let outputs = ask(&mut kit, asked);
        let what = format!("{ours:?} {theirs:?}");
        let Some(draft) = draft_of(&outputs, FrameKind::Proof) else {
            assert!(!is_answered && sent(&outputs).is_empty(), "{what}");
            let stop = stop_of(outputs);
            assert!(matches!(stop, Some(Stop::Between)), "{what}");
            continue;
        };
        assert!(is_answered, "{what}");
        let Ok(Payload::Proof(proof)) = Payload::parse(FrameKind::Proof, &draft.payload) else {
            panic!("{draft:?}");
        };
        assert_eq!(proof.tls, ours, "{what}");
    }
}

fn pair(number: u8) -> PublicPair {
    PublicPair {
        pubkey: key(number),
        enc_pubkey: key(number),
    }
}

/// What leads from one key of the server to another; the driver has checked its signatures.
fn history(whose: &str, from: u8, to: u8) -> KeyHistory {
    let statement = KeyHistory::next(&user(whose), &pair(from), None, pair(to), 7);
    KeyHistory::begin(pair(from), statement).unwrap()
}

#[test]
fn a_server_whose_pinned_key_announced_another_is_followed() {
    let (mut kit, hello) = greeting(Some(server_pin()));
    let asked = Challenge {
        server_pub: key(201),
        history: Some(history(SERVER, 200, 201)),
        ..challenge(hello)
    };
    let outputs = kit.frame(SERVER, Payload::Challenge(asked), 201);
    assert!(draft_of(&outputs, FrameKind::Proof).is_some());
    let outputs = kit.frame(
        SERVER,
        Payload::Ack(Ack {
            caps: able(),
            ..ack(SERVER, 201)
        }),
        201,
    );
    assert!(kit.client.session.is_online());
    let followed = outputs.iter().any(|output| {
        matches!(output, Output::FollowServer { server, before } if server.key == key(201) && *before == key(200))
    });
    assert!(
        followed
            && events(outputs)
                .iter()
                .any(|event| matches!(event, Event::Notice { .. }))
    );
}

#[test]
fn nothing_less_leads_to_another_key_of_the_server() {
    let table = [
        None,
        Some(history("other", 200, 201)),
        Some(history(SERVER, 199, 201)),
        Some(history(SERVER, 200, 202)),
        Some(history(SERVER, 201, 200)),
    ];
    for history in table {
        let (mut kit, hello) = greeting(Some(server_pin()));
        let asked = Challenge {
            server_pub: key(201),
            history,
            ..challenge(hello)
        };
        let stop = stop_of(kit.frame(SERVER, Payload::Challenge(asked), 201));
        assert!(matches!(stop, Some(Stop::ServerKeyChanged { .. })), "{stop:?}");
    }
}
