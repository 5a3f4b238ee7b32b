//! The key of the history: random, sealed as the private keys are.

use super::unlock::Lock;
use super::{Profile, damaged};
use crate::error::ClientError;
use crate::history::History;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};
use socp_crypto::{RowKeys, SealedSecret, SecretBytes};
use std::sync::Arc;

impl Profile {
    /// What was said, kept in this profile; [`Profile::unlock`] comes first.
    ///
    /// # Errors
    /// [`ClientError::Locked`].
    pub fn history(&self) -> Result<History, ClientError> {
        let keys = self.history_keys.get().ok_or(ClientError::Locked)?;
        let me = self.identity.user_id.clone();
        Ok(History::new(Arc::clone(&self.database), keys.clone(), me))
    }

    /// Opens the key of the history, making one where there is none.
    pub(super) fn unlock_history(&self, lock: &Lock<'_>) -> Result<(), ClientError> {
        if self.history_keys.get().is_some() {
            return Ok(());
        }
        let found = read(&self.lock())?;
        let secret = match found {
            Some(sealed) => lock.open_secret(&sealed)?,
            None => self.make_history_key(lock)?,
        };
        if secret.len() != SECRET_BYTES {
            return Err(damaged(&self.dir, "the key of the history has another length"));
        }
        // Whoever was faster has the same one.
        self.history_keys.get_or_init({
            let keys = RowKeys::derive(&secret)?;
            || keys
        });
        Ok(())
    }

    fn make_history_key(&self, lock: &Lock<'_>) -> Result<SecretBytes, ClientError> {
        let secret = SecretBytes::random()?;
        let sealed = lock.seal_secret(&secret)?;
        let mut database = self.lock();
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another program may have done it meanwhile.
        if let Some(sealed) = read(&transaction)? {
            return lock.open_secret(&sealed);
        }
        write(&transaction, &sealed)?;
        transaction.commit()?;
        Ok(secret)
    }

    /// Seals the key of the history under another lock.
    pub(super) fn reseal_history(
        transaction: &Transaction<'_>,
        (from, to): (&Lock<'_>, &Lock<'_>),
    ) -> Result<(), ClientError> {
        if let Some(sealed) = read(transaction)? {
            write(transaction, &to.seal_secret(&from.open_secret(&sealed)?)?)?;
        }
        Ok(())
    }
}

fn read(database: &Connection) -> Result<Option<SealedSecret>, ClientError> {
    let found = database.query_row("SELECT sealed FROM history_key", [], |row| row.get::<_, String>(0));
    let found = found.optional()?;
    Ok(found.map(|text| SealedSecret::from_json(&text)).transpose()?)
}

fn write(database: &Connection, sealed: &SealedSecret) -> Result<(), ClientError> {
    database.execute(
        "INSERT INTO history_key(one, sealed) VALUES (1, ?1) ON CONFLICT(one) DO UPDATE SET sealed = ?1",
        [sealed.to_json()?],
    )?;
    Ok(())
}

const SECRET_BYTES: usize = 32;
