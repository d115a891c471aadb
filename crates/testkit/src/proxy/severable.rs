//! Connections that a request handler can cut before it has answered.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    extract::connect_info::Connected,
    response::{IntoResponse, Response},
    serve::{IncomingStream, Listener},
};
use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// A listener whose connections can be cut.
pub(super) struct Severable(pub(super) TcpListener);

/// One connection, as its request handlers see it.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Arc<AtomicBool>);

impl Line {
    /// Cuts the connection. The response is a formality: not a byte of it is written.
    pub(super) fn sever(&self) -> Response {
        self.0.store(true, Ordering::SeqCst);
        StatusCode::BAD_GATEWAY.into_response()
    }
}

impl Connected<IncomingStream<'_, Severable>> for Line {
    fn connect_info(stream: IncomingStream<'_, Severable>) -> Self {
        stream.remote_addr().clone()
    }
}

impl Listener for Severable {
    type Io = Stream;
    type Addr = Line;

    async fn accept(&mut self) -> (Stream, Line) {
        let (socket, _) = Listener::accept(&mut self.0).await;
        // Small writes must not wait for each other; a client that counts milliseconds would see it.
        drop(socket.set_nodelay(true));
        let line = Line::default();
        let stream = Stream {
            socket,
            line: line.clone(),
        };
        (stream, line)
    }

    fn local_addr(&self) -> io::Result<Line> {
        Ok(Line::default())
    }
}

/// A socket that refuses to write once it is cut, which makes the server close it.
pub(super) struct Stream {
    socket: TcpStream,
    line: Line,
}

impl Stream {
    fn whole(&self) -> io::Result<()> {
        if self.line.0.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.whole()?;
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.whole()?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
