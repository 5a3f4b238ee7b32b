//! Text from the network on a terminal: shown, never obeyed.
//!
//! A terminal executes control and escape characters, and bidirectional controls make text read as something else. All
//! of them are shown as `\u{1b}`; a line feed too, so that no message can pretend to be two.

use socp_client::is_hostile;

/// The text with everything that is not plainly visible escaped.
pub(crate) fn safe(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hostile(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::safe;

    #[test]
    fn what_a_terminal_obeys_is_shown_instead() {
        let table = [
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\r\nb\tc", "a\\u{d}\\u{a}b\\u{9}c"),
            ("\u{7f}\u{8}\0", "\\u{7f}\\u{8}\\u{0}"),
            ("abc\u{202e}fdp.exe", "abc\\u{202e}fdp.exe"),
            ("\u{2066}x\u{2069}\u{200f}", "\\u{2066}x\\u{2069}\\u{200f}"),
            ("\u{2028}\u{feff}\u{e0041}", "\\u{2028}\\u{feff}\\u{e0041}"),
            ("\u{200b}\u{200e}\u{200f}\u{61c}", "\\u{200b}\\u{200e}\\u{200f}\\u{61c}"),
            (
                "\u{2066}\u{2067}\u{2068}\u{2069}",
                "\\u{2066}\\u{2067}\\u{2068}\\u{2069}",
            ),
            (
                "\u{e0000}\u{e0001}\u{e007f}\u{e0100}\u{e01ef}",
                "\\u{e0000}\\u{e0001}\\u{e007f}\\u{e0100}\\u{e01ef}",
            ),
            (
                "a\u{fe00}\u{180b}\u{3164}\u{2800}",
                "a\\u{fe00}\\u{180b}\\u{3164}\\u{2800}",
            ),
        ];
        for (hostile, shown) in table {
            assert_eq!(safe(hostile), shown);
        }
    }

    #[test]
    fn plain_text_of_every_script_stays() {
        for text in [
            "hello",
            "Grüße, Ελλάδα, 你好, مرحبا",
            "👩\u{200d}👩\u{200d}👧 € ❤\u{fe0f}",
            "C:\\u{1b}",
        ] {
            assert_eq!(safe(text), text);
        }
    }
}
