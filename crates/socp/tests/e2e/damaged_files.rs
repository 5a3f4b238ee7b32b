//! Files that are damaged on the way, by the network or by a server that lies: both people are told, and nothing
//! half-written stays.
//!
//! Both servers have keys out of the vectors, so that what is altered can be signed anew, as a hostile server would; and
//! they sign with no other key, which nobody outside knows.

use crate::data_dirs;
use crate::letter_client::{LetterClient, TestKey, encode, seal, sign, test_key};
use crate::pictures::{arrival, arrived, png, save};
use crate::process::{Process, User, eventually, failure_of, json, output_of};
use crate::sites::Site;
use crate::wires::{Gate, Wires};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// Where the damage is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Between the two servers.
    BetweenServers,
    /// Between the receiver and the receiver's server.
    LastMile,
}

/// Who does it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    /// Somebody without a key.
    Network,
    /// The server that sends the frame on at this place: it signs what it sends.
    Server,
}

/// What becomes of the frames of the transfer, each with its type and, for a chunk, its index.
type Damage = fn(&mut Held, &str, Option<u64>, Value) -> Vec<Value>;

/// A frame that was held back.
type Held = Option<Value>;

/// What both people must be told of.
enum Outcome {
    /// The file arrived whole all the same.
    Whole,
    /// It was given up, for a reason that contains this.
    GivenUp(&'static str),
}
use Outcome::{GivenUp, Whole};

struct Stage {
    wires: Wires,
    dir: TempDir,
    a: Site,
    b: Site,
    alice: User,
    bob: User,
    at_bob: Process,
    _gate_of_bob: Gate,
}

/// The servers' keys out of the vectors.
const KEYS: [(&str, &str); 2] = [("a", "server"), ("b", "bob")];

impl Stage {
    fn new() -> Self {
        let (wires, dir) = (Wires::new(), tempfile::tempdir().unwrap());
        for (name, key) in KEYS {
            data_dirs::with_key(&dir.path().join(name), key);
        }
        let own_key = ["--delegate", "off"];
        let a = Site::start_with(&wires, dir.path(), "a", &[], &own_key);
        let b = Site::start_with(&wires, dir.path(), "b", &[a.bootstrap()], &own_key);
        for (site, (_, key)) in [&a, &b].into_iter().zip(KEYS) {
            assert_eq!(site.served.pubkey, test_key(key).spki);
        }
        let alice = User::register(dir.path(), "alice", &a.served.url);
        let gate_of_bob = wires.gate(&b.id, b.served.address());
        let bob = User::register(dir.path(), "bob", &format!("ws://{}", gate_of_bob.address));
        let at_bob = bob.watch(&[]);
        eventually("bob to be seen", || alice.listed().contains(&bob.id).then_some(()));
        Self {
            wires,
            dir,
            a,
            b,
            alice,
            bob,
            at_bob,
            _gate_of_bob: gate_of_bob,
        }
    }

    /// Does this damage from now on.
    fn damage(
        &self,
        place: Place,
        by: By,
        mut damage: impl FnMut(&mut Held, &str, Option<u64>, Value) -> Vec<Value> + Send + 'static,
    ) {
        let (from, to, key) = match place {
            Place::BetweenServers => (self.a.id.clone(), self.b.id.clone(), test_key(KEYS[0].1)),
            Place::LastMile => (self.b.id.clone(), self.bob.id.clone(), test_key(KEYS[1].1)),
        };
        let mut held = None;
        self.wires.alter(move |sender, receiver, text| {
            let frame: Value = serde_json::from_str(text).unwrap();
            let kind = frame["type"].as_str().unwrap().to_owned();
            let is_meant = sender == from && receiver == to && kind.starts_with("FILE_");
            if !is_meant {
                return vec![text.to_owned()];
            }
            let index = frame["payload"]["index"].as_u64();
            let frames = damage(&mut held, &kind, index, frame.clone());
            frames
                .into_iter()
                .map(|altered| {
                    if by == By::Server {
                        sign_anew(altered, &key)
                    } else {
                        altered
                    }
                })
                .map(|altered| altered.to_string())
                .collect()
        });
    }

    /// Sends a picture through it; both people must be told the same, and nothing but a whole file may stay.
    fn play(&self, what: &str, outcome: &Outcome) {
        let before = arrived(&self.bob).len();
        let bytes = png(40);
        let picture = save(self.dir.path(), "picture.png", &bytes);
        let output = output_of(&mut self.alice.socp(&["--json", "file", "bob", picture.to_str().unwrap()]));
        let (said, why) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        let end = json(said.lines().last().unwrap());
        let event = arrival(&self.at_bob);
        println!("{what}: author {} {why:?}, receiver {}", end["detail"], event["detail"]);
        match outcome {
            Whole => {
                assert_eq!(
                    (output.status.code(), &end["status"]),
                    (Some(0), &"received".into()),
                    "{what}: {why}"
                );
                assert_eq!(event["status"], "received", "{what}: {event}");
                assert!(
                    std::fs::read(event["path"].as_str().unwrap()).unwrap() == bytes,
                    "{what}"
                );
                assert_eq!(arrived(&self.bob).len(), before + 1, "{what}");
            }
            GivenUp(reason) => {
                assert_eq!(
                    (output.status.code(), &end["status"]),
                    (Some(1), &"failed".into()),
                    "{what}: {said}"
                );
                assert_eq!(why.lines().count(), 1, "{what}: {why}");
                assert!(
                    why.contains(reason) && why.contains("bob"),
                    "{what}: the author reads {why}"
                );
                assert_eq!(
                    (&event["status"], &event["path"]),
                    (&"failed".into(), &Value::Null),
                    "{what}: {event}"
                );
                assert!(event["detail"].as_str().unwrap().contains(reason), "{what}: {event}");
                assert_eq!(arrived(&self.bob).len(), before, "{what}: {:?}", arrived(&self.bob));
            }
        }
    }
}

fn sign_anew(mut frame: Value, key: &TestKey) -> Value {
    frame["sig"] = sign(&key.private, 32, frame["payload"].to_string().as_bytes()).into();
    frame
}

fn flip(_: &mut Held, _: &str, index: Option<u64>, mut frame: Value) -> Vec<Value> {
    if index == Some(3) {
        frame["payload"]["ciphertext"] = encode(&[7; 512]).into();
    }
    vec![frame]
}

fn drop_one(_: &mut Held, _: &str, index: Option<u64>, frame: Value) -> Vec<Value> {
    if index == Some(3) { Vec::new() } else { vec![frame] }
}

fn drop_last(_: &mut Held, _: &str, index: Option<u64>, frame: Value) -> Vec<Value> {
    let is_last = index.is_some_and(|index| frame["payload"]["total"] == index + 1);
    if is_last { Vec::new() } else { vec![frame] }
}

fn duplicate(_: &mut Held, _: &str, index: Option<u64>, frame: Value) -> Vec<Value> {
    if index == Some(3) {
        vec![frame.clone(), frame]
    } else {
        vec![frame]
    }
}

fn reorder(held: &mut Held, _: &str, index: Option<u64>, frame: Value) -> Vec<Value> {
    match index {
        Some(3) => {
            *held = Some(frame);
            Vec::new()
        }
        Some(4) => std::iter::once(frame).chain(held.take()).collect(),
        _ => vec![frame],
    }
}

fn renumber(_: &mut Held, _: &str, index: Option<u64>, mut frame: Value) -> Vec<Value> {
    // Two chunks change places without anyone seeing it in their order.
    match index {
        Some(3) => frame["payload"]["index"] = 4.into(),
        Some(4) => frame["payload"]["index"] = 3.into(),
        _ => {}
    }
    vec![frame]
}

fn exchange(held: &mut Held, kind: &str, index: Option<u64>, frame: Value) -> Vec<Value> {
    let mut frames = reorder(held, kind, index, frame);
    if frames.len() == 2 {
        for (frame, index) in frames.iter_mut().zip([3, 4]) {
            frame["payload"]["index"] = index.into();
        }
    }
    frames
}

fn strip_signature(_: &mut Held, _: &str, index: Option<u64>, mut frame: Value) -> Vec<Value> {
    if index == Some(3) {
        let payload = frame["payload"].as_object_mut().unwrap();
        payload.remove("content_sig");
        payload.remove("sender_pub");
    }
    vec![frame]
}

fn rename(_: &mut Held, kind: &str, _: Option<u64>, mut frame: Value) -> Vec<Value> {
    if kind == "FILE_START" {
        frame["payload"]["name"] = ".bashrc".into();
    }
    vec![frame]
}

fn another_hash(_: &mut Held, kind: &str, _: Option<u64>, mut frame: Value) -> Vec<Value> {
    if kind == "FILE_START" {
        frame["payload"]["sha256"] = "0".repeat(64).into();
    }
    vec![frame]
}

fn end_early(_: &mut Held, _: &str, index: Option<u64>, frame: Value) -> Vec<Value> {
    if index != Some(3) {
        return vec![frame];
    }
    let mut end = frame.clone();
    end["type"] = "FILE_END".into();
    end["payload"] = json!({"file_id": frame["payload"]["file_id"]});
    vec![end, frame]
}

/// Without any signature of the author, as programs of others send files, and altered.
fn strip_all_and_flip(_: &mut Held, _: &str, index: Option<u64>, mut frame: Value) -> Vec<Value> {
    let payload = frame["payload"].as_object_mut().unwrap();
    for field in ["content_sig", "sender_pub", "total"] {
        payload.remove(field);
    }
    if index == Some(3) {
        payload.insert("ciphertext".to_owned(), encode(&[7; 512]).into());
    }
    vec![frame]
}

const ORDER: &str = "part 4 came where part 3 was due";
const SIGNATURE: &str = "a signature does not fit";

#[test]
fn a_file_damaged_between_servers_is_noticed_by_both_people() {
    let stage = Stage::new();
    let table: [(&str, By, Damage, Outcome); 9] = [
        ("a chunk altered", By::Network, flip, GivenUp(ORDER)),
        ("a chunk dropped", By::Network, drop_one, GivenUp(ORDER)),
        (
            "the last chunk dropped",
            By::Network,
            drop_last,
            GivenUp("it ended after"),
        ),
        ("a chunk sent twice", By::Network, duplicate, Whole),
        ("two chunks in the wrong order", By::Network, reorder, GivenUp(ORDER)),
        (
            "an end too early",
            By::Server,
            end_early,
            GivenUp("it ended after 3 of"),
        ),
        ("a chunk altered and signed", By::Server, flip, GivenUp(SIGNATURE)),
        (
            "a chunk stripped of its author's signature",
            By::Server,
            strip_signature,
            GivenUp("part 3 is not signed"),
        ),
        ("another name", By::Server, rename, GivenUp(SIGNATURE)),
    ];
    for (what, by, damage, outcome) in table {
        stage.damage(Place::BetweenServers, by, damage);
        stage.play(what, &outcome);
    }
}

#[test]
fn a_file_damaged_by_the_receivers_own_server_is_noticed_by_both_people() {
    let stage = Stage::new();
    let table: [(&str, By, Damage, Outcome); 9] = [
        ("a chunk altered", By::Network, flip, GivenUp(ORDER)),
        ("a chunk altered and signed", By::Server, flip, GivenUp(SIGNATURE)),
        ("a chunk dropped", By::Server, drop_one, GivenUp(ORDER)),
        (
            "a chunk sent twice",
            By::Server,
            duplicate,
            GivenUp("part 3 came where part 4 was due"),
        ),
        ("two chunks in the wrong order", By::Server, reorder, GivenUp(ORDER)),
        ("two numbers exchanged", By::Server, renumber, GivenUp(ORDER)),
        (
            "two chunks exchanged under their numbers",
            By::Server,
            exchange,
            GivenUp(SIGNATURE),
        ),
        ("another hash", By::Server, another_hash, GivenUp(SIGNATURE)),
        (
            "no signature at all, and a chunk altered",
            By::Server,
            strip_all_and_flip,
            GivenUp("a part does not decrypt"),
        ),
    ];
    for (what, by, damage, outcome) in table {
        stage.damage(Place::LastMile, by, damage);
        stage.play(what, &outcome);
    }
    // Who damages nothing lets everything through.
    stage.damage(Place::LastMile, By::Server, |_, _, _, frame| vec![frame]);
    stage.play("signed anew, and nothing else", &Whole);
}

/// Puts a file of the receiver's server's own in place of every file, without any signature of the author, as programs of
/// others send them.
fn exchange_the_file(stage: &Stage) {
    let own = png(30);
    let digest: String = Sha256::digest(&own).iter().map(|byte| format!("{byte:02x}")).collect();
    let chunks: Vec<Vec<u8>> = own.chunks(446).map(<[u8]>::to_vec).collect();
    let key = LetterClient::hello(stage.a.served.address(), "letter", test_key("alice"), 32).key_of(&stage.bob.id);
    let size = own.len();
    stage.damage(Place::LastMile, By::Server, move |_, kind, index, mut frame| {
        let payload = frame["payload"].as_object_mut().unwrap();
        for field in ["content_sig", "sender_pub", "total"] {
            payload.remove(field);
        }
        if kind == "FILE_START" {
            payload.insert("size".to_owned(), size.into());
            payload.insert("sha256".to_owned(), digest.clone().into());
        }
        let Some(index) = index else {
            return vec![frame];
        };
        let Some(chunk) = chunks.get(usize::try_from(index).unwrap()) else {
            return Vec::new();
        };
        payload.insert("ciphertext".to_owned(), seal(&key, chunk).into());
        vec![frame]
    });
}

#[test]
fn a_whole_file_put_in_place_of_another_is_not_shown_as_the_authors() {
    let stage = Stage::new();
    exchange_the_file(&stage);
    let picture = save(stage.dir.path(), "picture.png", &png(40));
    output_of(&mut stage.alice.socp(&["file", "bob", picture.to_str().unwrap()]));
    let event = arrival(&stage.at_bob);
    if event["status"] == "received" {
        assert_eq!(event["verified"], false, "{event}");
    } else {
        assert!(arrived(&stage.bob).is_empty());
    }
}

#[test]
fn an_author_is_not_told_that_a_file_arrived_when_another_did() {
    let stage = Stage::new();
    exchange_the_file(&stage);
    let picture = save(stage.dir.path(), "picture.png", &png(40));
    let path = picture.to_str().unwrap();
    let (code, why) = failure_of(&mut stage.alice.socp(&["file", "bob", path]));
    assert!(code == 1 && why.contains("picture.png") && why.contains("bob"), "{why}");
}
