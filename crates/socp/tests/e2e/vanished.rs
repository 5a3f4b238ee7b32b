//! Messages to people who are no longer where they are thought to be: the author is told, across servers.

use crate::letter_client::{LetterClient, decode, encode, now_ms, test_key};
use crate::process::{Process, User, eventually, json};
use crate::sites::{Site, Talker};
use crate::wires::Wires;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

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

    /// Waits until the first server knows better.
    fn is_corrected(&mut self, user: &User) {
        eventually("the correction", || (!self.a.list().contains(&user.id)).then_some(()));
    }
}

/// Waits until a chat has said that its message was not delivered: at once, or after its own server had taken it.
fn told_of(chat: &Process, user: &User, name: &str) {
    let mut receipt = None;
    loop {
        let event = json(&chat.line());
        match (event["event"].as_str().unwrap(), event["code"].as_str()) {
            ("receipt", None) => receipt = Some(event["id"].clone()),
            ("error", Some("USER_NOT_FOUND")) => {
                assert_eq!(
                    (&event["to"], &event["name"]),
                    (&user.id.as_str().into(), &name.into()),
                    "{event}"
                );
                assert_eq!(Some(event["msg_ref"].clone()), receipt, "{event}");
                return;
            }
            ("error", code) => {
                assert_eq!((code, &receipt), (Some("NOT_SENT"), &None), "{event}");
                assert!(event["detail"].as_str().unwrap().contains(name), "{event}");
                return;
            }
            _ => {}
        }
    }
}

#[test]
fn a_chat_says_that_a_message_was_not_delivered_on_another_server() {
    let mut stage = Stage::new();
    let mut ann = Talker::register(stage.dir.path(), "ann", &stage.a.served.url);
    let bob = stage.vanished("bob");
    ann.chat.type_line(&format!("/tell {} are you there?", bob.id));
    told_of(&ann.chat, &bob, "bob");
    stage.is_corrected(&bob);

    // Back again, the same words arrive.
    let at_bob = bob.watch(&[]);
    eventually("the return", || stage.a.list().contains(&bob.id).then_some(()));
    ann.chat.type_line(&format!("/tell {} are you there?", bob.id));
    let event = json(&at_bob.line_with("\"event\":\"message\""));
    assert_eq!(
        (&event["text"], &event["verified"]),
        (&"are you there?".into(), &true.into())
    );
}

#[test]
fn a_letter_client_is_told_which_message_was_not_delivered_on_another_server() {
    let mut stage = Stage::new();
    let mut letter = LetterClient::hello(stage.a.served.address(), "letter", test_key("bob"), 32);
    let bob = stage.vanished("bob");
    let key = letter.key_of(&bob.id);
    let ts = now_ms();
    let payload = letter.sealed(&key, &bob.id, "are you there?", ts);
    let content_sig = decode(payload["content_sig"].as_str().unwrap());
    letter.send_at("MSG_DIRECT", &bob.id, payload, ts);
    let error = letter.receive_type("ERROR");
    letter.check_transport(&error);
    assert_eq!(error["payload"]["code"], "USER_NOT_FOUND");
    assert_eq!(error["payload"]["detail"], bob.id.as_str());
    assert_eq!(error["payload"]["msg_ref"], encode(&Sha256::digest(content_sig)[..16]));
    stage.is_corrected(&bob);
}
