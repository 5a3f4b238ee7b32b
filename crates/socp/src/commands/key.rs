//! `socp key`: one's own key, and the pinned ones.

mod safety;
pub(crate) mod transfer;

use crate::cli::Common;
use crate::out;
use clap::{Args, Subcommand};
use color_eyre::eyre::{Result, eyre};
use serde_json::json;
use socp_client::{Person, Profile, UserPin, resolve};
use socp_proto::{Fingerprint, UserId};
use std::path::PathBuf;

/// Show your keys, or those pinned; compare keys with somebody; take your identity elsewhere
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp key show
  socp key verify bob
  socp key export alice.socp-identity")]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Your user id, name and public key
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
    },
}

pub(crate) fn run(args: KeyArgs, common: &Common) -> Result<()> {
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
        KeyCommand::Export { file } => transfer::export(&file, common),
        KeyCommand::Import { file, no_password } => transfer::import(&file, no_password, common),
        KeyCommand::Verify { user, told, undo } => {
            let profile = open()?;
            let pin = find(&user, profile.pins()?)?;
            if undo {
                return safety::undo(&profile, &pin, common.json);
            }
            safety::verify(&profile, &pin, told.as_deref(), common.json)
        }
    }
}

fn show(profile: &Profile, json: bool) -> Result<()> {
    let identity = profile.identity();
    let fingerprint = identity.pubkey.fingerprint();
    if json {
        return Ok(out::json(&json!({
            "user_id": identity.user_id.as_str(),
            "name": identity.name,
            "display_name": identity.display_name,
            "fingerprint": fingerprint.to_string(),
            "pubkey": identity.pubkey.as_str(),
            "enc_pubkey": identity.enc_pubkey.as_str(),
            "enc_fingerprint": identity.enc_pubkey.fingerprint().to_string(),
            "version": identity.version(),
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
    out::line(&format!("version      {}", identity.version()))?;
    Ok(())
}

fn find(text: &str, pins: Vec<UserPin>) -> Result<UserPin> {
    let people: Vec<Person> = pins.iter().map(UserPin::person).collect();
    let person = resolve(text, &people)?;
    pins.into_iter()
        .find(|pin| pin.user == person.user_id)
        .ok_or_else(|| eyre!("no key is pinned for {}; it is at the first contact", person.user_id))
}

fn print_own(user: &UserId, fingerprint: Fingerprint, json: bool) -> Result<()> {
    if json {
        let object = json!({ "user_id": user.as_str(), "fingerprint": fingerprint.to_string() });
        return Ok(out::json(&object)?);
    }
    Ok(out::line(&fingerprint.to_string())?)
}
