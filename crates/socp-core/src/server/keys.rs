//! Whether keys that are shown for a user are those that are known, or come before or after them (PROTOCOL II.13).
//!
//! Histories that come in are checked by the driver, so they prove themselves: who shows one that goes on where the known
//! one ends has the newer keys. Who shows less is a step back, whoever says it.

use super::Server;
use super::io::UserRecord;
use super::people::Person;
use socp_proto::payload::{PubkeyResponse, UserAdvertise, UserHello};
use socp_proto::{KeyHistory, KeyText, PublicPair, UserId};

/// The keys of a user as somebody says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) pubkey: Option<&'a KeyText>,
    /// None where nothing was said of it.
    pub(super) enc_pubkey: Option<&'a KeyText>,
    pub(super) history: Option<&'a KeyHistory>,
}

/// How shown keys stand to known ones, from the least to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Relation {
    /// The same, or nothing to compare.
    Same,
    /// They come after the known ones.
    Newer,
    /// They were replaced by the known ones.
    Older,
    /// Nothing leads from one to the other.
    Other,
}

impl<'a> Shown<'a> {
    pub(super) fn by_record(record: &'a UserRecord) -> Self {
        Self {
            pubkey: Some(&record.pubkey),
            enc_pubkey: Some(&record.enc_pubkey),
            history: record.history.as_ref(),
        }
    }

    pub(super) fn by_hello(hello: &'a UserHello) -> Self {
        Self {
            pubkey: Some(&hello.pubkey),
            enc_pubkey: Some(hello.enc_pubkey.as_ref().unwrap_or(&hello.pubkey)),
            history: hello.history.as_ref(),
        }
    }

    /// `is_whole`: an encryption key that is absent is the same.
    pub(super) fn by_gossip(advertise: &'a UserAdvertise, is_whole: bool) -> Self {
        let same = advertise.pubkey.as_ref().filter(|_| is_whole);
        Self {
            pubkey: advertise.pubkey.as_ref(),
            enc_pubkey: advertise.enc_pubkey.as_ref().or(same),
            history: advertise.history.as_ref(),
        }
    }

    pub(super) fn by_person(person: &'a Person) -> Self {
        Self {
            pubkey: person.pubkey.as_ref(),
            enc_pubkey: person.enc_pubkey.as_ref(),
            history: person.history.as_ref(),
        }
    }

    fn by_former(keys: &'a PubkeyResponse) -> Self {
        Self {
            pubkey: keys.pubkey.as_ref(),
            enc_pubkey: keys.enc_pubkey.as_ref(),
            history: keys.history.as_ref(),
        }
    }

    /// Whether the history, if there is one, is this user's and ends with these keys.
    pub(super) fn is_coherent(self, user: &UserId) -> bool {
        self.history
            .is_none_or(|history| history.is_of(user) && self.is_pair(&history.newest()))
    }

    /// Whether the user's id is made from the key that these keys began with.
    pub(super) fn owns(self, user: &UserId) -> bool {
        let first = self.history.map(|history| &history.first().pubkey).or(self.pubkey);
        first.is_some_and(|first| user.is_made_from(first.fingerprint()))
    }

    pub(super) fn is_revoked(self) -> bool {
        self.history.is_some_and(KeyHistory::is_revoked)
    }

    /// How these stand to known ones.
    pub(super) fn against(self, known: Self) -> Relation {
        match (known.history, self.history) {
            (Some(known), Some(shown)) if shown.extends(known) => {
                if known.extends(shown) {
                    Relation::Same
                } else {
                    Relation::Newer
                }
            }
            (Some(known), Some(shown)) if known.extends(shown) => Relation::Older,
            (Some(_), Some(_)) => Relation::Other,
            (None, Some(shown)) if known.is_in(shown) => Relation::Newer,
            (Some(known), None) if self.is_pair(&known.newest()) => Relation::Same,
            (Some(known), None) if self.is_in(known) => Relation::Older,
            (None | Some(_), None) | (None, Some(_)) => self.against_pair(known),
        }
    }

    fn against_pair(self, known: Self) -> Relation {
        let differ = |one: Option<&KeyText>, other: Option<&KeyText>| one.zip(other).is_some_and(|(a, b)| a != b);
        if differ(self.pubkey, known.pubkey) || differ(self.enc_pubkey, known.enc_pubkey) {
            Relation::Other
        } else {
            Relation::Same
        }
    }

    fn is_pair(self, pair: &PublicPair) -> bool {
        let is = |key: Option<&KeyText>, other: &KeyText| key.is_none_or(|key| key == other);
        is(self.pubkey, &pair.pubkey) && is(self.enc_pubkey, &pair.enc_pubkey)
    }

    /// Whether these were the keys at some time; nothing at all is in no history.
    fn is_in(self, history: &KeyHistory) -> bool {
        let mut pairs = (1..=history.version()).filter_map(|version| history.pair(version));
        self.pubkey.is_some() && pairs.any(|pair| self.is_pair(&pair))
    }
}

impl Server {
    /// How keys that are shown for a user stand to all that is known here: the record, the claim in use, and, of those who
    /// have left, what is the owner's.
    pub(super) fn judge_keys(&self, user: &UserId, shown: Shown<'_>) -> Relation {
        let known = self.known_keys(user);
        known.map(|known| shown.against(known)).max().unwrap_or(Relation::Same)
    }

    fn known_keys(&self, user: &UserId) -> impl Iterator<Item = Shown<'_>> {
        let record = self.records.get(user).map(Shown::by_record);
        // Once bound here, what others claim counts no more.
        let claim = self.people.get(user).map(Shown::by_person).filter(|_| record.is_none());
        // Of those who have left only the owner counts: what others said of them binds nobody.
        let former = self.people.former(user).map(Shown::by_former);
        let former = former.filter(|former| record.is_none() && former.owns(user));
        [record, claim, former].into_iter().flatten()
    }

    /// Whether an id is made from the first of these keys and what is known of it is not.
    pub(super) fn can_refute(&self, user: &UserId, shown: Shown<'_>) -> bool {
        shown.owns(user) && !self.known_keys(user).any(|known| known.owns(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> KeyText {
        KeyText::from_der(&[n])
    }

    fn pair(n: u8) -> PublicPair {
        PublicPair {
            pubkey: key(n),
            enc_pubkey: key(100 + n),
        }
    }

    /// From pair to pair; the last twice is a revocation.
    fn history(pairs: &[u8]) -> KeyHistory {
        let user = UserId::try_from("u").unwrap();
        let mut history = None;
        for n in &pairs[1..] {
            let first = pair(pairs[0]);
            let next = KeyHistory::next(&user, &first, history.as_ref(), pair(*n), 7);
            history = Some(match &history {
                None => KeyHistory::begin(first, next).unwrap(),
                Some(history) => history.and(next).unwrap(),
            });
        }
        history.unwrap()
    }

    #[test]
    fn shown_keys_are_told_from_known_ones_by_their_histories() {
        // Each side: the newest pair, and the history, if any.
        type Side<'a> = (u8, &'a [u8]);
        let table: [(Side<'_>, Side<'_>, Relation); 15] = [
            ((1, &[]), (1, &[]), Relation::Same),
            ((1, &[]), (2, &[]), Relation::Other),
            ((1, &[]), (2, &[1, 2]), Relation::Newer),
            ((1, &[]), (3, &[1, 2, 3]), Relation::Newer),
            ((2, &[]), (3, &[1, 2, 3]), Relation::Newer),
            ((4, &[]), (3, &[1, 2, 3]), Relation::Other),
            ((2, &[1, 2]), (3, &[1, 2, 3]), Relation::Newer),
            ((2, &[1, 2]), (2, &[1, 2]), Relation::Same),
            ((2, &[1, 2]), (2, &[]), Relation::Same),
            ((2, &[1, 2]), (2, &[1, 2, 2]), Relation::Newer),
            ((2, &[1, 2]), (1, &[]), Relation::Older),
            ((3, &[1, 2, 3]), (2, &[1, 2]), Relation::Older),
            ((2, &[1, 2, 2]), (2, &[1, 2]), Relation::Older),
            ((2, &[1, 2]), (3, &[1, 3]), Relation::Other),
            ((2, &[1, 2]), (3, &[2, 3]), Relation::Other),
        ];
        for (known, shown, relation) in table {
            let histories = [known, shown].map(|(_, pairs)| (!pairs.is_empty()).then(|| history(pairs)));
            let pairs = [known, shown].map(|(newest, _)| pair(newest));
            let [known_one, shown_one] = [0, 1].map(|side| Shown {
                pubkey: Some(&pairs[side].pubkey),
                enc_pubkey: Some(&pairs[side].enc_pubkey),
                history: histories[side].as_ref(),
            });
            assert_eq!(shown_one.against(known_one), relation, "{known:?} {shown:?}");
        }
    }

    #[test]
    fn what_nobody_has_said_is_compared_with_nothing() {
        let history = history(&[1, 2]);
        let nothing = Shown {
            pubkey: None,
            enc_pubkey: None,
            history: None,
        };
        let known = Shown {
            history: Some(&history),
            ..nothing
        };
        assert_eq!(nothing.against(known), Relation::Same);
        assert_eq!(nothing.against(nothing), Relation::Same);
    }
}
