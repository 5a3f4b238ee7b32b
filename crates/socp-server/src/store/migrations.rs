//! The database's versions: numbered steps, each in a transaction, kept in `PRAGMA user_version`.

use crate::error::ServerError;
use rusqlite::{Connection, Result};
use std::path::Path;

/// Step N brings a database from version N to N + 1. Never edit one that was released; add another.
pub(super) const STEPS: &[&str] = &[
    "
    CREATE TABLE identity (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        server_id TEXT NOT NULL,
        pubkey TEXT NOT NULL
    ) STRICT;
    -- SOCP §15: the standard's columns, then ours.
    CREATE TABLE users (
        user_id TEXT PRIMARY KEY,
        pubkey TEXT NOT NULL,
        privkey_store TEXT NOT NULL DEFAULT '',
        pake_password TEXT NOT NULL DEFAULT '',
        meta TEXT NOT NULL,
        version INTEGER NOT NULL,
        enc_pubkey TEXT NOT NULL,
        directory_sig TEXT NOT NULL
    ) STRICT;
    CREATE TABLE server_pins (
        server_id TEXT PRIMARY KEY,
        pubkey TEXT NOT NULL,
        host TEXT NOT NULL,
        port INTEGER NOT NULL,
        name TEXT
    ) STRICT;
",
    "
    -- SOCP §15: the standard's columns.
    CREATE TABLE groups (
        group_id TEXT PRIMARY KEY,
        creator_id TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        meta TEXT NOT NULL DEFAULT '{}',
        version INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE group_members (
        group_id TEXT NOT NULL REFERENCES groups (group_id),
        member_id TEXT NOT NULL,
        role TEXT NOT NULL,
        wrapped_key TEXT NOT NULL DEFAULT '',
        added_at INTEGER NOT NULL,
        PRIMARY KEY (group_id, member_id)
    ) STRICT, WITHOUT ROWID;
    -- The public channel is made by nobody, at no time (SOCP §15).
    INSERT INTO groups (group_id, creator_id, created_at, version) VALUES ('public', 'system', 0, 0);
    -- PROTOCOL I.7: what reached our users lately.
    CREATE TABLE delivered (
        content BLOB PRIMARY KEY,
        at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX delivered_by_age ON delivered (at);
",
    "
    -- PROTOCOL II.2: who has proved the pinned key once must always.
    ALTER TABLE server_pins ADD COLUMN has_proved INTEGER NOT NULL DEFAULT 0 CHECK (has_proved IN (0, 1));
",
    "
    -- PROTOCOL I.7: rows in the order in which they came. A message adds to the last page, where a table ordered by
    -- hash, and an index, changed one page each. The server itself knows what it has; the same twice does no harm.
    CREATE TABLE delivered_in_order (
        content BLOB NOT NULL,
        at INTEGER NOT NULL
    ) STRICT;
    INSERT INTO delivered_in_order (content, at) SELECT content, at FROM delivered ORDER BY at;
    DROP TABLE delivered;
    ALTER TABLE delivered_in_order RENAME TO delivered;
",
    "
    -- PROTOCOL I.4: how the server is dialled.
    ALTER TABLE server_pins ADD COLUMN has_tls INTEGER NOT NULL DEFAULT 0 CHECK (has_tls IN (0, 1));
",
    USER_KEYS,
    "
    -- PROTOCOL II.13: the keys that the server had before, as JSON.
    ALTER TABLE identity ADD COLUMN history TEXT;
",
    SHELVES,
    "
    -- PROTOCOL II.6: over which server a message came; 0 is what was written here.
    ALTER TABLE mailbox ADD COLUMN via INTEGER NOT NULL DEFAULT 0;
    -- A checksum over the rest of the row, from its next change on.
    ALTER TABLE devices ADD COLUMN sum BLOB;
",
];

/// PROTOCOL II.13: for users whose keys have changed, each pair they had: version 1 as such, the others as statements.
const USER_KEYS: &str = "
    CREATE TABLE user_keys (
        user_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        keys TEXT NOT NULL,
        PRIMARY KEY (user_id, version)
    ) STRICT, WITHOUT ROWID;
";

/// PROTOCOL II.6: what is kept until it has arrived. What is read at each start stands before what the messages say, so
/// that those need not be read for it.
const SHELVES: &str = "
    ALTER TABLE identity ADD COLUMN run INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE server_pins ADD COLUMN keeps INTEGER NOT NULL DEFAULT 0 CHECK (keeps IN (0, 1));
    CREATE TABLE devices (
        user_id TEXT NOT NULL,
        device BLOB NOT NULL,
        up_to INTEGER NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (user_id, device)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE mailbox (
        user_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        author INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        at INTEGER NOT NULL,
        sum BLOB NOT NULL,
        item TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX mailbox_in_order ON mailbox (user_id, seq);
    CREATE TABLE outbound (
        seq INTEGER PRIMARY KEY,
        server_id TEXT NOT NULL,
        author TEXT NOT NULL,
        recipient TEXT NOT NULL,
        msg_ref TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        at INTEGER NOT NULL,
        sum BLOB NOT NULL,
        deliver TEXT NOT NULL
    ) STRICT;
    CREATE INDEX outbound_in_order ON outbound (server_id, seq);
    -- What was damaged, for whoever wants to look at it.
    CREATE TABLE quarantine (
        shelf TEXT NOT NULL,
        whose TEXT NOT NULL,
        seq INTEGER NOT NULL,
        found INTEGER NOT NULL,
        why TEXT NOT NULL,
        content BLOB
    ) STRICT;
";

/// Brings the database to the newest version and sets how it syncs.
pub(super) fn run(connection: &mut Connection, path: &Path) -> std::result::Result<(), ServerError> {
    let failed = |error: rusqlite::Error| ServerError::Database {
        path: path.to_owned(),
        reason: format!("{error}; restore it from a backup if it is damaged"),
    };
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed)?;
    if found > known {
        return Err(ServerError::NewerDatabase {
            path: path.to_owned(),
            found,
            known,
        });
    }
    configure(connection).map_err(failed)?;
    for (number, step) in (0_i64..).zip(STEPS).skip_while(|(number, _)| *number < found) {
        apply(connection, number.saturating_add(1), step).map_err(failed)?;
    }
    Ok(())
}

/// Whether a database has our version; an older one would be brought to it at the next start, a newer one is refused.
pub(super) fn is_newest(connection: &Connection, path: &Path) -> std::result::Result<bool, ServerError> {
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let path = path.to_owned();
    match connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)) {
        Ok(found) if found > known => Err(ServerError::NewerDatabase { path, found, known }),
        Ok(found) => Ok(found == known),
        Err(error) => Err(ServerError::Database {
            path,
            reason: format!("{error}; restore it from a backup if it is damaged"),
        }),
    }
}

fn configure(connection: &Connection) -> Result<()> {
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
}

fn apply(connection: &mut Connection, version: i64, step: &str) -> Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(step)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}
