//! The core's notes as log lines: `info` per state change, `warn` for the operator, `debug` per decision.

use socp_core::server::Note;
use tracing::{debug, info, warn};

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
        Note::Pinned {
            server,
            fingerprint,
        } => info!(%server, %fingerprint, "server key pinned"),
        Note::IdAssigned { wished, assigned } => {
            info!(%wished, %assigned, "the introducer assigned another id")
        }
        Note::DialFailed {
            address,
            reason,
            retry_ms,
        } => {
            warn!(
                address,
                reason, retry_ms, "cannot reach a server; trying again"
            );
        }
        Note::PinConflict {
            server,
            pinned,
            offered,
        } => {
            warn!(%server, %pinned, %offered, "a server came with another key than the pinned one and was refused");
        }
        Note::TrustedOnFirstUse {
            server,
            fingerprint,
        } => {
            warn!(%server, %fingerprint, "introducer trusted on first use; give its key as ws://host:port#KEY");
        }
        Note::WrongKey {
            address,
            expected,
            offered,
        } => {
            warn!(address, %expected, %offered, "the server at this address has not the key it should have");
        }
        Note::IdKept { kept, assigned } => {
            warn!(%kept, %assigned, "an introducer wants to give us another id; kept ours")
        }
        Note::Rejected {
            address,
            code,
            detail,
        } => {
            warn!(address, %code, detail = detail.escape_debug().to_string(), "a server refused us");
        }
        Note::UnprovenHello { link, .. } => warn!(
            link = link.0,
            "a user was let in without proof (--accept open)"
        ),
        Note::SaveFailed { reason } => warn!(reason, "the store refused a record"),
        Note::PeerOverBudget { server } => warn!(%server, "a peer exceeds its presence budget"),
        Note::KeyConflict { server, .. } => {
            warn!(%server, "a peer advertises a known user with another key; refused")
        }
        Note::PeerComplained {
            server,
            code,
            detail,
        } => {
            debug!(%server, %code, detail = detail.escape_debug().to_string(), "a peer complained");
        }
        Note::DuplicateLink { server, link } => {
            debug!(%server, link = link.0, "second link given up")
        }
        Note::UserUp { user, link } => debug!(%user, link = link.0, "user online"),
        Note::UserDown { user } => debug!(%user, "user offline"),
        Note::Duplicate { link, kind } => {
            debug!(link = link.0, kind = kind.name(), "duplicate dropped")
        }
        Note::Ignored { link, kind } => debug!(link = link.0, kind = kind.name(), "ignored"),
        Note::Refused { link, reason } => debug!(
            link = link.0,
            reason = reason.escape_debug().to_string(),
            "refused"
        ),
        Note::UserComplained { link, code } => debug!(link = link.0, %code, "a user complained"),
        Note::Undeliverable { link } => debug!(link = link.0, "undeliverable"),
        Note::Routed { link, is_local } => tracing::trace!(link = link.0, is_local, "routed"),
        Note::Silent { link } => debug!(link = link.0, "silent for too long"),
    }
}
