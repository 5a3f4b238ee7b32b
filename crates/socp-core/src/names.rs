//! Names as people read them: which two look alike, and in which form they are compared (UTS 39, UAX 15).
//!
//! Nothing here decides who somebody is; that is the id, and the key behind it. It decides when a person is warned.

use std::borrow::Cow;
use unicode_normalization::UnicodeNormalization as _;
use unicode_security::{MixedScript as _, RestrictionLevel, RestrictionLevelDetection as _};

/// The text in the one form in which names are compared and kept: what looks the same by composition is the same.
#[must_use]
pub fn normal_form(text: &str) -> String {
    text.nfc().collect()
}

/// What two texts have in common that differ by case alone: full case folding (Unicode §5.18), so that a final sigma is a
/// sigma. What is written differently in lower case but has one capital is the same; the dotless i alone is not its capital's.
#[must_use]
pub fn folded_case(text: &str) -> String {
    let lower = text.chars().flat_map(char::to_lowercase);
    let upper = lower.flat_map(|letter| {
        let capital = (letter != '\u{131}').then(|| letter.to_uppercase());
        let same = (letter == '\u{131}').then_some(letter);
        capital.into_iter().flatten().chain(same)
    });
    upper.flat_map(char::to_lowercase).collect()
}

/// A name as it is shown: what cannot be seen in it is written out, so that it does not pass for the name without. Joiners
/// and variation selectors stay in pictures, which need them; other characters that a terminal obeys are for the face.
#[must_use]
pub fn shown(name: &str) -> Cow<'_, str> {
    if !name.contains(is_joiner) {
        return Cow::Borrowed(name);
    }
    let letters: Vec<char> = name.chars().collect();
    let at = |index: Option<usize>| index.and_then(|index| letters.get(index)).copied();
    let mut shown = String::with_capacity(name.len());
    for (index, letter) in letters.iter().copied().enumerate() {
        let (before, behind) = (at(index.checked_sub(1)), at(index.checked_add(1)));
        let joins = letter != JOINER || behind.is_some_and(is_picture);
        let stays = before.is_some_and(|before| is_picture(before) || (letter == JOINER && before == PICTURE_STYLE));
        if is_joiner(letter) && !(joins && stays) {
            shown.extend(letter.escape_unicode());
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

const JOINER: char = '\u{200d}';
const PICTURE_STYLE: char = '\u{fe0f}';

fn is_joiner(letter: char) -> bool {
    matches!(letter, '\u{200c}' | JOINER | '\u{fe0e}' | PICTURE_STYLE)
}

fn is_picture(letter: char) -> bool {
    matches!(letter, '\u{a9}' | '\u{ae}' | '\u{203c}'..='\u{2049}' | '\u{2122}' | '\u{2190}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}')
}

/// What a name looks like: two names with the same one are easily taken for each other. Invisible characters count for
/// nothing, and neither do capitals.
#[must_use]
pub fn likeness(name: &str) -> String {
    let drawn: String = unicode_security::skeleton(name).collect();
    let lower = folded_case(&drawn);
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
    fn case_is_folded_in_full() {
        for (one, other) in [
            ("ΟΔΥΣΣΕΥΣ", "Οδυσσευς"),
            ("ΟΔΥΣΣΕΥΣ", "οδυσσευσ"),
            ("STRASSE", "straße"),
            ("STRA\u{1e9e}E", "strasse"),
            ("\u{17f}am", "SAM"),
            ("\u{587}", "\u{565}\u{582}"),
        ] {
            assert_eq!(folded_case(one), folded_case(other), "{one} and {other}");
        }
        assert_ne!(folded_case("\u{131}"), folded_case("i"));
        assert_ne!(folded_case("\u{130}"), folded_case("i"));
    }

    #[test]
    fn what_cannot_be_seen_in_a_name_is_written_out_and_makes_it_another() {
        for (name, shows) in [
            ("alice", "alice"),
            ("al\u{200d}ice", "al\\u{200d}ice"),
            ("alice\u{200c}", "alice\\u{200c}"),
            ("\u{fe0f}alice\u{fe0e}", "\\u{fe0f}alice\\u{fe0e}"),
            ("а\u{200d}б", "а\\u{200d}б"),
            ("👩\u{200d}", "👩\\u{200d}"),
            ("👩\u{200d}👩\u{200d}👧 ❤\u{fe0f}", "👩\u{200d}👩\u{200d}👧 ❤\u{fe0f}"),
            ("❤\u{fe0f}\u{200d}🔥", "❤\u{fe0f}\u{200d}🔥"),
            ("❤\u{fe0f}\u{fe0f}", "❤\u{fe0f}\\u{fe0f}"),
        ] {
            assert_eq!(shown(name), shows);
        }
        for hidden in [
            "al\u{200d}ice",
            "alice\u{200b}",
            "\u{202e}alice",
            "ali\u{ad}ce",
            "alice\u{fe0f}",
            "a\u{e0061}lice",
        ] {
            let same = folded_case(&normal_form(hidden));
            assert_ne!(same, "alice", "{}", hidden.escape_unicode());
        }
    }

    #[test]
    fn two_ways_to_write_one_letter_are_one() {
        assert_eq!(normal_form("e\u{301}"), normal_form("é"));
        assert_ne!(normal_form("b\u{3bf}b"), "bob");
    }
}
