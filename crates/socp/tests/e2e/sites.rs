//! Several servers behind gates, with somebody at each who asks for the list, and people who talk.

use crate::letter_client::{LetterClient, test_key};
use crate::process::{Process, Served, User, eventually, free_ports, json};
use crate::wires::{Gate, Wires};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// One server, known to the others by its gate only.
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) served: Served,
    pub(crate) gate: Gate,
    /// More flags for `socp serve`.
    flags: Vec<String>,
    observer: LetterClient,
}

impl Site {
    /// Starts a server that joins through these.
    pub(crate) fn start(wires: &Wires, dir: &Path, name: &str, introducers: &[String]) -> Self {
        Self::start_with(wires, dir, name, introducers, &[])
    }

    /// The same, with more flags.
    pub(crate) fn start_with(wires: &Wires, dir: &Path, name: &str, introducers: &[String], flags: &[&str]) -> Self {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let listen = format!("127.0.0.1:{}", free_ports(1));
        let id = site_id(name);
        let gate = wires.gate(&id, &listen);
        let served = serve(dir, name, &listen, &gate, introducers, &flags);
        Self::run(name, gate, served, flags)
    }

    fn run(name: &str, gate: Gate, served: Served, flags: Vec<String>) -> Self {
        let id = site_id(name);
        assert_eq!(served.server_id, id);
        let observer = LetterClient::hello(served.address(), &observer_id(name), test_key("alice"), 32);
        let name = name.to_owned();
        Self {
            name,
            id,
            served,
            gate,
            flags,
            observer,
        }
    }

    /// Stops it with this signal and starts it again at the same address.
    pub(crate) fn restart(mut self, dir: &Path, signal: &str, introducers: &[String]) -> Self {
        let code = self.served.process.signal_and_wait(signal);
        assert_eq!(code, (signal == "TERM").then_some(0), "after SIG{signal}");
        self.started_again(dir, introducers)
    }

    /// Starts it, after it has ended, at the same address.
    pub(crate) fn started_again(self, dir: &Path, introducers: &[String]) -> Self {
        let Self {
            name,
            served,
            gate,
            flags,
            ..
        } = self;
        let listen = served.address().to_owned();
        let served = serve(dir, &name, &listen, &gate, introducers, &flags);
        Self::run(&name, gate, served, flags)
    }

    /// Stops it, and starts it again where nobody knows it.
    pub(crate) fn restart_elsewhere(self, wires: &Wires, dir: &Path, introducers: &[String]) -> Self {
        let Self {
            name,
            served,
            gate,
            flags,
            ..
        } = self;
        let old = (served.address().to_owned(), gate.address.clone());
        served.stop();
        drop(gate);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let moved = Self::start_with(wires, dir, &name, introducers, &flags);
        assert!(moved.served.address() != old.0 && moved.gate.address != old.1);
        moved
    }

    /// What another server is given to join through this one.
    pub(crate) fn bootstrap(&self) -> String {
        format!("ws://{}#{}", self.gate.address, self.served.pubkey)
    }

    /// Who is online, as the server says now.
    pub(crate) fn list(&mut self) -> BTreeSet<String> {
        let server = self.observer.server_id.clone();
        self.observer.send("LIST_REQUEST", &server, json!({}));
        let list = self.observer.receive_type("LIST_RESPONSE");
        let users = list["payload"]["users"].as_array().unwrap().iter();
        users.map(|user| user.as_str().unwrap().to_owned()).collect()
    }

    /// When it logged for the first time since then that it is linked to the other.
    pub(crate) fn linked(&self, since: Instant, other: &Self) -> Option<Instant> {
        self.served.process.logged(since, &["peer linked", &other.id])
    }

    /// When it logged for the first time since then that it has lost the other.
    pub(crate) fn lost(&self, since: Instant, other: &Self) -> Option<Instant> {
        self.served.process.logged(since, &["peer lost", &other.id])
    }
}

fn serve(dir: &Path, name: &str, listen: &str, gate: &Gate, introducers: &[String], flags: &[String]) -> Served {
    let id = site_id(name);
    let mut more = vec![
        "--server-id",
        &id,
        "--public-address",
        &gate.address,
        "--accept",
        "open",
    ];
    for introducer in introducers {
        more.extend(["--bootstrap", introducer]);
    }
    more.extend(flags.iter().map(String::as_str));
    Served::start_on(dir, name, listen, &more)
}

/// A UUID that shows whose it is; `name` is one hexadecimal digit.
pub(crate) fn site_id(name: &str) -> String {
    format!("{}-0000-4000-8000-000000000000", name.repeat(8))
}

pub(crate) fn observer_id(name: &str) -> String {
    format!("observer-at-{name}")
}

/// What everybody's list must be: these people, and the observer of each site.
pub(crate) fn expected<'a>(
    sites: impl IntoIterator<Item = &'a Site>,
    people: impl IntoIterator<Item = &'a Talker>,
) -> BTreeSet<String> {
    let observers = sites.into_iter().map(|site| observer_id(&site.name));
    let people = people.into_iter().map(|talker| talker.user.id.clone());
    observers.chain(people).collect()
}

/// Waits until the lists of all these servers are as expected; when they were.
pub(crate) fn agree<'a>(sites: impl IntoIterator<Item = &'a mut Site>, expected: &BTreeSet<String>) -> Instant {
    let mut sites: Vec<&mut Site> = sites.into_iter().collect();
    eventually("all lists to agree", || {
        // All of them are asked each time, so that none is left without its pongs.
        let lists: Vec<_> = sites.iter_mut().map(|site| site.list()).collect();
        lists.iter().all(|list| list == expected).then(Instant::now)
    })
}

/// Each of these asks their own server with `socp list`: it says the same, and sorted.
pub(crate) fn commands_agree<'a>(people: impl IntoIterator<Item = &'a Talker>, expected: &BTreeSet<String>) {
    for talker in people {
        let listed = talker.user.listed();
        assert!(listed.is_sorted(), "{listed:?}");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), *expected);
    }
}

/// A person in a chat.
pub(crate) struct Talker {
    pub(crate) user: User,
    pub(crate) chat: Process,
}

impl Talker {
    pub(crate) fn register(dir: &Path, name: &str, server: &str) -> Self {
        Self::chatting(User::register(dir, name, server), server)
    }

    pub(crate) fn chatting(user: User, server: &str) -> Self {
        let chat = Process::start(user.socp(&["--json", "--server", server, "chat", "--plain"]));
        chat.line_with("\"event\":\"online\"");
        Self { user, chat }
    }

    /// The same person at another address of the server.
    pub(crate) fn moved(self, server: &str) -> Self {
        drop(self.chat);
        Self::chatting(self.user, server)
    }

    /// Who is online, as the chat shows it now; none while it is not connected.
    fn list(&mut self) -> Option<BTreeSet<String>> {
        self.chat.type_line("/list");
        self.chat.type_line("/that-was-it");
        let mut listed = Some(BTreeSet::new());
        loop {
            let line = json(&self.chat.line());
            if line["detail"].as_str().is_some_and(|text| text.contains("that-was-it")) {
                return listed;
            }
            match (line["event"].as_str(), line["user_id"].as_str(), &mut listed) {
                (None, Some(user), Some(listed)) => assert!(listed.insert(user.to_owned()), "twice: {user}"),
                (Some("error"), None, _) => listed = None,
                _ => {}
            }
        }
    }

    /// Waits until the chat shows these people, and nobody else.
    pub(crate) fn sees(&mut self, expected: &BTreeSet<String>) {
        eventually("the chat to show the right people", || {
            (self.list().as_ref() == Some(expected)).then_some(())
        });
    }
}

/// Everybody tells everybody else something; each message arrives once, verified, and no other does. How many pairs
/// there were, and how long it took.
pub(crate) fn everyone_talks(people: &mut [&mut Talker], round: &str) -> (usize, Duration) {
    let begun = Instant::now();
    let ids: Vec<String> = people.iter().map(|talker| talker.user.id.clone()).collect();
    for (author, talker) in people.iter_mut().enumerate() {
        for (reader, id) in ids.iter().enumerate().filter(|(reader, _)| *reader != author) {
            talker.chat.type_line(&format!("/tell {id} {round} {author}-{reader}"));
        }
    }
    for (reader, talker) in people.iter().enumerate() {
        let authors = ids.iter().enumerate().filter(|(author, _)| *author != reader);
        let mut missing: BTreeSet<(String, String)> = authors
            .map(|(author, id)| (id.clone(), format!("{round} {author}-{reader}")))
            .collect();
        while !missing.is_empty() {
            let event = json(&talker.chat.line());
            assert_ne!(event["event"], "error", "{event}");
            if event["event"] == "message" {
                assert_eq!(event["verified"], true, "{event}");
                let text = |key: &str| event[key].as_str().unwrap().to_owned();
                assert!(
                    missing.remove(&(text("from"), text("text"))),
                    "twice, or wrong: {event}"
                );
            }
        }
    }
    (ids.len() * (ids.len() - 1), begun.elapsed())
}
