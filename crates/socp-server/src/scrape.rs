//! One scrape of the metrics: what is counted everywhere, and what only the hub knows.

use crate::hub::HubMessage;
use crate::hub::answers::{HubStatus, Question};
use crate::metrics::Metrics;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc, oneshot};

/// The hub counts its users for a scrape at most so often, however many scrape: anybody may.
const STATUS_AGE_MAX: Duration = Duration::from_secs(1);

/// How long a scrape waits for the hub.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Whom to ask for a scrape.
#[derive(Debug)]
pub(crate) struct Scrape {
    hub: mpsc::Sender<HubMessage>,
    metrics: Arc<Metrics>,
    last: Mutex<Option<(Instant, HubStatus)>>,
}

impl Scrape {
    pub(crate) fn new(hub: mpsc::Sender<HubMessage>, metrics: Arc<Metrics>) -> Self {
        Self {
            hub,
            metrics,
            last: Mutex::new(None),
        }
    }

    /// The text, or why there is none.
    pub(crate) async fn text(&self) -> Result<String, &'static str> {
        let status = tokio::time::timeout(WAIT_MAX, self.status())
            .await
            .map_err(|_| "the server is too busy to be scraped\n")?
            .ok_or("the server is stopping\n")?;
        self.metrics
            .text(&status)
            .map_err(|_| "the metrics could not be written\n")
    }

    /// What the hub said lately; none when it is stopping.
    async fn status(&self) -> Option<HubStatus> {
        // Others wait here and then find the answer.
        let mut last = self.last.lock().await;
        if let Some((then, status)) = last.as_ref()
            && then.elapsed() < STATUS_AGE_MAX
        {
            return Some(status.clone());
        }
        let (answer, answered) = oneshot::channel();
        let question = HubMessage::Asked(Question::Status(answer));
        self.hub.send(question).await.ok()?;
        let status = answered.await.ok()?;
        *last = Some((Instant::now(), status.clone()));
        Some(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_scrape_of_a_server_that_stops_says_so_and_does_not_wait() {
        let (hub, mut messages) = mpsc::channel(1);
        let scrape = Scrape::new(hub, Arc::new(Metrics::new()));
        // The hub took the question and ends before it answers.
        let ending = async {
            drop(messages.recv().await);
            drop(messages);
        };
        let (text, ()) = tokio::join!(scrape.text(), ending);
        assert_eq!(text, Err("the server is stopping\n"));
        assert_eq!(scrape.text().await, Err("the server is stopping\n"));
    }
}
