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

/// Length of a netlink header.
pub(super) const HEADER: usize = 16;

pub(super) const NLM_F_REQUEST: u16 = 0x1;
pub(super) const NLM_F_ACK: u16 = 0x4;
pub(super) const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLM_F_REPLACE: u16 = 0x100;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;

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

/// Why one request failed: the error number and, where the kernel gave them, its words.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) source: io::Error,
    pub(super) words: Option<String>,
}

impl From<io::Error> for Refusal {
    fn from(source: io::Error) -> Refusal {
        Refusal { source, words: None }
    }
}

/// A message as received.
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    /// Port of the socket whose request this answers or, for a notification, whose request caused it.
    pub(super) port: u32,
    pub(super) body: &'a [u8],
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

/// The messages of a datagram. A length that makes no sense ends it.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = bytes.get(..HEADER)?;
        let length = u32_at(header, 0)? as usize;
        let body = bytes.get(HEADER..length)?;
        let message = Message {
            kind: u16_at(header, 4)?,
            flags: u16_at(header, 6)?,
            sequence: u32_at(header, 8)?,
            port: u32_at(header, 12)?,
            body,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes of a message body: type without flag bits, and value.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Appends an attribute.
pub(super) fn push_attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|raw| u16::from_ne_bytes(*raw))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|raw| u32::from_ne_bytes(*raw))
}

/// What an NLMSG_ERROR says: code 0 is an acknowledgement.
fn verdict(message: &Message<'_>) -> Result<(), Refusal> {
    let code = u32_at(message.body, 0).map_or(0, |code| code as i32);
    if code == 0 {
        return Ok(());
    }
    Err(Refusal { source: io::Error::from_raw_os_error(-code), words: words(message) })
}

/// The kernel's words (extended acknowledgement) behind the code and the header of the refused request, and that
/// request's body unless capped.
fn words(message: &Message<'_>) -> Option<String> {
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let request = if message.flags & NLM_F_CAPPED != 0 { HEADER } else { u32_at(message.body, 4)? as usize };
    let tail = message.body.get(4 + request.next_multiple_of(4)..)?;
    let (_, text) = attributes(tail).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)?;
    let text = String::from_utf8_lossy(text);
    Some(text.trim_end_matches('\0').to_string())
}
