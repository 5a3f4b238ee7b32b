//! A terminal on which we edit what is typed, so that it is redrawn below what arrives meanwhile.

use super::account::NOT_PASTED;
use super::ask::{Pending, asker};
use super::input::{Line, Typed, parse};
use super::screen::CLEAR_LINE;
use crate::out;
use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor, ExternalPrinter};
use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc as blocking};
use tokio::sync::mpsc;

pub(super) const PROMPT: &str = "> ";
/// Pasted text is no longer marked as such (xterm's mode 2004).
const PASTE_MARKS_OFF: &str = "\u{1b}[?2004l";

type Printer = Box<dyn ExternalPrinter + Send>;
/// Another one for each editor.
type SharedPrinter = Arc<Mutex<Printer>>;
/// Without a bound: the editor must never wait for us while we wait for it to print, and it holds what one person types.
type Lines = mpsc::UnboundedReceiver<io::Result<Typed>>;

/// Prints above the line that is being typed; restores the terminal when dropped.
pub(super) struct Terminal {
    printer: SharedPrinter,
    pending: Pending,
    #[cfg(unix)]
    before: rustix::termios::Termios,
}

/// Starts to read. Reading blocks, so a thread does it; the program does not wait for that thread.
pub(super) fn start() -> io::Result<(Lines, Terminal)> {
    #[cfg(unix)]
    let before = rustix::termios::tcgetattr(io::stdin())?;
    let (sender, lines) = mpsc::unbounded_channel();
    let (printer_sender, printer) = blocking::channel();
    let pending = Pending::default();
    let questions = pending.clone();
    std::thread::spawn(move || match editor() {
        Ok((editor, printer)) => {
            let printer = Arc::new(Mutex::new(printer));
            if printer_sender.send(Ok(Arc::clone(&printer))).is_ok() {
                let reader = Reader {
                    editor,
                    printer,
                    pending: questions,
                    sender,
                };
                reader.read();
            }
        }
        Err(error) => drop(printer_sender.send(Err(error))),
    });
    let printer = printer.recv().map_err(io::Error::other)?.map_err(io::Error::other)?;
    let terminal = Terminal {
        printer,
        pending,
        #[cfg(unix)]
        before,
    };
    Ok((lines, terminal))
}

fn editor() -> rustyline::Result<(DefaultEditor, Printer)> {
    let mut editor = DefaultEditor::with_config(Config::default())?;
    let printer = editor.create_external_printer()?;
    Ok((editor, Box::new(printer)))
}

/// What reads, in its thread.
struct Reader {
    editor: DefaultEditor,
    printer: SharedPrinter,
    pending: Pending,
    sender: mpsc::UnboundedSender<io::Result<Typed>>,
}

impl Reader {
    /// Until the end, which the editor has to see first: it would have made the terminal raw again by the time others do.
    fn read(mut self) {
        loop {
            let taken = match self.editor.readline(PROMPT) {
                Ok(typed) => self.take(&typed),
                Err(ReadlineError::Signal(_)) => Ok(true),
                Err(error) => Err(error),
            };
            match taken {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    if let Some(typed) = error_as_typed(error) {
                        // When nobody listens, the program is ending already.
                        drop(self.sender.send(typed));
                    }
                    return;
                }
            }
        }
    }

    /// False if that was the end.
    fn take(&mut self, typed: &str) -> rustyline::Result<bool> {
        if !may_hold_a_password(typed) {
            self.editor.add_history_entry(typed)?;
        }
        let mut lines = lines_of(typed);
        while let Some(line) = lines.next() {
            let meaning = parse(line);
            if meaning == Line::Register {
                if lines.next().is_some() && !self.send(Typed::Unusable(NOT_PASTED)) {
                    return Ok(false);
                }
                return self.ask();
            }
            if !self.send(Typed::Line(line.to_owned())) || meaning == Line::Quit {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn ask(&mut self) -> rustyline::Result<bool> {
        let (asker, questions) = asker();
        if !self.send(Typed::Register(asker)) || !questions.answer(&self.pending) {
            return Ok(false);
        }
        // What the editor has read ahead, behind the command, may be a password; a new one knows nothing of it.
        let (mut editor, printer) = editor()?;
        std::mem::swap(editor.history_mut(), self.editor.history_mut());
        self.editor = editor;
        *self.printer.lock().unwrap_or_else(PoisonError::into_inner) = printer;
        Ok(true)
    }

    fn send(&self, typed: Typed) -> bool {
        self.sender.send(Ok(typed)).is_ok()
    }
}

/// What is not to be found again with the arrow keys.
fn may_hold_a_password(typed: &str) -> bool {
    let mut lines = lines_of(typed);
    let is_more = |line| matches!(parse(line), Line::RegisterWith);
    let has_command = |line| matches!(parse(line), Line::Register);
    lines.clone().any(is_more) || (lines.clone().count() > 1 && lines.any(has_command))
}

/// Pasted lines wait for Enter together.
fn lines_of(typed: &str) -> impl Iterator<Item = &str> + Clone {
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
        if let Some(question) = self.pending.get() {
            return out::raw(&format!("{CLEAR_LINE}{line}\n{question}"));
        }
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
    fn nothing_that_may_be_a_password_is_remembered() {
        let table = [
            ("/register", false),
            ("hello", false),
            ("/list\nhello", false),
            ("/register secret", true),
            ("/list\n/register secret", true),
            ("/register\nsecret", true),
        ];
        for (typed, expected) in table {
            assert_eq!(may_hold_a_password(typed), expected, "{typed:?}");
        }
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
