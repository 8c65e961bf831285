//! Real traffic: pings that are counted, and small TCP and UDP servers that tell a client which address they saw.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;

use crate::eventually::{eventually, seconds};
use crate::netns::Netns;
use crate::node::LAB_DIR;
use crate::process::{BIN_DIR, Daemon, Output, Run, bin_dir};

/// What `ping` counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingCount {
    /// Packets sent.
    pub sent: u32,
    /// Answers received, without duplicates.
    pub received: u32,
}

impl PingCount {
    /// Reads the summary of iputils' ping.
    ///
    /// # Errors
    /// When there is none.
    pub fn parse(text: &str) -> Result<PingCount> {
        let line = text
            .lines()
            .find(|line| line.contains(" packets transmitted"))
            .with_context(|| format!("no summary in the output of ping: {}", text.trim()))?;
        let number = |what: &str| -> Option<u32> {
            let part = line.split(", ").find(|part| part.contains(what))?;
            part.split_whitespace().next()?.parse().ok()
        };
        let (sent, received) =
            number("transmitted").zip(number("received")).context("cannot read ping's summary")?;
        Ok(PingCount { sent, received })
    }

    /// Packets without an answer.
    pub fn lost(&self) -> u32 {
        self.sent.saturating_sub(self.received)
    }
}

/// TTL of the first answer in the output of `ping`.
pub fn ping_ttl(text: &str) -> Option<u8> {
    text.split("ttl=").nth(1)?.split_whitespace().next()?.parse().ok()
}

/// A ping that runs until it is stopped.
#[derive(Debug)]
pub struct LongPing {
    daemon: Daemon,
}

impl LongPing {
    /// Starts one of 100 packets a second and waits for its first answer.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn start(netns: &Netns, to: Ipv4Addr) -> Result<LongPing> {
        LongPing::start_every("0.01", netns, to)
    }

    /// Starts one of a packet every so many seconds and waits for its first answer.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn start_every(interval: &str, netns: &Netns, to: Ipv4Addr) -> Result<LongPing> {
        let log = Path::new(LAB_DIR).join(format!("ping-{}-{to}.log", netns.name()));
        let _ = std::fs::remove_file(&log);
        let mut daemon = Daemon::start(&netns.run(&format!("ping -n -i {interval} {to}")), &log)?;
        daemon.wait_for_output("ttl=", seconds(5))?;
        Ok(LongPing { daemon })
    }

    /// Answers so far.
    pub fn answers(&self) -> usize {
        self.daemon.output().matches("ttl=").count()
    }

    /// Stops it and counts. The last packet may still be under way when ping is told to stop, so one without an answer
    /// at the very end is not counted as sent.
    ///
    /// # Errors
    /// When ping left no summary.
    pub fn stop(self) -> Result<PingCount> {
        let text = self.daemon.stop(Signal::SIGINT)?;
        let mut count = PingCount::parse(&text)?;
        let last =
            text.rsplit("icmp_seq=").next().and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        if count.lost() == 1 && last == Some(count.received) {
            count.sent = count.received;
        }
        Ok(count)
    }
}

/// Waits until each ping has so many more answers.
///
/// # Errors
/// When one has not within ten seconds.
pub fn wait_answers(pings: &[LongPing], more: usize, what: &str) -> Result<()> {
    for ping in pings {
        let goal = ping.answers() + more;
        eventually(&format!("answers {what}"), seconds(10), || {
            ensure!(ping.answers() >= goal, "{} of {goal}", ping.answers());
            Ok(())
        })?;
    }
    Ok(())
}

/// Starts a server in a namespace: it answers every TCP connection or UDP datagram with the peer's address.
///
/// # Errors
/// When it does not listen in time.
pub fn serve(netns: &Netns, protocol: &str, port: u16) -> Result<Daemon> {
    let log = Path::new(LAB_DIR).join(format!("serve-{}-{protocol}-{port}.log", netns.name()));
    let mut daemon = Daemon::start(&lab_command(netns, &format!("serve {protocol} {port}"))?, &log)?;
    daemon.wait_for_output("listening", seconds(5))?;
    Ok(daemon)
}

/// Talks to such a server from a namespace.
///
/// # Errors
/// When `tortie-lab` is not found.
pub fn connect(netns: &Netns, protocol: &str, to: Ipv4Addr, port: u16) -> Result<Output> {
    // Every refusal costs this much, so it grows less than other deadlines where everything is slow.
    let wait = seconds(1).min(Duration::from_secs(3)).as_millis();
    lab_command(netns, &format!("connect {protocol} {to} {port}"))?
        .env("TORTIE_LAB_WAIT_MS", wait.to_string())
        .output()
}

fn lab_command(netns: &Netns, line: &str) -> Result<Run> {
    let bin_dir = bin_dir()?;
    let run = netns.run(&format!("{} {line}", bin_dir.join("tortie-lab").display()));
    Ok(run.env(BIN_DIR, bin_dir.display().to_string()))
}

/// Transport of a small exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl std::str::FromStr for Transport {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Transport> {
        match text {
            "tcp" => Ok(Transport::Tcp),
            "udp" => Ok(Transport::Udp),
            other => Err(anyhow!("{other:?} is neither tcp nor udp")),
        }
    }
}

/// The server's loop.
///
/// # Errors
/// When it cannot listen.
pub fn run_server(transport: Transport, port: u16, out: &mut impl Write) -> Result<()> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    match transport {
        Transport::Tcp => {
            let listener =
                TcpListener::bind(any).with_context(|| format!("cannot listen on TCP port {port}"))?;
            writeln!(out, "listening on TCP port {port}")?;
            for stream in listener.incoming() {
                // A client that went away is its own affair.
                let _ = stream.and_then(|mut s| s.peer_addr().and_then(|peer| writeln!(s, "{}", peer.ip())));
            }
        }
        Transport::Udp => {
            let socket = UdpSocket::bind(any).with_context(|| format!("cannot listen on UDP port {port}"))?;
            writeln!(out, "listening on UDP port {port}")?;
            let mut buffer = [0; 64];
            loop {
                let (_, peer) = socket.recv_from(&mut buffer)?;
                let _ = socket.send_to(format!("{}\n", peer.ip()).as_bytes(), peer);
            }
        }
    }
    Ok(())
}

/// The client: returns the address the server saw. A UDP question is repeated, since a datagram may be lost.
///
/// # Errors
/// When no answer comes within `wait`.
pub fn run_client(transport: Transport, to: SocketAddr, wait: Duration) -> Result<IpAddr> {
    let mut text = String::new();
    match transport {
        Transport::Tcp => {
            let mut stream = TcpStream::connect_timeout(&to, wait).with_context(|| format!("TCP to {to}"))?;
            stream.set_read_timeout(Some(wait))?;
            stream
                .read_to_string(&mut text)
                .with_context(|| format!("TCP to {to}: connected, but no answer"))?;
        }
        Transport::Udp => {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(wait / 3))?;
            let mut buffer = [0; 64];
            let answer = (0..3).find_map(|_| {
                socket.send(b"who am I?").ok()?;
                socket.recv(&mut buffer).ok()
            });
            let Some(length) = answer else { bail!("UDP to {to}: no answer within {} ms", wait.as_millis()) };
            text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        }
    }
    text.trim().parse().with_context(|| format!("{to} answered {text:?}, no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_ping_are_read() {
        let text = "64 bytes from 10.0.0.1: icmp_seq=1 ttl=62 time=0.05 ms\n\n--- 10.0.0.1 ping statistics ---\n\
                    331 packets transmitted, 329 received, +1 duplicates, 0.6% packet loss, time 3301ms\n";
        let count = PingCount::parse(text).unwrap();
        assert_eq!((count.sent, count.received, count.lost()), (331, 329, 2));
        assert_eq!(ping_ttl(text), Some(62));
        assert!(PingCount::parse("connect: Network is unreachable").is_err());
    }

    #[test]
    fn a_client_learns_the_address_the_server_saw() {
        for (transport, port) in [(Transport::Tcp, 41080), (Transport::Udp, 41081)] {
            std::thread::spawn(move || run_server(transport, port, &mut Vec::new()));
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let seen =
                eventually("an answer", seconds(5), || run_client(transport, to, Duration::from_millis(300)));
            assert_eq!(seen.unwrap(), IpAddr::from(Ipv4Addr::LOCALHOST));
        }
    }
}
