//! Who leaves while a file is under way, and who reads no more: nothing is left behind, and the other side is told.

use crate::conversation::Network;
use crate::pictures::{arrival, arrived, save};
use crate::process::{Process, User, eventually, json, output_of};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Some ten seconds of decrypting for every MiB: nobody receives this before they are told to leave.
const LONG_FILE_BYTES: usize = 2 * 1024 * 1024;
/// Time enough for a file to begin.
const WATCH_SECONDS: &str = "12";

/// Noise of the author's.
fn long_file(dir: &Path) -> PathBuf {
    let bytes: Vec<u8> = std::iter::repeat_with(rand::random).take(LONG_FILE_BYTES).collect();
    save(dir, "long.bin", &bytes)
}

fn sees(user: &User, other: &User) {
    eventually("the other to be seen", || {
        user.listed().contains(&other.id).then_some(())
    });
}

fn is_gone(user: &User, other: &User) {
    eventually("the departure", || (!user.listed().contains(&other.id)).then_some(()));
}

/// A `socp file` whose file has begun to arrive at the watch or chat.
fn begun(author: &User, to: &str, path: &Path, reader: &Process) -> Process {
    let sending = Process::start(author.socp(&["file", to, path.to_str().unwrap()]));
    reader.line_with("\"started\"");
    sending
}

/// The author's program has failed, and said why: in the receiver's words, or in the server's where those are quicker.
fn is_told(mut sending: Process, since: Instant) {
    assert_eq!(sending.wait(), Some(1));
    let by_receiver = ["long.bin", "bob@srv-b", "the receiver left before it was complete"];
    let by_server = ["long.bin", "bob@srv-b", "left meanwhile"];
    eventually("the reason", || {
        sending
            .logged(since, &by_receiver)
            .or_else(|| sending.logged(since, &by_server))
    });
}

#[test]
fn who_is_stopped_amid_a_file_keeps_nothing_and_its_author_is_told() {
    let net = Network::start();
    let path = long_file(net.dir.path());
    let watch = || net.bob.watch(&[]);
    let chat = || Process::start(net.bob.socp(&["--json", "chat", "--plain"]));
    let readers: [(&dyn Fn() -> Process, &str); 4] =
        [(&watch, "INT"), (&watch, "TERM"), (&chat, "INT"), (&chat, "TERM")];
    for (reader, signal) in readers {
        let begun_at = Instant::now();
        let mut reader = reader();
        sees(&net.alice, &net.bob);
        let sending = begun(&net.alice, "bob", &path, &reader);
        assert_eq!(arrived(&net.bob).len(), 1, "a temporary file");
        assert_eq!(reader.signal_and_wait(signal), Some(0), "{signal}");
        assert_eq!(arrived(&net.bob), Vec::<PathBuf>::new(), "{signal}");
        is_told(sending, begun_at);
        is_gone(&net.alice, &net.bob);
    }
}

#[test]
fn a_watch_that_ends_in_time_amid_a_file_keeps_nothing_and_its_author_is_told() {
    let net = Network::start();
    let path = long_file(net.dir.path());
    let begun_at = Instant::now();
    let mut watch = net.bob.watch(&["--timeout", WATCH_SECONDS]);
    sees(&net.alice, &net.bob);
    let sending = begun(&net.alice, "bob", &path, &watch);
    let failed = arrival(&watch);
    assert_eq!(
        (&failed["status"], &failed["detail"]),
        (&"failed".into(), &"the receiver left before it was complete".into()),
        "{failed}"
    );
    assert_eq!(watch.wait(), Some(0));
    assert_eq!(arrived(&net.bob), Vec::<PathBuf>::new());
    is_told(sending, begun_at);
}

#[test]
fn a_watch_counts_what_arrived_or_failed_after_it_had_begun_and_nothing_else() {
    let net = Network::start();
    let mut watch = net.bob.watch(&["--count", "4", "--max-size", "3M"]);
    sees(&net.alice, &net.bob);
    // Not counted: it never begins.
    let huge = save(net.dir.path(), "huge.bin", &vec![0; 3 * 1024 * 1024 + 1]);
    let refused = output_of(&mut net.alice.socp(&["file", "bob", huge.to_str().unwrap()]));
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(arrival(&watch)["status"], "failed");
    // One: given up by its author.
    let path = long_file(net.dir.path());
    let mut sending = begun(&net.alice, "bob", &path, &watch);
    assert_eq!(sending.signal_and_wait("INT"), Some(1));
    assert_eq!(arrival(&watch)["status"], "failed");
    // Two, three and four.
    let small = save(net.dir.path(), "small.bin", b"small");
    net.alice.run(&["file", "bob", small.to_str().unwrap()]);
    assert_eq!(arrival(&watch)["status"], "received");
    net.alice.run(&["all", "to everyone"]);
    assert_eq!(json(&watch.line_with("\"channel\""))["text"], "to everyone");
    net.alice.run(&["tell", "bob", "the last"]);
    assert_eq!(json(&watch.line_with("\"message\""))["text"], "the last");
    assert_eq!(watch.wait(), Some(0));
}

/// Runs a command whose standard output nobody reads; its exit code and what it says.
fn unread(mut command: Command) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_is_sent_succeeds_or_fails_the_same_when_nobody_reads_of_it() {
    let net = Network::start();
    let small = save(net.dir.path(), "small.bin", &[7; 2_000]);
    let small = small.to_str().unwrap();
    let mut watch = net.bob.watch(&[]);
    sees(&net.alice, &net.bob);
    for json in [&[][..], &["--json"]] {
        for args in [
            &["file", "bob", small][..],
            &["all", "hello"],
            &["tell", "bob", "hello"],
            &["list"],
        ] {
            let (code, said) = unread(net.alice.socp(&[json, args].concat()));
            assert_eq!(code, Some(0), "{args:?}: {said}");
            assert!(!said.contains("panicked") && !said.contains("pipe"), "{args:?}: {said}");
        }
        assert_eq!(arrival(&watch)["status"], "received");
    }
    assert_eq!(watch.signal_and_wait("TERM"), Some(0));
    is_gone(&net.alice, &net.bob);
    for args in [&["--json", "file", "bob", small][..], &["--json", "all", "hello"]] {
        let (code, said) = unread(net.alice.socp(args));
        assert_eq!((code, said.lines().count()), (Some(1), 1), "{args:?}: {said}");
    }
}

#[test]
fn who_is_no_longer_read_amid_a_file_keeps_nothing_and_its_author_is_told() {
    let net = Network::start();
    let path = long_file(net.dir.path());
    for args in [&["--json", "watch"][..], &["--json", "chat", "--plain"]] {
        let begun_at = Instant::now();
        let mut child = net
            .bob
            .socp(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        sees(&net.alice, &net.bob);
        let sending = Process::start(net.alice.socp(&["file", "bob", path.to_str().unwrap()]));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let started = lines.map_while(Result::ok).find(|line| line.contains("\"started\""));
        assert!(started.is_some());
        // With the lines went their reader; the next is about how far the file is.
        let status = eventually("the end", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{args:?}");
        assert_eq!(arrived(&net.bob), Vec::<PathBuf>::new(), "{args:?}");
        is_told(sending, begun_at);
        is_gone(&net.alice, &net.bob);
    }
}
