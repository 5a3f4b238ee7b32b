//! The public channel: one message, many readers, on many servers.

use crate::letter_client::{LetterClient, decode, now_ms, seal, sign, test_key, verifies};
use crate::process::{PATIENCE, Process, Served, User, eventually, json};
use rsa::Oaep;
use serde_json::json;
use sha2::Sha256;
use socp_client::{Client, Event, Options, Profile, ServerUrl};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;
use tokio::sync::mpsc;

const SERVERS: usize = 5;
/// Who reads, besides the author: by `socp watch`, by the library in this process, to the letter.
const WATCHING: usize = 5;
const IN_PROCESS: usize = 44;
const LETTER: &str = "letter-reader";
const MEMBERS: usize = WATCHING + IN_PROCESS + 1;

/// Linked servers; the first is everybody's introducer.
fn servers(dir: &Path) -> Vec<Served> {
    let mut servers: Vec<Served> = Vec::new();
    for number in 0..SERVERS {
        let entry = servers.first().map(Served::bootstrap);
        let entry: Vec<&str> = entry.iter().flat_map(|entry| ["--bootstrap", entry]).collect();
        let more = [&["--accept", "open"], entry.as_slice()].concat();
        servers.push(Served::start(dir, &format!("srv-{number}"), &more));
    }
    servers
}

/// What the readers in this process are told: who, and which author said what.
type Heard = mpsc::UnboundedReceiver<(String, String, String)>;

/// Readers by the library, spread over the servers; their ids.
async fn read_in_process(dir: &Path, servers: &[Served]) -> (BTreeSet<String>, Heard) {
    let (sender, heard) = mpsc::unbounded_channel();
    let begun = Instant::now();
    let making: Vec<_> = (0..IN_PROCESS)
        .map(|number| {
            let dir = dir.join(format!("reader-{number}"));
            tokio::task::spawn_blocking(move || Profile::create(&dir, Some(&format!("reader-{number}")), None, None))
        })
        .collect();
    let mut ids = BTreeSet::new();
    for (number, making) in making.into_iter().enumerate() {
        let profile = making.await.unwrap().unwrap();
        let id = profile.identity().user_id.to_string();
        let key = profile.unlock(None).unwrap();
        let url = ServerUrl::parse(&servers[number % SERVERS].url).unwrap();
        let (client, mut events) = Client::connect(profile, key, Options::once(url)).await.unwrap();
        ids.insert(id.clone());
        let sender = sender.clone();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    // The library tells of nothing that does not verify with the author's pinned key.
                    Event::Channel(message) => {
                        let author = message.from.user_id.to_string();
                        sender.send((id.clone(), author, message.text)).unwrap();
                    }
                    Event::Presence(_) | Event::Online { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            drop(client);
        });
    }
    println!("{IN_PROCESS} profiles made and connected in {:?}", begun.elapsed());
    (ids, heard)
}

/// The next channel message of a `socp watch`: author and text.
fn next_of(watch: &Process) -> (String, String) {
    let event = json(&watch.line_with("\"event\":\"channel\""));
    assert_eq!(
        (&event["verified"], &event["to"]),
        (&true.into(), &"public".into()),
        "{event}"
    );
    let text = |key: &str| event[key].as_str().unwrap().to_owned();
    (text("from"), text("text"))
}

/// The next channel message of the letter client, checked by its own means: author and text.
fn next_to_the_letter(letter: &mut LetterClient, author_spki: &str) -> (String, String) {
    let frame = letter.receive_type("MSG_PUBLIC_CHANNEL");
    // The author's envelope, but the signature is that of the reader's own server.
    let signed = frame["payload"].to_string();
    assert!(verifies(
        &letter.server_pub,
        signed.as_bytes(),
        frame["sig"].as_str().unwrap()
    ));
    assert_eq!(
        (&frame["to"], &frame["payload"]["group_id"]),
        (&LETTER.into(), &"public".into())
    );
    let text = |key: &str| frame["payload"][key].as_str().unwrap().to_owned();
    let (ciphertext, from) = (text("ciphertext"), frame["from"].as_str().unwrap());
    assert_eq!(text("sender_pub"), author_spki);
    let covered = format!("{ciphertext}{from}{}", frame["ts"]);
    assert!(
        verifies(author_spki, covered.as_bytes(), &text("content_sig")),
        "{frame}"
    );
    let plain = letter
        .key
        .private
        .decrypt(Oaep::<Sha256>::new(), &decode(&ciphertext))
        .unwrap();
    (from.to_owned(), String::from_utf8(plain).unwrap())
}

#[test]
fn a_message_to_all_reaches_fifty_members_on_five_servers_verified_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let servers = servers(dir.path());
    let author = User::register(dir.path(), "author", &servers[0].url);
    let _at_author = author.watch(&[]);
    let watching: Vec<(User, Process)> = (0..WATCHING)
        .map(|number| {
            let user = User::register(
                dir.path(),
                &format!("watching-{number}"),
                &servers[number % SERVERS].url,
            );
            let watch = user.watch(&[]);
            (user, watch)
        })
        .collect();
    let mut letter = LetterClient::hello(servers[4].address(), LETTER, test_key("alice"), 478);
    let author_spki = letter.signing_key_of(&author.id);
    let (in_process, mut heard) = runtime.block_on(read_in_process(dir.path(), &servers));
    let members: BTreeSet<String> = watching
        .iter()
        .map(|(user, _)| user.id.clone())
        .chain(in_process.iter().cloned())
        .chain([LETTER.to_owned()])
        .collect();
    assert_eq!(members.len(), MEMBERS);
    eventually("everybody to be seen", || {
        let listed: BTreeSet<String> = author.listed().into_iter().collect();
        members.is_subset(&listed).then_some(())
    });

    let texts = ["one for all", "all for one"];
    for text in texts {
        let begun = Instant::now();
        let receipt = json(&author.run(&["--json", "all", text]));
        let took = begun.elapsed();
        assert_eq!(
            (&receipt["status"], &receipt["count"]),
            (&"sent".into(), &MEMBERS.into()),
            "{receipt}"
        );
        let sent: BTreeSet<String> = serde_json::from_value(receipt["sent"].clone()).unwrap();
        assert_eq!(sent, members);
        println!("`socp all` to {MEMBERS} members returned after {took:?}");
    }
    let said = |text: &str| (author.id.clone(), text.to_owned());
    for (_, watch) in &watching {
        for text in texts {
            assert_eq!(next_of(watch), said(text));
        }
    }
    let letters = texts.map(|_| next_to_the_letter(&mut letter, &author_spki));
    assert_eq!(letters, texts.map(said));
    let mut by_reader: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for _ in 0..texts.len() * IN_PROCESS {
        let next = async { tokio::time::timeout(PATIENCE, heard.recv()).await };
        let (reader, author, text) = runtime.block_on(next).unwrap().unwrap();
        by_reader.entry(reader).or_default().push((author, text));
    }
    assert!(by_reader.keys().eq(&in_process));
    assert!(
        by_reader.values().all(|heard| *heard == texts.map(said)),
        "{by_reader:?}"
    );
    runtime.shutdown_background();
}

#[test]
fn a_letter_client_speaks_in_the_channel_and_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &["--accept", "open"]);
    let b = Served::start(dir.path(), "srv-b", &["--bootstrap", &a.bootstrap()]);
    let bob = User::register(dir.path(), "bob", &b.url);
    let at_bob = bob.watch(&[]);
    let mut letter = LetterClient::hello(a.address(), LETTER, test_key("alice"), 32);
    let key = letter.key_of(&bob.id);
    let ts = now_ms();
    let ciphertext = seal(&key, b"to whom it may concern");
    let covered = format!("{ciphertext}{LETTER}{ts}");
    let content_sig = sign(&letter.key.private, 32, covered.as_bytes());
    let payload = json!({"ciphertext": ciphertext, "sender_pub": letter.key.spki, "content_sig": content_sig,
        "group_id": "public"});
    // Signed for another moment: nobody gets it, and the author is told.
    letter.send_at("MSG_PUBLIC_CHANNEL", &bob.id, payload.clone(), ts + 1);
    assert_eq!(letter.receive_type("ERROR")["payload"]["code"], "INVALID_SIG");
    letter.send_at("MSG_PUBLIC_CHANNEL", &bob.id, payload, ts);
    assert_eq!(
        next_of(&at_bob),
        (LETTER.to_owned(), "to whom it may concern".to_owned())
    );
}
