//! The demo's own words, pasted into shells.

use crate::process::{Process, free_ports, socp};
use std::process::Command;

/// Pastes the commands of one section into a shell, and talks to what they start.
fn paste(commands: &[String]) -> Process {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(commands.join("\n")).env("NO_COLOR", "1");
    Process::start(shell)
}

#[test]
fn the_commands_that_the_demo_prints_hold_a_conversation() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = socp();
    command
        .args(["demo", "--port", &free_ports(2).to_string(), "--data"])
        .arg(dir.path().join("demo"));
    let mut demo = Process::start(command);
    let mut said = Vec::new();
    loop {
        said.push(demo.line());
        if said.last().unwrap().starts_with("Ctrl-C") {
            break;
        }
    }
    let commands: Vec<String> = said
        .iter()
        .filter(|line| line.contains(" register ") || line.contains(" chat "))
        .map(|line| line.trim().to_owned())
        .collect();
    assert_eq!(commands.len(), 4, "{said:#?}");
    assert!(
        said.iter()
            .filter(|line| line.contains("ws://") && line.contains("key "))
            .count()
            == 2,
        "{said:#?}"
    );

    let mut alice = paste(&commands[..2]);
    let mut bob = paste(&commands[2..]);
    alice.line_with("connected");
    bob.line_with("connected");
    alice.type_line("/tell echo hello");
    // The mark before a name says that the message is verified.
    alice.line_with("✓ echo@srv-b: hello");
    bob.type_line("/tell alice hello from b");
    alice.line_with("✓ bob@srv-b: hello from b");
    alice.type_line("/tell bob hello from a");
    bob.line_with("✓ alice@srv-a: hello from a");
    drop((alice, bob));
    assert_eq!(demo.signal_and_wait("INT"), Some(0));
}
