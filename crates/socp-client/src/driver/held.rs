//! Messages that cannot be opened yet (PROTOCOL II.6): read for the core when it wants to look at them again.

use super::Driver;
use socp_core::client::PostDone;
use socp_proto::UserId;

impl Driver {
    pub(super) async fn recheck(&self, of: Option<UserId>) -> PostDone {
        let author = of.clone();
        let read = self.in_history(move |history| history.held(author.as_ref())).await;
        let (held, expired) = match read {
            Ok((held, expired)) => (Ok(held), expired),
            Err(error) => (Err(error.to_string()), Vec::new()),
        };
        PostDone::Waiting { of, held, expired }
    }
}
