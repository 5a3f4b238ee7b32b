//! `socp bench`: that it measures at all, and what it refuses.

use crate::process::{PATIENCE, Process, Served, eventually, failure_of, json, socp, stdout_of};
use std::process::Command;
use std::time::Instant;

/// A benchmark whose key is kept from one test run to the next.
fn bench(args: &[&str]) -> Command {
    let mut command = socp();
    command
        .args(["bench", "--cache", concat!(env!("CARGO_TARGET_TMPDIR"), "/bench")])
        .args(args);
    command
}

#[test]
fn a_short_benchmark_delivers_everything_and_prints_one_object() {
    let args = ["dm", "--seconds", "1", "--clients", "2", "--messages", "40", "--json"];
    let line = stdout_of(&mut bench(&args));
    let figures = json(line.trim_end());
    assert_eq!((&figures["scenario"], &figures["lost"]), (&"dm".into(), &0.into()));
    let delivered = figures["delivered"].as_u64().unwrap();
    assert!((1..=40).contains(&delivered), "{line}");
    for rate in ["per_wall_s", "rsa_sign_per_cpu_s", "rsa_verify_per_cpu_s", "p50_ms"] {
        assert!(
            figures[rate].as_f64().is_some_and(|rate| rate > 0.0),
            "{rate} in {line}"
        );
    }
}

#[test]
fn a_server_that_was_away_is_given_everything_in_order() {
    let line = stdout_of(&mut bench(&["away", "--clients", "2", "--messages", "60", "--json"]));
    let figures = json(line.trim_end());
    assert_eq!(
        (&figures["delivered"], &figures["lost"]),
        (&60.into(), &0.into()),
        "{line}"
    );
    assert!(
        figures["waiting_rss_mib"].as_f64().is_some_and(|mib| mib > 0.0),
        "{line}"
    );
    let (code, why) = failure_of(&mut bench(&["away", "--clients", "1", "--messages", "2501"]));
    assert_eq!(code, 1);
    assert!(why.contains("a mailbox takes 2500 messages of one author"), "{why}");
}

#[test]
fn logins_are_counted_and_what_a_clock_tells_is_measured() {
    let line = stdout_of(&mut bench(&["login", "--seconds", "1", "--clients", "2", "--json"]));
    let figures = json(line.trim_end());
    assert!(figures["delivered"].as_u64().unwrap() > 0, "{line}");
    for time in [
        "challenge_account_ms",
        "challenge_nobody_ms",
        "refusal_account_ms",
        "refusal_nobody_ms",
    ] {
        assert!(figures[time].as_f64().is_some_and(|ms| ms > 0.0), "{time} in {line}");
    }
}

#[test]
fn a_running_server_is_measured_and_left_running() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Served::start(dir.path(), "srv-a", &["--rate-limit", "off", "--accept", "signed"]);
    let args = [
        "channel",
        "--clients",
        "3",
        "--seconds",
        "1",
        "--messages",
        "5",
        "--json",
        "--server",
    ];
    for _ in 0..2 {
        let figures = json(stdout_of(bench(&args).arg(&server.url)).trim_end());
        assert_eq!((&figures["delivered"], &figures["lost"]), (&15.into(), &0.into()));
        assert!(figures.get("server_cpu_s").is_none(), "nobody said which process it is");
    }
    assert_eq!(server.process.signal_and_wait("TERM"), Some(0));
    let (code, why) = failure_of(bench(&args).arg(&server.url));
    assert_eq!(code, 1);
    assert!(why.contains("cannot connect to ws://"), "{why}");
}

#[test]
fn what_cannot_be_measured_is_refused_in_one_line() {
    let table: [(&[&str], i32, &str); 8] = [
        (&["login", "--tls"], 1, "login measures without TLS"),
        (
            &["login", "--server", "ws://192.0.2.1:1"],
            1,
            "login measures a server at 127.0.0.1 only",
        ),
        (&["nonsense"], 2, "invalid value 'nonsense'"),
        (&["dm", "--clients", "0"], 2, "0 is not in 1..=10000"),
        (&["dm", "--size", "70000"], 2, "a message has 1 to 65536 bytes"),
        (&["mesh", "--servers", "1"], 1, "a mesh has 2 or 3 servers"),
        (&["dm", "--pid", "1"], 1, "--pid names the process"),
        (
            &["mesh", "--server", "ws://127.0.0.1:1"],
            1,
            "mesh starts its own servers",
        ),
    ];
    for (args, code, said) in table {
        let (got, why) = failure_of(&mut bench(args));
        assert!(got == code && why.contains(said), "{args:?}: {got}, {why}");
        assert!(code == 2 || why.lines().count() == 1, "{why}");
    }
}

#[test]
fn a_server_that_dies_is_the_reason_that_is_given() {
    let mut command = bench(&["idle", "--clients", "2", "--seconds", "60"]);
    command.args(["--log", "info"]);
    let mut running = Process::start(command);
    let begun = Instant::now();
    eventually("everyone to be connected", || {
        running.logged(begun - PATIENCE, &["everyone is connected"])
    });
    let server = child_of(running.id()).unwrap();
    assert!(
        Command::new("kill")
            .args(["-KILL", &server])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(running.wait(), Some(1));
    let reason = "socp: the server ended while it was measured (signal: 9 (SIGKILL))";
    eventually("the reason", || running.logged(begun, &[reason]));
}

#[test]
fn a_benchmark_that_is_stopped_takes_its_server_along() {
    let mut running = Process::start(bench(&["idle", "--clients", "2", "--seconds", "60", "--log", "info"]));
    let begun = Instant::now();
    eventually("everyone to be connected", || {
        running.logged(begun - PATIENCE, &["everyone is connected"])
    });
    let server = child_of(running.id()).unwrap();
    assert_eq!(running.signal_and_wait("TERM"), Some(1));
    eventually("the reason", || {
        running.logged(begun, &["socp: stopped before the end"])
    });
    assert!(!std::path::Path::new(&format!("/proc/{server}")).exists());
}

/// The id of a process that this one started.
fn child_of(parent: u32) -> Option<String> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok();
    // Any thread of it may have started the child.
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).ok()?;
    let of_threads = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    let all = children.into_iter().chain(of_threads).collect::<Vec<_>>().join(" ");
    all.split_ascii_whitespace().next().map(str::to_owned)
}
