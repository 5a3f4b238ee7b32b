//! What an operator sees of a running server: its metrics and its admin socket, also when asked badly.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test helpers"
)]

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use socp_core::server::{Accept, BootstrapEntry};
use socp_crypto::PrivateKey;
use socp_proto::KeyText;
use socp_server::admin::{self, AdminError, Ask, PinRow, Row};
use socp_server::{Ready, ServerError, Settings};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Far longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// One key for all users of these tests: they are told apart by their ids.
static USER_KEY: LazyLock<KeyText> =
    LazyLock::new(|| KeyText::from_der(PrivateKey::generate().unwrap().public_key().spki_der()));

struct Serving {
    ready: Ready,
    data: PathBuf,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServerError>>,
}

impl Serving {
    async fn start(data: PathBuf, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::new("127.0.0.1:0".parse().unwrap(), data.clone());
        settings.accept = Accept::Open;
        change(&mut settings);
        let running = socp_server::start(settings).await.unwrap();
        let ready = running.ready.clone();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(running.until(async {
            stopped.await.unwrap();
        }));
        Self {
            ready,
            data,
            stop,
            task,
        }
    }

    fn entry(&self) -> BootstrapEntry {
        BootstrapEntry {
            tls: None,
            host: "127.0.0.1".to_owned(),
            port: self.ready.listen.port(),
            key: Some(self.ready.key.clone()),
        }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }

    async fn ask(&self, ask: Ask) -> Result<Vec<Row>, AdminError> {
        let data = self.data.clone();
        tokio::task::spawn_blocking(move || admin::ask(&data, &ask))
            .await
            .unwrap()
    }

    /// One answer over plain HTTP: the head and the body.
    async fn get(&self, path: &str) -> (String, String) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = TcpStream::connect(self.ready.listen).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    /// Scrapes until the series has the value.
    async fn shows(&self, series: &str, value: u64) {
        self.shows_one_of(series, &[value]).await;
    }

    /// Scrapes until the series has one of the values.
    async fn shows_one_of(&self, series: &str, values: &[u64]) {
        let begun = Instant::now();
        loop {
            let (_, text) = self.get("/metrics").await;
            let shown = sample(&text, series);
            if values.iter().any(|value| shown == Some(value.to_string())) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{series} is not in {values:?} in\n{text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn user(&self, id: &str) -> User {
        let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}", self.ready.listen))
            .await
            .unwrap();
        let hello = json!({"client": "test", "pubkey": USER_KEY.as_str(), "enc_pubkey": USER_KEY.as_str()});
        let hello = frame("USER_HELLO", id, &hello);
        socket.send(Message::text(hello)).await.unwrap();
        let mut user = User {
            id: id.to_owned(),
            socket,
        };
        user.receive("ACK").await;
        user
    }
}

struct User {
    id: String,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl User {
    async fn send(&mut self, kind: &str, payload: Value) {
        let frame = frame(kind, &self.id, &payload);
        self.socket.send(Message::text(frame)).await.unwrap();
    }

    async fn receive(&mut self, kind: &str) -> Value {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await.unwrap();
            let text = next.unwrap().unwrap().into_text().unwrap();
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["type"] == kind {
                return frame;
            }
        }
    }
}

fn frame(kind: &str, from: &str, payload: &Value) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ts = u64::try_from(now.unwrap().as_millis()).unwrap();
    json!({"type": kind, "from": from, "to": "*", "ts": ts, "payload": payload, "sig": ""}).to_string()
}

/// The value of a series, with its labels in any order.
fn sample(text: &str, series: &str) -> Option<String> {
    let parts = |series: &str| {
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let mut labels: Vec<String> = labels.trim_end_matches('}').split(',').map(str::to_owned).collect();
        labels.sort();
        (name.to_owned(), labels)
    };
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        (parts(name) == parts(series)).then(|| value.to_owned())
    })
}

fn frames(direction: &str, kind: &str, outcome: &str, reason: &str) -> String {
    format!("socp_frames_total{{direction=\"{direction}\",type=\"{kind}\",outcome=\"{outcome}\",reason=\"{reason}\"}}")
}

#[tokio::test]
async fn metrics_tell_what_was_done_and_two_servers_in_one_process_count_apart() {
    let dir = tempfile::tempdir().unwrap();
    let a = Serving::start(dir.path().join("a"), |_| {}).await;
    let entry = a.entry();
    let b = Serving::start(dir.path().join("b"), |settings| settings.bootstrap.push(entry)).await;
    for server in [&a, &b] {
        server.shows("socp_links{role=\"peer\"}", 1).await;
        server.shows("socp_pins", 1).await;
    }
    a.shows(&frames("in", "SERVER_HELLO_JOIN", "accepted", ""), 1).await;
    a.shows(&frames("out", "SERVER_WELCOME", "queued", ""), 1).await;
    b.shows(&frames("in", "SERVER_WELCOME", "accepted", ""), 1).await;
    b.shows("socp_dials_total{outcome=\"connected\"}", 1).await;

    let mut alice = a.user("alice").await;
    a.shows("socp_users{place=\"local\"}", 1).await;
    a.shows("socp_users{place=\"remote\"}", 0).await;
    b.shows("socp_users{place=\"local\"}", 0).await;
    b.shows("socp_users{place=\"remote\"}", 1).await;
    a.shows("socp_home_users", 1).await;
    a.shows("socp_links{role=\"user\"}", 1).await;
    a.shows(&frames("in", "USER_HELLO", "accepted", ""), 1).await;
    a.shows("socp_warnings_total{kind=\"unproven_hello\"}", 1).await;
    // A list of nobody and then a change, or a list with her.
    let told = frames("in", "SERVER_PRESENCE", "accepted", "");
    b.shows_one_of(&told, &[1, 2]).await;

    for _ in 0..3 {
        alice.send("LIST_REQUEST", json!({})).await;
        alice.receive("LIST_RESPONSE").await;
    }
    a.shows(&frames("in", "LIST_REQUEST", "accepted", ""), 3).await;
    a.shows(&frames("out", "LIST_RESPONSE", "queued", ""), 3).await;
    alice
        .send("USER_REMOVE", json!({"user_id": "x", "server_id": "y"}))
        .await;
    alice.receive("ERROR").await;
    a.shows(&frames("in", "USER_REMOVE", "refused", "out_of_place"), 1)
        .await;
    alice.socket.send(Message::text("not JSON")).await.unwrap();
    alice.receive("ERROR").await;
    a.shows(&frames("in", "unreadable", "refused", "frame"), 1).await;
    a.shows("socp_refusals_total{class=\"frame\"}", 1).await;
    a.shows(&frames("out", "ERROR", "queued", ""), 2).await;
    alice.socket.send(Message::binary(vec![1])).await.unwrap();
    a.shows(&frames("in", "unreadable", "refused", "binary"), 1).await;
    a.shows("socp_users{place=\"local\"}", 0).await;
    b.shows("socp_users{place=\"remote\"}", 0).await;

    check_work(&a, &b).await;
    a.stop().await;
    b.shows("socp_links{role=\"peer\"}", 0).await;
    b.stop().await;
}

/// What only has to be of a plausible size.
async fn check_work(a: &Serving, b: &Serving) {
    let (head, text) = a.get("/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("application/openmetrics-text"), "{head}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let number = |series: &str| sample(&text, series).unwrap_or_else(|| panic!("{series} is missing in\n{text}"));
    let positive = |series: &str| assert!(number(series).parse::<f64>().unwrap() > 0.0, "{series}");
    for series in [
        "socp_signing_seconds_count",
        "socp_signing_seconds_sum",
        "socp_verification_seconds_count",
        "socp_verification_seconds_sum",
        "socp_store_commits_total{outcome=\"written\"}",
        "socp_store_records_total",
        "socp_store_commit_seconds_sum",
        "socp_bounds{kind=\"hub_queue\"}",
    ] {
        positive(series);
    }
    assert_eq!(number("socp_store_failing"), "0");
    // What waits at this moment is little, whatever it is.
    for (series, most) in [
        ("socp_hub_queue", 100),
        ("socp_pool_queue", 100),
        ("socp_outbox_frames_max", 100),
        ("socp_outbox_bytes_max", 100_000),
    ] {
        assert!(number(series).parse::<u64>().unwrap() < most, "{series}");
    }
    // Alice joined it.
    assert_eq!(number("socp_channel_version"), "1");
    // Labels are words of the program, never ids, names or addresses.
    for text in [text, b.get("/metrics").await.1] {
        for secret in [
            "alice",
            a.ready.server_id.as_str(),
            b.ready.server_id.as_str(),
            "127.0.0.1",
        ] {
            assert!(!text.contains(secret), "{secret} in\n{text}");
        }
    }
}

fn pins(rows: Vec<Row>) -> Vec<PinRow> {
    rows.into_iter()
        .map(|row| match row {
            Row::Pin(pin) => pin,
            Row::Status(_) | Row::Link(_) | Row::User(_) | Row::Backup(_) => panic!("{row:?} is no pin"),
        })
        .collect()
}

#[tokio::test]
async fn the_admin_socket_answers_what_is_so() {
    let dir = tempfile::tempdir().unwrap();
    let a = Serving::start(dir.path().join("a"), |settings| {
        settings.name = Some("srv-a".to_owned())
    })
    .await;
    let entry = a.entry();
    let b = Serving::start(dir.path().join("b"), |settings| settings.bootstrap.push(entry)).await;
    a.shows("socp_links{role=\"peer\"}", 1).await;
    let _alice = a.user("alice").await;
    let _bob = b.user("bob").await;
    a.shows("socp_users{place=\"remote\"}", 1).await;

    let mode = std::fs::metadata(a.data.join("admin.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let rows = a.ask(Ask::Status).await.unwrap();
    let [Row::Status(status)] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    assert_eq!(status.server_id, a.ready.server_id.as_str());
    assert_eq!(status.name.as_deref(), Some("srv-a"));
    assert_eq!(status.listen, a.ready.listen.to_string());
    assert_eq!(
        (status.peers, status.links, status.pins, status.home_users),
        (1, 2, 1, 1)
    );
    assert_eq!((status.local_users, status.remote_users, status.stale_users), (1, 1, 0));
    assert_eq!((status.takes_users, &status.store_failure), (true, &None));

    let rows = a.ask(Ask::Links).await.unwrap();
    let [Row::Link(peer), Row::Link(user)] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    assert_eq!(
        (peer.role.as_str(), peer.who.as_deref()),
        ("peer", Some(b.ready.server_id.as_str()))
    );
    assert_eq!((user.role.as_str(), user.who.as_deref()), ("user", Some("alice")));
    assert!(!peer.dialled && peer.frames_in >= 3 && peer.frames_out >= 3, "{peer:?}");
    assert!(
        user.frames_in == 1 && user.frames_out >= 1 && user.silent_ms.is_none(),
        "{user:?}"
    );

    let rows = a.ask(Ask::Users).await.unwrap();
    let [Row::User(alice), Row::User(bob)] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    assert_eq!(
        (alice.user_id.as_str(), alice.place.as_str(), alice.sessions),
        ("alice", "local", 1)
    );
    assert_eq!(
        (bob.user_id.as_str(), bob.place.as_str(), bob.sessions),
        ("bob", "remote", 0)
    );
    assert_eq!(bob.server_id, b.ready.server_id.as_str());

    let pinned = pins(a.ask(Ask::Pins).await.unwrap());
    assert_eq!(pinned.len(), 1);
    assert_eq!(pinned[0].server_id, b.ready.server_id.as_str());
    assert_eq!(pinned[0].fingerprint, b.ready.fingerprint().to_string());
    assert_eq!(pinned[0].linked, Some(true));
    let socket = a.data.join("admin.sock");
    a.stop().await;
    assert!(!socket.exists(), "a server that stopped leaves no socket");
    b.stop().await;
}

#[tokio::test]
async fn an_unpinned_server_is_forgotten_in_memory_and_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let a = Serving::start(dir.path().join("a"), |_| {}).await;
    let entry = a.entry();
    let b = Serving::start(dir.path().join("b"), |settings| settings.bootstrap.push(entry)).await;
    let server = b.ready.server_id.as_str().to_owned();
    a.shows("socp_links{role=\"peer\"}", 1).await;
    // What is asked for is an id, and one that is pinned.
    for (wrong, code) in [("nobody", "unknown_pin"), ("", "bad_request"), ("a b", "bad_request")] {
        let server = wrong.to_owned();
        match a.ask(Ask::Unpin { server }).await {
            Err(AdminError::Refused(refusal)) => assert_eq!(refusal.code, code, "{wrong:?}"),
            other => panic!("{wrong:?}: {other:?}"),
        }
    }
    let data = a.data.clone();
    b.stop().await;
    let removed = pins(a.ask(Ask::Unpin { server: server.clone() }).await.unwrap());
    assert_eq!(removed[0].server_id, server);
    assert_eq!(pins(a.ask(Ask::Pins).await.unwrap()), []);
    a.stop().await;
    assert_eq!(admin::pins_of_stopped(&data).unwrap(), []);
}

#[tokio::test]
async fn the_directory_of_a_stopped_server_can_be_asked_for_pins_only() {
    let dir = tempfile::tempdir().unwrap();
    let a = Serving::start(dir.path().join("a"), |_| {}).await;
    let entry = a.entry();
    let b = Serving::start(dir.path().join("b"), |settings| settings.bootstrap.push(entry)).await;
    let server = b.ready.server_id.as_str().to_owned();
    a.shows("socp_pins", 1).await;
    let data = a.data.clone();
    // While it runs, nobody else touches its database.
    let Err(AdminError::Stopped(ServerError::DataInUse { .. })) = admin::pins_of_stopped(&data) else {
        panic!("the lock was not looked at");
    };
    b.stop().await;
    a.stop().await;

    let pinned = admin::pins_of_stopped(&data).unwrap();
    assert_eq!(
        (pinned[0].server_id.as_str(), pinned[0].linked),
        (server.as_str(), None)
    );
    assert!(matches!(
        admin::unpin_of_stopped(&data, "nobody"),
        Err(AdminError::Refused(refusal)) if refusal.code == "unknown_pin"
    ));
    assert_eq!(admin::unpin_of_stopped(&data, &server).unwrap().server_id, server);
    assert_eq!(admin::pins_of_stopped(&data).unwrap(), []);
    assert!(matches!(
        admin::ask(&data, &Ask::Status),
        Err(AdminError::NotRunning { .. })
    ));

    let nowhere = dir.path().join("nowhere");
    assert!(matches!(
        admin::ask(&nowhere, &Ask::Status),
        Err(AdminError::NoDirectory { .. })
    ));
    assert!(matches!(
        admin::pins_of_stopped(&nowhere),
        Err(AdminError::NotRunning { .. })
    ));
    assert!(!nowhere.exists(), "nothing is made where there was nothing");
}

/// A connection to the socket that says what it likes.
struct Raw(BufReader<UnixStream>);

impl Raw {
    fn open(data: &Path) -> Self {
        let stream = UnixStream::connect(data.join("admin.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn say(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// False where the server has turned us away already.
    fn try_say(&mut self, bytes: &[u8]) -> bool {
        self.0.get_mut().write_all(bytes).is_ok()
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn is_over(&mut self) -> bool {
        self.0.read(&mut [0]).map_or(true, |count| count == 0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_and_do_not_disturb_others() {
    let dir = tempfile::tempdir().unwrap();
    let a = Serving::start(dir.path().join("a"), |_| {}).await;
    let data = a.data.clone();
    tokio::task::spawn_blocking(move || {
        let too_long = format!("{{\"ask\":\"{}\"}}\n", "x".repeat(5000));
        for bad in [
            "hello\n",
            "[]\n",
            "{}\n",
            "{\"ask\":\"nonsense\"}\n",
            "{\"ask\":\"unpin\"}\n",
            "{\"ask\":\"unpin\",\"server\":7}\n",
            "{\"ask\":\"unpin\",\"server\":\"x\",\"more\":1}\n",
            "\n",
            &too_long,
        ] {
            let mut raw = Raw::open(&data);
            raw.say(bad.as_bytes());
            let answer = raw.hear();
            assert_eq!(answer["refused"]["code"], "bad_request", "{bad:?}: {answer}");
            assert!(raw.is_over(), "{bad:?}");
        }
        let mut raw = Raw::open(&data);
        raw.say(&[0xff, 0xfe, b'\n']);
        assert_eq!(raw.hear()["refused"]["code"], "bad_request");

        // One connection may ask many times, in pieces, and without a last line end.
        let mut raw = Raw::open(&data);
        raw.say(b"{\"ask\":");
        raw.say(b"\"pins\"}\n{\"ask\":\"users\"}\n{\"ask\":\"links\"}");
        raw.0.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
        for _ in 0..3 {
            assert_eq!(raw.hear(), json!({"end": {"rows": 0}}));
        }
        assert!(raw.is_over());

        // Eight may be open at once; the ninth is told so at once.
        let mut open = Vec::new();
        let begun = Instant::now();
        while open.len() < 8 {
            assert!(begun.elapsed() < PATIENCE, "only {} places", open.len());
            // The places of those above become free a moment after their connections end.
            let mut raw = Raw::open(&data);
            if raw.try_say(b"{\"ask\":\"pins\"}\n") && raw.hear() == json!({"end": {"rows": 0}}) {
                open.push(raw);
            }
        }
        let mut ninth = Raw::open(&data);
        assert_eq!(ninth.hear()["refused"]["code"], "busy");
        assert!(ninth.is_over());
        let Err(AdminError::Refused(refusal)) = admin::ask(&data, &Ask::Status) else {
            panic!("the tenth was served");
        };
        assert_eq!(refusal.code, "busy");
        drop(open);
        let begun = Instant::now();
        while admin::ask(&data, &Ask::Status).is_err() {
            assert!(begun.elapsed() < PATIENCE, "no place became free");
        }
        // Whoever says nothing loses the place.
        let mut silent = Raw::open(&data);
        assert_eq!(silent.hear()["refused"]["code"], "too_slow");
        assert!(silent.is_over());
    })
    .await
    .unwrap();
    // Who still waits when the server stops is cut off, and does not hold it up.
    let data = a.data.clone();
    let mut waiting = Raw::open(&data);
    a.stop().await;
    assert!(waiting.is_over());
}

#[tokio::test]
async fn a_socket_left_by_a_dead_server_is_replaced_and_a_long_path_works() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("a".repeat(60)).join("b".repeat(60)).join("data");
    assert!(long.join("admin.sock").as_os_str().len() > 107);
    let a = Serving::start(long.clone(), |_| {}).await;
    assert!(a.ask(Ask::Status).await.is_ok());
    a.stop().await;
    assert!(!long.join("admin.sock").exists());

    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    drop(std::os::unix::net::UnixListener::bind(data.join("admin.sock")).unwrap());
    assert!(matches!(
        admin::ask(&data, &Ask::Status),
        Err(AdminError::NotRunning { .. })
    ));
    let a = Serving::start(data.clone(), |_| {}).await;
    assert!(a.ask(Ask::Status).await.is_ok());
    a.stop().await;

    // Something of the operator's own is not removed; the server serves without.
    std::fs::write(data.join("admin.sock"), "mine").unwrap();
    let a = Serving::start(data.clone(), |_| {}).await;
    assert!(a.get("/healthz").await.0.starts_with("HTTP/1.1 200"));
    assert!(a.ask(Ask::Status).await.is_err());
    a.stop().await;
    assert_eq!(std::fs::read(data.join("admin.sock")).unwrap(), b"mine");
    assert!(
        !std::fs::metadata(data.join("admin.sock"))
            .unwrap()
            .file_type()
            .is_socket()
    );
}
