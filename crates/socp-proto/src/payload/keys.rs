//! Payloads by which a user changes its account at its home: other keys, and its end (PROTOCOL II.13).

use super::Shape;
use crate::canonical::utf8_form;
use crate::history::{KeyHistory, KeyStatement};
use crate::id::{ServerId, UserId};
use crate::json::Object;
use crate::key::{Base64Url, KeyText, bounded_sig};
use crate::limits::DELETION_AGE_MAX_MS;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What stands before an `ACCOUNT_DELETE` where the user signs it.
const DELETE_DOMAIN: &[u8] = b"socp-account-delete-v1\0";

/// `KEY_UPDATE`: the user has other keys from now on, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUpdate {
    /// What the signing key before says.
    pub statement: KeyStatement,
}

impl Shape for KeyUpdate {
    const FOREIGN_FIELDS: &'static [&'static str] = &["user_id", "ciphertext", "code", "msg_ref"];
}

/// `KEY_NEWS`, of a server to its users: somebody has other keys. Nobody asked for it, so it is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyNews {
    /// Who.
    pub user_id: UserId,
    /// How the keys came about.
    pub history: KeyHistory,
}

impl Shape for KeyNews {
    const FOREIGN_FIELDS: &'static [&'static str] = &["meta", "pubkey", "ciphertext", "code", "msg_ref", "server_id"];
}

/// `ACCOUNT_DELETE`: the user wants its home to forget it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountDelete {
    /// The user.
    pub user_id: UserId,
    /// The home, so that it is of no use anywhere else.
    pub server_id: ServerId,
    /// When it was asked for, ms since the Unix epoch.
    pub ts: u64,
    /// RSASSA-PSS by the user's signing key over [`signed_text`](Self::signed_text).
    #[serde(deserialize_with = "bounded_sig")]
    pub sig: Base64Url,
}

impl AccountDelete {
    /// The bytes that the user signs.
    #[must_use]
    pub fn signed_text(&self) -> Vec<u8> {
        delete_text(&self.user_id, &self.server_id, self.ts)
    }

    /// The same word for everybody else, with the key that it is signed with.
    #[must_use]
    pub fn into_deletion(self, pubkey: KeyText) -> Deletion {
        let Self { ts, sig, .. } = self;
        Deletion { pubkey, sig, ts }
    }
}

fn delete_text(user: &UserId, server: &ServerId, ts: u64) -> Vec<u8> {
    let mut object = Object::new();
    object.insert("user_id".to_owned(), Value::from(user.as_str()));
    object.insert("server_id".to_owned(), Value::from(server.as_str()));
    object.insert("ts".to_owned(), Value::from(ts));
    [DELETE_DOMAIN, utf8_form(&object).as_bytes()].concat()
}

/// The user's own word that its account is no more, beside the ids of user and home: whoever knows the user's key can
/// check it, and nobody else can make it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deletion {
    /// The user's newest signing key.
    pub pubkey: KeyText,
    /// What the user signed its `ACCOUNT_DELETE` with.
    #[serde(deserialize_with = "bounded_sig")]
    pub sig: Base64Url,
    /// The `ts` of that.
    pub ts: u64,
}

impl Deletion {
    /// The bytes that the user signed.
    #[must_use]
    pub fn signed_text(&self, user: &UserId, server: &ServerId) -> Vec<u8> {
        delete_text(user, server, self.ts)
    }

    /// Whether it is by this key, and of now: who comes back later must not be ended by what was said before.
    #[must_use]
    pub fn holds(&self, key: &KeyText, unix: u64) -> bool {
        self.pubkey == *key && self.ts.abs_diff(unix) <= DELETION_AGE_MAX_MS
    }
}

impl Shape for AccountDelete {
    const FOREIGN_FIELDS: &'static [&'static str] = &["meta", "pubkey", "ciphertext", "code", "msg_ref"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_account_is_signed_in_canonical_form() {
        let delete = AccountDelete {
            user_id: "u".try_into().unwrap(),
            server_id: "s".try_into().unwrap(),
            ts: 7,
            sig: Base64Url::encode(&[1]),
        };
        let text = String::from_utf8(delete.signed_text()).unwrap();
        assert_eq!(
            text,
            "socp-account-delete-v1\0{\"server_id\":\"s\",\"ts\":7,\"user_id\":\"u\"}"
        );
        let key = KeyText::from_der(&[1]);
        let deletion = delete.into_deletion(key.clone());
        let signed = deletion.signed_text(&"u".try_into().unwrap(), &"s".try_into().unwrap());
        assert_eq!(signed, text.as_bytes());
        assert!(deletion.holds(&key, 7 + DELETION_AGE_MAX_MS));
        assert!(!deletion.holds(&key, 8 + DELETION_AGE_MAX_MS));
        assert!(!deletion.holds(&KeyText::from_der(&[2]), 7));
    }
}
