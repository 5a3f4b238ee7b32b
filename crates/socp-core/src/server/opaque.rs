//! What the driver computes of OPAQUE (PROTOCOL II.9), and gives back.

use socp_proto::ServerId;
use socp_proto::payload::{
    CredentialFinalization, CredentialRequest, CredentialResponse, PasswordRecord, RegistrationRequest,
    RegistrationResponse,
};
use std::fmt;

/// What to compute. Each is answered once, unless its link is gone or has asked for something else since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpaqueWork {
    /// Answer the first message of a registration, with [`OpaqueDone::Registering`].
    Register {
        /// What names the account for ever.
        account: String,
        /// The message.
        request: RegistrationRequest,
    },
    /// See whether logins can be checked with a record: [`OpaqueDone::Good`].
    Check {
        /// The record.
        record: PasswordRecord,
    },
    /// Answer the first message of a login, with [`OpaqueDone::LoggingIn`].
    Login {
        /// Who we are.
        server: ServerId,
        /// What names the account, or what is none.
        account: String,
        /// What to check with; without, the answer must look, and cost, like any other.
        record: Option<PasswordRecord>,
        /// The message.
        request: CredentialRequest,
    },
    /// Check the last message of a login: [`OpaqueDone::Good`].
    Finish {
        /// What was kept of the answer.
        state: LoginState,
        /// The message.
        finalization: CredentialFinalization,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpaqueDone {
    /// The answer for who registers.
    Registering {
        /// The message.
        response: RegistrationResponse,
    },
    /// The answer for who logs in.
    LoggingIn {
        /// The message.
        response: CredentialResponse,
        /// What to keep until its last one.
        state: LoginState,
    },
    /// It is as it should be.
    Good,
    /// It is not.
    Bad {
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// What the driver wants to have back with the last message of a login; it is nobody else's.
#[derive(Clone, PartialEq, Eq)]
pub struct LoginState(Vec<u8>);

impl LoginState {
    /// Wraps it.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Shows it to the driver.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for LoginState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoginState(..)")
    }
}
