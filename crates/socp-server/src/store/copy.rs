//! Copying the database while records go on being written.
//!
//! `SQLite`'s backup interface copies some pages at a time over the connection that also writes: what is written meanwhile
//! goes into the pages that were copied already. So the copy is as of its end, and nobody waits longer than for a step.

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, Result};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Pages copied before records have their turn: a MiB.
const STEP_PAGES: i32 = 256;

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
    loop {
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match step(&backup) {
            Ok(true) => return Ok(u64::try_from(before.as_millis()).unwrap_or(u64::MAX)),
            Ok(false) => {
                let progress = backup.progress();
                let of = u64::try_from(progress.pagecount).unwrap_or(0);
                let left = u64::try_from(progress.remaining).unwrap_or(0);
                let pages = of.saturating_sub(left);
                between(Copying::Goes { pages, of })?;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Whether that was all.
fn step(backup: &Backup<'_, '_>) -> Result<bool> {
    match backup.step(STEP_PAGES)? {
        StepResult::Done => Ok(true),
        StepResult::Busy | StepResult::Locked => {
            std::thread::sleep(BUSY_PAUSE);
            Ok(false)
        }
        StepResult::More | _ => Ok(false),
    }
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
    use super::super::{Database, Store};
    use super::*;
    use crate::hub::HubMessage;
    use socp_core::server::{Record, SaveId, ServerPin};
    use socp_proto::KeyText;
    use std::collections::BTreeSet;
    use std::fs::File;
    use tokio::sync::mpsc::error::TryRecvError;

    fn pin(number: u64) -> Record {
        Record::Pin(ServerPin {
            has_tls: false,
            server_id: format!("srv-{number:06}").as_str().try_into().unwrap(),
            key: KeyText::from_der(&[7; 550]),
            host: "127.0.0.1".to_owned(),
            port: 1,
            name: None,
            has_proved: false,
        })
    }

    fn now() -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_millis().try_into().unwrap()
    }

    /// What is copied, beside a store that goes on writing until that is done; which of it was acknowledged, and when.
    fn copied_under_load(store: &mut Store, to: &Path, first: u64) -> (u64, Vec<(u64, u64)>) {
        let (hub, mut messages) = mpsc::channel(1_024);
        store.answer_to(hub);
        let (answer, mut copying) = mpsc::unbounded_channel();
        store.copy(CopyJob {
            to: to.to_owned(),
            answer,
        });
        let (mut next, mut waiting, mut acknowledged) = (first, 0_usize, Vec::new());
        loop {
            while let Ok(HubMessage::Saved(saves, outcome)) = messages.try_recv() {
                outcome.unwrap();
                waiting -= saves.len();
                acknowledged.extend(saves.into_iter().map(|SaveId(number)| (number, now())));
            }
            match copying.try_recv() {
                Ok(Copying::Ended(made_at)) => return (made_at.unwrap(), acknowledged),
                Ok(Copying::Goes { .. }) | Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => panic!("no copy and no word of it"),
            }
            if waiting < 100 {
                assert!(store.save(SaveId(next), pin(next)));
                (next, waiting) = (next + 1, waiting + 1);
            }
        }
    }

    #[test]
    fn a_copy_under_load_holds_everything_that_was_acknowledged_before_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let (path, to) = (dir.path().join("server.db"), dir.path().join("copy.db"));
        let database = Database::open(&path).unwrap();
        let before = 10_000;
        let records: Vec<_> = (0..before).map(|number| (SaveId(number), pin(number))).collect();
        database.write(&path, &records).unwrap();
        let mut store = database.start(File::create(dir.path().join("lock")).unwrap()).unwrap();
        let (made_at, acknowledged) = copied_under_load(&mut store, &to, before);
        store.close();

        let kept = Database::open(&to).unwrap().read(&to).unwrap().memory.pins;
        let kept: BTreeSet<String> = kept.into_iter().map(|pin| pin.server_id.to_string()).collect();
        let due = acknowledged.iter().filter(|(_, at)| *at < made_at);
        let due: Vec<u64> = (0..before).chain(due.map(|(number, _)| *number)).collect();
        assert!(due.len() > 10_000, "nothing was written while it was copied");
        let missing: Vec<&u64> = due
            .iter()
            .filter(|number| !kept.contains(&format!("srv-{number:06}")))
            .collect();
        assert!(missing.is_empty(), "{} of {}: {missing:?}", missing.len(), due.len());
    }

    #[test]
    fn one_copy_at_a_time_and_none_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.db");
        let database = Database::open(&path).unwrap();
        let records: Vec<_> = (0..2_000).map(|number| (SaveId(number), pin(number))).collect();
        database.write(&path, &records).unwrap();
        let mut store = database.start(File::create(dir.path().join("lock")).unwrap()).unwrap();
        let mut ask = |name: &str| {
            let (answer, copying) = mpsc::unbounded_channel();
            let to = dir.path().join(name);
            store.copy(CopyJob { to, answer });
            copying
        };
        let ended = |mut copying: mpsc::UnboundedReceiver<Copying>| loop {
            if let Copying::Ended(ended) = copying.blocking_recv().unwrap() {
                return ended;
            }
        };
        // Nobody waits for the first.
        drop(ask("unwanted.db"));
        let (one, other) = (ask("one.db"), ask("other.db"));
        assert!(ended(one).is_ok());
        // Unless the first had ended before it was looked at.
        if let Err(why) = ended(other) {
            assert!(why.contains("another copy"), "{why}");
        }
        let there = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(there.path(), "something else").unwrap();
        let (answer, copying) = mpsc::unbounded_channel();
        store.copy(CopyJob {
            to: there.path().to_owned(),
            answer,
        });
        assert!(ended(copying).is_err_and(|why| why.contains("not a database")));
        store.close();
    }
}
