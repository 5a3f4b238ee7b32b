//! Chores of the project, run as `cargo xtask <command>`.
//!
//! There are two: `tidy` reads the tree and reports where it leaves the house rules that no compiler checks, and `test`
//! runs every check there is, in the order in which a mistake is cheapest to find. Nothing has to be built or set up
//! before either of them.

mod suite;
mod tidy;

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask <command>

  test   every check in order, stopping at the first that fails:
         formatting, tidy, clippy, doc tests, tests
  tidy   the house rules that the compiler does not know:
         crate arrows, sizes, sources of limits, module docs, white space
  help   this text
";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words, &mut io::stdout(), &mut io::stderr()) {
        Ok(status) => status,
        Err(error) => {
            // Where even stderr is closed, the exit code has to do.
            writeln!(io::stderr(), "xtask: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str], out: &mut impl Write, err: &mut impl Write) -> io::Result<ExitCode> {
    let passed = match words {
        ["test"] => suite::run(&root()?, out)?,
        ["tidy"] => tidy::run(&root()?, out)?,
        ["help" | "--help" | "-h"] => {
            write!(out, "{HELP}")?;
            true
        }
        _ => {
            write!(err, "xtask: `{}` is no command\n\n{HELP}", words.join(" "))?;
            return Ok(ExitCode::from(2));
        }
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The workspace's folder. Cargo says where this crate lies when it runs it; a copy of the program that is started by
/// hand looks upward from where it stands.
fn root() -> io::Result<PathBuf> {
    if let Some(own) = env::var_os("CARGO_MANIFEST_DIR")
        && let Some(parent) = PathBuf::from(own).parent()
    {
        return Ok(parent.to_path_buf());
    }
    let here = env::current_dir()?;
    here.ancestors()
        .find(|folder| folder.join("xtask/Cargo.toml").is_file())
        .map(PathBuf::from)
        .ok_or_else(|| io::Error::other("run this inside the project"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_command() {
        let mut out = Vec::new();
        run(&["help"], &mut out, &mut io::sink()).unwrap();
        let text = String::from_utf8(out).unwrap();
        for command in ["test", "tidy", "help"] {
            assert!(
                text.contains(&format!("  {command} ")),
                "{command} is missing from:\n{text}"
            );
        }
    }

    #[test]
    fn unknown_words_are_wrong_usage() {
        for words in [&["tset"][..], &["test", "--fast"], &[]] {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let status = run(words, &mut out, &mut err).unwrap();
            assert_eq!(format!("{status:?}"), format!("{:?}", ExitCode::from(2)), "{words:?}");
            assert!(out.is_empty());
            assert!(String::from_utf8(err).unwrap().contains("Usage: cargo xtask"));
        }
    }

    #[test]
    fn root_is_the_folder_that_holds_this_crate() {
        assert!(root().unwrap().join("xtask/Cargo.toml").is_file());
    }
}
