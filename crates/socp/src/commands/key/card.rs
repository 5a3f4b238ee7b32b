//! Contact cards (PROTOCOL II.11).

use crate::safe_text::safe;
use crate::{out, qr};
use color_eyre::eyre::{Result, WrapErr as _, bail};
use serde_json::json;
use socp_client::{CardOutcome, Profile, ServerUrl, Trust};
use socp_proto::Card;

/// One's own card.
pub(super) fn show(profile: &Profile, server: &ServerUrl, qr: bool, json: bool) -> Result<()> {
    let (host, port) = server.host_and_port();
    let card = profile.card(host, port)?;
    if json {
        let object = json!({
            "card": card.to_string(), "user_id": card.user().as_str(), "fingerprint": card.fingerprint().to_string(),
        });
        return Ok(out::json(&object)?);
    }
    out::line(&card.to_string())?;
    if qr {
        for line in qr::lines(&card.to_string())? {
            out::line(&line)?;
        }
    }
    Ok(())
}

/// Somebody's card, which came another way than through a server.
pub(super) fn add(profile: &Profile, text: &str, json: bool) -> Result<()> {
    let card: Card = text.trim().parse().wrap_err("this is no contact card")?;
    let name = safe(card.name().unwrap_or(card.user().as_str()));
    let user = card.user();
    let (trust, text) = match profile.add_card(&card)? {
        CardOutcome::Expected => (
            Trust::New,
            format!(
                "the card of {name} ({user}) is kept; the first key that a server shows must fit it, and is then verified"
            ),
        ),
        CardOutcome::Verified => (
            Trust::Verified,
            format!("{name} ({user}) is verified: the key you know is on the card"),
        ),
        CardOutcome::Contradicts(_) => bail!(
            "the card of {name} ({user}) is for another key than the one you know. Either the card is old, or somebody gave \
             you a false key when you first met {name}; nothing is sent to them until you decide. Ask them whether this is \
             their card: if so, `socp key accept {user}`; if not, `socp key keep {user}`"
        ),
    };
    if json {
        let object = json!({ "user_id": user.as_str(), "name": card.name(), "trust": trust.to_string() });
        return Ok(out::json(&object)?);
    }
    Ok(out::line(&text)?)
}
