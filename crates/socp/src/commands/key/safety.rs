//! Safety words: showing them, and writing down that they were compared (PROTOCOL II.10).

use crate::safe_text::safe;
use crate::{out, qr};
use color_eyre::eyre::{Result, WrapErr as _, bail};
use serde_json::json;
use socp_client::{Identity, Profile, Trust, UserPin};
use socp_crypto::{SafetyCode, SafetyParty};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

/// More than anybody reads out.
const TOLD_BYTES_MAX: u64 = 4 * 1024;

/// What is pinned for a user, and what both of you see if no server swapped your keys.
pub(super) fn show(identity: &Identity, pin: &UserPin, qr: bool, json: bool) -> Result<()> {
    let fingerprint = pin.pubkey.fingerprint().to_string();
    let code = code(identity, pin);
    if json {
        return Ok(out::json(&json!({
            "user_id": pin.user.as_str(),
            "fingerprint": fingerprint,
            "safety_words": code.words(),
            "safety_digits": code.digits(),
            "safety_qr": code.qr_text(),
        }))?);
    }
    out::line(&fingerprint)?;
    out::line(&format!(
        "\nSafety words of you and {}. Compare them where no server is in between, on the telephone for\n\
         instance; the other sees the same with `socp key fingerprint` for you. One word that differs means\n\
         that somebody reads along.\n",
        name(pin)
    ))?;
    out::line(&drawn(&code))?;
    if qr {
        out::line("")?;
        for line in qr::lines(&code.qr_text())? {
            out::line(&line)?;
        }
    }
    Ok(())
}

/// Compares with what the other has, or asks whether it is the same, and writes it down.
pub(super) fn verify(profile: &Profile, pin: &UserPin, told: Option<&str>, json: bool) -> Result<()> {
    let code = code(profile.identity(), pin);
    let told = told.map(told_text).transpose()?;
    let is_same = match &told {
        Some(told) => code.is_told_by(told),
        None if io::stdin().is_terminal() => ask(pin, &code)?,
        None => bail!("nothing to compare with: give --told, or run this on a terminal"),
    };
    let name = name(pin);
    if !is_same {
        bail!(
            "not the same: either it was misread, or somebody put a key of theirs in place of yours or {name}'s and can \
             read what you write; write nothing that matters until you have met"
        );
    }
    profile.set_verified(pin)?;
    // Whoever showed another key was wrong.
    for alarm in profile.alarms()?.iter().filter(|alarm| alarm.user == pin.user) {
        profile.keep_key(alarm)?;
    }
    told_trust(
        pin,
        Trust::Verified,
        &format!("{name} is verified: this key is theirs"),
        json,
    )
}

/// Takes back that the keys were compared.
pub(super) fn undo(profile: &Profile, pin: &UserPin, json: bool) -> Result<()> {
    let name = name(pin);
    if !profile.unset_verified(&pin.user)? {
        bail!("{name} was not verified");
    }
    told_trust(pin, Trust::Pinned, &format!("{name} is not verified any more"), json)
}

fn told_trust(pin: &UserPin, trust: Trust, text: &str, json: bool) -> Result<()> {
    if json {
        let object = json!({ "user_id": pin.user.as_str(), "trust": trust.to_string() });
        return Ok(out::json(&object)?);
    }
    Ok(out::line(text)?)
}

fn ask(pin: &UserPin, code: &SafetyCode) -> Result<bool> {
    let name = name(pin);
    out::line(&format!(
        "Ask {name} to run `socp key fingerprint` for you, and to read out the words:\n"
    ))?;
    out::line(&drawn(code))?;
    answer(&format!(
        "\nAre they the same, every one, and are you sure that it is {name}? [y/N] "
    ))
}

/// Asks, and takes only a plain yes for one.
pub(super) fn answer(question: &str) -> Result<bool> {
    out::raw(question)?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .take(TOLD_BYTES_MAX)
        .read_line(&mut answer)
        .wrap_err("cannot read the answer")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// What was told on the command line; `-` stands for standard input.
pub(super) fn told_text(told: &str) -> Result<String> {
    if told == "-" { from_stdin() } else { Ok(told.to_owned()) }
}

fn from_stdin() -> Result<String> {
    let mut told = String::new();
    io::stdin()
        .lock()
        .take(TOLD_BYTES_MAX)
        .read_to_string(&mut told)
        .wrap_err("cannot read the words")?;
    Ok(told)
}

/// Words and digits for people.
pub(super) fn drawn(code: &SafetyCode) -> String {
    let words = code.to_string();
    let digits = code.digits();
    let digits = digits.chunks(4).map(|line| line.join(" "));
    let lines = words.lines().map(str::to_owned).chain([String::new()]).chain(digits);
    let lines: Vec<String> = lines
        .map(|line| if line.is_empty() { line } else { format!("  {line}") })
        .collect();
    lines.join("\n")
}

pub(super) fn name(pin: &UserPin) -> String {
    safe(pin.name.as_deref().unwrap_or(pin.user.as_str()))
}

pub(super) fn code(identity: &Identity, pin: &UserPin) -> SafetyCode {
    let own = SafetyParty {
        user: &identity.user_id,
        pubkey: &identity.pubkey,
        enc_pubkey: Some(&identity.enc_pubkey),
    };
    let other = SafetyParty {
        user: &pin.user,
        pubkey: &pin.pubkey,
        enc_pubkey: Some(&pin.enc_pubkey),
    };
    SafetyCode::new(own, other)
}
