//! Whose keys two people have compared (PROTOCOL II.10).

use super::{Profile, damaged, unix_ms};
use crate::error::ClientError;
use socp_core::client::UserPin;
use socp_proto::UserId;
use std::collections::BTreeSet;

impl Profile {
    /// Writes down that the keys of this pin are the user's own. It holds for these keys only.
    ///
    /// # Errors
    /// [`ClientError::Database`].
    pub fn set_verified(&self, pin: &UserPin) -> Result<(), ClientError> {
        let (user, pubkey, enc_pubkey) = (pin.user.as_str(), pin.pubkey.as_str(), pin.enc_pubkey.as_str());
        let statement = "INSERT INTO verified(user_id, pubkey, enc_pubkey, verified_at) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT(user_id) DO UPDATE
            SET pubkey = excluded.pubkey, enc_pubkey = excluded.enc_pubkey, verified_at = excluded.verified_at";
        self.lock().execute(statement, (user, pubkey, enc_pubkey, unix_ms()))?;
        Ok(())
    }

    /// Takes it back; whether there was anything to take back.
    ///
    /// # Errors
    /// [`ClientError::Database`].
    pub fn unset_verified(&self, user: &UserId) -> Result<bool, ClientError> {
        let statement = "DELETE FROM verified WHERE user_id = ?1";
        Ok(self.lock().execute(statement, [user.as_str()])? > 0)
    }

    /// Everyone whose pinned keys were compared.
    ///
    /// # Errors
    /// [`ClientError::Database`], [`ClientError::DamagedProfile`].
    pub fn verified(&self) -> Result<BTreeSet<UserId>, ClientError> {
        let database = self.lock();
        // What was compared once says nothing about another key.
        let mut query = database.prepare(
            "SELECT verified.user_id FROM verified
             JOIN pins USING (user_id, pubkey, enc_pubkey) WHERE pins.revoked = 0",
        )?;
        let rows = query.query_map([], |row| row.get::<_, String>(0))?;
        rows.map(|row| UserId::try_from(row?).map_err(|error| damaged(&self.dir, &format!("user_id: {error}"))))
            .collect()
    }
}
