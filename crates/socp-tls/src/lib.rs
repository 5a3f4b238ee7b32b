//! TLS as server and client use it: which certificates are good, which session this is, what went wrong.
//!
//! Certificates say who is there only until somebody has proved a key of SOCP; then the proof is bound to the session by
//! what the session exports (RFC 9266, PROTOCOL II.2), and whoever passes words on between two sessions is found out. So
//! a certificate may be good in three ways: an authority of this machine signed it, its key is the pinned one, or the
//! caller finds out otherwise who is there.

mod client;
mod fault;
mod server;
mod stream;
mod verify;

pub use client::{Authorities, Session, Wanted, connect, connect_vouched};
pub use fault::{BadPair, TlsFault};
pub use server::{Acceptor, Answer, Identity};
pub use stream::{ReadHalf, Stream, WriteHalf};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use socp_proto::{Bytes32, TlsPin};
use std::sync::Arc;

/// The one library for cryptography that this program is built with.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn pin_of(key: &SubjectPublicKeyInfoDer<'_>) -> TlsPin {
    TlsPin::from(Bytes32::from(socp_proto::sha256(key.as_ref())))
}

/// What both ends of this session know and nobody else (RFC 9266 §4).
fn binding<Data>(connection: &rustls::ConnectionCommon<Data>) -> Result<Bytes32, TlsFault> {
    let exported = connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[]));
    exported
        .map(Bytes32::from)
        .map_err(|error| TlsFault::Session(error.to_string()))
}

#[cfg(test)]
mod tests;
