//! What every table of bad input shares: a stage with the server under test and everyone who must not notice.
//!
//! Each [`Row`] is played twice, in two worlds that differ in nothing but the frames of the row. Whatever the server
//! knows, keeps, dials and tells others must then be the same in both, and so must the conversation that follows.
//! Where the row costs the attacker its link, it hangs up in the other world. A row that is marked as taken must make a
//! difference instead: a table in which nothing is ever taken would prove nothing.

use super::super::*;
use super::world::*;
use socp_proto::payload::{DirectMessage, ListRequest, PubkeyRequest, ServerDeliver, UserHello};
use socp_proto::{Base64Url, Capabilities, Meta, json::parse_object, utf8_form};
use std::collections::BTreeMap;

/// When the stage is set, ms since the Unix epoch: what is said on it is said now.
pub(super) const NOW: u64 = BEGIN + SET_MS;
/// Long enough for every link to count as settled.
const SET_MS: u64 = 4_000;
/// What a row sets off must have happened by then.
const AFTERMATH_MS: u64 = 1_500;

/// Who does the wrong thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// `mallory`, a user of the server under test.
    User,
    /// `x`, a peer with the user `xena`.
    Peer,
    /// Whoever connected a moment ago.
    Newcomer,
    /// Whoever answers at the address of the introducer `n`, which the server dialled to join.
    Dialled,
}

/// One frame, each field as JSON text, so that it may be anything.
#[derive(Debug, Clone)]
pub(super) struct Said {
    envelope: BTreeMap<&'static str, String>,
    payload: BTreeMap<String, String>,
    signer: Option<&'static str>,
}

/// A text as JSON.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

impl Said {
    pub(super) fn new(from: &str, to: &str, payload: &Payload) -> Self {
        let fields = payload.to_object();
        let fields = fields.iter().map(|(field, value)| (field.clone(), value.to_string()));
        let envelope = [
            ("type", quoted(payload.kind().name())),
            ("from", quoted(from)),
            ("to", quoted(to)),
            ("ts", NOW.to_string()),
        ];
        Self {
            envelope: envelope.into(),
            payload: fields.collect(),
            signer: None,
        }
    }

    /// With this field of the envelope, as JSON.
    pub(super) fn with(mut self, field: &'static str, json: &str) -> Self {
        self.envelope.insert(field, json.to_owned());
        self
    }

    pub(super) fn without(mut self, field: &'static str) -> Self {
        self.envelope.remove(field);
        self
    }

    /// With this field of the payload, as JSON.
    pub(super) fn saying(mut self, field: &str, json: &str) -> Self {
        self.payload.insert(field.to_owned(), json.to_owned());
        self
    }

    pub(super) fn omitting(mut self, field: &str) -> Self {
        self.payload.remove(field);
        self
    }

    pub(super) fn signed_by(mut self, name: &'static str) -> Self {
        self.signer = Some(name);
        self
    }

    pub(super) fn unsigned(mut self) -> Self {
        self.signer = None;
        self
    }

    pub(super) fn from(self, id: &str) -> Self {
        self.with("from", &quoted(id))
    }

    pub(super) fn to(self, id: &str) -> Self {
        self.with("to", &quoted(id))
    }

    pub(super) fn at(self, ts: u64) -> Self {
        self.with("ts", &ts.to_string())
    }

    /// The same payload under another type.
    pub(super) fn kind(self, kind: FrameKind) -> Self {
        self.with("type", &quoted(kind.name()))
    }

    pub(super) fn text(&self) -> String {
        let object = |fields: &mut dyn Iterator<Item = (String, String)>| {
            let fields: Vec<String> = fields.map(|(field, json)| format!("\"{field}\":{json}")).collect();
            format!("{{{}}}", fields.join(","))
        };
        let payload = object(&mut self.payload.clone().into_iter());
        // What is not JSON is refused before anybody looks at signatures.
        let domain = match self.envelope.get("type") == Some(&quoted("PROOF")) {
            true => "socp-proof-v1\0",
            false => "",
        };
        let covered =
            parse_object(&payload).map_or(String::new(), |payload| format!("{domain}{}", utf8_form(&payload)));
        let sig = self
            .signer
            .map(|name| toy_sig(&key(name), &covered))
            .unwrap_or_default();
        let mut envelope = BTreeMap::from([("payload", payload), ("sig", quoted(Base64Url::encode(&sig).as_str()))]);
        envelope.extend(self.envelope.clone());
        object(&mut envelope.into_iter().map(|(field, json)| (field.to_owned(), json)))
    }
}

/// A frame of the attacking user.
pub(super) fn by_mallory(to: &str, payload: &Payload) -> Said {
    Said::new("mallory", to, payload)
}

/// A frame of the attacking server.
pub(super) fn by_x(payload: &Payload) -> Said {
    Said::new("x", "*", payload).signed_by("x")
}

/// A first frame of the server `n`.
pub(super) fn by_n(payload: &Payload) -> Said {
    Said::new("n", "*", payload).signed_by("n")
}

/// What comes back to the attacker.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Error(ErrorCode),
    Frame(FrameKind),
}

/// Who says something after the row, in both worlds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Then {
    Alice,
    Bob,
    /// The server `w`.
    Witness,
    /// The attacker itself.
    Attacker,
}

/// One case: what is sent, what comes back, what becomes of the link. Nothing else may change.
#[derive(Clone)]
pub(super) struct Row {
    name: String,
    by: By,
    config: fn(&mut Config),
    /// The name of that configuration.
    setting: &'static str,
    /// Said by alice before all.
    first: Vec<String>,
    given: Vec<String>,
    texts: Vec<String>,
    /// What is said in the other world instead.
    instead: Vec<String>,
    answers: Option<Vec<Answer>>,
    closed: Option<u16>,
    then: Vec<(Then, String)>,
    alarm: Option<String>,
    is_taken: bool,
}

impl Row {
    /// Bad input that gets no answer, unless something else is said.
    pub(super) fn bad(by: By, name: impl Into<String>, said: &Said) -> Self {
        Self::texts(by, name, vec![said.text()])
    }

    pub(super) fn texts(by: By, name: impl Into<String>, texts: Vec<String>) -> Self {
        Self {
            name: name.into(),
            by,
            config: |_| {},
            setting: "",
            first: Vec::new(),
            given: Vec::new(),
            texts,
            instead: Vec::new(),
            answers: Some(Vec::new()),
            closed: None,
            then: Vec::new(),
            alarm: None,
            is_taken: false,
        }
    }

    /// Good input, which makes a difference.
    pub(super) fn good(by: By, name: impl Into<String>, said: &Said) -> Self {
        Self {
            answers: None,
            is_taken: true,
            ..Self::bad(by, name, said)
        }
    }

    /// The `ERROR` that comes back to a program of ours; one of others gets the specification's code.
    pub(super) fn gets(mut self, code: ErrorCode) -> Self {
        self.answers.get_or_insert_default().push(Answer::Error(code));
        self
    }

    /// Another frame that comes back.
    pub(super) fn gets_frame(mut self, kind: FrameKind) -> Self {
        self.answers.get_or_insert_default().push(Answer::Frame(kind));
        self
    }

    /// The link is closed.
    pub(super) fn closed(self, code: u16) -> Self {
        Self {
            closed: Some(code),
            ..self
        }
    }

    /// Said by the attacker before, in both worlds.
    pub(super) fn given(mut self, said: &Said) -> Self {
        self.given.push(said.text());
        self
    }

    /// Said by alice before anything else, in both worlds.
    pub(super) fn after_alice(mut self, said: &Said) -> Self {
        self.first.push(said.text());
        self
    }

    pub(super) fn without_answers(self) -> Self {
        Self {
            answers: Some(Vec::new()),
            ..self
        }
    }

    /// Said by others afterwards, in both worlds: it must have the same effect.
    pub(super) fn then(mut self, who: Then, said: &Said) -> Self {
        self.then.push((who, said.text()));
        self
    }

    /// The users of our own programs are told that somebody came with another key for this id; that is all they notice.
    pub(super) fn alarms(self, user: &str) -> Self {
        Self {
            alarm: Some(user.to_owned()),
            ..self
        }
    }

    /// It makes no difference to this.
    pub(super) fn instead_of(mut self, said: &Said) -> Self {
        self.instead.push(said.text());
        self.answers = None;
        self
    }

    /// Whether it leaves the link open and the world as it was.
    fn goes_with_others(&self) -> bool {
        let is_open = matches!(self.by, By::User | By::Peer) && self.closed.is_none() && self.texts.len() == 1;
        let said = [&self.first, &self.given, &self.instead];
        let is_plain = said.iter().all(|texts| texts.is_empty()) && self.then.is_empty();
        is_open && is_plain && !self.is_taken && self.alarm.is_none() && self.setting.is_empty()
    }

    /// One row of several such.
    fn all_of(rows: &[&Self]) -> Self {
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        let texts = rows.iter().flat_map(|row| row.texts.clone()).collect();
        let answers = rows.iter().flat_map(|row| row.answers.clone().unwrap_or_default());
        Self {
            answers: Some(answers.collect()),
            ..Self::texts(rows[0].by, names.join(", "), texts)
        }
    }

    pub(super) fn with(self, setting: &'static str, config: fn(&mut Config)) -> Self {
        Self {
            config,
            setting,
            ..self
        }
    }
}

/// Plays every row as a program of ours and as one of others.
pub(super) fn check(rows: &[Row]) {
    let mut wrong = Vec::new();
    let mut untouched = BTreeMap::new();
    let (together, alone): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.goes_with_others());
    for by in [By::User, By::Peer] {
        let rows: Vec<&Row> = together.iter().copied().filter(|row| row.by == by).collect();
        for few in rows.chunks(TOGETHER_MAX) {
            let all_wrong = check_as_both(&Row::all_of(few), &mut untouched);
            let each = few.iter().flat_map(|row| check_as_both(row, &mut untouched));
            // Which one it was, if one by one shows it.
            let wrong_one = if all_wrong.is_empty() {
                Vec::new()
            } else {
                each.collect()
            };
            wrong.extend(if wrong_one.is_empty() { all_wrong } else { wrong_one });
        }
    }
    for row in alone {
        wrong.extend(check_as_both(row, &mut untouched));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(rows.iter().any(|row| row.is_taken), "nothing in this table is taken");
    assert!(rows.iter().any(|row| !row.is_taken), "nothing in this table is bad");
}

/// Refused frames that share a world, so that it takes less time: fewer than cost a link.
const TOGETHER_MAX: usize = 8;

fn check_as_both(row: &Row, untouched: &mut Untouched) -> Vec<String> {
    let kinds: &[bool] = match row.by {
        By::User | By::Peer => &[true, false],
        By::Newcomer | By::Dialled => &[false],
    };
    let faults = kinds.iter().flat_map(|is_native| check_row(row, *is_native, untouched));
    faults.map(|fault| format!("{}: {fault}", row.name)).collect()
}

/// What others see in the world without the row, by what that world depends on.
type Untouched = BTreeMap<String, Seen>;

fn check_row(row: &Row, is_native: bool, untouched: &mut Untouched) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut stage = Stage::new(row, is_native);
    for text in &row.texts {
        stage.world.send_text(stage.attacker, text.clone());
    }
    let answers = stage.answers();
    let closed = stage.world.closed(stage.attacker);
    if closed != row.closed {
        return vec![format!(
            "closed with {closed:?} instead of {:?}, got {answers:?}",
            row.closed
        )];
    }
    let for_whom = |answer: &Answer| match answer {
        Answer::Error(code) if !is_native => Answer::Error(code.clone().for_stranger()),
        Answer::Error(_) | Answer::Frame(_) => answer.clone(),
    };
    if let Some(expected) = &row.answers {
        let expected: Vec<Answer> = expected.iter().map(for_whom).collect();
        if answers != expected {
            wrong.push(format!("got {answers:?} instead of {expected:?}"));
        }
    }
    let mut seen = stage.finish(row);
    let expected = without_row(row, is_native, untouched);
    if let Some(user) = &row.alarm {
        let code = format!("\"code\":\"BAD_KEY\",\"detail\":\"{user}\"");
        let before = seen.len();
        seen.retain(|_, text| !text.contains(&code));
        if seen.len() == before {
            wrong.push("nobody was told of the wrong key".to_owned());
        }
    }
    let seen = renumbered(seen);
    match (seen == *expected, row.is_taken) {
        (true, true) => wrong.push("makes no difference".to_owned()),
        (false, false) => wrong.extend(differences(expected, &seen)),
        (true, false) | (false, true) => {}
    }
    wrong
}

fn without_row<'a>(row: &Row, is_native: bool, untouched: &'a mut Untouched) -> &'a Seen {
    let Row {
        by,
        first,
        given,
        instead,
        then,
        ..
    } = row;
    let is_gone = row.closed.is_some();
    let depends_on = format!(
        "{by:?} {is_native} {is_gone} {} {first:?} {given:?} {instead:?} {then:?}",
        row.setting
    );
    untouched.entry(depends_on).or_insert_with(|| {
        let mut stage = Stage::new(row, is_native);
        for text in instead {
            stage.world.send_text(stage.attacker, text.clone());
        }
        if is_gone {
            stage.world.hang_up(stage.attacker);
        }
        renumbered(stage.finish(row))
    })
}

/// What others see and what the server knows, by what it is about and a running number.
type Seen = BTreeMap<(String, usize), String>;

/// Numbers that do not tell what was taken out.
fn renumbered(seen: Seen) -> Seen {
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    let number = |((about, _), text): ((String, usize), String)| {
        let next = last.entry(about.clone()).or_default();
        *next += 1;
        ((about, *next), text)
    };
    seen.into_iter().map(number).collect()
}

fn differences(expected: &Seen, seen: &Seen) -> Vec<String> {
    let mut told = Vec::new();
    for (about, text) in expected {
        if seen.get(about) != Some(text) {
            told.push(format!("{about:?} was {text} and is {:?}", seen.get(about)));
        }
    }
    let new = seen.iter().filter(|(about, _)| !expected.contains_key(about));
    told.extend(new.map(|(about, text)| format!("{about:?} is new: {text}")));
    let shortened = told.iter().map(|text| text.chars().take(400).collect());
    shortened.take(4).collect()
}

/// The server `a` under test; `alice`, a user of it; the server `b` with `bob`; the server `w` with `wendy`, of whom the
/// test hears every word; `z` with `zed`, beyond `w`; `carol`, who has a key at `a` and is away; and who attacks.
struct Stage {
    world: World,
    alice: User,
    bob: User,
    witness: Wire,
    mallory: User,
    x: Wire,
    attacker: Wire,
}

impl Stage {
    fn new(row: &Row, is_native: bool) -> Self {
        let mut world = World::empty();
        let mut config_of_a = config("a");
        if row.by == By::Dialled {
            world.listens.insert("n:1".to_owned(), Vec::new());
            config_of_a.bootstrap = vec![entry("n", Some(key("n")))];
        }
        (row.config)(&mut config_of_a);
        world.add(config_of_a, "a");
        let mut config_of_b = config("b");
        config_of_b.bootstrap = vec![entry("a", Some(key("a")))];
        world.add(config_of_b, "b");
        let bob = proven_user(&mut world, "bob", "b", true);
        let alice = proven_user(&mut world, "alice", "a", true);
        let carol = proven_user(&mut world, "carol", "a", true);
        world.hang_up(carol.wire);
        let far = native_peer(&mut world, "z", true);
        world.hang_up(far);
        let witness = native_peer(&mut world, "w", true);
        world.peer_says(witness, "w", "*", &advert("wendy", "w"));
        world.peer_says(witness, "z", "*", &advert("zed", "z"));
        let mallory = proven_user(&mut world, "mallory", "a", is_native);
        let x = native_peer(&mut world, "x", is_native);
        world.peer_says(x, "x", "*", &advert("xena", "x"));
        world.wait(SET_MS);
        let attacker = match row.by {
            By::User => mallory.wire,
            By::Peer => x,
            By::Newcomer => world.connect("a"),
            By::Dialled => world.listens["n:1"][0],
        };
        for text in &row.first {
            world.send_text(alice.wire, text.clone());
        }
        for text in &row.given {
            world.send_text(attacker, text.clone());
        }
        for wire in [alice.wire, bob.wire, witness, mallory.wire, x, attacker] {
            world.take(wire);
        }
        Self {
            world,
            alice,
            bob,
            witness,
            mallory,
            x,
            attacker,
        }
    }

    fn answers(&mut self) -> Vec<Answer> {
        let answer = |frame: Frame| match frame.payload {
            Payload::Error(notice) => Answer::Error(notice.code),
            _ => Answer::Frame(frame.envelope.kind),
        };
        self.world.take(self.attacker).into_iter().map(answer).collect()
    }

    /// Lets the row have its consequences, then lets the others go about their business.
    fn finish(&mut self, row: &Row) -> Seen {
        let mut seen = Seen::new();
        self.look(&mut seen, "then");
        self.world.wait(AFTERMATH_MS);
        for (who, text) in &row.then {
            let wire = match who {
                Then::Alice => self.alice.wire,
                Then::Bob => self.bob.wire,
                Then::Witness => self.witness,
                Then::Attacker => self.attacker,
            };
            self.world.send_text(wire, text.clone());
        }
        self.look(&mut seen, "after");
        self.converse(&mut seen);
        self.look(&mut seen, "at the end");
        seen
    }

    /// Messages each way between everyone who behaves, the list, and everybody's key.
    fn converse(&mut self, seen: &mut Seen) {
        let (alice, bob, witness) = (self.alice, self.bob, self.witness);
        self.world.tell(alice, "bob", b"alice to bob");
        self.world.tell(bob, "alice", b"bob to alice");
        self.world.tell(alice, "wendy", b"alice to wendy");
        let deliver = server_deliver("wendy", "alice", self.world.now.unix, b"wendy to alice");
        self.world
            .peer_says(witness, "w", "a", &Payload::ServerDeliver(deliver));
        for (user, server) in [(alice, "a"), (bob, "b")] {
            self.world
                .say(user, server, &Payload::ListRequest(ListRequest::default()));
            for id in ["alice", "bob", "carol", "wendy", "zed", "xena", "eve"] {
                let request = PubkeyRequest { user_id: user_id(id) };
                self.world.say(user, server, &Payload::PubkeyRequest(request));
            }
        }
        self.look_at_wires(seen, "talk");
        for (reader, sealed) in [
            ("bob", &b"alice to bob"[..]),
            ("alice", b"bob to alice"),
            ("w", b"alice to wendy"),
            ("alice", b"wendy to alice"),
        ] {
            let (about, sealed) = (format!("talk {reader}"), Base64Url::encode(sealed));
            let mut told = seen.iter().filter(|((to, _), _)| *to == about);
            assert!(
                told.any(|(_, text)| text.contains(sealed.as_str())),
                "{reader} misses a message"
            );
        }
        for wire in [alice.wire, bob.wire, witness] {
            assert_eq!(self.world.closed(wire), None, "a link of others is closed");
        }
        assert_eq!(self.world.links_between("a", "b").len(), 1, "the link to b");
    }

    fn look(&mut self, seen: &mut Seen, when: &str) {
        self.look_at_wires(seen, when);
        for name in ["a", "b"] {
            let node = self.world.node(name);
            let mut add = |about: &str, texts: Vec<String>| {
                let about = format!("{when} {name} {about}");
                let numbered = texts.into_iter().enumerate();
                seen.extend(numbered.map(|(number, text)| ((about.clone(), number), text)));
            };
            let server = &node.server;
            add("status", vec![format!("{:?}", server.status())]);
            add("users", texts_of(server.users()));
            add("pins", texts_of(server.pins()));
            add("kept pins", texts_of(node.pins.values()));
            add("kept users", texts_of(node.users.values()));
            add("kept", vec![format!("{:?}", node.memory)]);
            add("trusts", texts_of(&node.keyring));
            add("dials", texts_of(&node.dialled));
            let (attacker, mut links) = (self.attacker.link, server.links());
            for link in links.iter_mut().filter(|status| status.link == attacker) {
                link.last_heard = None; // A refused frame is a sign of life all the same, or not; that is its own.
            }
            add("links", texts_of(links));
        }
    }

    /// What came out of the others' links.
    fn look_at_wires(&mut self, seen: &mut Seen, when: &str) {
        let wires = [
            ("alice", self.alice.wire),
            ("bob", self.bob.wire),
            ("w", self.witness),
            ("mallory", self.mallory.wire),
            ("x", self.x),
        ];
        for (name, wire) in wires.into_iter().filter(|(_, wire)| *wire != self.attacker) {
            let about = format!("{when} {name}");
            let frames = self.world.take(wire);
            let texts = frames.iter().map(|frame| frame.envelope.to_text());
            let first = seen.keys().filter(|(known, _)| *known == about).count();
            seen.extend(texts.enumerate().map(|(n, text)| ((about.clone(), first + n), text)));
            let closed = self.world.closed(wire);
            seen.insert((format!("{when} link of {name}"), 0), format!("{closed:?}"));
        }
    }
}

fn texts_of<T: std::fmt::Debug>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(|item| format!("{item:?}")).collect()
}

/// A user who proved the key; native or not.
fn proven_user(world: &mut World, id: &'static str, node: &'static str, is_native: bool) -> User {
    let wire = world.connect(node);
    let hello = UserHello {
        server_id: Some(server_id(node)),
        ts: Some(world.now.unix),
        caps: is_native.then(Capabilities::default),
        meta: Some(Meta::default()),
        ..plain_hello(id)
    };
    let hello = draft(id, "*", world.now.unix, &Payload::UserHello(hello));
    world.send(wire, &signed(hello, id));
    assert_eq!(world.take_kinds(wire)[0], FrameKind::Ack);
    User { id, wire }
}

fn native_peer(world: &mut World, name: &str, is_native: bool) -> Wire {
    let wire = world.connect("a");
    let caps = is_native.then(Capabilities::default);
    let identity = socp_proto::payload::ServerIdentity { caps, ..identity(name) };
    world.announce(wire, name, identity);
    assert_eq!(world.take_kinds(wire)[0], FrameKind::ServerAnnounce);
    wire
}

/// A message between servers with the author's content signature.
pub(super) fn server_deliver(sender: &str, to: &str, ts: u64, text: &[u8]) -> ServerDeliver {
    let DirectMessage {
        ciphertext,
        sender_pub,
        content_sig,
        ..
    } = direct(sender, to, ts, text);
    ServerDeliver {
        user_id: user_id(to),
        ciphertext,
        sender: user_id(sender),
        sender_pub,
        content_sig,
        ts: Some(ts),
    }
}
