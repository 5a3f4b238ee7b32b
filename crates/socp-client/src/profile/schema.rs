//! The profile's database file and its numbered migrations.

use crate::error::ClientError;
use rusqlite::{Connection, TransactionBehavior};
use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// The file's name in the profile directory.
pub(super) const FILE: &str = "profile.db";

/// How long one program waits for another that uses the same profile.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// Migration n takes the file from version n to n + 1. Never change one that was released.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE identity(
        one INTEGER PRIMARY KEY CHECK (one = 1),
        user_id TEXT NOT NULL,
        name TEXT,
        display_name TEXT,
        pubkey TEXT NOT NULL,
        sealed_key TEXT NOT NULL
    ) STRICT;
    CREATE TABLE servers(
        url TEXT PRIMARY KEY,
        server_id TEXT NOT NULL,
        server_pub TEXT NOT NULL,
        name TEXT,
        first_seen INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE pins(
        user_id TEXT PRIMARY KEY,
        pubkey TEXT NOT NULL,
        enc_pubkey TEXT NOT NULL,
        name TEXT,
        server_id TEXT,
        server_name TEXT,
        first_seen INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE settings(
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT;
",
    "
    ALTER TABLE servers ADD COLUMN asks_for_proof INTEGER NOT NULL DEFAULT 0;
",
    "
    CREATE TABLE verified(
        user_id TEXT PRIMARY KEY,
        pubkey TEXT NOT NULL,
        enc_pubkey TEXT NOT NULL,
        verified_at INTEGER NOT NULL
    ) STRICT;
",
    SEPARATE_KEYS,
    "
    CREATE TABLE tls_pins(
        url TEXT PRIMARY KEY,
        pin TEXT NOT NULL
    ) STRICT;
",
    TRUST,
    PIN_VERSIONS,
    crate::history::SCHEMA,
    crate::history::held::SCHEMA,
    OTHER_SIGNERS,
    PIN_NUMBERED,
];

/// A key for each purpose, their history, and what was replaced. Without `enc_pubkey` one key does both.
const SEPARATE_KEYS: &str = "
    ALTER TABLE identity ADD COLUMN enc_pubkey TEXT;
    ALTER TABLE identity ADD COLUMN sealed_enc_key TEXT;
    ALTER TABLE identity ADD COLUMN history TEXT;
    CREATE TABLE old_enc_keys(
        number INTEGER PRIMARY KEY,
        sealed_key TEXT NOT NULL
    ) STRICT;
";

/// Other keys than the pinned ones, what was decided about them, contact cards, who else says the same key.
const TRUST: &str = "
    CREATE TABLE alarms(
        user_id TEXT PRIMARY KEY,
        seen TEXT NOT NULL,
        pubkey TEXT,
        enc_pubkey TEXT,
        teller_kind TEXT NOT NULL,
        teller TEXT NOT NULL,
        seen_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE refused_keys(
        user_id TEXT NOT NULL,
        seen TEXT NOT NULL,
        teller_kind TEXT NOT NULL,
        teller TEXT NOT NULL,
        PRIMARY KEY (user_id, seen)
    ) STRICT;
    CREATE TABLE cards(
        user_id TEXT PRIMARY KEY,
        fingerprint TEXT NOT NULL,
        added_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE confirmations(
        user_id TEXT NOT NULL,
        seen TEXT NOT NULL,
        teller_kind TEXT NOT NULL,
        teller TEXT NOT NULL,
        PRIMARY KEY (user_id, teller_kind, teller)
    ) STRICT;
    CREATE TABLE server_alarms(
        url TEXT PRIMARY KEY,
        server_id TEXT NOT NULL,
        server_pub TEXT NOT NULL,
        seen_at INTEGER NOT NULL
    ) STRICT;
";

/// Which of a user's pairs of keys is pinned, and whether its owner has withdrawn it.
const PIN_VERSIONS: &str = "
    ALTER TABLE pins ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE pins ADD COLUMN revoked INTEGER NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1));
";

/// Signing keys beside the pinned ones: those that were proved to be a user's before, and until when; and those that were
/// decided against.
const OTHER_SIGNERS: &str = "
    CREATE TABLE former_keys(
        user_id TEXT NOT NULL,
        pubkey TEXT NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (user_id, pubkey)
    ) STRICT;
    CREATE TABLE denied_keys(
        user_id TEXT NOT NULL,
        pubkey TEXT NOT NULL,
        denied_at INTEGER NOT NULL,
        PRIMARY KEY (user_id, pubkey)
    ) STRICT;
";
/// When a user's program last wrote with a number (PROTOCOL II.6).
const PIN_NUMBERED: &str = "ALTER TABLE pins ADD COLUMN numbered_at INTEGER NOT NULL DEFAULT 0;";

/// Makes the directory if there is none, for its owner only.
pub(super) fn make_dir(dir: &Path) -> Result<(), ClientError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|source| ClientError::File {
        what: "make the directory",
        path: dir.to_owned(),
        source,
    })
}

/// Opens the database, brought up to date.
pub(super) fn open(dir: &Path) -> Result<Connection, ClientError> {
    make_file(&dir.join(FILE))?;
    let mut database = Connection::open(dir.join(FILE))?;
    database.busy_timeout(BUSY_WAIT)?;
    refuse_newer(dir, version(&database)?)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    migrate(dir, &mut database)?;
    Ok(database)
}

/// Makes the file if there is none, for its owner only, whatever the directory allows; SQLite gives the files beside it
/// the same mode.
fn make_file(path: &Path) -> Result<(), ClientError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(source) if source.kind() != ErrorKind::AlreadyExists => Err(ClientError::File {
            what: "make",
            path: path.to_owned(),
            source,
        }),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn migrate(dir: &Path, database: &mut Connection) -> Result<(), ClientError> {
    if version(database)? == newest() {
        return Ok(());
    }
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another program may have done it meanwhile.
    let found = version(&transaction)?;
    refuse_newer(dir, found)?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", newest())?;
    transaction.commit()?;
    Ok(())
}

fn refuse_newer(dir: &Path, found: i64) -> Result<(), ClientError> {
    let known = newest();
    if found > known {
        return Err(ClientError::NewerProfile {
            dir: dir.to_owned(),
            found,
            known,
        });
    }
    Ok(())
}

fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

fn version(database: &Connection) -> Result<i64, ClientError> {
    Ok(database.pragma_query_value(None, "user_version", |row| row.get(0))?)
}
