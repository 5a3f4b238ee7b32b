//! A terminal on which we edit what is typed, so that it is redrawn below what arrives meanwhile.

use super::input::{Line, Typed, parse};
use super::screen::CLEAR_LINE;
use crate::out;
use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor, ExternalPrinter};
use std::io;
use std::sync::{Mutex, mpsc as blocking};
use tokio::sync::mpsc;

pub(super) const PROMPT: &str = "> ";
/// Pasted text is no longer marked as such (xterm's mode 2004).
const PASTE_MARKS_OFF: &str = "\u{1b}[?2004l";

type Printer = Box<dyn ExternalPrinter + Send>;
/// Without a bound: the editor must never wait for us while we wait for it to print, and it holds what one person types.
type Lines = mpsc::UnboundedReceiver<io::Result<Typed>>;

/// Prints above the line that is being typed; restores the terminal when dropped.
pub(super) struct Terminal {
    printer: Mutex<Printer>,
    #[cfg(unix)]
    before: rustix::termios::Termios,
}

/// Starts to read. Reading blocks, so a thread does it; the program does not wait for that thread.
pub(super) fn start() -> io::Result<(Lines, Terminal)> {
    #[cfg(unix)]
    let before = rustix::termios::tcgetattr(io::stdin())?;
    let (sender, lines) = mpsc::unbounded_channel();
    let (printer_sender, printer) = blocking::channel();
    std::thread::spawn(move || match editor() {
        Ok((editor, printer)) => {
            if printer_sender.send(Ok(printer)).is_ok() {
                read(editor, &sender);
            }
        }
        Err(error) => drop(printer_sender.send(Err(error))),
    });
    let printer = printer.recv().map_err(io::Error::other)?.map_err(io::Error::other)?;
    let terminal = Terminal {
        printer: Mutex::new(printer),
        #[cfg(unix)]
        before,
    };
    Ok((lines, terminal))
}

fn editor() -> rustyline::Result<(DefaultEditor, Printer)> {
    let config = Config::builder().auto_add_history(true).build();
    let mut editor = DefaultEditor::with_config(config)?;
    let printer = editor.create_external_printer()?;
    Ok((editor, Box::new(printer)))
}

/// Until the end, which the editor has to see first: it would have made the terminal raw again by the time others do.
fn read(mut editor: DefaultEditor, sender: &mpsc::UnboundedSender<io::Result<Typed>>) {
    loop {
        match editor.readline(PROMPT) {
            Ok(typed) => {
                for line in lines_of(&typed) {
                    let is_last = parse(line) == Line::Quit;
                    if sender.send(Ok(Typed::Line(line.to_owned()))).is_err() || is_last {
                        return;
                    }
                }
            }
            Err(ReadlineError::Signal(_)) => {}
            Err(error) => {
                if let Some(typed) = error_as_typed(error) {
                    // When nobody listens, the program is ending already.
                    drop(sender.send(typed));
                }
                return;
            }
        }
    }
}

/// Pasted lines wait for Enter together.
fn lines_of(typed: &str) -> impl Iterator<Item = &str> {
    typed.split(['\n', '\r']).filter(|line| !line.trim().is_empty())
}

/// Nothing when there is just no more to read.
fn error_as_typed(error: ReadlineError) -> Option<io::Result<Typed>> {
    if matches!(error, ReadlineError::Eof) {
        None
    } else if matches!(error, ReadlineError::Interrupted) {
        Some(Ok(Typed::Interrupt))
    } else {
        Some(Err(io::Error::other(error)))
    }
}

impl Terminal {
    /// One line above what is being typed.
    pub(super) fn line(&self, line: &str) -> io::Result<()> {
        let text = format!("{line}\n");
        let is_printed = match self.printer.lock() {
            Ok(mut printer) => printer.print(text.clone()).is_ok(),
            Err(_) => false,
        };
        if is_printed {
            return Ok(());
        }
        // The editor has just ended.
        out::raw(&text)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let is_restored = out::raw(&format!("{CLEAR_LINE}{PASTE_MARKS_OFF}"));
        #[cfg(unix)]
        let is_restored = {
            use rustix::termios::{OptionalActions, tcsetattr};
            is_restored.and(tcsetattr(io::stdin(), OptionalActions::Drain, &self.before).map_err(io::Error::from))
        };
        if let Err(error) = is_restored {
            tracing::debug!(%error, "the terminal is gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pasted_line_is_a_line() {
        let lines: Vec<_> = lines_of("/list\r\n\nhello \n /quit").collect();
        assert_eq!(lines, ["/list", "hello ", " /quit"]);
        assert_eq!(lines_of("").count(), 0);
    }

    #[test]
    fn ctrl_c_leaves_at_once_and_ctrl_d_is_the_end_of_the_input() {
        assert!(error_as_typed(ReadlineError::Eof).is_none());
        assert!(matches!(
            error_as_typed(ReadlineError::Interrupted),
            Some(Ok(Typed::Interrupt))
        ));
        let gone = ReadlineError::Io(io::ErrorKind::BrokenPipe.into());
        assert!(matches!(error_as_typed(gone), Some(Err(_))));
    }
}
