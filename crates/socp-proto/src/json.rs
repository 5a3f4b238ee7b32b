//! JSON as the wire allows it: bounded depth, no duplicate keys, integers only (PROTOCOL I.1).
//!
//! `serde_json` alone keeps the last of two equal keys and reads any number, so that two programs could verify the
//! same signature over different meanings. Here such a text is refused whole.

use crate::limits::JSON_DEPTH_MAX;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::cell::Cell;
use std::fmt;

/// A JSON object whose keys are unique and whose numbers are integers, in code point order of its keys.
pub type Object = Map<String, Value>;

/// Why a text is not JSON that the wire allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// Not JSON at all (RFC 8259), or something behind it.
    #[error("not valid JSON")]
    Syntax,
    /// JSON, but not an object.
    #[error("not a JSON object")]
    NotObject,
    /// The same key twice in one object.
    #[error("a key appears twice in one object")]
    DuplicateKey,
    /// Nested deeper than [`JSON_DEPTH_MAX`].
    #[error("nested deeper than {JSON_DEPTH_MAX} levels")]
    Depth,
    /// A fraction, an exponent, or an integer beyond 64 bits.
    #[error("a number is not an integer of at most 64 bits")]
    Number,
}

/// Reads one JSON object.
///
/// # Errors
/// A [`JsonFault`] that says which rule the text breaks.
pub fn parse_object(text: &str) -> Result<Object, JsonFault> {
    let fault = Cell::new(None);
    let mut reader = serde_json::Deserializer::from_str(text);
    let parsed = Checked {
        depth: 0,
        fault: &fault,
    }
    .deserialize(&mut reader);
    let value = parsed.map_err(|error| fault.get().unwrap_or_else(|| from_reader(&error)))?;
    reader.end().map_err(|_| JsonFault::Syntax)?;
    match value {
        Value::Object(object) => Ok(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(JsonFault::NotObject)
        }
    }
}

/// The reader itself refuses a float beyond every range before our visitor sees it.
fn from_reader(error: &serde_json::Error) -> JsonFault {
    if error.to_string().starts_with("number out of range") {
        JsonFault::Number
    } else {
        JsonFault::Syntax
    }
}

/// Builds a [`Value`] while it checks; `fault` carries the reason past serde's untyped errors.
#[derive(Clone, Copy)]
struct Checked<'a> {
    depth: usize,
    fault: &'a Cell<Option<JsonFault>>,
}

impl Checked<'_> {
    fn refuse<E: serde::de::Error>(self, fault: JsonFault) -> E {
        self.fault.set(Some(fault));
        E::custom(fault)
    }

    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= JSON_DEPTH_MAX {
            return Err(self.refuse(JsonFault::Depth));
        }
        Ok(Self {
            depth: self.depth.saturating_add(1),
            ..self
        })
    }
}

impl<'de> DeserializeSeed<'de> for Checked<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Value, E> {
        Err(self.refuse(JsonFault::Number))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(inner)?;
            if object.insert(key, value).is_some() {
                self.fault.set(Some(JsonFault::DuplicateKey));
                return Err(A::Error::custom(JsonFault::DuplicateKey));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_its_fault() {
        let table = [
            ("", JsonFault::Syntax),
            ("{", JsonFault::Syntax),
            ("{\"a\":1}x", JsonFault::Syntax),
            ("{\"a\":01}", JsonFault::Syntax),
            ("{\"a\":NaN}", JsonFault::Syntax),
            ("{\"a\":\"\\ud800\"}", JsonFault::Syntax),
            ("[1]", JsonFault::NotObject),
            ("\"{}\"", JsonFault::NotObject),
            ("{\"a\":1,\"a\":1}", JsonFault::DuplicateKey),
            ("{\"a\":1,\"\\u0061\":1}", JsonFault::DuplicateKey),
            ("{\"x\":[{\"a\":1,\"a\":2}]}", JsonFault::DuplicateKey),
            ("{\"a\":1.0}", JsonFault::Number),
            ("{\"a\":1e3}", JsonFault::Number),
            ("{\"a\":18446744073709551616}", JsonFault::Number),
            ("{\"a\":1e400}", JsonFault::Number),
        ];
        for (text, fault) in table {
            assert_eq!(parse_object(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn depth_is_counted_from_the_outermost_object() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(parse_object(&nested(JSON_DEPTH_MAX)).is_ok());
        assert_eq!(parse_object(&nested(JSON_DEPTH_MAX + 1)), Err(JsonFault::Depth));
        assert_eq!(parse_object(&nested(100_000)), Err(JsonFault::Depth));
    }
}
