//! The core's notes as log lines: `info` per state change, `warn` for the operator, `debug` per decision.

use crate::Ready;
use crate::settings::Settings;
use socp_core::server::{Note, Shelf};
use tracing::{debug, error, info, trace, warn};

const PROOF_WITHHELD: &str = "a server that has proved its key before came without proof and was refused: somebody \
                              repeats what it once said, or it runs an older program; if so, socp admin unpin";

const DAMAGED: &str = "a message on this disk is damaged; it was put aside (table quarantine) and is not delivered: check \
                       the disk, and socp backup verify the last backup";

const WITHOUT_TLS: &str = "no TLS, and others can reach this address: whoever is on the way sees who talks to whom; use \
                           --tls-cert and --tls-key, or --acme-domain, or --tls-self-signed, or --public-address wss://… behind a proxy";

const BETWEEN: &str = "the server at this address proved its key, but not on our TLS session: somebody stands between, or TLS \
                       ends in front of it without a good certificate; refused";

const KEY_CONFLICT: &str = "a peer advertises a known user with another key; refused";
const OUSTED: &str = "an id was used with another key than the one it is made from; its owner has come, and that is \
                      undone";

/// Says that the server is there for others.
pub(crate) fn listening(ready: &Ready, settings: &Settings) {
    info!(
        listen = %ready.listen,
        url = ready.url(),
        server = %ready.server_id,
        name = ready.name.as_deref().unwrap_or(""),
        fingerprint = %ready.fingerprint(),
        "listening"
    );
    let is_behind_tls = settings.public_tls == Some(true);
    if !ready.has_tls && !ready.listen.ip().is_loopback() && !is_behind_tls {
        warn!(listen = %ready.listen, "{WITHOUT_TLS}");
    }
}

/// Logs one note. User ids only at `debug`.
pub(crate) fn note(note: &Note) {
    match note {
        Note::PeerUp {
            server,
            name,
            fingerprint,
            link,
        } => {
            info!(%server, name = name.as_deref().unwrap_or(""), %fingerprint, link = link.0, "peer linked");
        }
        Note::PeerDown { server } => info!(%server, "peer lost"),
        Note::Pinned { server, fingerprint } => info!(%server, %fingerprint, "server key pinned"),
        Note::IdAssigned { wished, assigned } => {
            info!(%wished, %assigned, "the introducer assigned another id")
        }
        Note::DialFailed { .. }
        | Note::WrongKey { .. }
        | Note::Rejected { .. }
        | Note::StandsBetween { .. }
        | Note::Uncertified { .. } => note_of_address(note),
        Note::PinFollowed {
            server,
            replaced,
            fingerprint,
        } => {
            info!(%server, %replaced, %fingerprint, "a server has a new key, which the one before announced; it is pinned now")
        }
        Note::PinConflict {
            server,
            pinned,
            offered,
        } => {
            warn!(%server, %pinned, %offered, "a server came with another key than the pinned one and was refused");
        }
        Note::ProofWithheld { server } => warn!(%server, "{PROOF_WITHHELD}"),
        Note::TrustedOnFirstUse { server, fingerprint } => {
            warn!(%server, %fingerprint, "introducer trusted on first use; give its key as ws://host:port#KEY");
        }
        Note::IdKept { kept, assigned } => {
            warn!(%kept, %assigned, "an introducer wants to give us another id; kept ours")
        }
        Note::UnprovenHello { link, .. } => warn!(link = link.0, "a user was let in without proof (--accept open)"),
        Note::Unpinned { server } => info!(%server, "pin removed"),
        Note::ChannelVersion { version } => debug!(version, "channel version"),
        Note::PresenceCorrected { user, server } => debug!(%user, %server, "user is not there any more"),
        // The store itself says when it begins to fail.
        Note::SaveFailed { reason } => debug!(reason, "the store refused a record"),
        Note::PeerOverBudget { server } => warn!(%server, "a peer exceeds its presence budget"),
        Note::KeyConflict { server, .. } => warn!(%server, "{KEY_CONFLICT}"),
        Note::Ousted { .. } => warn!("{OUSTED}"),
        Note::Damaged { shelf, seq } => error!(?shelf, seq, "{DAMAGED}"),
        Note::Full {
            shelf: Shelf::Outbound(server),
        } => warn!(%server, "too much waits for a server that is not there; more is refused"),
        Note::Full { .. } | Note::Unreadable { .. } | Note::Unacknowledged { .. } => debug!(?note),
        Note::KeysChanged { .. }
        | Note::Deleted { .. }
        | Note::PeerComplained { .. }
        | Note::DuplicateLink { .. }
        | Note::UserUp { .. }
        | Note::UserDown { .. }
        | Note::Duplicate { .. }
        | Note::Ignored { .. }
        | Note::Refused { .. }
        | Note::UserComplained { .. }
        | Note::Undeliverable { .. }
        | Note::Silent { .. } => debug!(?note),
        Note::Routed { .. } => trace!(?note),
    }
}

/// What went wrong at an address that was dialled.
#[expect(clippy::wildcard_enum_match_arm, reason = "it is called for these alone")]
fn note_of_address(note: &Note) {
    match note {
        Note::DialFailed {
            address,
            reason,
            retry_ms,
        } => {
            warn!(address, reason, retry_ms, "cannot reach a server; trying again");
        }
        Note::WrongKey {
            address,
            expected,
            offered,
        } => {
            warn!(address, %expected, %offered, "the server at this address has not the key it should have");
        }
        Note::Rejected { address, code, detail } => {
            warn!(address, %code, detail = detail.escape_debug().to_string(), "a server refused us");
        }
        Note::StandsBetween { address } => warn!(address, "{BETWEEN}"),
        Note::Uncertified { address } => {
            warn!(
                address,
                "a server has no good certificate for TLS and cannot prove a known key instead; refused"
            );
        }
        _ => debug!(?note),
    }
}
