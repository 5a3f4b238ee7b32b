//! Rows to records and back. What does not parse was not written by us: the database is refused whole.

use super::{Found, Remembered, shelves};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Params, Result, Row, params};
use socp_core::server::{Delivered, KeptPassword, Memory, PasswordSet, Record, SaveId, ServerPin, UserRecord};
use socp_proto::json::parse_object;
use socp_proto::limits::{CONTENT_REMEMBERED_MS, DELIVERED_COUNT_MAX};
use socp_proto::payload::PasswordRecord;
use socp_proto::{Base64Url, KeyHistory, KeyText, Meta, PublicPair, ServerId, UserId};
use std::collections::BTreeMap;

/// What databases of all versions have.
pub(super) fn look(connection: &Connection) -> Result<Found> {
    let count = |sql: &str| {
        let rows: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        usize::try_from(rows).map_err(|error| invalid(0, error))
    };
    Ok(Found {
        identity: read_identity(connection)?,
        users: count("SELECT count(*) FROM users")?,
        passwords: count("SELECT count(*) FROM users WHERE pake_password <> ''")?,
        pins: count("SELECT count(*) FROM server_pins")?,
    })
}

fn read_identity(connection: &Connection) -> Result<Option<(ServerId, KeyText)>> {
    let read = connection.query_row("SELECT server_id, pubkey FROM identity", [], |row| {
        Ok((text(row, 0)?, text(row, 1)?))
    });
    read.optional()
}

pub(super) fn read(connection: &Connection) -> Result<Remembered> {
    let identity = read_identity(connection)?;
    let mut pins = connection
        .prepare("SELECT server_id, pubkey, host, port, has_tls, name, has_proved, keeps FROM server_pins")?;
    let pins = pins.query_map([], read_pin)?.collect::<Result<Vec<ServerPin>>>()?;
    let mut users = connection
        .prepare("SELECT user_id, pubkey, enc_pubkey, meta, version, directory_sig FROM users ORDER BY rowid")?;
    let mut histories = read_histories(connection)?;
    let users = users.query_map([], |row| read_user(row, &mut histories))?;
    let users = users.collect::<Result<Vec<UserRecord>>>()?;
    let mut passwords = connection.prepare("SELECT user_id, pake_password FROM users WHERE pake_password <> ''")?;
    let passwords = passwords
        .query_map([], |row| Ok((text::<UserId>(row, 0)?, read_password(row)?)))?
        .collect::<Result<Vec<(UserId, PasswordRecord)>>>()?;
    let version: i64 = connection.query_row("SELECT version FROM groups WHERE group_id = 'public'", [], |row| {
        row.get(0)
    })?;
    let mut members = connection.prepare("SELECT member_id FROM group_members WHERE group_id = 'public'")?;
    let members = members
        .query_map([], |row| text(row, 0))?
        .collect::<Result<Vec<UserId>>>()?;
    let mut delivered = connection.prepare("SELECT content, at FROM delivered ORDER BY rowid DESC LIMIT ?1")?;
    let delivered = delivered
        .query_map([clamp_count(DELIVERED_COUNT_MAX)], read_delivered)?
        .collect::<Result<Vec<Delivered>>>()?;
    let memory = Memory {
        pins,
        users,
        passwords,
        channel_version: u64::try_from(version).map_err(|error| invalid(0, error))?,
        members,
        delivered,
        mailboxes: shelves::read_mailboxes(connection)?,
        outbound: shelves::read_outbound(connection)?,
    };
    let history = connection
        .query_row("SELECT history FROM identity", [], |row| {
            row.get::<_, Option<String>>(0)
        })
        .optional()?
        .flatten();
    let history = history.map(|text| serde_json::from_str(&text).map_err(|error| invalid(0, error)));
    Ok(Remembered {
        identity,
        history: history.transpose()?,
        memory,
    })
}

fn read_password(row: &Row<'_>) -> Result<PasswordRecord> {
    PasswordRecord::try_from(text::<Base64Url>(row, 1)?).map_err(|error| invalid(1, error))
}

/// What a user's password opens, if the user has one.
pub(super) fn fetch(connection: &Connection, user: &UserId) -> Result<Option<KeptPassword>> {
    let sql = "SELECT privkey_store, pake_password FROM users
         WHERE user_id = ?1 AND privkey_store <> '' AND pake_password <> ''";
    let mut statement = connection.prepare_cached(sql)?;
    let read = |row: &Row<'_>| {
        let text: String = row.get(0)?;
        let sealed = serde_json::from_str(&text).map_err(|error| invalid(0, error))?;
        let record = read_password(row)?;
        Ok(KeptPassword { record, sealed })
    };
    statement.query_row([user.as_str()], read).optional()
}

fn read_delivered(row: &Row<'_>) -> Result<Delivered> {
    let at: i64 = row.get(1)?;
    Ok(Delivered {
        content: row.get(0)?,
        at: u64::try_from(at).map_err(|error| invalid(1, error))?,
    })
}

fn clamp_count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn read_pin(row: &Row<'_>) -> Result<ServerPin> {
    Ok(ServerPin {
        server_id: text(row, 0)?,
        key: text(row, 1)?,
        host: row.get(2)?,
        port: row.get(3)?,
        has_tls: row.get(4)?,
        name: row.get(5)?,
        has_proved: row.get(6)?,
        keeps: row.get(7)?,
    })
}

/// The histories of all users who have one.
fn read_histories(connection: &Connection) -> Result<BTreeMap<String, KeyHistory>> {
    let mut rows = connection.prepare("SELECT user_id, keys FROM user_keys ORDER BY user_id, version")?;
    let rows = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut firsts: BTreeMap<String, PublicPair> = BTreeMap::new();
    let mut histories: BTreeMap<String, KeyHistory> = BTreeMap::new();
    for row in rows {
        let (user, keys) = row?;
        let Some(first) = firsts.get(&user) else {
            let first = serde_json::from_str(&keys).map_err(|error| invalid(1, error))?;
            firsts.insert(user, first);
            continue;
        };
        let statement = serde_json::from_str(&keys).map_err(|error| invalid(1, error))?;
        let history = match histories.get(&user) {
            None => KeyHistory::begin(first.clone(), statement),
            Some(history) => history.and(statement),
        };
        match history {
            Ok(history) => {
                histories.insert(user, history);
            }
            // One user's damage is not everybody's: the keys count, and where they came from is not told.
            Err(error) => tracing::error!(user, %error, "the key history of a user is damaged and is left out"),
        }
    }
    Ok(histories)
}

fn read_user(row: &Row<'_>, histories: &mut BTreeMap<String, KeyHistory>) -> Result<UserRecord> {
    let meta: String = row.get(3)?;
    let meta = parse_object(&meta).map_err(|error| invalid(3, error))?;
    let version: i64 = row.get(4)?;
    let pubkey: KeyText = text(row, 1)?;
    let enc_pubkey: KeyText = text(row, 2)?;
    let history = histories.remove(&row.get::<_, String>(0)?);
    let pair = PublicPair {
        pubkey: pubkey.clone(),
        enc_pubkey: enc_pubkey.clone(),
    };
    Ok(UserRecord {
        history: history.filter(|history| history.newest() == pair),
        user_id: text::<UserId>(row, 0)?,
        // One copy where one key is for both.
        enc_pubkey: if enc_pubkey == pubkey {
            pubkey.clone()
        } else {
            enc_pubkey
        },
        pubkey,
        meta: Meta::try_from(meta).map_err(|error| invalid(3, error))?,
        version: u64::try_from(version).map_err(|error| invalid(4, error))?,
        directory_sig: text::<Base64Url>(row, 5)?,
    })
}

pub(super) fn text<T>(row: &Row<'_>, column: usize) -> Result<T>
where
    T: TryFrom<String>,
    T::Error: std::error::Error + Send + Sync + 'static,
{
    T::try_from(row.get::<_, String>(column)?).map_err(|error| invalid(column, error))
}

pub(super) fn invalid(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

pub(super) fn write_identity(connection: &Connection, id: &ServerId, key: &KeyText) -> Result<()> {
    let sql = "INSERT INTO identity (one, server_id, pubkey) VALUES (1, ?1, ?2)
               ON CONFLICT (one) DO UPDATE SET server_id = ?1, pubkey = ?2";
    connection.execute(sql, params![id.as_str(), key.as_str()]).map(drop)
}

pub(super) fn write_rotation(
    connection: &mut Connection,
    key: &KeyText,
    history: &KeyHistory,
    users: &[UserRecord],
) -> Result<()> {
    let text = serde_json::to_string(history).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let transaction = connection.transaction()?;
    transaction.execute(
        "UPDATE identity SET pubkey = ?1, history = ?2",
        params![key.as_str(), text],
    )?;
    for user in users {
        write_user(&transaction, user)?;
    }
    transaction.commit()
}

/// Writes a group in one transaction.
pub(super) fn commit(connection: &Connection, group: &[(SaveId, Record)]) -> Result<()> {
    // No other transaction is open on it: there is one writer.
    let transaction = connection.unchecked_transaction()?;
    for (_, record) in group {
        write(&transaction, record)?;
    }
    transaction.commit()
}

fn write(connection: &Connection, record: &Record) -> Result<()> {
    match record {
        Record::Identity(server_id) => {
            let sql = "UPDATE identity SET server_id = ?1";
            execute(connection, sql, [server_id.as_str()])
        }
        Record::Pin(pin) => write_pin(connection, pin),
        Record::PinReplaced(pin) => {
            let sql = "DELETE FROM server_pins WHERE server_id = ?1";
            execute(connection, sql, [pin.server_id.as_str()])?;
            write_pin(connection, pin)
        }
        Record::Unpinned(server) => {
            let sql = "DELETE FROM server_pins WHERE server_id = ?1";
            execute(connection, sql, [server.as_str()])
        }
        Record::User(user) => write_user(connection, user),
        Record::Password(set) => write_password(connection, set),
        Record::Ousted(user) => {
            for sql in [
                "DELETE FROM mailbox WHERE user_id = ?1",
                "DELETE FROM devices WHERE user_id = ?1",
                "DELETE FROM user_keys WHERE user_id = ?1",
                "DELETE FROM users WHERE user_id = ?1",
            ] {
                execute(connection, sql, [user.as_str()])?;
            }
            Ok(())
        }
        Record::Deleted(user) => {
            for sql in [
                "DELETE FROM group_members WHERE member_id = ?1",
                "DELETE FROM mailbox WHERE user_id = ?1",
                "DELETE FROM devices WHERE user_id = ?1",
                "DELETE FROM user_keys WHERE user_id = ?1",
                "DELETE FROM users WHERE user_id = ?1",
            ] {
                execute(connection, sql, [user.as_str()])?;
            }
            Ok(())
        }
        Record::Member { user, version, at } => {
            let sql =
                "INSERT INTO group_members (group_id, member_id, role, added_at) VALUES ('public', ?1, 'member', ?2)
                       ON CONFLICT (group_id, member_id) DO NOTHING";
            execute(connection, sql, params![user.as_str(), clamp(*at)])?;
            write_version(connection, *version)
        }
        Record::ChannelVersion(version) => write_version(connection, *version),
        Record::Delivered(delivered) => write_delivered(connection, delivered.content, delivered.at),
        Record::Device(device) => shelves::write_device(connection, device),
        Record::DeviceGone(user, device) => shelves::remove_device(connection, user, *device),
        Record::Mail(mail) => {
            if let Some(content) = mail.content {
                write_delivered(connection, content, mail.row.at)?;
            }
            shelves::write_mail(connection, mail)
        }
        Record::MailGone(user, up_to) => shelves::remove_mail(connection, user, *up_to),
        Record::MailDropped(user, seqs) => shelves::drop_mail(connection, user, seqs),
        Record::Outbound(outbound) => shelves::write_outbound(connection, outbound),
        Record::OutboundGone(seqs) => shelves::remove_outbound(connection, seqs),
    }
}

fn write_delivered(connection: &Connection, content: [u8; 16], at: u64) -> Result<()> {
    let sql = "INSERT INTO delivered (content, at) VALUES (?1, ?2)";
    execute(connection, sql, params![content, clamp(at)])
}

/// Begins another run of the server, which is numbered beyond all before it, also beyond those that a backup does not know
/// (PROTOCOL II.6).
pub(super) fn begin_run(connection: &Connection, unix_s: u64) -> Result<u64> {
    let sql = "UPDATE identity SET run = max(run + 1, ?1) RETURNING run";
    let run: i64 = connection.query_row(sql, [clamp(unix_s)], |row| row.get(0))?;
    u64::try_from(run).map_err(|error| invalid(0, error))
}

/// Statements are compiled once, since thousands of rows may go by the same few.
pub(super) fn execute(connection: &Connection, sql: &str, row: impl Params) -> Result<()> {
    connection.prepare_cached(sql)?.execute(row).map(drop)
}

/// Removes at most `rows_max` of what was delivered so long ago that it would be refused for its age, or is beyond
/// `kept_max`; how many that were. Rows are numbered in the order in which they came, so the numbers say how many there
/// are, and whatever goes is at the front: nothing is read but that and the row behind it. Where a clock was set back, a
/// row waits for the one before it.
pub(super) fn prune(connection: &Connection, now: u64, kept_max: usize, rows_max: usize) -> Result<usize> {
    let newest: Option<i64> = connection.prepare_cached(NEWEST)?.query_row([], |row| row.get(0))?;
    let surplus_to = newest.unwrap_or(0).saturating_sub(clamp_count(kept_max));
    let since = clamp(now.saturating_sub(CONTENT_REMEMBERED_MS));
    let mut last = None;
    let mut oldest = connection.prepare_cached(OLDEST)?;
    let mut oldest = oldest.query([clamp_count(rows_max)])?;
    while let Some(row) = oldest.next()? {
        let (number, at): (i64, i64) = (row.get(0)?, row.get(1)?);
        if number > surplus_to && at >= since {
            break;
        }
        last = Some(number);
    }
    let Some(last) = last else { return Ok(0) };
    connection.prepare_cached(REMOVE)?.execute([last])
}

pub(super) const NEWEST: &str = "SELECT max(rowid) FROM delivered";
pub(super) const OLDEST: &str = "SELECT rowid, at FROM delivered ORDER BY rowid LIMIT ?1";
pub(super) const REMOVE: &str = "DELETE FROM delivered WHERE rowid <= ?1";

/// The version only grows (PROTOCOL I.8).
fn write_version(connection: &Connection, version: u64) -> Result<()> {
    let sql = "UPDATE groups SET version = max(version, ?1) WHERE group_id = 'public'";
    execute(connection, sql, [clamp(version)])
}

/// SQLite's integers are signed.
pub(super) fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn write_pin(connection: &Connection, pin: &ServerPin) -> Result<()> {
    // The key of a pin never changes (SOCP §8.1); only where the server is, and that it has proved itself.
    let sql = "INSERT INTO server_pins (server_id, pubkey, host, port, has_tls, name, has_proved, keeps)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
               ON CONFLICT (server_id) DO UPDATE SET host = ?3, port = ?4, has_tls = ?5, name = ?6,
                   has_proved = max(has_proved, ?7), keeps = ?8";
    let (id, key) = (pin.server_id.as_str(), pin.key.as_str());
    let (proved, keeps) = (pin.has_proved, pin.keeps);
    let row = params![id, key, pin.host, pin.port, pin.has_tls, pin.name, proved, keeps];
    execute(connection, sql, row)
}

/// Nothing is written where the id has gone to another key since, or its user has gone on to other keys.
fn write_password(connection: &Connection, set: &PasswordSet) -> Result<()> {
    let sealed =
        serde_json::to_string(&set.sealed).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let record = Base64Url::from(set.record.clone());
    let sql = "UPDATE users SET pake_password = ?1, privkey_store = ?2 WHERE user_id = ?3 AND pubkey = ?4
               AND version = ?5";
    let (user, pubkey, version) = (set.user_id.as_str(), set.pubkey.as_str(), clamp(set.version));
    let row = params![record.as_str(), sealed, user, pubkey, version];
    execute(connection, sql, row)
}

fn write_user(connection: &Connection, user: &UserRecord) -> Result<()> {
    // The keys of a user change by a history that goes on where the known one ends (PROTOCOL II.13), and what a password
    // opened are those before; else only the profile changes.
    let sql = "INSERT INTO users (user_id, pubkey, enc_pubkey, meta, version, directory_sig)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)
               ON CONFLICT (user_id) DO UPDATE SET meta = ?4, version = max(version, ?5),
                   pubkey = CASE WHEN ?5 > version THEN ?2 ELSE pubkey END,
                   enc_pubkey = CASE WHEN ?5 > version THEN ?3 ELSE enc_pubkey END,
                   pake_password = CASE WHEN ?5 > version THEN '' ELSE pake_password END,
                   privkey_store = CASE WHEN ?5 > version THEN '' ELSE privkey_store END,
                   directory_sig = CASE WHEN ?5 >= version THEN ?6 ELSE directory_sig END";
    let version = i64::try_from(user.version).unwrap_or(i64::MAX);
    let row = params![
        user.user_id.as_str(),
        user.pubkey.as_str(),
        user.enc_pubkey.as_str(),
        user.meta.to_text(),
        version,
        user.directory_sig.as_str()
    ];
    execute(connection, sql, row)?;
    user.history
        .as_ref()
        .map_or(Ok(()), |history| write_history(connection, &user.user_id, history))
}

/// What is there already stays: a history only goes on.
fn write_history(connection: &Connection, user: &UserId, history: &KeyHistory) -> Result<()> {
    let sql = "INSERT INTO user_keys (user_id, version, keys) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    let failed = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
    let first = serde_json::to_string(history.first()).map_err(failed)?;
    execute(connection, sql, params![user.as_str(), 1, first])?;
    for statement in history.statements() {
        let keys = serde_json::to_string(statement).map_err(failed)?;
        execute(connection, sql, params![user.as_str(), clamp(statement.version), keys])?;
    }
    Ok(())
}
