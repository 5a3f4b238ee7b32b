//! Presence in batches between real servers (PROTOCOL II.8).

use crate::process::{Served, User, eventually, json};
use crate::sites::{Site, agree};
use crate::wires::Wires;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// How many frames of each type each server has sent each other one.
type Counts = Arc<Mutex<BTreeMap<(String, String, String), usize>>>;

/// Counts what goes over the wires; nothing gets through between the two that are parted.
fn counted(wires: &Wires, parted: Option<(String, String)>) -> Counts {
    let counts = Counts::default();
    let kept = Arc::clone(&counts);
    wires.alter(move |from, to, text| {
        let is_parted = |(a, b): &(String, String)| (a == from && b == to) || (a == to && b == from);
        if parted.as_ref().is_some_and(is_parted) {
            return Vec::new();
        }
        let frame: Value = serde_json::from_str(text).unwrap();
        let kind = frame["type"].as_str().unwrap().to_owned();
        let key = (from.to_owned(), to.to_owned(), kind);
        *kept.lock().unwrap().entry(key).or_default() += 1;
        vec![text.to_owned()]
    });
    counts
}

fn count(counts: &Counts, from: &Site, to: &Site, kind: &str) -> usize {
    let key = (from.id.clone(), to.id.clone(), kind.to_owned());
    counts.lock().unwrap().get(&key).copied().unwrap_or(0)
}

/// Everyone at these servers: somebody who only looks, and these.
fn everyone(sites: &[Site], users: &[&User]) -> BTreeSet<String> {
    let observers = sites.iter().map(|site| crate::sites::observer_id(&site.name));
    observers.chain(users.iter().map(|user| user.id.clone())).collect()
}

#[test]
fn two_servers_tell_each_other_in_batches_and_nothing_to_the_letter() {
    let dir = tempfile::tempdir().unwrap();
    let wires = Wires::new();
    let counts = counted(&wires, None);
    let a = Site::start(&wires, dir.path(), "a", &[]);
    let b = Site::start(&wires, dir.path(), "b", &[a.bootstrap()]);
    let mut sites = [a, b];
    let ann = User::register(dir.path(), "ann", &sites[0].served.url);
    let chat = ann.watch(&["--server", &sites[0].served.url]);
    let all = everyone(&sites, &[&ann]);
    agree(&mut sites, &all);
    // Who says something while a server is still being told everyone is introduced to it to the letter (PROTOCOL II.8).
    let early = counts.lock().unwrap().clone();
    drop(chat);
    let all = everyone(&sites, &[]);
    agree(&mut sites, &all);
    let [a, b] = &sites;
    for (from, to) in [(a, b), (b, a)] {
        assert!(count(&counts, from, to, "SERVER_PRESENCE") > 0, "{counts:?}");
        for kind in ["USER_ADVERTISE", "USER_REMOVE"] {
            let before = early.get(&(from.id.clone(), to.id.clone(), kind.to_owned()));
            let now = count(&counts, from, to, kind);
            assert_eq!(now, before.copied().unwrap_or(0), "{kind}: {counts:?}");
        }
    }
}

#[test]
fn who_is_in_the_middle_asks_for_what_it_can_pass_on() {
    let dir = tempfile::tempdir().unwrap();
    let wires = Wires::new();
    let ids = |name: &str| crate::sites::site_id(name);
    let b = Site::start(&wires, dir.path(), "b", &[]);
    let a = Site::start(&wires, dir.path(), "a", &[b.bootstrap()]);
    let c = Site::start(&wires, dir.path(), "c", &[b.bootstrap()]);
    let mut sites = [a, b, c];
    let all = everyone(&sites, &[]);
    agree(&mut sites, &all);
    // They have met, so that each knows the other's key; when c is back it does not reach a any more.
    let counts = counted(&wires, Some((ids("a"), ids("c"))));
    let [a, b, c] = sites;
    let entry = b.bootstrap();
    let mut sites = [a, b, c.restart(dir.path(), "TERM", &[entry])];
    agree(&mut sites, &all);
    let ann = User::register(dir.path(), "ann", &sites[0].served.url);
    let chat = ann.watch(&["--server", &sites[0].served.url]);
    let all = everyone(&sites, &[&ann]);
    agree(&mut sites, &all);
    drop(chat);
    let all = everyone(&sites, &[]);
    agree(&mut sites, &all);
    let [a, b, c] = &sites;
    eventually("b to have asked both", || {
        let asked = [a, c].map(|end| count(&counts, b, end, "PRESENCE_REQUEST"));
        // Twice where both dialled and one of the links was given up.
        asked.iter().all(|count| (1..=2).contains(count)).then_some(())
    });
    assert!(count(&counts, a, b, "USER_ADVERTISE") > 0 && count(&counts, b, c, "USER_REMOVE") > 0);
    assert_eq!(count(&counts, a, b, "PRESENCE_REQUEST"), 0, "{counts:?}");
}

/// Bytes passed on between whoever connects here and a server, until they are cut.
struct Line {
    address: String,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Line {
    fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (ends, server) = (Arc::new(Mutex::new(Vec::new())), server.to_owned());
        let kept = Arc::clone(&ends);
        std::thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                let far = TcpStream::connect(&server).unwrap();
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let ended = std::io::copy(&mut from, &mut to);
                        to.shutdown(Shutdown::Both).ok();
                        ended
                    });
                }
                kept.lock().unwrap().extend([near, far]);
            }
        });
        Self { address, ends }
    }

    fn cut(&self) {
        for end in self.ends.lock().unwrap().drain(..) {
            end.shutdown(Shutdown::Both).ok();
        }
    }
}

#[test]
fn a_program_whose_link_broke_is_told_what_has_changed_and_nothing_again() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), "srv", &[]);
    let [ann, bob, cleo] = ["ann", "bob", "cleo"].map(|name| User::register(dir.path(), name, &served.url));
    let _at_bob = bob.watch(&[]);
    let at_cleo = cleo.watch(&[]);
    let line = Line::to(served.address());
    let at_ann = ann.watch(&["--server", &format!("ws://{}", line.address)]);
    let mut seen = BTreeSet::new();
    while !(seen.contains(&bob.id) && seen.contains(&cleo.id)) {
        let event = json(&at_ann.line_with("\"event\":\"presence\""));
        seen.insert(event["user_id"].as_str().unwrap().to_owned());
    }
    line.cut();
    at_ann.line_with("\"event\":\"offline\"");
    drop(at_cleo);
    at_ann.line_with("\"event\":\"online\"");
    // Of bob, who was there all the time, nothing is said; of cleo that she left, now or in a moment.
    loop {
        let event = json(&at_ann.line_with("\"event\":\"presence\""));
        assert_ne!(event["user_id"], bob.id.as_str(), "{event}");
        if event["user_id"] == cleo.id.as_str() {
            assert_eq!(event["online"], false, "{event}");
            break;
        }
    }
}
