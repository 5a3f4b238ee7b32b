//! OPAQUE as a toy: a password is eight bytes, a record repeats them, and the last message hashes them with the request.

use super::super::{LoginState, OpaqueDone, OpaqueWork};
use socp_proto::payload::{CredentialFinalization, CredentialRequest, Message, PasswordRecord, RegistrationRequest};
use socp_proto::sha256;

/// What no password is.
const NOBODY: [u8; 8] = [0xee; 8];

fn message<const N: usize>(unit: &[u8]) -> Message<N> {
    Message::try_from(unit.repeat(N / unit.len()).as_slice()).unwrap()
}

fn tag(password: &str) -> [u8; 8] {
    sha256(password.as_bytes())[..8].try_into().unwrap()
}

pub(super) fn registration_request(password: &str) -> RegistrationRequest {
    message(&tag(password))
}

pub(super) fn record(password: &str) -> PasswordRecord {
    message(&tag(password))
}

/// What the toy takes for no point.
pub(super) fn no_record() -> PasswordRecord {
    message(&[0xff; 8])
}

pub(super) fn login_request(nonce: u8) -> CredentialRequest {
    message(&[nonce; 8])
}

pub(super) fn finalization(password: &str, nonce: u8) -> CredentialFinalization {
    message(&sha256(&[tag(password), [nonce; 8]].concat()))
}

pub(super) fn compute(work: OpaqueWork) -> OpaqueDone {
    match work {
        OpaqueWork::Register { account, .. } => OpaqueDone::Registering {
            response: message(&sha256(account.as_bytes())),
        },
        OpaqueWork::Check { record } if record == no_record() => OpaqueDone::Bad { reason: "no point" },
        OpaqueWork::Check { .. } => OpaqueDone::Good,
        OpaqueWork::Login {
            server,
            account,
            record,
            request,
        } => {
            let known = record.map_or(NOBODY.to_vec(), |record| record.bytes()[..8].to_vec());
            let nonce = request.bytes()[..8].to_vec();
            if nonce == [0xff; 8] {
                return OpaqueDone::Bad { reason: "no point" };
            }
            let seen = [server.as_str().as_bytes(), account.as_bytes(), &nonce].concat();
            OpaqueDone::LoggingIn {
                response: message(&sha256(&seen)),
                state: LoginState::new([known, nonce].concat()),
            }
        }
        OpaqueWork::Finish { state, finalization } => {
            let right: CredentialFinalization = message(&sha256(state.expose()));
            match finalization == right {
                true => OpaqueDone::Good,
                false => OpaqueDone::Bad {
                    reason: "it does not fit",
                },
            }
        }
    }
}
