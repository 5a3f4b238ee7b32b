//! The keys that links verify with, shared by all readers.

use socp_crypto::PublicKey;
use socp_proto::{KeyText, ServerId};
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Pinned server keys, parsed once. The core decides what is in here; it compares fingerprints again afterwards.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    // Never iterated.
    servers: RwLock<HashMap<ServerId, PublicKey>>,
}

impl Keyring {
    /// The key of a server, if it is pinned.
    pub(crate) fn server(&self, server: &ServerId) -> Option<PublicKey> {
        self.servers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(server)
            .cloned()
    }

    /// Forgets the key of a server.
    pub(crate) fn distrust(&self, server: &ServerId) {
        self.servers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(server);
    }

    /// Adds a key that the core trusts; an unacceptable one (out of an edited database) is left out.
    pub(crate) fn trust(&self, server: ServerId, key: &KeyText) {
        match PublicKey::from_spki_der(&key.der()) {
            Ok(key) => {
                self.servers
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(server, key);
            }
            Err(error) => {
                tracing::warn!(%server, %error, "a pinned key is not acceptable and is left out")
            }
        }
    }
}
