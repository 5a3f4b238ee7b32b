//! Pages of what is kept, read by the store for the core (PROTOCOL II.6).

use super::{Hub, HubMessage};
use socp_core::server::{Input, LinkId, Shelf};

impl Hub {
    /// Has a page read and the core told.
    pub(super) fn read_page(&mut self, link: LinkId, shelf: Shelf, after: u64) {
        let read = self.store.read_page(shelf, after);
        let hub = self.wiring.hub.clone();
        tokio::spawn(async move {
            let page = read.await.ok().flatten();
            // Nobody is there only when the server stops.
            let _stopping = hub.send(HubMessage::core(Input::PageRead { link, page })).await;
        });
    }
}
