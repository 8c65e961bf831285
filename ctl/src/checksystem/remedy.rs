//! Commands that make somebody else's table let our packets through, in the words of the program it belongs to; pure.

use std::collections::BTreeSet;

use nftables::types::NfHook;
use tortie_policy::ir::WORKLOAD_PREFIX;

use super::listing::{Chains, TableName};

/// What is to be let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Opening {
    FromWorkloads,
    ToWorkloads,
    Bgp,
    Ipip,
    Vxlan,
}

/// The chain Docker leaves to the machine's owner.
const DOCKER_USER: &str = "DOCKER-USER";

/// Commands, in order, to be typed in a shell by root, for a base chain of this table at this hook.
pub(crate) fn commands(
    (table, chains): (&TableName, &Chains),
    (chain, hook): (&str, NfHook),
    openings: &BTreeSet<Opening>,
) -> Vec<String> {
    match (table.family.as_str(), table.name.as_str()) {
        (_, "firewalld") => firewalld(openings),
        (family @ ("ip" | "ip6"), "filter" | "raw" | "mangle") if chain == chain.to_ascii_uppercase() => {
            let to = if chain == "FORWARD" && chains.contains_key(DOCKER_USER) { DOCKER_USER } else { chain };
            let program = if family == "ip" { "iptables" } else { "ip6tables" };
            let line = |opening: &Opening| {
                format!("{program} -t {} -I {to} {} -j ACCEPT", table.name, iptables_match(*opening, hook))
            };
            openings.iter().map(line).collect()
        }
        _ => {
            let line = |opening: &Opening| {
                format!("nft 'insert rule {table} {chain} {} accept'", nft_match(*opening, hook))
            };
            openings.iter().map(line).collect()
        }
    }
}

/// Before routing nobody knows the interface a packet will leave by, but the route to its destination can be asked.
fn nft_match(opening: Opening, hook: NfHook) -> String {
    match opening {
        Opening::ToWorkloads if hook == NfHook::Prerouting => {
            format!("fib daddr oifname \"{WORKLOAD_PREFIX}*\"")
        }
        Opening::FromWorkloads => format!("iifname \"{WORKLOAD_PREFIX}*\""),
        Opening::ToWorkloads => format!("oifname \"{WORKLOAD_PREFIX}*\""),
        Opening::Bgp => "tcp dport 179".to_owned(),
        Opening::Ipip => "meta l4proto 4".to_owned(),
        Opening::Vxlan => "udp dport 4789".to_owned(),
    }
}

/// iptables refuses to ask for an interface at hooks where not every packet has one; workloads are in the pools.
fn iptables_match(opening: Opening, hook: NfHook) -> String {
    match opening {
        Opening::ToWorkloads if hook == NfHook::Prerouting => "-d POOL-CIDR".to_owned(),
        Opening::FromWorkloads if hook == NfHook::Postrouting => "-s POOL-CIDR".to_owned(),
        Opening::FromWorkloads => format!("-i {WORKLOAD_PREFIX}+"),
        Opening::ToWorkloads => format!("-o {WORKLOAD_PREFIX}+"),
        Opening::Bgp => "-p tcp --dport 179".to_owned(),
        Opening::Ipip => "-p 4".to_owned(),
        Opening::Vxlan => "-p udp --dport 4789".to_owned(),
    }
}

/// Workloads go into the zone `trusted`, and a policy lets every zone reach that one: firewalld refuses what is forwarded
/// between zones whatever they are. The ports are opened in the default zone, which is that of an interface nobody assigned.
fn firewalld(openings: &BTreeSet<Opening>) -> Vec<String> {
    let mut commands = Vec::new();
    let mut say = |words: String| commands.push(format!("firewall-cmd --permanent {words}"));
    if openings.contains(&Opening::FromWorkloads) || openings.contains(&Opening::ToWorkloads) {
        say(format!("--zone=trusted --add-interface={WORKLOAD_PREFIX}+"));
        say("--new-policy=to-workloads".to_owned());
        say("--policy=to-workloads --add-ingress-zone=ANY".to_owned());
        say("--policy=to-workloads --add-egress-zone=trusted".to_owned());
        say("--policy=to-workloads --set-target=ACCEPT".to_owned());
    }
    for (opening, words) in [
        (Opening::Bgp, "--add-port=179/tcp"),
        (Opening::Ipip, "--add-protocol=4"),
        (Opening::Vxlan, "--add-port=4789/udp"),
    ] {
        if openings.contains(&opening) {
            say(words.to_owned());
        }
    }
    commands.push("firewall-cmd --reload".to_owned());
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands_of(family: &str, name: &str, chain: &str, hook: NfHook) -> Vec<String> {
        let table = TableName { family: family.to_owned(), name: name.to_owned() };
        let openings = [Opening::FromWorkloads, Opening::ToWorkloads].into();
        commands((&table, &Chains::default()), (chain, hook), &openings)
    }

    #[test]
    fn no_command_asks_for_an_interface_where_packets_have_none() {
        assert_eq!(
            commands_of("inet", "own", "early", NfHook::Prerouting),
            [
                "nft 'insert rule inet own early iifname \"cali*\" accept'",
                "nft 'insert rule inet own early fib daddr oifname \"cali*\" accept'",
            ]
        );
        assert_eq!(
            commands_of("ip", "raw", "PREROUTING", NfHook::Prerouting),
            [
                "iptables -t raw -I PREROUTING -i cali+ -j ACCEPT",
                "iptables -t raw -I PREROUTING -d POOL-CIDR -j ACCEPT",
            ]
        );
        assert_eq!(
            commands_of("ip6", "mangle", "POSTROUTING", NfHook::Postrouting),
            [
                "ip6tables -t mangle -I POSTROUTING -s POOL-CIDR -j ACCEPT",
                "ip6tables -t mangle -I POSTROUTING -o cali+ -j ACCEPT",
            ]
        );
    }
}
