//! `cargo xtask test`: every check, cheapest first, stopping at the first that fails.
//!
//! The order is a list of [`Step`]s made by [`plan`] from what is installed ([`Tools`]), so that it can be tested without
//! running anything. A missing formatter, linter or nextest makes a step shorter or skips it with a notice; a missing C
//! compiler stops everything at once, because the build would fail minutes later with a worse message. The runner of the
//! tests comes last: its own closing lines are the last thing on the screen.

use crate::tidy;
use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// What is installed.
#[derive(Debug, Clone, Copy)]
struct Tools {
    rustfmt: bool,
    clippy: bool,
    nextest: bool,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// Start cargo with these arguments.
    Cargo(&'static [&'static str]),
    /// Check the house rules in this process.
    Tidy,
    /// Leave something out and say so.
    Skip { name: &'static str, how: &'static str },
}

/// Runs every step and streams what they print.
///
/// Returns whether all passed; false as soon as one step fails, with a line that names it.
pub(crate) fn run(root: &Path, out: &mut impl Write) -> io::Result<bool> {
    if let Some(missing) = missing_compiler() {
        writeln!(out, "test: {missing}")?;
        return Ok(false);
    }
    let steps = plan(detect(root));
    in_order(&steps, out, |step, out| perform(step, root, out))
}

/// Stops at the first step that fails and names it.
fn in_order<W: Write>(
    steps: &[Step],
    out: &mut W,
    mut perform: impl FnMut(&Step, &mut W) -> io::Result<bool>,
) -> io::Result<bool> {
    for step in steps {
        if !perform(step, out)? {
            writeln!(out, "test: failed at `{}`", step.name())?;
            return Ok(false);
        }
    }
    Ok(true)
}

fn plan(tools: Tools) -> Vec<Step> {
    let format = if tools.rustfmt {
        Step::Cargo(&["fmt", "--all", "--check"])
    } else {
        Step::Skip {
            name: "cargo fmt",
            how: "rustup component add rustfmt",
        }
    };
    let lints = if tools.clippy {
        vec![
            Step::Cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
            Step::Cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--features",
                "socp/acme",
                "--",
                "-D",
                "warnings",
            ]),
        ]
    } else {
        vec![Step::Skip {
            name: "cargo clippy",
            how: "rustup component add clippy",
        }]
    };
    // Nextest runs no doc tests, and `cargo test --tests` none either, so they are a step of their own.
    let docs = Step::Cargo(&["test", "--workspace", "--doc"]);
    // What is left out of the program as it is shipped, and costs little to build; the other features want more than that.
    let (acme, tests) = if tools.nextest {
        (
            Step::Cargo(&["nextest", "run", "--workspace", "--features", "socp/acme", "acme"]),
            Step::Cargo(&["nextest", "run", "--workspace"]),
        )
    } else {
        (
            Step::Cargo(&["test", "--workspace", "--tests", "--features", "socp/acme", "acme"]),
            Step::Cargo(&["test", "--workspace", "--tests"]),
        )
    };
    let before = vec![format, Step::Tidy];
    [before, lints, vec![docs, acme, tests]].concat()
}

impl Step {
    fn name(&self) -> String {
        match self {
            Step::Cargo(arguments) => format!("cargo {}", arguments.join(" ")),
            Step::Tidy => "cargo xtask tidy".to_owned(),
            Step::Skip { name, .. } => (*name).to_owned(),
        }
    }
}

fn perform(step: &Step, root: &Path, out: &mut impl Write) -> io::Result<bool> {
    match step {
        Step::Skip { name, how } => {
            writeln!(out, "test: skipping {name}, it is not installed ({how})")?;
            Ok(true)
        }
        Step::Tidy => {
            writeln!(out, "test: {}", step.name())?;
            tidy::run(root, out)
        }
        Step::Cargo(arguments) => {
            writeln!(out, "test: {}", step.name())?;
            out.flush()?;
            let status = cargo(root).args(*arguments).stdin(Stdio::null()).status()?;
            Ok(status.success())
        }
    }
}

fn detect(root: &Path) -> Tools {
    Tools {
        rustfmt: answers(cargo(root).args(["fmt", "--version"])),
        clippy: answers(cargo(root).args(["clippy", "--version"])),
        nextest: answers(cargo(root).args(["nextest", "--version"])),
    }
}

/// The line to print when no C compiler answers, which aws-lc and SQLite need. Windows builds find theirs by the registry
/// of the system, not by name, so nothing is asked there.
fn missing_compiler() -> Option<String> {
    let named = env::var_os("CC").filter(|name| !name.is_empty());
    if cfg!(windows) || named.is_some() || answers(Command::new("cc").arg("--version")) {
        return None;
    }
    Some("the C compiler `cc` is missing; install gcc and libc6-dev (Debian), gcc (Fedora) or `xcode-select --install` (macOS)".to_owned())
}

/// The cargo that runs us, so that one toolchain does everything.
fn cargo(root: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(root);
    command
}

fn answers(command: &mut Command) -> bool {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Tools = Tools {
        rustfmt: true,
        clippy: true,
        nextest: true,
    };
    const NONE: Tools = Tools {
        rustfmt: false,
        clippy: false,
        nextest: false,
    };

    fn names(tools: Tools) -> Vec<String> {
        plan(tools).iter().map(Step::name).collect()
    }

    #[test]
    fn cheap_checks_come_first_and_the_test_runner_last() {
        assert_eq!(
            names(ALL),
            [
                "cargo fmt --all --check",
                "cargo xtask tidy",
                "cargo clippy --workspace --all-targets -- -D warnings",
                "cargo clippy --workspace --all-targets --features socp/acme -- -D warnings",
                "cargo test --workspace --doc",
                "cargo nextest run --workspace --features socp/acme acme",
                "cargo nextest run --workspace",
            ]
        );
    }

    #[test]
    fn missing_tools_are_skipped_with_a_notice_and_the_tests_still_run() {
        assert_eq!(names(NONE).last().unwrap(), "cargo test --workspace --tests");
        let mut out = Vec::new();
        for step in plan(NONE).iter().filter(|step| matches!(step, Step::Skip { .. })) {
            assert!(perform(step, Path::new("."), &mut out).unwrap());
        }
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("skipping cargo fmt"), "{text}");
        assert!(text.contains("skipping cargo clippy"), "{text}");
    }

    #[test]
    fn a_program_that_does_not_exist_does_not_answer() {
        assert!(!answers(Command::new("no-such-program-anywhere").arg("--version")));
    }

    #[test]
    fn the_first_failure_is_named_and_ends_the_run() {
        let mut out = Vec::new();
        let mut performed = Vec::new();
        let passed = in_order(&plan(ALL), &mut out, |step, _| {
            performed.push(step.name());
            Ok(*step != Step::Tidy)
        });
        assert!(!passed.unwrap());
        assert_eq!(performed, ["cargo fmt --all --check", "cargo xtask tidy"]);
        assert_eq!(String::from_utf8(out).unwrap(), "test: failed at `cargo xtask tidy`\n");
    }
}
