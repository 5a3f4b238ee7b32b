//! `--bootstrap-file`: the list of introducers as a file, in YAML or TOML (SOCP §8.1).

use super::bootstrap::{entry, read_entry, read_key};
use color_eyre::eyre::{Result, WrapErr as _, bail, eyre};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use socp_core::server::{BootstrapEntry, TlsWanted};
use socp_proto::{KeyText, TlsPin};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// What a file looks like, for `--help`.
pub(super) const EXAMPLE: &str = "A bootstrap file (YAML; in TOML the same as [[bootstrap_servers]] tables):
  bootstrap_servers:
    - host: introducer.example
      port: 8765
      pubkey: MIICIjANBgkq…        # without it, the first key seen is trusted
      tls: true                    # and, if it makes its certificate itself, tls_pin: …
    - ws://192.0.2.7:8765#MIICIjANBgkq…";

/// Bytes of a file: some thousand entries with keys.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    bootstrap_servers: Vec<Entry>,
}

struct Entry(BootstrapEntry);

/// Reads the entries of a file.
///
/// # Errors
/// Which file, which line, what is wrong there.
pub(super) fn read(path: &Path) -> Result<Vec<BootstrapEntry>> {
    let shown = path.display();
    let extension = path.extension().and_then(|extension| extension.to_str());
    let parse = match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("yaml" | "yml") => from_yaml,
        Some("toml") => from_toml,
        Some(_) | None => bail!("--bootstrap-file {shown}: the name must end in .yaml, .yml or .toml"),
    };
    let file = File::open(path).wrap_err_with(|| format!("cannot read --bootstrap-file {shown}"))?;
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX.saturating_add(1)).read_to_string(&mut text);
    read.wrap_err_with(|| format!("cannot read --bootstrap-file {shown}"))?;
    if u64::try_from(text.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        bail!("--bootstrap-file {shown} is longer than {FILE_BYTES_MAX} bytes; that is no list of introducers");
    }
    if text.trim().is_empty() {
        bail!("--bootstrap-file {shown} is empty; it should have a list bootstrap_servers");
    }
    let list = parse(&text).map_err(|(line, what)| match line {
        Some(line) => eyre!("--bootstrap-file {shown}, line {line}: {what}"),
        None => eyre!("--bootstrap-file {shown}: {what}"),
    })?;
    Ok(list.bootstrap_servers.into_iter().map(|Entry(entry)| entry).collect())
}

/// A line, where it is known, and what is wrong there.
type Wrong = (Option<u64>, String);

fn from_yaml(text: &str) -> Result<List, Wrong> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        // Its advice for programmers is of no use to operators.
        let what = one_line(&error.to_string()).replace(", set DuplicateKeyPolicy in Options if acceptable", "");
        // Most of its errors end with where they are.
        let line = error.location().map(|location| location.line());
        (line.filter(|_| !what.contains(" at line ")), what)
    })
}

fn from_toml(text: &str) -> Result<List, Wrong> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.and_then(|before| u64::try_from(before.matches('\n').count()).ok());
        (line.map(|line| line.saturating_add(1)), one_line(error.message()))
    })
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

/// An entry is a text or a table.
struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an entry: ws://HOST:PORT#PUBKEY, or host, port and pubkey")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Entry, E> {
        read_entry(text).map(Entry).map_err(E::custom)
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Entry, M::Error> {
        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        let Table {
            host,
            port,
            pubkey,
            tls,
            tls_pin,
        } = table;
        let tls = (tls || tls_pin.is_some()).then_some(TlsWanted { pin: tls_pin });
        entry(host, port, pubkey, tls).map(Entry).map_err(M::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    host: String,
    #[serde(deserialize_with = "port")]
    port: u16,
    #[serde(default, deserialize_with = "pubkey")]
    pubkey: Option<KeyText>,
    #[serde(default)]
    tls: bool,
    #[serde(default, deserialize_with = "tls_pin")]
    tls_pin: Option<TlsPin>,
}

fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    deserializer.deserialize_any(PortVisitor)
}

struct PortVisitor;

impl Visitor<'_> for PortVisitor {
    type Value = u16;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("as `port` a number between 1 and 65535")
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<u16, E> {
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        port.ok_or_else(|| E::custom(format!("port {number} is not between 1 and 65535")))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<u16, E> {
        self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

fn pubkey<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<KeyText>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let key = read_key(&text).map_err(|error| D::Error::custom(format!("pubkey {error}")))?;
    Ok(Some(key))
}

fn tls_pin<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TlsPin>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let pin = TlsPin::try_from(text.as_str()).map_err(|error| D::Error::custom(format!("tls_pin {error}")))?;
    Ok(Some(pin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use socp_crypto::PrivateKey;
    use std::fs;

    fn error_of(name: &str, text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        format!("{:#}", read(&path).unwrap_err())
    }

    #[test]
    fn both_forms_say_the_same() {
        let key = KeyText::from_der(PrivateKey::generate().unwrap().public_key().spki_der());
        let key = key.as_str();
        let yaml = format!(
            "# ours\nbootstrap_servers:\n  - host: a.example\n    port: 1\n    pubkey: {key}\n  - host: 192.0.2.7\n    \
             port: 2\n  - ws://[::1]:3#{key}\n  - {{ host: \"b.example\", port: 4 }}\n"
        );
        let toml = format!(
            "bootstrap_servers = [\n  {{ host = \"a.example\", port = 1, pubkey = \"{key}\" }},\n  \
             {{ host = \"192.0.2.7\", port = 2 }},\n  \"ws://[::1]:3#{key}\",\n  {{ host = \"b.example\", port = 4 }},\n]\n"
        );
        let tables = format!(
            "[[bootstrap_servers]]\nhost = \"a.example\"\nport = 1\npubkey = \"{key}\"\n[[bootstrap_servers]]\n\
             host = \"192.0.2.7\"\nport = 2\n"
        );
        let dir = tempfile::tempdir().unwrap();
        let read_as = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            read(&path).unwrap()
        };
        let list = read_as("list.yaml", &yaml);
        let parts: Vec<_> = list
            .iter()
            .map(|entry| (entry.host.as_str(), entry.port, entry.key.is_some()))
            .collect();
        let expected = [
            ("a.example", 1, true),
            ("192.0.2.7", 2, false),
            ("[::1]", 3, true),
            ("b.example", 4, false),
        ];
        assert_eq!(parts, expected);
        assert_eq!(read_as("list.YML", &yaml), list);
        assert_eq!(read_as("list.toml", &toml), list);
        assert_eq!(read_as("tables.toml", &tables), list[..2]);
        assert_eq!(read_as("none.yaml", "bootstrap_servers: []\n"), []);
    }

    #[test]
    fn what_is_wrong_is_told_with_file_line_and_field() {
        let yaml = |entry: &str| format!("bootstrap_servers:\n  - ws://h:1\n{entry}\n");
        let toml =
            |entry: &str| format!("[[bootstrap_servers]]\nhost = \"h\"\nport = 1\n[[bootstrap_servers]]\n{entry}\n");
        let table = [
            ("x.yaml", yaml("  - http://h:1"), "line 3", "must begin with ws://"),
            (
                "x.yaml",
                yaml("  - host: h\n    port: 0"),
                "line 4",
                "port 0 is not between",
            ),
            (
                "x.yaml",
                yaml("  - host: h\n    port: high"),
                "line 4",
                "expected as `port` a number",
            ),
            (
                "x.yaml",
                yaml("  - host: h\n    port: 1\n    pubkey: AAAA"),
                "line 5",
                "pubkey is not usable",
            ),
            ("x.yaml", yaml("  - host: h\n    prot: 1"), "line 4", "prot"),
            ("x.yaml", yaml("  - host: h"), "line 3", "port"),
            ("x.yaml", yaml("  - host: a b\n    port: 1"), "line 3", "a b:1"),
            (
                "x.yaml",
                yaml("  - host: h\n    port: 1\n    port: 2"),
                "line 5",
                "port",
            ),
            ("x.yaml", yaml("  - [1, 2"), "line", "x.yaml"),
            ("x.yaml", yaml("  - 7"), "line 3", "an entry"),
            ("x.yaml", "servers: []\n".to_owned(), "line 1", "servers"),
            ("x.yaml", String::new(), "x.yaml", "bootstrap_servers"),
            (
                "x.toml",
                toml("host = \"h\"\nport = 70000"),
                "line 6",
                "port 70000 is not between",
            ),
            (
                "x.toml",
                toml("host = \"h\"\nport = \"1\""),
                "line 6",
                "expected as `port` a number",
            ),
            ("x.toml", toml("host = \"h\"\nprot = 1"), "line 6", "prot"),
            (
                "x.toml",
                toml("host = \"h\"\nport = 1\npubkey = \"*\""),
                "line 7",
                "pubkey",
            ),
            ("x.toml", toml("host = "), "line 5", "x.toml"),
            ("x.toml", "other = 1\n".to_owned(), "line 1", "other"),
            ("x.json", "{}".to_owned(), "x.json", "must end in .yaml, .yml or .toml"),
            ("x", String::new(), "--bootstrap-file", "must end in"),
            ("x.yaml", " ".repeat(1_100_000), "x.yaml", "longer than"),
        ];
        for (name, text, line, what) in table {
            let error = error_of(name, &text);
            assert!(
                error.contains(line) && error.contains(what),
                "{line:?}, {what:?}: {error}"
            );
            assert!(error.contains(name) && !error.contains('\n'), "{error:?}");
        }
        let error = format!("{:#}", read(Path::new("/nowhere/x.yaml")).unwrap_err());
        assert!(
            error.contains("cannot read --bootstrap-file /nowhere/x.yaml"),
            "{error}"
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("binary.yaml");
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(format!("{:#}", read(&path).unwrap_err()).contains("UTF-8"));
    }

    #[test]
    fn the_example_of_the_help_is_a_list() {
        let (_, yaml) = EXAMPLE.split_once('\n').unwrap();
        // Its keys are cut short.
        let yaml: String = yaml
            .lines()
            .filter(|line| !line.contains("pubkey"))
            .map(|line| format!("{line}\n"))
            .collect();
        let yaml = yaml.replace("#MIICIjANBgkq…", "");
        let List { bootstrap_servers } = from_yaml(&yaml).unwrap();
        assert_eq!(bootstrap_servers.len(), 2);
    }
}
