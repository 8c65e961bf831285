//! Table `inet tortie` through an `nft` process: a script in, one transaction out.
//!
//! The generation counter and the digest are how a foreign change to the table is noticed; they never say what it was.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{ErrorKind, Write as _};
use std::process::{Command, Output, Stdio};

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::linux::Linux;
use super::socket::{NetlinkSocket, Request, attributes};
use super::{KernelError, Rulesets};

/// Subsystem nf_tables, message GETGEN (`linux/netfilter/nf_tables.h`).
const GETGEN: u16 = 10 << 8 | 16;
const NFTA_GEN_ID: u16 = 1;
/// What of nft's complaint is kept: it quotes the offending lines.
const MAX_WORDS: usize = 800;

impl Rulesets for Linux {
    fn load_ruleset(&mut self, script: &str) -> Result<(), KernelError> {
        let output = nft(&["-f", "-"], script)?;
        if output.status.success() { Ok(()) } else { Err(KernelError::NftRefused { words: words(&output) }) }
    }

    fn ruleset_generation(&mut self) -> Result<u32, KernelError> {
        if self.netfilter.is_none() {
            let socket = NetlinkSocket::open(NETLINK_NETFILTER);
            self.netfilter =
                Some(socket.map_err(|error| KernelError::refused("open a netfilter socket", error))?);
        }
        let Some(socket) = &mut self.netfilter else { return Ok(0) };
        let request = Request { kind: GETGEN, flags: 0, body: vec![0; 4] };
        let generation = socket.ask(&request, |message| {
            let (_, value) = attributes(message.body.get(4..)?).find(|(kind, _)| *kind == NFTA_GEN_ID)?;
            value.first_chunk().map(|raw| u32::from_be_bytes(*raw))
        });
        generation.map_err(|refusal| KernelError::refused("read the generation of the rules", refusal.source))
    }

    fn ruleset_digest(&mut self) -> Result<Option<u64>, KernelError> {
        let output = nft(&["--stateless", "list", "table", "inet", "tortie"], "")?;
        if output.status.success() {
            let mut hasher = DefaultHasher::new();
            output.stdout.hash(&mut hasher);
            return Ok(Some(hasher.finish()));
        }
        let words = words(&output);
        if words.contains("No such file or directory") {
            Ok(None)
        } else {
            Err(KernelError::NftRefused { words })
        }
    }
}

fn nft(arguments: &[&str], input: &str) -> Result<Output, KernelError> {
    let failed = |error: std::io::Error| {
        if error.kind() == ErrorKind::NotFound {
            KernelError::NftMissing
        } else {
            KernelError::refused("run nft", error)
        }
    };
    let mut child = Command::new("nft")
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // nft reads all of its input before it writes a word. One that gave up early says why on standard error.
        match stdin.write_all(input.as_bytes()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(failed(error)),
            _ => {}
        }
    }
    child.wait_with_output().map_err(failed)
}

fn words(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim();
    if text.is_empty() {
        return output.status.to_string();
    }
    match text.char_indices().nth(MAX_WORDS) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_string(),
    }
}
