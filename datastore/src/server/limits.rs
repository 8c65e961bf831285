//! What a flood of clients may cost: bounds on connections, streams, watches, requests and stored bytes, and the gates
//! that hold them.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, Stream, stream};
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Bounds of a server. Beyond them it refuses, or lets wait; it does not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections; further ones are closed at once.
    pub connections: usize,
    /// Requests and streams under way on one connection; the client waits with further ones (HTTP/2).
    pub per_connection: u32,
    /// Watch and keep-alive streams on all connections; further ones are refused.
    pub streams: usize,
    /// Watches on all streams; further ones are refused.
    pub watches: usize,
    /// Requests to keys under way; further ones are refused.
    pub requests: usize,
    /// How many of them may be larger than 256 KiB; further ones are refused.
    pub large_requests: usize,
    /// Bytes of keys, values and leases, history included, beyond which writes are refused as by an etcd over its
    /// quota. All of it is in memory.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 512,
            per_connection: 256,
            streams: 2048,
            watches: 16_384,
            requests: 2048,
            large_requests: 128,
            bytes: 1 << 30,
        }
    }
}

/// From how many bytes on a request is a large one.
const LARGE: usize = 256 << 10;
/// How long a new connection may stay silent.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a request to keys may take from its first byte to the answer; as long as etcd's (`ReqTimeout`), roughly.
const REQUEST: Duration = Duration::from_secs(15);
/// Pause after the system refused a connection, such as for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Counters behind [`Limits`], shared by all services.
#[derive(Clone, Debug)]
pub(super) struct Gates {
    pub(super) limits: Limits,
    streams: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    large_requests: Arc<Semaphore>,
    snapshots: Arc<Semaphore>,
}

impl Gates {
    pub(super) fn new(limits: Limits) -> Gates {
        Gates {
            limits,
            streams: Arc::new(Semaphore::new(limits.streams)),
            watches: Arc::new(Semaphore::new(limits.watches)),
            requests: Arc::new(Semaphore::new(limits.requests)),
            large_requests: Arc::new(Semaphore::new(limits.large_requests)),
            snapshots: Arc::new(Semaphore::new(1)),
        }
    }

    /// A place for a stream, or etcd's refusal.
    pub(super) fn stream(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.streams.clone().try_acquire_owned().map_err(|_| Status::resource_exhausted(TOO_MANY))
    }

    /// A place for a watch.
    pub(super) fn watch(&self) -> Option<OwnedSemaphorePermit> {
        self.watches.clone().try_acquire_owned().ok()
    }

    /// The place of the one snapshot at a time: each is a copy on the disk.
    pub(super) fn snapshot(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.snapshots.clone().try_acquire_owned().map_err(|_| Status::resource_exhausted(TOO_MANY))
    }

    /// A service whose requests count. None waits for its turn: what it had sent already would fill the connection's
    /// window, and nobody on that connection would get on.
    pub(super) fn gated<S>(&self, inner: S) -> Gated<S> {
        Gated { inner, gates: self.clone() }
    }
}

/// etcd's words (`rpctypes.ErrGRPCRequestTooManyRequests`).
pub(super) const TOO_MANY: &str = "etcdserver: too many requests";

/// A service behind [`Gates::gated`].
#[derive(Clone, Debug)]
pub(super) struct Gated<S> {
    inner: S,
    gates: Gates,
}

impl<S: NamedService> NamedService for Gated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Ok(place) = self.gates.requests.clone().try_acquire_owned() else {
            return Box::pin(async { Ok(Status::resource_exhausted(TOO_MANY).into_http()) });
        };
        let large = Arc::new(OnceLock::new());
        let request = request.map(|body| {
            let (gate, large) = (self.gates.large_requests.clone(), large.clone());
            Body::new(Metered { body, read: 0, gate, large })
        });
        let answer = self.inner.call(request);
        Box::pin(async move {
            // Both places are held until the request is done with, not only read.
            let _places = (place, large);
            let late = |_| Ok(Status::unavailable("etcdserver: request timed out").into_http());
            tokio::time::timeout(REQUEST, answer).await.unwrap_or_else(late)
        })
    }
}

/// A request's body, which takes a place among the large ones when it turns out to be one.
struct Metered {
    body: Body,
    read: usize,
    gate: Arc<Semaphore>,
    large: Arc<OnceLock<OwnedSemaphorePermit>>,
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        self.read += bytes.map_or(0, Bytes::len);
        if self.read > LARGE && self.large.get().is_none() {
            let Ok(place) = self.gate.clone().try_acquire_owned() else {
                return Poll::Ready(Some(Err(Status::resource_exhausted(TOO_MANY))));
            };
            // Nobody else sets it.
            let _ = self.large.set(place);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// Connections as they come, as many at once as the limit says.
pub(super) fn incoming(socket: TcpListener, limit: usize) -> impl Stream<Item = io::Result<Admitted>> {
    let places = Arc::new(Semaphore::new(limit));
    stream::unfold((socket, places), |(socket, places)| async move {
        loop {
            let (stream, from) = match socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "no connection accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                tracing::debug!(%from, "connection closed: the limit of connections is reached");
                continue;
            };
            // Without it answers are only slower.
            let _ = stream.set_nodelay(true);
            let silence = Some(Box::pin(tokio::time::sleep(SILENCE)));
            return Some((Ok(Admitted { stream, silence, _place: place }), (socket, places)));
        }
    })
}

/// A connection that counts while it lives, and must say something soon.
#[derive(Debug)]
pub(super) struct Admitted {
    stream: TcpStream,
    /// Until the first byte.
    silence: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Admitted {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Admitted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.silence = None;
        } else if let Some(silence) = &mut self.silence
            && silence.poll_unpin(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Admitted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
