//! Copying the database while records go on being written.
//!
//! `SQLite`'s backup interface copies some pages at a time over the connection that also writes: what is written meanwhile
//! goes into the pages that were copied already. So the copy is as of its end, and nobody waits longer than for a step.

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, Result};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Pages copied before records have their turn: a MiB.
const STEP_PAGES: i32 = 256;

/// How long a step may take: nothing else is written meanwhile.
const STEP_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long to wait for a database that somebody else reads.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// A copy that is wanted.
#[derive(Debug)]
pub(crate) struct CopyJob {
    /// A file that is not there yet.
    pub(crate) to: PathBuf,
    /// Who wants to know. The store never waits for anybody; there is one word for each MiB.
    pub(crate) answer: mpsc::UnboundedSender<Copying>,
}

/// How far a copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Copying {
    /// It goes on.
    Goes {
        /// Pages copied.
        pages: u64,
        /// Of so many.
        of: u64,
    },
    /// It has ended: everything that was acknowledged before this time, ms since the Unix epoch, is in it; or why there is
    /// none.
    Ended(std::result::Result<u64, String>),
}

/// Copies everything; `between` has its turn after each step, and ends the copy by saying why. The time up to which all is
/// in it, ms since the Unix epoch.
pub(super) fn copy(
    source: &Connection,
    to: &Path,
    mut between: impl FnMut(Copying) -> std::result::Result<(), String>,
) -> std::result::Result<u64, String> {
    let mut target = Connection::open(to).map_err(|error| error.to_string())?;
    // Whoever wanted the copy syncs it; one that is interrupted is of no use and needs no journal.
    let fast = target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;");
    fast.map_err(|error| error.to_string())?;
    let backup = Backup::new(source, &mut target).map_err(|error| error.to_string())?;
    let mut gone_on_at = Instant::now();
    loop {
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let stepped = step(&backup);
        let took = gone_on_at.elapsed();
        if took >= STEP_WAIT_MAX && !matches!(stepped, Ok(Stepped::Ended)) {
            return Err(format!(
                "a MiB took {} s, and everybody would wait for the next: name a place on a faster disk of this machine, \
                 and see that no other program has the database open",
                took.as_secs()
            ));
        }
        match stepped {
            Ok(Stepped::Ended) => return Ok(u64::try_from(before.as_millis()).unwrap_or(u64::MAX)),
            Ok(Stepped::Waits) => std::thread::sleep(BUSY_PAUSE),
            Ok(Stepped::On) => {
                let progress = backup.progress();
                let of = u64::try_from(progress.pagecount).unwrap_or(0);
                let left = u64::try_from(progress.remaining).unwrap_or(0);
                let pages = of.saturating_sub(left);
                between(Copying::Goes { pages, of })?;
                gone_on_at = Instant::now();
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// What a step has come to.
enum Stepped {
    On,
    /// Somebody else has a lock.
    Waits,
    Ended,
}

fn step(backup: &Backup<'_, '_>) -> Result<Stepped> {
    Ok(match backup.step(STEP_PAGES)? {
        StepResult::Done => Stepped::Ended,
        StepResult::Busy | StepResult::Locked => Stepped::Waits,
        StepResult::More | _ => Stepped::On,
    })
}

/// Opens a database that nobody writes to, without a journal or a lock beside it.
pub(super) fn open_unchanging(path: &Path) -> Result<Connection> {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    Connection::open_with_flags(uri, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)
}

#[cfg(test)]
mod tests {
    use super::super::{Database, Order, StoreHealth, Writer};
    use super::*;
    use crate::hub::HubMessage;
    use socp_core::server::{Record, SaveId, ServerPin};
    use socp_proto::{KeyText, ServerId};
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};

    fn id(number: u64) -> ServerId {
        format!("srv-{number:06}").as_str().try_into().unwrap()
    }

    fn pin(number: u64) -> Record {
        Record::Pin(ServerPin {
            has_tls: false,
            server_id: id(number),
            key: KeyText::from_der(&[7; 550]),
            host: "127.0.0.1".to_owned(),
            port: 1,
            name: None,
            has_proved: false,
            keeps: true,
        })
    }

    fn now() -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_millis().try_into().unwrap()
    }

    #[test]
    fn what_is_written_while_a_copy_is_made_is_in_the_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (path, to) = (dir.path().join("server.db"), dir.path().join("copy.db"));
        let database = Database::open(&path).unwrap();
        let records: Vec<_> = (0..4_000).map(|number| (SaveId(number), pin(number))).collect();
        database.write(&path, &records).unwrap();
        let (mut next, mut steps) = (4_000, 0);
        let begun = now();
        let copied = copy(&database.connection, &to, |goes| {
            assert!(
                matches!(goes, Copying::Goes { pages, of } if 0 < pages && pages <= of),
                "{goes:?}"
            );
            steps += 1;
            // A new one, and one less of those that were copied at first.
            let records = [(SaveId(0), pin(next)), (SaveId(1), Record::Unpinned(id(steps)))];
            next += 1;
            database.write(&path, &records).map_err(|error| error.to_string())
        });
        assert!((begun..=now()).contains(&copied.unwrap()));
        assert!(steps >= 3, "{steps}");
        let kept = Database::open(&to).unwrap().read(&to).unwrap().memory.pins;
        let kept: BTreeSet<ServerId> = kept.into_iter().map(|pin| pin.server_id).collect();
        let due = (0..next).filter(|number| !(1..=steps).contains(number)).map(id);
        assert_eq!(kept, due.collect());
    }

    /// A writer with 2,000 pins and no thread, what it is to be given, and where it answers.
    fn writer(dir: &Path) -> (Writer, Sender<Order>, Receiver<Order>, mpsc::Receiver<HubMessage>) {
        let path = dir.join("server.db");
        let database = Database::open(&path).unwrap();
        let records: Vec<_> = (0..2_000).map(|number| (SaveId(number), pin(number))).collect();
        database.write(&path, &records).unwrap();
        let mut writer = Writer::new(database.connection, StoreHealth::default(), Arc::default());
        let ((orders, queue), (hub, messages)) = (channel(), mpsc::channel(16));
        writer.take(Order::AnswerTo(hub), &queue);
        (writer, orders, queue, messages)
    }

    fn job(to: PathBuf) -> (CopyJob, mpsc::UnboundedReceiver<Copying>) {
        let (answer, copying) = mpsc::unbounded_channel();
        (CopyJob { to, answer }, copying)
    }

    fn ended(mut copying: mpsc::UnboundedReceiver<Copying>) -> std::result::Result<u64, String> {
        loop {
            if let Copying::Ended(ended) = copying.try_recv().unwrap() {
                return ended;
            }
        }
    }

    #[test]
    fn between_its_steps_records_are_written_and_acknowledged_and_no_other_copy_begins() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, orders, queue, mut messages) = writer(dir.path());
        let to = dir.path().join("copy.db");
        let ((one, copying), (other, refused)) = (job(to.clone()), job(dir.path().join("other.db")));
        // Both are there before the copy begins, and nothing takes them but the copy.
        orders.send(Order::Save(vec![(SaveId(7), pin(5_000))])).unwrap();
        orders.send(Order::Copy(other)).unwrap();
        writer.copy(&one, &queue);
        assert!(ended(copying).is_ok());
        assert!(ended(refused).is_err_and(|why| why.contains("another copy")));
        let saved = messages.try_recv().unwrap();
        assert!(
            matches!(&saved, HubMessage::Saved(saves, Ok(())) if *saves == [SaveId(7)]),
            "{saved:?}"
        );
        let kept = Database::open(&to).unwrap().read(&to).unwrap().memory.pins;
        assert!(kept.iter().any(|pin| pin.server_id == id(5_000)));
    }

    #[test]
    fn a_copy_that_is_not_wanted_any_more_or_cannot_be_made_ends_and_the_next_one_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, orders, queue, _messages) = writer(dir.path());
        let (unwanted, nobody) = job(dir.path().join("unwanted.db"));
        drop(nobody);
        writer.copy(&unwanted, &queue);
        let whole = |path: &Path| Database::check(path).is_ok();
        assert!(!whole(&unwanted.to), "it went on for nobody");

        let there = dir.path().join("there");
        std::fs::write(
            &there,
            "something else, and longer than the head of a database has to be",
        )
        .unwrap();
        let (impossible, copying) = job(there);
        writer.copy(&impossible, &queue);
        assert!(ended(copying).is_err_and(|why| why.contains("not a database")));

        let (wanted, copying) = job(dir.path().join("wanted.db"));
        writer.copy(&wanted, &queue);
        assert!(ended(copying).is_ok() && whole(&wanted.to));

        // The server stops.
        drop(orders);
        let (late, copying) = job(dir.path().join("late.db"));
        writer.copy(&late, &queue);
        assert!(ended(copying).is_err_and(|why| why.contains("stops")));
    }
}
