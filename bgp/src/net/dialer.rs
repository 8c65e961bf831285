//! One attempt to connect.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};

use super::AbortOnDrop;
use super::md5_drops::Md5Drops;
use super::socket::{Security, dialling};
use crate::config::PeerId;

/// An attempt under way; dropping it ends it.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) peer: PeerId,
    _task: AbortOnDrop,
    /// With a TCP-MD5 key: what the kernel had dropped when it began.
    before: Option<Md5Drops>,
}

impl Attempt {
    pub(super) fn new(peer: PeerId, task: AbortOnDrop, signed: bool) -> Attempt {
        Attempt { peer, _task: task, before: signed.then(Md5Drops::read) }
    }

    /// What may be wrong when nothing came for an answer.
    pub(super) fn suspicion(&self) -> Option<String> {
        let drops = Md5Drops::read().since(self.before?).to_string();
        let seen =
            if drops.is_empty() { drops } else { format!("; of segments dropped meanwhile it was {drops}") };
        Some(format!("connect: no answer; is the TCP-MD5 key that of the peer?{seen}"))
    }
}

/// Connects to a peer.
///
/// # Errors
/// What the kernel says, or a protection that cannot be set.
pub(super) async fn dial(to: SocketAddr, from: Option<IpAddr>, security: Security) -> io::Result<TcpStream> {
    let socket = dialling(to, from, &security)?;
    TcpSocket::from_std_stream(socket.into()).connect(to).await
}
