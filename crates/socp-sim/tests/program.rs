//! What the program prints, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use socp_sim::Options;
use std::process::{Command, Output};

/// The program on a world of a moment: words, and with them what it is told besides.
fn program(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_socp-sim"));
    command.args("--servers 2 --users 4 --minutes 0 --faults none".split_whitespace());
    command.args(words.split_whitespace());
    command
}

fn last_lines(output: &Output, count: usize) -> Vec<String> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    lines.split_off(lines.len() - count)
}

/// The seed that a line replays.
fn replayed(line: &str) -> u64 {
    assert!(line.starts_with("replay: cargo run"), "{line}");
    let (_, arguments) = line.split_once(" -- ").unwrap();
    arguments.parse::<Options>().unwrap().seed
}

#[test]
fn green_runs_end_with_0() {
    let output = program("--seeds 1..3").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!String::from_utf8(output.stdout).unwrap().contains("replay"));
}

#[test]
fn the_last_line_replays_a_run() {
    let output = program("--seed 5 --mutation silent-hello").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(replayed(&last_lines(&output, 1)[0]), 5);
}

#[test]
fn the_last_lines_replay_all_runs_that_broke_a_rule() {
    let output = program("--seeds 5..8 --mutation silent-hello").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let seeds: Vec<u64> = last_lines(&output, 3).iter().map(|line| replayed(line)).collect();
    assert_eq!(seeds, [5, 6, 7]);
}

#[test]
fn json_has_the_line_that_replays_in_a_field() {
    let output = program("--seeds 5..7 --threads 1 --mutation silent-hello --json")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for line in last_lines(&output, 2) {
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["rule"], "Unanswered");
        assert!(object["replay"].as_str().unwrap().contains("--mutation silent-hello"));
    }
}

#[test]
fn seeds_that_nobody_reads_of_are_no_success() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = program("--seeds 1..5").stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(2));
}
