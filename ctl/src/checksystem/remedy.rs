//! Commands that make somebody else's table let our packets through, in the words of the program it belongs to; pure.

use std::collections::BTreeSet;

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

/// Commands, in order, to be typed in a shell by root.
pub(crate) fn commands(
    table: &TableName,
    chains: &Chains,
    chain: &str,
    openings: &BTreeSet<Opening>,
) -> Vec<String> {
    match (table.family.as_str(), table.name.as_str()) {
        (_, "firewalld") => firewalld(openings),
        (family @ ("ip" | "ip6"), "filter" | "raw" | "mangle") if chain == chain.to_ascii_uppercase() => {
            let to = if chain == "FORWARD" && chains.contains_key(DOCKER_USER) { DOCKER_USER } else { chain };
            let program = if family == "ip" { "iptables" } else { "ip6tables" };
            let line = |opening: &Opening| {
                format!("{program} -t {} -I {to} {} -j ACCEPT", table.name, iptables_match(*opening))
            };
            openings.iter().map(line).collect()
        }
        _ => {
            let line = |opening: &Opening| {
                format!("nft 'insert rule {table} {chain} {} accept'", nft_match(*opening))
            };
            openings.iter().map(line).collect()
        }
    }
}

fn nft_match(opening: Opening) -> String {
    match opening {
        Opening::FromWorkloads => format!("iifname \"{WORKLOAD_PREFIX}*\""),
        Opening::ToWorkloads => format!("oifname \"{WORKLOAD_PREFIX}*\""),
        Opening::Bgp => "tcp dport 179".to_owned(),
        Opening::Ipip => "meta l4proto 4".to_owned(),
        Opening::Vxlan => "udp dport 4789".to_owned(),
    }
}

fn iptables_match(opening: Opening) -> String {
    match opening {
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
