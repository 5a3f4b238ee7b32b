//! Files on their way, as lines for people and as JSON for scripts.

use super::{address, clock_now, plain_address, remark};
use crate::safe_text::safe;
use serde_json::{Value, json};
use socp_client::{CHANNEL_ID, FileNews, FileProgress, FileReport, FileStage, Person, SendFault, Source};

/// Receivers that are named when they did not get a file; the others are counted.
const NAMED_COUNT_MAX: usize = 5;
/// From this size on people are told what a file costs its receiver.
const COST_BYTES_MIN: u64 = 256 * 1024;
/// Seconds of RSA that a MiB costs the receiver.
const COST_S_PER_MIB: u64 = 10;
const MIB: u64 = 1024 * 1024;

/// One line for people about a file that arrives; none while it does.
pub(crate) fn arriving(news: &FileNews) -> Option<String> {
    let mark = if news.verified { '✓' } else { '?' };
    let place = if news.is_for_channel() { " [all]" } else { "" };
    let head = format!(
        "[{}] {mark}{place} {} sends {:?} ({})",
        clock_now(),
        address(&news.from),
        Shown(&news.name),
        bytes(news.size)
    );
    match &news.stage {
        FileStage::Started => Some(head),
        FileStage::Receiving(_) => None,
        FileStage::Received(path) => Some(format!("{head}: complete, checked, kept as {}", safe(path))),
        FileStage::Failed(fault) => Some(remark(&format!(
            "the file {:?} from {} was given up: {fault}; nothing of it is kept",
            Shown(&news.name),
            plain_address(&news.from)
        ))),
    }
}

/// A name between quotation marks; what is dangerous in it is made harmless with the whole line, or here.
struct Shown<'a>(&'a str);

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", safe(self.0))
    }
}

/// One object for scripts about a file that arrives.
pub(crate) fn arriving_json(news: &FileNews) -> Value {
    let (status, path, received, detail) = match &news.stage {
        FileStage::Started => ("started", None, 0, None),
        FileStage::Receiving(bytes) => ("receiving", None, *bytes, None),
        FileStage::Received(path) => ("received", Some(path.as_str()), news.size, None),
        FileStage::Failed(fault) => ("failed", None, 0, Some(fault.to_string())),
    };
    let to = if news.is_for_channel() {
        CHANNEL_ID
    } else {
        news.to.as_str()
    };
    json!({
        "event": "file", "direction": "in", "id": news.id, "from": news.from.user_id.as_str(),
        "name": news.from.label(), "server": news.from.server_label(), "to": to, "file": news.name,
        "size": news.size, "received": received, "path": path, "status": status, "detail": detail,
        "verified": news.verified, "trust": news.from.standing.trust.to_string(),
    })
}

/// One object for scripts about a file on its way out.
pub(crate) fn leaving_json(file: &Source, progress: &FileProgress) -> Value {
    json!({
        "event": "file", "direction": "out", "to": progress.to.user_id.as_str(), "name": progress.to.label(),
        "file": file.name, "size": file.size, "sent": progress.sent, "member": progress.member,
        "members": progress.members, "status": "sending",
        "trust": progress.to.standing.trust.to_string(),
    })
}

/// One object for each receiver about how it ended.
pub(crate) fn left_json(file: &Source, report: &FileReport) -> Vec<Value> {
    let one = |person: &Person, status: &str, detail: Option<String>| {
        json!({
            "event": "file", "direction": "out", "to": person.user_id.as_str(), "name": person.label(),
            "file": file.name, "size": file.size, "status": status, "detail": detail,
            "trust": person.standing.trust.to_string(),
        })
    };
    let received = report.received.iter().map(|person| one(person, "received", None));
    let unconfirmed = report.unconfirmed.iter().map(|person| one(person, "unconfirmed", None));
    let gone = report.gone.iter().map(|person| one(person, "gone", None));
    let failed = report
        .failed
        .iter()
        .map(|(person, why)| one(person, "failed", Some(why.to_string())));
    received.chain(unconfirmed).chain(gone).chain(failed).collect()
}

/// Lines for people about how it ended, where it ended well.
pub(crate) fn left(file: &Source, report: &FileReport) -> Vec<String> {
    let name = Shown(&file.name);
    let received = report.received.iter().map(|person| {
        let size = bytes(file.size);
        format!(
            "{name:?} ({size}) was received by {}, size and SHA-256 checked",
            address(person)
        )
    });
    let unconfirmed = report.unconfirmed.iter().map(|person| {
        format!(
            "{name:?} was sent to {}; the receiver's program did not confirm",
            address(person)
        )
    });
    let gone = report
        .gone
        .iter()
        .map(|person| format!("{} left meanwhile", address(person)));
    received.chain(unconfirmed).chain(gone).collect()
}

/// Who is there and did not get it, if anybody, the first few by name; or that nobody is there any more.
pub(crate) fn not_sent(file: &Source, report: &FileReport) -> Option<String> {
    if report.failed.is_empty() {
        let went_to_nobody = report.received.is_empty() && report.unconfirmed.is_empty();
        let gone = match report.gone.as_slice() {
            [person] => format!("{} left meanwhile", plain_address(person)),
            _ => "everyone left meanwhile".to_owned(),
        };
        return went_to_nobody.then(|| format!("{:?} was sent to nobody: {gone}", Shown(&file.name)));
    }
    let one = |(person, why): &(Person, SendFault)| format!("{}: {why}", plain_address(person));
    let named: Vec<String> = report.failed.iter().take(NAMED_COUNT_MAX).map(one).collect();
    let others = match report.failed.len().saturating_sub(NAMED_COUNT_MAX) {
        0 => String::new(),
        count => format!("; and {count} more"),
    };
    Some(format!(
        "{:?} was not sent to {}{others}",
        Shown(&file.name),
        named.join("; ")
    ))
}

/// What a large file costs its receiver; nothing to say about a small one.
pub(crate) fn cost(file: &Source) -> Option<String> {
    if file.size <= COST_BYTES_MIN {
        return None;
    }
    let seconds = file.size.saturating_mul(COST_S_PER_MIB).div_ceil(MIB);
    Some(format!(
        "{:?} has {}; each MiB costs the receiver some ten seconds of RSA, this file about {seconds} s",
        Shown(&file.name),
        bytes(file.size)
    ))
}

/// A size like `12 KiB`.
fn bytes(size: u64) -> String {
    match size {
        0..1024 => format!("{size} bytes"),
        1024..MIB => format!("{} KiB", size.div_ceil(1024)),
        _ => {
            let tenths = size.saturating_mul(10).div_ceil(MIB);
            format!("{}.{} MiB", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socp_client::FileFault;
    use socp_proto::payload::FileMode;

    fn news(name: &str, stage: FileStage) -> FileNews {
        FileNews {
            id: "f-1".to_owned(),
            from: Person {
                user_id: "u-1".try_into().unwrap(),
                name: Some("alice".to_owned()),
                server_id: None,
                server_name: None,
                online: true,
                standing: socp_client::Standing::default(),
            },
            to: "me".try_into().unwrap(),
            mode: FileMode::Public,
            name: name.to_owned(),
            size: 3_000,
            verified: true,
            is_begun: true,
            stage,
        }
    }

    #[test]
    fn names_and_paths_reach_no_terminal_raw() {
        for stage in [
            FileStage::Started,
            FileStage::Received("/tmp/\u{1b}[2J".to_owned()),
            FileStage::Failed(FileFault::Hash),
        ] {
            let line = arriving(&news("x\u{1b}[2J\u{202e}", stage)).unwrap();
            assert!(!line.chars().any(socp_client::is_hostile), "{line:?}");
            assert!(line.contains("alice"), "{line}");
        }
        let source = Source {
            name: "x\n\u{1b}".to_owned(),
            size: MIB,
            sha256: String::new(),
        };
        assert!(!cost(&source).unwrap().chars().any(socp_client::is_hostile));
    }

    #[test]
    fn a_file_event_has_the_documented_fields() {
        let object = arriving_json(&news("x.png", FileStage::Received("/d/x.png".to_owned())));
        for (field, value) in [
            ("event", "file"),
            ("id", "f-1"),
            ("from", "u-1"),
            ("name", "alice"),
            ("to", CHANNEL_ID),
            ("file", "x.png"),
            ("path", "/d/x.png"),
            ("status", "received"),
        ] {
            assert_eq!(object[field], value);
        }
        assert_eq!(object["size"], 3_000);
        let failed = arriving_json(&news("x.png", FileStage::Failed(FileFault::Hash)));
        assert_eq!(
            (failed["status"].as_str(), failed["path"].as_str()),
            (Some("failed"), None)
        );
        assert!(failed["detail"].as_str().unwrap().contains("SHA-256"));
    }

    #[test]
    fn a_file_that_nobody_got_is_a_failure() {
        let person = news("x", FileStage::Started).from;
        let source = Source {
            name: "x.png".to_owned(),
            size: 1,
            sha256: String::new(),
        };
        let mut report = FileReport {
            gone: vec![person.clone()],
            ..FileReport::default()
        };
        let why = not_sent(&source, &report).unwrap();
        assert!(why.contains("alice") && why.contains("left meanwhile"), "{why}");
        report.gone.push(person.clone());
        let why = not_sent(&source, &report).unwrap();
        assert!(why.contains("everyone left meanwhile"), "{why}");
        report.unconfirmed.push(person.clone());
        assert_eq!(not_sent(&source, &report), None);
        (report.received, report.unconfirmed) = (vec![person], Vec::new());
        assert_eq!(not_sent(&source, &report), None);
    }

    #[test]
    fn a_large_file_is_announced_with_its_cost() {
        let source = |size| Source {
            name: "x".to_owned(),
            size,
            sha256: String::new(),
        };
        assert_eq!(cost(&source(COST_BYTES_MIN)), None);
        assert!(cost(&source(8 * MIB)).unwrap().ends_with("about 80 s"));
        assert_eq!(
            [bytes(5), bytes(2_000), bytes(MIB * 3 / 2)],
            ["5 bytes", "2 KiB", "1.5 MiB"]
        );
    }
}
