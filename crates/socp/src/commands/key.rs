//! `socp key`: one's own key, and the pinned ones.

mod alarm;
mod card;
mod change;
mod check;
pub(crate) mod password;
mod safety;
pub(crate) mod transfer;

use crate::cli::Common;
use crate::{face, out};
use clap::{Args, Subcommand};
use color_eyre::eyre::{Result, eyre};
use serde_json::json;
use socp_client::{Alarm, AtRest, Person, Profile, Replaced, ServerUrl, Standing, UserPin, resolve};
use socp_proto::{Fingerprint, UserId};
use std::path::PathBuf;

/// Show your keys, or those pinned; compare keys with somebody; take your identity elsewhere
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp key show
  socp key verify bob
  socp key export alice.socp-identity
  socp key card --qr
  socp key add 'socp://…'")]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Your user id, name and public key; and whose key is in doubt
    #[command(after_help = "Example:\n  socp key show --json")]
    Show,
    /// The fingerprint of your key, or of the one pinned for a user and the safety words that you share
    #[command(after_help = "Example:\n  socp key fingerprint\n  socp key fingerprint bob --qr")]
    Fingerprint {
        /// A user id, at least 4 characters of one, a name, or name@server
        user: Option<String>,
        /// Show the safety words as a QR code, too
        #[arg(long, requires = "user")]
        qr: bool,
    },
    /// Write down that you and a user have compared your safety words, and that they are the same
    #[command(after_help = "Example:
  socp key verify bob                    (shows the words, and asks)
  socp key verify bob --told 'abandon …' (what Bob read out; '-' reads standard input)
  socp key verify bob --undo")]
    Verify {
        /// A user id, at least 4 characters of one, a name, or name@server
        user: String,
        /// The sixteen words, or the sixty digits, that the other has
        #[arg(long, value_name = "WORDS")]
        told: Option<String>,
        /// Take it back
        #[arg(long, conflicts_with = "told")]
        undo: bool,
    },
    /// Give your profile, and your account at the server, another password
    #[command(after_help = "Example:
  socp key password
  printf 'present password\\nnew password\\n' | socp key password --password-stdin
  (where the profile has no password yet, the only line is the new one)")]
    Password {
        /// Leave the server out
        #[arg(long = "here")]
        is_here_only: bool,
    },
    /// Take new keys; everybody who knows the old ones follows by itself
    #[command(after_help = "Example:
  socp key rotate
  socp key rotate --encrypt   (the key that others encrypt to, alone)")]
    Rotate {
        /// The key that signs; without either of the two, both
        #[arg(long)]
        sign: bool,
        /// The key that others encrypt to
        #[arg(long)]
        encrypt: bool,
    },
    /// Withdraw your keys for good, because somebody else has them for instance
    #[command(after_help = "Example:\n  socp key revoke --yes")]
    Revoke {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Have your server forget you
    #[command(after_help = "Example:\n  socp key delete --yes\n  socp key delete --yes --and-profile")]
    Delete {
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Remove the identity from this machine, too
        #[arg(long)]
        and_profile: bool,
    },
    /// Write your identity into one file, encrypted under a password
    #[command(after_help = "Example:
  socp key export alice.socp-identity
  printf 'profile password\nfile password\n' | socp key export alice.socp-identity --password-stdin")]
    Export {
        /// A file that does not exist yet
        file: PathBuf,
    },
    /// Make a profile of an exported identity, on another machine for instance
    #[command(after_help = "Example:
  socp key import alice.socp-identity --profile ~/alice
  printf 'file password\nprofile password\n' | socp key import alice.socp-identity --password-stdin")]
    Import {
        /// What `socp key export` wrote
        file: PathBuf,
        /// Protect the new profile by no password; whoever can read its directory then has the keys
        #[arg(long)]
        no_password: bool,
        /// Protect the new profile by the platform's keyring
        #[arg(long, conflicts_with = "no_password")]
        keyring: bool,
    },
    /// Your contact card: whoever adds it needs no server to know your key
    #[command(after_help = "Example:\n  socp key card --qr")]
    Card {
        /// Show it as a QR code, too
        #[arg(long)]
        qr: bool,
    },
    /// Take somebody's contact card, which came another way than through a server
    #[command(
        after_help = "Example:\n  socp key add 'socp://3f2c9a1e-…@chat.example:8765?name=bob#…'

The first key that a server shows for this user must fit the card; it is then verified. Any other stops everything with
that user until you decide."
    )]
    Add {
        /// The card, between quotation marks: shells take '?' and '#' for something else
        card: String,
    },
    /// Ask other servers whether they know the same key for a user
    #[command(after_help = "Example:
  socp key check bob
  socp key check bob --via ws://chat.example:8765

They are asked without saying who asks. One that says another key stops everything with that user until you decide.

Exit codes:
  0  one at least says the same key, and none another
  1  one says another key, or nobody says anything
  2  wrong usage")]
    Check {
        /// A user id, at least 4 characters of one, a name, or name@server
        user: String,
        /// The server to ask; may be given several times [default: the others that this profile has used]
        #[arg(long, value_name = "URL")]
        via: Vec<String>,
    },
    /// Take the other key that was shown for a user for theirs, after you have compared
    #[command(after_help = "Example:
  socp key accept bob                    (says what it means, shows the words, and asks)
  socp key accept bob --told 'abandon …' (what Bob read out; '-' reads standard input)

A changed key means that somebody set their program up anew, or that somebody stands between you and reads along. Call
them: only they can tell you which. The new key is pinned, and not verified.")]
    Accept {
        /// A user id, at least 4 characters of one, a name, or name@server
        user: String,
        /// The sixteen words, or the sixty digits, that the other has now, or their card
        #[arg(long, value_name = "WORDS")]
        told: Option<String>,
    },
    /// Stay with the key that you know for a user; the other one that was shown is refused
    #[command(after_help = "Example:\n  socp key keep bob")]
    Keep {
        /// A user id, at least 4 characters of one, a name, or name@server
        user: String,
    },
    /// Take the other key that a server showed for its own, after you have compared
    #[command(after_help = "Example:
  socp key accept-server ws://chat.example:8765 --told 5f0c…  (the fingerprint that its operator told you)")]
    AcceptServer {
        /// The server's address
        url: String,
        /// The fingerprint of its key, in hexadecimal; '-' reads standard input
        #[arg(long, value_name = "FINGERPRINT")]
        told: Option<String>,
    },
}

pub(crate) async fn run(args: KeyArgs, common: &Common) -> Result<()> {
    let open = || Ok::<_, color_eyre::Report>(Profile::open(&common.profile_dir()?)?);
    match args.command {
        KeyCommand::Show => show(&open()?, common.json),
        KeyCommand::Fingerprint { user: None, .. } => {
            let profile = open()?;
            let identity = profile.identity();
            print_own(&identity.user_id, identity.pubkey.fingerprint(), common.json)
        }
        KeyCommand::Fingerprint { user: Some(text), qr } => {
            let profile = open()?;
            let pin = find(&text, profile.pins()?)?;
            safety::show(profile.identity(), &pin, qr, common.json)
        }
        KeyCommand::Password { is_here_only } => password::change(is_here_only, common).await,
        KeyCommand::Rotate { sign, encrypt } => {
            let replaced = match (sign, encrypt) {
                (true, false) => Replaced::Sign,
                (false, true) => Replaced::Encrypt,
                (true, true) | (false, false) => Replaced::Both,
            };
            change::rotate(replaced, common).await
        }
        KeyCommand::Revoke { yes } => change::revoke(yes, common).await,
        KeyCommand::Delete { yes, and_profile } => change::delete(yes, and_profile, common).await,
        KeyCommand::Export { file } => transfer::export(&file, common),
        KeyCommand::Import {
            file,
            no_password,
            keyring,
        } => transfer::import(&file, no_password, keyring, common),
        KeyCommand::Verify { user, told, undo } => {
            let profile = open()?;
            let pin = find(&user, profile.pins()?)?;
            if undo {
                return safety::undo(&profile, &pin, common.json);
            }
            safety::verify(&profile, &pin, told.as_deref(), common.json)
        }
        KeyCommand::Card { qr } => {
            let profile = open()?;
            card::show(&profile, &face::server_url(common, &profile)?, qr, common.json)
        }
        KeyCommand::Add { card } => card::add(&open()?, &card, common.json),
        KeyCommand::Check { user, via } => {
            let profile = open()?;
            let pin = find(&user, profile.pins()?)?;
            let home = profile.last_server()?.as_deref().map(ServerUrl::parse).transpose()?;
            check::run(&profile, &pin, &via, home.as_ref(), common.json).await
        }
        KeyCommand::Accept { user, told } => {
            let profile = open()?;
            let alarm = find_alarm(&user, &profile)?;
            alarm::accept(&profile, &alarm, told.as_deref(), common.json)
        }
        KeyCommand::Keep { user } => {
            let profile = open()?;
            alarm::keep(&profile, &find_alarm(&user, &profile)?, common.json)
        }
        KeyCommand::AcceptServer { url, told } => alarm::accept_server(&open()?, &url, told.as_deref(), common.json),
    }
}

fn show(profile: &Profile, json: bool) -> Result<()> {
    let identity = profile.identity();
    let fingerprint = identity.pubkey.fingerprint();
    if json {
        let (alarms, server_alarms) = alarm::objects(profile)?;
        return Ok(out::json(&json!({
            "alarms": alarms,
            "server_alarms": server_alarms,
            "user_id": identity.user_id.as_str(),
            "name": identity.name,
            "display_name": identity.display_name,
            "fingerprint": fingerprint.to_string(),
            "pubkey": identity.pubkey.as_str(),
            "enc_pubkey": identity.enc_pubkey.as_str(),
            "enc_fingerprint": identity.enc_pubkey.fingerprint().to_string(),
            "version": identity.version(),
            "revoked": identity.is_revoked(),
            "at_rest": name_of(profile.at_rest()),
        }))?);
    }
    out::line(&format!("user id      {}", identity.user_id))?;
    if let Some(name) = &identity.name {
        out::line(&format!("name         {name}"))?;
    }
    out::line(&format!("fingerprint  {fingerprint}"))?;
    out::line(&format!("public key   {}", identity.pubkey.as_str()))?;
    if identity.enc_pubkey != identity.pubkey {
        out::line(&format!("to encrypt   {}", identity.enc_pubkey.as_str()))?;
    }
    let state = if identity.is_revoked() { " (withdrawn)" } else { "" };
    out::line(&format!("version      {}{state}", identity.version()))?;
    let at_rest = match profile.at_rest() {
        AtRest::Password => "a password",
        AtRest::File => "nothing but the profile directory",
        AtRest::Keyring => "this machine's keyring",
    };
    out::line(&format!("protected by {at_rest}"))?;
    alarm::lines(profile)?.iter().try_for_each(|line| Ok(out::line(line)?))
}

fn name_of(at_rest: AtRest) -> &'static str {
    match at_rest {
        AtRest::Password => "password",
        AtRest::File => "file",
        AtRest::Keyring => "keyring",
    }
}

fn find(text: &str, pins: Vec<UserPin>) -> Result<UserPin> {
    let people: Vec<Person> = pins.iter().map(UserPin::person).collect();
    let person = resolve(text, &people)?;
    pins.into_iter()
        .find(|pin| pin.user == person.user_id)
        .ok_or_else(|| eyre!("no key is pinned for {}; it is at the first contact", person.user_id))
}

/// Somebody about whose key there is something to decide; a card may have come before any key was pinned.
fn find_alarm(text: &str, profile: &Profile) -> Result<Alarm> {
    let alarms = profile.alarms()?;
    let mut people: Vec<Person> = profile.pins()?.iter().map(UserPin::person).collect();
    for alarm in &alarms {
        if people.iter().all(|person| person.user_id != alarm.user) {
            people.push(Person {
                user_id: alarm.user.clone(),
                name: None,
                server_id: None,
                server_name: None,
                online: false,
                standing: Standing::default(),
            });
        }
    }
    let person = resolve(text, &people)?;
    alarms
        .into_iter()
        .find(|alarm| alarm.user == person.user_id)
        .ok_or_else(|| {
            eyre!(
                "no other key was shown for {}, so there is nothing to decide",
                person.user_id
            )
        })
}

fn print_own(user: &UserId, fingerprint: Fingerprint, json: bool) -> Result<()> {
    if json {
        let object = json!({ "user_id": user.as_str(), "fingerprint": fingerprint.to_string() });
        return Ok(out::json(&object)?);
    }
    Ok(out::line(&fingerprint.to_string())?)
}
