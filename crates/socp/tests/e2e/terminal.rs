//! What a person sees and types: the program on a terminal of its own.

use crate::accounts::{PASSWORD, good, login, with_input};
use crate::process::{PATIENCE, Process, Served, User, eventually, json};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};

/// A program whose input and output are a terminal; killed when dropped.
struct Terminal {
    child: Child,
    keyboard: File,
    shown: Arc<(Mutex<String>, Condvar)>,
    /// How much of what was shown has been looked at.
    seen: usize,
}

impl Terminal {
    fn start(command: &Command) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(name.to_str().unwrap())
                .unwrap()
        };
        // Passwords are read from the terminal that the program belongs to.
        let mut on_terminal = Command::new("setsid");
        on_terminal
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => on_terminal.env(name, value),
                None => on_terminal.env_remove(name),
            };
        }
        let child = on_terminal
            .env("TERM", "xterm")
            .stdin(Stdio::from(open()))
            .stdout(Stdio::from(open()))
            .stderr(Stdio::from(open()))
            .spawn()
            .unwrap();
        let keyboard = File::from(keyboard);
        let shown = Arc::<(Mutex<String>, Condvar)>::default();
        let (copy, mut screen) = (Arc::clone(&shown), keyboard.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Reading fails once the program has closed its end.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                let (text, news) = &*copy;
                text.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
                news.notify_all();
            }
        });
        Self {
            child,
            keyboard,
            shown,
            seen: 0,
        }
    }

    /// Everything that was ever shown.
    fn transcript(&self) -> String {
        self.shown.0.lock().unwrap().clone()
    }

    /// Waits until this is shown, behind what was waited for before; what stood between.
    fn sees(&mut self, text: &str) -> String {
        let (shown, news) = &*self.shown;
        let seen = self.seen;
        let is_missing = |shown: &mut String| !shown[seen..].contains(text);
        let (shown, waited) = news
            .wait_timeout_while(shown.lock().unwrap(), PATIENCE, is_missing)
            .unwrap();
        assert!(!waited.timed_out(), "no {text:?} in {:?}", &shown[seen..]);
        let at = seen + shown[seen..].find(text).unwrap();
        self.seen = at + text.len();
        shown[seen..at].to_owned()
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn wait(&mut self) -> Option<i32> {
        eventually("the program to end", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Alice and Bob at one server, and Alice's chat, which has begun.
struct Stage {
    chat: Terminal,
    alice: User,
    bob: User,
    server: Served,
    dir: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Served::start(dir.path(), "srv", &[]);
        let alice = User::register(dir.path(), "alice", &server.url);
        let bob = User::register(dir.path(), "bob", &server.url);
        let mut chat = Terminal::start(&alice.socp(&["chat"]));
        chat.types("/help\r");
        chat.sees("/register  /login <name>");
        Self {
            chat,
            alice,
            bob,
            server,
            dir,
        }
    }

    fn listed_with(&self, password: &str) -> std::process::Output {
        with_input(&mut self.alice.socp(&["--password-stdin", "list"]), &[password])
    }
}

#[test]
fn a_password_is_set_amid_a_conversation_and_never_seen() {
    let mut stage = Stage::new();
    stage.chat.types("/register\r");
    stage.chat.sees("New password: ");
    stage.chat.types("correct horse");
    // What arrives is shown, and the question again below it.
    stage.bob.run(&["tell", "alice", "are you there?"]);
    stage.chat.sees("are you there?");
    stage.chat.sees("New password: ");
    stage.chat.types(" battery staple\r");
    stage.chat.sees("The same again: ");
    stage.chat.types(&format!("{PASSWORD}\r"));
    stage.chat.sees("the password is set");
    let transcript = stage.chat.transcript();
    assert!(
        !transcript.contains("horse") && !transcript.contains("staple"),
        "{transcript}"
    );
    // The conversation goes on, and the arrow keys bring back what was said, but no password.
    let mut at_bob = stage.bob.watch(&["--count", "1"]);
    at_bob.line_with("online");
    stage.chat.types("/tell bob yes\r");
    assert_eq!(json(&at_bob.line_with("\"event\":\"message\""))["text"], "yes");
    assert_eq!(at_bob.wait(), Some(0));
    stage.chat.types("\u{1b}[A\u{1b}[A");
    stage.chat.sees("/register");
    stage.chat.types("\r");
    // There is one now.
    stage.chat.sees("Present password: ");
    stage.chat.types("\u{4}");
    stage
        .chat
        .sees("no password was set: no password was typed; nothing was changed");
    stage.chat.types("/quit\r");
    assert_eq!(stage.chat.wait(), Some(0));
    assert!(!stage.chat.transcript().contains("horse"));
    // It is the profile's, and the server's.
    good(stage.listed_with(PASSWORD));
    let said = json(&good(login(
        &stage.dir.path().join("2"),
        &stage.server.url,
        "alice",
        PASSWORD,
    )));
    assert_eq!(said["user_id"], stage.alice.id);
}

#[test]
fn what_goes_wrong_with_a_password_changes_nothing() {
    let mut stage = Stage::new();
    for (first, second, why) in [("one", "two", "the two passwords differ"), ("", "", "is empty")] {
        stage.chat.types("/register\r");
        stage.chat.sees("New password: ");
        stage.chat.types(&format!("{first}\r"));
        if !first.is_empty() {
            stage.chat.sees("The same again: ");
            stage.chat.types(&format!("{second}\r"));
        }
        stage.chat.sees(why);
    }
    stage.chat.types("/register my secret\r");
    stage.chat.sees("say /register alone");
    // Marked as pasted, and not: the rest is neither said to anybody nor remembered.
    stage.chat.types("\u{1b}[200~/register\rpasted secret\u{1b}[201~\r");
    stage.chat.sees("what was pasted behind /register is dropped");
    stage.chat.sees("New password: ");
    stage.chat.types("\u{4}");
    stage.chat.sees("no password was typed");
    stage.chat.types("\u{1b}[A");
    let recalled = stage.chat.sees("/register");
    assert!(!recalled.contains("secret"), "{recalled}");
    stage.chat.types("\u{3}");
    assert_eq!(stage.chat.wait(), Some(0));
    // No password is needed still.
    stage.alice.run(&["list"]);
}

#[test]
fn a_wrong_present_password_is_refused_before_another_is_asked_for() {
    let mut stage = Stage::new();
    let change = &["key", "password", "--password-stdin"];
    good(with_input(&mut stage.alice.socp(change), &[PASSWORD]));
    stage.chat.types("/register\r");
    stage.chat.sees("Present password: ");
    stage.chat.types("wrong\r");
    stage
        .chat
        .sees("no password was set: nothing was changed: wrong password");
    stage.chat.types("/register\r");
    stage.chat.sees("Present password: ");
    // Ctrl-C leaves, as everywhere in a chat.
    stage.chat.types("\u{3}");
    assert_eq!(stage.chat.wait(), Some(0));
    good(stage.listed_with(PASSWORD));
}

#[test]
fn nobody_else_logs_in_where_there_is_an_identity() {
    let mut stage = Stage::new();
    stage.chat.types("/login bob\r");
    stage.chat.sees("a profile holds one identity");
    stage.chat.sees("socp login bob --server ws://");
    stage.chat.types("/login ;reboot\r");
    stage.chat.sees("socp login NAME --server");
    stage.chat.types("/login alice\r");
    stage.chat.sees("you are alice here already");
    stage.chat.types("/login\r");
    stage.chat.sees("/login <name>");
    stage.chat.types("/quit\r");
    assert_eq!(stage.chat.wait(), Some(0));
    assert_eq!(
        json(&stage.alice.run(&["--json", "key", "show"]))["user_id"],
        stage.alice.id
    );
}

#[test]
fn without_a_terminal_a_chat_says_how_to_set_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path(), "srv", &[]);
    let alice = User::register(dir.path(), "alice", &server.url);
    for (args, code) in [(&["chat", "--plain"][..], ""), (&["--json", "chat"], "NO_TERMINAL")] {
        let mut chat = Process::start(alice.socp(args));
        chat.type_line("/register");
        assert!(chat.line_with("socp key password").contains(code));
        chat.type_line("/register secret");
        let said = chat.line_with("say /register alone");
        assert!(!said.contains("secret"), "{said}");
        chat.type_line("/login bob");
        chat.line_with("a profile holds one identity");
        chat.end_input();
        assert_eq!(chat.wait(), Some(0));
    }
}
