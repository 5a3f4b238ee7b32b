//! Names as people read them: which two look alike, and in which form they are compared (UTS 39, UAX 15).
//!
//! Nothing here decides who somebody is; that is the id, and the key behind it. It decides when a person is warned.

use unicode_normalization::UnicodeNormalization as _;
use unicode_security::{MixedScript as _, RestrictionLevel, RestrictionLevelDetection as _};

/// The text in the one form in which names are compared and kept: what looks the same by composition is the same.
#[must_use]
pub fn normal_form(text: &str) -> String {
    text.nfc().collect()
}

/// What a name looks like: two names with the same one are easily taken for each other. Invisible characters count for
/// nothing, and neither do capitals.
#[must_use]
pub fn likeness(name: &str) -> String {
    let drawn: String = unicode_security::skeleton(name).collect();
    let lower = drawn.to_lowercase();
    unicode_security::skeleton(&lower)
        .filter(|letter| !letter.is_control())
        .collect()
}

/// Whether letters of several scripts stand side by side in a way that no language writes; Latin beside Chinese, Japanese
/// or Korean is written (UTS 39 §5.2, "highly restrictive").
#[must_use]
pub fn mixes_scripts(name: &str) -> bool {
    if name.is_ascii() || name.is_single_script() {
        return false;
    }
    // Signs that no identifier may hold say nothing about scripts.
    let letters: String = name.chars().filter(|letter| letter.is_alphabetic()).collect();
    !letters.is_single_script() && letters.detect_restriction_level() > RestrictionLevel::HighlyRestrictive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_alike_has_the_same_likeness() {
        let table = [
            ("bob", "b\u{3bf}b"),
            ("bob", "b0b"),
            ("bob", "BOB"),
            ("alice", "\u{430}lice"),
            ("alice", "a\u{200b}lice"),
            ("alice", "a\u{e0061}lice\u{fe0f}"),
            ("alice", "\u{ff41}lice"),
            ("modern", "modem"),
            ("paypal", "paypa1"),
            ("é", "e\u{301}"),
        ];
        for (one, other) in table {
            assert_eq!(likeness(one), likeness(other), "{one} and {other}");
        }
        for (one, other) in [("bob", "rob"), ("alice", "alicia"), ("你好", "您好")] {
            assert_ne!(likeness(one), likeness(other), "{one} and {other}");
        }
    }

    #[test]
    fn only_what_no_language_mixes_is_mixed() {
        for plain in [
            "bob",
            "Grüße-1",
            "Ελλάδα",
            "你好bob",
            "ひらがなカナ漢字x",
            "мир",
            "b_o.b",
            "👩‍👩‍👧",
        ] {
            assert!(!mixes_scripts(plain), "{plain}");
        }
        for mixed in ["\u{430}lice", "b\u{3bf}b", "мiр"] {
            assert!(mixes_scripts(mixed), "{mixed}");
        }
    }

    #[test]
    fn two_ways_to_write_one_letter_are_one() {
        assert_eq!(normal_form("e\u{301}"), normal_form("é"));
        assert_ne!(normal_form("b\u{3bf}b"), "bob");
    }
}
