//! A server that tells who is there by itself, in batches (PROTOCOL II.8).

use super::super::testkit::*;
use super::super::*;
use super::{events, sent};
use socp_proto::Capabilities;
use socp_proto::Meta;
use socp_proto::payload::{Ack, OnlineUser, Presence};

fn kit() -> Kit {
    let mut kit = Kit::new(Some(server_pin()));
    kit.input(Input::Connected { tls: None });
    let caps = Some(Capabilities::of(&[PRESENCE]).unwrap());
    let told = kit.server_says(Payload::Ack(Ack {
        caps,
        ..ack(SERVER, 200)
    }));
    assert!(sent(&told).is_empty(), "it asks for no list: {told:?}");
    kit
}

fn here(id: &str) -> OnlineUser {
    OnlineUser {
        user_id: user(id),
        server_id: server(SERVER),
        meta: Meta::named(Some(id), None).unwrap(),
        server_name: None,
        version: None,
    }
}

fn batch(from_seq: u64, seq: u64, add: &[&str], remove: &[&str]) -> Presence {
    Presence {
        server_id: server(SERVER),
        epoch: 1,
        from_seq,
        seq,
        page: 0,
        more: false,
        add: add.iter().map(|id| here(id)).collect(),
        remove: remove.iter().map(|id| user(id)).collect(),
    }
}

/// Who came and who left, as it is told.
fn shown(outputs: Vec<Output>) -> Vec<(String, bool)> {
    let people = events(outputs).into_iter().filter_map(|event| match event {
        Event::Presence(person) => Some((person.user_id.to_string(), person.online)),
        _ => None,
    });
    people.collect()
}

fn says(kit: &mut Kit, presence: Presence) -> Vec<(String, bool)> {
    shown(kit.server_says(Payload::Presence(presence)))
}

fn yes(id: &str) -> (String, bool) {
    (id.to_owned(), true)
}

fn no(id: &str) -> (String, bool) {
    (id.to_owned(), false)
}

#[test]
fn a_list_waits_for_the_last_page_and_changes_are_shown() {
    let mut kit = kit();
    assert!(events(kit.input(Input::Command(Command::List { ticket: 1 }))).is_empty());
    let first = Presence {
        more: true,
        ..batch(0, 4, &["a", "b"], &[])
    };
    assert_eq!(says(&mut kit, first), [yes("a"), yes("b")]);
    let last = Presence {
        page: 1,
        ..batch(0, 4, &["c"], &[])
    };
    let told = events(kit.server_says(Payload::Presence(last)));
    assert!(
        matches!(&told[..], [Event::Presence(_), Event::Listed { ticket: 1, result: Ok(all) }] if all.len() == 3),
        "{told:?}"
    );
    assert_eq!(
        says(&mut kit, batch(5, 6, &["d"], &["b", "nobody"])),
        [yes("d"), no("b")]
    );
    assert_eq!(says(&mut kit, batch(5, 6, &["d"], &["b"])), [], "told again");
}

#[test]
fn what_was_missed_is_asked_for_and_a_new_list_takes_away_who_is_not_in_it() {
    let mut kit = kit();
    says(&mut kit, batch(0, 4, &["a", "b"], &[]));
    let asked = kit.server_says(Payload::Presence(batch(6, 6, &["z"], &[])));
    assert_eq!(sent(&asked), [FrameKind::PresenceRequest]);
    assert_eq!(shown(asked), []);
    assert_eq!(says(&mut kit, batch(5, 6, &["z"], &["a"])), [yes("z"), no("a")]);
    assert_eq!(says(&mut kit, batch(0, 9, &["b"], &[])), [no("z")]);
}

#[test]
fn a_server_that_tells_nobody_is_a_failure_after_a_while() {
    let mut kit = kit();
    kit.input(Input::Command(Command::List { ticket: 1 }));
    let told = events(kit.wait(ANSWER_WAIT_MAX_MS));
    assert!(
        matches!(
            &told[..],
            [Event::Listed {
                ticket: 1,
                result: Err(_)
            }]
        ),
        "{told:?}"
    );
}

/// The link breaks and the server lets us in again; what the hello said to know.
fn relink(kit: &mut Kit) -> Option<(u64, u64)> {
    let reason = "gone".to_owned();
    kit.input(Input::Disconnected { reason });
    let told = kit.input(Input::Connected { tls: None });
    let known = told.iter().find_map(|output| match output {
        Output::Send(draft) if draft.kind == FrameKind::UserHello => draft.payload.get("presence").cloned(),
        _ => None,
    });
    let caps = Some(Capabilities::of(&[PRESENCE]).unwrap());
    kit.server_says(Payload::Ack(Ack {
        caps,
        ..ack(SERVER, 200)
    }));
    let number = |known: &serde_json::Value, name: &str| known[name].as_u64().unwrap();
    known.map(|known| (number(&known, "epoch"), number(&known, "from_seq")))
}

#[test]
fn on_the_next_link_only_what_has_changed_is_wanted_and_shown() {
    let mut kit = kit();
    says(&mut kit, batch(0, 4, &["a", "b", "c"], &[]));
    assert_eq!(relink(&mut kit), Some((1, 4)));
    // The list is right once the changes have ended.
    assert!(events(kit.input(Input::Command(Command::List { ticket: 1 }))).is_empty());
    let first = Presence {
        more: true,
        ..batch(4, 6, &["d"], &["a"])
    };
    assert_eq!(says(&mut kit, first), [yes("d"), no("a")]);
    let told = events(kit.server_says(Payload::Presence(batch(7, 8, &["b"], &[]))));
    assert!(
        matches!(&told[..], [Event::Listed { ticket: 1, result: Ok(all) }] if all.len() == 3),
        "who was there is shown once: {told:?}"
    );
    assert_eq!(relink(&mut kit), Some((1, 8)));
}

#[test]
fn a_server_that_has_forgotten_tells_everyone_and_who_is_not_there_is_gone() {
    let mut kit = kit();
    says(&mut kit, batch(0, 4, &["a", "b"], &[]));
    relink(&mut kit);
    let list = Presence {
        epoch: 2,
        ..batch(0, 1, &["b", "c"], &[])
    };
    assert_eq!(says(&mut kit, list), [yes("c"), no("a")]);
}

#[test]
fn a_list_that_has_not_ended_is_wanted_whole() {
    let mut kit = kit();
    let page = Presence {
        more: true,
        ..batch(0, 4, &["a"], &[])
    };
    says(&mut kit, page);
    assert_eq!(relink(&mut kit), None);
}

#[test]
fn while_there_is_no_link_nobody_is_shown_as_there() {
    let mut kit = kit();
    says(&mut kit, batch(0, 4, &["a"], &[]));
    assert!(kit.client.people.get(&user("a")).is_some());
    let reason = "gone".to_owned();
    kit.input(Input::Disconnected { reason });
    assert!(kit.client.people.get(&user("a")).is_none());
}
