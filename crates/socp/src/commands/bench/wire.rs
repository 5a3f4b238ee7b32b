//! A client's end of a link, as cheap as it can be: the bare wire, without a profile and without verifying.

use super::content::now_ms;
use super::server::Server;
use color_eyre::eyre::{Result, WrapErr as _, bail, eyre};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use socp_client::ServerUrl;
use socp_crypto::{PrivateKey, PublicKey};
use socp_proto::limits::FRAME_BYTES_MAX;
use socp_proto::payload::{MailboxRequest, UserHello};
use socp_proto::{Capabilities, DeviceId, Draft, ErrorCode, Frame, KeyText, Payload, ServerId, UserId};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

pub(super) type Socket = WebSocketStream<socp_tls::Stream>;
pub(super) type Sink = SplitSink<Socket, Message>;
pub(super) type Stream = SplitStream<Socket>;

/// Longest wait until a server has let a client in; a new user costs it two signatures.
const HELLO_WAIT: Duration = Duration::from_secs(30);
/// Read buffer of one link; a thousand of them share a process.
const READ_BUFFER_BYTES: usize = 16 * 1024;

/// How clients say hello.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    pub(super) key: PrivateKey,
    /// What is offered beyond SOCP v1.3; nothing at all to the letter.
    pub(super) caps: Option<Capabilities>,
    /// The user's mailbox is read (PROTOCOL II.6).
    pub(super) reads: bool,
}

/// A client that is let in.
pub(super) struct Client {
    pub(super) socket: Socket,
    pub(super) server_id: ServerId,
    pub(super) server_key: PublicKey,
}

/// Connects one user.
pub(super) async fn connect(server: &Server, user: &UserId, manner: &Manner) -> Result<Client> {
    let work = async {
        let socket = dial(&server.url).await?;
        let known = server.identity.as_ref().map(|identity| identity.server_id.as_str());
        let known = known.map(ServerId::try_from).transpose()?;
        enter(socket, known, user, manner).await
    };
    let outcome = tokio::time::timeout(HELLO_WAIT, work).await;
    outcome.map_err(|_| eyre!("{} lets nobody in within {} s", server.url, HELLO_WAIT.as_secs()))?
}

pub(super) async fn dial(url: &ServerUrl) -> Result<Socket> {
    let unreachable = || format!("cannot connect to {url}");
    let (stream, _binding) = socp_client::connect(url).await.wrap_err_with(unreachable)?;
    open(url, stream).await
}

/// From one address of this machine to a server on it.
pub(super) async fn dial_from(source: Ipv4Addr, url: &ServerUrl, server: SocketAddr) -> Result<Socket> {
    let connecting = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        let stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        Ok::<_, std::io::Error>(stream)
    };
    let stream = connecting.await;
    let stream = stream.wrap_err_with(|| format!("cannot connect to {url} from {source}"))?;
    open(url, socp_tls::Stream::Plain(stream)).await
}

async fn open(url: &ServerUrl, stream: socp_tls::Stream) -> Result<Socket> {
    let unreachable = || format!("cannot connect to {url}");
    let config = WebSocketConfig::default()
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .read_buffer_size(READ_BUFFER_BYTES);
    let connecting = client_async_with_config(url.as_str(), stream, Some(config));
    let (socket, _response) = connecting.await.wrap_err_with(unreachable)?;
    Ok(socket)
}

/// Says hello; a server whose id is not known names it in its refusal (PROTOCOL I.6).
async fn enter(mut socket: Socket, mut known: Option<ServerId>, user: &UserId, manner: &Manner) -> Result<Client> {
    loop {
        let text = hello(known.clone(), user.clone(), manner.clone()).await?;
        socket.send(Message::text(text)).await?;
        let frame = next_frame(&mut socket).await?;
        if known.is_none()
            && let Payload::Error(error) = &frame.payload
            && error.code == ErrorCode::InvalidSig
        {
            known = Some(ServerId::from(frame.envelope.from));
        } else {
            return let_in(socket, frame.payload);
        }
    }
}

/// What a server says to one hello, signed ahead; nothing if it has no room now.
pub(super) async fn answer(mut socket: Socket) -> Result<Option<Client>> {
    let Ok(frame) = next_frame(&mut socket).await else {
        return Ok(None);
    };
    let_in(socket, frame.payload).map(Some)
}

/// The client, if the answer to its hello is the right one.
fn let_in(socket: Socket, answer: Payload) -> Result<Client> {
    if let Payload::Error(error) = &answer {
        bail!("the server refuses a user: {} {}", error.code, error.detail);
    }
    let kind = answer.kind().name();
    let Payload::Ack(ack) = answer else {
        bail!("the server answers a hello with {kind}");
    };
    let (Some(server_id), Some(key)) = (ack.server_id, ack.server_pub) else {
        bail!("the server lets users in without a word about itself");
    };
    let server_key = PublicKey::from_spki_der(&key.der())?;
    Ok(Client {
        socket,
        server_id,
        server_key,
    })
}

pub(super) async fn next_frame(socket: &mut Socket) -> Result<Frame> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(Frame::parse(&text)?),
            Some(Ok(Message::Close(close))) => bail!("the server closes the link instead of an answer: {}", why(close)),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error).wrap_err("the link is lost before it was of use"),
            None => bail!("the link ends before it was of use"),
        }
    }
}

/// What a close frame says.
pub(super) fn why(close: Option<tokio_tungstenite::tungstenite::protocol::CloseFrame>) -> String {
    close.map_or_else(
        || "no reason given".to_owned(),
        |close| format!("{} {}", close.code, close.reason),
    )
}

/// A signed hello; the signature is made off the threads that serve sockets.
pub(super) async fn hello(server_id: Option<ServerId>, user: UserId, manner: Manner) -> Result<String> {
    tokio::task::spawn_blocking(move || {
        let ts = now_ms()?;
        let pubkey = KeyText::from_der(manner.key.public_key().spki_der());
        let to = server_id.clone().map_or_else(socp_proto::Address::everyone, Into::into);
        let payload = Payload::UserHello(UserHello {
            client: concat!("socp-bench/", env!("CARGO_PKG_VERSION")).to_owned(),
            enc_pubkey: Some(pubkey.clone()),
            pubkey,
            caps: manner.caps,
            meta: None,
            server_id,
            ts: Some(ts),
            history: None,
            presence: None,
            mailbox: manner.reads.then_some(MailboxRequest {
                device: DeviceId::from_bytes([1; 16]),
                after: 0,
            }),
        });
        let draft = Draft::new(user, to, ts, &payload);
        let sig = manner.key.sign(draft.signed_text().as_bytes())?;
        Ok(draft.sign(&sig).to_text())
    })
    .await?
}
