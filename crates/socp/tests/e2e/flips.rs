//! Single bits that flip on the disk of a server with mail that waits (PROTOCOL II.6): nothing altered is ever delivered,
//! nothing is missing without a word, and no server that runs falls over it.
//!
//! `SOCP_TEST_FLIPS` sets how many, `SOCP_TEST_SEED` repeats them.

use crate::ack_client::{AckLink, Arrival, Fault, Letter, Who, refs_of};
use crate::data_dirs::with_key;
use crate::kills::set_by;
use crate::pages::get;
use crate::process::{PATIENCE, Process, Served, eventually, free_ports, socp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many bits flip in the ordinary suite.
const FLIPS: u64 = 100;

/// How many messages wait.
const LETTERS: u64 = 200;

const NAME: &str = "srv";

/// What a flip does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The server says at its start what is damaged, and does not start.
    NotStarted,
    /// What is damaged is put aside, and everything else comes.
    PutAside,
    /// Somebody is refused, or what is kept cannot be read, with words that say so.
    Refused,
    /// The very last commit in the log of a server that was killed is gone: that looks like one that was never finished
    /// (SECURITY.md).
    LastCommitGone,
    /// Everything comes.
    Harmless,
}

/// A data directory with mail that waits.
struct Original {
    dir: PathBuf,
    letters: BTreeMap<u64, Letter>,
    /// Two more, by another author: the first is the last commit, the second is sent to the damaged server, and comes once
    /// everything else has.
    last: [Letter; 2],
    has_log: bool,
}

impl Original {
    /// Of a server that was stopped, so that everything is in `server.db`; or killed, so that `server.db-wal` counts.
    fn make(dir: &Path, is_killed: bool) -> Self {
        with_key(&dir.join(NAME), "server");
        let mut served = Served::start(dir, NAME, &[]);
        let (author, reader, other) = people();
        for who in [&reader, &other] {
            AckLink::enter(served.address(), who, 0).unwrap();
        }
        let mut link = AckLink::enter(served.address(), &author, 0).unwrap();
        let to = (&Arc::<str>::from(reader.user.as_str()), served.server_id.as_str());
        let letters: BTreeMap<u64, Letter> = (1..=LETTERS)
            .map(|number| (number, Letter::write(&author.user, to, number)))
            .collect();
        store(&mut link, letters.values());
        let last = [1, 2].map(|number| Letter::write(&other.user, to, number));
        let mut link = AckLink::enter(served.address(), &other, 0).unwrap();
        store(&mut link, &last[..1]);
        let signal = if is_killed { "KILL" } else { "TERM" };
        served.process.signal_and_wait(signal);
        assert_eq!(served.data.join("server.db-wal").exists(), is_killed);
        let dir = served.data.clone();
        Self {
            dir,
            letters,
            last,
            has_log: is_killed,
        }
    }

    /// Copies it, with one bit of one of its database files flipped; where that is.
    fn copy_flipped(&self, to: &Path, rng: &mut StdRng) -> (String, usize, u32) {
        with_private_dir(to);
        for entry in std::fs::read_dir(&self.dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
        let files = ["server.db", "server.db-wal"].map(|name| (name, to.join(name)));
        let mut files: Vec<_> = files.into_iter().filter(|(_, path)| path.exists()).collect();
        let (name, path) = files.swap_remove(rng.random_range(0..files.len()));
        let mut bytes = std::fs::read(&path).unwrap();
        let (at, bit) = (rng.random_range(0..bytes.len()), rng.random_range(0..8));
        bytes[at] ^= 1 << bit;
        std::fs::write(path, bytes).unwrap();
        (name.to_owned(), at, bit)
    }
}

/// Sends messages and waits until all of them are stored.
fn store<'a>(link: &mut AckLink, letters: impl IntoIterator<Item = &'a Letter>) {
    let mut waiting = BTreeSet::new();
    for letter in letters {
        link.send(&letter.frame).unwrap();
        waiting.insert(letter.msg_ref.clone());
    }
    let begun = Instant::now();
    while !waiting.is_empty() {
        let frame = link.receive(begun + PATIENCE).unwrap().expect("an answer");
        assert_ne!(frame["type"], "ERROR", "{frame}");
        if frame["type"] == "ACK" {
            let refs = refs_of(&frame["payload"]);
            waiting.retain(|msg_ref| !refs.contains(&msg_ref.as_str()));
        }
    }
}

/// Who wrote, who reads, and another who writes.
fn people() -> (Who, Who, Who) {
    (Who::new("ann", 0), Who::new("bob", 1), Who::new("cleo", 2))
}

fn with_private_dir(dir: &Path) {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().mode(0o700).create(dir).unwrap();
}

/// Starts a server on a damaged directory, and sees what becomes of it.
fn play(original: &Original, dir: &Path) -> Outcome {
    let listen = format!("127.0.0.1:{}", free_ports(1));
    let mut process = Served::spawn(socp(), dir, NAME, &listen, &[]);
    let Some(ready) = process.line_or_end() else {
        assert_eq!(process.wait(), Some(1));
        return not_started(&process);
    };
    let mut served = Served::ready_by(process, dir.join(NAME), &ready);
    let outcome = read_all(original, &served);
    assert!(
        !served.process.has_ended(),
        "the server died: {:#?}",
        served.process.log()
    );
    let health = get(served.address(), "/healthz", "");
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    let log = served.process.log();
    assert!(!log.iter().any(|line| line.contains("panicked")), "{log:#?}");
    outcome
}

/// A refusal names the file and what to do.
fn not_started(process: &Process) -> Outcome {
    let said = || process.log().into_iter().find(|line| line.contains("server.db"));
    let said = eventually("the reason", said);
    assert!(!said.contains("panicked") && said.contains("backup"), "{said}");
    Outcome::NotStarted
}

/// Fetches everything, and holds it against what was written.
fn read_all(original: &Original, served: &Served) -> Outcome {
    let (_, reader, other) = people();
    let refused = |fault: Fault| {
        println!("  {fault}");
        Outcome::Refused
    };
    let mut reading = match AckLink::enter(served.address(), &reader, 0) {
        Ok(link) => link,
        Err(fault) => return refused(fault),
    };
    let mut writing = match AckLink::enter(served.address(), &other, 0) {
        Ok(link) => link,
        Err(fault) => return refused(fault),
    };
    writing.send(&original.last[1].frame).unwrap();
    let (mut seen, mut before) = (BTreeSet::new(), 0);
    let begun = Instant::now();
    loop {
        let Some(frame) = reading.receive(Instant::now() + Duration::from_millis(100)).unwrap() else {
            if let Some((_, line)) = served.process.logged_line(begun, &["could not be read"]) {
                println!("  {line}");
                return Outcome::Refused;
            }
            let answer = writing.receive(Instant::now() + Duration::from_millis(100)).unwrap();
            if let Some(answer) = answer.filter(|answer| answer["type"] == "ERROR") {
                println!("  {answer}");
                return Outcome::Refused;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "nothing comes any more: {:#?}",
                served.process.log()
            );
            continue;
        };
        if frame["type"] != "USER_DELIVER" {
            continue;
        }
        let arrival = Arrival::read(&frame);
        assert!(arrival.seq > before, "{} after {before}", arrival.seq);
        before = arrival.seq;
        reading.acknowledge(&reader, before).unwrap();
        let is_other = arrival.from == other.user;
        let letter = match (is_other, arrival.number) {
            (true, 1) => &original.last[0],
            (true, _) => &original.last[1],
            (false, number) => &original.letters[&number],
        };
        assert_eq!(arrival.ciphertext, letter.ciphertext, "number {}", arrival.number);
        assert!(seen.insert(letter.msg_ref.clone()), "{} came twice", arrival.number);
        if letter.msg_ref == original.last[1].msg_ref {
            break;
        }
    }
    let missing = original.letters.len() + original.last.len() - seen.len();
    if missing == 1 && original.has_log && !seen.contains(&original.last[0].msg_ref) {
        return Outcome::LastCommitGone;
    }
    let told = served.process.log();
    let told = told.iter().filter(|line| line.contains("it was put aside")).count();
    assert!(
        missing <= told,
        "{missing} are missing and {told} put aside: {:#?}",
        served.process.log()
    );
    let counted = get(served.address(), "/metrics", "");
    let line = counted.lines().find(|line| line.contains("damaged_message"));
    let counted = line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap());
    assert_eq!(counted, told);
    if told == 0 {
        Outcome::Harmless
    } else {
        Outcome::PutAside
    }
}

#[test]
fn no_bit_that_flips_alters_a_message_or_hides_one_in_silence() {
    let flips = set_by("SOCP_TEST_FLIPS", FLIPS);
    let seed = set_by("SOCP_TEST_SEED", rand::random_range(0..1_000_000));
    println!("SOCP_TEST_FLIPS={flips} SOCP_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let made = [false, true].map(|is_killed| {
        let dir = tempfile::tempdir().unwrap();
        (Original::make(dir.path(), is_killed), dir)
    });
    let mut outcomes = BTreeMap::<Outcome, u64>::new();
    for flip in 0..flips {
        let dir = tempfile::tempdir().unwrap();
        let (original, _) = &made[usize::from(flip % 2 == 1)];
        let (file, at, bit) = original.copy_flipped(&dir.path().join(NAME), &mut rng);
        println!("{flip}: bit {bit} of byte {at} of {file}");
        let outcome = play(original, dir.path());
        println!("  {outcome:?}");
        *outcomes.entry(outcome).or_default() += 1;
    }
    println!("{flips} flips: {outcomes:?}");
}
