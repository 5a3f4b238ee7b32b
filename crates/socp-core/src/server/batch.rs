//! The frames in which presence is told many at once (PROTOCOL II.8): who is in them, and that they are not too long.

use super::Server;
use super::directory::serialised_bytes;
use super::io::LinkId;
use super::people::{Person, Word, advertise_of};
use super::presence::not_ahead;
use super::roster::{Audience, Changed};
use crate::clock::Now;
use socp_proto::limits::{FRAME_BYTES_MAX, PRESENCE_CHANGES_COUNT_MAX};
use socp_proto::payload::{Batch, OnlineUser, UserGone, UserHere};
use socp_proto::{Address, Base64Url, KeyHistory, KeyText, Payload, UserId};

/// Largest part of a frame that users take.
const FRAME_USERS_BYTES_MAX: usize = FRAME_BYTES_MAX / 8;

/// What a frame says of one user, and about how long that is.
struct Entry<A> {
    says: A,
    bytes: usize,
}

/// Some users, as many as fit into a frame.
struct Page<A> {
    add: Vec<A>,
    last: Option<UserId>,
    more: bool,
}

impl Server {
    /// Sends one frame of changes; the number that it leads to.
    pub(super) fn send_changes(
        &mut self,
        now: Now,
        audience: Audience,
        links: &[LinkId],
        since: u64,
        until: u64,
    ) -> u64 {
        let (payload, reached) = match audience {
            Audience::Users => {
                let here = |change: &Changed| {
                    let person = self.people.get(&change.user).filter(|person| person.is_online())?;
                    Some(self.for_users(&change.user, person))
                };
                let (mut batch, reached) = self.changes(audience, (since, until), here, |change| change.user);
                batch.more = reached < until;
                (Payload::Presence(batch), reached)
            }
            Audience::Peers => {
                let here = |change: &Changed| self.for_peers(now, &change.user, self.people.get(&change.user)?);
                let gone = |change: Changed| UserGone {
                    user_id: change.user.clone(),
                    ts: not_ahead(now, change.ts),
                    deletion: self.departing_for_good.get(&change.user).cloned(),
                };
                let (batch, reached) = self.changes(audience, (since, until), here, gone);
                (Payload::ServerPresence(batch), reached)
            }
        };
        self.send(links, now, Address::everyone(), &payload);
        reached
    }

    /// Sends one page of everyone; the last on it, and whether it is not the last page.
    pub(super) fn send_page(
        &mut self,
        now: Now,
        audience: Audience,
        links: &[LinkId],
        page: u64,
        after: Option<&UserId>,
        since: u64,
    ) -> (Option<UserId>, bool) {
        let number = (page, since);
        let (payload, last, more) = match audience {
            Audience::Users => {
                let found = self.page(after, |user, person| Some(self.for_users(user, person)));
                let (last, more) = (found.last.clone(), found.more);
                (Payload::Presence(self.page_batch(audience, number, found)), last, more)
            }
            Audience::Peers => {
                let found = self.page(after, |user, person| self.for_peers(now, user, person));
                let (last, more) = (found.last.clone(), found.more);
                (
                    Payload::ServerPresence(self.page_batch(audience, number, found)),
                    last,
                    more,
                )
            }
        };
        self.send(links, now, Address::everyone(), &payload);
        (last, more)
    }

    fn page_batch<A, R>(&self, audience: Audience, (page, since): (u64, u64), found: Page<A>) -> Batch<A, R> {
        Batch {
            seq: since,
            page,
            more: found.more,
            add: found.add,
            ..self.empty_batch(audience)
        }
    }

    fn changes<A, R>(
        &self,
        audience: Audience,
        (since, until): (u64, u64),
        here: impl Fn(&Changed) -> Option<Entry<A>>,
        gone: impl Fn(Changed) -> R,
    ) -> (Batch<A, R>, u64) {
        let roster = self.rosters.of(audience);
        let (changed, mut reached) = roster.changes(since, until);
        let (mut add, mut remove, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
        for change in changed {
            let number = roster.number_of(&change.user);
            match here(&change) {
                Some(entry) => {
                    bytes = bytes.saturating_add(entry.bytes);
                    add.push(entry.says);
                }
                None => remove.push(gone(change)),
            }
            if bytes > FRAME_USERS_BYTES_MAX {
                reached = number.unwrap_or(reached);
                break;
            }
        }
        let batch = Batch {
            from_seq: since.saturating_add(1),
            seq: reached,
            add,
            remove,
            ..self.empty_batch(audience)
        };
        (batch, reached)
    }

    fn page<A>(&self, after: Option<&UserId>, entry: impl Fn(&UserId, &Person) -> Option<Entry<A>>) -> Page<A> {
        let (mut add, mut last, mut bytes, mut more) = (Vec::new(), None, 0_usize, false);
        for (user, person) in self.people.online_after(after) {
            let Some(entry) = entry(user, person) else { continue };
            if add.len() >= PRESENCE_CHANGES_COUNT_MAX || bytes > FRAME_USERS_BYTES_MAX {
                more = true;
                break;
            }
            bytes = bytes.saturating_add(entry.bytes);
            add.push(entry.says);
            last = Some(user.clone());
        }
        Page { add, last, more }
    }

    fn empty_batch<A, R>(&self, audience: Audience) -> Batch<A, R> {
        Batch {
            server_id: self.config.server_id.clone(),
            epoch: self.rosters.of(audience).epoch(),
            from_seq: 0,
            seq: 0,
            page: 0,
            more: false,
            add: Vec::new(),
            remove: Vec::new(),
        }
    }

    fn for_users(&self, user: &UserId, person: &Person) -> Entry<OnlineUser> {
        let says = self.online_user(user, person);
        let bytes = serialised_bytes(&says);
        Entry { says, bytes }
    }

    /// A user of ours as peers are told; nothing if the user is not here.
    fn for_peers(&self, now: Now, user: &UserId, person: &Person) -> Option<Entry<UserHere>> {
        if !person.is_local() || self.is_stopping {
            return None;
        }
        let ts = not_ahead(now, person.word.as_ref().map_or(now.unix, Word::ts));
        let says = advertise_of(user, &self.config.server_id, person).into_here(ts);
        let text = |text: &Option<KeyText>| text.as_ref().map_or(0, |key| key.as_str().len());
        let keys = text(&says.pubkey).saturating_add(text(&says.enc_pubkey));
        let sig = says
            .directory_sig
            .as_ref()
            .map_or(0, |sig: &Base64Url| sig.as_str().len());
        let caps = says.caps.iter().flat_map(|caps| caps.iter()).map(|cap| cap.len() + 3);
        let history = says.history.as_ref().map_or(0, KeyHistory::text_bytes);
        let parts = [
            user.as_str().len(),
            says.meta.canonical_bytes(),
            keys,
            sig,
            caps.sum(),
            history,
        ];
        let bytes = parts.into_iter().fold(256_usize, usize::saturating_add);
        Some(Entry { says, bytes })
    }
}
