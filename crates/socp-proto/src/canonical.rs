//! Canonical JSON (SOCP §12): what a signature covers.
//!
//! Keys sorted by code point at every depth, no white space, integers without fraction, UTF-8 without needless
//! escapes: RFC 8785 for the values we use. Most Python programs sign another form, in which everything beyond ASCII is
//! written as `\uXXXX`; a verifier tries both (PROTOCOL I.1). The two coincide for ASCII, so we originate nothing else.

use crate::json::Object;
use serde_json::Value;
use std::fmt::Write as _;

/// The canonical text of an object in UTF-8 form, the one we sign.
#[must_use]
pub fn utf8_form(object: &Object) -> String {
    let mut text = String::with_capacity(object.values().map(bytes_at_least).sum());
    write_object(&mut text, object);
    text
}

/// Most of what is written are texts of an object's own fields.
fn bytes_at_least(value: &Value) -> usize {
    const KEY_BYTES: usize = 24;
    value.as_str().map_or(0, str::len).saturating_add(KEY_BYTES)
}

fn write_object(to: &mut String, object: &Object) {
    to.push('{');
    for (index, (key, value)) in object.iter().enumerate() {
        if index > 0 {
            to.push(',');
        }
        write_text(to, key);
        to.push(':');
        write_value(to, value);
    }
    to.push('}');
}

fn write_value(to: &mut String, value: &Value) {
    match value {
        Value::String(text) => write_text(to, text),
        Value::Object(object) => write_object(to, object),
        Value::Array(values) => {
            to.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    to.push(',');
                }
                write_value(to, value);
            }
            to.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            // Writing to a String cannot fail.
            let _infallible = write!(to, "{value}");
        }
    }
}

/// Writes a JSON string. Few texts need an escape, and those that do are the library's.
pub(crate) fn write_text(to: &mut String, text: &str) {
    if needs_no_escape(text) {
        to.push('"');
        to.push_str(text);
        to.push('"');
    } else {
        let escaped = Value::from(text);
        // Writing to a String cannot fail.
        let _infallible = write!(to, "{escaped}");
    }
}

/// Looks at all of a text, many bytes at once, instead of stopping at the first (RFC 8259 §7).
fn needs_no_escape(text: &str) -> bool {
    let is_plain = |byte: &u8| (*byte >= b' ') & (*byte != b'"') & (*byte != b'\\');
    let (chunks, rest) = text.as_bytes().as_chunks::<32>();
    let all = |chunk: &[u8; 32]| chunk.iter().fold(true, |plain, byte| plain & is_plain(byte));
    chunks.iter().all(all) && rest.iter().all(is_plain)
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
    use serde_json::json;

    #[test]
    fn keys_are_sorted_by_code_point_at_every_depth() {
        let object = parse_object(r#"{"b":{"z":1,"a":[{"y":2,"x":3}]},"a":"A"," ":null}"#).unwrap();
        assert_eq!(
            utf8_form(&object),
            r#"{" ":null,"a":"A","b":{"a":[{"x":3,"y":2}],"z":1}}"#
        );
    }

    #[test]
    fn what_is_written_is_what_the_library_writes() {
        let long = "x".repeat(70);
        for odd in ["", "\"", "\\", "\u{0}", "\u{1f}", "\u{7f}", "é😀", "\n"] {
            for before in [0, 1, 31, 32, 33, 69] {
                let text = [&long[..before], odd, &long].concat();
                let value = json!({text.clone(): [text, {"n": [-1, u64::MAX, null, true]}, [], {}], "": odd});
                let Value::Object(object) = value else { panic!() };
                assert_eq!(utf8_form(&object), serde_json::to_string(&object).unwrap());
            }
        }
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
