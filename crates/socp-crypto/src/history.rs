//! The signatures of key histories (PROTOCOL II.13). Their form is checked where they are read (`socp-proto`).

use crate::error::CryptoError;
use crate::private_key::PrivateKey;
use crate::public_key::PublicKey;
use socp_proto::payload::{AccountDelete, Deletion};
use socp_proto::{Base64Url, KeyHistory, KeyStatement, ServerId, UserId};

/// Checks that every statement is signed by the signing key before it, and that all keys keep the rules of PROTOCOL part I, 1.
///
/// # Errors
///
/// [`CryptoError::BadKey`] or [`CryptoError::BadSignature`].
pub fn check_history(history: &KeyHistory) -> Result<(), CryptoError> {
    let mut signer = PublicKey::from_spki_der(&history.first().pubkey.der())?;
    let mut enc_pubkey = &history.first().enc_pubkey;
    PublicKey::from_spki_der(&enc_pubkey.der())?;
    for statement in history.statements() {
        signer.verify(&statement.signed_text(), &statement.sig.decode())?;
        if statement.enc_pubkey != *enc_pubkey {
            enc_pubkey = &statement.enc_pubkey;
            PublicKey::from_spki_der(&enc_pubkey.der())?;
        }
        let der = statement.pubkey.der();
        if signer.spki_der() != der {
            signer = PublicKey::from_spki_der(&der)?;
        }
    }
    Ok(())
}

/// Signs a statement with the signing key before it.
///
/// # Errors
///
/// [`CryptoError::Internal`] if the library fails.
pub fn sign_statement(statement: KeyStatement, key: &PrivateKey) -> Result<KeyStatement, CryptoError> {
    let sig = Base64Url::encode(&key.sign(&statement.signed_text())?);
    Ok(KeyStatement { sig, ..statement })
}

/// Checks that a user's account at a server is no more by the word of the key that it brings. Whether that is the user's
/// key is for whoever knows it to say.
///
/// # Errors
///
/// [`CryptoError::BadKey`] or [`CryptoError::BadSignature`].
pub fn check_deletion(deletion: &Deletion, user: &UserId, server: &ServerId) -> Result<(), CryptoError> {
    let key = PublicKey::from_spki_der(&deletion.pubkey.der())?;
    key.verify(&deletion.signed_text(user, server), &deletion.sig.decode())
}

/// Signs the wish to be forgotten.
///
/// # Errors
///
/// [`CryptoError::Internal`] if the library fails.
pub fn sign_delete(delete: AccountDelete, key: &PrivateKey) -> Result<AccountDelete, CryptoError> {
    let sig = Base64Url::encode(&key.sign(&delete.signed_text())?);
    Ok(AccountDelete { sig, ..delete })
}
