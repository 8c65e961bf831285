//! A kernel to load rule-sets into: user and network namespaces of the test's own, and a socket in them.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use tortie_policy::Ruleset;
use tortie_policy::change::Change;
use tortie_policy::netlink::read::{Held, Query, is_awake, table};
use tortie_policy::netlink::transaction::{Table, Transaction};

const DONT_WAIT: i32 = 0x40;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const DUMP: u16 = 0x300;

/// Runs `body` in namespaces of its own; `test` is the name of the calling test.
pub(crate) fn inside(test: &str, body: impl FnOnce()) {
    const MARK: &str = "TORTIE_TEST_NAMESPACE";
    if std::env::var_os(MARK).is_some() {
        return body();
    }
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .env("PATH", path)
        .status()
        .expect("unshare(1) of util-linux is needed");
    assert!(status.success(), "{test} failed inside its namespaces");
}

/// Runs nft with this input and returns what it prints.
pub(crate) fn nft(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("nft is needed: install the package nftables");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nft {arguments:?}: {} {words}\n{input}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything in the namespace as nft lists it: objects sorted, since their order is that of their creation.
pub(crate) fn listing() -> Vec<String> {
    let listed = nft(&["list", "ruleset"], "");
    let mut objects: Vec<String> =
        listed.split("\n\n").map(|text| text.trim_matches('\n').to_owned()).collect();
    for object in &mut objects {
        *object = object.replace("table inet tortie {\n", "");
        *object = object.strip_suffix("\n}").unwrap_or(object).to_owned();
    }
    objects.sort();
    objects
}

/// A socket that makes transactions.
pub(crate) struct Kernel {
    socket: Socket,
    sequence: u32,
    pub(crate) exists: bool,
}

impl Kernel {
    pub(crate) fn open() -> Kernel {
        let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
        socket.bind_auto().unwrap();
        socket.connect(&SocketAddr::new(0, 0)).unwrap();
        socket.set_cap_ack(true).unwrap();
        // As much as is allowed without privileges.
        setsockopt(&socket.as_fd(), sockopt::SndBuf, &(1 << 24)).unwrap();
        Kernel { socket, sequence: 1, exists: false }
    }

    /// Makes a transaction; refusals name the object.
    pub(crate) fn commit(&mut self, changes: &[Change]) -> Result<(), Vec<String>> {
        let table = Table { exists: self.exists, flags: 0 };
        let made = Transaction::new(changes, table, self.sequence);
        self.sequence = made.end().wrapping_add(1);
        self.socket.send(made.bytes(), 0).map_err(|error| vec![error.to_string()])?;
        let (mut refused, mut acknowledged) = (Vec::new(), false);
        for (kind, sequence, body) in self.received() {
            if kind == NLMSG_ERROR {
                let code = i32::from_ne_bytes(*body.first_chunk().unwrap());
                acknowledged |= code == 0 && sequence == made.last();
                if code != 0 {
                    let why = std::io::Error::from_raw_os_error(-code);
                    refused.push(format!("{}: {why}", made.subject(sequence, changes)));
                }
            }
        }
        assert!(acknowledged || !refused.is_empty(), "no word of the transaction");
        self.exists |= refused.is_empty();
        if refused.is_empty() { Ok(()) } else { Err(refused) }
    }

    /// What the table holds, compared with what is expected; `None` as well when there is no table.
    pub(crate) fn read(&mut self, expected: &Ruleset) -> Option<Ruleset> {
        let mut held = Held::default();
        let (flags, _) = table(&self.ask(&Query::table(), 0).pop()?)?;
        is_awake(flags).then_some(())?;
        self.ask(&Query::chains(), DUMP).iter().for_each(|body| held.chain(body));
        self.ask(&Query::rules(), DUMP).iter().for_each(|body| held.rule(body));
        self.ask(&Query::sets(), DUMP).iter().for_each(|body| held.set(body));
        for name in held.set_names() {
            self.ask(&Query::elements(&name), DUMP).iter().for_each(|body| held.elements(body));
        }
        held.ruleset(expected)
    }

    /// Bodies of the answers.
    fn ask(&mut self, query: &Query, flags: u16) -> Vec<Vec<u8>> {
        let mut bytes = ((16 + query.body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(query.kind.to_ne_bytes());
        bytes.extend((flags | 1).to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&query.body);
        self.sequence += 1;
        self.socket.send(&bytes, 0).unwrap();
        let received = self.received().into_iter();
        received.filter(|(kind, ..)| *kind > NLMSG_DONE).map(|(_, _, body)| body).collect()
    }

    /// Everything queued: the kernel answers before `send` returns.
    fn received(&mut self) -> Vec<(u16, u32, Vec<u8>)> {
        let mut found = Vec::new();
        let mut buffer = Vec::with_capacity(1 << 17);
        while self.socket.recv(&mut buffer, DONT_WAIT).is_ok() {
            let mut rest = &buffer[..];
            while rest.len() >= 16 {
                let length = u32::from_ne_bytes(*rest.first_chunk().unwrap()) as usize;
                let kind = u16::from_ne_bytes([rest[4], rest[5]]);
                let sequence = u32::from_ne_bytes(*rest[8..].first_chunk().unwrap());
                found.push((kind, sequence, rest[16..length].to_vec()));
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
            buffer.clear();
        }
        found
    }
}

/// Loads a whole rule-set by nft.
pub(crate) fn load_by_nft(ruleset: &Ruleset) {
    nft(&["-f", "-"], &tortie_policy::nft::render(ruleset));
}
