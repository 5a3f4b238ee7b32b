//! What was said, kept in the profile (PROTOCOL II.6): the history, what no server has answered yet, how far each mailbox
//! was read, and which text of which device was heard.
//!
//! Each row is sealed by itself and bound to its place, so that none can stand in for another; in the clear are only the
//! row's number, a keyed hash for the conversation, times, and how far a message has come. Several programs with one
//! profile write here at once, so everything that depends on what is there is decided inside one transaction.

mod arriving;
pub(crate) mod held;
mod leaving;
mod record;
mod search;
mod view;

pub(crate) use leaving::{ToMake, ToSend};
pub use record::{Direction, HistoryEntry};

use crate::error::ClientError;
use record::{Body, Place};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use socp_crypto::{RowKeys, random_bytes};
use socp_proto::{DeviceId, ServerId, UserId, Voice};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The tables, as a migration of the profile.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE history_key(
        one INTEGER PRIMARY KEY CHECK (one = 1),
        sealed TEXT NOT NULL
    ) STRICT;
    CREATE TABLE device(
        one INTEGER PRIMARY KEY CHECK (one = 1),
        device BLOB NOT NULL,
        voice BLOB NOT NULL
    ) STRICT;
    CREATE TABLE messages(
        id INTEGER PRIMARY KEY,
        conversation BLOB NOT NULL,
        direction INTEGER NOT NULL,
        place INTEGER NOT NULL,
        rank INTEGER NOT NULL,
        at INTEGER NOT NULL,
        state INTEGER NOT NULL,
        shown INTEGER NOT NULL,
        owed INTEGER NOT NULL,
        ref BLOB,
        number BLOB,
        sealed BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX messages_ref ON messages(ref, direction) WHERE ref IS NOT NULL;
    CREATE UNIQUE INDEX messages_number ON messages(number) WHERE number IS NOT NULL;
    CREATE INDEX messages_place ON messages(place, rank);
    CREATE INDEX messages_conversation ON messages(conversation, place, rank);
    CREATE INDEX messages_unshown ON messages(id) WHERE shown = 0;
    CREATE INDEX messages_owed ON messages(id) WHERE owed > 0;
    CREATE TABLE unanswered(
        id INTEGER PRIMARY KEY,
        frame BLOB,
        signed_at INTEGER
    ) STRICT;
    CREATE TABLE mailboxes(
        server_id TEXT PRIMARY KEY,
        after INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE said(
        conversation BLOB PRIMARY KEY,
        next INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE heard(
        voice BLOB PRIMARY KEY,
        sealed BLOB NOT NULL
    ) STRICT;
    CREATE TABLE receipts(
        conversation BLOB PRIMARY KEY,
        wanted INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE search_pages(
        first INTEGER PRIMARY KEY,
        last INTEGER NOT NULL,
        sealed BLOB NOT NULL
    ) STRICT;
    ALTER TABLE pins ADD COLUMN acks INTEGER NOT NULL DEFAULT 0 CHECK (acks IN (0, 1));
";

/// What undoes them, for tests of older profiles.
#[cfg(test)]
pub(crate) const UNDONE: &str = "
    DROP TABLE history_key; DROP TABLE device; DROP TABLE messages; DROP TABLE unanswered; DROP TABLE mailboxes;
    DROP TABLE said; DROP TABLE heard; DROP TABLE receipts; DROP TABLE search_pages; ALTER TABLE pins DROP COLUMN acks;
";

/// What is kept of what was said; cheap to clone.
#[derive(Debug, Clone)]
pub struct History {
    database: Arc<Mutex<Connection>>,
    keys: RowKeys,
    me: UserId,
    /// Rows that could not be read since the program began.
    damaged: Arc<AtomicU64>,
    /// What was held for too long and is tried once more, with the time since when it is.
    last_tries: Arc<Mutex<BTreeMap<u64, u64>>>,
}

impl History {
    pub(crate) fn new(database: Arc<Mutex<Connection>>, keys: RowKeys, me: UserId) -> Self {
        Self {
            database,
            keys,
            me,
            damaged: Arc::default(),
            last_tries: Arc::default(),
        }
    }

    /// Rows that could not be read since the program began: altered, or damaged on the disk. None of them is shown.
    #[must_use]
    pub fn damaged_count(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Which of the user's devices this profile is, and how it is known to the people it writes to.
    pub(crate) fn device(&self) -> Result<(DeviceId, Voice), ClientError> {
        let mut database = self.lock();
        let transaction = begin(&mut database)?;
        let found = transaction
            .query_row("SELECT device, voice FROM device", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        if let Some((device, voice)) = found {
            return Ok((DeviceId::from_bytes(device), Voice::from_bytes(voice)));
        }
        let (device, voice) = (random_bytes::<16>()?, random_bytes::<8>()?);
        transaction.execute(
            "INSERT INTO device(one, device, voice) VALUES (1, ?1, ?2)",
            params![device, voice],
        )?;
        transaction.commit()?;
        Ok((DeviceId::from_bytes(device), Voice::from_bytes(voice)))
    }

    /// How far the mailbox at this server was read; nothing where the server has shown none.
    pub(crate) fn mailbox(&self, server: &ServerId) -> Result<Option<u64>, ClientError> {
        let database = self.lock();
        let mut query = database.prepare("SELECT after FROM mailboxes WHERE server_id = ?1")?;
        let after: Option<i64> = query.query_row([server.as_str()], |row| row.get(0)).optional()?;
        Ok(after.map(|after| u64::try_from(after).unwrap_or(0)))
    }

    /// Remembers whether this server acknowledges what it has.
    pub(crate) fn note_mailbox(&self, server: &ServerId, has_one: bool) -> Result<(), ClientError> {
        let statement = if has_one {
            "INSERT INTO mailboxes(server_id, after) VALUES (?1, 0) ON CONFLICT(server_id) DO NOTHING"
        } else {
            "DELETE FROM mailboxes WHERE server_id = ?1"
        };
        self.lock().execute(statement, [server.as_str()])?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere leaves no half-done statement behind.
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn conversation(&self, peer: &UserId) -> [u8; 16] {
        self.keys.name("conversation", &[peer.as_str().as_bytes()])
    }

    fn name_of_ref(&self, msg_ref: &str) -> [u8; 16] {
        self.keys.name("ref", &[msg_ref.as_bytes()])
    }

    /// The name of one numbered text of a device, in one direction.
    fn name_of_number(&self, direction: Direction, peer: &UserId, by: Voice, n: u64) -> [u8; 16] {
        let (direction, n) = ([direction.number()], n.to_be_bytes());
        self.keys
            .name("number", &[&direction, peer.as_str().as_bytes(), by.as_bytes(), &n])
    }

    fn seal(&self, place: Place, body: &Body) -> Result<Vec<u8>, ClientError> {
        let text = serde_json::to_vec(body).map_err(|error| ClientError::Unwritable(error.to_string()))?;
        Ok(self.keys.seal(&place.bytes(), &text)?)
    }

    /// What a row holds; nothing if it is damaged, which is counted.
    fn open(&self, place: Place, sealed: &[u8]) -> Option<Body> {
        let plain = self.keys.open(&place.bytes(), sealed);
        let body = plain.and_then(|plain| serde_json::from_slice(plain.expose()).ok());
        if body.is_none() {
            self.note_damage();
        }
        body
    }

    fn note_damage(&self) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }
}

/// A transaction that writes: another program waits for it, or it for the other.
fn begin(database: &mut Connection) -> Result<Transaction<'_>, ClientError> {
    Ok(database.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests;
