//! Socket options: reuse, no delay, TCP-MD5 (RFC 2385) and GTSM (RFC 5082). The only unsafe code of the crate.
//!
//! An option that protects a session and cannot be set is an error: the session must not come up without it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Connections that may wait to be accepted; a whole mesh dials at once (bgp-behaviour appendix E).
pub(super) const BACKLOG: i32 = 4096;
/// Longest TCP-MD5 key Linux takes.
const MAX_KEY: usize = 80;

/// Protection of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Security {
    pub(super) password: Option<String>,
    pub(super) ttl_security: Option<u8>,
}

/// A socket to dial with.
pub(super) fn dialling(to: SocketAddr, from: Option<IpAddr>, security: &Security) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(from) = from {
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    if let Some(password) = &security.password {
        set_md5_key(&socket, to.ip(), Some(password))?;
    }
    set_hop_limit(&socket, to.ip(), security)?;
    Ok(socket)
}

/// A socket to listen on, not listening yet: its keys come first.
pub(super) fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Peers with GTSM judge the answer to their SYN already, before we know who they are (RFC 5082 3).
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_unicast_hops_v6(255)?;
    } else {
        socket.set_ttl_v4(255)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// GTSM: sends with the highest hop limit and takes only what can have lost few of it on the way.
pub(super) fn set_hop_limit(socket: &impl AsFd, peer: IpAddr, security: &Security) -> io::Result<()> {
    let Some(hops) = security.ttl_security else { return Ok(()) };
    let least = 256 - i32::from(hops.max(1));
    let (level, limit, minimum) = match peer {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TTL, libc::IP_MINTTL),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, libc::IPV6_MINHOPCOUNT),
    };
    let set = |option, value: i32| set_option(socket, level, option, &value.to_ne_bytes());
    set(limit, 255).and_then(|()| set(minimum, least)).map_err(|error| named("TTL security", &error))
}

/// Sets or removes the TCP-MD5 key for segments from and to `peer`.
pub(super) fn set_md5_key(socket: &impl AsFd, peer: IpAddr, password: Option<&str>) -> io::Result<()> {
    let key = password.unwrap_or("").as_bytes();
    if key.len() > MAX_KEY || (password.is_some() && key.is_empty()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a password has 1 to {MAX_KEY} octets"),
        ));
    }
    let value = md5_option(peer, key);
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &value).map_err(|error| named("TCP-MD5", &error))
}

/// `struct tcp_md5sig` of linux/tcp.h: address, flags, prefix length, key length, interface, key.
fn md5_option(peer: IpAddr, key: &[u8]) -> Vec<u8> {
    let mut value = sockaddr_storage(peer);
    value.extend([0, 0]);
    value.extend(u16::try_from(key.len()).unwrap_or(0).to_ne_bytes());
    value.extend(0_i32.to_ne_bytes());
    value.extend(key);
    value.resize(size_of::<libc::sockaddr_storage>() + 8 + MAX_KEY, 0);
    value
}

/// `struct sockaddr_storage` octet by octet; the port plays no part in the choice of a key.
fn sockaddr_storage(address: IpAddr) -> Vec<u8> {
    let family = SockAddr::from(SocketAddr::new(address, 0)).family();
    let mut value = family.to_ne_bytes().to_vec();
    match address {
        IpAddr::V4(address) => {
            value.extend([0; 2]);
            value.extend(address.octets());
        }
        IpAddr::V6(address) => {
            value.extend([0; 6]);
            value.extend(address.octets());
        }
    }
    value.resize(size_of::<libc::sockaddr_storage>(), 0);
    value
}

fn named(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} cannot be set: {error}"))
}

/// Lets this process have as many sockets as it may: a mesh of a thousand peers needs more than the usual soft limit of
/// 1024 descriptors. Returns the limit.
///
/// # Errors
/// When the kernel refuses.
#[expect(unsafe_code, reason = "std has no way to ask for limits")]
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a pointer to a whole `rlimit` that lives as long as the call.
    let result = unsafe {
        match libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) {
            0 if limit.rlim_cur < limit.rlim_max => {
                limit.rlim_cur = limit.rlim_max;
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
            }
            result => result,
        }
    };
    if result == 0 { Ok(limit.rlim_cur) } else { Err(io::Error::last_os_error()) }
}

#[expect(unsafe_code, reason = "std and socket2 have no setter for these options")]
fn set_option(socket: &impl AsFd, level: i32, option: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, `value` points to `length` readable octets,
    // and the kernel copies them before the call returns.
    let result =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, value.as_ptr().cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
