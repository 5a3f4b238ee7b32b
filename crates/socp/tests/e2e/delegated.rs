//! Frames between programs of ours are signed by a delegated key, and those for others are not (PROTOCOL II.3).

use crate::process::{Served, free_ports};
use crate::sites::{Talker, everyone_talks};
use crate::wires::Wires;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Types of frames between two servers, and how many bytes their signatures had.
type Heard = Arc<Mutex<BTreeSet<(String, String, String, usize)>>>;

#[test]
fn old_and_new_servers_talk_and_each_link_has_the_signatures_that_both_ends_know() {
    let dir = tempfile::tempdir().unwrap();
    let wires = Wires::new();
    let heard = Heard::default();
    let listener = Arc::clone(&heard);
    wires.alter(move |from, to, text| {
        let frame: Value = serde_json::from_str(text).unwrap();
        let field = |name: &str| frame[name].as_str().unwrap().to_owned();
        let bytes = field("sig").len() * 3 / 4;
        let entry = (from.to_owned(), to.to_owned(), field("type"), bytes);
        listener.lock().unwrap().insert(entry);
        vec![text.to_owned()]
    });
    let mut gates = Vec::new();
    let mut servers: Vec<Served> = Vec::new();
    for (name, delegate) in [("new-1", "on"), ("new-2", "on"), ("old-3", "off")] {
        let listen = format!("127.0.0.1:{}", free_ports(1));
        let gate = wires.gate(name, &listen);
        let bootstrap = servers.first().map(|first| {
            let (_, key) = first
                .bootstrap()
                .split_once('#')
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .unwrap();
            let first: &crate::wires::Gate = &gates[0];
            format!("ws://{}#{key}", first.address)
        });
        let mut more = vec![
            "--server-id",
            name,
            "--public-address",
            &gate.address,
            "--delegate",
            delegate,
        ];
        if let Some(bootstrap) = &bootstrap {
            more.extend(["--bootstrap", bootstrap]);
        }
        servers.push(Served::start_on(dir.path(), name, &listen, &more));
        gates.push(gate);
    }
    let mut people: Vec<Talker> = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        people.push(Talker::register(dir.path(), &format!("person-{number}"), &server.url));
    }
    let everyone: BTreeSet<String> = people.iter().map(|talker| talker.user.id.clone()).collect();
    for talker in &mut people {
        talker.sees(&everyone);
    }
    let mut talkers: Vec<&mut Talker> = people.iter_mut().collect();
    assert_eq!(everyone_talks(&mut talkers, "mixed").0, 6);

    let heard = heard.lock().unwrap();
    for (from, to) in [
        ("new-1", "new-2"),
        ("new-2", "new-1"),
        ("new-1", "old-3"),
        ("old-3", "new-2"),
    ] {
        let is_able = from.starts_with("new") && to.starts_with("new");
        let delivered = if is_able { 64 } else { 512 };
        let sizes = |kind: &str| -> Vec<usize> {
            let here = heard
                .iter()
                .filter(|(a, b, k, _)| (a.as_str(), b.as_str(), k.as_str()) == (from, to, kind));
            here.map(|(.., bytes)| *bytes).collect()
        };
        assert_eq!(sizes("SERVER_DELIVER"), [delivered], "{from} to {to}");
        let batch = if is_able { 64 } else { 512 };
        assert_eq!(sizes("SERVER_PRESENCE"), [batch], "{from} to {to}: for the peer alone");
        assert!(
            sizes("USER_ADVERTISE").iter().all(|bytes| *bytes == 512),
            "{from} to {to}: others must be able to verify it"
        );
        assert_eq!(sizes("SERVER_ANNOUNCE").first().unwrap_or(&512), &512);
    }
    for server in servers {
        server.stop();
    }
}

#[test]
fn a_client_of_ours_takes_what_the_delegated_key_says_and_an_old_server_too() {
    let dir = tempfile::tempdir().unwrap();
    for delegate in ["on", "off"] {
        let server = Served::start(dir.path(), &format!("server-{delegate}"), &["--delegate", delegate]);
        let mut people =
            [0, 1].map(|number| Talker::register(dir.path(), &format!("{delegate}-{number}"), &server.url));
        let mut talkers: Vec<&mut Talker> = people.iter_mut().collect();
        assert_eq!(everyone_talks(&mut talkers, delegate).0, 2);
        let [one, _] = people;
        let listed = one.user.listed();
        assert_eq!(listed.len(), 2);
        server.stop();
    }
}
