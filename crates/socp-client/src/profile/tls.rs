//! The servers used, and which certificates they have that no authority vouches for.

use super::{Profile, damaged};
use crate::error::ClientError;
use crate::link::ServerUrl;
use rusqlite::OptionalExtension as _;
use socp_proto::TlsPin;

impl Profile {
    /// Remembers a server as the one used last, and the pin of its certificate where one was given.
    ///
    /// # Errors
    /// [`ClientError::Database`].
    pub fn remember_server(&self, server: &ServerUrl) -> Result<(), ClientError> {
        self.set_last_server(server.as_str())?;
        let Some(pin) = server.pin().map(|pin| pin.to_string()) else {
            return Ok(());
        };
        let statement = "INSERT INTO tls_pins(url, pin) VALUES (?1, ?2)
            ON CONFLICT(url) DO UPDATE SET pin = excluded.pin WHERE pin != excluded.pin";
        self.lock().execute(statement, [server.as_str(), &pin])?;
        Ok(())
    }

    /// The pin that the certificate of the server at this address must have.
    ///
    /// # Errors
    /// [`ClientError::Database`], [`ClientError::DamagedProfile`].
    pub fn tls_pin(&self, url: &str) -> Result<Option<TlsPin>, ClientError> {
        let database = self.lock();
        let mut query = database.prepare("SELECT pin FROM tls_pins WHERE url = ?1")?;
        let found: Option<String> = query.query_row([url], |row| row.get(0)).optional()?;
        let pin = found.map(|text| TlsPin::try_from(text.as_str())).transpose();
        pin.map_err(|error| damaged(&self.dir, &format!("what is kept for {url} {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socp_proto::Bytes32;

    #[test]
    fn a_pin_is_remembered_for_its_address_until_another_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::create(dir.path(), None, None, None).unwrap();
        let [one, other] = [1, 2].map(|byte| TlsPin::from(Bytes32::from([byte; 32])));
        let at = |text: &str| ServerUrl::parse(text).unwrap();
        let pin_at = |url: &str| profile.tls_pin(at(url).as_str()).unwrap();
        for pin in [one, other, other] {
            profile.remember_server(&at(&format!("wss://h:1#{pin}"))).unwrap();
            // Whoever leaves it out does not take it back.
            profile.remember_server(&at("wss://h:1")).unwrap();
            assert_eq!(pin_at("wss://h:1"), Some(pin));
            assert_eq!(pin_at("wss://h:2"), None);
        }
        assert_eq!(profile.last_server().unwrap().as_deref(), Some("wss://h:1/"));
    }
}
