//! A disk that takes nothing more while the server runs (PROTOCOL II.6): what is new is refused with words that say so,
//! what is there is read, and when there is room again everything goes on without a restart.

use crate::ack_client::{AckLink, Arrival, Letter, Who, refs_of};
use crate::data_dirs::with_key;
use crate::pages::get;
use crate::process::{PATIENCE, Served, eventually, free_ports, output_of, socp};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

const NAME: &str = "srv";

/// Messages of each of the three times: before, while there is no room, after.
const LETTERS: u64 = 40;

/// How a server is kept from writing, and let.
trait Disk {
    fn fill(&self, served: &Served);
    fn clear(&self, served: &Served);
}

/// Files may not become any larger (`ulimit -f`); `EFBIG`.
struct Limit;

impl Limit {
    fn set(served: &Served, bytes: Option<u64>) {
        let pid = Pid::from_raw(i32::try_from(served.process.id()).unwrap()).unwrap();
        let limit = Rlimit {
            current: bytes,
            maximum: None,
        };
        prlimit(Some(pid), Resource::Fsize, limit).unwrap();
    }
}

impl Disk for Limit {
    fn fill(&self, served: &Served) {
        // Also what is there already may be written over only at its very beginning.
        Self::set(served, Some(4096));
    }

    fn clear(&self, served: &Served) {
        Self::set(served, None);
    }
}

/// A file system of its own that is full; `ENOSPC`.
struct Small;

impl Small {
    /// The file that takes the room, as it is seen from here.
    fn ballast(served: &Served) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", served.process.id()));
        root.join(served.data.strip_prefix("/").unwrap()).join("ballast")
    }
}

impl Disk for Small {
    fn fill(&self, served: &Served) {
        let mut ballast = std::fs::File::create(Self::ballast(served)).unwrap();
        let error = loop {
            if let Err(error) = ballast.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    }

    fn clear(&self, served: &Served) {
        std::fs::remove_file(Self::ballast(served)).unwrap();
    }
}

/// The program, by a shell that does something first.
fn socp_behind(mut shell: Command, script: &str) -> Command {
    let program = socp();
    shell.args(["sh", "-c", script, "sh"]).arg(program.get_program());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

fn serve(dir: &Path, command: Command) -> Served {
    let listen = format!("127.0.0.1:{}", free_ports(1));
    Served::ready(Served::spawn(command, dir, NAME, &listen, &[]), dir.join(NAME))
}

/// What a server says of each of these messages, in their order: whether it is stored.
fn tell(link: &mut AckLink, letters: &[Letter]) -> Vec<bool> {
    for letter in letters {
        link.send(&letter.frame).unwrap();
    }
    let begun = Instant::now();
    let mut answers = vec![None; letters.len()];
    while answers.contains(&None) {
        let frame = link.receive(begun + PATIENCE).unwrap().expect("an answer");
        let payload = &frame["payload"];
        let is_stored = match frame["type"].as_str().unwrap() {
            "ACK" => payload["status"] == "stored",
            "ERROR" => {
                assert_eq!(payload["code"], "NOT_STORED", "{frame}");
                false
            }
            _ => continue,
        };
        for msg_ref in refs_of(payload) {
            let at = letters.iter().position(|letter| letter.msg_ref == msg_ref).unwrap();
            answers[at] = Some(is_stored);
        }
    }
    answers.into_iter().flatten().collect()
}

/// The next messages of a reader; their numbers must be these, after those that it may have seen too early.
fn read(link: &mut AckLink, who: &Who, numbers: &[u64]) {
    let begun = Instant::now();
    let mut left = numbers.to_vec();
    while !left.is_empty() {
        let frame = link.receive(begun + PATIENCE).unwrap().expect("a message");
        if frame["type"] == "USER_DELIVER" {
            let arrival = Arrival::read(&frame);
            left.retain(|number| *number != arrival.number);
            link.acknowledge(who, arrival.seq).unwrap();
        }
    }
}

fn readiness(served: &Served) -> String {
    get(served.address(), "/readyz", "")
}

fn play(served: &Served, disk: &dyn Disk) {
    let (ann, bob) = (Who::new("ann", 0), Who::new("bob", 1));
    let enter = |who: &Who| AckLink::enter(served.address(), who, 0).unwrap();
    drop(enter(&bob));
    let mut writing = enter(&ann);
    let to = (&Arc::<str>::from("bob"), served.server_id.as_str());
    let write = |numbers: std::ops::Range<u64>| -> Vec<Letter> {
        numbers.map(|number| Letter::write("ann", to, number)).collect()
    };
    let before = write(1..LETTERS + 1);
    assert!(tell(&mut writing, &before).iter().all(|is_stored| *is_stored));
    assert!(readiness(served).starts_with("HTTP/1.1 200"));

    disk.fill(served);
    // The log may have had a little room left.
    let mut number = LETTERS;
    let mut stored: Vec<u64> = (1..LETTERS + 1).collect();
    let refused = eventually("a refusal", || {
        number += 1;
        let letters = write(number..number + 1);
        if tell(&mut writing, &letters)[0] {
            stored.push(number);
            return None;
        }
        Some(letters)
    });
    let answer = readiness(served);
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("store: "),
        "{answer}"
    );
    println!("{} stored, then: {}", stored.len(), answer.lines().last().unwrap());
    let more = write(number + 1..number + 1 + LETTERS);
    let answers = tell(&mut writing, &more);
    assert!(answers.iter().all(|is_stored| !is_stored), "{answers:?}");
    // What is there is read.
    let mut reading = enter(&bob);
    read(&mut reading, &bob, &stored);

    disk.clear(served);
    let again: Vec<Letter> = refused.into_iter().chain(more).collect();
    assert!(tell(&mut writing, &again).iter().all(|is_stored| *is_stored));
    let numbers: Vec<u64> = again.iter().map(|letter| letter.number).collect();
    let mut reading = enter(&Who::new("bob", 3));
    read(&mut reading, &Who::new("bob", 3), &numbers);
    assert!(readiness(served).starts_with("HTTP/1.1 200"));
}

#[test]
fn where_files_may_not_grow_what_is_new_is_refused_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    with_key(&dir.path().join(NAME), "server");
    let script = "trap '' XFSZ; exec \"$@\"";
    let served = serve(dir.path(), socp_behind(Command::new("env"), script));
    play(&served, &Limit);
}

#[test]
fn on_a_full_disk_what_is_new_is_refused_and_the_rest_goes_on() {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.arg("-rm");
        command
    };
    let dir = tempfile::tempdir().unwrap();
    let mut probe = unshare();
    probe.args(["mount", "-t", "tmpfs", "none"]).arg(dir.path());
    let is_able = Command::new("unshare").arg("--help").output().is_ok() && output_of(&mut probe).status.success();
    if !is_able {
        println!("left out: this machine lets nobody mount a file system of their own");
        return;
    }
    let data = dir.path().join(NAME);
    with_key(&data, "server");
    let script = format!(
        "set -e; cp -a {0}/. {0}.kept; mount -t tmpfs -o size=6m,mode=700 none {0}; cp -a {0}.kept/. {0}; exec \"$@\"",
        data.display()
    );
    let served = serve(dir.path(), socp_behind(unshare(), &script));
    play(&served, &Small);
}
