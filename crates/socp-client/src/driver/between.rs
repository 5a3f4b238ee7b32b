//! What goes on while there is no link: dialling, and waiting to dial again.

use super::pump::{End, until};
use super::{Driver, Request, send_next};
use crate::link::dial;
use crate::worker::Done;
use socp_crypto::random_bytes;
use std::future::Future;
use std::time::Duration;

/// What happened next.
enum Happening<T> {
    Awaited(T),
    FileDone(Option<Option<Done>>),
    Request(Option<Request>),
    EventGone,
    PinsDue,
}

impl Driver {
    /// One link, from dialling to its end.
    pub(super) async fn link(&mut self) -> End {
        let server = self.options.server.clone();
        match self.meanwhile(dial(&server)).await {
            Ok(Ok((socket, tls))) => self.serve(socket, tls).await,
            Ok(Err(error)) => End::Lost(error.to_string(), Some(error)),
            Err(end) => end,
        }
    }

    pub(super) async fn wait_to_redial(&mut self) -> Result<(), End> {
        let dice = random_bytes::<1>().map_or(0, |[dice]| dice);
        let wait = Duration::from_millis(self.backoff.next_wait_ms(dice));
        self.meanwhile(tokio::time::sleep(wait)).await
    }

    /// Waits for something, and does all that needs no link. Ends before when the faces have left or want to.
    async fn meanwhile<T>(&mut self, awaited: impl Future<Output = T>) -> Result<T, End> {
        tokio::pin!(awaited);
        loop {
            self.drain().await?;
            if self.is_leaving || self.is_abandoned() {
                return Err(End::Left);
            }
            let pins_due = self.next_due();
            let happening = tokio::select! {
                awaited = &mut awaited => Happening::Awaited(awaited),
                done = self.files.next() => Happening::FileDone(done),
                request = self.requests.recv(), if self.requests_are_open => Happening::Request(request),
                permit = self.events.reserve(), if !self.pending.is_empty() => {
                    send_next(permit, &mut self.pending);
                    Happening::EventGone
                }
                () = until(pins_due) => Happening::PinsDue,
            };
            match happening {
                Happening::Awaited(awaited) => return Ok(awaited),
                Happening::FileDone(done) => self.on_file_done(done)?,
                Happening::Request(request) => self.on_maybe_request(request),
                // The next drain does the rest.
                Happening::EventGone | Happening::PinsDue => {}
            }
        }
    }
}
