//! Table `inet tortie` by netlink: changes as one transaction, dumps compared with what is expected. What the messages
//! look like is the policy crate's affair.
//!
//! One socket for as long as the process lives: where the kernel allows it (Linux 6.9 and later) the table belongs to the
//! socket, so that nobody else can change it, and outlives it. Elsewhere the generation tells that something changed, and
//! a dump what.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use tortie_policy::Ruleset;
use tortie_policy::change::Change;
use tortie_policy::netlink::read::{self, Held, Query};
use tortie_policy::netlink::table_flags::{OWNER, PERSIST};
use tortie_policy::netlink::transaction::{Table, Transaction};

use super::linux::Linux;
use super::socket::{Message, NetlinkSocket, Refusal, Request};
use super::{KernelError, Rulesets};

/// A transaction has to fit the send buffer: tens of megabytes for the largest tables.
const BUFFERS: usize = 256 << 20;
/// A dump during which any table changed is repeated so often.
const READINGS: usize = 10;
/// Refusals that are told; the others follow from the same mistake as a rule.
const TOLD: usize = 3;

/// Whether others may change our table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// Nobody may while this process runs, where the kernel can see to that.
    #[default]
    Exclusive,
    /// Everybody with the privileges may; what they do is made good.
    Shared,
}

/// The socket, and what is known through it.
pub(super) struct Rules {
    socket: NetlinkSocket,
    /// Flags of a table of ours.
    flags: u32,
    exists: bool,
    /// The generation up to which the table is known to be as it was last read or written.
    known: Option<u32>,
}

impl Rules {
    pub(super) fn open(ownership: Ownership) -> Result<Rules, KernelError> {
        let failed = |error| KernelError::refused("open a netfilter socket", error);
        let mut socket = NetlinkSocket::open(NETLINK_NETFILTER).map_err(failed)?;
        socket.set_buffers(BUFFERS).map_err(failed)?;
        let flags = match ownership {
            Ownership::Exclusive => ownable(&mut socket),
            Ownership::Shared => 0,
        };
        Ok(Rules { socket, flags, exists: false, known: None })
    }

    pub(super) fn port(&self) -> u32 {
        self.socket.port()
    }

    fn read(&mut self, expected: &Ruleset) -> Result<Option<Ruleset>, KernelError> {
        self.known = None;
        let failed = |refusal: Refusal| refused("read the rules".to_owned(), refusal);
        for _ in 0..READINGS {
            let generation = self.generation().map_err(failed)?;
            if !self.take_over().map_err(failed)? {
                return Ok(None);
            }
            let found = match self.dump(expected) {
                Ok(found) => found,
                Err(refusal) if is_torn(&refusal) => continue,
                Err(refusal) => return Err(failed(refusal)),
            };
            // What was read bit by bit is whole when nobody could change it meanwhile, nobody did, or nothing is missing.
            let whole = self.flags != 0 || found.as_ref() == Some(expected);
            if whole || self.generation().map_err(failed)? == generation {
                self.known = Some(generation);
                return Ok(found);
            }
        }
        // Others change theirs all the time. To make the table anew takes no reading.
        Ok(None)
    }

    /// Whether there is a table that can be changed into what is wanted. One that outlived its owner is claimed.
    fn take_over(&mut self) -> Result<bool, Refusal> {
        let found = self.table()?;
        self.exists = found.is_some();
        let Some((flags, owner)) = found else { return Ok(false) };
        if self.flags == 0 || owner == Some(self.port()) {
            return Ok(read::is_awake(flags));
        }
        let orphan = flags & PERSIST != 0 && owner.is_none();
        Ok(orphan && read::is_awake(flags) && self.claim()?)
    }

    fn claim(&mut self) -> Result<bool, Refusal> {
        let claim = Transaction::claim(self.flags, self.socket.next_sequence());
        let refusals = self.send(&claim)?;
        if let Some((_, refusal)) = refusals.first() {
            tracing::debug!(error = %refusal.source, "table inet tortie cannot be claimed, it is made anew");
        }
        Ok(refusals.is_empty())
    }

    fn table(&mut self) -> Result<Option<(u32, Option<u32>)>, Refusal> {
        match self.socket.ask(&request(Query::table()), |message| read::table(message.body)) {
            Ok(table) => Ok(Some(table)),
            Err(refusal) if refusal.source.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    fn generation(&mut self) -> Result<u32, Refusal> {
        self.socket.ask(&request(Query::generation()), |message| read::generation(message.body))
    }

    fn dump(&mut self, expected: &Ruleset) -> Result<Option<Ruleset>, Refusal> {
        let mut held = Held::default();
        self.each(Query::chains(), |body| held.chain(body))?;
        self.each(Query::rules(), |body| held.rule(body))?;
        self.each(Query::sets(), |body| held.set(body))?;
        for name in held.set_names() {
            self.each(Query::elements(&name), |body| held.elements(body))?;
        }
        Ok(held.ruleset(expected))
    }

    /// Hands on a dump once it is complete.
    fn each(&mut self, query: Query, read: impl FnMut(&[u8])) -> Result<(), Refusal> {
        let keep = |message: &Message<'_>| Some(message.body.to_vec());
        let bodies = self.socket.dump(&request(query), keep)?;
        bodies.iter().map(Vec::as_slice).for_each(read);
        Ok(())
    }

    fn change(&mut self, changes: &[Change]) -> Result<(), KernelError> {
        let table = Table { exists: self.exists, flags: self.flags };
        let transaction = Transaction::new(changes, table, self.socket.next_sequence());
        let before = self.known.take();
        let length = transaction.bytes().len();
        let refusals = self.send(&transaction).map_err(|refusal| {
            let action = format!("send {length} bytes of changes to the rules at once");
            refused(action, refusal)
        })?;
        if !refusals.is_empty() {
            return Err(refused_batch(&transaction, changes, refusals));
        }
        self.exists = true;
        // Nobody else came between: then the table is as we know it.
        let next = before.map(|known| known.wrapping_add(1).max(1));
        self.known = self.generation().ok().filter(|now| next == Some(*now));
        Ok(())
    }

    fn send(&mut self, transaction: &Transaction) -> Result<Vec<(u32, Refusal)>, Refusal> {
        self.socket.transaction(
            transaction.bytes(),
            transaction.first(),
            transaction.last(),
            transaction.end(),
        )
    }

    fn untouched(&mut self) -> Result<bool, KernelError> {
        let failed = |refusal: Refusal| refused("read the generation of the rules".to_owned(), refusal);
        let now = self.generation().map_err(failed)?;
        if self.known == Some(now) {
            return Ok(true);
        }
        // What is ours alone nobody has touched.
        let owned =
            self.flags != 0 && self.table().map_err(failed)?.is_some_and(|(_, o)| o == Some(self.port()));
        if owned {
            self.known = Some(now);
        }
        Ok(owned)
    }
}

/// The flags that make a table our own, none where there is no such thing.
fn ownable(socket: &mut NetlinkSocket) -> u32 {
    let flags = OWNER | PERSIST;
    let question = Transaction::question(flags, socket.next_sequence());
    match socket.transaction(question.bytes(), question.first(), question.last(), question.end()) {
        Ok(refusals) if refusals.is_empty() => return flags,
        Ok(refusals) => {
            let error = refusals.first().map(|(_, refusal)| refusal.source.to_string()).unwrap_or_default();
            tracing::info!(error, "no process can own a table here: table inet tortie is watched instead");
        }
        Err(refusal) => {
            let error = refusal.source.to_string();
            tracing::warn!(
                error,
                "nobody knows whether a process can own a table here: it is watched instead"
            );
        }
    }
    0
}

/// Whether what was to be read changed meanwhile, or is gone.
fn is_torn(refusal: &Refusal) -> bool {
    [Errno::EINTR, Errno::ENOENT].map(|error| Some(error as i32)).contains(&refusal.source.raw_os_error())
}

fn request(query: Query) -> Request {
    Request { kind: query.kind, flags: 0, body: query.body }
}

fn refused(action: String, refusal: Refusal) -> KernelError {
    match refusal.words {
        Some(words) => KernelError::RefusedInWords { action, words, source: refusal.source },
        None if refusal.source.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
            KernelError::RefusedInWords {
                action,
                words: "net.core.wmem_max is too low for a process without CAP_NET_ADMIN".to_owned(),
                source: refusal.source,
            }
        }
        None => KernelError::Refused { action, source: refusal.source },
    }
}

/// The first refusals by name, and the first one's reason.
fn refused_batch(
    transaction: &Transaction,
    changes: &[Change],
    mut refusals: Vec<(u32, Refusal)>,
) -> KernelError {
    let more = refusals.len().saturating_sub(TOLD);
    let subject = |(sequence, refusal): &(u32, Refusal)| {
        format!("{}: {}", transaction.subject(*sequence, changes), refusal.source)
    };
    let mut told: Vec<String> = refusals.iter().take(TOLD).map(subject).collect();
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    let first = refusals.swap_remove(0).1;
    refused(format!("change the rules: {}", told.join("; ")), first)
}

impl Linux {
    /// The socket for rules, opened at first use: not every kernel has netfilter's netlink built in.
    pub(super) fn rules(&mut self) -> Result<&mut Rules, KernelError> {
        if self.rules.is_none() {
            self.rules = Some(Rules::open(self.ownership)?);
        }
        self.rules
            .as_mut()
            .ok_or_else(|| KernelError::refused("open a netfilter socket", io::Error::from(Errno::ENOTCONN)))
    }
}

impl Rulesets for Linux {
    fn ruleset(&mut self, expected: &Ruleset) -> Result<Option<Ruleset>, KernelError> {
        self.rules()?.read(expected)
    }

    fn change_ruleset(&mut self, changes: &[Change]) -> Result<(), KernelError> {
        self.rules()?.change(changes)
    }

    fn ruleset_untouched(&mut self) -> Result<bool, KernelError> {
        self.rules()?.untouched()
    }
}
