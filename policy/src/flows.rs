//! Flows that connection tracking knows, judged by the rules of now. Rules let packets of known flows pass unasked; whoever
//! wants such a flow to end with the policy that allowed it has to ask again.
//!
//! Only what workloads' policy says counts. Which interface a flow of the host itself came in by, connection tracking does
//! not tell; at a workload the address does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::eval::{CtState, Outcome, Packet, eval_chains};
use crate::ir::Ruleset;

/// A flow by its first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where it came from.
    pub source: IpAddr,
    /// Where it went, after a service's translation.
    pub destination: IpAddr,
    /// Address and port it was sent to, when they were translated.
    pub original: Option<(IpAddr, u16)>,
    /// Protocol number.
    pub protocol: u8,
    /// Source port, and destination port after translation.
    pub ports: Option<(u16, u16)>,
    /// Type and code, for ICMP.
    pub icmp: Option<(u8, u8)>,
}

/// Where on this node addresses are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Interfaces of workloads by address.
    pub workloads: BTreeMap<IpAddr, String>,
    /// Addresses of the node itself.
    pub own: BTreeSet<IpAddr>,
}

/// What workloads' policy would say of the flow if it began now; `None` when it is not asked: no workload of this node has
/// part in it, or the node itself opened it towards one.
pub fn judge(ruleset: &Ruleset, places: &Places, flow: &Flow) -> Option<Outcome> {
    let place = |address| places.workloads.get(address);
    let (input, output) = (place(&flow.source), place(&flow.destination));
    let chains: &[&str] = match (input, output) {
        (Some(_), None) if places.own.contains(&flow.destination) => &["workload-to-host"],
        (Some(_), None) => &["from-workload"],
        (Some(_), Some(_)) => &["from-workload", "to-workload"],
        (None, Some(_)) if !places.own.contains(&flow.source) => &["to-workload"],
        (None, _) => return None,
    };
    let packet = Packet {
        input: input.cloned(),
        output: output.cloned(),
        source: flow.source,
        destination: flow.destination,
        original: flow.original,
        protocol: flow.protocol,
        ports: flow.ports,
        icmp: flow.icmp,
        state: CtState::New,
        reverse_route: true,
        marked: false,
    };
    Some(eval_chains(ruleset, &packet, chains))
}
