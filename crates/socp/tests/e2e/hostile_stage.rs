//! A server under test between a hostile peer and everyone whom that must not disturb: an honest peer with a user, and a
//! user of its own.

use crate::letter_client::{LetterClient, now_ms, test_key};
use crate::letter_server::{advertise, delivery, is_probe_answer, join, send_probe};
use crate::process::{Served, eventually};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// An honest peer with a user, whose link must survive whatever another does.
pub(crate) const HONEST: &str = "honest-server";
pub(crate) const PIA: &str = "pia";
/// The one that breaks the protocol, and its user.
pub(crate) const HOSTILE: &str = "hostile-server";
pub(crate) const MAL: &str = "mal";
/// Ours.
pub(crate) const BYSTANDER: &str = "bystander";

/// What comes back.
pub(crate) enum Answer {
    /// An `ERROR` with this code; the link goes on.
    Refused(&'static str),
    /// Nothing; the link goes on.
    Nothing,
    /// The link is closed with this code.
    Closed(u16),
    /// An `ERROR` with this code, and the link is closed with that one.
    Ended(&'static str, u16),
}
use Answer::{Closed, Ended, Nothing, Refused};

pub(crate) struct Stage {
    pub(crate) server: Served,
    pub(crate) bystander: LetterClient,
    pub(crate) honest: LetterClient,
    _dir: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Served::start(dir.path(), "srv", &["--accept", "open"]);
        let bystander = LetterClient::hello(server.address(), BYSTANDER, test_key("alice"), 32);
        let mut honest = join(server.address(), HONEST, "bob");
        advertise(&mut honest, PIA, "exponent_65539");
        let mut stage = Self {
            server,
            bystander,
            honest,
            _dir: dir,
        };
        stage.check_undisturbed();
        stage
    }

    pub(crate) fn stranger(&self) -> LetterClient {
        LetterClient::connect(self.server.address(), HOSTILE, test_key("server"), 32)
    }

    /// The hostile server, joined, with its user known.
    pub(crate) fn hostile(&mut self) -> LetterClient {
        let mut hostile = join(self.server.address(), HOSTILE, "server");
        assert_eq!(hostile.user, HOSTILE);
        advertise(&mut hostile, MAL, "server");
        self.sees(&[MAL]);
        hostile
    }

    /// Waits until our user's list shows the honest ones, each where they are, and these; meanwhile nothing else comes.
    pub(crate) fn sees(&mut self, others: &[&str]) {
        let server = self.bystander.server_id.clone();
        let hostile = others.iter().map(|user| (*user, HOSTILE));
        let expected: BTreeMap<&str, &str> = [(BYSTANDER, server.as_str()), (PIA, HONEST)]
            .into_iter()
            .chain(hostile)
            .collect();
        eventually("the list to be right", || {
            self.bystander.send("LIST_REQUEST", &server, json!({}));
            let list = self.receive_at_bystander("LIST_RESPONSE")["payload"]["online"].clone();
            let text = |user: &Value, key: &str| user[key].as_str().unwrap().to_owned();
            let list: BTreeMap<String, String> = list
                .as_array()
                .unwrap()
                .iter()
                .map(|user| (text(user, "user_id"), text(user, "server_id")))
                .collect();
            list.iter()
                .map(|(user, home)| (&**user, &**home))
                .eq(expected.clone())
                .then_some(())
        });
    }

    /// The next frame of this type at our user. Before it nothing comes but what is said of the hostile server's user
    /// and of the channel's version.
    pub(crate) fn receive_at_bystander(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.bystander.receive();
            self.bystander.check_transport(&frame);
            if frame["type"] == kind {
                return frame;
            }
            let text = |key: &str| frame["payload"][key].as_str().unwrap_or_default();
            let (user, home, here) = (text("user_id"), text("server_id"), self.bystander.server_id.as_str());
            let homes = [(MAL, HOSTILE), (PIA, HONEST), (BYSTANDER, here)];
            match frame["type"].as_str().unwrap() {
                "USER_ADVERTISE" => assert!(homes.contains(&(user, home)), "{user} at {home}"),
                "USER_REMOVE" => assert_eq!(user, MAL),
                "PUBLIC_CHANNEL_UPDATED" => {}
                _ => panic!("our user is told {frame}"),
            }
        }
    }

    /// Messages pass between our user and the honest peer's, both ways, and the list is what it was.
    pub(crate) fn check_undisturbed(&mut self) {
        self.sees(&[]);
        let pia = test_key("exponent_65539");
        let ts = now_ms();
        let payload = self.bystander.sealed(&pia.spki, PIA, "still there?", ts);
        self.bystander.send_at("MSG_DIRECT", PIA, payload.clone(), ts);
        let delivered = self.honest.receive_type("SERVER_DELIVER");
        self.honest.check_transport(&delivered);
        assert_eq!(delivered["payload"]["content_sig"], payload["content_sig"]);

        let ts = now_ms();
        let bystander_spki = self.bystander.key.spki.clone();
        let payload = delivery(PIA, &pia, BYSTANDER, &bystander_spki, "yes", ts);
        let server = self.honest.server_id.clone();
        self.honest.send_at("SERVER_DELIVER", &server, payload.clone(), ts);
        let delivered = self.receive_at_bystander("USER_DELIVER");
        assert_eq!(delivered["payload"]["content_sig"], payload["content_sig"]);
    }

    /// Sends what the row says on a link of the hostile server, and checks what comes back and that nobody noticed.
    pub(crate) fn play(&mut self, what: &str, act: impl FnOnce(&mut LetterClient), answer: &Answer) {
        println!("{what}");
        let mut hostile = self.hostile();
        act(&mut hostile);
        match answer {
            Refused(code) => {
                check_refusal(what, &mut hostile, code);
                self.is_alive(what, &mut hostile);
            }
            Ended(code, close) => {
                check_refusal(what, &mut hostile, code);
                assert_eq!(hostile.receive_close(), *close, "{what}");
            }
            Nothing => self.is_alive(what, &mut hostile),
            Closed(code) => assert_eq!(hostile.receive_close(), *code, "{what}"),
        }
        drop(hostile);
        self.check_undisturbed();
    }

    /// The hostile server's own link goes on: a message is answered, and nothing was before it.
    pub(crate) fn is_alive(&mut self, what: &str, hostile: &mut LetterClient) {
        send_probe(hostile, MAL);
        let error = hostile.receive_type("ERROR");
        assert!(is_probe_answer(&error), "{what}: {error}");
        self.sees(&[MAL]);
    }
}

fn check_refusal(what: &str, hostile: &mut LetterClient, code: &str) {
    let error = hostile.receive_type("ERROR");
    hostile.check_transport(&error);
    assert_eq!(error["payload"]["code"], code, "{what}: {error}");
    assert_ne!(error["payload"]["detail"], "", "{what}");
}
