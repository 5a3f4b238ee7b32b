//! The `socp` program: secure federated chat in one binary.
//!
//! What scripts may rely on: one thing per line on standard output, logs and one clear line about a failure on standard
//! error, exit status 0 for done, 1 for failed, 2 for wrong usage.

mod cli;
mod commands;
mod face;
mod out;
mod passphrase;
mod password;
mod qr;
mod safe_text;
mod show;
mod transfer;
mod words;

use clap::Parser as _;
use cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough, as in `socp list | head -1`.
        Err(report) if out::is_broken_pipe(&report) => ExitCode::SUCCESS,
        Err(report) => match report.downcast_ref::<clap::Error>() {
            // Settings that go together only with another one.
            Some(usage) => usage.exit(),
            None => {
                out::failure(&report);
                ExitCode::FAILURE
            }
        },
    }
}
