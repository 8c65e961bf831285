//! One attempt to connect.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};

use super::socket::{Security, dialling};

/// Connects to a peer.
///
/// # Errors
/// What the kernel says, or a protection that cannot be set.
pub(super) async fn dial(to: SocketAddr, from: Option<IpAddr>, security: Security) -> io::Result<TcpStream> {
    let socket = dialling(to, from, &security)?;
    TcpSocket::from_std_stream(socket.into()).connect(to).await
}
