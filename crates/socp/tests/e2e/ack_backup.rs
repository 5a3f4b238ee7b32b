//! A backup of a server that acknowledges messages all the while, restored elsewhere: whatever it had acknowledged before
//! the backup ended comes out of the copy.

use crate::ack_client::{AckLink, Arrival, Letter, Who, refs_of};
use crate::backups::{back_up, restore, verify};
use crate::data_dirs::with_key;
use crate::process::{PATIENCE, Served, json, stdout_of};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Messages that are written before the backup begins: what is copied has some size.
const BEFORE: u64 = 300;
/// Messages under way, and how many there are at most.
const WINDOW: usize = 16;
const LETTERS: u64 = 2_400;

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// What was acknowledged, and when that was heard.
type Stored = BTreeMap<String, u64>;

/// Writes until it is told to stop; says when the first messages are stored.
fn write(mut link: AckLink, letters: &[Letter], has_begun: &AtomicBool, is_over: &AtomicBool) -> Stored {
    let (mut stored, mut waiting) = (Stored::new(), BTreeSet::new());
    let mut letters = letters.iter();
    let begun = Instant::now();
    loop {
        while waiting.len() < WINDOW && !is_over.load(Ordering::SeqCst) {
            // A backup that takes longer than they last has no less of them to keep.
            let Some(letter) = letters.next() else {
                break;
            };
            link.send(&letter.frame).unwrap();
            waiting.insert(letter.msg_ref.clone());
        }
        if waiting.is_empty() {
            return stored;
        }
        let frame = link.receive(begun + 4 * PATIENCE).unwrap().expect("an answer");
        assert_ne!(frame["type"], "ERROR", "{frame}");
        if frame["type"] == "ACK" {
            for msg_ref in refs_of(&frame["payload"]) {
                if waiting.remove(msg_ref) {
                    stored.insert(msg_ref.to_owned(), now_ms());
                }
            }
        }
        if u64::try_from(stored.len()).unwrap() >= BEFORE {
            has_begun.store(true, Ordering::SeqCst);
        }
        // As fast as a person at most, so that the messages last.
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn whatever_was_acknowledged_before_a_backup_ended_comes_out_of_it() {
    let dir = tempfile::tempdir().unwrap();
    with_key(&dir.path().join("srv"), "server");
    let served = Served::start(dir.path(), "srv", &[]);
    let (author, reader) = (Who::new("ann", 0), Who::new("bob", 1));
    AckLink::enter(served.address(), &reader, 0).unwrap();
    let link = AckLink::enter(served.address(), &author, 0).unwrap();
    let to = (&Arc::<str>::from(reader.user.as_str()), served.server_id.as_str());
    let letters: Vec<Letter> = (1..=LETTERS)
        .map(|number| Letter::write(&author.user, to, number))
        .collect();
    let (has_begun, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let backup = dir.path().join("backup");
    let stored = std::thread::scope(|scope| {
        let writing = scope.spawn(|| write(link, &letters, &has_begun, &is_over));
        while !has_begun.load(Ordering::SeqCst) {
            assert!(!writing.is_finished(), "the author has failed");
            std::thread::yield_now();
        }
        stdout_of(&mut back_up(&served.data, &backup));
        is_over.store(true, Ordering::SeqCst);
        writing.join().unwrap()
    });
    let made_at = json(&stdout_of(&mut verify(&backup)))["made_at"].as_u64().unwrap();
    // Of a machine that is gone only the copy is left.
    let address = served.address().to_owned();
    let mut served = served;
    served.process.signal_and_wait("KILL");
    std::fs::remove_dir_all(&served.data).unwrap();
    stdout_of(&mut restore(&backup, &dir.path().join("again")));
    let again = Served::start_on(dir.path(), "again", &address, &[]);
    let before: BTreeSet<&String> = stored
        .iter()
        .filter(|(_, at)| **at < made_at)
        .map(|(msg_ref, _)| msg_ref)
        .collect();
    assert!(
        before.len() > usize::try_from(BEFORE).unwrap(),
        "the author wrote while it was made"
    );
    let mut reading = AckLink::enter(again.address(), &reader, 0).unwrap();
    let (mut missing, begun, mut last) = (before, Instant::now(), 0);
    while !missing.is_empty() {
        let frame = reading.receive(begun + PATIENCE).unwrap();
        let Some(frame) = frame else {
            panic!("{} of {} stored messages are missing", missing.len(), stored.len());
        };
        if frame["type"] == "USER_DELIVER" {
            let arrival = Arrival::read(&frame);
            assert!(arrival.number > last, "{} after {last}", arrival.number);
            last = arrival.number;
            let letter = &letters[usize::try_from(last - 1).unwrap()];
            assert_eq!(arrival.ciphertext, letter.ciphertext);
            missing.remove(&letter.msg_ref);
            reading.acknowledge(&reader, arrival.seq).unwrap();
        }
    }
}
