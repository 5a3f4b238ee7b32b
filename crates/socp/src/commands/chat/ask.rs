//! Questions whose answers nobody may see. Whoever reads lines asks them, since only one at a time can read from a
//! terminal; the answers never pass the line editor, which remembers what it reads.

use color_eyre::eyre::{Result, bail, eyre};
use socp_crypto::Password;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError, mpsc as blocking};
use tokio::sync::oneshot;

/// Asks. While it lives, no lines are read.
#[derive(Debug)]
pub(super) struct Asker(blocking::Sender<Question>);

/// Where the questions arrive.
pub(super) struct Questions(blocking::Receiver<Question>);

struct Question {
    text: &'static str,
    reply: oneshot::Sender<Result<Password>>,
}

/// What is being asked now, so that it can be shown again below what arrives meanwhile.
#[derive(Debug, Clone, Default)]
pub(super) struct Pending(Arc<Mutex<Option<&'static str>>>);

pub(super) fn asker() -> (Asker, Questions) {
    let (sender, questions) = blocking::channel();
    (Asker(sender), Questions(questions))
}

impl Asker {
    /// The answer, as soon as it is typed.
    pub(super) async fn ask(&self, text: &'static str) -> Result<Password> {
        let gone = || eyre!("nobody can be asked any more");
        let (reply, answer) = oneshot::channel();
        self.0.send(Question { text, reply }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// A new password, typed twice.
    pub(super) async fn ask_twice(&self) -> Result<Password> {
        let password = self.ask("New password: ").await?;
        if password.is_empty() {
            bail!("the new password is empty; nothing was changed");
        }
        if self.ask("The same again: ").await? != password {
            bail!("the two passwords differ; nothing was changed");
        }
        Ok(password)
    }
}

impl Questions {
    /// Asks until there are no more questions; false if whoever is asked wants to leave.
    pub(super) fn answer(self, pending: &Pending) -> bool {
        let _silent = Silent::begin();
        while let Ok(Question { text, reply }) = self.0.recv() {
            pending.set(Some(text));
            let typed = rpassword::prompt_password(text);
            pending.set(None);
            let is_leaving = matches!(&typed, Err(error) if error.kind() == ErrorKind::Interrupted);
            let typed = typed.map(Password::new).map_err(|error| {
                if error.kind() == ErrorKind::UnexpectedEof {
                    return eyre!("no password was typed; nothing was changed");
                }
                eyre!(error).wrap_err("cannot read the password from the terminal")
            });
            // Whoever asked may have left meanwhile.
            drop(reply.send(typed));
            if is_leaving {
                return false;
            }
        }
        true
    }
}

/// A terminal that neither shows nor edits what is typed, before the question is seen: people are fast, and what is typed
/// before the answer is listened to would be shown, or taken for a command.
struct Silent {
    #[cfg(unix)]
    before: Option<rustix::termios::Termios>,
}

impl Silent {
    #[cfg(unix)]
    fn begin() -> Self {
        use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};
        let silenced = tcgetattr(std::io::stdin()).and_then(|before| {
            let mut modes = before.clone();
            modes
                .local_modes
                .remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
            // One key at a time, as soon as it is there.
            modes.special_codes[SpecialCodeIndex::VMIN] = 1;
            modes.special_codes[SpecialCodeIndex::VTIME] = 0;
            tcsetattr(std::io::stdin(), OptionalActions::Now, &modes).map(|()| before)
        });
        if let Err(error) = &silenced {
            tracing::debug!(%error, "the terminal shows what is typed ahead");
        }
        Self { before: silenced.ok() }
    }

    #[cfg(not(unix))]
    fn begin() -> Self {
        Self {}
    }
}

#[cfg(unix)]
impl Drop for Silent {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};
        let Some(before) = &self.before else { return };
        if let Err(error) = tcsetattr(std::io::stdin(), OptionalActions::Now, before) {
            tracing::debug!(%error, "the terminal is gone");
        }
    }
}

impl Pending {
    pub(super) fn get(&self) -> Option<&'static str> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, text: Option<&'static str>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}
