//! Starting, asking and stopping the program.

use crate::letter_client::{decode, key_case};
use serde_json::Value;
use socp_client::{Profile, ServerUrl};
use socp_crypto::{FullIdentity, PrivateKey, UserKeys};
use socp_proto::{Fingerprint, UserId};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longest wait for anything; far longer than it takes, so that a busy machine does not fail a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Neighbouring ports that are free now, outside the range from which the system hands out ports by itself, so that no
/// other test's connection takes one before it is used.
pub(crate) fn free_ports(count: u16) -> u16 {
    let is_free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let begun = Instant::now();
    loop {
        let port = rand::random_range(10_000..32_000);
        if (port..port + count).all(is_free) {
            return port;
        }
        assert!(begun.elapsed() < PATIENCE, "no free ports");
    }
}

/// A command of the program under test, with nothing inherited that could change it.
pub(crate) fn socp() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_socp"));
    let foreign: Vec<_> = std::env::vars_os()
        .filter(|(name, _)| name.to_string_lossy().starts_with("SOCP_"))
        .collect();
    for (name, _) in foreign {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    command
}

/// A child whose output is read line by line; killed when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    log: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let log = Arc::<Mutex<Vec<(Instant, String)>>>::default();
        let (copy, stderr) = (Arc::clone(&log), BufReader::new(child.stderr.take().unwrap()));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // Shown if the test fails.
                eprintln!("{line}");
                copy.lock().unwrap().push((Instant::now(), line));
            }
        });
        Self { child, lines, log }
    }

    /// When a line with all these words was logged for the first time since then, and that line.
    pub(crate) fn logged_line(&self, since: Instant, words: &[&str]) -> Option<(Instant, String)> {
        let log = self.log.lock().unwrap();
        let mut lines = log.iter().filter(|(at, _)| *at >= since);
        lines
            .find(|(_, line)| words.iter().all(|word| line.contains(word)))
            .cloned()
    }

    /// When a line with all these words was logged for the first time since then.
    pub(crate) fn logged(&self, since: Instant, words: &[&str]) -> Option<Instant> {
        self.logged_line(since, words).map(|(at, _)| at)
    }

    /// The next line of output.
    pub(crate) fn line(&self) -> String {
        self.line_or_end()
            .unwrap_or_else(|| panic!("the program ended without another line"))
    }

    /// The next line of output, or none if the program ends without one.
    pub(crate) fn line_or_end(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => panic!("no line came"),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Everything that was logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().iter().map(|(_, line)| line.clone()).collect()
    }

    /// The first line that holds `text`.
    pub(crate) fn line_with(&self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
            eprintln!("(passed over: {line})");
        }
    }

    /// Types a line.
    pub(crate) fn type_line(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Ends the input.
    pub(crate) fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name and waits for the end; its exit code.
    pub(crate) fn signal_and_wait(&mut self, signal: &str) -> Option<i32> {
        self.signal(signal);
        self.wait()
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([&format!("-{signal}"), &self.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Whether the program has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end; its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        eventually("the program to end", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            for line in self.lines.try_iter() {
                eprintln!("(never read: {line})");
            }
        }
    }
}

/// A running `socp serve`.
pub(crate) struct Served {
    pub(crate) process: Process,
    pub(crate) url: String,
    pub(crate) server_id: String,
    pub(crate) pubkey: String,
    /// The pin of the certificate that the server made itself.
    pub(crate) tls_pin: Option<String>,
    pub(crate) data: PathBuf,
}

impl Served {
    /// Starts a server on a free port with its data in `dir/name`.
    pub(crate) fn start(dir: &Path, name: &str, more: &[&str]) -> Self {
        Self::start_on(dir, name, &format!("127.0.0.1:{}", free_ports(1)), more)
    }

    /// Starts a server on a given address.
    pub(crate) fn start_on(dir: &Path, name: &str, listen: &str, more: &[&str]) -> Self {
        Self::ready(Self::spawn(socp(), dir, name, listen, more), dir.join(name))
    }

    /// Starts a server by this command, and waits for nothing.
    pub(crate) fn spawn(mut command: Command, dir: &Path, name: &str, listen: &str, more: &[&str]) -> Process {
        command
            .args(["serve", "--listen", listen, "--name", name, "--data"])
            .arg(dir.join(name))
            .args(more);
        Process::start(command)
    }

    /// The server that a process becomes, once it says that it is ready.
    pub(crate) fn ready(process: Process, data: PathBuf) -> Self {
        let ready = process.line();
        Self::ready_by(process, data, &ready)
    }

    /// The same with the line that says so.
    pub(crate) fn ready_by(process: Process, data: PathBuf, ready: &str) -> Self {
        let json = ready
            .strip_prefix("ready ")
            .unwrap_or_else(|| panic!("not the ready line: {ready}"));
        let json: Value = serde_json::from_str(json).unwrap();
        let text = |key: &str| json[key].as_str().unwrap().to_owned();
        Self {
            process,
            url: text("listen"),
            server_id: text("server_id"),
            pubkey: text("pubkey"),
            tls_pin: json["tls_pin"].as_str().map(str::to_owned),
            data,
        }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").unwrap().1
    }

    /// The address with the pin behind it.
    pub(crate) fn pinned_url(&self) -> String {
        format!("{}#{}", self.url, self.tls_pin.as_ref().unwrap())
    }

    /// What another server is given to join through this one.
    pub(crate) fn bootstrap(&self) -> String {
        format!("{}#{}", self.url, self.pubkey)
    }

    /// Stops politely.
    pub(crate) fn stop(mut self) {
        assert_eq!(self.process.signal_and_wait("TERM"), Some(0));
    }
}

/// A profile directory and its server.
pub(crate) struct User {
    pub(crate) profile: PathBuf,
    pub(crate) id: String,
}

impl User {
    /// A new user of a server, as `register --no-password` makes one, with a signing key of its own. All such users decrypt
    /// with one key, since making keys is most of what these tests cost.
    pub(crate) fn register(dir: &Path, name: &str, server: &str) -> Self {
        let profile = dir.join(name);
        let enc = decode(key_case("bob")["pkcs8_b64u"].as_str().unwrap());
        let keys = UserKeys {
            sign: PrivateKey::generate().unwrap(),
            enc: PrivateKey::from_pkcs8_der(&enc).unwrap(),
            old_enc: Vec::new(),
        };
        let fingerprint = Fingerprint::from_bytes(keys.sign.public_key().fingerprint());
        let identity = FullIdentity {
            user_id: UserId::made_from(fingerprint),
            name: Some(name.to_owned()),
            display_name: None,
            keys,
            history: None,
        };
        let id = identity.user_id.to_string();
        let made = Profile::import(&profile, identity, None).unwrap();
        made.remember_server(&ServerUrl::parse(server).unwrap()).unwrap();
        Self { profile, id }
    }

    /// A command as this user.
    pub(crate) fn socp(&self, args: &[&str]) -> Command {
        let mut command = socp();
        command.arg("--profile").arg(&self.profile).args(args);
        command
    }

    /// What a command prints; it must succeed.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        stdout_of(&mut self.socp(args))
    }

    /// Tells somebody who is there, and may have been away a moment ago: others hear of that within a second.
    pub(crate) fn tell_when_seen(&self, args: &[&str], to: &str, text: &str) {
        eventually("the message to be taken", || {
            let told = output_of(&mut self.socp(&[args, &["tell", to, text]].concat()));
            let said = String::from_utf8_lossy(&told.stderr).into_owned();
            assert!(told.status.success() || said.contains("is not online"), "{said}");
            told.status.success().then_some(())
        });
    }

    /// Starts `watch --json` and waits until it is online.
    pub(crate) fn watch(&self, args: &[&str]) -> Process {
        let watch = Process::start(self.socp(&[&["--json", "watch"], args].concat()));
        // Until then whom others see may be the session of an earlier command, which has ended.
        watch.line_with("\"event\":\"online\"");
        watch
    }

    /// The ids that `list` prints now.
    pub(crate) fn listed(&self) -> Vec<String> {
        let lines = self.run(&["--json", "list"]);
        lines
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["user_id"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    }
}

/// Runs a command to its end.
pub(crate) fn output_of(command: &mut Command) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read_stderr = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let mut bytes = Vec::new();
    stdout.read_to_end(&mut bytes).unwrap();
    let status = eventually("the command to end", || child.try_wait().unwrap());
    Output {
        status,
        stdout: bytes,
        stderr: read_stderr.join().unwrap().unwrap(),
    }
}

/// What a command prints; it must succeed.
pub(crate) fn stdout_of(command: &mut Command) -> String {
    let output = output_of(command);
    assert!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A command that must fail with one line on stderr: its exit code and that line.
pub(crate) fn failure_of(command: &mut Command) -> (i32, String) {
    let output = output_of(command);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success(),
        "{command:?} succeeded: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    (output.status.code().unwrap(), stderr)
}

/// Asks again and again until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A JSON line.
pub(crate) fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}
