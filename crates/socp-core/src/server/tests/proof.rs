//! A link belongs to the server that holds the key now (PROTOCOL II.2).

use super::super::*;
use super::world::*;
use socp_proto::payload::{Heartbeat, ServerIdentity, ServerWelcome, WelcomeClient, WelcomeServer};
use socp_proto::{Bytes32, Capabilities, Envelope, PROOF, Proof, hello_digest};

fn caps() -> Option<Capabilities> {
    Some(Capabilities::of(&[PROOF]).unwrap())
}

fn nonce(number: u8) -> Bytes32 {
    [number; 32].into()
}

/// What a server of the test says of itself that can prove it.
fn able(name: &str, number: u8) -> ServerIdentity {
    ServerIdentity {
        caps: caps(),
        nonce: Some(nonce(number)),
        ..identity(name)
    }
}

fn welcome(by: &str, assigned: &str, number: u8) -> ServerWelcome {
    ServerWelcome {
        tls: false,
        history: None,
        assigned_id: server_id(assigned),
        clients: Vec::new(),
        servers: Vec::new(),
        server_id: Some(server_id(by)),
        pubkey: Some(key(by)),
        host: Some(by.to_owned()),
        port: Some(1),
        name: None,
        caps: caps(),
        nonce: Some(nonce(number)),
    }
}

/// The nonce in an introduction of the server under test.
fn nonce_in(frame: &Frame) -> Bytes32 {
    match &frame.payload {
        Payload::ServerHelloJoin(identity) | Payload::ServerAnnounce(identity) => identity.nonce.unwrap(),
        Payload::ServerWelcome(welcome) => welcome.nonce.unwrap(),
        other => panic!("{other:?} introduces nobody"),
    }
}

fn proof_in(frame: &Frame) -> Proof {
    match &frame.payload {
        Payload::Proof(proof) => proof.clone(),
        other => panic!("{other:?} is no proof"),
    }
}

/// The proof of `by` that belongs to what it said of itself, for the server that said this.
fn proof(by: &str, said: &Envelope, asked: &Frame) -> Proof {
    Proof {
        tls: None,
        nonce: nonce_in(asked),
        server_id: ServerId::from(asked.envelope.from.clone()),
        key: key(asked.envelope.from.as_str()).fingerprint().into(),
        by: server_id(by).into(),
        hello: hello_digest(&said.payload),
        ts: asked.envelope.ts,
    }
}

fn said(world: &World, name: &str, payload: &Payload) -> Envelope {
    signed(draft(name, "*", world.now.unix, payload), name)
}

fn prove(world: &mut World, wire: Wire, by: &str, proof: Proof) {
    world.peer_says(wire, by, "a", &Payload::Proof(proof));
}

/// Connects and says this first; what it was, and the two frames of the answer.
fn introduce(world: &mut World, name: &str, payload: &Payload) -> (Wire, Envelope, Vec<Frame>) {
    let wire = world.connect("a");
    let said = said(world, name, payload);
    world.send(wire, &said);
    let frames = world.take(wire);
    (wire, said, frames)
}

fn announce(number: u8) -> Payload {
    Payload::ServerAnnounce(able("x", number))
}

/// The server "x" of the test, which has proved itself, and what it said of itself.
fn proved(world: &mut World, number: u8) -> (Wire, Envelope) {
    let (wire, said, frames) = introduce(world, "x", &announce(number));
    let proof = proof("x", &said, &frames[0]);
    prove(world, wire, "x", proof);
    assert!(is_linked(world, wire));
    (wire, said)
}

/// Whether this is the link of "x" in use.
fn is_linked(world: &World, wire: Wire) -> bool {
    world.node("a").server.peers.get(&server_id("x")) == Some(&wire.link)
}

fn kinds(frames: &[Frame]) -> Vec<FrameKind> {
    frames.iter().map(|frame| frame.envelope.kind).collect()
}

fn refusals(world: &World) -> Vec<&'static str> {
    let class = |note: &Note| match note {
        Note::Refused { class, .. } => Some(*class),
        _ => None,
    };
    world.node("a").notes.iter().filter_map(class).collect()
}

#[test]
fn whoever_announces_itself_is_shown_a_proof_and_is_nobody_before_its_own() {
    for kind in [FrameKind::ServerAnnounce, FrameKind::ServerHelloLink] {
        let mut world = World::one("a");
        world.user("u", "a");
        let wire = world.connect("a");
        let mut said = said(&world, "x", &announce(1));
        said.kind = kind;
        world.send(wire, &said);
        let frames = world.take(wire);
        assert_eq!(kinds(&frames), [FrameKind::ServerAnnounce, FrameKind::Proof]);
        let expected = Proof {
            tls: None,
            nonce: nonce(1),
            server_id: server_id("x"),
            key: key("x").fingerprint().into(),
            by: server_id("a").into(),
            hello: hello_digest(&frames[0].envelope.payload),
            ts: BEGIN,
        };
        assert_eq!(proof_in(&frames[1]), expected);
        let node = world.node("a");
        assert!(node.server.peers.is_empty() && node.pins.is_empty() && node.keyring.is_empty());
        assert!(matches!(node.server.links().last().unwrap().who, LinkWho::New));
        world.user("v", "a");
        assert!(world.take(wire).is_empty(), "it hears of nobody");

        world.node_mut("a").is_slow = true;
        prove(&mut world, wire, "x", proof("x", &said, &frames[0]));
        assert!(is_linked(&world, wire));
        assert!(world.take(wire).is_empty(), "the pin is not stored yet");
        world.answer_slow("a", 1);
        assert_eq!(
            world.take_kinds(wire),
            [FrameKind::UserAdvertise, FrameKind::UserAdvertise]
        );
        let pin = &world.node("a").pins[&server_id("x")];
        assert!(pin.key == key("x") && pin.has_proved);
        assert!(refusals(&world).is_empty());
    }
}

#[test]
fn every_link_has_its_own_nonce() {
    let mut world = World::one("a");
    let nonces: Vec<Vec<u8>> = (0..3)
        .map(|_| {
            let (_, _, frames) = introduce(&mut world, "x", &announce(1));
            socp_proto::Base64Url::from(nonce_in(&frames[0])).decode()
        })
        .collect();
    assert!(nonces[0] != nonces[1] && nonces[1] != nonces[2] && nonces[0] != nonces[2]);
}

/// A server that dials the test, which it knows or asks for admission.
fn dialling(is_known: bool) -> (World, Wire, Frame) {
    let mut world = World::empty();
    world.listens.insert("x:1".to_owned(), Vec::new());
    let mut config = config("a");
    if !is_known {
        config.bootstrap = vec![entry("x", Some(key("x")))];
    }
    world.add(config, "a");
    if is_known {
        let at_home = ServerIdentity {
            host: "x".to_owned(),
            port: 1,
            ..able("x", 1)
        };
        let (wire, said, frames) = introduce(&mut world, "x", &Payload::ServerAnnounce(at_home.clone()));
        prove(&mut world, wire, "x", proof("x", &said, &frames[0]));
        world.announce(wire, "x", at_home);
        world.hang_up(wire);
        world.wait(2_000);
    }
    let wire = world.listens["x:1"][0];
    let frames = world.take(wire);
    let [first] = frames.as_slice() else {
        panic!("{frames:?}");
    };
    (world, wire, first.clone())
}

#[test]
fn whoever_was_dialled_proves_itself_first() {
    let (mut world, wire, hello) = dialling(true);
    assert_eq!(hello.envelope.kind, FrameKind::ServerAnnounce);
    world.user("u", "a");
    let answer = said(&world, "x", &announce(9));
    world.send(wire, &answer);
    assert!(
        world.take(wire).is_empty(),
        "nothing is proved to whoever has proved nothing"
    );
    assert!(!is_linked(&world, wire));
    prove(&mut world, wire, "x", proof("x", &answer, &hello));
    assert!(is_linked(&world, wire));
    let frames = world.take(wire);
    assert_eq!(kinds(&frames), [FrameKind::Proof, FrameKind::UserAdvertise]);
    let own = proof_in(&frames[0]);
    assert_eq!((own.nonce, own.by), (nonce(9), server_id("a").into()));
    assert_eq!(own.hello, hello_digest(&hello.envelope.payload));
}

#[test]
fn a_welcome_counts_once_the_introducer_has_proved_itself() {
    let (mut world, wire, hello) = dialling(false);
    assert_eq!(hello.envelope.kind, FrameKind::ServerHelloJoin);
    let mut payload = welcome("x", "given", 9);
    payload.servers = vec![WelcomeServer {
        tls: false,
        server_id: server_id("third"),
        host: "third".to_owned(),
        port: 1,
        pubkey: key("third"),
    }];
    payload.clients = vec![WelcomeClient {
        user_id: user_id("u"),
        pubkey: Some(key("u")),
        host: None,
        port: None,
        server_id: Some(server_id("x")),
    }];
    let answer = said(&world, "x", &Payload::ServerWelcome(payload));
    world.send(wire, &answer);
    let is_new = |world: &World| {
        let dialled = &world.node("a").dialled;
        let is_third = |(address, _): &(String, u64)| address == "third:1";
        *world.node("a").server.id() == server_id("a") && !dialled.iter().any(is_third)
    };
    assert!(is_new(&world) && world.take(wire).is_empty());
    let good = Proof {
        server_id: server_id("given"),
        ..proof("x", &answer, &hello)
    };
    prove(&mut world, wire, "x", good);
    assert!(is_linked(&world, wire));
    assert_eq!(*world.node("a").server.id(), server_id("given"));
    assert!(!is_new(&world));
    let frames = world.take(wire);
    assert_eq!(kinds(&frames), [FrameKind::Proof, FrameKind::ServerAnnounce]);
    let own = proof_in(&frames[0]);
    assert_eq!((own.by, own.nonce), (server_id("given").into(), nonce(9)));
    // Whom it named before may have left since; it names everyone anew.
    assert!(world.list("a").is_empty());
    assert!(world.node("a").pins[&server_id("x")].has_proved);
}

#[test]
fn a_newcomer_proves_that_it_is_who_it_was_named() {
    for (by, is_taken) in [("given", true), ("wished", false)] {
        let mut world = World::one("a");
        let other = world.peer("wished", "a");
        let join = |wished: &str| {
            let payload = Payload::ServerHelloJoin(able("x", 1));
            signed(draft(wished, "a:1", BEGIN, &payload), "x")
        };
        let wire = world.connect("a");
        let said = join("wished");
        world.send(wire, &said);
        let frames = world.take(wire);
        assert_eq!(kinds(&frames), [FrameKind::ServerWelcome, FrameKind::Proof]);
        let Payload::ServerWelcome(welcome) = &frames[0].payload else {
            panic!("{frames:?}");
        };
        let given = welcome.assigned_id.clone();
        assert!(given != server_id("wished"));
        assert_eq!(proof_in(&frames[1]).server_id, given);
        let by = if is_taken { given.as_str() } else { by };
        let good = proof(by, &said, &frames[0]);
        let envelope = signed(draft(by, "a", BEGIN, &Payload::Proof(good)), "x");
        world.send(wire, &envelope);
        assert_eq!(world.node("a").server.peers.contains_key(&given), is_taken);
        if !is_taken {
            assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig]);
            assert_eq!(world.closed(wire), Some(1002));
        }
        assert_eq!(world.closed(other), None);
    }
}

#[test]
fn a_repeated_introduction_gets_nothing_and_the_live_link_stays() {
    let table = [
        FrameKind::ServerAnnounce,
        FrameKind::ServerHelloLink,
        FrameKind::ServerHelloJoin,
    ];
    for kind in table {
        let mut world = World::one("a");
        let (live, recorded) = proved(&mut world, 1);
        world.peer_says(live, "x", "*", &advert("v", "x"));
        let user = world.user("u", "a");
        world.take(live);
        let thief = world.connect("a");
        let repeated = Envelope {
            kind,
            ts: world.now.unix,
            ..recorded
        };
        world.send(thief, &repeated);
        let introduction = match kind == FrameKind::ServerHelloJoin {
            true => FrameKind::ServerWelcome,
            false => FrameKind::ServerAnnounce,
        };
        assert_eq!(world.take_kinds(thief), [introduction, FrameKind::Proof]);
        assert!(is_linked(&world, live));
        world.tell(user, "v", b"for v only");
        world.user("w", "a");
        assert_eq!(
            world.take_kinds(live),
            [FrameKind::ServerDeliver, FrameKind::UserAdvertise]
        );
        assert!(world.take(thief).is_empty());
        world.wait(9_999);
        assert_eq!(world.closed(thief), None);
        world.wait(1);
        assert_eq!(world.take_errors(thief), [ErrorCode::InvalidSig]);
        assert_eq!((world.closed(thief), world.closed(live)), (Some(1002), None));
        assert!(is_linked(&world, live));
        assert_eq!(world.list("a"), ["u", "v", "w"]);
        assert!(!world.node("a").has_noted(|note| matches!(
            note,
            Note::DuplicateLink { .. } | Note::PeerDown { .. } | Note::PinConflict { .. }
        )));
    }
}

#[test]
fn a_proof_of_anything_else_is_refused() {
    type Change = fn(&mut Proof);
    let table: [(&str, Change); 9] = [
        ("another nonce", |proof| proof.nonce = nonce(7)),
        ("its own nonce", |proof| proof.nonce = nonce(1)),
        ("another server", |proof| proof.server_id = server_id("m")),
        ("another key", |proof| proof.key = key("m").fingerprint().into()),
        ("by another", |proof| proof.by = server_id("y").into()),
        ("another hello", |proof| proof.hello = nonce(7)),
        ("an old one", |proof| {
            proof.ts -= socp_proto::limits::CLOCK_BEHIND_MAX_MS + 1;
        }),
        ("one ahead", |proof| {
            proof.ts += socp_proto::limits::CLOCK_AHEAD_MAX_MS + 1;
        }),
        ("no time", |proof| proof.ts = 0),
    ];
    for (what, change) in table {
        let mut world = World::one("a");
        let (wire, said, frames) = introduce(&mut world, "x", &announce(1));
        let mut wrong = proof("x", &said, &frames[0]);
        change(&mut wrong);
        prove(&mut world, wire, "x", wrong);
        assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig], "{what}");
        assert_eq!(world.closed(wire), Some(1002), "{what}");
        assert_eq!(refusals(&world), ["proof"], "{what}");
        let node = world.node("a");
        assert!(node.pins.is_empty() && node.server.pins.is_empty(), "{what}");
    }
}

#[test]
fn a_proof_that_another_signed_or_nobody_is_refused() {
    for signer in [None, Some("thief"), Some("a")] {
        let mut world = World::one("a");
        let (wire, said, frames) = introduce(&mut world, "x", &announce(1));
        let proof = Payload::Proof(proof("x", &said, &frames[0]));
        let draft = draft("x", "a", BEGIN, &proof);
        let envelope = signer.map_or_else(|| unsigned(draft.clone()), |signer| signed(draft.clone(), signer));
        world.send(wire, &envelope);
        assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig], "{signer:?}");
        assert_eq!(world.closed(wire), Some(1002), "{signer:?}");
        assert!(world.node("a").pins.is_empty(), "{signer:?}");
    }
    // Nor one that is signed as every other payload is.
    let mut world = World::one("a");
    let (wire, said, frames) = introduce(&mut world, "x", &announce(1));
    let payload = Payload::Proof(proof("x", &said, &frames[0])).to_object();
    let sig = toy_sig(&key("x"), &socp_proto::utf8_form(&payload));
    let envelope = draft("x", "a", BEGIN, &Payload::Proof(proof("x", &said, &frames[0])));
    world.send(wire, &envelope.sign(&sig));
    assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig]);
}

#[test]
fn a_dialled_server_with_a_wrong_proof_gets_none_of_ours() {
    let (mut world, wire, hello) = dialling(true);
    let answer = said(&world, "x", &announce(9));
    world.send(wire, &answer);
    let wrong = Proof {
        hello: nonce(7),
        ..proof("x", &answer, &hello)
    };
    prove(&mut world, wire, "x", wrong);
    assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig]);
    assert!(!is_linked(&world, wire) && world.closed(wire) == Some(1002));
    world.wait(10_000);
    assert!(world.listens["x:1"].len() > 1, "it is dialled again");
}

#[test]
fn nothing_comes_before_the_proof() {
    let deliver = super::table::server_deliver("v", "u", BEGIN, b"sealed");
    let table = [
        Payload::Heartbeat(Heartbeat::default()),
        advert("v", "x"),
        remove("v", "x"),
        Payload::ServerDeliver(deliver),
        announce(1),
        Payload::ServerHelloJoin(able("x", 1)),
        Payload::ServerWelcome(welcome("x", "a", 1)),
        Payload::UserHello(plain_hello("x")),
    ];
    for payload in table {
        let mut world = World::one("a");
        let user = world.user("u", "a");
        let (wire, said, frames) = introduce(&mut world, "x", &announce(1));
        world.peer_says(wire, "x", "a", &payload);
        let kind = payload.kind();
        assert_eq!(world.take_errors(wire), [ErrorCode::UnknownType], "{kind:?}");
        assert_eq!(world.closed(wire), Some(1002), "{kind:?}");
        // Too late.
        prove(&mut world, wire, "x", proof("x", &said, &frames[0]));
        assert!(world.node("a").pins.is_empty(), "{kind:?}");
        assert!(world.take(user.wire).is_empty() && world.list("a") == ["u"], "{kind:?}");
    }
    // A proof that nobody asked for.
    let mut world = World::one("a");
    let wire = world.connect("a");
    let mut hello = said(&world, "a", &Payload::ServerAnnounce(able("a", 1)));
    hello.from = "a".try_into().unwrap();
    let asked = Frame::parse(&hello.to_text()).unwrap();
    prove(&mut world, wire, "x", proof("x", &hello, &asked));
    assert_eq!(world.take_errors(wire), [ErrorCode::UnknownType]);
    assert_eq!(world.closed(wire), Some(1002));
}

#[test]
fn whoever_refuses_our_introduction_says_so_and_is_not_answered() {
    let mut world = World::one("a");
    let (wire, ..) = introduce(&mut world, "x", &announce(1));
    let refusal = super::table_frames::error(ErrorCode::InvalidSig, None);
    world.peer_says(wire, "x", "a", &refusal);
    assert!(world.take(wire).is_empty());
    assert_eq!(world.closed(wire), Some(1000));
    assert!(
        world
            .node("a")
            .has_noted(|note| matches!(note, Note::PeerComplained { .. }))
    );
}

#[test]
fn a_second_proof_is_out_of_place() {
    let mut world = World::one("a");
    let (wire, said, frames) = introduce(&mut world, "x", &announce(1));
    let proof = proof("x", &said, &frames[0]);
    for _ in 0..2 {
        prove(&mut world, wire, "x", proof.clone());
    }
    assert_eq!(world.take_errors(wire), [ErrorCode::UnknownType]);
    assert_eq!(world.closed(wire), None);
    assert!(is_linked(&world, wire));
    // Nor does it do on another link.
    let (other, ..) = introduce(&mut world, "x", &announce(1));
    prove(&mut world, other, "x", proof);
    assert_eq!(world.take_errors(other), [ErrorCode::InvalidSig]);
    assert!(is_linked(&world, wire));
}

#[test]
fn a_proof_has_ten_seconds_from_the_beginning_of_the_link() {
    for (ms, is_in_time) in [(9_999, true), (10_000, false)] {
        let mut world = World::one("a");
        let wire = world.connect("a");
        world.wait(4_000);
        let said = said(&world, "x", &announce(1));
        world.send(wire, &said);
        let frames = world.take(wire);
        world.wait(ms - 4_000);
        prove(&mut world, wire, "x", proof("x", &said, &frames[0]));
        assert_eq!(is_linked(&world, wire), is_in_time, "{ms}");
        let errors: &[ErrorCode] = if is_in_time { &[] } else { &[ErrorCode::InvalidSig] };
        assert_eq!(world.take_errors(wire), errors, "{ms}");
        assert_eq!(world.closed_at(wire), (!is_in_time).then_some(10_000), "{ms}");
    }
}

#[test]
fn who_has_proved_itself_once_must_always() {
    let withheld: [(&str, Option<Capabilities>); 2] =
        [("the letter", None), ("no proof/1", Some(Capabilities::default()))];
    for (what, caps) in withheld {
        let mut world = World::one("a");
        let (live, _) = proved(&mut world, 1);
        let old = ServerIdentity {
            caps: caps.clone(),
            ..identity("x")
        };
        for payload in [
            Payload::ServerAnnounce(old.clone()),
            Payload::ServerHelloLink(old.clone()),
            Payload::ServerHelloJoin(old.clone()),
        ] {
            let (wire, _, frames) = introduce(&mut world, "x", &payload);
            let [
                Frame {
                    payload: Payload::Error(notice),
                    ..
                },
            ] = frames.as_slice()
            else {
                panic!("{what}: {frames:?}");
            };
            assert_eq!(notice.code, ErrorCode::InvalidSig, "{what}");
            assert!(notice.detail.contains("socp admin unpin"), "{what}: {}", notice.detail);
            assert_eq!(world.closed(wire), Some(1008), "{what}");
        }
        assert!(is_linked(&world, live) && world.closed(live).is_none(), "{what}");
        let withheld = |note: &Note| matches!(note, Note::ProofWithheld { server } if *server == server_id("x"));
        assert!(world.node("a").has_noted(withheld), "{what}");

        // A restart forgets none of it, and the operator may.
        world.crash("a");
        world.start(&["a"]);
        let (wire, ..) = introduce(&mut world, "x", &Payload::ServerAnnounce(old.clone()));
        assert_eq!(world.closed(wire), Some(1008), "{what}");
        world.handle("a", Input::Unpin { server: server_id("x") });
        world.settle();
        let (wire, _, frames) = introduce(&mut world, "x", &Payload::ServerAnnounce(old));
        assert_eq!(kinds(&frames), [FrameKind::ServerAnnounce], "{what}");
        assert!(is_linked(&world, wire), "{what}");
        assert!(!world.node("a").pins[&server_id("x")].has_proved, "{what}");
    }
}

#[test]
fn an_introducer_that_has_proved_itself_must_always() {
    let (mut world, wire, hello) = dialling(true);
    let answer = said(&world, "x", &Payload::ServerAnnounce(identity("x")));
    world.send(wire, &answer);
    assert_eq!(world.take_errors(wire), [ErrorCode::InvalidSig]);
    assert_eq!(world.closed(wire), Some(1008));
    assert!(nonce_in(&hello) != nonce(0));
}

#[test]
fn proof_without_a_nonce_is_none() {
    let mut world = World::one("a");
    let bare = ServerIdentity {
        nonce: None,
        ..able("x", 1)
    };
    let (wire, ..) = introduce(&mut world, "x", &Payload::ServerAnnounce(bare));
    assert_eq!(world.closed(wire), Some(1002));
    assert_eq!(refusals(&world), ["proof"]);
    assert!(world.node("a").pins.is_empty());
}

#[test]
fn programs_of_before_are_met_as_before() {
    // One that lists other capabilities, one that lists none, and one whose nonce means something else.
    let table = [
        (Some(Capabilities::default()), None),
        (None, None),
        (None, Some(nonce(1))),
    ];
    for (caps, nonce) in table {
        let mut world = World::one("a");
        let identity = ServerIdentity {
            caps,
            nonce,
            ..identity("x")
        };
        let (wire, _, frames) = introduce(&mut world, "x", &Payload::ServerAnnounce(identity));
        assert_eq!(kinds(&frames), [FrameKind::ServerAnnounce]);
        assert!(!frames[0].envelope.payload.contains_key("nonce"));
        assert!(is_linked(&world, wire) && !world.node("a").pins[&server_id("x")].has_proved);
        // Once it has a program that can, that counts from then on.
        let (newer, _) = proved(&mut world, 2);
        assert!(is_linked(&world, newer) && world.node("a").pins[&server_id("x")].has_proved);
    }
}

#[test]
fn in_every_mix_of_old_and_new_servers_everything_arrives() {
    for mix in 0..8_u8 {
        let servers = [("a", mix & 1 != 0), ("b", mix & 2 != 0), ("c", mix & 4 != 0)];
        let mut world = World::empty();
        for (name, proves) in servers {
            let bootstrap = (name != "a").then(|| entry("a", Some(key("a"))));
            let bootstrap = bootstrap.into_iter().collect();
            world.add(
                Config {
                    proves,
                    bootstrap,
                    ..config(name)
                },
                name,
            );
        }
        let users = [("u", "a"), ("v", "b"), ("w", "c")].map(|(id, node)| world.user(id, node));
        for user in users {
            world.answer_pings(user.wire, true);
        }
        world.wait(20_000);
        // Every pair meets again, whoever dials.
        for (a, b) in [("a", "b"), ("b", "c"), ("a", "c")] {
            world.part(a, b);
        }
        world.wait(20_000);
        for user in users {
            world.take(user.wire);
        }
        for from in users {
            for to in users.iter().filter(|to| to.id != from.id) {
                world.tell(from, to.id, from.id.as_bytes());
                assert_eq!(world.take_kinds(to.wire), [FrameKind::UserDeliver], "{servers:?}");
            }
        }
        for (name, proves) in servers {
            assert_eq!(world.list(name), ["u", "v", "w"], "{servers:?}");
            assert!(!world.node(name).has_noted(|note| matches!(note, Note::Refused { .. })));
            for (other, _) in servers.iter().filter(|(other, _)| *other != name) {
                let is_able = servers.iter().any(|(server, is_able)| server == other && *is_able);
                let pin = &world.node(name).pins[&server_id(other)];
                assert_eq!(pin.has_proved, proves && is_able, "{servers:?}: {other} at {name}");
            }
        }
    }
}

#[test]
fn the_capability_is_not_taken_back() {
    let mut world = World::one("a");
    let (wire, _) = proved(&mut world, 1);
    let moved = |caps| ServerIdentity {
        host: "elsewhere".to_owned(),
        port: 7,
        caps,
        ..identity("x")
    };
    world.announce(wire, "x", moved(None));
    assert_eq!(refusals(&world), ["downgrade"]);
    assert_ne!(world.node("a").pins[&server_id("x")].host, "elsewhere");
    world.announce(wire, "x", moved(caps()));
    let pin = &world.node("a").pins[&server_id("x")];
    assert!(pin.host == "elsewhere" && pin.has_proved);
}

fn join(world: &mut World, name: &str, wished: &str) -> (Wire, ServerId) {
    let wire = world.connect("a");
    let payload = Payload::ServerHelloJoin(able(name, 1));
    world.send(wire, &signed(draft(wished, "a:1", BEGIN, &payload), name));
    let frames = world.take(wire);
    let Payload::ServerWelcome(welcome) = &frames[0].payload else {
        panic!("{frames:?}");
    };
    (wire, welcome.assigned_id.clone())
}

#[test]
fn an_id_that_was_given_is_nobody_elses_until_it_is_proved_or_given_up() {
    let mut world = World::one("a");
    let (first, given) = join(&mut world, "x", "x");
    assert_eq!(given, server_id("x"));
    assert_eq!(join(&mut world, "x", "x").1, server_id("x"), "the same again");
    let fresh = join(&mut world, "y", "x").1;
    assert_ne!(fresh, server_id("x"));
    assert_eq!(join(&mut world, "y", "x").1, fresh, "for one wish of one key one id");
    // A server or a user that says it is its own.
    let announcer = world.connect("a");
    let thief = Payload::ServerAnnounce(able("y", 1));
    world.send(announcer, &signed(draft("x", "*", BEGIN, &thief), "y"));
    assert_eq!(world.take_errors(announcer), [ErrorCode::BadKey]);
    let user = world.connect("a");
    world.hello(user, "x", plain_hello("x"));
    assert_eq!(world.take_errors(user), [ErrorCode::NameInUse]);
    world.wait(10_000);
    assert_eq!(world.closed(first), Some(1002));
    assert_eq!(join(&mut world, "y", "x").1, server_id("x"));
}

/// The wish is not signed: whoever has recorded a join can say it again with another.
#[test]
fn a_repeated_join_with_another_wish_chooses_nobodys_id() {
    let mut world = World::one("a");
    let (repeated, evil) = join(&mut world, "x", "evil");
    assert_eq!(evil, server_id("evil"));
    let wire = world.connect("a");
    let said = signed(draft("x", "a:1", BEGIN, &Payload::ServerHelloJoin(able("x", 1))), "x");
    world.send(wire, &said);
    let frames = world.take(wire);
    let Payload::ServerWelcome(welcome) = &frames[0].payload else {
        panic!("{frames:?}");
    };
    assert_eq!(welcome.assigned_id, server_id("x"));
    prove(&mut world, wire, "x", proof("x", &said, &frames[0]));
    assert!(is_linked(&world, wire));
    assert_eq!(world.node("a").pins[&server_id("x")].key, key("x"));
    world.wait(10_000);
    assert_eq!(world.closed(repeated), Some(1002));
    assert_eq!(join(&mut world, "x", "evil").1, server_id("x"), "one key, one id");
}

#[test]
fn an_id_that_somebody_is_about_to_prove_is_not_given_away() {
    let mut world = World::one("a");
    let (wire, said, frames) = introduce(&mut world, "x", &announce(1));
    assert_ne!(join(&mut world, "y", "x").1, server_id("x"));
    prove(&mut world, wire, "x", proof("x", &said, &frames[0]));
    assert!(is_linked(&world, wire));
}

#[test]
fn of_two_who_say_they_are_one_the_first_to_prove_it_is() {
    let mut world = World::one("a");
    let (slow, slow_said, slow_frames) = introduce(&mut world, "x", &announce(1));
    let other = world.connect("a");
    let other_said = signed(draft("x", "*", BEGIN, &Payload::ServerAnnounce(able("y", 2))), "y");
    world.send(other, &other_said);
    let frames = world.take(other);
    let envelope = draft("x", "a", BEGIN, &Payload::Proof(proof("x", &other_said, &frames[0])));
    world.send(other, &signed(envelope, "y"));
    assert!(is_linked(&world, other));
    world.take(other);
    prove(&mut world, slow, "x", proof("x", &slow_said, &slow_frames[0]));
    assert_eq!(world.take_errors(slow), [ErrorCode::BadKey]);
    assert_eq!(world.node("a").pins[&server_id("x")].key, key("y"));
    assert!(is_linked(&world, other));
}

#[test]
fn a_server_that_keeps_its_id_does_not_link_under_another_and_asks_ever_more_rarely() {
    let (mut world, wire, hello) = dialling(false);
    world.peer("known", "a");
    let mut wire = wire;
    let mut hello = hello;
    for _ in 0..4 {
        let answer = said(&world, "x", &Payload::ServerWelcome(welcome("x", "given", 9)));
        world.send(wire, &answer);
        let good = Proof {
            server_id: server_id("given"),
            ..proof("x", &answer, &hello)
        };
        prove(&mut world, wire, "x", good);
        assert!(!is_linked(&world, wire) && world.take(wire).is_empty());
        assert_eq!(world.closed(wire), Some(1000));
        let before = world.listens["x:1"].len();
        while world.listens["x:1"].len() == before {
            world.wait(100);
        }
        wire = *world.listens["x:1"].last().unwrap();
        hello = world.take(wire).remove(0);
    }
    let at: Vec<u64> = world.node("a").dialled.iter().map(|(_, at)| *at).collect();
    assert!(at[4] - at[3] > 2_000, "{at:?}");
    assert!(world.node("a").has_noted(|note| matches!(note, Note::IdKept { .. })));
    assert_eq!(*world.node("a").server.id(), server_id("a"));
}

/// Everything that comes on one goes out on the other.
fn pass_on(world: &mut World, one: Wire, other: Wire) {
    for _ in 0..4 {
        for (from, to) in [(one, other), (other, one)] {
            for frame in world.take(from) {
                if world.closed(to).is_none() {
                    world.send(to, &frame.envelope);
                }
            }
        }
    }
}

/// The live link of a and b is what it was.
fn is_undisturbed(world: &World, live: &[LinkId]) {
    assert_eq!(world.links_between("a", "b"), live);
    assert_eq!(world.node("a").server.peers[&server_id("b")], live[0]);
    assert!(
        !world
            .node("a")
            .has_noted(|note| matches!(note, Note::DuplicateLink { .. }))
    );
    for name in ["a", "b"] {
        assert!(!world.node(name).has_noted(|note| matches!(note, Note::PeerDown { .. })));
    }
}

#[test]
fn whoever_passes_every_word_on_between_two_servers_gets_no_link_from_either() {
    // b knows m at an address where everything is passed on to a, and what a answers is passed back.
    let mut world = World::mesh(&["a", "b"]);
    world.listens.insert("m:1".to_owned(), Vec::new());
    let at_m = ServerIdentity {
        host: "m".to_owned(),
        port: 1,
        ..able("m", 1)
    };
    let wire = world.connect("b");
    let said = said(&world, "m", &Payload::ServerAnnounce(at_m.clone()));
    world.send(wire, &said);
    let frames = world.take(wire);
    let asked = Payload::Proof(proof("m", &said, &frames[0]));
    world.peer_says(wire, "m", "b", &asked);
    world.announce(wire, "m", at_m);
    let live = world.links_between("a", "b");
    world.node_mut("b").notes.clear();
    world.hang_up(wire);
    world.node_mut("b").notes.clear();
    world.wait(2_000);
    let to_b = world.listens["m:1"][0];
    let to_a = world.connect("a");
    pass_on(&mut world, to_b, to_a);
    assert_eq!(world.closed(to_b), Some(1008));
    is_undisturbed(&world, &live);
}

#[test]
fn at_an_address_without_a_key_too() {
    // Whichever of the two has the smaller id, and dialled the live link.
    for (name, host) in [("b", "b"), ("a", "a")] {
        let mut world = World::empty();
        world.listens.insert("m:1".to_owned(), Vec::new());
        let other = if name == "b" { "a" } else { "b" };
        world.add(config(other), other);
        let mut config = config(name);
        config.bootstrap = vec![entry(other, Some(key(other))), entry("m", None)];
        config.host = host.to_owned();
        world.add(config, name);
        let live = world.links_between("a", "b");
        let dialled = world.listens["m:1"][0];
        let onward = world.connect(other);
        pass_on(&mut world, dialled, onward);
        assert_eq!(world.closed(dialled), Some(1000));
        assert_eq!(world.links_between("a", "b"), live);
        assert!(
            !world
                .node(other)
                .has_noted(|note| matches!(note, Note::DuplicateLink { .. }))
        );
        // It is looked for there no more while it is linked.
        world.wait(5 * 60_000);
        assert_eq!(world.listens["m:1"].len(), 1);
        assert_eq!(world.links_between("a", "b"), live);
    }
}

#[test]
fn of_two_newcomers_at_the_same_time_the_later_hears_of_the_earlier() {
    let mut world = World::one("a");
    let at = |name: &str| ServerIdentity {
        host: name.to_owned(),
        port: 1,
        ..able(name, 1)
    };
    introduce(&mut world, "x", &Payload::ServerHelloJoin(at("x")));
    introduce(&mut world, "x", &Payload::ServerHelloJoin(at("x")));
    let (_, _, frames) = introduce(&mut world, "y", &Payload::ServerHelloJoin(at("y")));
    let Payload::ServerWelcome(welcome) = &frames[0].payload else {
        panic!("{frames:?}");
    };
    let heard: Vec<_> = welcome
        .servers
        .iter()
        .map(|server| (&server.server_id, &server.pubkey))
        .collect();
    assert!(heard.contains(&(&server_id("x"), &key("x"))), "{heard:?}");
    assert!(heard.iter().all(|(server, _)| **server != server_id("y")));
}

#[test]
fn of_many_links_with_one_key_the_oldest_goes_and_the_true_server_still_gets_in() {
    use socp_proto::limits::PROVERS_PER_KEY_COUNT_MAX;
    let mut world = World::one("a");
    let (other, ..) = introduce(&mut world, "y", &Payload::ServerHelloJoin(able("y", 1)));
    let join = Payload::ServerHelloJoin(able("x", 1));
    let wires: Vec<Wire> = (0..PROVERS_PER_KEY_COUNT_MAX + 1)
        .map(|_| introduce(&mut world, "x", &join).0)
        .collect();
    let open = wires.iter().filter(|wire| world.closed(**wire).is_none()).count();
    assert_eq!(open, PROVERS_PER_KEY_COUNT_MAX);
    assert_eq!((world.closed(wires[0]), world.closed(other)), (Some(1013), None));
    let (wire, said, frames) = introduce(&mut world, "x", &announce(1));
    assert_eq!(world.closed(wires[1]), Some(1013));
    prove(&mut world, wire, "x", proof("x", &said, &frames[0]));
    assert!(is_linked(&world, wire));
}

/// As many servers as are pinned at "a", all at addresses with long names.
fn knowing(count: usize) -> World {
    let mut world = World::one("a");
    for number in 0..count {
        let name = format!("s{number:03}");
        let pin = ServerPin {
            has_tls: false,
            server_id: server_id(&name),
            key: key(&name),
            host: format!("{name}.{}", "x".repeat(200)),
            port: 1,
            name: None,
            has_proved: false,
            keeps: true,
        };
        world.node_mut("a").pins.insert(server_id(&name), pin);
    }
    world.crash("a");
    world.start(&["a"]);
    world
}

/// The users and servers in a welcome.
fn named(frame: &Frame) -> (usize, usize) {
    match &frame.payload {
        Payload::ServerWelcome(welcome) => (welcome.clients.len(), welcome.servers.len()),
        other => panic!("{other:?} is no welcome"),
    }
}

#[test]
fn whoever_has_proved_nothing_is_told_of_no_users_and_of_few_servers() {
    for count in [0, 10, 300] {
        let mut world = knowing(count);
        world.user("u", "a");
        let (wire, said, frames) = introduce(&mut world, "x", &Payload::ServerHelloJoin(able("x", 1)));
        assert_eq!(kinds(&frames), [FrameKind::ServerWelcome, FrameKind::Proof]);
        let (users, servers) = named(&frames[0]);
        assert_eq!(users, 0);
        assert!(frames[0].envelope.to_text().len() <= socp_proto::limits::WELCOME_UNPROVEN_BYTES_MAX);
        prove(&mut world, wire, "x", proof("x", &said, &frames[0]));
        let frames = world.take(wire);
        if count < 300 {
            assert_eq!(servers, count);
            assert_eq!(kinds(&frames), [FrameKind::UserAdvertise]);
            continue;
        }
        // All of them, once it has.
        assert!(servers > 50);
        assert_eq!(kinds(&frames), [FrameKind::ServerWelcome, FrameKind::UserAdvertise]);
        assert_eq!(named(&frames[0]), (0, count));
    }
}

#[test]
fn to_the_letter_a_welcome_names_users_and_all_servers() {
    let mut world = knowing(300);
    world.user("u", "a");
    let (_, _, frames) = introduce(&mut world, "x", &Payload::ServerHelloJoin(identity("x")));
    assert_eq!(named(&frames[0]), (1, 300));
}

fn at_third() -> WelcomeServer {
    WelcomeServer {
        tls: false,
        server_id: server_id("third"),
        host: "third".to_owned(),
        port: 1,
        pubkey: key("third"),
    }
}

fn has_dialled_third(world: &World) -> bool {
    let mut dialled = world.node("a").dialled.iter();
    dialled.any(|(address, _)| address == "third:1")
}

#[test]
fn an_introducer_may_name_more_servers_once_after_the_proofs() {
    let (mut world, wire, hello) = dialling(false);
    let answer = said(&world, "x", &Payload::ServerWelcome(welcome("x", "given", 9)));
    world.send(wire, &answer);
    let good = Proof {
        server_id: server_id("given"),
        ..proof("x", &answer, &hello)
    };
    prove(&mut world, wire, "x", good);
    world.take(wire);
    let more = Payload::ServerWelcome(ServerWelcome {
        servers: vec![at_third()],
        clients: vec![WelcomeClient {
            user_id: user_id("u"),
            pubkey: Some(key("u")),
            host: None,
            port: None,
            server_id: Some(server_id("x")),
        }],
        nonce: None,
        ..welcome("x", "another", 9)
    });
    world.peer_says(wire, "x", "given", &more);
    assert!(has_dialled_third(&world) && world.take(wire).is_empty());
    assert_eq!(*world.node("a").server.id(), server_id("given"));
    assert!(world.list("a").is_empty());
    world.take(wire);
    world.peer_says(wire, "x", "given", &more);
    assert_eq!(world.take_errors(wire), [ErrorCode::UnknownType]);
}

#[test]
fn whom_nobody_asked_to_join_names_no_servers() {
    let mut world = World::one("a");
    let (wire, _) = proved(&mut world, 1);
    let more = ServerWelcome {
        servers: vec![at_third()],
        ..welcome("x", "a", 9)
    };
    world.peer_says(wire, "x", "a", &Payload::ServerWelcome(more));
    assert_eq!(world.take_errors(wire), [ErrorCode::UnknownType]);
    assert!(!has_dialled_third(&world));
}

#[test]
fn what_an_introducer_that_is_linked_already_knows_counts_all_the_same() {
    let mut world = World::empty();
    world.listens.insert("x:1".to_owned(), Vec::new());
    let mut config = config("a");
    config.bootstrap = vec![entry("x", None)];
    world.add(config, "a");
    let asked = world.listens["x:1"][0];
    let hello = world.take(asked).remove(0);
    let (live, _) = proved(&mut world, 1);
    let knowing = ServerWelcome {
        servers: vec![at_third()],
        ..welcome("x", "a", 9)
    };
    let answer = said(&world, "x", &Payload::ServerWelcome(knowing));
    world.send(asked, &answer);
    assert!(!has_dialled_third(&world), "nothing is proved yet");
    prove(&mut world, asked, "x", proof("x", &answer, &hello));
    assert_eq!(world.closed(asked), Some(1000));
    assert!(world.take(asked).is_empty() && is_linked(&world, live));
    assert!(has_dialled_third(&world));
}
