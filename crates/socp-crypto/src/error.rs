//! Errors, named by whose fault they are.
//!
//! `BadKey`, `BadSignature`, `Decrypt` and `TooLong` are the sender's; `WrongPassword` is the person's; `KeyFile` is the
//! file's; `Internal` is ours or a library's and should never be seen.

/// Why an operation on keys, signatures, ciphertexts or key files was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The key breaks the rules for SOCP keys (wire code `BAD_KEY`).
    #[error("unacceptable key: {0}")]
    BadKey(#[from] KeyFault),
    /// The signature was not made by this key over these bytes (wire code `INVALID_SIG`).
    #[error("the signature does not verify")]
    BadSignature,
    /// The ciphertext does not decrypt; deliberately without a reason (RFC 8017 §7.1.2, note).
    #[error("the ciphertext does not decrypt with this key")]
    Decrypt,
    /// The input is longer than its limit.
    #[error("input of {len} bytes exceeds the limit of {max} bytes")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The password or secret does not open the key file, or the file was altered: the cipher cannot tell.
    #[error("wrong password, or the key file was altered")]
    WrongPassword,
    /// The key file cannot be used.
    #[error("key file: {0}")]
    KeyFile(#[from] KeyFileFault),
    /// The text is not an identity that can be used.
    #[error("identity: {0}")]
    Identity(#[from] IdentityFault),
    /// A message of OPAQUE, or what one of its keys seals, is not what it should be.
    #[error("{0}")]
    Opaque(#[from] OpaqueFault),
    /// A library failed where it cannot fail on valid input.
    #[error("internal cryptographic failure: {0}")]
    Internal(&'static str),
}

/// Which of the key rules a key breaks (PROTOCOL part I, 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Not the canonical DER of the expected structure, or followed by something.
    #[error("not a canonical DER key")]
    Encoding,
    /// A key of another algorithm than rsaEncryption.
    #[error("not an RSA key (rsaEncryption)")]
    Algorithm,
    /// A modulus of another size; carries its size in bits.
    #[error("RSA modulus has {0} bits; exactly 4096 are required")]
    ModulusBits(usize),
    /// A public exponent outside the accepted range.
    #[error("RSA public exponent must be odd, at least 65537 and below 2^33")]
    Exponent,
    /// Numbers that cannot belong to one RSA key: an even modulus, factors that do not multiply to it.
    #[error("the RSA numbers do not form a key")]
    Numbers,
}

/// What is the matter with a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileFault {
    /// Not a complete key file of ours; carries what was expected.
    #[error("damaged: {0}")]
    Damaged(&'static str),
    /// Valid JSON of something else.
    #[error("this is not a socp key file")]
    Foreign,
    /// Written by a later program.
    #[error("written in version {0} of the format; this program reads version 1: please update it")]
    Newer(u64),
    /// Key derivation parameters outside the accepted bounds; carries the bound.
    #[error("refused key derivation parameters: {0}")]
    Parameters(&'static str),
    /// Protected by a password, opened with a secret.
    #[error("it is protected by a password; give the password")]
    NeedsPassword,
    /// Protected by a secret, opened with a password.
    #[error("it is protected by a stored secret, not by a password")]
    NeedsSecret,
    /// Not an exported identity; carries what it is.
    #[error("this is not an exported identity: {0}")]
    NoIdentity(&'static str),
    /// An identity leaves the machine under a password only.
    #[error("an identity is exported under a password; give one")]
    NoPassword,
    /// The secret is too short to protect anything.
    #[error("the unlocking secret must have at least 32 bytes")]
    ShortSecret,
}

/// What is the matter with something of OPAQUE (PROTOCOL II.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpaqueFault {
    /// A message that no program following RFC 9807 makes.
    #[error("not a message of OPAQUE as this protocol has it")]
    Message,
    /// The server's secrets do not open.
    #[error("the secrets for passwords are damaged, or belong to another server.key; restore both from one backup")]
    Setup,
    /// The identity does not open.
    #[error("the identity that the server keeps does not open with this password; it was altered")]
    Sealed,
    /// Sealed by a later program.
    #[error("sealed in version {0} of the format; this program reads version 1: please update it")]
    Newer(u64),
}

/// What is the matter with the text of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityFault {
    /// It cannot be one that we wrote; carries why.
    #[error("damaged: {0}")]
    Damaged(&'static str),
    /// More than an identity has.
    #[error("it is longer than an identity can be")]
    TooLong,
    /// Written by a later program.
    #[error("written in version {0} of the format; this program reads version 1: please update it")]
    Newer(u64),
}
