//! Other keys for an identity (PROTOCOL II.13).
//!
//! The order is what keeps an identity from being lost: the profile has the new keys on its disk before the server hears of
//! them. Whatever breaks in between, the next hello brings the history, and the server follows.

use crate::error::ClientError;
use crate::profile::{Profile, generate_key};
use socp_crypto::{Password, UserKeys, sign_statement};
use socp_proto::{KeyHistory, KeyStatement};
use std::time::{SystemTime, UNIX_EPOCH};

/// Which keys are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// The one that signs.
    Sign,
    /// The one that decrypts.
    Encrypt,
    /// Both.
    Both,
}

/// Keys that nobody has heard of yet.
#[derive(Debug, Clone)]
pub struct NewKeys {
    keys: UserKeys,
    history: KeyHistory,
}

impl NewKeys {
    /// Makes new keys in the place of some of a profile's, and signs that they follow on those; takes seconds.
    ///
    /// # Errors
    /// [`ClientError::KeysAtTheirEnd`], or a key operation that failed.
    pub fn generate(profile: &Profile, present: &UserKeys, replaced: Replaced) -> Result<Self, ClientError> {
        let mut keys = present.clone();
        if matches!(replaced, Replaced::Sign | Replaced::Both) {
            keys.sign = generate_key()?;
        }
        if matches!(replaced, Replaced::Encrypt | Replaced::Both) {
            keys.enc = generate_key()?;
            keys.old_enc.insert(0, present.enc.clone());
        }
        Self::follow(profile, present, keys)
    }

    /// Says that the present keys count no more.
    ///
    /// # Errors
    /// As [`NewKeys::generate`].
    pub fn withdrawn(profile: &Profile, present: &UserKeys) -> Result<Self, ClientError> {
        Self::follow(profile, present, present.clone())
    }

    fn follow(profile: &Profile, present: &UserKeys, keys: UserKeys) -> Result<Self, ClientError> {
        let identity = profile.identity();
        let before = identity.history.as_ref();
        let first = before.map_or_else(|| identity.pair(), |history| history.first().clone());
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ts = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        let statement = KeyHistory::next(&identity.user_id, &first, before, keys.public_pair(), ts);
        let statement = sign_statement(statement, &present.sign)?;
        let history = match before {
            None => KeyHistory::begin(first, statement),
            Some(history) => history.and(statement),
        };
        let history = history.map_err(ClientError::KeysAtTheirEnd)?;
        Ok(Self { keys, history })
    }

    /// Stores them in the place of the present ones. `password` is the profile's.
    ///
    /// # Errors
    /// As [`Profile::replace_keys`].
    pub fn store(&self, profile: &Profile, password: Option<&Password>) -> Result<Profile, ClientError> {
        profile.replace_keys(self.keys.clone(), self.history.clone(), password)
    }

    /// What the server is to be told.
    #[must_use]
    pub fn statement(&self) -> Option<KeyStatement> {
        self.history.statements().last().cloned()
    }
}
