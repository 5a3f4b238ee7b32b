//! A person's identity as one text: both private keys, their history, and who it is (PROTOCOL II.13).
//!
//! It is what leaves a machine, sealed: as a file, or for a server to keep. The text is canonical JSON with private keys as
//! PKCS#8 in base64url. Whatever holds a private key is wiped when it is dropped; so reading borrows from the text, and
//! writing reserves all the room first.

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use socp_proto::limits::{IDENTITY_TEXT_BYTES_MAX, OLD_ENC_KEYS_COUNT_MAX};
use socp_proto::{KeyHistory, KeyText, Meta, PublicPair, UserId};
use std::borrow::Cow;
use std::fmt;
use zeroize::Zeroizing;

use crate::error::{CryptoError, IdentityFault};
use crate::history::check_history;
use crate::private_key::PrivateKey;

/// Both private keys of a user, and those that were replaced and still open what comes late; cheap to clone.
#[derive(Debug, Clone)]
pub struct UserKeys {
    /// Signs.
    pub sign: PrivateKey,
    /// Opens what others encrypt; the same as `sign` in older accounts.
    pub enc: PrivateKey,
    /// Opened what others encrypted before, newest first.
    pub old_enc: Vec<PrivateKey>,
}

impl UserKeys {
    /// The public halves.
    #[must_use]
    pub fn public_pair(&self) -> PublicPair {
        PublicPair {
            pubkey: KeyText::from_der(self.sign.public_key().spki_der()),
            enc_pubkey: KeyText::from_der(self.enc.public_key().spki_der()),
        }
    }

    /// Decrypts with the key that fits: the present one, else one before it.
    ///
    /// # Errors
    ///
    /// As [`PrivateKey::open`].
    pub fn open(&self, ciphertext: &[u8], max_plaintext: usize) -> Result<crate::SecretBytes, CryptoError> {
        let present = self.enc.open(ciphertext, max_plaintext);
        if present != Err(CryptoError::Decrypt) {
            return present;
        }
        let mut before = self.old_enc.iter().map(|key| key.open(ciphertext, max_plaintext));
        before.find(Result::is_ok).unwrap_or(present)
    }
}

/// Everything that makes somebody who they are.
#[derive(Debug, Clone)]
pub struct FullIdentity {
    /// The user.
    pub user_id: UserId,
    /// The handle.
    pub name: Option<String>,
    /// The name to show.
    pub display_name: Option<String>,
    /// The private keys.
    pub keys: UserKeys,
    /// How the keys came about, if they ever changed.
    pub history: Option<KeyHistory>,
}

/// The text of a [`FullIdentity`]; wiped when dropped, never printed.
#[derive(Clone)]
pub struct IdentityText(Zeroizing<String>);

impl IdentityText {
    /// Takes over a text that should be one; [`FullIdentity::from_text`] says whether it is.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// Shows the text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for IdentityText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityText(..)")
    }
}

/// The text in canonical order. Private keys hold no character that JSON escapes, so they are read where they lie.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    display_name: Option<Cow<'a, str>>,
    enc_key: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    history: Option<KeyHistory>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    old_enc_keys: Vec<&'a str>,
    sign_key: &'a str,
    user_id: UserId,
    v: u64,
}

/// What every version of the text has.
#[derive(Deserialize)]
struct Versioned {
    v: u64,
}

impl FullIdentity {
    /// Writes the text.
    ///
    /// # Errors
    ///
    /// [`IdentityFault::TooLong`], or [`CryptoError::Internal`] if a library fails.
    pub fn to_text(&self) -> Result<IdentityText, CryptoError> {
        let enc_key = pkcs8_text(&self.keys.enc)?;
        let sign_key = pkcs8_text(&self.keys.sign)?;
        let old: Vec<Zeroizing<String>> = self.keys.old_enc.iter().map(pkcs8_text).collect::<Result<_, _>>()?;
        let wire = Wire {
            display_name: self.display_name.as_deref().map(Cow::Borrowed),
            enc_key: &enc_key,
            history: self.history.clone(),
            name: self.name.as_deref().map(Cow::Borrowed),
            old_enc_keys: old.iter().map(|text| text.as_str()).collect(),
            sign_key: &sign_key,
            user_id: self.user_id.clone(),
            v: VERSION,
        };
        // Growing would leave a copy behind; what is too long ends in an error of the writer instead.
        let mut room = Zeroizing::new(vec![0; IDENTITY_TEXT_BYTES_MAX]);
        let mut free = room.as_mut_slice();
        serde_json::to_writer(&mut free, &wire).map_err(|_| IdentityFault::TooLong)?;
        let unused = free.len();
        room.truncate(IDENTITY_TEXT_BYTES_MAX.saturating_sub(unused));
        let text = String::from_utf8(std::mem::take(&mut *room)).map_err(|_| CryptoError::Internal("JSON"))?;
        Ok(IdentityText(Zeroizing::new(text)))
    }

    /// Reads a text and everything in it: the rules for keys and names, whether the history is this user's, well signed, and
    /// ends with these keys.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Identity`] or [`CryptoError::BadKey`] says what is wrong.
    pub fn from_text(text: &IdentityText) -> Result<Self, CryptoError> {
        let text = text.expose();
        if text.len() > IDENTITY_TEXT_BYTES_MAX {
            return Err(IdentityFault::TooLong.into());
        }
        let Versioned { v } =
            serde_json::from_str(text).map_err(|_| IdentityFault::Damaged("it is not an identity"))?;
        if v != VERSION {
            return Err(IdentityFault::Newer(v).into());
        }
        let wire: Wire<'_> =
            serde_json::from_str(text).map_err(|_| IdentityFault::Damaged("a field is missing or malformed"))?;
        if wire.old_enc_keys.len() > OLD_ENC_KEYS_COUNT_MAX {
            return Err(IdentityFault::Damaged("too many old keys").into());
        }
        Meta::named(wire.name.as_deref(), wire.display_name.as_deref())
            .map_err(|_| IdentityFault::Damaged("a name breaks the rules"))?;
        let keys = UserKeys {
            sign: private_key(wire.sign_key)?,
            enc: private_key(wire.enc_key)?,
            old_enc: wire
                .old_enc_keys
                .iter()
                .map(|text| private_key(text))
                .collect::<Result<_, _>>()?,
        };
        if let Some(history) = &wire.history {
            if !history.is_of(&wire.user_id) {
                return Err(IdentityFault::Damaged("the key history is another user's").into());
            }
            if history.newest() != keys.public_pair() {
                return Err(IdentityFault::Damaged("the key history ends with other keys").into());
            }
            check_history(history)?;
        }
        Ok(Self {
            user_id: wire.user_id,
            name: wire.name.map(Cow::into_owned),
            display_name: wire.display_name.map(Cow::into_owned),
            keys,
            history: wire.history,
        })
    }
}

fn pkcs8_text(key: &PrivateKey) -> Result<Zeroizing<String>, CryptoError> {
    Ok(Zeroizing::new(BASE64URL_NOPAD.encode(key.to_pkcs8_der()?.expose())))
}

fn private_key(text: &str) -> Result<PrivateKey, CryptoError> {
    let der = BASE64URL_NOPAD.decode(text.as_bytes());
    let der = Zeroizing::new(der.map_err(|_| IdentityFault::Damaged("a private key is not base64url"))?);
    PrivateKey::from_pkcs8_der(&der)
}

const VERSION: u64 = 1;
