//! A connection, with or without TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::TlsStream;

type Session = Box<TlsStream<TcpStream>>;

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// As the network has it.
    Plain(TcpStream),
    /// In a session.
    Tls(Session),
}

/// What comes.
#[derive(Debug)]
pub enum ReadHalf {
    /// As the network has it.
    Plain(OwnedReadHalf),
    /// In a session.
    Tls(tokio::io::ReadHalf<Session>),
}

/// What goes.
#[derive(Debug)]
pub enum WriteHalf {
    /// As the network has it.
    Plain(OwnedWriteHalf),
    /// In a session.
    Tls(tokio::io::WriteHalf<Session>),
}

impl Stream {
    /// Two halves for two tasks.
    #[must_use]
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Plain(stream) => {
                let (reading, writing) = stream.into_split();
                (ReadHalf::Plain(reading), WriteHalf::Plain(writing))
            }
            Self::Tls(stream) => {
                let (reading, writing) = tokio::io::split(stream);
                (ReadHalf::Tls(reading), WriteHalf::Tls(writing))
            }
        }
    }
}

/// Both kinds read alike.
macro_rules! reads {
    ($($of:ty),*) => {$(
        impl AsyncRead for $of {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
                    Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
                }
            }
        }
    )*};
}

/// Both kinds write alike.
macro_rules! writes {
    ($($of:ty),*) => {$(
        impl AsyncWrite for $of {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
                    Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                parts: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
                    Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::Plain(stream) => stream.is_write_vectored(),
                    Self::Tls(stream) => stream.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
                    Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
                    Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
                }
            }
        }
    )*};
}

reads!(Stream, ReadHalf);
writes!(Stream, WriteHalf);
