//! What an operator asks of a running server, and what to do when a server comes back with another key.

use crate::process::{Served, User, eventually, failure_of, json, output_of, socp, stdout_of};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

fn admin(data: &Path, args: &[&str]) -> Command {
    let mut command = socp();
    command.arg("admin").args(args).arg("--data").arg(data);
    command
}

/// The rows of an answer, as scripts get them.
fn rows(data: &Path, what: &str) -> Vec<Value> {
    stdout_of(admin(data, &[what]).arg("--json"))
        .lines()
        .map(json)
        .collect()
}

fn status(data: &Path) -> Value {
    rows(data, "status").remove(0)
}

/// The value of a series of `/metrics`.
fn metric(address: &str, series: &str) -> Option<u64> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let line = answer.lines().find(|line| line.starts_with(&format!("{series} ")))?;
    line.rsplit(' ').next().unwrap().parse().ok()
}

/// A command that must fail with one line on stderr that says all of these.
#[track_caller]
fn fails(command: &mut Command, words: &[&str]) {
    let (code, stderr) = failure_of(command);
    assert_eq!((code, stderr.lines().count()), (1, 1), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is missing in {stderr:?}");
    }
}

#[test]
fn an_operator_sees_servers_links_users_and_pins() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &[]);
    let b = Served::start(dir.path(), "srv-b", &["--bootstrap", &a.bootstrap()]);
    let alice = User::register(dir.path(), "alice", &a.url);
    let bob = User::register(dir.path(), "bob", &b.url);
    let watching = [alice.watch(&[]), bob.watch(&[])];
    eventually("both to be online", || {
        let status = status(&a.data);
        (status["local_users"] == 1 && status["remote_users"] == 1).then_some(())
    });

    let status = status(&a.data);
    assert_eq!((&status["peers"], &status["pins"]), (&1.into(), &1.into()));
    assert_eq!(
        (&status["server_id"], &status["name"]),
        (&a.server_id.as_str().into(), &"srv-a".into())
    );
    let text = stdout_of(&mut admin(&a.data, &["status"]));
    for line in [
        "server       ",
        "1 linked, 1 pinned",
        "1 here, 1 elsewhere, 0 at lost servers",
        "store        works",
    ] {
        assert!(text.contains(line), "{line:?} is missing in\n{text}");
    }

    let links = rows(&a.data, "links");
    let who: Vec<_> = links.iter().map(|link| (&link["role"], &link["who"])).collect();
    assert!(
        who.contains(&(&"peer".into(), &b.server_id.as_str().into())),
        "{links:?}"
    );
    assert!(who.contains(&(&"user".into(), &alice.id.as_str().into())), "{links:?}");
    let text = stdout_of(&mut admin(&a.data, &["links"]));
    assert!(text.starts_with("LINK  ROLE"), "{text}");
    assert_eq!(text.lines().count(), 1 + links.len(), "{text}");

    let mut ids = [alice.id.as_str(), bob.id.as_str()];
    ids.sort_unstable();
    let users = rows(&a.data, "users");
    let listed: Vec<_> = users.iter().map(|user| user["user_id"].as_str().unwrap()).collect();
    assert_eq!(listed, ids);
    let text = stdout_of(&mut admin(&a.data, &["users"]));
    assert!(text.contains("alice") && text.contains("remote"), "{text}");

    let pins = rows(&a.data, "pins");
    assert_eq!((pins.len(), &pins[0]["server_id"]), (1, &b.server_id.as_str().into()));
    assert_eq!(pins[0]["linked"], true);
    drop(watching);
    eventually("all to be offline", || {
        (stdout_of(&mut admin(&a.data, &["users"])) == "nobody is online\n").then_some(())
    });
}

#[test]
fn a_server_that_comes_back_with_another_key_is_refused_until_it_is_unpinned() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &[]);
    let (address, id) = (a.address().to_owned(), a.server_id.clone());
    // Without a key in the entry, whoever first answers there is trusted.
    let b = Served::start(dir.path(), "srv-b", &["--bootstrap", &format!("ws://{address}")]);
    let peers = |count: u64| {
        eventually("the number of linked servers", || {
            (status(&b.data)["peers"] == count).then_some(())
        });
    };
    peers(1);
    let before = rows(&b.data, "pins").remove(0);
    a.stop();
    peers(0);

    // The same id at the same address, all else lost.
    let again = Served::start_on(dir.path(), "srv-new", &address, &["--server-id", &id]);
    eventually("the other key to be refused", || {
        metric(b.address(), "socp_refusals_total{class=\"key\"}").filter(|count| *count > 0)
    });
    assert!(metric(b.address(), "socp_warnings_total{kind=\"pin_conflict\"}").is_some_and(|count| count > 0));
    assert_eq!(status(&b.data)["peers"], 0);
    assert_eq!(
        rows(&b.data, "pins"),
        [before.clone()].map(|mut pin| {
            pin["linked"] = false.into();
            pin
        })
    );

    fails(&mut admin(&b.data, &["unpin", &id[..8]]), &["--yes", &id]);
    fails(
        &mut admin(&b.data, &["unpin", "nobody", "--yes"]),
        &["nobody", "socp admin pins"],
    );
    fails(&mut admin(&b.data, &["unpin", &id[..2], "--yes"]), &["4 characters"]);
    let said = stdout_of(&mut admin(&b.data, &["unpin", &id[..8], "--yes"]));
    assert!(said.starts_with("unpinned ") && said.contains(&id), "{said}");
    peers(1);
    let after = rows(&b.data, "pins").remove(0);
    assert_eq!(after["server_id"], before["server_id"]);
    assert_ne!(after["fingerprint"], before["fingerprint"]);
    again.stop();
}

#[test]
fn a_stopped_server_shows_and_forgets_pins_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &[]);
    let b = Served::start(dir.path(), "srv-b", &["--bootstrap", &a.bootstrap()]);
    eventually("the servers to meet", || {
        (rows(&a.data, "pins").len() == 1).then_some(())
    });
    let (data, id) = (a.data.clone(), b.server_id.clone());
    b.stop();
    a.stop();
    for what in ["status", "links", "users"] {
        fails(&mut admin(&data, &[what]), &["no server is running on", "socp serve"]);
    }
    assert_eq!(rows(&data, "pins")[0]["linked"], Value::Null);
    let removed = json(stdout_of(admin(&data, &["unpin", &id, "--yes"]).arg("--json")).trim());
    assert_eq!(removed["server_id"], id.as_str());
    assert_eq!(rows(&data, "pins"), Vec::<Value>::new());
    assert_eq!(stdout_of(&mut admin(&data, &["pins"])), "no server is pinned\n");
}

#[test]
fn whoever_asks_in_the_wrong_place_or_way_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    fails(
        &mut admin(&nowhere, &["status"]),
        &["no data directory", "nowhere", "--data"],
    );
    fails(&mut admin(dir.path(), &["pins"]), &["no server is running on"]);
    for args in [
        &["admin"][..],
        &["admin", "status"],
        &["admin", "nonsense"],
        &["admin", "unpin", "--data", "x"],
    ] {
        let output = output_of(socp().args(args));
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
    // A server that was killed leaves its socket behind, and its successor takes that over.
    let mut server = Served::start(dir.path(), "srv", &[]);
    let data = server.data.clone();
    let socket = data.join("admin.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    server.process.signal_and_wait("KILL");
    assert!(socket.exists());
    fails(&mut admin(&data, &["status"]), &["no server is running on"]);
    let server = Served::start(dir.path(), "srv", &[]);
    assert_eq!(status(&data)["local_users"], 0);
    server.stop();
    assert!(!socket.exists());
}

#[test]
fn a_server_joins_by_a_list_that_it_shares_with_others() {
    let dir = tempfile::tempdir().unwrap();
    let a = Served::start(dir.path(), "srv-a", &["--introducer"]);
    let c = Served::start(dir.path(), "srv-c", &["--bootstrap", &a.bootstrap()]);
    let own = format!("127.0.0.1:{}", crate::process::free_ports(1));
    let list = dir.path().join("introducers.yaml");
    let (a_port, c_port) = (
        a.address().rsplit(':').next().unwrap(),
        c.address().rsplit(':').next().unwrap(),
    );
    let text = format!(
        "# Everybody's list: the reader's own address is in it, and one is there twice.\nbootstrap_servers:\n\
         \x20 - host: 127.0.0.1\n    port: {a_port}\n    pubkey: {}\n  - ws://{own}\n  - ws://127.0.0.1:{c_port}\n\
         \x20 - ws://127.0.0.1:{a_port}\n",
        a.pubkey
    );
    std::fs::write(&list, text).unwrap();
    let b = Served::start_on(dir.path(), "srv-b", &own, &["--bootstrap-file", list.to_str().unwrap()]);
    eventually("all to be linked", || {
        [&a, &b, &c]
            .iter()
            .all(|server| status(&server.data)["peers"] == 2)
            .then_some(())
    });

    std::fs::write(&list, "bootstrap_servers:\n  - host: h\n    port: 0\n").unwrap();
    let other = dir.path().join("other");
    let mut serve = socp();
    serve
        .args(["serve", "--data"])
        .arg(&other)
        .arg("--bootstrap-file")
        .arg(&list);
    fails(&mut serve, &["introducers.yaml", "line 3", "port 0"]);
    assert!(!other.exists(), "nothing is made before the settings are right");
}

#[test]
fn a_server_that_only_introduces_links_others_and_takes_no_users() {
    let dir = tempfile::tempdir().unwrap();
    let only = Served::start(dir.path(), "only", &["--introducer", "--no-users"]);
    let a = Served::start(dir.path(), "srv-a", &["--bootstrap", &only.bootstrap()]);
    let b = Served::start(dir.path(), "srv-b", &["--bootstrap", &only.bootstrap()]);
    eventually("all to be linked", || {
        [&only, &a, &b]
            .iter()
            .all(|server| status(&server.data)["peers"] == 2)
            .then_some(())
    });
    let nobody = User::register(dir.path(), "nobody", &only.url);
    fails(&mut nobody.socp(&["list"]), &[]);
    let seen = status(&only.data);
    assert_eq!((&seen["takes_users"], &seen["home_users"]), (&false.into(), &0.into()));
    let text = stdout_of(&mut admin(&only.data, &["status"]));
    assert!(text.contains("takes none (--no-users)"), "{text}");
    // It is on the way of others' presence, and not in it.
    let alice = User::register(dir.path(), "alice", &a.url);
    let _watching = alice.watch(&[]);
    eventually("alice to be known", || {
        (status(&b.data)["remote_users"] == 1).then_some(())
    });
}

/// A server's log, from its start to its end.
fn log_of(dir: &Path, name: &str, args: &[&str]) -> Vec<String> {
    let path = dir.join(format!("{name}.log"));
    let mut serve = socp();
    serve
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(dir.join(name))
        .args(args)
        .stdout(std::process::Stdio::piped())
        .stderr(std::fs::File::create(&path).unwrap());
    let mut child = serve.spawn().unwrap();
    let mut ready = [0; 5];
    child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready");
    let stopped = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(stopped.success() && child.wait().unwrap().success());
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn each_change_of_state_is_one_line_of_the_log_as_text_or_json() {
    let dir = tempfile::tempdir().unwrap();
    let text = log_of(dir.path(), "text", &["--name", "srv-x"]);
    let messages: Vec<&str> = text
        .iter()
        .map(|line| line.split("socp_server").nth(1).unwrap())
        .collect();
    assert_eq!(messages.len(), 3, "{text:?}");
    for (message, word) in messages.iter().zip(["listening", "stopping", "stopped"]) {
        assert!(message.contains(word), "{message}");
    }
    let lines = log_of(dir.path(), "json", &["--name", "srv-x", "--log-format", "json"]);
    let lines: Vec<Value> = lines.iter().map(|line| json(line)).collect();
    let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["listening", "stopping", "stopped"]);
    assert_eq!(
        (&lines[0]["name"], &lines[0]["level"]),
        (&"srv-x".into(), &"INFO".into())
    );
    // The file of the data directory says so, too.
    std::fs::write(
        dir.path().join("json").join("socp.toml"),
        "log_format = \"json\"\nlog = \"warn\"\n",
    )
    .unwrap();
    assert_eq!(log_of(dir.path(), "json", &[]), Vec::<String>::new());
}
