//! The way of a packet through a node, hook by hook: who is asked about it, and what is never asked.

use tortie_model::resource::PolicyType::{self, Egress, Ingress};
use tortie_policy::eval::{CtState, Packet};
use tortie_policy::snapshot::{Endpoint, EndpointId, EndpointToHost, HostPlace, Snapshot};

use super::{Judgement, Oracle, Phase, Says};

pub(super) fn judge(snapshot: &Snapshot, packet: &Packet) -> Judgement {
    let mut early = packet.clone();
    if let Some((address, port)) = packet.original {
        early.destination = address;
        early.ports = early.ports.map(|(source, _)| (source, port));
    }
    let mut way = Way { snapshot, late: packet, early: &early, marked: false, untracked: false };
    let allowed = way.run();
    let masqueraded = allowed && !way.untracked && Oracle { snapshot, packet }.masqueraded();
    Judgement { allowed, masqueraded, untracked: way.untracked }
}

struct Way<'a> {
    snapshot: &'a Snapshot,
    /// As it is once a service's address was translated, and before.
    late: &'a Packet,
    early: &'a Packet,
    /// Policy of the host allowed it before.
    marked: bool,
    untracked: bool,
}

fn is_workload(interface: &str) -> bool {
    interface.starts_with("cali")
}

impl<'a> Way<'a> {
    fn run(&mut self) -> bool {
        match (self.late.input.as_deref(), self.late.output.as_deref()) {
            (Some(input), output) => {
                let before = match is_workload(input) {
                    true => self.early.reverse_route,
                    false => self.raw(input, Ingress),
                };
                before
                    && self.before_translation(input)
                    && match output {
                        None => self.to_host(input),
                        Some(output) => self.forwarded(input, output),
                    }
            }
            (None, Some(output)) => self.raw(output, Egress) && self.sent(output),
            (None, None) => true,
        }
    }

    fn late(&self) -> &'a Packet {
        if self.untracked { self.early } else { self.late }
    }

    fn oracle(&self) -> Oracle<'a> {
        Oracle { snapshot: self.snapshot, packet: self.late() }
    }

    fn early_oracle(&self) -> Oracle<'a> {
        Oracle { snapshot: self.snapshot, packet: self.early }
    }

    fn known(&self) -> bool {
        !self.untracked && matches!(self.late.state, CtState::Established | CtState::Related)
    }

    fn refused_as_invalid(&self) -> bool {
        !self.untracked && self.late.state == CtState::Invalid && !self.snapshot.options.accept_invalid
    }

    fn is_vxlan(&self, p: &Packet) -> bool {
        p.protocol == 17 && p.ports.is_some_and(|(_, port)| port == self.snapshot.options.vxlan_port)
    }

    /// Whether the workload behind an interface may begin this.
    fn may_begin(&self, input: &str) -> bool {
        let (p, options) = (self.late(), &self.snapshot.options);
        !self.refused_as_invalid()
            && (p.protocol != 4 || options.ipip_from_workloads)
            && (!self.is_vxlan(p) || options.vxlan_from_workloads)
            && self.oracle().side_allows(input, Egress)
    }

    fn raw(&mut self, interface: &str, direction: PolicyType) -> bool {
        let Some((id, endpoint)) = self.named(interface) else { return true };
        let oracle = self.early_oracle();
        if !concerned(&oracle, id, endpoint, direction, Phase::Untracked)
            || self.failsafe(self.early, direction, false)
        {
            return true;
        }
        let says = oracle.endpoint_says(id, endpoint, direction, Phase::Untracked);
        self.untracked = says == Says::Allow;
        self.marked |= self.untracked;
        says != Says::Deny
    }

    fn before_translation(&mut self, interface: &str) -> bool {
        let rest = || self.rest().filter(|_| interface != "lo");
        let Some((id, endpoint)) = self.named(interface).or_else(rest) else { return true };
        let oracle = self.early_oracle();
        if self.known() || self.marked || !concerned(&oracle, id, endpoint, Ingress, Phase::PreDnat) {
            return true;
        }
        if self.refused_as_invalid() {
            return false;
        }
        if self.failsafe(self.early, Ingress, true) {
            return true;
        }
        let says = oracle.endpoint_says(id, endpoint, Ingress, Phase::PreDnat);
        self.marked = says == Says::Allow;
        says != Says::Deny
    }

    fn to_host(&self, input: &str) -> bool {
        let p = self.late();
        if p.protocol == 4 || (self.snapshot.options.vxlan && self.is_vxlan(p)) {
            let may = !is_workload(input) || self.may_begin(input);
            return may && self.snapshot.tunnel_peers.contains(&p.source);
        }
        if self.known() {
            return true;
        }
        if !is_workload(input) {
            return self.marked || self.host_allows(input, Ingress);
        }
        let icmp = p.icmp.filter(|_| p.source.is_ipv6() && p.protocol == 58);
        if icmp.is_some_and(|(t, _)| [130, 131, 132, 133, 135, 136].contains(&t)) {
            return true;
        }
        self.may_begin(input) && self.snapshot.endpoint_to_host != EndpointToHost::Drop
    }

    fn forwarded(&self, input: &str, output: &str) -> bool {
        if self.known() {
            return true;
        }
        if !self.marked && !self.forward_allows(input, Ingress) {
            return false;
        }
        if is_workload(input) && !self.may_begin(input) {
            return false;
        }
        if is_workload(output) {
            return !self.refused_as_invalid() && self.oracle().side_allows(output, Ingress);
        }
        self.forward_allows(output, Egress)
    }

    fn forward_allows(&self, interface: &str, direction: PolicyType) -> bool {
        let Some((id, endpoint)) = self.in_charge(interface) else { return true };
        let oracle = self.oracle();
        !concerned(&oracle, id, endpoint, direction, Phase::Forward)
            || (!self.refused_as_invalid()
                && oracle.endpoint_says(id, endpoint, direction, Phase::Forward) != Says::Deny)
    }

    fn sent(&self, output: &str) -> bool {
        let p = self.late();
        let translated = p.original.is_some() && !self.untracked;
        let tunnel =
            (p.protocol == 4 && p.source.is_ipv4()) || (self.snapshot.options.vxlan && self.is_vxlan(p));
        let to_node = tunnel && self.snapshot.tunnel_peers.contains(&p.destination);
        self.known()
            || self.marked
            || is_workload(output)
            || (to_node && !translated)
            || self.host_allows(output, Egress)
    }

    fn host_allows(&self, interface: &str, direction: PolicyType) -> bool {
        let Some((id, endpoint)) = self.in_charge(interface) else { return true };
        !self.refused_as_invalid()
            && (self.failsafe(self.late(), direction, true)
                || self.oracle().endpoint_says(id, endpoint, direction, Phase::Host) == Says::Allow)
    }

    fn failsafe(&self, p: &Packet, direction: PolicyType, tracked: bool) -> bool {
        let types = [130, 131, 132, 133, 134, 135, 136, 143];
        if p.source.is_ipv6() && p.protocol == 58 && p.icmp.is_some_and(|(t, _)| types.contains(&t)) {
            return true;
        }
        let Some((source_port, destination_port)) = p.ports else { return false };
        let options = &self.snapshot.options;
        let (own, other, remote) = match direction {
            Ingress => (&options.failsafe_inbound, &options.failsafe_outbound, p.source),
            Egress => (&options.failsafe_outbound, &options.failsafe_inbound, p.destination),
        };
        let one_of = |list: &[tortie_policy::snapshot::Failsafe], port| {
            list.iter().any(|f| {
                f.protocol == p.protocol && f.port == port && f.net.is_none_or(|net| net.contains(remote))
            })
        };
        one_of(own, destination_port) || (!tracked && one_of(other, source_port))
    }

    fn hosts(&self) -> impl Iterator<Item = (&'a EndpointId, &'a Endpoint, &'a HostPlace)> {
        self.snapshot.host_endpoints.iter().map(|(id, host)| (&**id, &host.endpoint, &host.place))
    }

    fn named(&self, interface: &str) -> Option<(&'a EndpointId, &'a Endpoint)> {
        let has = |endpoint: &Endpoint| {
            let addresses = self.snapshot.host_interfaces.get(interface);
            addresses.is_some_and(|all| endpoint.addresses.iter().any(|a| all.contains(a)))
        };
        let mut found = self.hosts().filter(|(_, endpoint, place)| match place {
            HostPlace::Interface(name) => name == interface,
            HostPlace::Addresses => has(endpoint),
            HostPlace::Elsewhere | HostPlace::All => false,
        });
        found.next().map(|(id, endpoint, _)| (id, endpoint))
    }

    fn rest(&self) -> Option<(&'a EndpointId, &'a Endpoint)> {
        let mut all = self.hosts().filter(|(.., place)| **place == HostPlace::All);
        all.next().map(|(id, endpoint, _)| (id, endpoint))
    }

    /// The host endpoint in charge of an interface that is no workload's.
    fn in_charge(&self, interface: &str) -> Option<(&'a EndpointId, &'a Endpoint)> {
        let rest = || self.rest().filter(|_| interface != "lo" && !is_workload(interface));
        self.named(interface).or_else(rest)
    }
}

/// Whether any policy is about the endpoint here.
fn concerned(
    oracle: &Oracle<'_>,
    id: &EndpointId,
    endpoint: &Endpoint,
    direction: PolicyType,
    phase: Phase,
) -> bool {
    oracle.applied(id, endpoint, direction, phase).map_or(true, |tiers| !tiers.is_empty())
}
