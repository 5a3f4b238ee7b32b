//! `socp list`: who is there.

use crate::cli::Common;
use crate::face;
use crate::{out, show};
use clap::Args;
use color_eyre::eyre::Result;
use socp_client::{Profile, Trust};
use socp_proto::UserId;
use std::collections::BTreeSet;

/// List the users online, sorted by id
#[derive(Debug, Args)]
#[command(after_help = "Example:
  socp list --json | jq -r .name")]
pub(crate) struct ListArgs {
    /// All known users, online or not
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(args: ListArgs, common: &Common) -> Result<()> {
    let unlocked = face::unlock(common).await?;
    let profile = unlocked.profile();
    let (client, acquaintances) = unlocked.connect_once(common.json).await?;
    let people = client.list().await;
    client.close().await;
    let people = people?;
    acquaintances.tell(None)?;
    // Read afterwards: what was just met is pinned by now.
    let trust = Acquainted::of(&profile)?;
    for person in people.iter().filter(|person| person.online || args.all) {
        if common.json {
            let mut object = show::person_json(person);
            if let Some(fields) = object.as_object_mut() {
                let trust = trust.of_user(&person.user_id);
                fields.insert("trust".to_owned(), trust.to_string().into());
            }
            out::json(&object)?;
            continue;
        }
        let away = if args.all && !person.online { "  (offline)" } else { "" };
        let mark = match trust.of_user(&person.user_id) {
            _ if person.user_id == trust.ourselves => "  (you)",
            Trust::Verified => "  (verified)",
            Trust::Pinned | Trust::New => "",
        };
        out::line(&format!("{}  {}{mark}{away}", person.user_id, show::address(person)))?;
    }
    Ok(())
}

/// Whom this profile has met, and whose keys were compared.
struct Acquainted {
    ourselves: UserId,
    pinned: BTreeSet<UserId>,
    verified: BTreeSet<UserId>,
}

impl Acquainted {
    fn of(profile: &Profile) -> Result<Self> {
        let pinned = profile.pins()?.into_iter().map(|pin| pin.user);
        Ok(Self {
            ourselves: profile.identity().user_id.clone(),
            pinned: pinned.collect(),
            verified: profile.verified()?,
        })
    }

    fn of_user(&self, user: &UserId) -> Trust {
        if self.verified.contains(user) || *user == self.ourselves {
            Trust::Verified
        } else if self.pinned.contains(user) {
            Trust::Pinned
        } else {
            Trust::New
        }
    }
}
