//! RSA-4096 signatures and encryption, key files, secrets.
//!
//! Everything here is a pure function over bytes: no file is opened, no clock read, no task spawned. An RSA private
//! operation takes milliseconds of a core, so the callers run [`PrivateKey::sign`] and [`PrivateKey::open`] on a pool of
//! threads; keys are cheap to clone and may be used from many threads at once.
//!
//! Two libraries carry the arithmetic. `aws-lc-rs` does every private operation, encryption, key derivation and the
//! verification of the two salt lengths that exist in practice; the pure-Rust `rsa` crate only verifies signatures with
//! any other salt length (PROTOCOL part I, 1).
//!
//! | module | what |
//! |---|---|
//! | [`public_key`], [`private_key`] | keys of SOCP §4: PSS signatures, OAEP blocks |
//! | [`content`] | what end-to-end signatures cover (SOCP §9.2 to §9.4, §12) |
//! | [`frame_content`] | the same, read off whole frames |
//! | [`delegate`] | Ed25519 keys that sign in a server's name for a while (PROTOCOL II.3) |
//! | [`safety`] | what two people compare to know each other's keys (PROTOCOL II.10) |
//! | [`history`] | the signatures of key histories, and of an account's end (PROTOCOL II.13) |
//! | [`identity`] | both private keys of a user, and all that makes one, as one text |
//! | [`opaque`] | passwords that the server never sees (PROTOCOL II.9) |
//! | [`keyfile`] | a private key or a secret at rest, under a password or a secret |
//! | [`rows`] | rows of a database at rest, each sealed by itself |
//! | [`secret`], [`random`], [`digest`] | values that forget themselves, randomness, SHA-256 |

pub mod content;
pub mod delegate;
pub mod digest;
pub mod error;
pub mod frame_content;
pub mod history;
pub mod identity;
mod key_rules;
pub mod keyfile;
pub mod opaque;
pub mod private_key;
pub mod public_key;
pub mod random;
pub mod rows;
pub mod safety;
pub mod secret;

pub use content::{ContentFamily, ContentParts, ContentScheme, sign_content, verify_content};
pub use delegate::{DelegateKey, DelegatePublicKey};
pub use error::{CryptoError, IdentityFault, KeyFault, KeyFileFault};
pub use frame_content::{ContentCheck, check_content, content_preimage_of};
pub use history::{check_deletion, check_history, sign_delete, sign_statement};
pub use identity::{FullIdentity, IdentityText, UserKeys};
pub use keyfile::{IDENTITY_FILE_BYTES_MAX, SealedIdentity, SealedKey, SealedSecret, UnlockSecret};
pub use opaque::{ExportKey, OpaqueSetup};
pub use private_key::PrivateKey;
pub use public_key::{PublicKey, SIGNATURE_BYTES};
pub use random::random_bytes;
pub use rows::{ROW_NAME_BYTES, RowKeys};
pub use safety::{SafetyCode, SafetyParty};
pub use secret::{Password, SecretBytes};
