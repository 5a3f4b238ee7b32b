//! What bad input gets where links live and die (SOCP §8.4, §11, PROTOCOL I.5, I.11).

use super::super::*;
use super::table::*;
use super::table_fields::*;
use super::world::*;
use socp_proto::Base64Url;
use socp_proto::payload::{CtrlClose, Heartbeat, ListRequest};

const HEARTBEAT_FOREIGN: &[&str] = &["user_id", "ciphertext", "pubkey", "code"];

fn heartbeat(peers: Option<&[&str]>) -> Said {
    let peers = peers.map(|peers| peers.iter().map(|peer| server_id(peer)).collect());
    let heartbeat = Heartbeat {
        peers,
        ..Heartbeat::default()
    };
    by_x(&Payload::Heartbeat(heartbeat)).to("a")
}

fn farewell() -> Said {
    by_x(&Payload::CtrlClose(CtrlClose {})).to("a")
}

#[test]
fn the_fields_of_heartbeats_and_farewells() {
    let by = By::Peer;
    let mut rows = wrong_fields(by, &heartbeat(None), &[("peers", Ids, May)], HEARTBEAT_FOREIGN);
    rows.extend(wrong_envelope(by, &heartbeat(None)));
    let sha = Base64Url::encode(&[7; 32]);
    for field in ["have", "want"] {
        let short = Base64Url::encode(&[7; 31]);
        for json in [
            "7",
            "{}",
            "\"AAAA\"",
            "[7]",
            "[\"A+/A\"]",
            &format!("[\"{}\"]", short.as_str()),
        ] {
            let row = Row::bad(by, format!("{field} {json}"), &heartbeat(None).saying(field, json));
            rows.push(refused_as_no_frame(row, by));
        }
        let many = vec![quoted(sha.as_str()); 1_025].join(",");
        let row = Row::bad(
            by,
            format!("{field} too much"),
            &heartbeat(None).saying(field, &format!("[{many}]")),
        );
        rows.push(refused_as_no_frame(row, by));
    }
    // What was never offered cannot be had.
    let want = heartbeat(None).saying("want", &format!("[\"{}\"]", sha.as_str()));
    rows.push(Row::bad(by, "wants what nobody offered", &want));
    rows.extend(wrong_fields(by, &farewell(), &[], HEARTBEAT_FOREIGN));
    rows.push(Row::good(by, "gossip", &by_x(&advert("eve", "x"))));
    rows.push(Row::bad(by, "a good heartbeat", &heartbeat(None)));
    check(&rows);
}

#[test]
fn who_says_it() {
    let by = By::Peer;
    let mut rows = vec![Row::good(by, "gossip", &by_x(&advert("eve", "x")))];
    for (name, said) in [("heartbeat", heartbeat(None)), ("farewell", farewell())] {
        let row = |what: &str, said: Said| Row::bad(by, format!("a {name} {what}"), &said);
        rows.push(row("unsigned", said.clone().unsigned()).gets(ErrorCode::InvalidSig));
        rows.push(row("signed by another", said.clone().signed_by("thief")).gets(ErrorCode::InvalidSig));
        for server in ["b", "w", "z"] {
            let row = row(&format!("of {server}"), said.clone().from(server).signed_by(server));
            rows.push(row.gets(ErrorCode::InvalidSig));
        }
        for from in ["a", "b", "w", "z", "stranger"] {
            rows.push(row(&format!("in the name of {from}"), said.clone().from(from)));
        }
        for from in ["alice", "carol", "b", "a", "x"] {
            let said = said.clone().unsigned().from(from);
            let row = Row::bad(By::User, format!("a {name} in the name of {from}"), &said);
            rows.push(row.gets(ErrorCode::InvalidSig));
        }
    }
    rows.push(Row::bad(
        By::User,
        "a heartbeat of a user",
        &heartbeat(None).unsigned().from("mallory"),
    ));
    check(&rows);
}

/// A peer may lie about its links: it hears less for that, and nobody else does.
#[test]
fn lies_about_links() {
    let crowd: Vec<String> = (0..10_000).map(|n| format!("nobody-{n}")).collect();
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    let everyone = ["a", "b", "w", "x", "z"];
    let wendys = Said::new("w", "*", &advert("eve", "w")).signed_by("w");
    let bobs = Said::new(
        "bob",
        "alice",
        &Payload::MsgDirect(direct("bob", "alice", NOW, b"sealed")),
    );
    for peers in [&[][..], &everyone, &["a"], &["b"], &["w", "z"], &["alice"], &crowd] {
        let name = format!("is linked to {:?}", peers.iter().take(9).collect::<Vec<_>>());
        let row = Row::bad(By::Peer, name, &heartbeat(Some(peers)));
        let row = row.then(Then::Witness, &wendys).then(Then::Bob, &bobs);
        check(&[row, Row::good(By::Peer, "gossip", &by_x(&advert("eve", "x")))]);
    }
}

/// What is refused is no sign of life.
#[test]
fn a_peer_that_says_nothing_valid_is_closed_after_forty_five_seconds() {
    let bad = [
        ("nonsense", "{".to_owned()),
        ("an unsigned heartbeat", heartbeat(None).unsigned().text()),
        ("a heartbeat of another", heartbeat(None).from("stranger").text()),
        (
            "a heartbeat signed by another",
            heartbeat(None).signed_by("thief").text(),
        ),
    ];
    for (what, text) in bad {
        let mut world = World::one("a");
        let (x, w) = (world.peer("x", "a"), world.peer("w", "a"));
        for _ in 0..5 {
            world.wait(8_900);
            world.send_text(x, text.clone());
            world.peer_says(w, "w", "a", &Payload::Heartbeat(Heartbeat::default()));
        }
        assert_eq!(world.closed(x), None, "{what}");
        world.wait(500);
        assert_eq!(world.closed(x), Some(1001), "{what}");
        assert_eq!(world.closed(w), None, "{what}");
    }
    let mut world = World::one("a");
    let x = world.peer("x", "a");
    for _ in 0..5 {
        world.wait(8_900);
        let text = heartbeat(None).at(world.now.unix).text();
        world.send_text(x, text);
    }
    world.wait(500);
    assert_eq!(world.closed(x), None, "whoever speaks stays");
}

/// Nor does it stand for the answer to a ping.
#[test]
fn a_user_who_answers_no_ping_is_closed_whatever_nonsense_comes() {
    let bad = [
        ("nonsense", "{".to_owned()),
        (
            "a frame of nobody's type",
            by_mallory("a", &Payload::ListRequest(ListRequest::default()))
                .with("type", "\"WHAT\"")
                .text(),
        ),
        (
            "a wrong signature",
            by_mallory("a", &Payload::ListRequest(ListRequest::default()))
                .signed_by("thief")
                .text(),
        ),
        (
            "a list for alice",
            by_mallory("a", &Payload::ListRequest(ListRequest::default()))
                .from("alice")
                .text(),
        ),
    ];
    for (what, text) in bad {
        let mut world = World::one("a");
        let (mallory, alice) = (world.user("mallory", "a"), world.user("alice", "a"));
        world.answer_pings(alice.wire, true);
        for _ in 0..11 {
            world.send_text(mallory.wire, text.clone());
            world.wait(8_500);
        }
        assert_eq!(world.closed(mallory.wire), Some(1001), "{what}");
        assert_eq!(world.closed(alice.wire), None, "{what}");
    }
}

/// A link without a role has ten seconds, whatever is said on it that decides nothing.
#[test]
fn ten_seconds_for_a_first_frame() {
    for attempts in 0..3 {
        let mut world = World::one("a");
        world.user("alice", "a");
        let wire = world.connect("a");
        for _ in 0..attempts {
            world.wait(3_000);
            world.hello(wire, "alice", plain_hello("thief"));
            assert_eq!(world.take_errors(wire), [ErrorCode::BadKey]);
        }
        world.wait(9_999 - 3_000 * attempts);
        assert_eq!(world.closed(wire), None);
        world.wait(1);
        assert_eq!(world.closed(wire), Some(1002));
        world.hello(wire, "eve", plain_hello("eve"));
        assert!(world.take(wire).is_empty() && world.node("a").users.len() == 1);
    }
}

/// A peer that offers more gossip than anybody has must not push out what others were offered.
#[test]
fn a_flood_of_offers_does_not_cost_others_theirs() {
    let mut world = World::one("m");
    // Of our own kind and with smaller ids than the server's: what it could pass on is offered to them.
    let [c, d] = ["c", "d"].map(|name| {
        let wire = world.connect("m");
        let mut identity = identity(name);
        identity.caps = Some(socp_proto::Capabilities::default());
        world.announce(wire, name, identity);
        wire
    });
    let w = world.peer("w", "m");
    world.wait(4_000);
    world.take(c);
    let gossip = signed(draft("w", "*", world.now.unix, &advert("wendy", "w")), "w");
    world.send(w, &gossip);
    world.wait(100);
    let Some(Payload::Heartbeat(offer)) = world.take(c).pop().map(|frame| frame.payload) else {
        panic!("nothing is offered");
    };
    assert_eq!(offer.have.len(), 1);
    for flood in 0..20_u64 {
        let have = (0..1_024_u64).map(|n| Base64Url::encode(&socp_proto::sha256(&(flood << 32 | n).to_be_bytes())));
        let heartbeat = Heartbeat {
            have: have.collect(),
            ..Heartbeat::default()
        };
        world.peer_says(d, "d", "m", &Payload::Heartbeat(heartbeat));
    }
    let heartbeat = Heartbeat {
        want: offer.have,
        ..Heartbeat::default()
    };
    world.peer_says(c, "c", "m", &Payload::Heartbeat(heartbeat));
    let told = world.take(c).pop().map(|frame| frame.envelope);
    assert_eq!(told, Some(gossip), "the offer is forgotten");
    assert_eq!((world.closed(c), world.closed(w)), (None, None));
}
