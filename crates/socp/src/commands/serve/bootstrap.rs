//! Whom a server asks for admission (SOCP §8.1): entries of flags and files, put together.

use color_eyre::eyre::{Result, bail};
use socp_core::server::BootstrapEntry;
use socp_crypto::PublicKey;
use socp_proto::{Address, KeyText};

/// Reads `ws://HOST:PORT` or `ws://HOST:PORT#PUBKEY`; else what is wrong with it.
pub(super) fn read_entry(text: &str) -> Result<BootstrapEntry, String> {
    let (address, key) = match text.split_once('#') {
        Some((address, key)) => (address, Some(key)),
        None => (text, None),
    };
    if address.starts_with("wss://") {
        return Err(format!("{address:?}: this version speaks ws:// only"));
    }
    let Some(address) = address.strip_prefix("ws://") else {
        return Err(format!("{text:?} must begin with ws://"));
    };
    let (host, port) = read_host_port(address.trim_end_matches('/'))?;
    let key = key
        .map(|key| read_key(key).map_err(|error| format!("ws://{host}:{port}: the key behind # {error}")))
        .transpose()?;
    entry(host, port, key)
}

/// Reads `HOST:PORT`; else what is wrong with it.
pub(super) fn read_host_port(text: &str) -> Result<(String, u16), String> {
    let parts = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let (host, port) = parts.ok_or_else(|| format!("{text:?} is not HOST:PORT"))?;
    let port = port.parse::<u16>().ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| format!("{text:?} has no port between 1 and 65535"))?;
    Ok((host.to_owned(), port))
}

/// Reads a server's key; else what is wrong with it.
pub(super) fn read_key(text: &str) -> Result<KeyText, String> {
    let key = KeyText::try_from(text.to_owned()).map_err(|error| error.to_string())?;
    PublicKey::from_spki_der(&key.der()).map_err(|error| format!("is not usable: {error}"))?;
    Ok(key)
}

/// An entry whose parts are read; else what is wrong with its address.
pub(super) fn entry(host: String, port: u16, key: Option<KeyText>) -> Result<BootstrapEntry, String> {
    let address = format!("{host}:{port}");
    match Address::try_from(address.as_str()) {
        Ok(_) => Ok(BootstrapEntry { host, port, key }),
        Err(error) => Err(format!("{address:?} {error}")),
    }
}

/// The list to go by: each server once, in order, without ourselves, who may stand in a list that many servers share.
pub(super) fn without_repetition(entries: Vec<BootstrapEntry>, own: &[(String, u16)]) -> Result<Vec<BootstrapEntry>> {
    let mut list: Vec<BootstrapEntry> = Vec::new();
    for entry in entries {
        let address = format!("{}:{}", entry.host, entry.port);
        if own
            .iter()
            .any(|(host, port)| *host == entry.host && *port == entry.port)
        {
            tracing::info!(address, "this bootstrap entry is our own address; left out");
            continue;
        }
        let known = list
            .iter_mut()
            .find(|known| known.host == entry.host && known.port == entry.port);
        let Some(known) = known else {
            list.push(entry);
            continue;
        };
        match (&known.key, entry.key) {
            (Some(one), Some(other)) if *one != other => bail!(
                "the bootstrap list has {address} twice with different keys ({} and {}); leave out the wrong one",
                one.fingerprint().short(),
                other.fingerprint().short()
            ),
            (None, Some(key)) => known.key = Some(key),
            (_, _) => {}
        }
        tracing::warn!(address, "this bootstrap entry is there twice; the second is left out");
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> KeyText {
        KeyText::from_der(&[number; 550])
    }

    fn at(port: u16, key: Option<KeyText>) -> BootstrapEntry {
        entry("h".to_owned(), port, key).unwrap()
    }

    #[test]
    fn a_bootstrap_entry_is_an_address_with_or_without_a_key() {
        let entry = read_entry("ws://[::1]:8765/").unwrap();
        assert_eq!((entry.host.as_str(), entry.port, entry.key), ("[::1]", 8765, None));
        for (bad, said) in [
            ("127.0.0.1:8765", "must begin with ws://"),
            ("wss://h:1", "ws:// only"),
            ("ws://h", "is not HOST:PORT"),
            ("ws://h:0", "no port between"),
            ("ws://h:99999", "no port between"),
            ("ws://h:1#AAAA", "not usable"),
            ("ws://h:1#*", "is not base64url"),
            ("ws://a b:1", "a b:1"),
        ] {
            let error = read_entry(bad).unwrap_err();
            assert!(error.contains(said), "{bad}: {error}");
        }
    }

    #[test]
    fn the_list_has_each_server_once_in_order_and_not_ourselves() {
        let entries = vec![at(3, None), at(1, None), at(9, None), at(3, Some(key(3))), at(1, None)];
        let list = without_repetition(entries, &[("h".to_owned(), 9), ("other".to_owned(), 1)]).unwrap();
        assert_eq!(list, [at(3, Some(key(3))), at(1, None)]);
        let contradicting = vec![at(1, Some(key(1))), at(1, Some(key(2)))];
        let error = without_repetition(contradicting, &[]).unwrap_err().to_string();
        assert!(error.contains("h:1 twice with different keys"), "{error}");
    }
}
