//! Payloads by which a user changes its account at its home: other keys, and its end (PROTOCOL II.13).

use super::Shape;
use crate::canonical::utf8_form;
use crate::history::{KeyHistory, KeyStatement};
use crate::id::{ServerId, UserId};
use crate::json::Object;
use crate::key::{Base64Url, bounded_sig};
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
        let mut object = Object::new();
        object.insert("user_id".to_owned(), Value::from(self.user_id.as_str()));
        object.insert("server_id".to_owned(), Value::from(self.server_id.as_str()));
        object.insert("ts".to_owned(), Value::from(self.ts));
        [DELETE_DOMAIN, utf8_form(&object).as_bytes()].concat()
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
    }
}
