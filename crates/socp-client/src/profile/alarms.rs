//! What a profile remembers about whom to trust: other keys that were shown, what was decided about them, who else has said
//! the same (PROTOCOL II.11).

use super::{Profile, damaged, former, parsed, text, unix_ms};
use crate::elsewhere::Word;
use crate::error::ClientError;
use crate::link::ServerUrl;
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use socp_core::client::{Alarm, ServerPin, Teller, TrustNews, TrustRecord, UserPin};
use socp_proto::{CardFingerprint, KeyText, UserId};

/// Keys of one user that are remembered as refused; the oldest are forgotten, and would raise the alarm again.
const REFUSED_COUNT_MAX: i64 = 64;
/// Other servers that are asked about a key.
const OTHER_SERVERS_COUNT_MAX: i64 = 3;

/// A server that showed another key than the pinned one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAlarm {
    /// Its address.
    pub url: String,
    /// What is pinned for it.
    pub pinned: ServerPin,
    /// What it showed.
    pub seen: ServerPin,
}

/// What came of comparing what another server says with what is pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The same.
    Same,
    /// Another key.
    Other,
    /// Another key, which the user has decided against before.
    Refused,
    /// It does not know the user.
    Unknown,
}

impl Profile {
    /// A number that is another one after another program has written to this profile.
    pub(crate) fn version_elsewhere(&self) -> Result<i64, ClientError> {
        Ok(self.lock().pragma_query_value(None, "data_version", |row| row.get(0))?)
    }

    /// Everything about whom to trust.
    ///
    /// # Errors
    /// [`ClientError::Database`], [`ClientError::DamagedProfile`].
    pub fn trust_record(&self) -> Result<TrustRecord, ClientError> {
        Ok(TrustRecord {
            verified: self.verified()?,
            alarms: self.alarms()?,
            refused: self.read_all("SELECT user_id, seen, teller_kind, teller FROM refused_keys", |row| {
                Ok((read_user(row)?, read_seen(row)?, read_teller(row)?))
            })?,
            expected: self
                .read_all("SELECT user_id, fingerprint AS seen FROM cards", |row| {
                    Ok((read_user(row)?, read_seen(row)?))
                })?
                .into_iter()
                .collect(),
            confirmed: self.confirmations()?,
            denied: self.denied_keys()?,
        })
    }

    /// Every alarm about a user's key that is not decided yet, sorted by id.
    ///
    /// # Errors
    /// [`ClientError::Database`], [`ClientError::DamagedProfile`].
    pub fn alarms(&self) -> Result<Vec<Alarm>, ClientError> {
        self.read_all("SELECT * FROM alarms ORDER BY user_id", |row| {
            let key = |column| -> Result<Option<KeyText>, String> {
                super::optional_text(row, column)?
                    .map(|key| parsed(key, column))
                    .transpose()
            };
            Ok(Alarm {
                user: read_user(row)?,
                seen: read_seen(row)?,
                keys: key("pubkey")?.zip(key("enc_pubkey")?),
                teller: read_teller(row)?,
            })
        })
    }

    /// Who said the key that is pinned, of whom; what was said of another key counts for nothing.
    ///
    /// # Errors
    /// [`ClientError::Database`], [`ClientError::DamagedProfile`].
    pub fn confirmations(&self) -> Result<Vec<(UserId, Teller)>, ClientError> {
        let all = self.read_all("SELECT user_id, seen, teller_kind, teller FROM confirmations", |row| {
            Ok((read_user(row)?, read_seen(row)?, read_teller(row)?))
        })?;
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let pins = self.pins()?;
        let is_pinned = |user: &UserId, seen: CardFingerprint| {
            let pin = pins.binary_search_by(|pin| pin.user.as_str().cmp(user.as_str()));
            pin.ok()
                .and_then(|index| pins.get(index))
                .is_some_and(|pin| pin.fingerprint() == seen)
        };
        let valid = all.into_iter().filter(|(user, seen, _)| is_pinned(user, *seen));
        Ok(valid.map(|(user, _, teller)| (user, teller)).collect())
    }

    /// Takes the other key for the user's own. It is not verified. Where only a card was shown, the next key seen must fit
    /// it.
    ///
    /// # Errors
    /// [`ClientError::Database`].
    pub fn accept_key(&self, alarm: &Alarm) -> Result<(), ClientError> {
        let mut database = self.lock();
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let user = alarm.user.as_str();
        for table in ["verified", "confirmations", "alarms", "cards"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE user_id = ?1"), [user])?;
        }
        transaction.execute(
            "DELETE FROM refused_keys WHERE user_id = ?1 AND seen = ?2",
            params![user, alarm.seen.to_string()],
        )?;
        former::accept_signer(&transaction, alarm)?;
        match &alarm.keys {
            Some((pubkey, enc_pubkey)) => {
                transaction.execute(
                    "INSERT INTO pins(user_id, pubkey, enc_pubkey, first_seen) VALUES (?1, ?2, ?3, ?4)
                        ON CONFLICT(user_id) DO UPDATE
                        SET pubkey = ?2, enc_pubkey = ?3, first_seen = ?4, version = 1, revoked = 0,
                            numbered_at = 0",
                    params![user, pubkey.as_str(), enc_pubkey.as_str(), unix_ms()],
                )?;
            }
            None => {
                transaction.execute("DELETE FROM pins WHERE user_id = ?1", [user])?;
                transaction.execute(
                    "INSERT INTO cards(user_id, fingerprint, added_at) VALUES (?1, ?2, ?3)",
                    params![user, alarm.seen.to_string(), unix_ms()],
                )?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Decides against the other key: it raises no alarm any more, and neither does the contact who told of it.
    ///
    /// # Errors
    /// [`ClientError::Database`].
    pub fn keep_key(&self, alarm: &Alarm) -> Result<(), ClientError> {
        let mut database = self.lock();
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let user = alarm.user.as_str();
        let (kind, teller) = teller_text(&alarm.teller);
        transaction.execute("DELETE FROM alarms WHERE user_id = ?1", [user])?;
        former::deny_signer(&transaction, alarm)?;
        transaction.execute(
            "INSERT INTO refused_keys(user_id, seen, teller_kind, teller) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            params![user, alarm.seen.to_string(), kind, teller],
        )?;
        transaction.execute(
            "DELETE FROM refused_keys WHERE user_id = ?1 AND rowid NOT IN
                (SELECT rowid FROM refused_keys WHERE user_id = ?1 ORDER BY rowid DESC LIMIT ?2)",
            params![user, REFUSED_COUNT_MAX],
        )?;
        Ok(transaction.commit()?)
    }

    /// The servers whose key was another one, and about which nothing is decided.
    ///
    /// # Errors
    /// [`ClientError::Database`], [`ClientError::DamagedProfile`].
    pub fn server_alarms(&self) -> Result<Vec<ServerAlarm>, ClientError> {
        let query = "SELECT servers.url, servers.server_id, servers.server_pub, servers.name,
                server_alarms.server_id AS other_id, server_alarms.server_pub AS other_pub
            FROM server_alarms JOIN servers USING (url) ORDER BY url";
        self.read_all(query, |row| {
            let pin = |id, key| -> Result<ServerPin, String> {
                Ok(ServerPin {
                    id: parsed(text(row, id)?, id)?,
                    key: parsed(text(row, key)?, key)?,
                    name: super::optional_text(row, "name")?,
                    asks_for_proof: false,
                })
            };
            Ok(ServerAlarm {
                url: text(row, "url")?,
                pinned: pin("server_id", "server_pub")?,
                seen: pin("other_id", "other_pub")?,
            })
        })
    }

    /// Takes the other key for the server's own, at every address where the old one was pinned.
    ///
    /// # Errors
    /// [`ClientError::Database`].
    pub fn accept_server(&self, alarm: &ServerAlarm) -> Result<(), ClientError> {
        let mut database = self.lock();
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (pinned, seen) = (&alarm.pinned, &alarm.seen);
        transaction.execute(
            "DELETE FROM server_alarms WHERE url IN (SELECT url FROM servers WHERE server_id = ?1 AND server_pub = ?2)",
            params![pinned.id.as_str(), pinned.key.as_str()],
        )?;
        transaction.execute(
            "UPDATE servers SET server_id = ?3, server_pub = ?4, asks_for_proof = 0, first_seen = ?5
                WHERE server_id = ?1 AND server_pub = ?2",
            params![
                pinned.id.as_str(),
                pinned.key.as_str(),
                seen.id.as_str(),
                seen.key.as_str(),
                unix_ms()
            ],
        )?;
        Ok(transaction.commit()?)
    }

    /// Other servers that this profile has used, the newest first: whom to ask whether they know the same key.
    ///
    /// # Errors
    /// [`ClientError::Database`], [`ClientError::DamagedProfile`].
    pub fn other_servers(&self, url: &str) -> Result<Vec<(ServerUrl, ServerPin)>, ClientError> {
        let found = {
            let database = self.lock();
            let mut query = database.prepare(
                "SELECT * FROM servers WHERE url != ?1
                    AND server_id NOT IN (SELECT server_id FROM servers WHERE url = ?1)
                    GROUP BY server_id ORDER BY first_seen DESC LIMIT ?2",
            )?;
            let rows = query.query_map(params![url, OTHER_SERVERS_COUNT_MAX], |row| {
                Ok(text(row, "url").and_then(|url| Ok((url, super::read_server(row)?))))
            })?;
            let rows = rows.map(|row| row?.map_err(|what| damaged(&self.dir, &what)));
            rows.collect::<Result<Vec<_>, ClientError>>()?
        };
        let with_tls = |(url, pin): (String, ServerPin)| Ok((self.with_tls_pin(ServerUrl::parse(&url)?)?, pin));
        found.into_iter().map(with_tls).collect()
    }

    /// An address together with what is known of its certificate.
    ///
    /// # Errors
    /// [`ClientError::Database`], [`ClientError::DamagedProfile`].
    pub fn with_tls_pin(&self, url: ServerUrl) -> Result<ServerUrl, ClientError> {
        let pin = self.tls_pin(url.as_str())?;
        Ok(url.or_pin(pin))
    }

    /// Compares what another server says with what is pinned, and remembers it: agreement where its answer is signed,
    /// disagreement in any case.
    ///
    /// # Errors
    /// [`ClientError::Database`].
    pub fn judge_word(&self, pin: &UserPin, url: &ServerUrl, word: &Word) -> Result<Verdict, ClientError> {
        let Some(keys) = &word.keys else {
            return Ok(Verdict::Unknown);
        };
        let seen = CardFingerprint::of(&keys.0, &keys.1);
        let teller = Teller::OtherServer(url.as_str().to_owned());
        let user = pin.user.clone();
        if seen == pin.fingerprint() {
            if word.is_signed {
                self.save_trust("", &TrustNews::Confirmed { user, seen, teller })?;
            }
            return Ok(Verdict::Same);
        }
        let database = self.lock();
        let mut query = database.prepare("SELECT count(*) FROM refused_keys WHERE user_id = ?1 AND seen = ?2")?;
        let refused: i64 = query.query_row(params![user.as_str(), seen.to_string()], |row| row.get(0))?;
        if refused > 0 {
            return Ok(Verdict::Refused);
        }
        let keys = Some(keys.clone());
        let alarm = Alarm {
            user,
            seen,
            keys,
            teller,
        };
        save_alarm(&database, &alarm)?;
        Ok(Verdict::Other)
    }

    /// Remembers what the core has found out, at the server with this address.
    pub(crate) fn save_trust(&self, url: &str, news: &TrustNews) -> Result<(), ClientError> {
        match news {
            TrustNews::Verified(pin) => {
                self.set_verified(pin)?;
                self.lock()
                    .execute("DELETE FROM cards WHERE user_id = ?1", [pin.user.as_str()])?;
                Ok(())
            }
            TrustNews::Alarm(alarm) => save_alarm(&self.lock(), alarm),
            TrustNews::Replaced { user, seen } => {
                let (kind, teller) = teller_text(&Teller::Server);
                self.lock().execute(
                    "INSERT INTO refused_keys(user_id, seen, teller_kind, teller) VALUES (?1, ?2, ?3, ?4)
                        ON CONFLICT DO NOTHING",
                    params![user.as_str(), seen.to_string(), kind, teller],
                )?;
                Ok(())
            }
            TrustNews::Confirmed { user, seen, teller } => {
                let (kind, teller) = teller_text(teller);
                self.lock().execute(
                    "INSERT INTO confirmations(user_id, seen, teller_kind, teller) VALUES (?1, ?2, ?3, ?4)
                        ON CONFLICT(user_id, teller_kind, teller) DO UPDATE SET seen = excluded.seen",
                    params![user.as_str(), seen.to_string(), kind, teller],
                )?;
                Ok(())
            }
            TrustNews::ServerChanged(seen) => {
                self.lock().execute(
                    "INSERT INTO server_alarms(url, server_id, server_pub, seen_at) VALUES (?1, ?2, ?3, ?4)
                        ON CONFLICT(url) DO UPDATE
                        SET server_id = excluded.server_id, server_pub = excluded.server_pub, seen_at = excluded.seen_at",
                    params![url, seen.id.as_str(), seen.key.as_str(), unix_ms()],
                )?;
                Ok(())
            }
        }
    }

    pub(super) fn read_all<T>(
        &self,
        query: &str,
        read: impl Fn(&Row<'_>) -> Result<T, String>,
    ) -> Result<Vec<T>, ClientError> {
        let database = self.lock();
        let mut query = database.prepare(query)?;
        let rows = query.query_map([], |row| Ok(read(row)))?;
        rows.map(|row| row?.map_err(|what| damaged(&self.dir, &what))).collect()
    }
}

/// The first alarm about a user stays until it is decided; one about what was decided meanwhile is none.
pub(super) fn save_alarm(database: &Connection, alarm: &Alarm) -> Result<(), ClientError> {
    let pinned = database
        .query_row(
            "SELECT pubkey, enc_pubkey FROM pins WHERE user_id = ?1",
            [alarm.user.as_str()],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
        )
        .optional()?;
    let is_pinned = alarm.keys.as_ref().is_some_and(|(pubkey, enc_pubkey)| {
        let is_same = |(one, other): &(String, String)| one == pubkey.as_str() && other == enc_pubkey.as_str();
        pinned.as_ref().is_some_and(is_same)
    });
    if is_pinned {
        return Ok(());
    }
    let (kind, teller) = teller_text(&alarm.teller);
    let keys = alarm.keys.as_ref();
    database.execute(
        "INSERT INTO alarms(user_id, seen, pubkey, enc_pubkey, teller_kind, teller, seen_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT(user_id) DO NOTHING",
        params![
            alarm.user.as_str(),
            alarm.seen.to_string(),
            keys.map(|keys| keys.0.as_str()),
            keys.map(|keys| keys.1.as_str()),
            kind,
            teller,
            unix_ms(),
        ],
    )?;
    Ok(())
}

/// What is pinned for a user.
pub(super) fn pin_of(pins: Vec<UserPin>, user: &UserId) -> Option<UserPin> {
    pins.into_iter().find(|pin| pin.user == *user)
}

fn teller_text(teller: &Teller) -> (&'static str, &str) {
    match teller {
        Teller::Server => ("server", ""),
        Teller::OtherServer(url) => ("other_server", url),
        Teller::Contact(user) => ("contact", user.as_str()),
        Teller::Card => ("card", ""),
    }
}

fn read_teller(row: &Row<'_>) -> Result<Teller, String> {
    let teller = text(row, "teller")?;
    match text(row, "teller_kind")?.as_str() {
        "server" => Ok(Teller::Server),
        "other_server" => Ok(Teller::OtherServer(teller)),
        "contact" => Ok(Teller::Contact(parsed(teller, "teller")?)),
        "card" => Ok(Teller::Card),
        other => Err(format!("teller_kind {other:?} is unknown")),
    }
}

pub(super) fn read_user(row: &Row<'_>) -> Result<UserId, String> {
    parsed(text(row, "user_id")?, "user_id")
}

fn read_seen(row: &Row<'_>) -> Result<CardFingerprint, String> {
    let seen = text(row, "seen")?;
    seen.parse().map_err(|error| format!("seen {error}"))
}
