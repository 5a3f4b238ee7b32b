//! Changing the key of a server that is stopped (PROTOCOL II.13).
//!
//! The new key is on disk beside the old one before the database names it, and takes its place after: whatever moment the
//! power fails at, the next start finds the key that the database names.

use crate::data_dir::lock;
use crate::error::ServerError;
use crate::key_files;
use crate::store::Database;
use socp_core::server::UserRecord;
use socp_crypto::{CryptoError, Password, PrivateKey, sign_statement};
use socp_proto::limits::SERVER_KEY_STATEMENTS_COUNT_MAX;
use socp_proto::payload::directory_statement;
use socp_proto::{Base64Url, Fingerprint, KeyHistory, KeyText, PublicPair, ServerId, UserId, utf8_form};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// A key that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// Whose.
    pub server_id: ServerId,
    /// The key before.
    pub before: Fingerprint,
    /// The key from now on.
    pub after: Fingerprint,
    /// How many users' records were signed anew.
    pub users: usize,
}

/// Gives a server that is stopped a new key, announced by a statement that the one before signs, and signs its users'
/// records anew: five milliseconds of a core each.
///
/// # Errors
/// [`ServerError::DataInUse`] while a server runs; [`ServerError::Identity`] where there is no server yet, or whose key
/// was changed too often; those of opening the key and the database.
pub fn rotate_key(dir: &Path, passphrase: Option<&Password>) -> Result<Rotated, ServerError> {
    let path = dir.join("server.db");
    if !path.exists() {
        return Err(ServerError::Identity(format!(
            "there is no server in {}",
            dir.display()
        )));
    }
    let _lock = lock(dir)?;
    let mut database = Database::open(&path)?;
    let remembered = database.read(&path)?;
    let Some((server_id, pinned)) = remembered.identity else {
        return Err(ServerError::Identity(format!(
            "there is no server in {}",
            dir.display()
        )));
    };
    let key = key_files::load(dir, &pinned, passphrase)?;
    let failed = |source: CryptoError| ServerError::Key {
        path: dir.to_owned(),
        source,
    };
    let new = PrivateKey::generate().map_err(failed)?;
    let after = KeyText::from_der(new.public_key().spki_der());
    let history = successor(&server_id, &pinned, remembered.history.as_ref(), &after, &key)?;
    let users = endorse_anew(remembered.memory.users, &new).map_err(failed)?;
    key_files::write_next(dir, &key, &new, passphrase)?;
    database.write_rotation(&path, &after, &history, &users)?;
    key_files::use_next(dir)?;
    Ok(Rotated {
        server_id,
        before: pinned.fingerprint(),
        after: after.fingerprint(),
        users: users.len(),
    })
}

fn successor(
    server_id: &ServerId,
    before: &KeyText,
    history: Option<&KeyHistory>,
    after: &KeyText,
    key: &PrivateKey,
) -> Result<KeyHistory, ServerError> {
    if history.is_some_and(|history| history.statements().len() >= SERVER_KEY_STATEMENTS_COUNT_MAX) {
        return Err(ServerError::Identity(format!(
            "the key of this server was changed {SERVER_KEY_STATEMENTS_COUNT_MAX} times, which others still follow; it \
             cannot be changed again: start a new server and move the users there"
        )));
    }
    // A server signs and is never encrypted to: one key stands for both.
    let pair = |key: &KeyText| PublicPair {
        pubkey: key.clone(),
        enc_pubkey: key.clone(),
    };
    let whose = UserId::from(socp_proto::Id::from(server_id));
    let first = history.map_or_else(|| pair(before), |history| history.first().clone());
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ts = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
    let statement = KeyHistory::next(&whose, &first, history, pair(after), ts);
    let statement = sign_statement(statement, key).map_err(|source| ServerError::Part {
        part: "statement of its new key",
        reason: source.to_string(),
    })?;
    let made = match history {
        None => KeyHistory::begin(first, statement),
        Some(history) => history.and(statement),
    };
    made.map_err(|error| ServerError::Identity(error.to_string()))
}

/// The records with signatures of the new key, made on all cores.
fn endorse_anew(users: Vec<UserRecord>, key: &PrivateKey) -> Result<Vec<UserRecord>, CryptoError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = users.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let parts: Vec<_> = users
            .chunks(share)
            .map(|part| {
                scope.spawn(move || {
                    part.iter()
                        .map(|user| endorse(user, key))
                        .collect::<Result<Vec<_>, _>>()
                })
            })
            .collect();
        let mut all = Vec::with_capacity(users.len());
        for part in parts {
            all.extend(part.join().map_err(|_| CryptoError::Internal("signing thread"))??);
        }
        Ok(all)
    })
}

fn endorse(user: &UserRecord, key: &PrivateKey) -> Result<UserRecord, CryptoError> {
    let statement = directory_statement(&user.user_id, &user.pubkey, &user.enc_pubkey, user.version);
    let directory_sig = Base64Url::encode(&key.sign(utf8_form(&statement).as_bytes())?);
    Ok(UserRecord {
        directory_sig,
        ..user.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_changed_so_often_and_no_more() {
        let key = PrivateKey::generate().unwrap();
        let server = ServerId::try_from("srv").unwrap();
        let text = |number: u8| KeyText::from_der(&[number; 550]);
        let mut history = None;
        for number in 0..8 {
            let next = successor(&server, &text(number), history.as_ref(), &text(number + 1), &key).unwrap();
            assert_eq!(next.newest().pubkey, text(number + 1));
            assert!(history.as_ref().is_none_or(|before| next.extends(before)));
            history = Some(next);
        }
        let refused = successor(&server, &text(8), history.as_ref(), &text(9), &key);
        assert!(refused.unwrap_err().to_string().contains("8 times"));
        let bytes = serde_json::to_string(&history).unwrap().len();
        assert!(bytes < socp_proto::limits::FIRST_FRAME_BYTES_MAX - 8 * 1024, "{bytes}");
    }
}
