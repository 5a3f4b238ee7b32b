//! The history of a user's keys (PROTOCOL II.13): which pair of keys came after which, each step signed by the signing key
//! before it.
//!
//! A history proves itself. Here its form is checked: one user, every version once and in order, each statement chained by
//! hash to the one before. That the signatures are right is for whoever has RSA to say (`socp-crypto`).

use crate::canonical::utf8_form;
use crate::id::UserId;
use crate::json::Object;
use crate::key::{Base64Url, KeyText, bounded_sig};
use crate::limits::KEY_STATEMENTS_COUNT_MAX;
use crate::payload::directory_statement;
use crate::proof::Bytes32;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::{Arc, OnceLock};

/// The capability of taking key histories.
pub const HISTORY: &str = "history/1";

/// What stands before a statement where the key before it signs it.
const STATEMENT_DOMAIN: &[u8] = b"socp-key-statement-v1\0";

/// The two public keys of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicPair {
    // In canonical order, as in the statement below: what holds them is written as it stands.
    /// The key that others encrypt to.
    pub enc_pubkey: KeyText,
    /// The key that the user signs with.
    pub pubkey: KeyText,
}

/// "From now on these are my keys", signed by the signing key before; or "nobody holds my key for me any more".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyStatement {
    /// The key that others encrypt to.
    pub enc_pubkey: KeyText,
    /// The digest of the statement before, of the directory's statement for version 2.
    pub previous: Bytes32,
    /// The key that the user signs with.
    pub pubkey: KeyText,
    /// The keys, which are those before, are withdrawn; nothing follows.
    pub revoked: bool,
    /// RSASSA-PSS by the signing key before, over [`signed_text`](Self::signed_text).
    #[serde(deserialize_with = "bounded_sig")]
    pub sig: Base64Url,
    /// When it was made, ms since the Unix epoch.
    pub ts: u64,
    /// Whose keys.
    pub user_id: UserId,
    /// Counts the pairs of keys; the first statement makes version 2.
    pub version: u64,
}

impl KeyStatement {
    /// The bytes that the signing key before signs.
    #[must_use]
    pub fn signed_text(&self) -> Vec<u8> {
        [STATEMENT_DOMAIN, utf8_form(&self.rest()).as_bytes()].concat()
    }

    /// SHA-256 of the statement without its signature: what the next one names.
    #[must_use]
    pub fn digest(&self) -> Bytes32 {
        crate::sha256(utf8_form(&self.rest()).as_bytes()).into()
    }

    /// Its two keys.
    #[must_use]
    pub fn pair(&self) -> PublicPair {
        PublicPair {
            pubkey: self.pubkey.clone(),
            enc_pubkey: self.enc_pubkey.clone(),
        }
    }

    fn rest(&self) -> Object {
        let mut object = directory_statement(&self.user_id, &self.pubkey, &self.enc_pubkey, self.version);
        let previous = Base64Url::from(self.previous);
        object.insert("previous".to_owned(), Value::from(previous.as_str()));
        object.insert("revoked".to_owned(), Value::from(self.revoked));
        object.insert("ts".to_owned(), Value::from(self.ts));
        object
    }
}

/// A user's first pair of keys and what came after; at least one statement. Cheap to clone.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct KeyHistory(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    wire: Wire,
    digest: OnceLock<[u8; 32]>,
}

/// A history as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    first: PublicPair,
    statements: Vec<KeyStatement>,
}

/// A history whose form is wrong, whoever signed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHistory {
    /// No statement: then there is no history to tell.
    #[error("key history without statements")]
    Empty,
    /// More statements than anybody keeps.
    #[error("key history of more than {KEY_STATEMENTS_COUNT_MAX} statements")]
    TooMany,
    /// A statement about somebody else.
    #[error("key history of two users")]
    User,
    /// A version that does not follow on the one before.
    #[error("key history with a gap, or out of order")]
    Version,
    /// A statement that follows on another than the one before.
    #[error("key history whose statements do not follow on each other")]
    Previous,
    /// Something behind a revocation.
    #[error("key history that goes on behind a revocation")]
    Revoked,
    /// A revocation that names other keys.
    #[error("key history with a revocation of other keys")]
    OtherKeys,
    /// A statement that changes nothing.
    #[error("key history with a statement that changes no key")]
    Unchanged,
    /// A signing key that was replaced before.
    #[error("key history that goes back to a key that was replaced")]
    Reused,
}

impl TryFrom<Wire> for KeyHistory {
    type Error = InvalidHistory;
    fn try_from(wire: Wire) -> Result<Self, InvalidHistory> {
        check(&wire)?;
        let digest = OnceLock::new();
        Ok(Self(Arc::new(Parts { wire, digest })))
    }
}

impl From<KeyHistory> for Wire {
    fn from(history: KeyHistory) -> Self {
        history.0.wire.clone()
    }
}

fn check(Wire { first, statements }: &Wire) -> Result<(), InvalidHistory> {
    let user = &statements.first().ok_or(InvalidHistory::Empty)?.user_id;
    if statements.len() > KEY_STATEMENTS_COUNT_MAX {
        return Err(InvalidHistory::TooMany);
    }
    let mut expected = 2;
    let mut before = first.clone();
    let mut previous = first_digest(user, first);
    let mut is_revoked = false;
    let mut replaced: Vec<KeyText> = Vec::new();
    for statement in statements {
        let pair = statement.pair();
        let table = [
            (statement.user_id != *user, InvalidHistory::User),
            (is_revoked, InvalidHistory::Revoked),
            (statement.version != expected, InvalidHistory::Version),
            (statement.previous != previous, InvalidHistory::Previous),
            (statement.revoked && pair != before, InvalidHistory::OtherKeys),
            (!statement.revoked && pair == before, InvalidHistory::Unchanged),
            (replaced.contains(&pair.pubkey), InvalidHistory::Reused),
        ];
        if let Some((_, fault)) = table.into_iter().find(|(is_wrong, _)| *is_wrong) {
            return Err(fault);
        }
        if pair.pubkey != before.pubkey {
            replaced.push(before.pubkey);
        }
        before = pair;
        previous = statement.digest();
        is_revoked = statement.revoked;
        expected = expected.saturating_add(1);
    }
    Ok(())
}

fn first_digest(user: &UserId, first: &PublicPair) -> Bytes32 {
    let statement = directory_statement(user, &first.pubkey, &first.enc_pubkey, 1);
    crate::sha256(utf8_form(&statement).as_bytes()).into()
}

impl KeyHistory {
    /// The history of a user whose keys have changed once.
    ///
    /// # Errors
    /// [`InvalidHistory`] if the statement does not follow on the first pair.
    pub fn begin(first: PublicPair, statement: KeyStatement) -> Result<Self, InvalidHistory> {
        let statements = vec![statement];
        Self::try_from(Wire { first, statements })
    }

    /// The same history and one statement more.
    ///
    /// # Errors
    /// [`InvalidHistory`] if the statement does not follow on the last one.
    pub fn and(&self, statement: KeyStatement) -> Result<Self, InvalidHistory> {
        let mut wire = self.0.wire.clone();
        wire.statements.push(statement);
        Self::try_from(wire)
    }

    /// The statement that would follow on this history, or on a first pair alone; to be signed by the signing key before.
    #[must_use]
    pub fn next(user: &UserId, first: &PublicPair, history: Option<&Self>, new: PublicPair, ts: u64) -> KeyStatement {
        let before = history.map_or_else(|| first.clone(), Self::newest);
        let last = history.and_then(|history| history.statements().last());
        let (version, previous) =
            last.map_or_else(|| (1, first_digest(user, first)), |last| (last.version, last.digest()));
        KeyStatement {
            user_id: user.clone(),
            version: version.saturating_add(1),
            revoked: new == before,
            pubkey: new.pubkey,
            enc_pubkey: new.enc_pubkey,
            previous,
            ts,
            sig: Base64Url::encode(&[]),
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn is_of(&self, user: &UserId) -> bool {
        self.statements().iter().all(|statement| statement.user_id == *user)
    }

    /// The keys that the user began with.
    #[must_use]
    pub fn first(&self) -> &PublicPair {
        &self.0.wire.first
    }

    /// What came after, oldest first.
    #[must_use]
    pub fn statements(&self) -> &[KeyStatement] {
        &self.0.wire.statements
    }

    /// The keys that count now.
    #[must_use]
    pub fn newest(&self) -> PublicPair {
        self.statements()
            .last()
            .map_or_else(|| self.first().clone(), KeyStatement::pair)
    }

    /// The number of the newest pair.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.statements().last().map_or(1, |last| last.version)
    }

    /// Whether the newest keys are withdrawn.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.statements().last().is_some_and(|last| last.revoked)
    }

    /// The keys of a version.
    #[must_use]
    pub fn pair(&self, version: u64) -> Option<PublicPair> {
        if version == 1 {
            return Some(self.first().clone());
        }
        let mut statements = self.statements().iter();
        statements
            .find(|statement| statement.version == version)
            .map(KeyStatement::pair)
    }

    /// Whether these were the user's keys at some time.
    #[must_use]
    pub fn contains(&self, pair: &PublicPair) -> bool {
        self.first() == pair || self.statements().iter().any(|statement| statement.pair() == *pair)
    }

    /// Whether a signing key was one of this user's and has been replaced.
    #[must_use]
    pub fn has_replaced(&self, key: &KeyText) -> bool {
        let was_theirs = self.first().pubkey == *key || self.statements().iter().any(|one| one.pubkey == *key);
        was_theirs && self.newest().pubkey != *key
    }

    /// Whether this leads from one signing key of somebody to another that came later and counts now. Never back: a signing
    /// key that was replaced is not named again.
    #[must_use]
    pub fn leads(&self, whose: &UserId, from: &KeyText, to: &KeyText) -> bool {
        self.is_of(whose) && !self.is_revoked() && self.newest().pubkey == *to && self.has_replaced(from)
    }

    /// Whether this is the other one, or goes on where that ends. Signatures, which differ each time, do not count.
    #[must_use]
    pub fn extends(&self, other: &Self) -> bool {
        let index = other.statements().len().checked_sub(1);
        let ours = index.and_then(|index| self.statements().get(index));
        self.first() == other.first()
            && ours
                .zip(other.statements().last())
                .is_some_and(|(ours, theirs)| ours.digest() == theirs.digest())
    }

    /// Each statement with the key that must have signed it.
    pub fn signers(&self) -> impl Iterator<Item = (&KeyText, &KeyStatement)> {
        let first = std::iter::once(&self.first().pubkey);
        let signers = first.chain(self.statements().iter().map(|statement| &statement.pubkey));
        signers.zip(self.statements())
    }

    /// About how long it is as JSON.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let pair = |pubkey: &KeyText, enc: &KeyText| pubkey.as_str().len().saturating_add(enc.as_str().len());
        let first = pair(&self.first().pubkey, &self.first().enc_pubkey);
        let statements = self.statements().iter();
        statements.fold(first.saturating_add(64), |bytes, one| {
            let keys = pair(&one.pubkey, &one.enc_pubkey);
            let rest = one.sig.as_str().len().saturating_add(one.user_id.as_str().len());
            bytes.saturating_add(keys).saturating_add(rest).saturating_add(256)
        })
    }

    /// SHA-256 of all of it, signatures too: what is remembered of one that was checked.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        *self.0.digest.get_or_init(|| {
            let mut bytes = Vec::new();
            for (signer, statement) in self.signers() {
                bytes.extend_from_slice(signer.as_str().as_bytes());
                bytes.extend_from_slice(&statement.signed_text());
                bytes.extend_from_slice(statement.sig.as_str().as_bytes());
            }
            crate::sha256(&bytes)
        })
    }
}

impl PartialEq for KeyHistory {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.wire == other.0.wire
    }
}

impl Eq for KeyHistory {}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> UserId {
        UserId::try_from("u").unwrap()
    }

    fn pair(sign: u8, enc: u8) -> PublicPair {
        PublicPair {
            pubkey: KeyText::from_der(&[sign]),
            enc_pubkey: KeyText::from_der(&[enc]),
        }
    }

    fn of(pairs: &[PublicPair]) -> KeyHistory {
        let mut history = None;
        for new in &pairs[1..] {
            let statement = KeyHistory::next(&user(), &pairs[0], history.as_ref(), new.clone(), 7);
            history = Some(match &history {
                None => KeyHistory::begin(pairs[0].clone(), statement).unwrap(),
                Some(history) => history.and(statement).unwrap(),
            });
        }
        history.unwrap()
    }

    #[test]
    fn a_statement_is_signed_and_named_in_canonical_form() {
        let history = of(&[pair(1, 2), pair(3, 2)]);
        let statement = &history.statements()[0];
        let directory = r#"{"enc_pubkey":"Ag","pubkey":"AQ","user_id":"u","version":1}"#;
        let previous = Base64Url::encode(&crate::sha256(directory.as_bytes()));
        let rest = format!(
            "{{\"enc_pubkey\":\"Ag\",\"previous\":\"{}\",\"pubkey\":\"Aw\",\"revoked\":false,\"ts\":7,\"user_id\":\"u\",\
             \"version\":2}}",
            previous.as_str()
        );
        let text = String::from_utf8(statement.signed_text()).unwrap();
        assert_eq!(text, format!("socp-key-statement-v1\0{rest}"));
        assert_eq!(statement.digest(), crate::sha256(rest.as_bytes()).into());
        let json = serde_json::to_string(&history).unwrap();
        assert_eq!(serde_json::from_str::<KeyHistory>(&json).unwrap(), history);
    }

    #[test]
    fn it_knows_its_keys_by_version_and_who_signs() {
        let pairs = [pair(1, 2), pair(3, 2), pair(3, 4), pair(5, 6)];
        let history = of(&pairs);
        for (version, pair) in (1..).zip(&pairs) {
            assert_eq!(history.pair(version).as_ref(), Some(pair));
        }
        assert_eq!((history.pair(0), history.pair(5)), (None, None));
        assert_eq!((history.version(), history.newest()), (4, pair(5, 6)));
        let signers: Vec<&KeyText> = history.signers().map(|(signer, _)| signer).collect();
        assert_eq!(signers, [&pairs[0].pubkey, &pairs[1].pubkey, &pairs[2].pubkey]);
        let replaced = [1, 2, 3, 5].map(|key| history.has_replaced(&KeyText::from_der(&[key])));
        assert_eq!(replaced, [true, false, true, false]);
        assert!(history.is_of(&user()) && !history.is_of(&UserId::try_from("v").unwrap()));
    }

    #[test]
    fn what_goes_on_extends_and_what_forks_does_not() {
        let (short, long) = (of(&[pair(1, 2), pair(3, 4)]), of(&[pair(1, 2), pair(3, 4), pair(5, 6)]));
        let fork = of(&[pair(1, 2), pair(3, 9), pair(5, 6)]);
        let other = of(&[pair(7, 2), pair(3, 4), pair(5, 6)]);
        assert!(long.extends(&short) && long.extends(&long));
        assert!(!short.extends(&long) && !fork.extends(&short) && !other.extends(&short));
        assert_ne!(long.digest(), fork.digest());
    }

    #[test]
    fn a_wrong_form_is_refused_and_named() {
        let good = of(&[pair(1, 2), pair(3, 4), pair(5, 6)]);
        type Change = fn(&mut Wire);
        let table: [(Change, InvalidHistory); 9] = [
            (|wire| wire.statements.clear(), InvalidHistory::Empty),
            (
                |wire| wire.statements = vec![wire.statements[0].clone(); KEY_STATEMENTS_COUNT_MAX + 1],
                InvalidHistory::TooMany,
            ),
            (
                |wire| wire.statements[1].user_id = UserId::try_from("v").unwrap(),
                InvalidHistory::User,
            ),
            (|wire| wire.statements[1].version = 4, InvalidHistory::Version),
            (|wire| drop(wire.statements.remove(0)), InvalidHistory::Version),
            (|wire| wire.statements[0].ts = 8, InvalidHistory::Previous),
            (
                |wire| wire.first.enc_pubkey = KeyText::from_der(&[9]),
                InvalidHistory::Previous,
            ),
            (|wire| wire.statements[1].revoked = true, InvalidHistory::OtherKeys),
            (
                |wire| {
                    wire.statements[1].pubkey = wire.statements[0].pubkey.clone();
                    wire.statements[1].enc_pubkey = wire.statements[0].enc_pubkey.clone();
                },
                InvalidHistory::Unchanged,
            ),
        ];
        for (change, fault) in table {
            let mut wire = Wire::from(good.clone());
            change(&mut wire);
            assert_eq!(KeyHistory::try_from(wire).unwrap_err(), fault);
        }
        let back = KeyHistory::next(&user(), good.first(), Some(&good), pair(1, 9), 8);
        assert_eq!(good.and(back).unwrap_err(), InvalidHistory::Reused);
    }

    #[test]
    fn nothing_follows_on_a_revocation() {
        let pairs = [pair(1, 2), pair(3, 4), pair(3, 4)];
        let revoked = of(&pairs);
        assert!(revoked.is_revoked() && revoked.newest() == pair(3, 4));
        let more = KeyHistory::next(&user(), revoked.first(), Some(&revoked), pair(5, 6), 8);
        assert_eq!(revoked.and(more).unwrap_err(), InvalidHistory::Revoked);
    }

    #[test]
    fn a_field_that_nobody_knows_is_refused() {
        let mut json = serde_json::to_value(of(&[pair(1, 2), pair(3, 4)])).unwrap();
        json["statements"][0]["novel"] = 1.into();
        assert!(serde_json::from_value::<KeyHistory>(json).is_err());
    }
}
