//! Packets seen on a wire, read by tcpdump.
//!
//! tcpdump insists on becoming another user when it is root, and a sandbox of an ordinary user has no other. So the
//! packets are taken here, and tcpdump reads them from a file as a user of no consequence.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
};
use nix::sys::time::TimeVal;

use crate::eventually::{eventually, seconds};
use crate::netns::Netns;
use crate::node::LAB_DIR;
use crate::process::{Output, Run};

/// Longest frame kept; longer ones are cut, as tcpdump does.
const SNAP_LENGTH: u32 = 65_535;
/// How often the reader looks whether it should stop.
const LOOK_UP: i64 = 50_000;

type Frames = Arc<Mutex<Vec<Frame>>>;

#[derive(Clone, Debug)]
struct Frame {
    at: Duration,
    length: u32,
    bytes: Vec<u8>,
}

/// A capture under way on one interface, both directions.
#[derive(Debug)]
pub struct Capture {
    frames: Frames,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    file: PathBuf,
    filter: String,
}

impl Capture {
    /// Starts it on an interface of a namespace. `filter` is tcpdump's language.
    ///
    /// # Errors
    /// When there is no such interface or no socket is to be had.
    pub fn start(netns: &Netns, interface: &str, filter: &str) -> Result<Capture> {
        let (socket, index) = netns.enter(|| open(interface))??;
        let frames = Frames::default();
        let stop = Arc::new(AtomicBool::new(false));
        let reader = {
            let (frames, stop) = (Arc::clone(&frames), Arc::clone(&stop));
            std::thread::spawn(move || read(&socket, index, &frames, &stop))
        };
        let file = PathBuf::from(LAB_DIR).join(format!("{}-{interface}.pcap", netns.name()));
        Ok(Capture { frames, stop, reader: Some(reader), file, filter: filter.to_owned() })
    }

    /// Waits until tcpdump's description of the packets so far contains `text` and returns it.
    ///
    /// # Errors
    /// When no such packet comes.
    pub fn wait_for(&self, text: &str) -> Result<Output> {
        eventually(&format!("a packet with {text:?}"), seconds(5), || {
            let seen = self.read_by_tcpdump()?;
            ensure!(seen.stdout.contains(text), "{:?}", seen.stdout);
            Ok(seen)
        })
    }

    /// tcpdump's description of the packets so far.
    ///
    /// # Errors
    /// When tcpdump fails, say at the filter.
    pub fn read_by_tcpdump(&self) -> Result<Output> {
        let frames = self.frames.lock().map_or_else(|poisoned| poisoned.into_inner().clone(), |f| f.clone());
        fs::write(&self.file, pcap(&frames))
            .with_context(|| format!("cannot write {}", self.file.display()))?;
        let tcpdump = format!("tcpdump -n -t -v -r {}", self.file.display());
        let run = Run::line(&format!("unshare --user --map-user=1000 {tcpdump}")).arg(&self.filter);
        let mut output = run.output()?;
        output.require()?;
        output.command = format!("{tcpdump} {}", self.filter);
        output.stderr.clear();
        Ok(output)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// A socket that gets every frame of the current namespace, and the interface's index.
fn open(interface: &str) -> Result<(OwnedFd, usize)> {
    let index = if_nametoindex(interface).with_context(|| format!("no interface {interface}"))?;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
        .context("no packet socket")?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(0, LOOK_UP)).context("no receive timeout")?;
    Ok((socket, usize::try_from(index)?))
}

fn read(socket: &OwnedFd, index: usize, frames: &Frames, stop: &AtomicBool) {
    let mut buffer = vec![0; SNAP_LENGTH as usize];
    while !stop.load(Ordering::Relaxed) {
        let (length, from) = match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            // The namespace's interfaces are going away.
            Err(_) => return,
        };
        if from.is_some_and(|from| from.ifindex() == index) {
            let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let bytes = buffer[..length.min(buffer.len())].to_vec();
            let frame = Frame { at, length: u32::try_from(length).unwrap_or(SNAP_LENGTH), bytes };
            if let Ok(mut frames) = frames.lock() {
                frames.push(frame);
            }
        }
    }
}

/// The classic pcap file format, Ethernet, in this machine's byte order.
fn pcap(frames: &[Frame]) -> Vec<u8> {
    const MAGIC: u32 = 0xa1b2_c3d4;
    const VERSION: [u16; 2] = [2, 4];
    const ETHERNET: u32 = 1;
    let mut file = Vec::new();
    file.extend_from_slice(&MAGIC.to_ne_bytes());
    for part in VERSION {
        file.extend_from_slice(&part.to_ne_bytes());
    }
    for value in [0, 0, SNAP_LENGTH, ETHERNET] {
        file.extend_from_slice(&u32::to_ne_bytes(value));
    }
    for frame in frames {
        let stored = u32::try_from(frame.bytes.len()).unwrap_or(SNAP_LENGTH);
        let seconds = u32::try_from(frame.at.as_secs()).unwrap_or(u32::MAX);
        for value in [seconds, frame.at.subsec_micros(), stored, frame.length] {
            file.extend_from_slice(&value.to_ne_bytes());
        }
        file.extend_from_slice(&frame.bytes);
    }
    file
}
