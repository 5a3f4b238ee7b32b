//! Whom a server asks for admission (SOCP §8.1): entries of flags and files, put together.

use color_eyre::eyre::{Result, bail};
use socp_core::server::{BootstrapEntry, TlsWanted};
use socp_crypto::PublicKey;
use socp_proto::{Address, KeyText, TlsPin};

/// Reads `ws://HOST:PORT` or `wss://HOST:PORT`, and behind a `#` the server's key, for `wss://` also the pin of its
/// certificate, or both with a comma between; else what is wrong with it.
pub(super) fn read_entry(text: &str) -> Result<BootstrapEntry, String> {
    let (address, behind) = match text.split_once('#') {
        Some((address, behind)) => (address, Some(behind)),
        None => (text, None),
    };
    let (address, mut tls) = match (address.strip_prefix("wss://"), address.strip_prefix("ws://")) {
        (Some(address), _) => (address, Some(TlsWanted::default())),
        (None, Some(address)) => (address, None),
        (None, None) => return Err(format!("{text:?} must begin with ws:// or wss://")),
    };
    let (host, port) = read_host_port(address.trim_end_matches('/'))?;
    let mut key = None;
    for part in behind.into_iter().flat_map(|behind| behind.split(',')) {
        let wrong = |what: &str| format!("{host}:{port}: {what}");
        match TlsPin::try_from(part) {
            Ok(pin) => {
                let tls = tls
                    .as_mut()
                    .ok_or_else(|| wrong("the pin of a certificate behind # needs wss://"))?;
                if tls.pin.replace(pin).is_some() {
                    return Err(wrong("there are two pins behind #"));
                }
            }
            Err(_) => {
                let read = read_key(part).map_err(|error| wrong(&format!("the key behind # {error}")))?;
                if key.replace(read).is_some() {
                    return Err(wrong("there are two keys behind #"));
                }
            }
        }
    }
    entry(host, port, key, tls)
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
pub(super) fn entry(
    host: String,
    port: u16,
    key: Option<KeyText>,
    tls: Option<TlsWanted>,
) -> Result<BootstrapEntry, String> {
    let address = format!("{host}:{port}");
    match Address::try_from(address.as_str()) {
        Ok(_) => Ok(BootstrapEntry { host, port, key, tls }),
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
        match (known.tls, entry.tls) {
            (None, None) => {}
            (Some(one), Some(other)) if one.pin.is_none() || other.pin.is_none() || one == other => {
                known.tls = Some(TlsWanted {
                    pin: one.pin.or(other.pin),
                });
            }
            (Some(_), Some(_)) => {
                bail!("the bootstrap list has {address} twice with different pins; leave out the wrong one")
            }
            (Some(_), None) | (None, Some(_)) => {
                bail!("the bootstrap list has {address} with ws:// and with wss://; leave out the wrong one")
            }
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
        entry("h".to_owned(), port, key, None).unwrap()
    }

    #[test]
    fn a_bootstrap_entry_is_an_address_with_or_without_a_key() {
        let entry = read_entry("ws://[::1]:8765/").unwrap();
        assert_eq!((entry.host.as_str(), entry.port, entry.key), ("[::1]", 8765, None));
        for (bad, said) in [
            ("127.0.0.1:8765", "must begin with ws://"),
            ("wss://h", "is not HOST:PORT"),
            ("ws://h", "is not HOST:PORT"),
            ("ws://h:0", "no port between"),
            ("ws://h:99999", "no port between"),
            ("ws://h:1#AAAA", "not usable"),
            ("ws://h:1#*", "is not base64url"),
            ("ws://h:1#BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc", "needs wss://"),
            ("wss://h:1#", "is not base64url"),
            (
                "wss://h:1#BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc,",
                "is not base64url",
            ),
            (
                "wss://h:1#BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc,BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
                "two pins",
            ),
            ("ws://a b:1", "a b:1"),
        ] {
            let error = read_entry(bad).unwrap_err();
            assert!(error.contains(said), "{bad}: {error}");
        }
    }

    #[test]
    fn behind_an_address_with_tls_stand_a_key_and_a_pin_in_either_order() {
        let key = socp_crypto::PrivateKey::generate().unwrap();
        let key = KeyText::from_der(key.public_key().spki_der());
        let pin = TlsPin::from(socp_proto::Bytes32::from([7; 32]));
        let table = [
            (String::new(), None, None),
            (format!("#{}", key.as_str()), Some(&key), None),
            (format!("#{pin}"), None, Some(pin)),
            (format!("#{},{pin}", key.as_str()), Some(&key), Some(pin)),
            (format!("#{pin},{}", key.as_str()), Some(&key), Some(pin)),
        ];
        for (behind, key, pin) in table {
            let entry = read_entry(&format!("wss://h:1{behind}")).unwrap();
            assert_eq!(
                (entry.key.as_ref(), entry.tls),
                (key, Some(TlsWanted { pin })),
                "{behind}"
            );
        }
        let twice = format!("wss://h:1#{0},{0}", key.as_str());
        assert!(read_entry(&twice).unwrap_err().contains("two keys"));
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
