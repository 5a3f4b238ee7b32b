//! File names from the network: a name, never a place, on any system (PROTOCOL I.9).

use crate::safe_text::is_hostile;

/// Longest name in bytes, so that a number still fits behind it on every usual file system (our choice).
const NAME_BYTES_MAX: usize = 200;
/// Longest ending that is kept when a name is cut (our choice).
const ENDING_BYTES_MAX: usize = 32;
/// Names that stand for devices on some systems, whatever follows the first dot.
const DEVICES: [&str; 4] = ["CON", "PRN", "AUX", "NUL"];
/// The same with a digit behind.
const NUMBERED_DEVICES: [&str; 2] = ["COM", "LPT"];
/// What a file is called whose name says nothing.
const NAMELESS: &str = "file";

/// A name that is neither a path nor hidden, holds nothing that a terminal or a shell takes for something else, is not
/// reserved, and is not too long.
pub(crate) fn safe_name(claimed: &str) -> String {
    let last = claimed.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: String = last.chars().map(|it| if is_unwelcome(it) { '_' } else { it }).collect();
    // A dot or a blank at the end is left out by some systems, which would make another name of it.
    let trimmed = plain.trim_start_matches(['.', ' ']).trim_end_matches(['.', ' ']);
    let mut name = cut(trimmed);
    if name.starts_with('-') || is_device(&name) {
        name.insert(0, '_');
    }
    if name.is_empty() { NAMELESS.to_owned() } else { name }
}

/// The same with a number, for when there is one already: `photo (1).png`.
pub(crate) fn numbered(name: &str, number: u32) -> String {
    match split_ending(name) {
        (stem, "") => format!("{stem} ({number})"),
        (stem, ending) => format!("{stem} ({number}).{ending}"),
    }
}

fn is_unwelcome(character: char) -> bool {
    is_hostile(character)
        || matches!(character, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '/' | '\\')
        // Blanks other than the usual one look like it, or like nothing.
        || (character.is_whitespace() && character != ' ')
}

fn is_device(name: &str) -> bool {
    let stem = name
        .split('.')
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_ascii_uppercase();
    let is_numbered = |device: &str| {
        let mut rest = stem.strip_prefix(device).unwrap_or_default().chars();
        matches!((rest.next(), rest.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
    };
    DEVICES.contains(&stem.as_str()) || NUMBERED_DEVICES.into_iter().any(is_numbered)
}

/// Cuts in the middle, so that the ending stays.
fn cut(name: &str) -> String {
    if name.len() <= NAME_BYTES_MAX {
        return name.to_owned();
    }
    let (stem, ending) = match split_ending(name) {
        (stem, ending) if ending.len() <= ENDING_BYTES_MAX => (stem, ending),
        _ => (name, ""),
    };
    let room = NAME_BYTES_MAX.saturating_sub(ending.len().saturating_add(1));
    let stem = stem.get(..stem.floor_char_boundary(room)).unwrap_or_default();
    match ending {
        "" => stem.trim_end_matches(['.', ' ']).to_owned(),
        ending => format!("{stem}.{ending}"),
    }
}

fn split_ending(name: &str) -> (&str, &str) {
    match name.rsplit_once('.') {
        Some((stem, ending)) if !stem.is_empty() => (stem, ending),
        Some(_) | None => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn what_a_name_becomes() {
        let table = [
            ("photo.png", "photo.png"),
            ("Grüße aus Köln.txt", "Grüße aus Köln.txt"),
            ("../../etc/passwd", "passwd"),
            ("/etc/shadow", "shadow"),
            ("C:\\Windows\\system.ini", "system.ini"),
            ("..", "file"),
            (".", "file"),
            ("", "file"),
            ("a/", "file"),
            (".bashrc", "bashrc"),
            ("...hidden", "hidden"),
            ("  .x", "x"),
            ("abc\u{202e}gnp.exe", "abc_gnp.exe"),
            ("a\u{0}b\nc\u{1b}[2J", "a_b_c_[2J"),
            ("con", "_con"),
            ("NUL.txt", "_NUL.txt"),
            ("com7.tar.gz", "_com7.tar.gz"),
            ("COM¹", "_COM¹"),
            ("console.log", "console.log"),
            ("-rf", "_-rf"),
            ("what? <really>|\"yes\":*", "what_ _really___yes___"),
            ("ends with dot. ", "ends with dot"),
            ("a\u{2003}b\u{feff}", "a_b_"),
        ];
        for (claimed, name) in table {
            assert_eq!(safe_name(claimed), name, "{claimed:?}");
        }
    }

    #[test]
    fn a_long_name_keeps_its_ending_and_whole_characters() {
        let name = safe_name(&format!("{}.png", "ü".repeat(300)));
        assert!(name.len() <= NAME_BYTES_MAX && name.ends_with("ü.png"), "{name}");
        let name = safe_name(&format!("a.{}", "b".repeat(300)));
        assert_eq!(name.len(), NAME_BYTES_MAX - 1);
    }

    #[test]
    fn numbers_go_before_the_ending() {
        assert_eq!(numbered("photo.png", 1), "photo (1).png");
        assert_eq!(numbered("Makefile", 12), "Makefile (12)");
        assert_eq!(numbered("a.tar.gz", 2), "a.tar (2).gz");
    }

    proptest! {
        #[test]
        fn any_name_becomes_one_plain_file_name(claimed in any::<String>()) {
            check(&claimed)?;
        }

        #[test]
        fn so_does_any_name_made_of_what_is_dangerous(
            claimed in "[./\\\\ \u{202e}\u{0}~a\\-:COMNUL1]{0,300}",
        ) {
            check(&claimed)?;
        }
    }

    fn check(claimed: &str) -> Result<(), TestCaseError> {
        let name = safe_name(claimed);
        let parts: Vec<_> = Path::new(&name).components().collect();
        prop_assert!(
            matches!(&parts[..], [Component::Normal(part)] if *part == name.as_str()),
            "{:?}",
            name
        );
        prop_assert!(
            !name.starts_with(['.', '-', ' ']) && !name.ends_with(['.', ' ']),
            "{:?}",
            name
        );
        prop_assert!(!name.chars().any(is_hostile), "{:?}", name);
        prop_assert!(!is_device(&name), "{:?}", name);
        prop_assert!(name.len() <= NAME_BYTES_MAX + 1, "{:?}", name);
        prop_assert_eq!(safe_name(&name), name.clone(), "not stable");
        prop_assert!(numbered(&name, u32::MAX).len() <= 255);
        Ok(())
    }
}
