//! Deciding about another key than the known one (PROTOCOL II.11).

use super::safety;
use crate::out;
use crate::safe_text::safe;
use color_eyre::eyre::{Result, bail, eyre};
use serde_json::{Value, json};
use socp_client::{Alarm, Identity, Profile, ServerAlarm, ServerUrl, TellFault, Trust, UserPin};
use socp_proto::{Card, CardFingerprint};
use std::io::{self, IsTerminal as _};

/// What is shown of every alarm, for people.
pub(super) fn lines(profile: &Profile) -> Result<Vec<String>> {
    let users = profile.alarms()?;
    let servers = profile.server_alarms()?;
    let users = users.iter().map(|alarm| format!("! {}", TellFault::from(alarm)));
    let servers = servers.iter().map(|alarm| {
        format!(
            "! the server {} showed another key ({}) than the one you know ({}); ask its operator for the fingerprint, and \
             decide with `socp key accept-server`",
            alarm.url,
            alarm.seen.key.fingerprint().short(),
            alarm.pinned.key.fingerprint().short()
        )
    });
    Ok(users.chain(servers).map(|line| safe(&line)).collect())
}

/// The same for scripts: alarms about users, and about servers.
pub(super) fn objects(profile: &Profile) -> Result<(Vec<Value>, Vec<Value>)> {
    let users = profile.alarms()?;
    let servers = profile.server_alarms()?;
    let users = users.iter().map(crate::show::alarm_json);
    let servers = servers.iter().map(|alarm| {
        json!({
            "server": alarm.url, "fingerprint": alarm.pinned.key.fingerprint().to_string(),
            "seen": alarm.seen.key.fingerprint().to_string(),
        })
    });
    Ok((users.collect(), servers.collect()))
}

/// Takes the other key for theirs.
pub(super) fn accept(profile: &Profile, alarm: &Alarm, told: Option<&str>, json: bool) -> Result<()> {
    let name = name(profile, alarm)?;
    let told = told.map(safety::told_text).transpose()?;
    let is_theirs = match &told {
        Some(told) => is_told(profile, alarm, &name, told)?,
        None if io::stdin().is_terminal() => ask(profile.identity(), alarm, &name)?,
        None => bail!("nothing to compare with: give --told, or run this on a terminal"),
    };
    if !is_theirs {
        bail!(
            "not the same: the key that was shown is not the one that you were told of, so nothing has changed, and \
             nothing is sent to {name}; somebody may stand between you"
        );
    }
    profile.accept_key(alarm)?;
    let user = &alarm.user;
    let (trust, text) = match alarm.keys {
        Some(_) => (
            Trust::Pinned,
            format!(
                "the new key of {name} is accepted; it is not verified: compare words with `socp key verify {user}`"
            ),
        ),
        None => (
            Trust::New,
            format!(
                "the key of {name} that you knew is forgotten; the next one that is seen must be the one on the card"
            ),
        ),
    };
    decided(alarm, trust, &text, json)
}

/// Stays with the key that was known, or promised.
pub(super) fn keep(profile: &Profile, alarm: &Alarm, json: bool) -> Result<()> {
    let name = name(profile, alarm)?;
    profile.keep_key(alarm)?;
    let is_pinned = profile.pins()?.iter().any(|pin| pin.user == alarm.user);
    let is_verified = profile.verified()?.contains(&alarm.user);
    let trust = match (is_pinned, is_verified) {
        (_, true) => Trust::Verified,
        (true, false) => Trust::Pinned,
        (false, false) => Trust::New,
    };
    let text = format!(
        "the key of {name} stays the one you know; the other ({}) is refused",
        alarm.seen.short()
    );
    decided(alarm, trust, &text, json)
}

/// Takes the other key for the server's.
pub(super) fn accept_server(profile: &Profile, url: &str, told: Option<&str>, json: bool) -> Result<()> {
    let url = ServerUrl::parse(url)?;
    let alarms = profile.server_alarms()?;
    let alarm = alarms.into_iter().find(|alarm| alarm.url == url.as_str());
    let alarm = alarm.ok_or_else(|| eyre!("the server {url} has shown no other key than the one you know"))?;
    let told = told.map(safety::told_text).transpose()?;
    let is_its = match &told {
        Some(told) => is_fingerprint(told, &alarm),
        None if io::stdin().is_terminal() => {
            out::line(&format!(
                "Ask the operator of {url}, by telephone for instance, for the fingerprint of its key. The server shows:\n\n  {}\n",
                alarm.seen.key.fingerprint()
            ))?;
            safety::answer("Is it the same, every digit? [y/N] ")?
        }
        None => bail!("nothing to compare with: give --told, or run this on a terminal"),
    };
    if !is_its {
        bail!(
            "not the same: the server at {url} shows another key than the one that you were told of; nothing is said to it. \
             Somebody may stand between you and it"
        );
    }
    profile.accept_server(&alarm)?;
    let fingerprint = alarm.seen.key.fingerprint();
    if json {
        return Ok(out::json(
            &json!({ "server": url.as_str(), "fingerprint": fingerprint.to_string() }),
        )?);
    }
    Ok(out::line(&format!("the key of {url} is now {fingerprint}"))?)
}

/// The fingerprint in hexadecimal, however it is grouped, or the key itself.
fn is_fingerprint(told: &str, alarm: &ServerAlarm) -> bool {
    let digits: String = told.chars().filter(|it| !it.is_whitespace() && *it != ':').collect();
    digits.to_lowercase() == alarm.seen.key.fingerprint().to_string() || digits == alarm.seen.key.as_str()
}

/// Whether what the other read out, or their card, is about the key that was shown.
fn is_told(profile: &Profile, alarm: &Alarm, name: &str, told: &str) -> Result<bool> {
    if let Some(seen) = card_fingerprint(told) {
        return Ok(seen == alarm.seen);
    }
    let identity = profile.identity();
    let pinned = profile.pins()?.into_iter().find(|pin| pin.user == alarm.user);
    if pinned.is_some_and(|pin| safety::code(identity, &pin).is_told_by(told)) {
        bail!(
            "these are the words of the key that you know: it is right, and the other one is not {name}'s. Somebody shows a \
             false key; stay with yours by `socp key keep {}`",
            alarm.user
        );
    }
    match with_seen(alarm) {
        Some(pin) => Ok(safety::code(identity, &pin).is_told_by(told)),
        None => bail!(
            "the key itself was not shown, only a card, so there are no words to compare: give {name}'s own card, or its \
             fingerprint, with --told"
        ),
    }
}

fn card_fingerprint(told: &str) -> Option<CardFingerprint> {
    let told = told.trim();
    let of_card = told.parse::<Card>().ok().map(|card| card.fingerprint());
    of_card.or_else(|| told.parse().ok())
}

fn ask(identity: &Identity, alarm: &Alarm, name: &str) -> Result<bool> {
    out::line(&format!("{}\n", safe(&TellFault::from(alarm).to_string())))?;
    if let Some(pin) = with_seen(alarm) {
        out::line(&format!(
            "Call {name}, and ask for the words that `socp key fingerprint` shows there for you. With the new key they are:\n"
        ))?;
        out::line(&safety::drawn(&safety::code(identity, &pin)))?;
    } else {
        out::line(&format!(
            "Call {name}, and ask for the end of what `socp key card` shows there. It must be:\n\n  {}",
            alarm.seen
        ))?;
    }
    safety::answer(&format!("\nIs it the same, and are you sure that it is {name}? [y/N] "))
}

/// The user with the keys that were shown.
fn with_seen(alarm: &Alarm) -> Option<UserPin> {
    let (pubkey, enc_pubkey) = alarm.keys.clone()?;
    Some(UserPin {
        user: alarm.user.clone(),
        pubkey,
        enc_pubkey,
        name: None,
        server_id: None,
        server_name: None,
        version: 1,
        revoked: false,
        acks: false,
        former: Vec::new(),
        numbered_at: 0,
    })
}

fn name(profile: &Profile, alarm: &Alarm) -> Result<String> {
    let pinned = profile.pins()?.into_iter().find(|pin| pin.user == alarm.user);
    Ok(pinned.map_or_else(|| alarm.user.to_string(), |pin| safety::name(&pin)))
}

fn decided(alarm: &Alarm, trust: Trust, text: &str, json: bool) -> Result<()> {
    if json {
        let object = json!({ "user_id": alarm.user.as_str(), "trust": trust.to_string() });
        return Ok(out::json(&object)?);
    }
    Ok(out::line(text)?)
}
