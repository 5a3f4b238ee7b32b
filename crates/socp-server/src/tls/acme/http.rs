//! What carries questions to an authority: one connection for each, over TLS with a certificate that counts.

use axum::body::{Body, to_bytes};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use socp_tls::{Authorities, Stream, connect_vouched};
use std::pin::Pin;
use std::time::Duration;
use tokio::net::TcpStream;

/// From the look-up of the name to the last byte of the answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);

/// Bytes of an answer; the longest are chains of certificates.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

const HTTPS_PORT: u16 = 443;

/// Asks authorities.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) authorities: Authorities,
}

/// There is no answer.
#[derive(Debug, thiserror::Error)]
#[error("{host}: {reason}")]
pub(super) struct Unreachable {
    host: String,
    reason: String,
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let authorities = self.authorities.clone();
        Box::pin(async move {
            let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
            let answer = match tokio::time::timeout(ANSWER_WAIT_MAX, ask(request, authorities)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {} s", ANSWER_WAIT_MAX.as_secs())),
            };
            answer.map_err(|reason| Error::Other(Box::new(Unreachable { host, reason })))
        })
    }
}

async fn ask(mut request: Request<BodyWrapper<Bytes>>, authorities: Authorities) -> Result<BytesResponse, String> {
    let uri = std::mem::take(request.uri_mut());
    let stream = connect(&uri, authorities).await?;
    let named = uri.authority().map_or("", |authority| authority.as_str());
    let named = HeaderValue::from_str(named).map_err(|error| error.to_string())?;
    request.headers_mut().insert(HOST, named);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(|_| format!("{path:?} is no path"))?;

    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (parts, body) = answer.into_parts();
        let body = to_bytes(Body::new(body), ANSWER_BYTES_MAX).await;
        let body = body.map_err(|error| {
            format!("its answer cannot be read, or is longer than {ANSWER_BYTES_MAX} bytes: {error}")
        })?;
        Ok(BytesResponse {
            parts,
            body: Box::new(body),
        })
    };
    tokio::pin!(exchange, connection);
    tokio::select! {
        done = &mut exchange => done,
        // What came before its end is still read; if the answer is not whole, that is said there.
        _ended = &mut connection => exchange.await,
    }
}

async fn connect(uri: &Uri, authorities: Authorities) -> Result<Stream, String> {
    if uri.scheme_str() != Some("https") {
        return Err(format!("{uri} does not begin with https://"));
    }
    let host = uri.host().ok_or_else(|| format!("{uri} names no host"))?;
    let port = uri.port_u16().unwrap_or(HTTPS_PORT);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let connection = TcpStream::connect((bare, port))
        .await
        .map_err(|error| error.to_string())?;
    let stream = connect_vouched(connection, host, authorities).await;
    stream.map_err(|fault| fault.to_string())
}
