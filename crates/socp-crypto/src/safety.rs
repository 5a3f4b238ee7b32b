//! Safety words: what two people compare, by voice or on paper, to know that no server swapped their keys
//! (PROTOCOL II.10).
//!
//! Each person has a half of their own, made slowly from their id and keys; the two halves stand in the order of the
//! ids, so that both see the same. A half of 88 bits (words) or some 100 bits (digits) can only be met by finding keys
//! with that very half: it is not a birthday problem, since halves are not mixed.

use aws_lc_rs::pbkdf2;
use bip39::Language;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use socp_proto::{KeyText, UserId};
use std::fmt;
use std::num::NonZeroU32;

/// What stands before the user id in the salt.
const DOMAIN: &[u8] = b"socp-safety-v1\0";
/// Makes each guess of somebody who looks for keys with a given half 2^17 times as expensive.
const ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).expect("more than none");
const HALF_BYTES: usize = 32;
/// Words of a half: 11 bits each.
const WORDS_PER_HALF: usize = 8;
/// Groups of five digits of a half: five bytes each.
const GROUPS_PER_HALF: usize = 6;

/// One of the two people, as the other's program knows them.
#[derive(Debug, Clone, Copy)]
pub struct SafetyParty<'a> {
    /// The user.
    pub user: &'a UserId,
    /// The key that verifies what they sign.
    pub pubkey: &'a KeyText,
    /// The key that encrypts for them, where it is another.
    pub enc_pubkey: Option<&'a KeyText>,
}

/// What both people see if, and only if, they know each other by the same keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafetyCode {
    halves: [(UserId, [u8; HALF_BYTES]); 2],
}

impl SafetyCode {
    /// The code of two people; the same whoever comes first. Takes some tenth of a second.
    #[must_use]
    pub fn new(one: SafetyParty<'_>, other: SafetyParty<'_>) -> Self {
        let (first, second) = if one.user <= other.user {
            (one, other)
        } else {
            (other, one)
        };
        Self {
            halves: [first, second].map(|party| (party.user.clone(), half(party))),
        }
    }

    /// Sixteen words of the English list of BIP-39, the first eight for the person with the smaller id.
    #[must_use]
    pub fn words(&self) -> Vec<&'static str> {
        let list = Language::English.word_list();
        let halves = self.halves.iter();
        let indices = halves.flat_map(|(_, half)| (0..WORDS_PER_HALF).map(|at| eleven_bits(half, at)));
        indices.filter_map(|index| list.get(index).copied()).collect()
    }

    /// Twelve groups of five digits, for people who share no language.
    #[must_use]
    pub fn digits(&self) -> Vec<String> {
        let halves = self.halves.iter();
        let groups = halves.flat_map(|(_, half)| half.as_chunks::<5>().0.iter().take(GROUPS_PER_HALF));
        groups
            .map(|group| {
                let number = group
                    .iter()
                    .fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
                format!("{:05}", number % 100_000)
            })
            .collect()
    }

    /// What a QR code holds: `socp-safety:v1:`, then id and half, twice. Ids, which may contain anything that can be
    /// printed, are in base64url, halves in hexadecimal.
    #[must_use]
    pub fn qr_text(&self) -> String {
        let halves = self.halves.each_ref().map(|(user, half)| {
            let user = BASE64URL_NOPAD.encode(user.as_str().as_bytes());
            format!("{user}:{}", HEXLOWER.encode(half))
        });
        format!("socp-safety:v1:{}", halves.join(":"))
    }

    /// Whether a person read out just these words, or just these digits; case, punctuation and line breaks aside.
    #[must_use]
    pub fn is_told_by(&self, text: &str) -> bool {
        let told: Vec<String> = text
            .split(|letter: char| !letter.is_alphanumeric())
            .filter(|part| !part.is_empty())
            .map(str::to_lowercase)
            .collect();
        told == self.words() || told.concat() == self.digits().concat()
    }
}

impl fmt::Display for SafetyCode {
    /// Four lines of four words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.words().chunks(4).map(|line| line.join(" ")).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// PBKDF2-HMAC-SHA-512 (RFC 8018), since browsers have it too.
fn half(party: SafetyParty<'_>) -> [u8; HALF_BYTES] {
    // DER tells its own length, so that no other pair of keys has the same bytes.
    let enc = party.enc_pubkey.unwrap_or(party.pubkey);
    let keys = [party.pubkey.der(), enc.der()].concat();
    let salt = [DOMAIN, party.user.as_str().as_bytes()].concat();
    let mut out = [0; HALF_BYTES];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, ROUNDS, &salt, &keys, &mut out);
    out
}

/// The eleven bits, most significant first, that begin at bit `11 * at`.
fn eleven_bits(bytes: &[u8], at: usize) -> usize {
    let bits = at.saturating_mul(11)..at.saturating_add(1).saturating_mul(11);
    bits.fold(0, |number, bit| {
        let byte = bytes.get(bit / 8).copied().unwrap_or_default();
        (number << 1) | usize::from((byte >> (7 - bit % 8)) & 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PrivateKey;

    fn key() -> KeyText {
        KeyText::from_der(PrivateKey::generate().unwrap().public_key().spki_der())
    }

    fn user(text: &str) -> UserId {
        UserId::try_from(text).unwrap()
    }

    fn party<'a>(user: &'a UserId, pubkey: &'a KeyText) -> SafetyParty<'a> {
        let enc_pubkey = None;
        SafetyParty {
            user,
            pubkey,
            enc_pubkey,
        }
    }

    #[test]
    fn both_see_the_same_and_only_with_the_same_keys() {
        let (alice, bob) = (user("alice"), user("bob"));
        let (of_alice, of_bob, of_mallory) = (key(), key(), key());
        let code = SafetyCode::new(party(&alice, &of_alice), party(&bob, &of_bob));
        assert_eq!(code, SafetyCode::new(party(&bob, &of_bob), party(&alice, &of_alice)));
        assert_eq!((code.words().len(), code.digits().len()), (16, 12));
        assert_eq!(code.to_string().lines().count(), 4);

        // Alice knows Bob by another key: her own half stays, his does not.
        let swapped = SafetyCode::new(party(&alice, &of_alice), party(&bob, &of_mallory));
        assert_eq!(code.words()[..8], swapped.words()[..8]);
        assert_ne!(code.words()[8..], swapped.words()[8..]);
        assert_ne!(code.digits()[6..], swapped.digits()[6..]);

        // A key for encryption counts as much as that for signatures.
        let enc_pubkey = Some(&of_mallory);
        let other_enc = SafetyParty {
            enc_pubkey,
            ..party(&bob, &of_bob)
        };
        let other_enc = SafetyCode::new(party(&alice, &of_alice), other_enc);
        assert_ne!(code.words()[8..], other_enc.words()[8..]);
        // To name the same key twice is to name it once.
        let enc_pubkey = Some(&of_bob);
        let same_enc = SafetyParty {
            enc_pubkey,
            ..party(&bob, &of_bob)
        };
        assert_eq!(code, SafetyCode::new(party(&alice, &of_alice), same_enc));
    }

    #[test]
    fn what_a_person_reads_out_is_recognised_however_it_is_written() {
        let (alice, bob) = (user("alice"), user("bob"));
        let (of_alice, of_bob) = (key(), key());
        let code = SafetyCode::new(party(&alice, &of_alice), party(&bob, &of_bob));
        let words = code.words();
        assert!(code.is_told_by(&words.join(" ")));
        assert!(code.is_told_by(&format!("{}.\n", words.join(", ").to_uppercase())));
        assert!(code.is_told_by(&code.digits().join(" ")));
        assert!(code.is_told_by(&code.digits().concat()));
        for wrong in ["", " ", &words[..15].join(" "), &words[1..].join(" ")] {
            assert!(!code.is_told_by(wrong), "{wrong:?}");
        }
        let mut swapped = words.clone();
        swapped.rotate_left(8);
        assert!(swapped == words || !code.is_told_by(&swapped.join(" ")));
        assert!(!code.is_told_by(&code.digits()[..11].join(" ")));
    }

    #[test]
    fn bits_are_taken_from_the_left() {
        let bytes = [0b1000_0000, 0b0010_0000, 0b0000_0111];
        assert_eq!(eleven_bits(&bytes, 0), 0b100_0000_0001);
        assert_eq!(eleven_bits(&bytes, 1), 0b1);
    }
}
