//! A netlink socket: requests in batches, answers by sequence number, dumps that are complete or fail.
//!
//! Messages are built and read elsewhere; here they are bytes behind the 16-byte header. Many requests go out in one
//! `send` with an acknowledgement asked for the last only: the kernel works them off in order inside the call, and
//! reports failures of the others by their sequence number (kernel-programming 4: 300 000 routes a second, against
//! 120 000 one by one).

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use libc::MSG_DONTWAIT;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

mod message;

use message::verdict;
pub(super) use message::{HEADER, Message, Refusal, attributes, messages, push_attribute};

pub(super) const NLM_F_REQUEST: u16 = 0x1;
pub(super) const NLM_F_ACK: u16 = 0x4;
pub(super) const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLM_F_REPLACE: u16 = 0x100;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Requests in one `send`. Were all of them to fail, the reports still fit the default receive buffer.
const BATCH: usize = 128;
/// Bytes in one `send`; the default send buffer takes 212 960.
const BATCH_BYTES: usize = 1 << 17;
/// A dump during which the table changed is repeated so many times before it counts as failed.
const DUMP_ATTEMPTS: usize = 20;
/// The kernel answers before `send` returns; whoever waits this long waits for nothing.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A request without its header.
pub(super) struct Request {
    /// Message type.
    pub(super) kind: u16,
    /// Flags besides REQUEST and ACK.
    pub(super) flags: u16,
    /// What follows the header.
    pub(super) body: Vec<u8>,
}

/// A socket of one netlink family.
pub(super) struct NetlinkSocket {
    socket: Socket,
    port: u32,
    sequence: u32,
    received: Vec<u8>,
}

impl NetlinkSocket {
    /// Opens one; `protocol` as `NETLINK_ROUTE`.
    pub(super) fn open(protocol: isize) -> io::Result<NetlinkSocket> {
        let mut socket = Socket::new(protocol)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        // Without strict checks the kernel ignores what a dump request asks for and sends everything. Kernels before 4.20
        // lack it; what comes back is filtered here in any case.
        let _ = socket.set_netlink_get_strict_chk(true);
        let timeout = TimeVal::new(ANSWER_WITHIN.as_secs() as i64, 0);
        setsockopt(&socket.as_fd(), sockopt::ReceiveTimeout, &timeout)?;
        Ok(NetlinkSocket { socket, port, sequence: 0, received: Vec::with_capacity(1 << 17) })
    }

    /// Its port: the sender named in notifications of what it did.
    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// Makes room for transactions of this size and all that may be said of them. Without privileges in the first user
    /// namespace the kernel grants less.
    pub(super) fn set_buffers(&self, bytes: usize) -> io::Result<()> {
        let socket = self.socket.as_fd();
        if setsockopt(&socket, sockopt::SndBufForce, &bytes).is_err() {
            setsockopt(&socket, sockopt::SndBuf, &bytes)?;
        }
        if setsockopt(&socket, sockopt::RcvBufForce, &bytes).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &bytes)?;
        }
        Ok(())
    }

    /// The number the next message gets.
    pub(super) fn next_sequence(&self) -> u32 {
        self.sequence.wrapping_add(1)
    }

    /// Sends a batch of messages numbered from `first` to `end`, of which the kernel takes all or none, and returns what it
    /// refused. `last` is the one that is acknowledged.
    pub(super) fn transaction(
        &mut self,
        bytes: &[u8],
        first: u32,
        last: u32,
        end: u32,
    ) -> Result<Vec<(u32, Refusal)>, Refusal> {
        self.sequence = end;
        self.send(bytes)?;
        let (mut refusals, mut done) = (Vec::new(), false);
        // The kernel has said everything before `send` returned.
        while self.receive_queued()? {
            for message in messages(&self.received) {
                let ours = message.sequence.wrapping_sub(first) <= end.wrapping_sub(first);
                if message.kind != NLMSG_ERROR || !ours {
                    continue;
                }
                match verdict(&message) {
                    Ok(()) => done |= message.sequence == last,
                    Err(refusal) => refusals.push((message.sequence, refusal)),
                }
            }
        }
        if refusals.is_empty() && !done {
            return Err(Refusal::from(io::Error::from(Errno::EBADMSG)));
        }
        Ok(refusals)
    }

    /// Sends requests in order; the answers are in the same order. Each stands alone.
    pub(super) fn batch(&mut self, requests: &[Request]) -> Vec<Result<(), Refusal>> {
        let mut answers = Vec::with_capacity(requests.len());
        for part in parts(requests) {
            match self.send_part(part) {
                Ok(part_answers) => answers.extend(part_answers),
                // What became of the part is not known: each of its requests counts as failed and is read back.
                Err(error) => answers.extend(part.iter().map(|_| Err(Refusal::from(copy(&error))))),
            }
        }
        answers
    }

    /// Sends one request and waits for its acknowledgement.
    pub(super) fn acknowledged(&mut self, request: Request) -> Result<(), Refusal> {
        self.batch(&[request]).pop().unwrap_or(Ok(()))
    }

    fn send_part(&mut self, part: &[Request]) -> io::Result<Vec<Result<(), Refusal>>> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for (place, request) in part.iter().enumerate() {
            let ack = if place + 1 == part.len() { NLM_F_ACK } else { 0 };
            self.append(&mut bytes, request, ack);
        }
        let last = self.sequence;
        self.send(&bytes)?;
        let mut answers: Vec<Result<(), Refusal>> = part.iter().map(|_| Ok(())).collect();
        loop {
            self.receive()?;
            let mut done = false;
            for message in messages(&self.received) {
                let place = message.sequence.wrapping_sub(first) as usize;
                // Answers to an earlier part whose end was never seen.
                if place >= answers.len() || message.kind != NLMSG_ERROR {
                    continue;
                }
                answers[place] = verdict(&message);
                done |= message.sequence == last;
            }
            if done {
                return Ok(answers);
            }
        }
    }

    /// Asks for a dump and hands each message of a complete one to `each`, which turns it into what the caller keeps.
    pub(super) fn dump<T>(
        &mut self,
        request: &Request,
        mut each: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Refusal> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(found) = self.dump_once(request, &mut each)? {
                return Ok(found);
            }
        }
        Err(Refusal::from(io::Error::from(Errno::EINTR)))
    }

    /// `None` when the table changed meanwhile and the dump may have holes.
    fn dump_once<T>(
        &mut self,
        request: &Request,
        each: &mut impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, Refusal> {
        let mut bytes = Vec::new();
        self.append(&mut bytes, request, NLM_F_DUMP);
        self.send(&bytes)?;
        let (mut found, mut torn) = (Vec::new(), false);
        loop {
            self.receive()?;
            for message in messages(&self.received) {
                if message.sequence != self.sequence {
                    continue;
                }
                torn |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_DONE => {
                        // A dump that broke off says so in its last message.
                        let code =
                            message.body.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
                        return match code {
                            0 if torn => Ok(None),
                            0 => Ok(Some(found)),
                            code if -code == Errno::EINTR as i32 => Ok(None),
                            code => Err(Refusal::from(io::Error::from_raw_os_error(-code))),
                        };
                    }
                    NLMSG_ERROR => match verdict(&message) {
                        Ok(()) => return Ok(Some(found)),
                        Err(refusal) => return Err(refusal),
                    },
                    _ => found.extend(each(&message)),
                }
            }
        }
    }

    /// Sends a request that is answered by exactly one message.
    pub(super) fn ask<T>(
        &mut self,
        request: &Request,
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<T, Refusal> {
        let mut bytes = Vec::new();
        self.append(&mut bytes, request, 0);
        self.send(&bytes)?;
        loop {
            self.receive()?;
            for message in messages(&self.received) {
                if message.sequence != self.sequence {
                    continue;
                }
                if message.kind == NLMSG_ERROR {
                    verdict(&message)?;
                }
                return read(&message).ok_or_else(|| Refusal::from(io::Error::from(Errno::EBADMSG)));
            }
        }
    }

    fn append(&mut self, bytes: &mut Vec<u8>, request: &Request, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let length = HEADER + request.body.len();
        bytes.extend_from_slice(&(length as u32).to_ne_bytes());
        bytes.extend_from_slice(&request.kind.to_ne_bytes());
        bytes.extend_from_slice(&(request.flags | flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&request.body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
        }
    }

    /// False when nothing is left.
    fn receive_queued(&mut self) -> io::Result<bool> {
        loop {
            self.received.clear();
            match self.socket.recv(&mut self.received, MSG_DONTWAIT) {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        loop {
            self.received.clear();
            match self.socket.recv(&mut self.received, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Cuts requests into what fits one `send` and its answers.
fn parts(requests: &[Request]) -> impl Iterator<Item = &[Request]> {
    let mut rest = requests;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(BATCH).take_while(|request| {
            bytes += HEADER + request.body.len() + 4;
            bytes <= BATCH_BYTES
        });
        let count = fits.count().max(1).min(rest.len());
        let (part, after) = rest.split_at(count);
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
