//! A stream that gathers what is written until it is flushed: a batch of frames costs one call of the system, and an
//! idle connection no buffer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As much as is gathered before it is written without being asked.
pub(crate) const GATHERED_BYTES_MAX: usize = 16 * 1024;

/// A stream whose writes wait for a flush. Its buffer lives from the first write to the end of the flush.
#[derive(Debug)]
pub(crate) struct Corked<S> {
    stream: S,
    gathered: Vec<u8>,
    /// How much of it is written already.
    written: usize,
}

impl<S> Corked<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            gathered: Vec::new(),
            written: 0,
        }
    }
}

impl<S: AsyncWrite + Unpin> Corked<S> {
    /// Writes all that was gathered.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.gathered.get(self.written..).filter(|rest| !rest.is_empty()) {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written = self.written.saturating_add(count);
        }
        self.gathered = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // A flush that was given up half-way is finished first: what it wrote must not be kept for good.
        if this.written > 0 || this.gathered.len().saturating_add(bytes.len()) > GATHERED_BYTES_MAX {
            ready!(this.poll_drain(cx))?;
        }
        if bytes.len() >= GATHERED_BYTES_MAX {
            return Pin::new(&mut this.stream).poll_write(cx, bytes);
        }
        this.gathered.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Counts calls, and takes only so many bytes at once.
    #[derive(Default)]
    struct Wire {
        taken: Vec<u8>,
        calls: usize,
        at_once: usize,
    }

    impl AsyncWrite for Wire {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.at_once);
            self.calls += 1;
            self.taken.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn wire(at_once: usize) -> Corked<Wire> {
        Corked::new(Wire {
            at_once,
            ..Wire::default()
        })
    }

    #[tokio::test]
    async fn many_writes_are_one_call_and_no_buffer_stays() {
        let mut corked = wire(usize::MAX);
        for _ in 0..5 {
            corked.write_all(b"frame").await.unwrap();
        }
        assert_eq!(corked.stream.calls, 0);
        corked.flush().await.unwrap();
        assert_eq!((corked.stream.calls, corked.stream.taken.len()), (1, 25));
        assert_eq!(corked.gathered.capacity(), 0);
    }

    #[tokio::test]
    async fn order_and_bounds_hold_whatever_the_wire_takes() {
        let mut corked = wire(1000);
        let mut expected = Vec::new();
        for (number, length) in (0_u8..).zip([10, GATHERED_BYTES_MAX, 7, 3 * GATHERED_BYTES_MAX, 1, 9000, 9000]) {
            let bytes = vec![number; length];
            corked.write_all(&bytes).await.unwrap();
            expected.extend(bytes);
            assert!(corked.gathered.len() <= GATHERED_BYTES_MAX);
        }
        corked.flush().await.unwrap();
        assert!(corked.stream.taken == expected);
    }

    #[tokio::test]
    async fn what_was_gathered_goes_out_before_the_end() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut corked = Corked::new(near);
        corked.write_all(b"bye").await.unwrap();
        corked.shutdown().await.unwrap();
        let mut read = String::new();
        far.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "bye");
    }
}
