//! What a typed line means.

use std::io::BufRead as _;
use tokio::sync::mpsc;

/// Lines that may wait; a pipe is read no further until they are done.
const LINES_COUNT_MAX: usize = 64;

/// One typed line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Nothing,
    Quit,
    Help,
    List,
    Tell { user: &'a str, text: &'a str },
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
        "all" | "file" | "register" | "login" | "dbget" | "pubget" | "gshare" | "gmsg" | "group" => Line::NotYet(name),
        _ => Line::Unknown(name),
    }
}

/// The lines of standard input. Reading blocks, so a thread does it; the program does not wait for that thread.
pub(super) fn lines() -> mpsc::Receiver<std::io::Result<String>> {
    let (sender, lines) = mpsc::channel(LINES_COUNT_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let is_last = line.is_err();
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("/all hi", Line::NotYet("all")),
            ("/nonsense x", Line::Unknown("nonsense")),
            ("/", Line::Unknown("")),
        ];
        for (line, meaning) in table {
            assert_eq!(parse(line), meaning, "{line:?}");
        }
    }
}
