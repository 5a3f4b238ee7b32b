//! Events as lines for people and as JSON for scripts.

use crate::safe_text::safe;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use socp_client::{Event, Person};

/// `alice@srv-b`, harmless to a terminal.
pub(crate) fn address(person: &Person) -> String {
    match person.server_label() {
        Some(server) => safe(&format!("{}@{server}", person.label())),
        None => safe(person.label()),
    }
}

/// Wall time of a `ts`, like `12:34`; nothing for what no clock shows.
pub(crate) fn clock(ts: u64) -> String {
    let timestamp = i64::try_from(ts)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    match timestamp {
        Some(timestamp) => timestamp.to_zoned(TimeZone::system()).strftime("%H:%M").to_string(),
        None => "--:--".to_owned(),
    }
}

/// The time now, like `12:34`.
pub(crate) fn clock_now() -> String {
    Timestamp::now()
        .to_zoned(TimeZone::system())
        .strftime("%H:%M")
        .to_string()
}

/// One line for people; none for what only scripts want. A check mark says that the author's signature was verified.
pub(crate) fn human(event: &Event) -> Option<String> {
    match event {
        Event::Message(message) => Some(format!(
            "[{}] ✓ {}: {}",
            clock(message.ts),
            address(&message.from),
            safe(&message.text)
        )),
        Event::Notice { text, .. } => Some(remark(text)),
        Event::KeyChanged { user, pinned, seen } => Some(remark(&format!(
            "the server shows another key for {user}: pinned {}, now {}. It is not used; ask them by other means",
            pinned.short(),
            seen.short()
        ))),
        Event::Error { code, detail } => Some(remark(&format!("the server says {code} {detail}"))),
        Event::Offline { reason } => Some(remark(&format!("disconnected: {reason}"))),
        Event::Stopped(stop) => Some(remark(&stop.to_string())),
        Event::Online { server, first_contact } => {
            let name = server.name.as_deref().unwrap_or(server.id.as_str());
            let first = match first_contact {
                true => format!(
                    "; first contact, its key {} is now trusted",
                    server.key.fingerprint().short()
                ),
                false => String::new(),
            };
            Some(format!("[{}] * connected to {}{first}", clock_now(), safe(name)))
        }
        Event::Presence(_)
        | Event::Sent { .. }
        | Event::Failed { .. }
        | Event::Listed { .. }
        | Event::Resolved { .. } => None,
    }
}

/// Something that is nobody's words.
pub(crate) fn remark(text: &str) -> String {
    format!("[{}] ! {}", clock_now(), safe(text))
}

/// One object for scripts; none for what is an answer to a request.
pub(crate) fn as_json(event: &Event) -> Option<Value> {
    match event {
        Event::Message(message) => Some(json!({
            "event": "message", "id": message.id, "from": message.from.user_id.as_str(),
            "name": message.from.label(), "server": message.from.server_label(),
            "to": message.to.as_str(), "text": message.text, "ts": message.ts, "verified": true,
        })),
        Event::Presence(person) => {
            let mut object = person_json(person);
            if let Value::Object(fields) = &mut object {
                fields.insert("event".to_owned(), Value::from("presence"));
            }
            Some(object)
        }
        Event::Notice { from, text } => {
            Some(json!({ "event": "notice", "from": from.as_ref().map(|id| id.as_str()), "text": text }))
        }
        Event::KeyChanged { user, pinned, seen } => Some(json!({
            "event": "notice", "from": user.as_str(), "text": "the server shows another key; it is not used",
            "pinned": pinned.to_string(), "seen": seen.to_string(),
        })),
        Event::Error { code, detail } => Some(json!({ "event": "error", "code": code.as_str(), "detail": detail })),
        Event::Online { server, first_contact } => Some(json!({
            "event": "online", "server_id": server.id.as_str(), "server_name": server.name,
            "fingerprint": server.key.fingerprint().to_string(), "first_contact": first_contact,
        })),
        Event::Offline { reason } => Some(json!({ "event": "offline", "reason": reason })),
        Event::Stopped(stop) => Some(json!({ "event": "error", "code": "STOPPED", "detail": stop.to_string() })),
        Event::Sent { .. } | Event::Failed { .. } | Event::Listed { .. } | Event::Resolved { .. } => None,
    }
}

/// A user of the directory for scripts.
pub(crate) fn person_json(person: &Person) -> Value {
    json!({
        "user_id": person.user_id.as_str(),
        "name": person.name,
        "server_id": person.server_id.as_ref().map(|id| id.as_str()),
        "server_name": person.server_name,
        "online": person.online,
    })
}

/// The server's taking of a message for scripts.
pub(crate) fn receipt_json(msg_ref: &str, to: &Person) -> Value {
    json!({ "event": "receipt", "id": msg_ref, "to": to.user_id.as_str(), "status": "sent" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use socp_client::Message;

    fn message(text: &str) -> Event {
        let id = |id: &str| id.try_into().unwrap();
        let from = Person {
            user_id: id("u-1"),
            name: Some("al\u{1b}ice".to_owned()),
            server_id: None,
            server_name: Some("srv-b".to_owned()),
            online: true,
        };
        let (id, to) = ("ref".to_owned(), id("u-2"));
        Event::Message(Message {
            id,
            from,
            to,
            text: text.to_owned(),
            ts: 1_700_000_000_000,
        })
    }

    #[test]
    fn nothing_from_the_network_reaches_the_terminal_raw() {
        let line = human(&message("one\u{1b}[2J\ntwo")).unwrap();
        assert!(line.ends_with("✓ al\\u{1b}ice@srv-b: one\\u{1b}[2J\\u{a}two"), "{line}");
        let json = as_json(&message("one\u{1b}[2J\ntwo")).unwrap().to_string();
        assert!(!json.chars().any(char::is_control), "{json}");
    }

    #[test]
    fn a_message_event_has_the_documented_fields() {
        let json = as_json(&message("hi")).unwrap();
        for (field, value) in [
            ("event", "message"),
            ("id", "ref"),
            ("from", "u-1"),
            ("to", "u-2"),
            ("text", "hi"),
        ] {
            assert_eq!(json[field], value);
        }
        assert_eq!(
            (&json["verified"], &json["ts"]),
            (&Value::Bool(true), &Value::from(1_700_000_000_000_u64))
        );
    }

    #[test]
    fn a_ts_beyond_every_clock_is_shown_as_such() {
        assert_eq!(clock(u64::MAX), "--:--");
    }
}
