//! Canonical JSON (SOCP §12): what a signature covers.
//!
//! Keys sorted by code point at every depth, no white space, integers without fraction, UTF-8 without needless
//! escapes: RFC 8785 for the values we use. Most Python programs sign another form, in which everything beyond ASCII is
//! written as `\uXXXX`; a verifier tries both (PROTOCOL I.1). The two coincide for ASCII, so we originate nothing else.

use crate::json::Object;
use std::fmt::Write as _;

/// The canonical text of an object in UTF-8 form, the one we sign.
#[must_use]
pub fn utf8_form(object: &Object) -> String {
    // The map is ordered by key and its keys are strings, which is all that writing it could fail on.
    serde_json::to_string(object).unwrap_or_default()
}

/// The `\uXXXX` form of a canonical text, or nothing where the two forms coincide.
///
/// Python's `ensure_ascii` escapes U+007F too.
#[must_use]
pub fn escaped_form(utf8: &str) -> Option<String> {
    let is_plain = |byte: &u8| *byte < 0x7f;
    if utf8.as_bytes().iter().all(is_plain) {
        return None;
    }
    let mut escaped = String::with_capacity(utf8.len().saturating_mul(2));
    for character in utf8.chars() {
        if character < '\u{7f}' {
            escaped.push(character);
            continue;
        }
        let mut units = [0; 2];
        for unit in character.encode_utf16(&mut units) {
            // Writing to a String cannot fail.
            let _infallible = write!(escaped, "\\u{unit:04x}");
        }
    }
    Some(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse_object;

    #[test]
    fn keys_are_sorted_by_code_point_at_every_depth() {
        let object = parse_object(r#"{"b":{"z":1,"a":[{"y":2,"x":3}]},"a":"A"," ":null}"#).unwrap();
        assert_eq!(
            utf8_form(&object),
            r#"{" ":null,"a":"A","b":{"a":[{"x":3,"y":2}],"z":1}}"#
        );
    }

    #[test]
    fn ascii_has_one_form_and_the_rest_two() {
        assert_eq!(escaped_form(r#"{"a":"b"}"#), None);
        assert_eq!(
            escaped_form("\"é😀\u{7f}\"").as_deref(),
            Some("\"\\u00e9\\ud83d\\ude00\\u007f\"")
        );
    }
}
