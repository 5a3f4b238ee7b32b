//! The listener: WebSocket on any path, health, metrics, and a page that says what this is.

use crate::Ready;
use crate::link::{self, Origin, Wiring};
use crate::metrics::{self, Loss, Metrics};
use crate::pending::{PendingCounts, PendingPlace};
use crate::scrape::Scrape;
use crate::settings::Settings;
use crate::socket::{self, Role};
use crate::store::StoreHealth;
use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::{TokioIo, TokioTimer};
use socp_core::server::TlsSession;
use socp_proto::Bytes32;
use socp_proto::limits::HELLO_WAIT_MAX_MS;
use socp_tls::{Acceptor, Stream, TlsFault};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tower::ServiceExt as _;

/// As much as is read of what comes without TLS.
const UNREAD_BYTES_MAX: usize = 64 * 1024;

/// A pause after a failed accept, so that a full machine is not made busier.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection meets.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    pub(crate) router: Router,
    /// Makes its TLS session, where TLS is spoken.
    pub(crate) acceptor: Option<Acceptor>,
    pub(crate) pending: PendingCounts,
    pub(crate) metrics: Arc<Metrics>,
}

#[derive(Debug, Clone)]
struct Desk {
    wiring: Arc<Wiring>,
    health: StoreHealth,
    scrape: Arc<Scrape>,
    page: Arc<str>,
    allow_origin: Arc<[String]>,
    public_host: Option<Arc<str>>,
}

/// The routes of the one port.
pub(crate) fn router(settings: &Settings, ready: &Ready, wiring: Arc<Wiring>, health: StoreHealth) -> Router {
    let page = Arc::from(page(ready));
    let scrape = Arc::new(Scrape::new(wiring.hub.clone(), Arc::clone(&wiring.metrics)));
    let desk = Desk {
        wiring,
        scrape,
        health,
        page,
        allow_origin: settings.allow_origin.clone().into(),
        public_host: settings
            .public_address
            .as_ref()
            .map(|(host, _)| Arc::from(host.as_str())),
    };
    Router::new().fallback(upgrade_or_page).with_state(desk)
}

/// Serves until told to stop.
///
/// A connection has its place among the unfinished ones from its first byte, and ten seconds for its request
/// (PROTOCOL I.3, I.11).
pub(crate) async fn serve(listener: TcpListener, front: Front, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // A sender that is gone means stop, too.
            () = async { let _stop = stop.wait_for(|stop| *stop).await.map(drop); } => return Ok(()),
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: those that end give theirs back.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = front.pending.enter(address.ip()) else {
            front.metrics.dropped(Loss::Connection);
            tracing::debug!(%address, "too many unfinished connections; refused");
            continue;
        };
        // Without this, Nagle's algorithm and delayed acknowledgements cost 40 ms a frame.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        tokio::spawn(serve_connection(
            stream,
            front.router.clone(),
            front.acceptor.clone(),
            place,
        ));
    }
}

async fn serve_connection(connection: TcpStream, router: Router, acceptor: Option<Acceptor>, place: PendingPlace) {
    let begun = Instant::now();
    let wait = Duration::from_millis(HELLO_WAIT_MAX_MS);
    let (stream, tls) = match acceptor {
        None => (Stream::Plain(connection), None),
        Some(acceptor) => match tokio::time::timeout(wait, secure(connection, &acceptor)).await {
            Ok(Ok((stream, binding))) => (stream, Some(binding)),
            Ok(Err(error)) => return tracing::debug!(%error, "a connection ended without a TLS session"),
            Err(_) => return tracing::debug!("a connection took too long to make a TLS session"),
        },
    };
    let place = Place {
        pending: Arc::new(Mutex::new(Some(place))),
        tls,
    };
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(place.clone());
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(wait.saturating_sub(begun.elapsed()))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended before it was a link");
    }
}

/// The first byte of a TLS session: a record of the handshake (RFC 8446 §5.1).
const TLS_FIRST_BYTE: u8 = 0x16;

/// What whoever comes without TLS is told.
const SPEAKS_TLS: &str = "this port speaks TLS; use wss:// or https://\n";

/// Makes a TLS session; who comes without one is told what is spoken here.
async fn secure(mut connection: TcpStream, acceptor: &Acceptor) -> Result<(Stream, Bytes32), TlsFault> {
    let mut first = [0; 1];
    let count = connection.peek(&mut first).await.map_err(TlsFault::Io)?;
    if count == 0 || first == [TLS_FIRST_BYTE] {
        return acceptor.accept(connection).await;
    }
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{SPEAKS_TLS}",
        SPEAKS_TLS.len()
    );
    connection.write_all(answer.as_bytes()).await.map_err(TlsFault::Io)?;
    connection.shutdown().await.map_err(TlsFault::Io)?;
    // What is not read would take the answer along (RFC 1122 §4.2.2.13).
    let mut rest = [0; 1024];
    let mut left = UNREAD_BYTES_MAX;
    while left > 0 {
        match connection.read(&mut rest).await.map_err(TlsFault::Io)? {
            0 => break,
            count => left = left.saturating_sub(count),
        }
    }
    Err(TlsFault::NotTls)
}

/// A connection's place, which its link takes over.
#[derive(Debug, Clone)]
struct Place {
    pending: Arc<Mutex<Option<PendingPlace>>>,
    /// What its TLS session exports.
    tls: Option<Bytes32>,
}

async fn plain_answer(path: &str, front: &Desk) -> Response {
    match path {
        "/" => Html(front.page.to_string()).into_response(),
        "/healthz" => "alive\n".into_response(),
        "/readyz" => match front.health.failure() {
            None => "ready\n".into_response(),
            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("store: {reason}\n")).into_response(),
        },
        "/metrics" => match front.scrape.text().await {
            Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
        },
        _ => (StatusCode::NOT_FOUND, "nothing here; SOCP speaks WebSocket\n").into_response(),
    }
}

/// A WebSocket may come on any path, even those of health.
async fn upgrade_or_page(
    State(front): State<Desk>,
    Extension(place): Extension<Place>,
    mut request: Request,
) -> Response {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return plain_answer(request.uri().path(), &front).await;
    };
    let accept = derive_accept_key(key.as_bytes());
    if !is_allowed(request.headers(), &front.allow_origin, front.public_host.as_deref()) {
        return (
            StatusCode::FORBIDDEN,
            "this web origin may not connect; see --allow-origin\n",
        )
            .into_response();
    }
    if let Some(reason) = not_a_websocket(&request) {
        return (StatusCode::BAD_REQUEST, reason).into_response();
    }
    let tls = place.tls.map(|binding| TlsSession {
        binding,
        is_certified: false,
    });
    let Some(place) = place.pending.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return (StatusCode::BAD_REQUEST, "this connection is a link already\n").into_response();
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let origin = Origin::Accepted(place, tls);
    tokio::spawn(run_upgraded(upgrade, Arc::clone(&front.wiring), origin));
    let headers = [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_ACCEPT, accept.as_str()),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response()
}

/// What keeps a request with a key from being a WebSocket's (RFC 6455 §4.2.1).
fn not_a_websocket(request: &Request) -> Option<&'static str> {
    let headers = request.headers();
    if request.method() != Method::GET {
        Some("a WebSocket begins with GET\n")
    } else if !has_token(headers, header::CONNECTION, "upgrade") || !has_token(headers, header::UPGRADE, "websocket") {
        Some("a WebSocket asks for an upgrade\n")
    } else if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .map(|version| version.as_bytes())
        != Some(b"13")
    {
        Some("only version 13 of WebSocket is spoken here\n")
    } else {
        None
    }
}

/// Whether a list in a header has this word.
fn has_token(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let texts = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case(word))
}

/// Runs the link over the connection's own stream: what the listener needed to read a request is given back.
async fn run_upgraded(upgrade: OnUpgrade, wiring: Arc<Wiring>, origin: Origin) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "a connection ended before it was a link"),
    };
    let Ok(parts) = upgraded.downcast::<TokioIo<Stream>>() else {
        return tracing::error!("a connection is not of the listener's kind");
    };
    let Parts { io, read_buf, .. } = parts;
    // A copy, as short as it is: the listener's buffer must not live as long as the link.
    let (sink, stream) = socket::split(io.into_inner(), Role::Server, read_buf.to_vec());
    // A task of its own, which is no larger than a link is.
    tokio::spawn(link::run(wiring, origin, sink, stream));
}

/// A browser says where its page came from: that must be this server, or a place the operator allows.
///
/// A name that leads here is no proof, since whoever owns a name decides where it leads (DNS rebinding); an address, or
/// a name that the operator gave, is.
fn is_allowed(headers: &HeaderMap, allow_origin: &[String], public_host: Option<&str>) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str() else { return false };
    if allow_origin.iter().any(|allowed| allowed == origin) {
        return true;
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let Some((_, authority)) = origin.split_once("://").filter(|(_, rest)| Some(*rest) == host) else {
        return false;
    };
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) | None => authority,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok() || name == "localhost" || public_host == Some(name)
}

fn page(ready: &Ready) -> String {
    let name = escape(ready.name.as_deref().unwrap_or("a SOCP server"));
    let (server_id, fingerprint, url) = (escape(ready.server_id.as_str()), ready.fingerprint(), ready.url());
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}}\
         code{{overflow-wrap:anywhere}}</style>\
         <h1>{name}</h1><p>This server speaks SOCP v1.3, federated chat with end-to-end encryption.</p>\
         <dl><dt>Server id<dd><code>{server_id}</code><dt>Key fingerprint (SHA-256)<dd><code>{fingerprint}</code></dl>\
         <p>Connect with <code>socp register --server '{url}'</code>, then <code>socp chat</code>.</p></html>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_and_allowed_origins_may_connect() {
        let own = "127.0.0.1:8765";
        for (host, origin, expected) in [
            (own, None, true),
            (own, Some("http://127.0.0.1:8765"), true),
            ("[::1]:8765", Some("http://[::1]:8765"), true),
            ("localhost:8765", Some("http://localhost:8765"), true),
            ("public.example", Some("https://public.example"), true),
            (own, Some("https://chat.example"), true),
            (own, Some("https://evil.example"), false),
            // A name of somebody else's that was made to lead here.
            ("evil.example:8765", Some("http://evil.example:8765"), false),
            (own, Some("null"), false),
            (own, Some("127.0.0.1:8765"), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            let allowed = ["https://chat.example".to_owned()];
            let answer = is_allowed(&headers, &allowed, Some("public.example"));
            assert_eq!(answer, expected, "{host} {origin:?}");
        }
    }
}
