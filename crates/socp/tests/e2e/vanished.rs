//! Messages to people who are no longer where they are thought to be, across servers.

use crate::letter_client::{LetterClient, now_ms, test_key};
use crate::process::{User, eventually, json};
use crate::sites::{Site, Talker};
use crate::wires::Wires;
use serde_json::Value;

/// Two servers, of which the first hears of everyone who comes to the second, and of nobody who leaves.
struct Stage {
    wires: Wires,
    a: Site,
    b: Site,
    dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let (wires, dir) = (Wires::new(), tempfile::tempdir().unwrap());
        let a = Site::start(&wires, dir.path(), "a", &[]);
        let b = Site::start(&wires, dir.path(), "b", &[a.bootstrap()]);
        let deaf = a.id.clone();
        wires.alter(move |_, to, text| {
            let frame: Value = serde_json::from_str(text).unwrap();
            if frame["type"] == "USER_REMOVE" && to == deaf {
                return Vec::new();
            }
            vec![text.to_owned()]
        });
        Self { wires, a, b, dir }
    }

    /// Somebody at the second server who was there, and is thought to be there still; waits until that is so.
    fn vanished(&mut self, name: &str) -> User {
        let user = User::register(self.dir.path(), name, &self.b.served.url);
        let watch = user.watch(&[]);
        eventually("the arrival", || self.a.list().contains(&user.id).then_some(()));
        drop(watch);
        eventually("the departure", || (!self.b.list().contains(&user.id)).then_some(()));
        assert!(self.a.list().contains(&user.id), "the first server must not know");
        assert_eq!(self.wires.open().len(), 1);
        user
    }
}

#[test]
fn what_a_chat_says_to_somebody_who_has_vanished_waits_at_their_server() {
    let mut stage = Stage::new();
    let mut ann = Talker::register(stage.dir.path(), "ann", &stage.a.served.url);
    let bob = stage.vanished("bob");
    ann.chat.type_line(&format!("/tell {} are you there?", bob.id));
    let at_bob = bob.watch(&[]);
    let event = json(&at_bob.line_with("\"event\":\"message\""));
    assert_eq!(
        (&event["text"], &event["verified"]),
        (&"are you there?".into(), &true.into())
    );
}

#[test]
fn what_a_letter_client_says_to_somebody_who_has_vanished_waits_at_their_server() {
    let mut stage = Stage::new();
    let mut letter = LetterClient::hello(stage.a.served.address(), "letter", test_key("bob"), 32);
    let bob = stage.vanished("bob");
    let key = letter.key_of(&bob.id);
    let ts = now_ms();
    let payload = letter.sealed(&key, &bob.id, "are you there?", ts);
    letter.send_at("MSG_DIRECT", &bob.id, payload, ts);
    let at_bob = bob.watch(&[]);
    let event = json(&at_bob.line_with("\"event\":\"message\""));
    assert_eq!(
        (&event["text"], &event["verified"]),
        (&"are you there?".into(), &true.into())
    );
}
