//! Whose signature a frame of the server has: its own key's, or one that it lets sign (SOCP §12, PROTOCOL II.3).

use crate::worker::is_signed_by;
use socp_core::server::Config;
use socp_crypto::{DelegatePublicKey, PublicKey};
use socp_proto::{Challenge, Delegation, Fingerprint, Frame, Id, KeyHistory, Payload, UserId};

/// The key that signs the server's frames on one link, once it has said so.
#[derive(Debug, Clone)]
pub(crate) struct Delegate {
    key: DelegatePublicKey,
    delegation: Delegation,
    /// The server's own key.
    by: Fingerprint,
}

/// What a frame's signature is worth.
#[derive(Debug)]
pub(crate) enum SealCheck {
    /// The server said it.
    Good(Fingerprint),
    /// The server said it, and which key signs from now on.
    Delegating(Delegate),
    /// Nobody knows who said it.
    Bad,
}

/// Checks a frame. `key`: the server's own, if it is known; `delegate`: what it said on this link; `unix`: now, ms.
pub(crate) fn check(
    frame: &Frame,
    key: Option<&(PublicKey, Fingerprint)>,
    delegate: Option<&Delegate>,
    unix: u64,
) -> SealCheck {
    if let (Payload::Challenge(challenge), true) = (&frame.payload, frame.envelope.is_delegated()) {
        return check_challenge(frame, challenge, key, unix);
    }
    if frame.envelope.is_delegated() {
        let signed = delegate.filter(|delegate| {
            let sig = frame.envelope.sig.decode();
            delegate.delegation.holds_at(unix, Config::CLOCK_TOLERANCE_MS)
                && delegate.key.verify(&frame.envelope.delegated_text(), &sig).is_ok()
        });
        return signed.map_or(SealCheck::Bad, |delegate| SealCheck::Good(delegate.by));
    }
    let Some((key, by)) = key.filter(|(key, _)| is_signed_by(key, frame)) else {
        return SealCheck::Bad;
    };
    match (&frame.payload, delegate) {
        (Payload::Heartbeat(heartbeat), _) if heartbeat.delegation.is_some() => {
            let good = heartbeat.delegation.clone().filter(|delegation| {
                frame.envelope.from == delegation.server_id && delegation.holds_at(unix, Config::CLOCK_TOLERANCE_MS)
            });
            let good = good.and_then(|delegation| Some((DelegatePublicKey::of(&delegation, key).ok()?, delegation)));
            good.map_or(SealCheck::Bad, |(public, delegation)| {
                SealCheck::Delegating(Delegate {
                    key: public,
                    delegation,
                    by: *by,
                })
            })
        }
        (_, None) => SealCheck::Good(*by),
        // A signature that covers less than the link has had: anybody could have taken it from elsewhere.
        (_, Some(_)) => SealCheck::Bad,
    }
}

/// How the key came about that a server shows in its question, where that was changed (PROTOCOL II.13).
pub(crate) fn successors(frame: &Frame) -> Option<&KeyHistory> {
    let Payload::Challenge(challenge) = &frame.payload else {
        return None;
    };
    let history = challenge.history.as_ref()?;
    let whose = UserId::from(Id::from(&challenge.server_id));
    let is_its = history.is_of(&whose) && history.newest().pubkey == challenge.server_pub;
    is_its.then_some(history)
}

/// A challenge brings the delegation that it is signed by, which is for this frame alone: the link's own comes behind the
/// `ACK`.
fn check_challenge(
    frame: &Frame,
    challenge: &Challenge,
    key: Option<&(PublicKey, Fingerprint)>,
    unix: u64,
) -> SealCheck {
    let Some(((key, by), delegation)) = key.zip(challenge.delegation.as_ref()) else {
        return SealCheck::Bad;
    };
    let is_ours = frame.envelope.from == delegation.server_id;
    if !is_ours || !delegation.holds_at(unix, Config::CLOCK_TOLERANCE_MS) {
        return SealCheck::Bad;
    }
    let sig = frame.envelope.sig.decode();
    let signed = DelegatePublicKey::of(delegation, key)
        .is_ok_and(|delegate| delegate.verify(&frame.envelope.delegated_text(), &sig).is_ok());
    if signed { SealCheck::Good(*by) } else { SealCheck::Bad }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socp_crypto::{DelegateKey, PrivateKey};
    use socp_proto::payload::Heartbeat;
    use socp_proto::{Draft, Envelope, KeyText, ServerId, UserId};

    const NOW: u64 = 1_800_000_000_000;
    const DAY: u64 = 24 * 3_600_000;

    fn frame(envelope: &Envelope) -> Frame {
        Frame::parse(&envelope.to_text()).unwrap()
    }

    fn draft(payload: &Payload) -> Draft {
        let (from, to) = (ServerId::try_from("srv").unwrap(), UserId::try_from("u").unwrap());
        Draft::new(&from, &to, NOW, payload)
    }

    fn telling(delegation: Delegation) -> Payload {
        Payload::Heartbeat(Heartbeat {
            delegation: Some(delegation),
            ..Heartbeat::default()
        })
    }

    #[test]
    fn each_signature_counts_where_it_may() {
        let server = PrivateKey::generate().unwrap();
        let own = (
            server.public_key().clone(),
            Fingerprint::from_bytes(server.public_key().fingerprint()),
        );
        let srv = ServerId::try_from("srv").unwrap();
        let delegate_key = DelegateKey::generate().unwrap();
        let by_server = |payload: &Payload| {
            let draft = draft(payload);
            let sig = server.sign(draft.signed_text().as_bytes()).unwrap();
            frame(&draft.sign(&sig))
        };
        let by_delegate = |payload: &Payload| {
            let sign = |text: &[u8]| delegate_key.sign(text).map(|sig| sig.to_vec());
            frame(&draft(payload).sign_whole(sign).unwrap())
        };
        let delegation = |id: &ServerId, from: u64, to: u64| delegate_key.delegation(&server, id, from, to).unwrap();
        let plain = Payload::Heartbeat(Heartbeat::default());

        let told = by_server(&telling(delegation(&srv, NOW, NOW + DAY)));
        let SealCheck::Delegating(delegate) = check(&told, Some(&own), None, NOW) else {
            panic!("a good delegation is refused");
        };
        let is_good = |frame: &Frame, delegate: Option<&Delegate>, at: u64| matches!(check(frame, Some(&own), delegate, at), SealCheck::Good(by) if by == own.1);
        assert!(is_good(&by_server(&plain), None, NOW));
        assert!(is_good(&by_delegate(&plain), Some(&delegate), NOW));
        assert!(!is_good(&by_delegate(&plain), None, NOW), "of whom nobody has told");
        assert!(!is_good(&by_server(&plain), Some(&delegate), NOW), "less than before");
        assert!(
            !is_good(&by_delegate(&plain), Some(&delegate), NOW + 2 * DAY),
            "too late"
        );
        let mut moved = by_delegate(&plain);
        moved.envelope.ts += 1;
        assert!(!is_good(&moved, Some(&delegate), NOW), "changed");

        let other = ServerId::try_from("other").unwrap();
        let stranger = PrivateKey::generate().unwrap();
        let bad = [
            ("another server's", delegation(&other, NOW, NOW + DAY)),
            ("not yet", delegation(&srv, NOW + DAY, NOW + 2 * DAY)),
            ("no more", delegation(&srv, NOW - 2 * DAY, NOW - DAY)),
            (
                "another key's",
                delegate_key.delegation(&stranger, &srv, NOW, NOW + DAY).unwrap(),
            ),
        ];
        for (what, delegation) in bad.clone() {
            let told = by_server(&telling(delegation));
            assert!(matches!(check(&told, Some(&own), None, NOW), SealCheck::Bad), "{what}");
        }
        let by_itself = by_delegate(&telling(delegation(&srv, NOW, NOW + DAY)));
        assert!(matches!(check(&by_itself, Some(&own), None, NOW), SealCheck::Bad));

        // A challenge brings its own, and no other frame does.
        let asking = |delegation: Option<Delegation>| {
            Payload::Challenge(Challenge {
                history: None,
                tls: None,
                nonce: [1; 32].into(),
                server_id: srv.clone(),
                server_pub: KeyText::from_der(server.public_key().spki_der()),
                hello: [2; 32].into(),
                caps: None,
                delegation,
            })
        };
        let good = by_delegate(&asking(Some(delegation(&srv, NOW, NOW + DAY))));
        assert!(is_good(&good, None, NOW));
        assert!(!is_good(&good, None, NOW + 2 * DAY), "too late");
        let mut moved = good;
        moved.envelope.ts += 1;
        assert!(!is_good(&moved, None, NOW), "changed");
        assert!(!is_good(&by_delegate(&asking(None)), None, NOW), "by nobody's leave");
        assert!(is_good(&by_server(&asking(None)), None, NOW));
        for (what, delegation) in bad {
            assert!(!is_good(&by_delegate(&asking(Some(delegation))), None, NOW), "{what}");
        }
    }
}
