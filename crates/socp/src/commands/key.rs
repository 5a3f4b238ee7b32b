//! `socp key`: one's own key, and the pinned ones.

use crate::cli::Common;
use crate::safe_text::safe;
use crate::{out, qr};
use clap::{Args, Subcommand};
use color_eyre::eyre::{Result, eyre};
use serde_json::json;
use socp_client::{Identity, Person, Profile, UserPin, resolve};
use socp_crypto::{SafetyCode, SafetyParty};
use socp_proto::{Fingerprint, UserId};

/// Show your key, or the fingerprint of one that is pinned
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp key show
  socp key fingerprint bob")]
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
}

pub(crate) fn run(args: KeyArgs, common: &Common) -> Result<()> {
    let profile = Profile::open(&common.profile_dir()?)?;
    let identity = profile.identity();
    match args.command {
        KeyCommand::Show => show(&profile, common.json),
        KeyCommand::Fingerprint { user: None, .. } => {
            print_own(&identity.user_id, identity.pubkey.fingerprint(), common.json)
        }
        KeyCommand::Fingerprint { user: Some(text), qr } => {
            let pin = find(&text, profile.pins()?)?;
            print_shared(identity, &pin, qr, common.json)
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
        }))?);
    }
    out::line(&format!("user id      {}", identity.user_id))?;
    if let Some(name) = &identity.name {
        out::line(&format!("name         {name}"))?;
    }
    out::line(&format!("fingerprint  {fingerprint}"))?;
    out::line(&format!("public key   {}", identity.pubkey.as_str()))?;
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

/// What is pinned for a user, and what both of you see if no server swapped your keys.
fn print_shared(identity: &Identity, pin: &UserPin, qr: bool, json: bool) -> Result<()> {
    let fingerprint = pin.pubkey.fingerprint().to_string();
    let code = safety_code(identity, pin);
    if json {
        return Ok(out::json(&json!({
            "user_id": pin.user.as_str(),
            "fingerprint": fingerprint,
            "safety_words": code.words(),
            "safety_digits": code.digits(),
            "safety_qr": code.qr_text(),
        }))?);
    }
    let who = safe(pin.name.as_deref().unwrap_or(pin.user.as_str()));
    out::line(&fingerprint)?;
    out::line(&format!(
        "\nSafety words of you and {who}. Compare them where no server is in between, on the telephone for\n\
         instance; the other sees the same with `socp key fingerprint` for you. One word that differs means\n\
         that somebody reads along.\n"
    ))?;
    for line in code.to_string().lines() {
        out::line(&format!("  {line}"))?;
    }
    out::line("\nThe same in digits:\n")?;
    for line in code.digits().chunks(4) {
        out::line(&format!("  {}", line.join(" ")))?;
    }
    if qr {
        out::line("")?;
        for line in qr::lines(&code.qr_text())? {
            out::line(&line)?;
        }
    }
    Ok(())
}

fn safety_code(identity: &Identity, pin: &UserPin) -> SafetyCode {
    let own = SafetyParty {
        user: &identity.user_id,
        pubkey: &identity.pubkey,
        enc_pubkey: None,
    };
    let other = SafetyParty {
        user: &pin.user,
        pubkey: &pin.pubkey,
        enc_pubkey: Some(&pin.enc_pubkey),
    };
    SafetyCode::new(own, other)
}
