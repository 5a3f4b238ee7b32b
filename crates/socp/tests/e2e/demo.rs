//! The demo's own words, pasted into shells.

use crate::process::{Process, eventually, free_ports, socp};
use std::path::Path;
use std::process::Command;

/// Starts the demo and reads what it says.
fn start_demo(data: &Path) -> (Process, Vec<String>) {
    let mut command = socp();
    command
        .args(["demo", "--port", &free_ports(2).to_string(), "--data"])
        .arg(data);
    let demo = Process::start(command);
    let mut said = Vec::new();
    while !said.last().is_some_and(|line: &String| line.starts_with("Ctrl-C")) {
        said.push(demo.line());
    }
    (demo, said)
}

/// The lines to paste.
fn commands(said: &[String]) -> Vec<String> {
    let is_command = |line: &&String| line.contains(" register ") || line.contains(" chat ");
    said.iter()
        .filter(is_command)
        .map(|line| line.trim().to_owned())
        .collect()
}

/// Pastes commands into a shell, and talks to what they start.
fn paste(commands: &[String]) -> Process {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(commands.join("\n")).env("NO_COLOR", "1");
    Process::start(shell)
}

#[test]
fn the_commands_that_the_demo_prints_hold_a_conversation() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("demo");
    let (mut demo, said) = start_demo(&data);
    let to_paste = commands(&said);
    assert_eq!(to_paste.len(), 4, "{said:#?}");
    let servers = said
        .iter()
        .filter(|line| line.contains("ws://") && line.contains("key "));
    assert_eq!(servers.count(), 2, "{said:#?}");

    let mut alice = paste(&to_paste[..2]);
    let mut bob = paste(&to_paste[2..]);
    alice.line_with("connected");
    bob.line_with("connected");
    alice.type_line("/tell echo hello");
    // The mark before a name says that the message is verified.
    alice.line_with("✓ echo@srv-b: hello");
    // His server hears of her within a second or so.
    eventually("alice to be known at the other server", || {
        // The echo is always listed, so there is a line for each.
        bob.type_line("/list");
        bob.line().contains("alice@srv-a").then_some(())
    });
    bob.type_line("/tell alice hello from b");
    alice.line_with("✓ bob@srv-b: hello from b");
    alice.type_line("/tell bob hello from a");
    bob.line_with("✓ alice@srv-a: hello from a");
    drop((alice, bob));
    assert_eq!(demo.signal_and_wait("INT"), Some(0));

    // Both are registered by now, so that the next start offers to chat at once.
    let (_demo, said) = start_demo(&data);
    let to_paste = commands(&said);
    assert!(
        to_paste.len() == 2 && to_paste.iter().all(|line| line.contains(" chat ")),
        "{said:#?}"
    );
    let mut alice = paste(&to_paste[..1]);
    alice.line_with("connected");
    alice.type_line("/tell echo still there");
    alice.line_with("✓ echo@srv-b: still there");
    assert!(
        to_paste.len() == 2 && to_paste.iter().all(|line| line.contains(" chat ")),
        "{said:#?}"
    );
}
