//! Connections under TCP-MD5. The kernel takes a new key for a connection while it lives: segments under the old key
//! are dropped from then on, and sent again under the new one as soon as both ends have it.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use super::socket::set_md5_key;
use crate::speaker::ConnId;

/// A second descriptor of each connection of a peer with a password.
#[derive(Debug, Default)]
pub(super) struct Keyed(BTreeMap<ConnId, (IpAddr, OwnedFd)>);

impl Keyed {
    /// Takes note of a connection to `peer`, and sees to it that it has this key: it may have begun under another one.
    pub(super) fn insert(
        &mut self,
        conn: ConnId,
        socket: &impl AsFd,
        peer: IpAddr,
        password: &str,
    ) -> io::Result<()> {
        set_md5_key(socket, peer, Some(password))?;
        self.0.insert(conn, (peer, socket.as_fd().try_clone_to_owned()?));
        Ok(())
    }

    /// Lets go of a connection; it cannot close before that.
    pub(super) fn remove(&mut self, conn: ConnId) {
        self.0.remove(&conn);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Gives all connections to `peer` a new key. Returns those that could not get it, and why.
    pub(super) fn change(&self, peer: IpAddr, password: &str) -> Vec<(ConnId, io::Error)> {
        let of_peer = self.0.iter().filter(|(_, (other, _))| *other == peer);
        of_peer
            .filter_map(|(conn, (_, socket))| Some((*conn, set_md5_key(socket, peer, Some(password)).err()?)))
            .collect()
    }
}
