//! What runs on each link: a listener that counts, a sender that keeps its window full or its pace.

use super::content::now_ms;
use super::flight::{Alarm, Flight, Seen, Told};
use super::wire::{Client, Sink, Stream, why};
use color_eyre::eyre::{Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use socp_crypto::{PublicKey, SIGNATURE_BYTES};
use socp_proto::payload::Ack;
use socp_proto::{Address, Draft, Frame, Payload, ServerId, UserId};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

/// So many messages are acknowledged at once, or after this long.
const ACKNOWLEDGED_AT_ONCE: usize = 32;
const ACKNOWLEDGE_AFTER: Duration = Duration::from_millis(5);

/// One delivery in so many is looked at in full.
const SAMPLE_INTERVAL: u64 = 256;

/// Listens on one link.
pub(super) struct Listener {
    alarm: Arc<Alarm>,
    server_id: ServerId,
    server_key: PublicKey,
    /// The messages that are to arrive here.
    pub(super) flight: Option<Arc<Flight>>,
    /// The messages that this link's user sends, where they are acknowledged.
    pub(super) sent: Option<Arc<Flight>>,
    /// What is read here is acknowledged.
    pub(super) mailbox: Option<Mailbox>,
    /// Who wants to know whom the server tells of.
    pub(super) told: Option<Arc<Told>>,
    seen: Seen,
}

impl Listener {
    /// A listener, and the two halves of its link.
    pub(super) fn new(client: Client, alarm: Arc<Alarm>) -> (Self, Sink, Stream) {
        let (sink, stream) = client.socket.split();
        let listener = Self {
            alarm,
            server_id: client.server_id,
            server_key: client.server_key,
            flight: None,
            sent: None,
            mailbox: None,
            told: None,
            seen: Seen::default(),
        };
        (listener, sink, stream)
    }

    /// Until the link ends, which it should not.
    pub(super) async fn listen(mut self, mut stream: Stream) {
        let what = loop {
            let next = match &mut self.mailbox {
                Some(mailbox) => mailbox.next(&mut stream).await,
                None => Ok(stream.next().await),
            };
            let next = match next {
                Ok(next) => next,
                Err(error) => break error.to_string(),
            };
            let heard = match next {
                Some(Ok(Message::Text(text))) => self.on_text(&text),
                Some(Ok(Message::Close(close))) => break format!("the server closes a link: {}", why(close)),
                Some(Ok(_)) => Ok(()),
                Some(Err(error)) => break format!("a link is lost: {error}"),
                None => break "the server ends a link".to_owned(),
            };
            if let Err(error) = heard {
                break error.to_string();
            }
        };
        self.alarm.raise(what);
    }

    fn on_text(&mut self, text: &str) -> Result<()> {
        match kind_of(text) {
            "USER_DELIVER" | "MSG_PUBLIC_CHANNEL" => self.on_delivery(text),
            "ACK" => {
                if let (Some(sent), Payload::Ack(ack)) = (&self.sent, Frame::parse(text)?.payload) {
                    for reference in std::iter::once(&ack.msg_ref).chain(&ack.also) {
                        sent.acknowledge(reference);
                    }
                }
                Ok(())
            }
            "USER_ADVERTISE" => {
                if let Some((told, user)) = self.told.as_ref().zip(text_of(text, "\"user_id\":\"")) {
                    told.note(user);
                }
                Ok(())
            }
            "PRESENCE" => {
                if let Some(told) = &self.told {
                    // Behind each name of the field stands one user who is there.
                    for entry in text.split("\"user_id\":\"").skip(1) {
                        if let Some((user, _)) = entry.split_once('"') {
                            told.note(user);
                        }
                    }
                }
                Ok(())
            }
            "ERROR" => {
                if let Payload::Error(error) = Frame::parse(text)?.payload {
                    bail!("the server refuses a message: {} {}", error.code, error.detail);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_delivery(&mut self, text: &str) -> Result<()> {
        let Some(flight) = &self.flight else {
            bail!("a message came to somebody whom it was not for");
        };
        let signature = text_of(text, "\"content_sig\":\"");
        let index = signature.and_then(|signature| flight.contents.index_of(signature));
        let is_expected = index.is_some_and(|index| flight.arrive(index, &mut self.seen));
        ensure!(is_expected, "a message came twice, or was never sent");
        if let Some(mailbox) = &mut self.mailbox {
            mailbox.note(text)?;
        }
        if index.is_some_and(|index| index % SAMPLE_INTERVAL == 0) {
            check(text, flight, &self.server_id, &self.server_key)?;
        }
        Ok(())
    }
}

/// What a reader of a mailbox says to the server.
pub(super) struct Mailbox {
    user: UserId,
    sink: Sink,
    /// The last number that came.
    last: u64,
    /// How many came since the last acknowledgement.
    count: usize,
}

impl Mailbox {
    pub(super) fn new(user: UserId, sink: Sink) -> Self {
        let (last, count) = (0, 0);
        Self {
            user,
            sink,
            last,
            count,
        }
    }

    pub(super) fn note(&mut self, text: &str) -> Result<()> {
        let behind = text.split_once("\"seq\":").map(|(_, behind)| behind);
        let digits = behind.and_then(|behind| behind.split(|c: char| !c.is_ascii_digit()).next());
        let Some(number) = digits.and_then(|digits| digits.parse().ok()) else {
            bail!("a message comes without its number");
        };
        (self.last, self.count) = (number, self.count.saturating_add(1));
        Ok(())
    }

    /// The next thing on the link; before it waits for long, what came is acknowledged.
    pub(super) async fn next(&mut self, stream: &mut Stream) -> Result<Option<<Stream as futures_util::Stream>::Item>> {
        if self.count < ACKNOWLEDGED_AT_ONCE
            && let Ok(next) = tokio::time::timeout(ACKNOWLEDGE_AFTER, stream.next()).await
        {
            return Ok(next);
        }
        if self.count > 0 {
            self.acknowledge().await?;
        }
        Ok(stream.next().await)
    }

    pub(super) async fn acknowledge(&mut self) -> Result<()> {
        let ack = Ack {
            msg_ref: Ack::MAILBOX.to_owned(),
            up_to: Some(self.last),
            ..Ack::default()
        };
        self.count = 0;
        let draft = Draft::new(self.user.clone(), Address::everyone(), now_ms()?, &Payload::Ack(ack));
        self.sink.send(Message::text(draft.sign(&[]).to_text())).await?;
        Ok(())
    }
}

/// `type`, which stands last in canonical JSON.
pub(super) fn kind_of(text: &str) -> &str {
    let behind = text.rsplit_once("\"type\":\"").map(|(_, behind)| behind);
    let kind = behind.and_then(|behind| behind.split_once('"'));
    kind.map_or("", |(kind, _)| kind)
}

/// The text of a field, found by its name.
pub(super) fn text_of<'a>(text: &'a str, field: &str) -> Option<&'a str> {
    let (_, behind) = text.split_once(field)?;
    Some(behind.split_once('"')?.0)
}

/// Whether a delivery is what was sent, and the server's.
fn check(text: &str, flight: &Flight, server_id: &ServerId, server_key: &PublicKey) -> Result<()> {
    let frame = Frame::parse(text)?;
    let sent = (flight.contents.ciphertext.as_str(), flight.contents.from.as_str());
    let came = if let Payload::UserDeliver(deliver) = &frame.payload {
        ensure!(frame.envelope.from == *server_id, "a delivery is not from the server");
        (deliver.ciphertext.as_str(), deliver.sender.as_str())
    } else if let Payload::MsgPublicChannel(message) = &frame.payload {
        (message.ciphertext.as_str(), frame.envelope.from.as_str())
    } else {
        bail!("a delivery is {}", frame.payload.kind().name());
    };
    ensure!(came == sent, "a message came changed, or with another author");
    let sig = frame.envelope.sig.decode();
    // A delegated signature is shorter, and whoever keeps delegations checks it.
    if sig.len() == SIGNATURE_BYTES {
        server_key.verify(frame.envelope.signed_text().as_bytes(), &sig)?;
    }
    ensure!(!sig.is_empty(), "a delivery is not signed");
    Ok(())
}

/// How long a sender sends, and how fast.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) begin: Instant,
    pub(super) until: Instant,
    /// Between messages; none: as fast as the window allows.
    pub(super) interval: Option<Duration>,
}

/// Sends until the time is over or there is nothing left; whether the time was.
pub(super) async fn send(flight: &Flight, sink: &mut Sink, pace: Pace) -> Result<bool> {
    let mut due = pace.begin;
    for index in 0.. {
        let scheduled = match pace.interval {
            Some(interval) => {
                let scheduled = wait_until(due, sink).await?;
                due += interval;
                Some(scheduled)
            }
            None => None,
        };
        if !has_room(flight, sink, pace.until).await? {
            break;
        }
        let Some(frame) = flight.contents.frame(index) else {
            sink.flush().await?;
            return Ok(false);
        };
        flight.depart(index, scheduled.unwrap_or_else(Instant::now));
        sink.feed(Message::text(frame)).await?;
        if pace.interval.is_some() {
            sink.flush().await?;
        }
    }
    sink.flush().await?;
    Ok(true)
}

/// When a message was due: now, if we were in time, else when it should have left, so that a server that is slow is not
/// spared the messages that it kept from being sent.
async fn wait_until(due: Instant, sink: &mut Sink) -> Result<Instant> {
    if due <= Instant::now() {
        return Ok(due);
    }
    sink.flush().await?;
    tokio::time::sleep_until(due.into()).await;
    Ok(Instant::now())
}

/// Takes a place in the window; false if the time is over before there is one.
async fn has_room(flight: &Flight, sink: &mut Sink, until: Instant) -> Result<bool> {
    if Instant::now() >= until {
        return Ok(false);
    }
    if let Ok(place) = flight.window.try_acquire() {
        place.forget();
        return Ok(true);
    }
    sink.flush().await?;
    match tokio::time::timeout_at(until.into(), flight.window.acquire()).await {
        Ok(place) => {
            place?.forget();
            Ok(true)
        }
        Err(_elapsed) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_and_fields_are_found_without_parsing() {
        let text = r#"{"from":"s","payload":{"content_sig":"abc","x":"\"type\":\"NO\""},"to":"u","ts":1,"type":"USER_DELIVER"}"#;
        assert_eq!(kind_of(text), "USER_DELIVER");
        assert_eq!(text_of(text, "\"content_sig\":\""), Some("abc"));
        assert_eq!((kind_of("{}"), text_of(text, "\"sig\":\"")), ("", None));
    }
}
