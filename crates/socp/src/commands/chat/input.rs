//! What a typed line means.

use super::ask::Asker;
use std::io::{self, BufRead, ErrorKind, IsTerminal as _};
use tokio::sync::mpsc;

/// Lines that may wait; a pipe is read no further until they are done.
const LINES_COUNT_MAX: usize = 64;

/// Where a terminal that edits lines itself (one that `edit` cannot serve) cuts them off, without a word (N_TTY_BUF_SIZE of Linux, less the line's end).
const TERMINAL_LINE_BYTES_MAX: usize = 4_095;

/// One typed line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Nothing,
    Quit,
    Help,
    List,
    Tell {
        user: &'a str,
        text: &'a str,
    },
    All(&'a str),
    File {
        user: &'a str,
        path: &'a str,
    },
    History(Option<&'a str>),
    Search(&'a str),
    Receipts {
        wanted: bool,
        user: Option<&'a str>,
    },
    Register,
    /// With something behind it, a password perhaps.
    RegisterWith,
    Login(&'a str),
    Text(&'a str),
    Incomplete(&'static str),
    NotYet(&'a str),
    Unknown(&'a str),
}

pub(super) fn parse(line: &str) -> Line<'_> {
    let line = line.trim();
    let Some(command) = line.strip_prefix('/') else {
        return if line.is_empty() {
            Line::Nothing
        } else {
            Line::Text(line)
        };
    };
    let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    match name {
        "quit" | "exit" => Line::Quit,
        "help" => Line::Help,
        "list" => Line::List,
        "tell" | "msg" => match rest.trim_start().split_once(char::is_whitespace) {
            Some((user, text)) => Line::Tell {
                user,
                text: text.trim_start(),
            },
            None => Line::Incomplete("/tell <user> <text>"),
        },
        "all" if rest.trim_start().is_empty() => Line::Incomplete("/all <text>"),
        "all" => Line::All(rest.trim_start()),
        "file" => match rest.trim_start().split_once(char::is_whitespace) {
            Some((user, path)) => Line::File {
                user,
                path: path.trim_start(),
            },
            None => Line::Incomplete("/file <user|all> <path>"),
        },
        "history" => Line::History(Some(rest.trim_start()).filter(|user| !user.is_empty())),
        "search" if rest.trim_start().is_empty() => Line::Incomplete("/search <words>"),
        "search" => Line::Search(rest.trim_start()),
        "receipts" => receipts(rest.trim_start()),
        "register" if rest.trim_start().is_empty() => Line::Register,
        "register" => Line::RegisterWith,
        "login" if rest.trim_start().is_empty() => Line::Incomplete("/login <name>"),
        "login" => Line::Login(rest.trim_start()),
        "dbget" | "pubget" | "gshare" | "gmsg" | "group" => Line::NotYet(name),
        _ => Line::Unknown(name),
    }
}

fn receipts(rest: &str) -> Line<'_> {
    let (choice, user) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let user = Some(user.trim_start()).filter(|user| !user.is_empty());
    match choice {
        "on" => Line::Receipts { wanted: true, user },
        "off" => Line::Receipts { wanted: false, user },
        _ => Line::Incomplete("/receipts on|off [user]"),
    }
}

/// The lines of standard input. Reading blocks, so a thread does it; the program does not wait for that thread.
pub(super) fn lines() -> mpsc::Receiver<io::Result<Typed>> {
    let (sender, lines) = mpsc::channel(LINES_COUNT_MAX);
    std::thread::spawn(move || {
        let is_terminal = io::stdin().is_terminal();
        for line in read(io::stdin().lock(), is_terminal) {
            let is_last = line.is_err();
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    lines
}

/// A line as it was read.
#[derive(Debug)]
pub(super) enum Typed {
    Line(String),
    /// `/register`, where questions can be asked.
    Register(Asker),
    /// It cannot be what was meant, and why.
    Unusable(&'static str),
    /// Ctrl-C, where it is a key and no signal.
    Interrupt,
}

fn read(input: impl BufRead, is_terminal: bool) -> impl Iterator<Item = io::Result<Typed>> {
    input.lines().map(move |line| match line {
        Ok(line) if is_terminal && line.len() >= TERMINAL_LINE_BYTES_MAX => Ok(Typed::Unusable(
            "nothing was sent: the terminal cuts so long a line; pipe it into `socp tell <user> -`",
        )),
        Ok(line) => Ok(Typed::Line(line)),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Ok(Typed::Unusable("nothing was sent: the line is not UTF-8 text"))
        }
        Err(error) => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_or_is_no_text_is_not_taken_for_one() {
        let long = "y".repeat(TERMINAL_LINE_BYTES_MAX);
        let bytes = [long.as_bytes(), b"\n\xff\nhello\n"].concat();
        let kinds = |is_terminal| -> Vec<bool> {
            read(&*bytes, is_terminal)
                .map(|line| matches!(line.unwrap(), Typed::Line(_)))
                .collect()
        };
        assert_eq!(kinds(true), [false, false, true]);
        assert_eq!(kinds(false), [true, false, true]);
    }

    #[test]
    fn each_line_has_one_meaning() {
        let table = [
            ("", Line::Nothing),
            ("  \t", Line::Nothing),
            ("hello there", Line::Text("hello there")),
            ("/list", Line::List),
            ("/quit", Line::Quit),
            ("/help", Line::Help),
            (
                "/tell bob  hi you",
                Line::Tell {
                    user: "bob",
                    text: "hi you",
                },
            ),
            (
                " /msg bob@srv-b /quit",
                Line::Tell {
                    user: "bob@srv-b",
                    text: "/quit",
                },
            ),
            ("/tell bob", Line::Incomplete("/tell <user> <text>")),
            ("/tell", Line::Incomplete("/tell <user> <text>")),
            ("/all  hi you", Line::All("hi you")),
            ("/all", Line::Incomplete("/all <text>")),
            ("/group x", Line::NotYet("group")),
            (
                "/file all  my photo.png",
                Line::File {
                    user: "all",
                    path: "my photo.png",
                },
            ),
            ("/file bob", Line::Incomplete("/file <user|all> <path>")),
            ("/history", Line::History(None)),
            ("/history  bob", Line::History(Some("bob"))),
            ("/search  two words", Line::Search("two words")),
            ("/search", Line::Incomplete("/search <words>")),
            (
                "/receipts off  bob",
                Line::Receipts {
                    wanted: false,
                    user: Some("bob"),
                },
            ),
            (
                "/receipts on",
                Line::Receipts {
                    wanted: true,
                    user: None,
                },
            ),
            ("/receipts", Line::Incomplete("/receipts on|off [user]")),
            ("/register", Line::Register),
            (" /register ", Line::Register),
            ("/register my password", Line::RegisterWith),
            ("/login", Line::Incomplete("/login <name>")),
            ("/login  bob", Line::Login("bob")),
            ("/nonsense x", Line::Unknown("nonsense")),
            ("/", Line::Unknown("")),
        ];
        for (line, meaning) in table {
            assert_eq!(parse(line), meaning, "{line:?}");
        }
    }
}
