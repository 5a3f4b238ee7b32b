//! Contact cards: who somebody is, in one line that comes another way than through a server (PROTOCOL II.11).
//!
//! `socp://USER@host:port?name=NAME#FINGERPRINT`. The fingerprint covers both keys of the user, so whoever has the card
//! knows the right keys when a server shows them. A card is no secret.

use crate::id::{InvalidId, UserId};
use crate::key::KeyText;
use crate::limits::{CARD_BYTES_MAX, CARD_NAME_CHARS_MAX};
use data_encoding::BASE64URL_NOPAD;
use std::fmt;
use std::str::FromStr;

const SCHEME: &str = "socp://";
/// What the hash begins with, so that it is good for nothing else.
const CONTEXT: &[u8] = b"socp-card-v1\0";
/// Longest host name (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// The short name of a person's keys: SHA-256 of `socp-card-v1`, a zero byte, and both keys in DER.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CardFingerprint([u8; 32]);

impl CardFingerprint {
    /// The fingerprint of the keys for signatures and for encryption.
    #[must_use]
    pub fn of(pubkey: &KeyText, enc_pubkey: &KeyText) -> Self {
        Self(crate::sha256_of(&[CONTEXT, &pubkey.der(), &enc_pubkey.der()]))
    }

    /// The first 16 characters, enough to recognise it.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().take(16).collect()
    }
}

impl fmt::Display for CardFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for CardFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CardFingerprint({})", self.short())
    }
}

impl FromStr for CardFingerprint {
    type Err = InvalidCard;
    fn from_str(text: &str) -> Result<Self, InvalidCard> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes());
        let bytes = bytes.map_err(|_| InvalidCard::Fingerprint)?;
        bytes.try_into().map(Self).map_err(|_| InvalidCard::Fingerprint)
    }
}

/// Why a text is no contact card.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCard {
    /// Longer than [`CARD_BYTES_MAX`].
    #[error("it has more than {CARD_BYTES_MAX} bytes")]
    TooLong,
    /// Another scheme, or none.
    #[error("it does not begin with socp://")]
    Scheme,
    /// Nothing, or something else, behind the `#`.
    #[error("what follows '#' is no fingerprint: 43 characters of base64url; perhaps a part of the card is missing")]
    Fingerprint,
    /// No `@`.
    #[error("there is no '@' between the user id and the server's address")]
    NoAddress,
    /// Not an id.
    #[error("the user id {0}")]
    User(InvalidId),
    /// A host name that cannot be one.
    #[error("the server's host is no host name or address")]
    Host,
    /// A port that is none.
    #[error("the server's port is missing or no number from 1 to 65535")]
    Port,
    /// Something behind the address that we do not know.
    #[error("what follows the address is not ?name=…")]
    Query,
    /// A name that cannot be one.
    #[error("the name is empty, longer than {CARD_NAME_CHARS_MAX} characters, or holds control characters")]
    Name,
    /// A `%` without two hexadecimal digits, bytes that are no text, or a character that must be written with `%`.
    #[error("a character is written in a way that a card does not have")]
    Escape,
}

/// A contact card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    user: UserId,
    host: String,
    port: u16,
    name: Option<String>,
    fingerprint: CardFingerprint,
}

impl Card {
    /// Makes a card. An IPv6 address may stand in brackets or not.
    ///
    /// # Errors
    /// What is wrong with the host, the port or the name.
    pub fn new(
        user: UserId,
        host: &str,
        port: u16,
        name: Option<&str>,
        fingerprint: CardFingerprint,
    ) -> Result<Self, InvalidCard> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host).to_ascii_lowercase();
        if !is_host(&host, bare.is_some()) {
            return Err(InvalidCard::Host);
        }
        if port == 0 {
            return Err(InvalidCard::Port);
        }
        if name.is_some_and(|name| !is_name(name)) {
            return Err(InvalidCard::Name);
        }
        let name = name.map(str::to_owned);
        let card = Self {
            user,
            host,
            port,
            name,
            fingerprint,
        };
        if card.to_string().len() > CARD_BYTES_MAX {
            return Err(InvalidCard::TooLong);
        }
        Ok(card)
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// The handle, if the card names one: how its owner wants to be found, and no proof of anything.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Of both keys.
    #[must_use]
    pub fn fingerprint(&self) -> CardFingerprint {
        self.fingerprint
    }

    /// Where the user is at home, as `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The cards in a text, at most so many; what only looks like one is left out.
    pub fn find_in(text: &str, count_max: usize) -> impl Iterator<Item = Self> {
        let words = text.split(|letter: char| letter.is_whitespace() || "<>\"'()".contains(letter));
        let words = words.filter(|word| word.starts_with(SCHEME)).take(count_max);
        words.filter_map(|word| word.trim_end_matches(['.', ',', ';', '!']).parse().ok())
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}@{}", escaped(self.user.as_str()), self.address())?;
        if let Some(name) = &self.name {
            write!(f, "?name={}", escaped(name))?;
        }
        write!(f, "#{}", self.fingerprint)
    }
}

impl FromStr for Card {
    type Err = InvalidCard;
    fn from_str(text: &str) -> Result<Self, InvalidCard> {
        if text.len() > CARD_BYTES_MAX {
            return Err(InvalidCard::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(InvalidCard::Scheme)?;
        let (rest, fingerprint) = rest.split_once('#').ok_or(InvalidCard::Fingerprint)?;
        let fingerprint = fingerprint.parse()?;
        let (rest, name) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query.strip_prefix("name=").ok_or(InvalidCard::Query)?)),
            None => (rest, None),
        };
        let name = name.map(unescaped).transpose()?;
        let (user, address) = rest.split_once('@').ok_or(InvalidCard::NoAddress)?;
        let user = UserId::try_from(unescaped(user)?).map_err(InvalidCard::User)?;
        let (host, port) = address.rsplit_once(':').ok_or(InvalidCard::Port)?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(InvalidCard::Host);
        }
        let is_number = port.bytes().all(|digit| digit.is_ascii_digit()) && !port.starts_with('0');
        let port = port.parse().ok().filter(|_| is_number).ok_or(InvalidCard::Port)?;
        Self::new(user, host, port, name.as_deref(), fingerprint)
    }
}

fn is_host(host: &str, is_bracketed: bool) -> bool {
    if is_bracketed || host.contains(':') {
        return host.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    host.len() <= HOST_BYTES_MAX && host.bytes().all(is_plain) && host.split('.').all(is_label)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().count() <= CARD_NAME_CHARS_MAX && !name.chars().any(char::is_control)
}

/// What stands for itself (RFC 3986 §2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn escaped(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_unreserved(byte) {
            written.push(char::from(byte));
        } else {
            written.push_str(&format!("%{byte:02X}"));
        }
    }
    written
}

/// Only what [`escaped`] writes, so that a card has one form.
fn unescaped(text: &str) -> Result<String, InvalidCard> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => match (rest.next().and_then(hex), rest.next().and_then(hex)) {
                (Some(high), Some(low)) if !is_unreserved(high << 4 | low) => high << 4 | low,
                (Some(_) | None, _) => return Err(InvalidCard::Escape),
            },
            byte if is_unreserved(byte) => byte,
            _ => return Err(InvalidCard::Escape),
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).map_err(|_| InvalidCard::Escape)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fingerprint() -> CardFingerprint {
        CardFingerprint::of(&KeyText::from_der(&[1]), &KeyText::from_der(&[2]))
    }

    #[test]
    fn the_fingerprint_covers_both_keys_each_in_its_place() {
        let (one, two) = (KeyText::from_der(&[1]), KeyText::from_der(&[2]));
        assert_ne!(CardFingerprint::of(&one, &two), CardFingerprint::of(&two, &one));
        assert_ne!(CardFingerprint::of(&one, &one), CardFingerprint::of(&one, &two));
        // printf 'socp-card-v1\0\1\2' | sha256sum, in base64url.
        assert_eq!(fingerprint().to_string(), "TflF7CcKISp-4x5-eq-r8ZDiQJSACsbx9WgvITzwCuo");
    }

    #[test]
    fn each_bad_part_has_its_own_words() {
        let good = format!("socp://bob@srv.example:8765?name=b%20ob#{}", fingerprint());
        let card: Card = good.parse().unwrap();
        assert_eq!(card.name(), Some("b ob"));
        assert_eq!(
            (card.user().as_str(), card.address().as_str()),
            ("bob", "srv.example:8765")
        );
        let table = [
            ("socp://", "http://", InvalidCard::Scheme),
            ("bob@", "bob", InvalidCard::NoAddress),
            ("bob@", "@", InvalidCard::User(InvalidId::Empty)),
            ("bob@", "b b@", InvalidCard::Escape),
            ("bob@", "b%62@", InvalidCard::Escape),
            ("bob@", "b%2@", InvalidCard::Escape),
            ("bob@", "b%FF@", InvalidCard::Escape),
            ("srv.example", "", InvalidCard::Host),
            ("srv.example", "srv..example", InvalidCard::Host),
            ("srv.example", "srv/example", InvalidCard::Host),
            ("srv.example", "::1", InvalidCard::Host),
            ("srv.example", "[srv]", InvalidCard::Host),
            (":8765", "", InvalidCard::Port),
            (":8765", ":0", InvalidCard::Port),
            (":8765", ":08765", InvalidCard::Port),
            (":8765", ":65536", InvalidCard::Port),
            (":8765", ":+1", InvalidCard::Port),
            ("?name=", "?nick=", InvalidCard::Query),
            ("b%20ob", "", InvalidCard::Name),
            ("b%20ob", "b%1Bob", InvalidCard::Name),
            ("b%20ob", "b&x=1", InvalidCard::Escape),
            ("#", "", InvalidCard::Fingerprint),
            ("#", "#A", InvalidCard::Fingerprint),
        ];
        for (part, with, fault) in table {
            let bad = good.replacen(part, with, 1);
            assert_eq!(bad.parse::<Card>(), Err(fault), "{bad}");
        }
        let cut = good.get(..good.len() - 1).unwrap();
        assert_eq!(cut.parse::<Card>(), Err(InvalidCard::Fingerprint));
        let long = format!("{good}{}", "A".repeat(CARD_BYTES_MAX));
        assert_eq!(long.parse::<Card>(), Err(InvalidCard::TooLong));
    }

    #[test]
    fn cards_are_found_in_a_text() {
        let card = format!("socp://bob@[::1]:8765#{}", fingerprint());
        let text = format!("this is Bob: <{card}>, and again {card}. socp://nobody");
        let found: Vec<String> = Card::find_in(&text, 8).map(|card| card.to_string()).collect();
        assert_eq!(found, [card.clone(), card]);
        assert_eq!(Card::find_in(&text, 1).count(), 1);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            user in "[!-~]{1,64}", host in "[a-z0-9]{1,20}(\\.[a-z0-9]{1,20}){0,3}|::1|2001:db8::7", port in 1_u16..,
            name in proptest::option::of("\\PC{1,64}"), key in any::<[u8; 4]>(),
        ) {
            let fingerprint = CardFingerprint::of(&KeyText::from_der(&key), &KeyText::from_der(&key));
            let user = UserId::try_from(user).unwrap();
            let card = Card::new(user, &host, port, name.as_deref(), fingerprint).unwrap();
            prop_assert_eq!(card.to_string().parse::<Card>().unwrap(), card);
        }

        #[test]
        fn nothing_that_comes_makes_it_panic_and_what_is_read_is_written_alike(text in "(socp://)?[ -~]{0,40}(@h:1)?(#[A-Za-z0-9_-]{43})?") {
            if let Ok(card) = text.parse::<Card>() {
                prop_assert_eq!(card.to_string().to_lowercase(), text.to_lowercase());
            }
        }
    }
}
