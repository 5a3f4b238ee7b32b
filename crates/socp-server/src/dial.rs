//! Connecting to another server.

use crate::corked::Corked;
use crate::hub::HubMessage;
use crate::link::{self, Origin, Wiring};
use crate::socket::{self, Socket};
use socp_core::server::{DialId, Input};
use socp_proto::KeyText;
use socp_proto::limits::DIAL_WAIT_MAX_MS;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// Dials and, if that works, runs the link.
pub(crate) async fn dial(wiring: Arc<Wiring>, dial: DialId, host: String, port: u16, key: Option<KeyText>) {
    let wait = Duration::from_millis(DIAL_WAIT_MAX_MS);
    let turn = wiring.dialling.acquire().await;
    let connected = tokio::time::timeout(wait, connect(&host, port)).await;
    drop(turn);
    wiring.metrics.dialled(matches!(connected, Ok(Ok(_))));
    let reason = match connected {
        Ok(Ok(socket)) => {
            let (sink, stream) = socket::split(socket);
            return link::run(wiring, Origin::Dialled(dial, key), sink, stream).await;
        }
        Ok(Err(reason)) => reason,
        Err(_) => format!("no answer within {} s", wait.as_secs()),
    };
    let _stopping = wiring
        .hub
        .send(HubMessage::core(Input::DialFailed { dial, reason }))
        .await;
}

async fn connect(host: &str, port: u16) -> Result<Socket, String> {
    let bare_host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare_host, port))
        .await
        .map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let url = format!("ws://{host}:{port}/");
    let connected = tokio_tungstenite::client_async_with_config(url, Corked::new(stream), Some(socket::config())).await;
    connected.map(|(socket, _)| socket).map_err(|error| error.to_string())
}
