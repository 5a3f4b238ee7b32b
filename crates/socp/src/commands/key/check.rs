//! Asking other servers whether they know the same key (PROTOCOL II.11).

use super::safety;
use crate::out;
use crate::safe_text::safe;
use color_eyre::eyre::{Result, bail};
use serde_json::json;
use socp_client::{Profile, ServerPin, ServerUrl, UserPin, Verdict, ask_server};

/// Asks one after the other; whoever says another key raises the alarm.
pub(super) async fn run(
    profile: &Profile,
    pin: &UserPin,
    via: &[String],
    home: Option<&ServerUrl>,
    json: bool,
) -> Result<()> {
    let servers = servers(profile, via, home)?;
    let name = safety::name(pin);
    let mut others = Vec::new();
    let mut is_answered = false;
    for (url, server) in &servers {
        let asked = ask_server(url, server.as_ref(), &pin.user).await;
        let (says, text) = match asked {
            // It proves itself, whoever shows it.
            Ok(word) if word.follows(pin) => {
                is_answered = true;
                let says = format!("shows a change of the keys of {name}, signed with those that you know");
                ("newer", says)
            }
            Ok(word) => {
                let signed = if word.is_signed {
                    ""
                } else {
                    " (but its own key is not known to you)"
                };
                match profile.judge_word(pin, url, &word)? {
                    Verdict::Same => {
                        is_answered = true;
                        ("same", format!("says the same key for {name}{signed}"))
                    }
                    Verdict::Refused => (
                        "refused",
                        format!("says another key for {name}, which you have refused{signed}"),
                    ),
                    Verdict::Other => {
                        others.push(url.as_str().to_owned());
                        ("other", format!("says ANOTHER key for {name}{signed}"))
                    }
                    Verdict::Unknown => ("unknown", format!("does not know {name}")),
                }
            }
            Err(error) => ("nothing", format!("says nothing: {error}")),
        };
        if json {
            out::json(&json!({ "user_id": pin.user.as_str(), "server": url.as_str(), "says": says, "detail": text }))?;
        } else {
            out::line(&safe(&format!("{url} {text}")))?;
        }
    }
    if !others.is_empty() {
        bail!(
            "{} another key for {name} than the one you know. One of the two is false; nothing is sent to {name} until you \
             decide: call them, and then `socp key accept {user}` or `socp key keep {user}`",
            if others.len() == 1 {
                "a server says"
            } else {
                "servers say"
            },
            user = pin.user
        );
    }
    if !is_answered {
        bail!(
            "nobody else knows a key for {name}, so this says nothing; compare safety words with `socp key verify {}`",
            pin.user
        );
    }
    Ok(())
}

type Servers = Vec<(ServerUrl, Option<ServerPin>)>;

fn servers(profile: &Profile, via: &[String], home: Option<&ServerUrl>) -> Result<Servers> {
    if !via.is_empty() {
        let known = |url: &String| {
            let url = profile.with_tls_pin(ServerUrl::parse(url)?)?;
            let pin = profile.server(url.as_str())?;
            Ok((url, pin))
        };
        return via.iter().map(known).collect();
    }
    let home = home.map_or("", ServerUrl::as_str);
    let others = profile.other_servers(home)?.into_iter();
    let servers: Servers = others.map(|(url, pin)| (url, Some(pin))).collect();
    if servers.is_empty() {
        bail!("this profile knows no other server to ask; name one with --via ws://host:port");
    }
    Ok(servers)
}
