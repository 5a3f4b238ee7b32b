//! What logins and registrations ask of the driver (PROTOCOL II.9): OPAQUE on the pool, the identity from the disk.

use super::{Hub, HubMessage};
use socp_core::server::{Input, LinkId, LoginState, OpaqueDone, OpaqueWork};
use socp_crypto::opaque::{check_record, finish_login};
use socp_crypto::{CryptoError, OpaqueSetup, SecretBytes};
use socp_proto::UserId;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

/// What is being computed: one job for each link, of no use to anybody once the link is gone or has begun anew. The pool
/// skips a job that nobody waits for.
#[derive(Debug, Default)]
pub(super) struct Computing(BTreeMap<LinkId, AbortHandle>);

impl Computing {
    /// Waits for a link's job, and no more for the one before.
    fn wait(&mut self, link: LinkId, done: oneshot::Receiver<OpaqueDone>, hub: mpsc::Sender<HubMessage>) {
        let waits = tokio::spawn(async move {
            let reason = "this server could not compute it";
            let done = done.await.unwrap_or(OpaqueDone::Bad { reason });
            let _stopping = hub.send(HubMessage::core(Input::Opaque { link, done })).await;
        });
        if let Some(before) = self.0.insert(link, waits.abort_handle()) {
            before.abort();
        }
    }

    /// Nobody waits for anything on a link that is gone.
    pub(super) fn forget_link(&mut self, link: LinkId) {
        if let Some(waits) = self.0.remove(&link) {
            waits.abort();
        }
    }
}

impl Hub {
    /// Computes on the pool: for who logs in, in the line of all logins from there; for a user, in the user's own.
    pub(super) fn compute(&mut self, link: LinkId, work: OpaqueWork) {
        let Some(state) = self.links.get(&link).map(|handle| &handle.state) else {
            return; // Its end is on its way to the core.
        };
        let line = match state.has_role() {
            true => state.line(),
            false => Arc::clone(&state.logins),
        };
        let setup = Arc::clone(&self.passwords);
        let done = self.wiring.pool.run(&line, move || compute(&setup, work));
        self.computing.wait(link, done, self.wiring.hub.clone());
    }

    /// Reads what a password opens, behind everything that is on its way to the disk.
    pub(super) fn fetch(&mut self, link: LinkId, user: &UserId) {
        let fetched = self.store.fetch(user.clone());
        let hub = self.wiring.hub.clone();
        tokio::spawn(async move {
            let kept = fetched.await.ok().flatten();
            let _stopping = hub.send(HubMessage::core(Input::Fetched { link, kept })).await;
        });
    }
}

fn compute(setup: &OpaqueSetup, work: OpaqueWork) -> OpaqueDone {
    let done = match work {
        OpaqueWork::Register { account, request } => {
            let response = setup.begin_registration(&account, &request);
            response.map(|response| OpaqueDone::Registering { response })
        }
        OpaqueWork::Check { record } => check_record(&record).map(|()| OpaqueDone::Good),
        OpaqueWork::Login {
            server,
            account,
            record,
            request,
        } => {
            let begun = setup.begin_login(&server, &account, record.as_ref(), &request);
            begun.map(|(response, state)| OpaqueDone::LoggingIn {
                response,
                state: LoginState::new(state.expose().to_vec()),
            })
        }
        OpaqueWork::Finish { state, finalization } => {
            let state = SecretBytes::new(state.expose().to_vec());
            finish_login(&state, &finalization).map(|()| OpaqueDone::Good)
        }
    };
    done.unwrap_or_else(|error| OpaqueDone::Bad {
        reason: reason_of(&error),
    })
}

fn reason_of(error: &CryptoError) -> &'static str {
    match error {
        CryptoError::Opaque(_) => "not a message of OPAQUE as this protocol has it (II.9)",
        CryptoError::WrongPassword => "it does not fit",
        CryptoError::BadKey(_)
        | CryptoError::BadSignature
        | CryptoError::Decrypt
        | CryptoError::TooLong { .. }
        | CryptoError::KeyFile(_)
        | CryptoError::Identity(_)
        | CryptoError::Internal(_) => {
            tracing::error!(%error, "a part of a login could not be computed");
            "this server could not compute it"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_link_has_one_job_and_none_when_it_is_gone() {
        let (hub, mut told) = mpsc::channel(4);
        let mut computing = Computing::default();
        let (gone, staying) = (LinkId(1), LinkId(2));
        let begin = |computing: &mut Computing, link| {
            let (done, result) = oneshot::channel();
            computing.wait(link, result, hub.clone());
            done
        };
        let mut first = begin(&mut computing, gone);
        let other = begin(&mut computing, staying);
        let mut second = begin(&mut computing, gone);
        first.closed().await;
        computing.forget_link(gone);
        second.closed().await;
        assert!(!other.is_closed());
        other.send(OpaqueDone::Good).unwrap();
        let Some(HubMessage::Core(input)) = told.recv().await else {
            panic!("nothing is told")
        };
        assert!(matches!(*input, Input::Opaque { link, done: OpaqueDone::Good } if link == staying));
    }
}
