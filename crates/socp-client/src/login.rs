//! Fetching one's identity with a name and a password (PROTOCOL II.9), on a machine that has no profile yet.
//!
//! Nothing is known of the server but its address; what makes it the right one is that it knows the account: without that
//! nothing it could answer opens. So no signature is looked at here.

use crate::driver::blocking;
use crate::error::ClientError;
use crate::link::{self, ServerUrl, Socket};
use futures_util::{SinkExt as _, StreamExt as _};
use socp_crypto::opaque::Login;
use socp_crypto::{CryptoError, FullIdentity, IdentityText, Password};
use socp_proto::limits::HELLO_WAIT_MAX_MS;
use socp_proto::payload::{ErrorNotice, LOGIN_REFUSED, LoginChallenge, LoginFinish, LoginResult, LoginStart};
use socp_proto::{Address, Capabilities, DELEGATE, Draft, ErrorCode, Frame, Id, Payload};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_tungstenite::tungstenite::Message;
use zeroize::Zeroizing;

/// Who speaks as long as it is nobody.
const NOBODY: &str = "*";

/// Logs in and returns the identity that the server kept; with the key stretching this takes a good part of a second.
///
/// # Errors
/// [`ClientError::LoginRefused`] if the server knows no such name with this password, or does not want to say;
/// [`ClientError::Unreachable`], [`ClientError::Lost`], or what is wrong with the identity.
pub async fn log_in(server: &ServerUrl, name: &str, password: Password) -> Result<FullIdentity, ClientError> {
    let (mut socket, _tls) = link::dial(server).await?;
    // The server gives no more time than that.
    let wait = Duration::from_millis(HELLO_WAIT_MAX_MS);
    let done = tokio::time::timeout(wait, speak(&mut socket, name, password)).await;
    let identity = done.unwrap_or_else(|_elapsed| {
        let seconds = wait.as_secs();
        Err(ClientError::Lost(format!(
            "the login took longer than {seconds} s; try again"
        )))
    });
    // What had to be said is said.
    let _gone = socket.close(None).await;
    identity
}

async fn speak(socket: &mut Socket, name: &str, password: Password) -> Result<FullIdentity, ClientError> {
    let (login, request) = blocking(move || Ok(Login::begin(password)?)).await?;
    let start = LoginStart {
        name: name.to_owned(),
        request,
        caps: Capabilities::of(&[DELEGATE]).ok(),
    };
    send(socket, &Payload::LoginStart(start)).await?;
    let challenge = answer(socket, |payload| {
        if let Payload::LoginChallenge(challenge) = payload {
            return Some(challenge);
        }
        None
    });
    let LoginChallenge {
        server_id, response, ..
    } = challenge.await?;
    let finished = blocking(move || Ok(login.finish(&server_id, &response)));
    let (finalization, export) = finished.await?.map_err(refused)?;
    send(socket, &Payload::LoginFinish(LoginFinish { finalization })).await?;
    let result = answer(socket, |payload| {
        if let Payload::LoginResult(result) = payload {
            return Some(result);
        }
        None
    });
    let LoginResult { user_id, sealed } = result.await?;
    blocking(move || {
        let text = Zeroizing::new(export.open(&sealed)?.expose().to_vec());
        let text =
            String::from_utf8(text.to_vec()).map_err(|_| CryptoError::Internal("an identity that is no text"))?;
        let identity = FullIdentity::from_text(&IdentityText::new(Zeroizing::new(text)))?;
        if identity.user_id != user_id {
            let why = format!("it keeps the identity of {} for {user_id}", identity.user_id);
            return Err(ClientError::Lost(format!("the server answered wrongly: {why}")));
        }
        Ok(identity)
    })
    .await
}

/// Whether the server said no or its answer does not open is all the same to whoever typed a password.
fn refused(error: CryptoError) -> ClientError {
    if error == CryptoError::WrongPassword {
        return ClientError::LoginRefused(LOGIN_REFUSED.to_owned());
    }
    error.into()
}

async fn send(socket: &mut Socket, payload: &Payload) -> Result<(), ClientError> {
    let from = Id::try_from(NOBODY).map_err(|error| ClientError::Lost(error.to_string()))?;
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ts = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
    let text = Draft::new(from, Address::everyone(), ts, payload).sign(&[]).to_text();
    let sent = socket.send(Message::text(text)).await;
    sent.map_err(|error| ClientError::Lost(error.to_string()))
}

/// The next frame, if it is the one that is due.
async fn answer<T>(socket: &mut Socket, take: impl FnOnce(Payload) -> Option<T>) -> Result<T, ClientError> {
    let text = loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => break text,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(close))) => {
                let reason = close.map_or_else(String::new, |close| close.reason.to_string());
                return Err(ClientError::Lost(format!("the server closed it: {reason}")));
            }
            Some(Ok(Message::Binary(_))) => return Err(ClientError::Lost("the server sent binary data".to_owned())),
            Some(Err(error)) => return Err(ClientError::Lost(error.to_string())),
            None => return Err(ClientError::Lost("the server ended it".to_owned())),
        }
    };
    let frame = Frame::parse(&text).map_err(|error| ClientError::Lost(format!("the server sent no frame: {error}")))?;
    let kind = frame.envelope.kind.name();
    if let Payload::Error(notice) = frame.payload {
        return Err(said_no(notice));
    }
    let not_due = || ClientError::Lost(format!("the server answered {kind}, which is not due"));
    take(frame.payload).ok_or_else(not_due)
}

fn said_no(notice: ErrorNotice) -> ClientError {
    let ErrorNotice { code, detail, .. } = notice;
    ClientError::LoginRefused(if code == ErrorCode::UnknownType {
        "this server takes no passwords (opaque/1)".to_owned()
    } else if matches!(code, ErrorCode::NotAuthenticated | ErrorCode::RateLimited) {
        detail
    } else {
        format!("{code} {detail}")
    })
}
