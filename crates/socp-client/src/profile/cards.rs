//! Contact cards (PROTOCOL II.11): what came another way than through a server.

use super::alarms::{pin_of, save_alarm};
use super::{Profile, unix_ms};
use crate::error::ClientError;
use rusqlite::params;
use socp_core::client::{Alarm, Teller};
use socp_proto::{Card, CardFingerprint};

/// What a card led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CardOutcome {
    /// The user is not known yet; the first key that is seen must fit.
    Expected,
    /// The pinned key fits: it is verified.
    Verified,
    /// Another key is pinned: nothing goes on with that user until it is decided.
    Contradicts(Alarm),
}

impl Profile {
    /// Our own card, for somebody who is to know our keys before a server shows them.
    ///
    /// # Errors
    /// [`ClientError::Card`] where the server's address has no place in a card.
    pub fn card(&self, host: &str, port: u16) -> Result<Card, ClientError> {
        let identity = self.identity();
        let fingerprint = CardFingerprint::of(&identity.pubkey, &identity.enc_pubkey);
        let (user, name) = (identity.user_id.clone(), identity.name.as_deref());
        Card::new(user, host, port, name, fingerprint).map_err(ClientError::Card)
    }

    /// Takes a card. A new one for the same user takes the place of an older one.
    ///
    /// # Errors
    /// [`ClientError::Database`], [`ClientError::DamagedProfile`], [`ClientError::OwnCard`].
    pub fn add_card(&self, card: &Card) -> Result<CardOutcome, ClientError> {
        if *card.user() == self.identity().user_id {
            return Err(ClientError::OwnCard);
        }
        let Some(pin) = pin_of(self.pins()?, card.user()) else {
            self.lock().execute(
                "INSERT INTO cards(user_id, fingerprint, added_at) VALUES (?1, ?2, ?3)
                    ON CONFLICT(user_id) DO UPDATE SET fingerprint = excluded.fingerprint, added_at = excluded.added_at",
                params![card.user().as_str(), card.fingerprint().to_string(), unix_ms()],
            )?;
            return Ok(CardOutcome::Expected);
        };
        if pin.fingerprint() == card.fingerprint() {
            self.set_verified(&pin)?;
            return Ok(CardOutcome::Verified);
        }
        let alarm = Alarm {
            user: card.user().clone(),
            seen: card.fingerprint(),
            keys: None,
            teller: Teller::Card,
        };
        save_alarm(&self.lock(), &alarm)?;
        Ok(CardOutcome::Contradicts(alarm))
    }
}
