//! What an operator may ask: who is linked, who is known, who is pinned.

use super::Server;
use super::io::{LinkId, ServerPin};
use super::link::Link;
use super::people::{Home, Person};
use crate::clock::Mono;
use socp_proto::{ServerId, UserId};

/// A server in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The id it has now; a join may have changed it.
    pub server_id: ServerId,
    /// Peers that are linked.
    pub peers: usize,
    /// Servers that are pinned.
    pub pins: usize,
    /// Users who are here.
    pub local_users: usize,
    /// Users at other servers who are online.
    pub remote_users: usize,
    /// Users of lost servers who are not forgotten yet.
    pub stale_users: usize,
    /// Users whose home this is.
    pub records: usize,
    /// Messages that wait in mailboxes, and their bytes (PROTOCOL II.6).
    pub mail: (usize, usize),
    /// Messages that wait for servers (PROTOCOL II.6).
    pub outbound: usize,
    /// The version of the group `public` (SOCP §15).
    pub channel_version: u64,
}

/// Whose link it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkWho {
    /// Nobody has said a valid first frame yet, or proved what it says.
    New,
    /// A peer's.
    Peer(ServerId),
    /// A user's.
    User(UserId),
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// Its number.
    pub link: LinkId,
    /// Whose it is.
    pub who: LinkWho,
    /// Whether we dialled it.
    pub is_dialled: bool,
    /// When something last came on it, on the monotonic clock; known for peers only.
    pub last_heard: Option<Mono>,
}

/// One user who is known to be somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserStatus {
    /// The user.
    pub user: UserId,
    /// The handle, if the profile has one.
    pub name: Option<String>,
    /// The user's home server.
    pub server: ServerId,
    /// Whether that is this server.
    pub is_local: bool,
    /// Whether the home server is lost.
    pub is_stale: bool,
    /// Sessions, where the user is here.
    pub sessions: usize,
}

impl Server {
    /// The server in numbers.
    #[must_use]
    pub fn status(&self) -> Status {
        let count = |is_it: fn(&Person) -> bool| self.people.everyone().filter(|(_, person)| is_it(person)).count();
        Status {
            server_id: self.config.server_id.clone(),
            peers: self.peers.len(),
            pins: self.pins.len(),
            local_users: count(Person::is_local),
            remote_users: count(|person| !person.is_local() && person.is_online()),
            stale_users: count(|person| !person.is_online()),
            records: self.records.len(),
            mail: self.mailboxes.total(),
            outbound: self.outbounds.count(),
            channel_version: self.channel.version(),
        }
    }

    /// Every link, in the order in which they came.
    #[must_use]
    pub fn links(&self) -> Vec<LinkStatus> {
        let status = |(link, state): (&LinkId, &Link)| {
            let (who, last_heard) = match state {
                Link::New { .. } => (LinkWho::New, None),
                Link::Peer(peer) => (LinkWho::Peer(peer.server.clone()), Some(peer.last_heard)),
                Link::User(user) => (LinkWho::User(user.user.clone()), None),
            };
            LinkStatus {
                link: *link,
                who,
                is_dialled: state.dial().is_some(),
                last_heard,
            }
        };
        self.links.iter().map(status).collect()
    }

    /// Every user who is known to be somewhere, sorted by id.
    #[must_use]
    pub fn users(&self) -> Vec<UserStatus> {
        let status = |(user, person): (&UserId, &Person)| {
            let (server, is_local, is_stale, sessions) = match &person.home {
                Home::Local(links) => (self.config.server_id.clone(), true, false, links.len()),
                Home::Remote {
                    server, stale_since, ..
                } => (server.clone(), false, stale_since.is_some(), 0),
            };
            UserStatus {
                user: user.clone(),
                name: person.meta.name().map(str::to_owned),
                server,
                is_local,
                is_stale,
                sessions,
            }
        };
        self.people.everyone().map(status).collect()
    }

    /// Every pinned server, sorted by id.
    #[must_use]
    pub fn pins(&self) -> Vec<ServerPin> {
        self.pins.values().cloned().collect()
    }
}
