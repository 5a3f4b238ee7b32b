//! Signing keys beside the pinned ones: those that were a user's before, and those that the person has decided against
//! (PROTOCOL II.11, II.13).

use super::alarms::read_user;
use super::{Profile, damaged, parsed, text, unix_ms};
use crate::error::ClientError;
use rusqlite::{Connection, OptionalExtension as _, params};
use socp_core::client::{Alarm, FormerKey, UserPin};
use socp_proto::{Fingerprint, KeyText, UserId};

/// Keys of one user that are remembered as decided against; the oldest are forgotten, and what they signed would wait as
/// what any unknown key signed does.
const DENIED_COUNT_MAX: i64 = 64;

impl Profile {
    /// The pins, sorted by id, with the keys before them that still count for something.
    pub(super) fn with_former_keys(
        &self,
        database: &Connection,
        mut pins: Vec<UserPin>,
    ) -> Result<Vec<UserPin>, ClientError> {
        let mut query = database.prepare("SELECT user_id, pubkey, until FROM former_keys ORDER BY user_id, until")?;
        let rows = query.query_map([], |row| {
            let read = || -> Result<(UserId, FormerKey), String> {
                let key: KeyText = parsed(text(row, "pubkey")?, "pubkey")?;
                let until = super::number(row, "until")?;
                Ok((read_user(row)?, FormerKey { key, until }))
            };
            Ok(read())
        })?;
        for row in rows {
            let (user, former) = row?.map_err(|what| damaged(&self.dir, &what))?;
            let index = pins.binary_search_by(|pin| pin.user.as_str().cmp(user.as_str()));
            if let Some(pin) = index.ok().and_then(|index| pins.get_mut(index)) {
                pin.former.push(former);
            }
        }
        Ok(pins)
    }

    /// Signing keys that the person has decided against.
    pub(super) fn denied_keys(&self) -> Result<Vec<(UserId, Fingerprint)>, ClientError> {
        self.read_all("SELECT user_id, pubkey FROM denied_keys", |row| {
            let key: KeyText = parsed(text(row, "pubkey")?, "pubkey")?;
            Ok((read_user(row)?, key.fingerprint()))
        })
    }
}

/// Keeps the keys before a pinned one, no more of them than a history has statements; when one was replaced stays as it was
/// first heard.
pub(super) fn save(database: &Connection, pin: &UserPin) -> Result<(), ClientError> {
    if pin.former.is_empty() {
        return Ok(());
    }
    let user = pin.user.as_str();
    for FormerKey { key, until } in &pin.former {
        let until = i64::try_from(*until).unwrap_or(i64::MAX);
        database
            .prepare_cached(
                "INSERT INTO former_keys(user_id, pubkey, until) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            )?
            .execute(params![user, key.as_str(), until])?;
    }
    Ok(())
}

/// The person takes another key for a user's: what was pinned, and what was before that, is theirs no more.
pub(super) fn accept_signer(database: &Connection, alarm: &Alarm) -> Result<(), ClientError> {
    let user = alarm.user.as_str();
    database.execute(
        "INSERT INTO denied_keys(user_id, pubkey, denied_at)
            SELECT user_id, pubkey, ?2 FROM former_keys WHERE user_id = ?1
            UNION SELECT user_id, pubkey, ?2 FROM pins WHERE user_id = ?1 ON CONFLICT DO NOTHING",
        params![user, unix_ms()],
    )?;
    database.execute("DELETE FROM former_keys WHERE user_id = ?1", [user])?;
    if let Some((pubkey, _)) = &alarm.keys {
        database.execute(
            "DELETE FROM denied_keys WHERE user_id = ?1 AND pubkey = ?2",
            params![user, pubkey.as_str()],
        )?;
    }
    forget_oldest(database, user)
}

/// The person stays with the key that was known: the other is not the user's, whoever brings it.
pub(super) fn deny_signer(database: &Connection, alarm: &Alarm) -> Result<(), ClientError> {
    let Some((pubkey, _)) = &alarm.keys else { return Ok(()) };
    let user = alarm.user.as_str();
    let mut query = database.prepare("SELECT pubkey FROM pins WHERE user_id = ?1")?;
    let pinned: Option<String> = query.query_row([user], |row| row.get(0)).optional()?;
    // Where only the key for decryption was another one, the signing key stays.
    if pinned.as_deref() == Some(pubkey.as_str()) {
        return Ok(());
    }
    database.execute(
        "INSERT INTO denied_keys(user_id, pubkey, denied_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        params![user, pubkey.as_str(), unix_ms()],
    )?;
    forget_oldest(database, user)
}

fn forget_oldest(database: &Connection, user: &str) -> Result<(), ClientError> {
    database.execute(
        "DELETE FROM denied_keys WHERE user_id = ?1 AND rowid NOT IN
            (SELECT rowid FROM denied_keys WHERE user_id = ?1 ORDER BY denied_at DESC, rowid DESC LIMIT ?2)",
        params![user, DENIED_COUNT_MAX],
    )?;
    Ok(())
}
