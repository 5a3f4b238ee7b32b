//! Reading a link: parse, verify on the pool, hand to the hub in the order in which frames came.

mod budget;
mod in_order;

use crate::histories::Histories;
use crate::hub::HubMessage;
use crate::link::{Delegate, LinkRole, LinkState, Wiring};
use crate::metrics::{Loss, Metrics};
use crate::outbox::Outbox;
use crate::socket::{Received, SocketStream};
use budget::Budget;
use in_order::InOrder;
use socp_core::Verified;
use socp_core::server::{Fault, FirstFrame, Input, LinkId, Seal, seal_of};
use socp_crypto::frame_content::signature_of;
use socp_crypto::{ContentCheck, DelegatePublicKey, PublicKey, check_content, check_deletion, check_history};
use socp_proto::limits::{FIRST_FRAME_BYTES_MAX, SERVER_KEY_STATEMENTS_COUNT_MAX};
use socp_proto::payload::{Deletion, KeyUpdate, directory_statement, msg_ref};
use socp_proto::{
    Base64Url, Delegation, Envelope, Fingerprint, Frame, FrameKind, KeyText, Payload, ServerId, UserId, escaped_form,
    utf8_form,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// What checking a content signature counts for: it may take every form that programs sign (PROTOCOL I.7).
const CONTENT_VERIFICATIONS: u32 = 4;

/// A frame's input: there already, or still on the pool.
enum Checked {
    Now(Box<Input>),
    Later(oneshot::Receiver<Input>),
}

impl Checked {
    fn now(input: Input) -> Self {
        Self::Now(Box::new(input))
    }
}

/// A peer's frame: one like others, or one after which the next may be signed by another key.
enum PeerFrame {
    Checked(Checked),
    Delegation(Box<ToldDelegation>),
}

/// A frame that tells of a delegation, and the key that must have signed both.
struct ToldDelegation {
    frame: Frame,
    key: PublicKey,
    delegation: Delegation,
}

/// Reads until the connection ends.
pub(crate) async fn read(wiring: &Wiring, link: LinkId, state: &LinkState, outbox: &Outbox, stream: SocketStream) {
    let in_order = InOrder::default();
    let forward = async {
        while let Some(next) = in_order.next().await {
            let input = match next {
                Checked::Now(input) => input,
                Checked::Later(result) => Box::new(match result.await {
                    Ok(input) => input,
                    Err(_) => Input::Refused {
                        link,
                        fault: Fault::Framing("verification failed".to_owned()),
                    },
                }),
            };
            if wiring.hub.send(HubMessage::Core(input)).await.is_err() {
                return;
            }
        }
    };
    let mut reader = Reader {
        wiring,
        link,
        state,
        outbox,
        in_order: &in_order,
        introduced: None,
        budget: Budget::default(),
        epoch: Instant::now(),
        alive_at: None,
    };
    let run = async {
        reader.run(stream).await;
        in_order.end();
    };
    tokio::join!(run, forward);
}

struct Reader<'a> {
    wiring: &'a Wiring,
    link: LinkId,
    state: &'a LinkState,
    outbox: &'a Outbox,
    in_order: &'a InOrder,
    /// The key that a server introduced itself with on this link, which its proof must verify with.
    introduced: Option<KeyText>,
    budget: Budget,
    epoch: Instant,
    alive_at: Option<u64>,
}

impl Reader<'_> {
    async fn run(&mut self, mut stream: SocketStream) {
        loop {
            stream.set_stranger(self.is_stranger());
            let is_taken = match stream.next(self.outbox).await {
                Received::Text(text) => self.on_text(text).await,
                Received::Pong => self.on_pong().await,
                Received::Closed => return,
                Received::Fault(fault) => {
                    self.refuse(fault).await;
                    // Framing is lost; what follows means nothing. The hub's close ends the link.
                    return std::future::pending().await;
                }
            };
            if !is_taken {
                return;
            }
        }
    }

    /// One sign of life a second is enough: pongs that nobody asked for must not fill the hub's queue.
    async fn on_pong(&mut self) -> bool {
        let now = self.now_ms();
        if self.alive_at.is_some_and(|then| now.saturating_sub(then) < 1000) {
            self.wiring.metrics.dropped(Loss::Pong);
            return true;
        }
        self.alive_at = Some(now);
        self.pass(Checked::now(Input::Alive { link: self.link })).await
    }

    /// Hands something to the hub behind everything that came before; false when the hub is gone.
    async fn pass(&self, checked: Checked) -> bool {
        match checked {
            Checked::Now(input) if self.in_order.is_idle() => {
                self.wiring.hub.send(HubMessage::Core(input)).await.is_ok()
            }
            checked @ (Checked::Now(_) | Checked::Later(_)) => {
                self.in_order.put(checked).await;
                !self.wiring.hub.is_closed()
            }
        }
    }

    /// Whether the far end has not said yet who it is. A welcome may be long, but only who was dialled sends one.
    fn is_stranger(&self) -> bool {
        !self.state.was_dialled && !self.state.has_role()
    }

    async fn refuse(&self, fault: Fault) -> bool {
        self.pass(self.refused(fault)).await
    }

    fn refused(&self, fault: Fault) -> Checked {
        Checked::now(Input::Refused { link: self.link, fault })
    }

    /// One text message; false when the hub is gone.
    async fn on_text(&mut self, text: String) -> bool {
        self.state.frames_in.fetch_add(1, Ordering::Relaxed);
        let role = self.state.role();
        if self.is_stranger() && text.len() > FIRST_FRAME_BYTES_MAX {
            return self.refuse(Fault::TooLong).await;
        }
        if matches!(role, Some(LinkRole::User(_))) {
            self.outbox.room_for_answers().await;
        }
        if role.is_some() {
            self.state.line().room().await;
        }
        self.wait_for_budget(role.as_ref(), text.len()).await;
        let frame = match Frame::parse(&text) {
            Ok(frame) => frame,
            Err(error) => return self.refuse(Fault::Frame(error)).await,
        };
        drop(text);
        match role {
            // Boxed, so that every link need not have room for what it does once.
            None => Box::pin(self.on_first(frame)).await,
            Some(LinkRole::Peer(server)) => match self.on_peer_frame(frame, &server) {
                PeerFrame::Checked(checked) => self.pass(checked).await,
                PeerFrame::Delegation(told) => Box::pin(self.on_delegation(*told, &server)).await,
            },
            Some(LinkRole::User(key)) => {
                let checked = self.on_user_frame(frame, key);
                self.pass(checked).await
            }
        }
    }

    /// Where a link sends faster than it may, it is read more slowly: nothing is lost and nobody else waits.
    async fn wait_for_budget(&mut self, role: Option<&LinkRole>, bytes: usize) {
        let wait = self.budget.wait_ms(self.now_ms(), role, &self.wiring.budgets);
        if wait > 0 {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        self.budget.charge_frame(self.now_ms(), bytes);
    }

    fn count_verifications(&mut self, count: u32) {
        let now = self.now_ms();
        self.budget.charge_verifications(now, count);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A link without a role: the frame brings its own key. Nothing more is read before the core has answered.
    async fn on_first(&mut self, frame: Frame) -> bool {
        let link = self.link;
        let expected = self.state.expected_key.clone();
        let key = match frame.envelope.kind == FrameKind::Proof {
            true => self.introduced.clone(),
            false => offered_key(&frame.payload, expected),
        };
        self.introduced.clone_from(&key);
        let metrics = Arc::clone(&self.wiring.metrics);
        let histories = Arc::clone(&self.wiring.histories);
        let checked = self.wiring.pool.run(&self.state.line(), move || {
            match metrics.time_verifying(|| check_first(frame, key, &histories)) {
                Ok(first) => Input::First { link, first },
                Err(fault) => Input::Refused { link, fault },
            }
        });
        let is_taken = self.pass(Checked::Later(checked)).await;
        self.state.proceed.notified().await;
        is_taken
    }

    fn on_peer_frame(&mut self, frame: Frame, peer: &ServerId) -> PeerFrame {
        let delegate = self.state.delegate();
        let delegate = match seal_of(&frame, peer, delegate.is_some()) {
            Ok(Seal::Delegate) => delegate,
            Ok(Seal::Server) => None,
            Err(fault) => return PeerFrame::Checked(self.refused(fault)),
        };
        if let Some(delegate) = delegate {
            return PeerFrame::Checked(self.on_delegated_frame(frame, &delegate, peer));
        }
        let origin = frame.envelope.signer(peer);
        let kind = frame.envelope.kind;
        // Whoever only passes a frame on is not to blame for it.
        let is_own = origin == *peer;
        let blame = move |fault: Fault| if is_own { fault } else { Fault::UnknownOrigin { kind } };
        let Some(key) = self.wiring.keyring.server(&origin) else {
            return PeerFrame::Checked(self.refused(blame(Fault::Signature { kind })));
        };
        let proofs = vouchers_in(&frame.payload).saturating_add(self.wiring.histories.unchecked_in(&frame.payload));
        self.count_verifications(proofs.saturating_add(1));
        if let Payload::Heartbeat(heartbeat) = &frame.payload
            && let Some(delegation) = heartbeat.delegation.clone()
        {
            return PeerFrame::Delegation(Box::new(ToldDelegation { frame, key, delegation }));
        }
        let link = self.link;
        let metrics = Arc::clone(&self.wiring.metrics);
        let histories = Arc::clone(&self.wiring.histories);
        let checked = self.wiring.pool.run(&self.state.line(), move || {
            match metrics.time_verifying(|| check_peer(frame, &key, &metrics, &histories)) {
                Ok(frame) => Input::Peer {
                    link,
                    frame: Verified::checked(frame, Fingerprint::from_bytes(key.fingerprint())),
                },
                Err(fault) => Input::Refused {
                    link,
                    fault: blame(fault),
                },
            }
        });
        PeerFrame::Checked(Checked::Later(checked))
    }

    /// A frame signed by the key that a peer's own key vouches for: so cheap to check that it is done at once.
    fn on_delegated_frame(&mut self, mut frame: Frame, delegate: &Delegate, home: &ServerId) -> Checked {
        let kind = frame.envelope.kind;
        if !delegate.delegation.holds_at(unix_ms(), self.wiring.clock_tolerance_ms) {
            let reason = "the delegation that came on this link has ended";
            return self.refused(Fault::Delegation { kind, reason });
        }
        let now = self.now_ms();
        self.budget.charge_delegated(now);
        let sig = frame.envelope.sig.decode();
        let verify = || delegate.key.verify(&frame.envelope.delegated_text(), &sig);
        if self.wiring.metrics.time_verifying(verify).is_err() {
            return self.refused(Fault::Signature { kind });
        }
        let (link, server) = (self.link, delegate.server);
        let unchecked = self.wiring.histories.unchecked_in(&frame.payload);
        let vouchers = vouchers_in(&frame.payload).saturating_add(unchecked);
        let home = (vouchers > 0).then(|| self.wiring.keyring.server(home)).flatten();
        let histories = Arc::clone(&self.wiring.histories);
        let Some(home) = home else {
            return match check_gossiped_keys(&frame.payload).and_then(|()| histories.check(&frame.payload)) {
                Ok(()) => Checked::now(Input::Peer {
                    link,
                    frame: Verified::checked(frame, server),
                }),
                Err(fault) => self.refused(fault),
            };
        };
        self.count_verifications(vouchers);
        let metrics = Arc::clone(&self.wiring.metrics);
        let checked = self.wiring.pool.run(&self.state.line(), move || {
            let checked = metrics.time_verifying(|| {
                check_gossiped_keys(&frame.payload)?;
                histories.check(&frame.payload)?;
                drop_false_vouchers(&mut frame, &home, &metrics);
                drop_false_ends(&mut frame, &metrics);
                Ok(())
            });
            if let Err(fault) = checked {
                return Input::Refused { link, fault };
            }
            let frame = Verified::checked(frame, server);
            Input::Peer { link, frame }
        });
        Checked::Later(checked)
    }

    /// A peer tells which key signs its frames from now on, signed by its own key twice: the frame and the delegation.
    /// Nothing more is read until that is checked.
    async fn on_delegation(&mut self, told: ToldDelegation, peer: &ServerId) -> bool {
        let ToldDelegation { frame, key, delegation } = told;
        self.count_verifications(1);
        let link = self.link;
        let kind = frame.envelope.kind;
        let refused = move |reason| Fault::Delegation { kind, reason };
        if delegation.server_id != *peer {
            return self.refuse(refused("the delegation is for another server")).await;
        }
        if !delegation.holds_at(unix_ms(), self.wiring.clock_tolerance_ms) {
            return self.refuse(refused("the delegation does not hold at this time")).await;
        }
        let metrics = Arc::clone(&self.wiring.metrics);
        let histories = Arc::clone(&self.wiring.histories);
        let checked = self.wiring.pool.run(&self.state.line(), move || {
            metrics.time_verifying(|| {
                let frame = check_peer(frame, &key, &metrics, &histories)?;
                let public = DelegatePublicKey::of(&delegation, &key);
                let public = public.map_err(|_| refused("the delegation is not signed by this server's key"))?;
                let server = Fingerprint::from_bytes(key.fingerprint());
                let delegate = Delegate {
                    key: public,
                    delegation: Arc::new(delegation),
                    server,
                };
                Ok((Verified::checked(frame, server), delegate))
            })
        });
        match checked.await {
            Ok(Ok((frame, delegate))) => {
                self.state.set_delegate(delegate);
                self.pass(Checked::now(Input::Peer { link, frame })).await
            }
            Ok(Err(fault)) => self.refuse(fault).await,
            Err(_) => self.refuse(Fault::Framing("verification failed".to_owned())).await,
        }
    }

    fn on_user_frame(&mut self, frame: Frame, key: KeyText) -> Checked {
        let has_sig = !frame.envelope.sig.is_empty();
        let is_of_account = matches!(frame.envelope.kind, FrameKind::KeyUpdate | FrameKind::AccountDelete);
        let has_content = is_of_account || (self.wiring.verify_content && signature_of(&frame.payload).is_some());
        let link = self.link;
        if !has_sig && !has_content {
            return Checked::now(Input::User {
                link,
                frame,
                content: None,
            });
        }
        let content_cost = match (has_content, frame.envelope.kind) {
            (true, FrameKind::MsgDirect) => CONTENT_VERIFICATIONS,
            (is_wanted, _) => u32::from(is_wanted),
        };
        self.count_verifications(content_cost.saturating_add(u32::from(has_sig)));
        let metrics = Arc::clone(&self.wiring.metrics);
        let verifiers = Arc::clone(&self.wiring.verifiers);
        let checked = self.wiring.pool.run(&self.state.line(), move || {
            let check = || {
                let key = verifiers.key(&key).map_err(|error| Fault::Key(error.to_string()))?;
                check_user(&frame, &key, has_sig, has_content)
            };
            match metrics.time_verifying(check) {
                Ok(content) => Input::User { link, frame, content },
                Err(fault) => Input::Refused { link, fault },
            }
        });
        Checked::Later(checked)
    }
}

/// Whether `sig` verifies over either canonical form of the payload (PROTOCOL I.1).
fn verify_transport(envelope: &Envelope, key: &PublicKey) -> bool {
    let sig = envelope.sig.decode();
    if sig.is_empty() {
        return false;
    }
    let text = envelope.signed_text();
    key.verify(text.as_bytes(), &sig).is_ok()
        || escaped_form(&text).is_some_and(|escaped| key.verify(escaped.as_bytes(), &sig).is_ok())
}

/// Checks what a peer sent: the signature of who answers for it, the keys it tells of, and who vouches for them.
fn check_peer(mut frame: Frame, key: &PublicKey, metrics: &Metrics, histories: &Histories) -> Result<Frame, Fault> {
    let kind = frame.envelope.kind;
    if !verify_transport(&frame.envelope, key) {
        return Err(Fault::Signature { kind });
    }
    check_gossiped_keys(&frame.payload)?;
    histories.check(&frame.payload)?;
    leave_out_no_keys(&mut frame.payload);
    drop_false_vouchers(&mut frame, key, metrics);
    drop_false_ends(&mut frame, metrics);
    Ok(frame)
}

/// How many signatures a frame of gossip brings: over users' keys, and over the ends of accounts.
fn vouchers_in(payload: &Payload) -> u32 {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these kinds vouch for users")]
    let count = match payload {
        Payload::UserAdvertise(advertise) => usize::from(advertise.directory_sig.is_some()),
        Payload::UserRemove(remove) => usize::from(remove.deletion.is_some()),
        Payload::ServerPresence(batch) => {
            let vouched = batch.add.iter().filter(|here| here.directory_sig.is_some()).count();
            let ended = batch.remove.iter().filter(|gone| gone.deletion.is_some()).count();
            vouched.saturating_add(ended)
        }
        _ => 0,
    };
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Takes directory signatures that are not the home server's out of what is recorded (SOCP §13). The gossip itself
/// counts, and is passed on as it came.
fn drop_false_vouchers(frame: &mut Frame, home: &PublicKey, metrics: &Metrics) {
    let Frame { envelope, payload } = frame;
    let drop_false = |sig: &mut Option<Base64Url>, (user, pubkey, enc_pubkey, version): Vouched<'_>| {
        let is_false = |sig: &Base64Url| {
            !pubkey.zip(version).is_some_and(|(pubkey, version)| {
                let statement = directory_statement(user, pubkey, enc_pubkey.unwrap_or(pubkey), version);
                home.verify(utf8_form(&statement).as_bytes(), &sig.decode()).is_ok()
            })
        };
        if sig.as_ref().is_some_and(is_false) {
            *sig = None;
            metrics.dropped(Loss::DirectorySignature);
            let server = envelope.from.as_str();
            tracing::debug!(server, "a home server's directory signature is wrong and is left out");
        }
    };
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these kinds vouch for users")]
    match payload {
        Payload::UserAdvertise(user) => {
            let vouched = (
                &user.user_id,
                user.pubkey.as_ref(),
                user.enc_pubkey.as_ref(),
                user.version,
            );
            drop_false(&mut user.directory_sig, vouched);
        }
        Payload::ServerPresence(batch) => {
            for user in &mut batch.add {
                let vouched = (
                    &user.user_id,
                    user.pubkey.as_ref(),
                    user.enc_pubkey.as_ref(),
                    user.version,
                );
                drop_false(&mut user.directory_sig, vouched);
            }
        }
        _ => {}
    }
}

/// Takes the ends of accounts that nobody has signed out of what is told (PROTOCOL II.13): that the user has left counts,
/// and is passed on as it came.
fn drop_false_ends(frame: &mut Frame, metrics: &Metrics) {
    let drop_false = |deletion: &mut Option<Deletion>, user: &UserId, server: &ServerId| {
        let is_false = |deletion: &Deletion| check_deletion(deletion, user, server).is_err();
        if deletion.as_ref().is_some_and(is_false) {
            *deletion = None;
            metrics.dropped(Loss::Deletion);
            let server = server.as_str();
            tracing::debug!(server, "the end of an account that its user has not signed is left out");
        }
    };
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these kinds tell who has left")]
    match &mut frame.payload {
        Payload::UserRemove(remove) => drop_false(&mut remove.deletion, &remove.user_id, &remove.server_id),
        Payload::ServerPresence(batch) => {
            for gone in &mut batch.remove {
                drop_false(&mut gone.deletion, &gone.user_id, &batch.server_id);
            }
        }
        _ => {}
    }
}

/// What a directory signature is over: the user, both keys, the version.
type Vouched<'a> = (&'a UserId, Option<&'a KeyText>, Option<&'a KeyText>, Option<u64>);

/// Checks what a user sent: the transport signature, if there is one, and the content's. The key that verified that.
fn check_user(frame: &Frame, key: &PublicKey, has_sig: bool, has_content: bool) -> Result<Option<Fingerprint>, Fault> {
    if has_sig && !verify_transport(&frame.envelope, key) {
        return Err(Fault::Signature {
            kind: frame.envelope.kind,
        });
    }
    if let Some(Signed { text, sig }) = signed_of_account(&frame.payload)? {
        let is_good = key.verify(&text, &sig).is_ok();
        return Ok(is_good.then(|| Fingerprint::from_bytes(key.fingerprint())));
    }
    check_author(frame, key, has_content)
}

/// Something signed that stands inside a payload.
struct Signed {
    text: Vec<u8>,
    sig: Vec<u8>,
}

/// What a change of an account is signed over, and the signature; new keys must be acceptable ones.
fn signed_of_account(payload: &Payload) -> Result<Option<Signed>, Fault> {
    if let Payload::KeyUpdate(KeyUpdate { statement }) = payload {
        accept_key(&statement.pubkey)?;
        accept_key(&statement.enc_pubkey)?;
        return Ok(Some(Signed {
            text: statement.signed_text(),
            sig: statement.sig.decode(),
        }));
    }
    if let Payload::AccountDelete(delete) = payload {
        return Ok(Some(Signed {
            text: delete.signed_text(),
            sig: delete.sig.decode(),
        }));
    }
    Ok(None)
}

fn check_author(frame: &Frame, key: &PublicKey, is_wanted: bool) -> Result<Option<Fingerprint>, Fault> {
    let (Some(sig), true) = (signature_of(&frame.payload), is_wanted) else {
        return Ok(None);
    };
    match check_content(frame, key) {
        Ok(ContentCheck::Good) => Ok(Some(Fingerprint::from_bytes(key.fingerprint()))),
        Ok(ContentCheck::Absent | ContentCheck::Wrong) | Err(_) => Err(Fault::Content { msg_ref: msg_ref(sig) }),
    }
}

/// Whether the keys that a peer tells of are acceptable ones: what is bound to an id must be a key.
fn check_gossiped_keys(payload: &Payload) -> Result<(), Fault> {
    let check = |keys: [&Option<KeyText>; 2]| {
        let mut keys = keys.into_iter().flatten();
        keys.try_for_each(|key| accept_key(key).map(|_| ()))
    };
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these kinds tell of users' keys")]
    match payload {
        Payload::UserAdvertise(user) => check([&user.pubkey, &user.enc_pubkey]),
        Payload::ServerPresence(batch) => {
            let mut users = batch.add.iter();
            users.try_for_each(|user| check([&user.pubkey, &user.enc_pubkey]))
        }
        _ => Ok(()),
    }
}

/// What others are said to have is hearsay: an entry of a welcome that is no key is left out, the rest counts.
fn leave_out_no_keys(payload: &mut Payload) {
    let Payload::ServerWelcome(welcome) = payload else {
        return;
    };
    let is_key = |key: &KeyText| accept_key(key).is_ok();
    welcome
        .clients
        .retain(|client| client.pubkey.as_ref().is_none_or(is_key));
    welcome.servers.retain(|server| is_key(&server.pubkey));
}

/// The key that a first frame offers; a welcome may leave it to the one that the link was dialled with.
fn offered_key(payload: &Payload, expected: Option<KeyText>) -> Option<KeyText> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only these kinds may come first with a key"
    )]
    match payload {
        Payload::UserHello(hello) => Some(hello.pubkey.clone()),
        Payload::ServerHelloJoin(identity) | Payload::ServerAnnounce(identity) | Payload::ServerHelloLink(identity) => {
            Some(identity.pubkey.clone())
        }
        Payload::ServerWelcome(welcome) => welcome.pubkey.clone().or(expected),
        _ => None,
    }
}

/// Checks every signature in the history of keys that a server tells of itself.
fn check_server_history(Frame { envelope, payload }: &Frame) -> Result<(), Fault> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these kinds introduce a server")]
    let history = match payload {
        Payload::ServerHelloJoin(identity) | Payload::ServerAnnounce(identity) | Payload::ServerHelloLink(identity) => {
            identity.history.as_ref()
        }
        Payload::ServerWelcome(welcome) => welcome.history.as_ref(),
        _ => None,
    };
    let is_good = history.is_none_or(|history| {
        history.statements().len() <= SERVER_KEY_STATEMENTS_COUNT_MAX && check_history(history).is_ok()
    });
    is_good.then_some(()).ok_or(Fault::Signature { kind: envelope.kind })
}

/// Checks the keys that a first frame offers, and its signature by the first of them; that of a proof by the key of the
/// introduction before it.
fn check_first(mut frame: Frame, offered: Option<KeyText>, histories: &Histories) -> Result<FirstFrame, Fault> {
    histories.check(&frame.payload)?;
    check_server_history(&frame)?;
    let mut second = None;
    if let Payload::UserHello(hello) = &frame.payload {
        second.clone_from(&hello.enc_pubkey);
    }
    leave_out_no_keys(&mut frame.payload);
    if let Some(second) = second.filter(|second| Some(second) != offered.as_ref()) {
        accept_key(&second)?;
    }
    let Some(text) = offered else {
        return Ok(FirstFrame {
            frame,
            key: None,
            signer: None,
        });
    };
    let key = accept_key(&text)?;
    let signer = match frame.envelope.sig.is_empty() {
        true => None,
        false if verify_transport(&frame.envelope, &key) => Some(text.fingerprint()),
        false => {
            return Err(Fault::Signature {
                kind: frame.envelope.kind,
            });
        }
    };
    Ok(FirstFrame {
        frame,
        key: Some(text),
        signer,
    })
}

fn unix_ms() -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)
}

fn accept_key(text: &KeyText) -> Result<PublicKey, Fault> {
    PublicKey::from_spki_der(&text.der()).map_err(|error| Fault::Key(error.to_string()))
}

#[cfg(test)]
mod tests;
