//! A user's profile as the network shows it (SOCP §15.2). Routing and cryptography never depend on it.

use crate::canonical::utf8_form;
use crate::json::Object;
use crate::limits::{AVATAR_URL_BYTES_MAX, DISPLAY_NAME_CHARS_MAX, META_BYTES_MAX};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `meta`: an object with `display_name`, `pronouns`, `age`, `avatar_url`, `extras`, each bounded; others are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Object")]
pub struct Meta(Object);

/// Why an object is not a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMeta {
    /// More than [`META_BYTES_MAX`] bytes.
    #[error("meta is larger than {META_BYTES_MAX} bytes")]
    TooLarge,
    /// `display_name` is not a text of at most [`DISPLAY_NAME_CHARS_MAX`] characters.
    #[error("meta.display_name is not a text of at most {DISPLAY_NAME_CHARS_MAX} characters")]
    DisplayName,
    /// `avatar_url` is not a text of at most [`AVATAR_URL_BYTES_MAX`] bytes.
    #[error("meta.avatar_url is not a text of at most {AVATAR_URL_BYTES_MAX} bytes")]
    AvatarUrl,
}

impl Meta {
    /// A profile with a handle and the name to show; the handle travels in `extras.name`.
    ///
    /// # Errors
    /// [`InvalidMeta`] if a name is too long.
    pub fn named(name: Option<&str>, display_name: Option<&str>) -> Result<Self, InvalidMeta> {
        let mut object = Object::new();
        if let Some(shown) = display_name.or(name) {
            object.insert("display_name".to_owned(), Value::from(shown));
        }
        if let Some(name) = name {
            let mut extras = Object::new();
            extras.insert("name".to_owned(), Value::from(name));
            object.insert("extras".to_owned(), Value::Object(extras));
        }
        Self::try_from(object)
    }

    /// The name to show, if the user gave one; else the id is shown (SOCP §15.2).
    #[must_use]
    pub fn display_name(&self) -> Option<&str> {
        self.0.get("display_name")?.as_str().filter(|name| !name.is_empty())
    }

    /// The user's handle: `extras.name`, else the name shown.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let handle = self.0.get("extras").and_then(|extras| extras.get("name")?.as_str());
        handle.filter(|name| !name.is_empty()).or_else(|| self.display_name())
    }

    /// The handle alone: `extras.name`.
    #[must_use]
    pub fn handle(&self) -> Option<&str> {
        let handle = self.0.get("extras")?.get("name")?.as_str();
        handle.filter(|name| !name.is_empty())
    }

    /// The same profile without such a handle, and without such a name to show.
    #[must_use]
    pub fn without(mut self, is_unwanted: impl Fn(&str) -> bool) -> Self {
        if self.handle().is_some_and(&is_unwanted)
            && let Some(Value::Object(extras)) = self.0.get_mut("extras")
        {
            extras.remove("name");
        }
        if self.display_name().is_some_and(&is_unwanted) {
            self.0.remove("display_name");
        }
        self
    }

    /// The canonical text.
    #[must_use]
    pub fn to_text(&self) -> String {
        utf8_form(&self.0)
    }

    /// How many bytes it takes on the wire.
    #[must_use]
    pub fn canonical_bytes(&self) -> usize {
        utf8_form(&self.0).len()
    }
}

impl TryFrom<Object> for Meta {
    type Error = InvalidMeta;
    fn try_from(object: Object) -> Result<Self, InvalidMeta> {
        let text_within = |key: &str, fits: fn(&str) -> bool| match object.get(key) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => fits(text),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => false,
        };
        if !text_within("display_name", |t| t.chars().count() <= DISPLAY_NAME_CHARS_MAX) {
            return Err(InvalidMeta::DisplayName);
        }
        if !text_within("avatar_url", |t| t.len() <= AVATAR_URL_BYTES_MAX) {
            return Err(InvalidMeta::AvatarUrl);
        }
        if utf8_form(&object).len() > META_BYTES_MAX {
            return Err(InvalidMeta::TooLarge);
        }
        Ok(Self(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse_object;

    fn meta(text: &str) -> Result<Meta, InvalidMeta> {
        Meta::try_from(parse_object(text).unwrap())
    }

    #[test]
    fn the_handle_falls_back_to_the_name_shown() {
        let both = Meta::named(Some("alice"), Some("Alice L.")).unwrap();
        assert_eq!((both.name(), both.display_name()), (Some("alice"), Some("Alice L.")));
        assert_eq!(meta(r#"{"display_name":"Bob"}"#).unwrap().name(), Some("Bob"));
        assert_eq!(meta("{}").unwrap().name(), None);
    }

    #[test]
    fn each_bound_holds() {
        assert_eq!(
            meta(&format!(r#"{{"display_name":"{}"}}"#, "é".repeat(65))),
            Err(InvalidMeta::DisplayName)
        );
        assert!(meta(&format!(r#"{{"display_name":"{}"}}"#, "é".repeat(64))).is_ok());
        assert_eq!(meta(r#"{"display_name":7}"#), Err(InvalidMeta::DisplayName));
        assert_eq!(
            meta(&format!(r#"{{"avatar_url":"{}"}}"#, "x".repeat(513))),
            Err(InvalidMeta::AvatarUrl)
        );
        assert_eq!(
            meta(&format!(r#"{{"extras":"{}"}}"#, "x".repeat(4096))),
            Err(InvalidMeta::TooLarge)
        );
    }
}
