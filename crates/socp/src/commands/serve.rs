//! `socp serve`: one server, until SIGTERM or Ctrl-C.

mod bootstrap;
mod bootstrap_file;
mod tls;

use crate::cli::LogFormat;
use crate::passphrase;
use bootstrap::{read_entry, read_host_port, without_repetition};
use clap::{Args, ValueEnum};
use color_eyre::eyre::{Context as _, Result, bail, eyre};
use figment::Figment;
use figment::providers::{Env, Format as _, Serialized, Toml};
use serde::{Deserialize, Serialize};
use socp_core::server::{Accept, BootstrapEntry, Directory};
use socp_proto::ServerId;
use socp_server::{RateLimit, Ready, Settings};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use tls::read_tls;
use tokio::signal::unix::{SignalKind, signal};

/// Introducers that the specification asks every server to know (SOCP §8.1).
const INTRODUCERS_WANTED: usize = 3;

/// The settings that `SOCP_…` variables and `socp.toml` may give, too.
const SETTINGS: &[&str] = &[
    "listen",
    "passphrase_file",
    "name",
    "server_id",
    "public_address",
    "tls_cert",
    "tls_key",
    "tls_self_signed",
    "acme_domain",
    "acme_contact",
    "acme_directory",
    "acme_ca",
    "bootstrap",
    "bootstrap_file",
    "introducer",
    "no_users",
    "accept",
    "i_know_open_is_unsafe",
    "directory",
    "verify_content",
    "delegate",
    "clock_skew",
    "allow_unsigned_join",
    "rate_limit",
    "allow_origin",
];

/// Run a server.
///
/// Every setting can also stand in DIR/socp.toml (with _ for -), or in the environment as SOCP_…; a flag counts most,
/// then the environment, then the file.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[command(after_help = help())]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0 picks a free one [default: 127.0.0.1:8765]
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<String>,
    /// Where identity, pins and users live
    #[arg(long, value_name = "DIR", env = "SOCP_DATA")]
    #[serde(skip)]
    data: PathBuf,
    /// A file whose first line is the passphrase of the server's key; a new key is sealed under it
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    passphrase_file: Option<PathBuf>,
    /// A name for people
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The server's id; else the stored one, else a fresh UUID
    #[arg(long, value_name = "UUID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    server_id: Option<String>,
    /// Where others can dial this server, if not where it listens; with ws:// or wss:// before it, if a proxy ends TLS
    #[arg(long, value_name = "[wss://]HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    public_address: Option<String>,
    /// Speak TLS (wss://, https://) with the certificate and those it rests on in this file (PEM); read again when it
    /// changes, and at SIGHUP
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert (PEM: PKCS#8, PKCS#1 or SEC1, without a password)
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_key: Option<PathBuf>,
    /// Speak TLS with a certificate that the server makes itself; clients need its pin, which the ready line shows
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tls_self_signed: bool,
    /// Speak TLS with a certificate that an authority signs because this server answers at port 443 of this name (ACME);
    /// got and renewed by itself, which means to agree to the authority's terms; may be given several times (needs the
    /// cargo feature `acme`)
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    acme_domain: Vec<String>,
    /// Where the authority may write to; may be given several times
    #[arg(long, value_name = "mailto:ADDRESS")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    acme_contact: Vec<String>,
    /// The authority's directory [default: Let's Encrypt's, https://acme-v02.api.letsencrypt.org/directory]
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    acme_directory: Option<String>,
    /// Certificates (PEM) that vouch for the directory's own address, beside those that this machine trusts: for an
    /// authority of your own
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    acme_ca: Option<PathBuf>,
    /// A server to join the network through; may be given several times
    #[arg(long, value_name = "ws[s]://HOST:PORT[#PUBKEY|#PIN|#PUBKEY,PIN]")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bootstrap: Vec<String>,
    /// A list of servers to join the network through (.yaml, .yml or .toml), after those given with --bootstrap
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    bootstrap_file: Option<PathBuf>,
    /// This server admits others and needs no bootstrap entry of its own (every server answers joins)
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    introducer: bool,
    /// Take no users: the server only admits other servers and links them
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_users: bool,
    /// Who may say hello [default: proof]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    accept: Option<AcceptArg>,
    /// Allow `--accept open` on an address that others can reach
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    i_know_open_is_unsafe: bool,
    /// Whom users see in lists: everyone online, or only whom they know by id or have exchanged a message with [default:
    /// open]
    #[arg(long, value_name = "WHO")]
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<DirectoryArg>,
    /// Check the content signature of messages before routing them [default: on]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    verify_content: Option<Switch>,
    /// Sign frames to programs of ours with a key made for a day or two, a hundred times cheaper [default: on]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    delegate: Option<Switch>,
    /// How many seconds another clock may be off [default: 300 behind, 120 ahead]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_skew: Option<u32>,
    /// Let servers join that do not sign their request
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    allow_unsigned_join: bool,
    /// Frames per second that a user may send, or `off` [default: 200]
    #[arg(long, value_name = "off|N", value_parser = read_rate_text)]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "text_or_number")]
    rate_limit: Option<String>,
    /// A web origin that may connect; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allow_origin: Vec<String>,
    /// In the file alone: what to log, as --log
    #[arg(skip)]
    #[serde(skip_serializing)]
    log: Option<String>,
    /// In the file alone: how to log, as --log-format
    #[arg(skip)]
    #[serde(skip_serializing)]
    log_format: Option<LogFormat>,
}

fn help() -> String {
    format!(
        "Example:\n  socp serve --listen 127.0.0.1:8765 --data ./srv-a --name srv-a\n\n{}",
        bootstrap_file::EXAMPLE
    )
}

/// What the log should be according to the data directory's `socp.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LogSettings {
    pub(super) log: Option<String>,
    pub(super) log_format: Option<LogFormat>,
}

impl ServeArgs {
    /// Looked at before anything is logged. A file that cannot be read is complained of a moment later, by
    /// [`read_settings`].
    pub(super) fn log_settings(&self) -> LogSettings {
        let file = Figment::from(Toml::file(self.data.join("socp.toml")));
        file.extract().unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AcceptArg {
    /// Whoever proves, when asked, to hold the key of the id (programs with the capability proof/1)
    Proof,
    /// Also whoever signs a fresh hello with the key of the id
    Signed,
    /// Also whoever names a key: no proof at all
    Open,
}

#[derive(Debug, Clone, Copy, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DirectoryArg {
    /// Everyone online
    Open,
    /// Whom they have shown to know
    Contacts,
}

#[derive(Debug, Clone, Copy, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Switch {
    On,
    Off,
}

/// Runs the command.
pub(crate) async fn run(args: &ServeArgs) -> Result<()> {
    let (mut settings, is_introducer) = read_settings(args)?;
    if settings.passphrase.is_none() {
        settings.passphrase = passphrase::of_server(&settings.data)?;
    }
    let known = settings.bootstrap.len();
    if !is_introducer && (1..INTRODUCERS_WANTED).contains(&known) {
        tracing::warn!(
            known,
            wanted = INTRODUCERS_WANTED,
            "few bootstrap entries: if they are gone, nobody lets us in"
        );
    }
    // Before anybody can know that there is something to stop.
    let stop = stop_signal()?;
    let running = socp_server::start(settings).await?;
    say_ready(&running.ready)?;
    running.until(stop).await?;
    Ok(())
}

/// Flags over environment over file.
fn read_settings(args: &ServeArgs) -> Result<(Settings, bool)> {
    let file = args.data.join("socp.toml");
    let layers = Figment::new()
        .merge(Toml::file(&file))
        .merge(Env::prefixed("SOCP_").only(SETTINGS))
        .merge(Serialized::defaults(args));
    let mut merged: ServeArgs = layers.extract().map_err(|error| {
        eyre!(
            "{error} (settings come from flags, SOCP_… variables and {})",
            file.display()
        )
    })?;
    // A path that stands in the file is meant from where the file is.
    let is_of_file = |name: &str| {
        let source = layers.find_metadata(name).and_then(|metadata| metadata.source.as_ref());
        source.and_then(figment::Source::file_path).is_some()
    };
    let paths = [
        ("bootstrap_file", &mut merged.bootstrap_file),
        ("passphrase_file", &mut merged.passphrase_file),
        ("tls_cert", &mut merged.tls_cert),
        ("tls_key", &mut merged.tls_key),
        ("acme_ca", &mut merged.acme_ca),
    ];
    for (name, path) in paths {
        if let Some(path) = path.as_mut().filter(|_| is_of_file(name)) {
            *path = args.data.join(&*path);
        }
    }
    Ok((to_settings(&merged, args.data.clone())?, merged.introducer))
}

fn to_settings(args: &ServeArgs, data: PathBuf) -> Result<Settings> {
    let listen = args.listen.as_deref().unwrap_or("127.0.0.1:8765");
    let listen: SocketAddr = listen
        .parse()
        .map_err(|_| eyre!("--listen {listen:?} is not an address and a port, like 127.0.0.1:8765"))?;
    let mut settings = Settings::new(listen, data);
    settings.passphrase = args.passphrase_file.as_deref().map(passphrase::from_file).transpose()?;
    settings.name = args.name.as_deref().map(read_name).transpose()?;
    settings.server_id = args.server_id.as_deref().map(read_server_id).transpose()?;
    settings.tls = read_tls(args)?;
    if let Some(text) = args.public_address.as_deref() {
        let (address, has_tls) = match (text.strip_prefix("wss://"), text.strip_prefix("ws://")) {
            (Some(address), _) => (address, Some(true)),
            (None, Some(address)) => (address, Some(false)),
            (None, None) => (text, None),
        };
        let address = read_host_port(address.trim_end_matches('/'));
        settings.public_address = Some(address.map_err(|error| eyre!("--public-address {error}"))?);
        settings.public_tls = has_tls;
    }
    settings.bootstrap = read_bootstrap(args, listen, settings.public_address.as_ref())?;
    settings.takes_users = !args.no_users;
    settings.accept = match args.accept {
        Some(AcceptArg::Open) => Accept::Open,
        Some(AcceptArg::Signed) => Accept::Signed,
        Some(AcceptArg::Proof) | None => Accept::Proof,
    };
    settings.allow_open_beyond_loopback = args.i_know_open_is_unsafe;
    if settings.accept == Accept::Open && !listen.ip().is_loopback() && !args.i_know_open_is_unsafe {
        let why = format!(
            "--accept open on {listen} lets anyone take any id; use --accept proof or signed, or say --i-know-open-is-unsafe"
        );
        return Err(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, why + "\n").into());
    }
    settings.directory = match args.directory {
        Some(DirectoryArg::Contacts) => Directory::Contacts,
        Some(DirectoryArg::Open) | None => Directory::Open,
    };
    settings.delegates = !matches!(args.delegate, Some(Switch::Off));
    settings.verify_content = !matches!(args.verify_content, Some(Switch::Off));
    if let Some(seconds) = args.clock_skew {
        let skew_ms = u64::from(seconds).saturating_mul(1000);
        settings.clock_tolerance_ms = (skew_ms, skew_ms);
    }
    settings.allow_unsigned_join = args.allow_unsigned_join;
    if let Some(text) = &args.rate_limit {
        settings.rate_limit = read_rate(text)?;
    }
    settings.allow_origin.clone_from(&args.allow_origin);
    Ok(settings)
}

fn read_bootstrap(args: &ServeArgs, listen: SocketAddr, public: Option<&(String, u16)>) -> Result<Vec<BootstrapEntry>> {
    let mut entries = Vec::new();
    for text in &args.bootstrap {
        entries.push(read_entry(text).map_err(|error| eyre!("--bootstrap {error}"))?);
    }
    if let Some(file) = &args.bootstrap_file {
        entries.extend(bootstrap_file::read(file)?);
    }
    let host = match listen.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let own: Vec<_> = [(host, listen.port())].into_iter().chain(public.cloned()).collect();
    without_repetition(entries, &own)
}

fn read_name(text: &str) -> Result<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 64 || !text.chars().all(is_plain) {
        bail!("--name {text:?} must be 1 to 64 letters, digits, dots, dashes or underscores");
    }
    Ok(text.to_owned())
}

fn read_server_id(text: &str) -> Result<ServerId> {
    ServerId::try_from(text).map_err(|error| eyre!("--server-id {text:?} {error}"))
}

fn read_rate(text: &str) -> Result<RateLimit> {
    match (text, text.parse::<u32>()) {
        ("off", _) => Ok(RateLimit::Off),
        (_, Ok(per_second)) if per_second > 0 => Ok(RateLimit::PerSecond(per_second)),
        _ => bail!("--rate-limit {text:?} is neither `off` nor a number above 0"),
    }
}

fn read_rate_text(text: &str) -> std::result::Result<String, String> {
    read_rate(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

fn text_or_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Number(u64),
    }
    Ok(Some(match Either::deserialize(deserializer)? {
        Either::Text(text) => text,
        Either::Number(number) => number.to_string(),
    }))
}

/// The one line that scripts wait for.
fn say_ready(ready: &Ready) -> Result<()> {
    let (ws, http) = if ready.has_tls {
        ("wss", "https")
    } else {
        ("ws", "http")
    };
    let mut line = serde_json::json!({
        "listen": format!("{ws}://{}", ready.listen),
        "server_id": ready.server_id.as_str(),
        "pubkey": ready.key.as_str(),
        "name": ready.name,
        "web": format!("{http}://{}/", ready.listen),
    });
    if let (Some(pin), Some(fields)) = (ready.tls_pin, line.as_object_mut()) {
        fields.insert("tls_pin".to_owned(), pin.to_string().into());
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "ready {line}")
        .and_then(|()| stdout.flush())
        .wrap_err("cannot write the ready line to stdout")
}

/// Ready at the first SIGTERM or SIGINT.
pub(crate) fn stop_signal() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).wrap_err("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).wrap_err("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_from_the_file_and_flags_count_more() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("socp.toml"),
            "name = \"from-file\"\nclock_skew = 7\nrate_limit = 9\n",
        )
        .unwrap();
        let args = ServeArgs {
            data: dir.path().to_owned(),
            name: Some("from-flag".to_owned()),
            ..ServeArgs::default()
        };
        let (settings, _) = read_settings(&args).unwrap();
        assert_eq!(settings.name.as_deref(), Some("from-flag"));
        assert_eq!(settings.clock_tolerance_ms, (7000, 7000));
        assert_eq!(settings.rate_limit, RateLimit::PerSecond(9));
    }

    #[test]
    fn introducers_users_and_lists_can_be_set_in_the_file_and_paths_there_are_meant_from_there() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("list.yaml"), "bootstrap_servers: [\"ws://two:2\"]\n").unwrap();
        let settings = "listen = \"127.0.0.1:9\"\nintroducer = true\nno_users = true\nbootstrap_file = \"list.yaml\"\n\
                        bootstrap = [\"ws://one:1\", \"ws://127.0.0.1:9\"]\nlog = \"debug\"\nlog_format = \"json\"\n";
        std::fs::write(dir.path().join("socp.toml"), settings).unwrap();
        let args = ServeArgs {
            data: dir.path().to_owned(),
            ..ServeArgs::default()
        };
        let (settings, is_introducer) = read_settings(&args).unwrap();
        let hosts: Vec<_> = settings.bootstrap.iter().map(|entry| entry.host.as_str()).collect();
        assert_eq!(hosts, ["one", "two"], "the flags' first, and not ourselves");
        assert!(is_introducer && !settings.takes_users);
        let log = args.log_settings();
        assert_eq!(
            (log.log.as_deref(), log.log_format),
            (Some("debug"), Some(LogFormat::Json))
        );
    }

    #[test]
    fn a_setting_that_does_not_exist_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("socp.toml"), "lisen = \"127.0.0.1:1\"\n").unwrap();
        let args = ServeArgs {
            data: dir.path().to_owned(),
            ..ServeArgs::default()
        };
        assert!(read_settings(&args).unwrap_err().to_string().contains("lisen"));
    }
}
