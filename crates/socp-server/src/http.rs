//! The listener: WebSocket on any path, health, and a page that says what this is.

use crate::Ready;
use crate::link::{self, Origin, Wiring};
use crate::settings::Settings;
use crate::socket;
use crate::store::StoreHealth;
use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::serve::ListenerExt as _;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

#[derive(Debug, Clone)]
struct Front {
    wiring: Arc<Wiring>,
    health: StoreHealth,
    page: Arc<str>,
    allow_origin: Arc<[String]>,
}

/// The routes of the one port.
pub(crate) fn router(settings: &Settings, ready: &Ready, wiring: Arc<Wiring>, health: StoreHealth) -> Router {
    let page = Arc::from(page(ready));
    let front = Front {
        wiring,
        health,
        page,
        allow_origin: settings.allow_origin.clone().into(),
    };
    Router::new().fallback(upgrade_or_page).with_state(front)
}

/// Serves until told to stop.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    // Without this, Nagle's algorithm and delayed acknowledgements cost 40 ms a frame.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
    });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let stopped = async move {
        // A sender that is gone means stop, too.
        let _stop = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, service).with_graceful_shutdown(stopped).await
}

fn plain_answer(path: &str, front: &Front) -> Response {
    match path {
        "/" => Html(front.page.to_string()).into_response(),
        "/healthz" => "alive\n".into_response(),
        "/readyz" => match front.health.failure() {
            None => "ready\n".into_response(),
            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("store: {reason}\n")).into_response(),
        },
        _ => (StatusCode::NOT_FOUND, "nothing here; SOCP speaks WebSocket\n").into_response(),
    }
}

/// A WebSocket may come on any path, even those of health.
async fn upgrade_or_page(
    State(front): State<Front>,
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (mut parts, _) = request.into_parts();
    let is_upgrade = parts.headers.contains_key(header::SEC_WEBSOCKET_KEY);
    if !is_upgrade {
        return plain_answer(parts.uri.path(), &front);
    }
    if !is_allowed_origin(&parts.headers, &front.allow_origin) {
        return (
            StatusCode::FORBIDDEN,
            "this web origin may not connect; see --allow-origin\n",
        )
            .into_response();
    }
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &front).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let Some(place) = front.wiring.pending.enter(address.ip()) else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many unfinished connections\n").into_response();
    };
    let wiring = Arc::clone(&front.wiring);
    socket::configure(upgrade).on_upgrade(move |socket| async move {
        let (sink, stream) = socket::accepted(socket);
        link::run(wiring, Origin::Accepted(place), sink, stream).await;
    })
}

/// A browser says where its page came from: that must be this server, or a place the operator allows.
fn is_allowed_origin(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_own = origin.split_once("://").map(|(_, rest)| rest) == host && host.is_some();
    is_own || allowed.iter().any(|allowed| allowed == origin)
}

fn page(ready: &Ready) -> String {
    let name = escape(ready.name.as_deref().unwrap_or("a SOCP server"));
    let (server_id, fingerprint, listen) = (escape(ready.server_id.as_str()), ready.fingerprint(), ready.listen);
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{name}</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}}\
         code{{overflow-wrap:anywhere}}</style>\
         <h1>{name}</h1><p>This server speaks SOCP v1.3, federated chat with end-to-end encryption.</p>\
         <dl><dt>Server id<dd><code>{server_id}</code><dt>Key fingerprint (SHA-256)<dd><code>{fingerprint}</code></dl>\
         <p>Connect with <code>socp register --server ws://{listen}</code>, then <code>socp chat</code>.</p></html>\n"
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

    fn headers(host: &'static str, origin: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_the_own_and_allowed_origins_may_connect() {
        let allowed = ["https://chat.example".to_owned()];
        for (origin, is_allowed) in [
            (None, true),
            (Some("http://127.0.0.1:8765"), true),
            (Some("https://chat.example"), true),
            (Some("https://evil.example"), false),
            (Some("null"), false),
            (Some("127.0.0.1:8765"), false),
        ] {
            assert_eq!(
                is_allowed_origin(&headers("127.0.0.1:8765", origin), &allowed),
                is_allowed,
                "{origin:?}"
            );
        }
    }
}
