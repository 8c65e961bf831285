//! Planning: from what is desired, learned and found to what each kind of object should be.

use std::time::Instant;

use ipnetwork::IpNetwork;

use super::Engine;
use crate::dataplane::owner::{self, IPIP_DEVICE};
use crate::dataplane::{addresses, neighbours, routes, sysctls};
use crate::desired::{Desired, RouteTarget};
use crate::fib::Surroundings;
use crate::kernel::Kernel;

impl<K: Kernel> Engine<K> {
    /// `tunl0` can carry packets.
    fn tunnel_up(&self, desired: &Desired) -> bool {
        desired.ipip.is_some() && self.links.get(IPIP_DEVICE).is_some_and(|link| link.up)
    }

    pub(super) fn plan(&mut self, desired: &Desired, now: Instant) {
        self.plan_routes(desired, now);
        let (rp_filter, ipv6) = self.machine.clone().unwrap_or_default();
        let mut settings = sysctls::of_machine(ipv6);
        for name in desired.interfaces.keys() {
            if !owner::is_workload_interface(name) {
                self.report.note(
                    name,
                    format!("{name:?} is no name of a workload interface: it must begin with cali"),
                );
            } else if self.links.contains_key(name) {
                settings.extend(sysctls::of_interface(name, &rp_filter, ipv6));
            }
        }
        self.sysctls.set_desired(settings);
        self.neighbours.set_desired(neighbours::desired(desired, &self.links));
        self.addresses.set_desired(addresses::desired(desired, &self.links));
        self.report.left_out(self.fib.left_out(), self.no_ipip);
        for next_hop in self.fib.held() {
            let text =
                "it is on none of this node's interfaces any more; its routes stay as they were for now";
            self.report.note_first(&format!("next hop {next_hop}"), text.to_string());
        }
        if desired.ipip.is_some() && self.no_ipip {
            self.report.note_first(IPIP_DEVICE, "kernel has no IPIP (ipip module)".to_string());
        }
    }

    fn plan_routes(&mut self, desired: &Desired, now: Instant) {
        self.fib.set_surroundings(Surroundings {
            context: desired.route_context.clone(),
            local: routes::local_prefixes(desired),
            never_program: desired.never_program.clone(),
            workload_peers: desired.workload_peers.clone(),
            reachable_by: desired.reachable_by.clone(),
            tunnel: self.tunnel_up(desired),
        });
        let changed = self.fib.decide(now);
        let peers = self.peer_routes();
        let wanted = routes::local(desired, peers, &self.links);
        for (address, holder, loser) in wanted.contested {
            self.report.note(
                &loser,
                format!("its address {address} is also that of {holder}, which is newer and has it"),
            );
        }
        let peers = desired.workload_peers.values().map(String::as_str).collect();
        self.forwarding.plan(&self.fib, changed, wanted.routes, &self.links, &peers);
    }

    /// Routes to peers behind gateways. One in the way stays, and one without a gateway on the link is not made.
    fn peer_routes(&mut self) -> Vec<(IpNetwork, RouteTarget)> {
        let mut routes = Vec::new();
        for (prefix, route) in self.fib.peer_routes() {
            let peer = format!("peer {}", prefix.ip());
            match route {
                Ok(_) if self.fib.resolver().foreign(&prefix).is_some() => {
                    self.report
                        .note(&peer, "a route to it is in the kernel and not ours; it stays".to_string());
                }
                Ok(target) => routes.push((prefix, target)),
                Err(gateway) => {
                    self.report.note(&peer, format!("its gateway {gateway} is no neighbour of this node"));
                }
            }
        }
        routes
    }
}
