//! Flows of connection tracking as policy sees them, and the mark that stops them: a dump of the table, and a request for
//! each flow that is to be stopped or let go on.
//!
//! Flows are marked, not deleted. A TCP flow that is deleted comes back with its next packet, and when the other end
//! sends that one, as a flow the other way round, which policy may well allow.

use std::net::IpAddr;

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use tortie_policy::flows::Flow;
use tortie_policy::ir::FLOW_MARK;

use super::KernelError;
use super::conntrack::{
    CT_GET, CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ZONE, DESTINATION, NLA_F_NESTED, SOURCE, address, is,
};
use super::socket::{Message, NetlinkSocket, Refusal, Request, attributes, push_attribute};

/// Message NEW, which changes a connection that exists.
const CT_NEW: u16 = 1 << 8;
const CTA_STATUS: u16 = 3;
const CTA_MARK: u16 = 8;
const CTA_TUPLE_MASTER: u16 = 14;
const CTA_MARK_MASK: u16 = 21;
const CTA_TUPLE_PROTO: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
/// Type and code of ICMP, and of ICMPv6.
const ICMP: [(u16, u16); 2] = [(5, 6), (8, 9)];
/// `IPS_DST_NAT`.
const STATUS_TRANSLATED: u32 = 0x20;
/// TCP, UDP, DCCP, SCTP, UDP-Lite; the same attributes are keys of GRE.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// A flow, and what tells it from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedFlow {
    /// What policy is asked about.
    pub flow: Flow,
    /// It is stopped.
    pub refused: bool,
    /// Its name in the kernel.
    pub tuple: Vec<u8>,
    /// That of the flow that announced it, such as the control connection of FTP.
    pub master: Option<Vec<u8>>,
    /// Its address family as a number.
    pub family: u8,
    /// The zone it is in, as the kernel says it.
    pub zone: Option<Vec<u8>>,
}

/// The table of connection tracking, over a socket of its own.
pub struct FlowTable {
    socket: NetlinkSocket,
}

impl FlowTable {
    /// Opens it.
    ///
    /// # Errors
    /// When no netfilter socket can be had.
    pub fn open() -> Result<FlowTable, KernelError> {
        let socket = NetlinkSocket::open(NETLINK_NETFILTER);
        Ok(FlowTable {
            socket: socket.map_err(|error| KernelError::refused("open a netfilter socket", error))?,
        })
    }

    /// All flows for which `wanted` holds. A walk over the whole table: 2 µs a flow (kernel-programming 5).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn flows(&mut self, wanted: impl Fn(&TrackedFlow) -> bool) -> Result<Vec<TrackedFlow>, KernelError> {
        let everything = Request { kind: CT_GET, flags: 0, body: vec![0; 4] };
        let found = self.socket.dump(&everything, |message| read(message).filter(&wanted));
        found.map_err(|refusal| KernelError::refused("read the tracked flows", refusal.source))
    }

    /// Stops a flow, or lets it go on. Those that ended meanwhile do not matter.
    ///
    /// # Errors
    /// The first refusal; the others are tried.
    pub fn set_refused(&mut self, flows: &[(&TrackedFlow, bool)]) -> Result<(), KernelError> {
        let requests: Vec<Request> = flows.iter().map(|(flow, refused)| mark(flow, *refused)).collect();
        let gone = |refusal: &Refusal| is(refusal, &[Errno::ENOENT]);
        let mut refusals =
            self.socket.batch(&requests).into_iter().filter_map(Result::err).filter(|refusal| !gone(refusal));
        match refusals.next() {
            None => Ok(()),
            Some(refusal) => Err(KernelError::refused("mark the flows policy refuses", refusal.source)),
        }
    }
}

fn mark(flow: &TrackedFlow, refused: bool) -> Request {
    let mut body = vec![flow.family, 0, 0, 0];
    push_attribute(&mut body, CTA_TUPLE_ORIG | NLA_F_NESTED, &flow.tuple);
    if let Some(zone) = &flow.zone {
        push_attribute(&mut body, CTA_ZONE, zone);
    }
    let value = if refused { FLOW_MARK } else { 0 };
    push_attribute(&mut body, CTA_MARK, &value.to_be_bytes());
    // The other bits stay as they are.
    push_attribute(&mut body, CTA_MARK_MASK, &FLOW_MARK.to_be_bytes());
    Request { kind: CT_NEW, flags: 0, body }
}

/// A flow in a message of a dump; `None` for one without addresses.
fn read(message: &Message<'_>) -> Option<TrackedFlow> {
    let family = *message.body.first()?;
    let found: Vec<(u16, &[u8])> = attributes(message.body.get(4..)?).collect();
    let value = |kind| found.iter().find(|(of, _)| *of == kind).map(|(_, value)| *value);
    let number = |kind| value(kind).and_then(|raw| raw.first_chunk().map(|raw| u32::from_be_bytes(*raw)));
    let tuple = value(CTA_TUPLE_ORIG)?;
    let (first, reply) = (Ends::read(tuple)?, Ends::read(value(CTA_TUPLE_REPLY)?)?);
    let translated = number(CTA_STATUS).unwrap_or(0) & STATUS_TRANSLATED != 0;
    let dialled = (first.destination, first.ports.map_or(0, |(_, port)| port));
    let flow = Flow {
        source: first.source,
        destination: reply.source,
        original: translated.then_some(dialled),
        protocol: first.protocol,
        ports: first.ports.zip(reply.ports).map(|((source, _), (answering, _))| (source, answering)),
        icmp: first.icmp,
    };
    Some(TrackedFlow {
        flow,
        refused: number(CTA_MARK).unwrap_or(0) & FLOW_MARK != 0,
        tuple: tuple.to_vec(),
        master: value(CTA_TUPLE_MASTER).map(<[u8]>::to_vec),
        family,
        zone: value(CTA_ZONE).map(<[u8]>::to_vec),
    })
}

/// One direction of a flow.
struct Ends {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    ports: Option<(u16, u16)>,
    icmp: Option<(u8, u8)>,
}

impl Ends {
    fn read(tuple: &[u8]) -> Option<Ends> {
        let (_, transport) = attributes(tuple).find(|(kind, _)| *kind == CTA_TUPLE_PROTO)?;
        let value = |kind| attributes(transport).find(|(of, _)| *of == kind).map(|(_, value)| value);
        let octet = |kind| value(kind).and_then(|raw| raw.first().copied());
        let port = |kind| value(kind).and_then(|raw| raw.first_chunk().map(|raw| u16::from_be_bytes(*raw)));
        let protocol = octet(PROTOCOL_NUMBER)?;
        let ports = port(SOURCE_PORT).zip(port(DESTINATION_PORT));
        Some(Ends {
            source: address(tuple, SOURCE)?,
            destination: address(tuple, DESTINATION)?,
            protocol,
            ports: ports.filter(|_| WITH_PORTS.contains(&protocol)),
            icmp: ICMP.into_iter().find_map(|(kind, code)| octet(kind).zip(octet(code))),
        })
    }
}
