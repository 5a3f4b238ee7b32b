//! Passwords that the server never sees: OPAQUE (RFC 9807) with fixed parameters (PROTOCOL II.9).
//!
//! | part | is |
//! |---|---|
//! | OPRF, group, hash | ristretto255, SHA-512 (RFC 9497) |
//! | key exchange | 3DH over ristretto255 with SHA-512 |
//! | key stretching | Argon2id 1.3, 64 MiB, 3 passes, 4 lanes, 16 zero bytes of salt, 64 bytes out |
//! | client's identity | left out, so its public key |
//! | server's identity | `socp-opaque-v1:` and the server's id |
//! | context | empty |
//!
//! The client stretches what the OPRF made of the password, so that a guess costs that much even to whoever has
//! everything that the server has. What comes out opens the record, and gives a key that the server never has: the
//! [`ExportKey`], which seals the identity.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use opaque_ke::errors::{InternalError, ProtocolError};
use opaque_ke::generic_array::{ArrayLength, GenericArray};
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration, ClientRegistrationFinishParameters,
    CredentialFinalization, CredentialRequest, CredentialResponse, Identifiers, RegistrationRequest,
    RegistrationResponse, RegistrationUpload, Ristretto255, ServerLogin, ServerLoginParameters, ServerRegistration,
    ServerSetup, TripleDh,
};
use rand_chacha_03::ChaCha20Rng;
use rand_chacha_03::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use sha2_010::Sha512;
use socp_proto::limits::IDENTITY_TEXT_BYTES_MAX;
use socp_proto::{Base64Url, ServerId, payload};
use std::cell::Cell;
use zeroize::Zeroizing;

use crate::error::{CryptoError, OpaqueFault};
use crate::keyfile::{Argon2Cost, argon2id};
use crate::random::random_bytes;
use crate::secret::{Password, SecretBytes};

/// How hard a guess is to check: the second recommendation of RFC 9106 §4, which browsers can do too.
pub const STRETCHING: Argon2Cost = Argon2Cost {
    m_kib: 64 * 1024,
    t: 3,
    p: 4,
};

/// The algorithms.
struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, Sha512>;
    type Ksf = Stretching;
}

/// Argon2id as the table above has it.
#[derive(Default)]
struct Stretching {
    kept: Cell<Stretched>,
}

/// What the password of one account was stretched to, for whoever logs in with it again and again.
#[derive(Default)]
pub struct Stretched(Option<[Zeroizing<Vec<u8>>; 2]>);

thread_local! {
    static STRETCHED_COUNT: Cell<u64> = const { Cell::new(0) };
}

/// How often this thread has stretched a password; what is expensive can be counted, whatever the clock says.
#[must_use]
pub fn stretched_count() -> u64 {
    STRETCHED_COUNT.get()
}

impl opaque_ke::ksf::Ksf for Stretching {
    fn hash<L: ArrayLength<u8>>(&self, input: GenericArray<u8, L>) -> Result<GenericArray<u8, L>, InternalError> {
        let input = Zeroizing::new(input.to_vec());
        let mut output = GenericArray::default();
        let kept = self.kept.take();
        match &kept.0 {
            Some([before, stretched]) if *before == input && stretched.len() == output.len() => {
                output.copy_from_slice(stretched);
                self.kept.set(kept);
            }
            Some(_) | None => {
                STRETCHED_COUNT.set(STRETCHED_COUNT.get().saturating_add(1));
                argon2id(&input, &[0; STRETCHING_SALT_BYTES], STRETCHING, output.as_mut_slice())
                    .map_err(|_| InternalError::KsfError)?;
                self.kept.set(Stretched(Some([input, Zeroizing::new(output.to_vec())])));
            }
        }
        Ok(output)
    }
}

/// What a server needs for all its accounts: the seed of their OPRF keys, and its key pair. Whoever has it and the records
/// can try passwords, each at the price of [`STRETCHING`].
#[derive(Clone)]
pub struct OpaqueSetup {
    setup: ServerSetup<Suite>,
    /// A record of nobody's, of which accounts that are none get the like: it costs as much to read.
    nobody: Vec<u8>,
}

impl std::fmt::Debug for OpaqueSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpaqueSetup(..)")
    }
}

/// What the server keeps of a login between its two steps.
pub type LoginState = SecretBytes;

impl OpaqueSetup {
    /// Makes one; a server does so once.
    ///
    /// # Errors
    /// [`CryptoError::Internal`] when the system's generator fails.
    pub fn generate() -> Result<Self, CryptoError> {
        Self::from_seed(random_bytes()?)
    }

    fn from_seed(seed: [u8; 32]) -> Result<Self, CryptoError> {
        Self::with(ServerSetup::new(&mut ChaCha20Rng::from_seed(seed)))
    }

    fn with(setup: ServerSetup<Suite>) -> Result<Self, CryptoError> {
        // Any point will do for its key, and any bytes for the rest.
        let point = setup.keypair().public().serialize();
        let nobody = [point.as_slice(), &[0; PASSWORD_RECORD_BYTES - POINT_BYTES]].concat();
        ServerRegistration::<Suite>::deserialize(&nobody).map_err(|_| CryptoError::Internal("OPAQUE record"))?;
        Ok(Self { setup, nobody })
    }

    /// Seals it for a file, under 32 random bytes that are kept elsewhere.
    ///
    /// # Errors
    /// [`CryptoError::Internal`] if a library fails.
    pub fn seal(&self, unlock: &SecretBytes) -> Result<String, CryptoError> {
        let bytes = Zeroizing::new(self.setup.serialize().to_vec());
        let sealed = seal(unlock.expose(), SETUP_INFO, &bytes)?;
        serde_json::to_string(&sealed).map_err(|_| CryptoError::Internal("OPAQUE setup to JSON"))
    }

    /// Reads what [`OpaqueSetup::seal`] wrote.
    ///
    /// # Errors
    /// [`CryptoError::Opaque`] if the text is another, or was sealed under other bytes.
    pub fn open(text: &str, unlock: &SecretBytes) -> Result<Self, CryptoError> {
        let sealed = serde_json::from_str(text).map_err(|_| OpaqueFault::Setup)?;
        let bytes = open(unlock.expose(), SETUP_INFO, &sealed).map_err(|_| OpaqueFault::Setup)?;
        let setup = ServerSetup::deserialize(bytes.expose()).map_err(|_| OpaqueFault::Setup)?;
        Self::with(setup)
    }

    /// Answers the first message of a registration. `account` names the account for ever.
    ///
    /// # Errors
    /// [`CryptoError::Opaque`] if the request is none.
    pub fn begin_registration(
        &self,
        account: &str,
        request: &payload::RegistrationRequest,
    ) -> Result<payload::RegistrationResponse, CryptoError> {
        let request = RegistrationRequest::deserialize(&request.bytes()).map_err(fault)?;
        let begun = ServerRegistration::<Suite>::start(&self.setup, request, account.as_bytes()).map_err(fault)?;
        message(&begun.message.serialize())
    }

    /// Answers the first message of a login; without a record so that nobody can tell the answer from another.
    ///
    /// # Errors
    /// [`CryptoError::Opaque`] if the request, or the record, is none.
    pub fn begin_login(
        &self,
        server: &ServerId,
        account: &str,
        record: Option<&payload::PasswordRecord>,
        request: &payload::CredentialRequest,
    ) -> Result<(payload::CredentialResponse, LoginState), CryptoError> {
        self.begin_login_with(random_bytes()?, server, account, record, request)
    }

    fn begin_login_with(
        &self,
        seed: [u8; 32],
        server: &ServerId,
        account: &str,
        record: Option<&payload::PasswordRecord>,
        request: &payload::CredentialRequest,
    ) -> Result<(payload::CredentialResponse, LoginState), CryptoError> {
        let bytes = record.map_or_else(|| self.nobody.clone(), payload::PasswordRecord::bytes);
        let read = ServerRegistration::<Suite>::deserialize(&bytes).map_err(fault)?;
        let request = CredentialRequest::deserialize(&request.bytes()).map_err(fault)?;
        let named = server_identity(server);
        let begun = ServerLogin::start(
            &mut ChaCha20Rng::from_seed(seed),
            &self.setup,
            record.is_some().then_some(read),
            request,
            account.as_bytes(),
            server_parameters(&named),
        )
        .map_err(fault)?;
        let state = SecretBytes::new(begun.state.serialize().to_vec());
        Ok((message(&begun.message.serialize())?, state))
    }
}

/// Whether the last message of a login is that of somebody who knows the password.
///
/// # Errors
/// [`CryptoError::WrongPassword`] if it is not.
pub fn finish_login(state: &LoginState, finalization: &payload::CredentialFinalization) -> Result<(), CryptoError> {
    let state = ServerLogin::<Suite>::deserialize(state.expose()).map_err(|_| CryptoError::Internal("OPAQUE state"))?;
    let finalization = CredentialFinalization::deserialize(&finalization.bytes()).map_err(fault)?;
    // Whose login it is went into the state.
    let finished = state.finish(finalization, ServerLoginParameters::default());
    finished.map(drop).map_err(|_| CryptoError::WrongPassword)
}

/// Whether logins can be checked with a record.
///
/// # Errors
/// [`CryptoError::Opaque`] if not.
pub fn check_record(record: &payload::PasswordRecord) -> Result<(), CryptoError> {
    let read = RegistrationUpload::<Suite>::deserialize(&record.bytes());
    read.map(drop).map_err(fault)
}

/// A client's registration between its two steps.
pub struct Registration {
    state: ClientRegistration<Suite>,
    password: Password,
}

impl Registration {
    /// Begins; the message is for the server.
    ///
    /// # Errors
    /// [`CryptoError::Internal`] when the system's generator fails.
    pub fn begin(password: Password) -> Result<(Self, payload::RegistrationRequest), CryptoError> {
        Self::begin_with(random_bytes()?, password)
    }

    fn begin_with(seed: [u8; 32], password: Password) -> Result<(Self, payload::RegistrationRequest), CryptoError> {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let begun = ClientRegistration::<Suite>::start(&mut rng, password.expose().as_bytes()).map_err(fault)?;
        let request = message(&begun.message.serialize())?;
        let state = begun.state;
        Ok((Self { state, password }, request))
    }

    /// Stretches the password, which takes a good part of a second: the record for the server, and the key that only
    /// who knows the password has.
    ///
    /// # Errors
    /// [`CryptoError::Opaque`] if the answer is none.
    pub fn finish(
        self,
        server: &ServerId,
        response: &payload::RegistrationResponse,
    ) -> Result<(payload::PasswordRecord, ExportKey), CryptoError> {
        self.finish_with(random_bytes()?, server, response)
    }

    fn finish_with(
        self,
        seed: [u8; 32],
        server: &ServerId,
        response: &payload::RegistrationResponse,
    ) -> Result<(payload::PasswordRecord, ExportKey), CryptoError> {
        let response = RegistrationResponse::deserialize(&response.bytes()).map_err(fault)?;
        let named = server_identity(server);
        let stretching = Stretching::default();
        let parameters = ClientRegistrationFinishParameters::new(identifiers(&named), Some(&stretching));
        let finished = self
            .state
            .finish(
                &mut ChaCha20Rng::from_seed(seed),
                self.password.expose().as_bytes(),
                response,
                parameters,
            )
            .map_err(fault)?;
        let export = ExportKey(SecretBytes::new(finished.export_key.to_vec()));
        Ok((message(&finished.message.serialize())?, export))
    }
}

/// A client's login between its two steps.
pub struct Login {
    state: ClientLogin<Suite>,
    password: Password,
}

impl Login {
    /// Begins; the message is for the server.
    ///
    /// # Errors
    /// [`CryptoError::Internal`] when the system's generator fails.
    pub fn begin(password: Password) -> Result<(Self, payload::CredentialRequest), CryptoError> {
        Self::begin_with(random_bytes()?, password)
    }

    fn begin_with(seed: [u8; 32], password: Password) -> Result<(Self, payload::CredentialRequest), CryptoError> {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let begun = ClientLogin::<Suite>::start(&mut rng, password.expose().as_bytes()).map_err(fault)?;
        let request = message(&begun.message.serialize())?;
        let state = begun.state;
        Ok((Self { state, password }, request))
    }

    /// Stretches the password, which takes a good part of a second, and opens with it what the server answered.
    ///
    /// # Errors
    /// [`CryptoError::WrongPassword`], which also stands for another server and for an account that is none.
    pub fn finish(
        self,
        server: &ServerId,
        response: &payload::CredentialResponse,
    ) -> Result<(payload::CredentialFinalization, ExportKey), CryptoError> {
        self.finish_again(server, response, &mut Stretched::default())
    }

    /// The same, without stretching a password that was stretched for the same account before.
    ///
    /// # Errors
    /// As [`Login::finish`].
    pub fn finish_again(
        self,
        server: &ServerId,
        response: &payload::CredentialResponse,
        kept: &mut Stretched,
    ) -> Result<(payload::CredentialFinalization, ExportKey), CryptoError> {
        let response = CredentialResponse::deserialize(&response.bytes()).map_err(fault)?;
        let named = server_identity(server);
        let stretching = Stretching {
            kept: Cell::new(std::mem::take(kept)),
        };
        let parameters = ClientLoginFinishParameters::new(None, identifiers(&named), Some(&stretching));
        // 3DH draws nothing in its last step.
        let mut rng = ChaCha20Rng::from_seed([0; 32]);
        let password = self.password.expose().as_bytes();
        let finished = self.state.finish(&mut rng, password, response, parameters);
        *kept = stretching.kept.take();
        let finished = finished.map_err(login_fault)?;
        let export = ExportKey(SecretBytes::new(finished.export_key.to_vec()));
        Ok((message(&finished.message.serialize())?, export))
    }
}

/// A key that only who knows the password has; the server that keeps what it seals has not.
#[derive(Debug, Clone)]
pub struct ExportKey(SecretBytes);

impl ExportKey {
    /// Seals an identity for the server to keep.
    ///
    /// # Errors
    /// [`CryptoError::TooLong`] for a text that no identity needs.
    pub fn seal(&self, identity: &[u8]) -> Result<payload::KeptIdentity, CryptoError> {
        if identity.len() > IDENTITY_TEXT_BYTES_MAX {
            return Err(CryptoError::TooLong {
                len: identity.len(),
                max: IDENTITY_TEXT_BYTES_MAX,
            });
        }
        seal(self.0.expose(), IDENTITY_INFO, identity)
    }

    /// Opens what [`ExportKey::seal`] made.
    ///
    /// # Errors
    /// [`CryptoError::Opaque`] if it was sealed in another form, or with another password, or was altered.
    pub fn open(&self, sealed: &payload::KeptIdentity) -> Result<SecretBytes, CryptoError> {
        open(self.0.expose(), IDENTITY_INFO, sealed)
    }
}

/// The part of what is sealed that is authenticated and not encrypted.
#[derive(Serialize, Deserialize)]
struct Authenticated {
    v: u64,
}

fn authenticated(v: u64) -> Result<Vec<u8>, CryptoError> {
    serde_json::to_vec(&Authenticated { v }).map_err(|_| CryptoError::Internal("header to JSON"))
}

fn seal(secret: &[u8], info: &'static [u8], text: &[u8]) -> Result<payload::KeptIdentity, CryptoError> {
    let iv = random_bytes::<IV_BYTES>()?;
    // Room for the tag, so that appending it never moves the text and leaves a copy behind.
    let mut buffer = Zeroizing::new(Vec::with_capacity(text.len().saturating_add(TAG_BYTES)));
    buffer.extend_from_slice(text);
    cipher(secret, info)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(iv),
            Aad::from(authenticated(FORM)?),
            &mut *buffer,
        )
        .map_err(|_| CryptoError::Internal("AES-GCM encryption"))?;
    Ok(payload::KeptIdentity {
        ciphertext: Base64Url::encode(&buffer),
        iv: Base64Url::encode(&iv),
        v: FORM,
    })
}

fn open(secret: &[u8], info: &'static [u8], sealed: &payload::KeptIdentity) -> Result<SecretBytes, CryptoError> {
    if sealed.v != FORM {
        return Err(OpaqueFault::Newer(sealed.v).into());
    }
    let nonce = Nonce::try_assume_unique_for_key(&sealed.iv.decode()).map_err(|_| OpaqueFault::Sealed)?;
    let mut buffer = Zeroizing::new(sealed.ciphertext.decode());
    let length = cipher(secret, info)?
        .open_in_place(nonce, Aad::from(authenticated(sealed.v)?), &mut buffer)
        .map_err(|_| OpaqueFault::Sealed)?
        .len();
    buffer.truncate(length);
    Ok(SecretBytes::from(buffer))
}

/// AES-256 with a key made of the secret for one purpose (RFC 5869).
fn cipher(secret: &[u8], info: &'static [u8]) -> Result<LessSafeKey, CryptoError> {
    let failed = |_| CryptoError::Internal("HKDF");
    let mut key = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, &[])
        .extract(secret)
        .expand(&[info], HKDF_SHA256)
        .and_then(|okm| okm.fill(key.as_mut_slice()))
        .map_err(failed)?;
    let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(|_| CryptoError::Internal("AES-256 key"))?;
    Ok(LessSafeKey::new(key))
}

/// So that a record made for one server, or for another protocol, is of no use at another.
fn server_identity(server: &ServerId) -> String {
    format!("{SERVER_IDENTITY}{server}")
}

fn identifiers(server: &str) -> Identifiers<'_> {
    Identifiers {
        client: None,
        server: Some(server.as_bytes()),
    }
}

fn server_parameters(server: &str) -> ServerLoginParameters<'_, '_> {
    ServerLoginParameters {
        context: None,
        identifiers: identifiers(server),
    }
}

fn message<const N: usize>(bytes: &[u8]) -> Result<payload::Message<N>, CryptoError> {
    payload::Message::try_from(bytes).map_err(|_| CryptoError::Internal("length of an OPAQUE message"))
}

/// Whose fault it is: a message that does not parse is its sender's.
fn fault(error: ProtocolError) -> CryptoError {
    match error {
        ProtocolError::LibraryError(InternalError::OprfError(_))
        | ProtocolError::SerializationError
        | ProtocolError::SizeError { .. }
        | ProtocolError::ReflectedValueError => OpaqueFault::Message.into(),
        ProtocolError::InvalidLoginError => CryptoError::WrongPassword,
        ProtocolError::LibraryError(InternalError::KsfError) => CryptoError::Internal(NO_MEMORY),
        ProtocolError::LibraryError(_) | ProtocolError::Custom(_) => CryptoError::Internal("OPAQUE"),
    }
}

/// With a wrong password anything may fail in what the server answered, for instance a key in it be none.
fn login_fault(error: ProtocolError) -> CryptoError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest says nothing more")]
    match fault(error) {
        error @ CryptoError::Internal(NO_MEMORY) => error,
        _ => CryptoError::WrongPassword,
    }
}

const NO_MEMORY: &str = "not enough memory for Argon2id";
const SERVER_IDENTITY: &str = "socp-opaque-v1:";
const IDENTITY_INFO: &[u8] = b"socp-privkey-store-v1";
const SETUP_INFO: &[u8] = b"socp-opaque-setup-v1";
const STRETCHING_SALT_BYTES: usize = 16;
const PASSWORD_RECORD_BYTES: usize = 192;
const POINT_BYTES: usize = 32;
const FORM: u64 = 1;
const IV_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

#[cfg(test)]
mod tests;
