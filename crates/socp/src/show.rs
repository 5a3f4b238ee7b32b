//! Events as lines for people and as JSON for scripts.

pub(crate) mod files;

use crate::safe_text::safe;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use socp_client::{
    Alarm, CHANNEL_ID, ChannelReport, Event, Message, Person, PostNews, PostState, Receipt, SentRef, TellFault, Trust,
};
use socp_proto::ErrorCode;

/// So many characters of an id stand for it beside a name.
const SHORT_ID_CHARS: usize = 8;
/// Members that are named when they did not get a message; the others are counted.
const NAMED_COUNT_MAX: usize = 5;

/// `alice@srv-b (verified)`, harmless to a terminal: the name and the marks beside it, the same everywhere.
pub(crate) fn address(person: &Person) -> String {
    safe(&plain_address(person))
}

/// The same as it came, for what is made harmless as a whole.
fn plain_address(person: &Person) -> String {
    let marks = marks(person);
    if marks.is_empty() {
        return plain_name(person);
    }
    format!("{} ({})", plain_name(person), marks.join(", "))
}

/// `alice@srv-b`, harmless to a terminal.
pub(crate) fn name(person: &Person) -> String {
    safe(&plain_name(person))
}

fn plain_name(person: &Person) -> String {
    match person.server_label() {
        Some(server) => format!("{}@{server}", person.label()),
        None => person.label().into_owned(),
    }
}

/// How far one can rely on a name being this person's: words, so that they need no colour. Most people have none.
fn marks(person: &Person) -> Vec<String> {
    let trust = match person.standing.trust {
        Trust::New => Some("new"),
        Trust::Pinned => None,
        Trust::Verified => Some("verified"),
        Trust::Changed => Some("KEY CHANGED"),
    };
    let confirmed = match person.standing.confirmed_count {
        0 => None,
        count => Some(format!("confirmed by {count}")),
    };
    let looks = person.standing.looks_like.as_ref();
    let looks = looks.map(|_| format!("looks like another: id {}", short(person.user_id.as_str())));
    trust
        .map(str::to_owned)
        .into_iter()
        .chain(confirmed)
        .chain(looks)
        .collect()
}

/// As much of an id as tells two people apart at a glance.
fn short(id: &str) -> String {
    id.chars().take(SHORT_ID_CHARS).collect()
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

/// Day and wall time of a `ts`, like `2026-11-22 12:34`.
pub(crate) fn day_and_clock(ts: u64) -> String {
    let timestamp = i64::try_from(ts)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    match timestamp {
        Some(timestamp) => {
            let zoned = timestamp.to_zoned(TimeZone::system());
            zoned.strftime("%Y-%m-%d %H:%M").to_string()
        }
        None => "----------------".to_owned(),
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
            "[{}] ✓ {}{}: {}",
            clock(message.ts),
            address(&message.from),
            if message.is_late { " (late)" } else { "" },
            safe(&message.text)
        )),
        Event::Post(news) if news.state == PostState::Failed => {
            let why = news.why.as_deref().unwrap_or("the server refused it");
            Some(remark(&format!("not delivered to {}: {why}", plain_address(&news.to))))
        }
        Event::Gap { from, count } => Some(remark(&gap(from, *count))),
        Event::Channel(message) => Some(format!(
            "[{}] ✓ [all] {}: {}",
            clock(message.ts),
            address(&message.from),
            safe(&message.text)
        )),
        Event::File(news) => files::arriving(news),
        Event::Notice { text, .. } => Some(remark(text)),
        Event::KeyChanged { alarm, .. } => Some(remark(&TellFault::from(alarm).to_string())),
        Event::Error { code, detail, about } => Some(remark(&refusal(code, detail, about.as_ref()))),
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
        | Event::Post(_)
        | Event::AccountChanged { .. }
        | Event::Sent { .. }
        | Event::Failed { .. }
        | Event::ChannelSent { .. }
        | Event::FileProgress { .. }
        | Event::FileSent { .. }
        | Event::Listed { .. }
        | Event::Resolved { .. }
        | Event::PasswordBegun { .. }
        | Event::PasswordSet { .. } => None,
    }
}

fn gap(from: &Person, count: u64) -> String {
    let messages = if count == 1 { "a message" } else { "messages" };
    format!(
        "{messages} of {} did not come ({count}); asked for again",
        plain_address(from)
    )
}

fn refusal(code: &ErrorCode, detail: &str, about: Option<&SentRef>) -> String {
    match about {
        Some(sent) if *code == ErrorCode::UserNotFound => {
            format!(
                "not delivered to {}: they cannot be reached any more",
                plain_address(&sent.to)
            )
        }
        Some(sent) => format!(
            "not delivered to {}: the server says {code} {detail}",
            plain_address(&sent.to)
        ),
        None => format!("the server says {code} {detail}"),
    }
}

/// Something that is nobody's words.
pub(crate) fn remark(text: &str) -> String {
    format!("[{}] ! {}", clock_now(), safe(text))
}

/// One object for scripts; none for what is an answer to a request.
pub(crate) fn as_json(event: &Event) -> Option<Value> {
    match event {
        Event::Message(message) => Some(message_json("message", message.to.as_str(), message)),
        Event::Channel(message) => Some(message_json("channel", CHANNEL_ID, message)),
        Event::File(news) => Some(files::arriving_json(news)),
        Event::Post(news) => Some(state_json(news)),
        Event::Gap { from, count } => Some(json!({
            "event": "gap", "from": from.user_id.as_str(), "name": from.label(), "count": count,
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
        Event::KeyChanged { alarm, known } => {
            let mut object = alarm_json(alarm);
            if let Value::Object(fields) = &mut object {
                fields.insert("event".to_owned(), Value::from("alarm"));
                fields.insert(
                    "known".to_owned(),
                    known.map_or(Value::Null, |known| known.to_string().into()),
                );
            }
            Some(object)
        }
        Event::Error { code, detail, about } => {
            let mut object = json!({ "event": "error", "code": code.as_str(), "detail": detail });
            if let (Value::Object(fields), Some(sent)) = (&mut object, about) {
                fields.insert("msg_ref".to_owned(), Value::from(sent.msg_ref.as_str()));
                fields.insert("to".to_owned(), Value::from(sent.to.user_id.as_str()));
                fields.insert("name".to_owned(), Value::from(sent.to.label()));
            }
            Some(object)
        }
        Event::Online { server, first_contact } => Some(json!({
            "event": "online", "server_id": server.id.as_str(), "server_name": server.name,
            "fingerprint": server.key.fingerprint().to_string(), "first_contact": first_contact,
        })),
        Event::Offline { reason } => Some(json!({ "event": "offline", "reason": reason })),
        Event::Stopped(stop) => Some(json!({ "event": "error", "code": "STOPPED", "detail": stop.to_string() })),
        Event::Sent { .. }
        | Event::AccountChanged { .. }
        | Event::Failed { .. }
        | Event::ChannelSent { .. }
        | Event::FileProgress { .. }
        | Event::FileSent { .. }
        | Event::Listed { .. }
        | Event::Resolved { .. }
        | Event::PasswordBegun { .. }
        | Event::PasswordSet { .. } => None,
    }
}

/// Another key than the known one, for scripts.
pub(crate) fn alarm_json(alarm: &Alarm) -> Value {
    json!({
        "user_id": alarm.user.as_str(), "seen": alarm.seen.to_string(), "teller": alarm.teller.to_string(),
        "detail": TellFault::from(alarm).to_string(),
    })
}

fn message_json(event: &str, to: &str, message: &Message) -> Value {
    json!({
        "event": event, "id": message.id, "from": message.from.user_id.as_str(),
        "name": message.from.label(), "server": message.from.server_label(),
        "to": to, "text": message.text, "ts": message.ts, "verified": true, "late": message.is_late,
        "trust": message.from.standing.trust.to_string(),
    })
}

/// A user of the directory for scripts.
pub(crate) fn person_json(person: &Person) -> Value {
    json!({
        "user_id": person.user_id.as_str(),
        "name": person.name,
        "server_id": person.server_id.as_ref().map(|id| id.as_str()),
        "server_name": person.server_name,
        "online": person.online,
        "trust": person.standing.trust.to_string(),
        "confirmed": person.standing.confirmed_count,
        "looks_like": person.standing.looks_like.as_ref().map(|id| id.as_str()),
    })
}

/// How far an own message is, for scripts: `receipt` where its recipient's program says so, else `state`.
fn state_json(news: &PostNews) -> Value {
    let is_receipt = matches!(news.state, PostState::Delivered | PostState::Read);
    let event = if is_receipt { "receipt" } else { "state" };
    let state = news.state.as_str();
    json!({
        "event": event, "id": news.msg_ref, "to": news.to.user_id.as_str(), "name": news.to.label(),
        "status": state, "state": state, "detail": news.why, "trust": news.to.standing.trust.to_string(),
    })
}

/// The server's taking of a message for scripts.
pub(crate) fn receipt_json(receipt: &Receipt, to: &Person) -> Value {
    let status = match receipt.state {
        PostState::Queued => "queued",
        PostState::Failed => "failed",
        PostState::Delivered => "delivered",
        PostState::Read => "read",
        PostState::Sent | PostState::OnServer | PostState::OnTheirServer => "sent",
    };
    json!({
        "event": "receipt", "id": receipt.msg_ref, "to": to.user_id.as_str(), "status": status,
        "state": receipt.state.as_str(), "server": receipt.server.as_ref().map(|id| id.as_str()),
        "trust": to.standing.trust.to_string(),
    })
}

/// How a message to the channel went, for scripts.
pub(crate) fn channel_receipt_json(report: &ChannelReport) -> Value {
    let ids = |people: &[Person]| {
        people
            .iter()
            .map(|person| person.user_id.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    let failed: Vec<Value> = report
        .failed
        .iter()
        .map(|(person, why)| json!({ "to": person.user_id.as_str(), "name": person.label(), "why": why.to_string() }))
        .collect();
    let status = match (report.sent.is_empty(), failed.is_empty()) {
        (false, true) => "sent",
        (false, false) => "partial",
        (true, _) => "failed",
    };
    json!({
        "event": "receipt", "to": CHANNEL_ID, "ts": report.ts, "status": status, "count": report.sent.len(),
        "sent": ids(&report.sent), "gone": ids(&report.gone), "failed": failed,
    })
}

/// How a message to the channel went, for people.
pub(crate) fn channel_receipt(report: &ChannelReport) -> String {
    let gone = match report.gone.len() {
        0 => String::new(),
        count => format!("; {count} left meanwhile"),
    };
    format!("sent to {} of the channel{gone}", members(report.sent.len()))
}

/// Who is there and did not get it, if anybody, the first few by name; or that nobody is there any more.
pub(crate) fn channel_failure(report: &ChannelReport) -> Option<String> {
    if report.failed.is_empty() {
        let is_left = report.sent.is_empty();
        return is_left.then(|| "sent to nobody: every member of the channel left meanwhile".to_owned());
    }
    let name = |(person, why): &(Person, TellFault)| format!("{}: {why}", plain_address(person));
    let named: Vec<String> = report.failed.iter().take(NAMED_COUNT_MAX).map(name).collect();
    let others = match report.failed.len().saturating_sub(NAMED_COUNT_MAX) {
        0 => String::new(),
        count => format!("; and {count} more"),
    };
    Some(format!(
        "not sent to {} ({}{others})",
        members(report.failed.len()),
        named.join("; ")
    ))
}

fn members(count: usize) -> String {
    format!("{count} member{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use socp_client::Standing;

    #[test]
    fn marks_are_words_beside_the_name() {
        let person = |trust, confirmed_count, looks_like: Option<&str>| Person {
            user_id: "0123456789".try_into().unwrap(),
            name: Some("b\u{3bf}b".to_owned()),
            server_id: None,
            server_name: Some("srv".to_owned()),
            online: true,
            standing: Standing {
                trust,
                confirmed_count,
                looks_like: looks_like.map(|id| id.try_into().unwrap()),
            },
        };
        let table = [
            (person(Trust::Pinned, 0, None), "b\u{3bf}b@srv"),
            (person(Trust::New, 0, None), "b\u{3bf}b@srv (new)"),
            (
                person(Trust::Verified, 2, None),
                "b\u{3bf}b@srv (verified, confirmed by 2)",
            ),
            (person(Trust::Changed, 0, None), "b\u{3bf}b@srv (KEY CHANGED)"),
            (
                person(Trust::Pinned, 0, Some("bob-id")),
                "b\u{3bf}b@srv (looks like another: id 01234567)",
            ),
        ];
        for (person, shown) in table {
            assert_eq!(address(&person), shown);
        }
    }

    fn message(text: &str) -> Event {
        let id = |id: &str| id.try_into().unwrap();
        let from = Person {
            user_id: id("u-1"),
            name: Some("al\u{1b}ice".to_owned()),
            server_id: None,
            server_name: Some("srv-b".to_owned()),
            online: true,
            standing: Standing::default(),
        };
        let (id, to) = ("ref".to_owned(), id("u-2"));
        Event::Message(Message {
            id,
            from,
            to,
            text: text.to_owned(),
            ts: 1_700_000_000_000,
            is_late: false,
        })
    }

    #[test]
    fn nothing_from_the_network_reaches_the_terminal_raw() {
        let line = human(&message("one\u{1b}[2J\ntwo")).unwrap();
        assert!(
            line.ends_with("✓ al\\u{1b}ice@srv-b (new): one\\u{1b}[2J\\u{a}two"),
            "{line}"
        );
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
    fn the_channel_is_told_from_a_conversation() {
        let Event::Message(said) = message("hi") else {
            return;
        };
        let event = Event::Channel(said);
        assert!(human(&event).unwrap().ends_with("✓ [all] al\\u{1b}ice@srv-b (new): hi"));
        let json = as_json(&event).unwrap();
        assert_eq!(
            (json["event"].as_str(), json["to"].as_str()),
            (Some("channel"), Some(CHANNEL_ID))
        );
        assert_eq!(
            (json["from"].as_str(), json["text"].as_str()),
            (Some("u-1"), Some("hi"))
        );
    }

    #[test]
    fn a_refusal_that_comes_late_names_whom_the_message_did_not_reach() {
        let Event::Message(said) = message("hi") else {
            return;
        };
        let about = Some(SentRef {
            msg_ref: "ref".to_owned(),
            to: said.from,
        });
        let (code, detail) = (ErrorCode::UserNotFound, "u-1".to_owned());
        let event = Event::Error { code, detail, about };
        let line = human(&event).unwrap();
        assert!(line.contains("not delivered to al\\u{1b}ice@srv-b"), "{line}");
        let json = as_json(&event).unwrap();
        for (field, value) in [
            ("event", "error"),
            ("code", "USER_NOT_FOUND"),
            ("msg_ref", "ref"),
            ("to", "u-1"),
        ] {
            assert_eq!(json[field], value);
        }
    }

    #[test]
    fn who_did_not_get_a_message_to_the_channel_is_named() {
        let Event::Message(said) = message("hi") else {
            return;
        };
        let report = |sent: usize, failed: usize| ChannelReport {
            ts: 1,
            sent: vec![said.from.clone(); sent],
            gone: Vec::new(),
            failed: vec![(said.from.clone(), TellFault::NoAnswer); failed],
        };
        assert_eq!(channel_failure(&report(2, 0)), None);
        assert!(channel_failure(&report(0, 0)).unwrap().contains("left meanwhile"));
        let why = channel_failure(&report(1, 7)).unwrap();
        assert!(
            why.starts_with("not sent to 7 members (") && why.ends_with("; and 2 more)"),
            "{why}"
        );
        for (sent, failed, status) in [(1, 0, "sent"), (1, 1, "partial"), (0, 1, "failed"), (0, 0, "failed")] {
            let json = channel_receipt_json(&report(sent, failed));
            assert_eq!(
                (json["status"].as_str(), json["count"].as_u64()),
                (Some(status), sent.try_into().ok())
            );
        }
    }

    #[test]
    fn a_ts_beyond_every_clock_is_shown_as_such() {
        assert_eq!(clock(u64::MAX), "--:--");
    }
}
