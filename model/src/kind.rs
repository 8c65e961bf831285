//! The kinds of resource: their names, plurals in keys, scope and command-line aliases.
//!
//! Source: calico-datamodel 1.1 (`libcalico-go/lib/backend/model/resource.go`) and 6.4 (calicoctl's resource manager).

use std::fmt;

/// A kind of v3 resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `BGPConfiguration`, cluster-scoped.
    BgpConfiguration,
    /// `BGPFilter`, cluster-scoped.
    BgpFilter,
    /// `BGPPeer`, cluster-scoped.
    BgpPeer,
    /// `BlockAffinity`, cluster-scoped; not what IPAM reads, see calico-datamodel 1.7.
    BlockAffinity,
    /// `CalicoNodeStatus`, cluster-scoped.
    CalicoNodeStatus,
    /// `ClusterInformation`, cluster-scoped; only `default`, written by the agent.
    ClusterInformation,
    /// `FelixConfiguration`, cluster-scoped.
    FelixConfiguration,
    /// `GlobalNetworkPolicy`, cluster-scoped.
    GlobalNetworkPolicy,
    /// `GlobalNetworkSet`, cluster-scoped.
    GlobalNetworkSet,
    /// `HostEndpoint`, cluster-scoped.
    HostEndpoint,
    /// `IPAMConfiguration`, cluster-scoped; only `default`.
    IpamConfiguration,
    /// `IPPool`, cluster-scoped.
    IpPool,
    /// `IPReservation`, cluster-scoped.
    IpReservation,
    /// `KubeControllersConfiguration`, cluster-scoped; only `default`.
    KubeControllersConfiguration,
    /// `NetworkPolicy`, namespaced.
    NetworkPolicy,
    /// `NetworkSet`, namespaced.
    NetworkSet,
    /// `Node`, cluster-scoped.
    Node,
    /// `Profile`, cluster-scoped.
    Profile,
    /// `StagedGlobalNetworkPolicy`, cluster-scoped.
    StagedGlobalNetworkPolicy,
    /// `StagedKubernetesNetworkPolicy`, namespaced.
    StagedKubernetesNetworkPolicy,
    /// `StagedNetworkPolicy`, namespaced.
    StagedNetworkPolicy,
    /// `Tier`, cluster-scoped.
    Tier,
    /// `WorkloadEndpoint`, namespaced.
    WorkloadEndpoint,
}

struct Facts {
    kind: Kind,
    name: &'static str,
    plural: &'static str,
    namespaced: bool,
    aliases: &'static [&'static str],
}

const fn facts(
    kind: Kind,
    name: &'static str,
    plural: &'static str,
    namespaced: bool,
    aliases: &'static [&'static str],
) -> Facts {
    Facts { kind, name, plural, namespaced, aliases }
}

/// In the order of [`Kind`], which is alphabetical. calicoctl has no name for BlockAffinity.
static FACTS: [Facts; 23] = [
    facts(
        Kind::BgpConfiguration,
        "BGPConfiguration",
        "bgpconfigurations",
        false,
        &["bgpconfiguration", "bgpconfigurations", "bgpconfig", "bgpconfigs"],
    ),
    facts(
        Kind::BgpFilter,
        "BGPFilter",
        "bgpfilters",
        false,
        &["bgpfilter", "bgpfilters", "bgpf", "bgpfs", "bf", "bfs"],
    ),
    facts(
        Kind::BgpPeer,
        "BGPPeer",
        "bgppeers",
        false,
        &["bgppeer", "bgppeers", "bgpp", "bgpps", "bp", "bps"],
    ),
    facts(Kind::BlockAffinity, "BlockAffinity", "blockaffinities", false, &[]),
    facts(
        Kind::CalicoNodeStatus,
        "CalicoNodeStatus",
        "caliconodestatuses",
        false,
        &["caliconodestatus", "caliconodestatuses", "nodestatus", "nodestatuses"],
    ),
    facts(
        Kind::ClusterInformation,
        "ClusterInformation",
        "clusterinformations",
        false,
        &["clusterinformation", "clusterinformations", "clusterinfo", "clusterinfos"],
    ),
    facts(
        Kind::FelixConfiguration,
        "FelixConfiguration",
        "felixconfigurations",
        false,
        &["felixconfiguration", "felixconfigurations", "felixconfig", "felixconfigs"],
    ),
    facts(
        Kind::GlobalNetworkPolicy,
        "GlobalNetworkPolicy",
        "globalnetworkpolicies",
        false,
        &["globalnetworkpolicy", "globalnetworkpolicies", "gnp", "gnps"],
    ),
    facts(
        Kind::GlobalNetworkSet,
        "GlobalNetworkSet",
        "globalnetworksets",
        false,
        &["globalnetworkset", "globalnetworksets", "gnetsets"],
    ),
    facts(
        Kind::HostEndpoint,
        "HostEndpoint",
        "hostendpoints",
        false,
        &["hostendpoint", "hostendpoints", "hep", "heps"],
    ),
    facts(
        Kind::IpamConfiguration,
        "IPAMConfiguration",
        "ipamconfigurations",
        false,
        &["ipamconfiguration", "ipamconfigurations", "ipamconfig", "ipamconfigs"],
    ),
    facts(Kind::IpPool, "IPPool", "ippools", false, &["ippool", "ippools", "ipp", "ipps", "pool", "pools"]),
    facts(
        Kind::IpReservation,
        "IPReservation",
        "ipreservations",
        false,
        &["ipreservation", "ipreservations", "reservation", "reservations"],
    ),
    facts(
        Kind::KubeControllersConfiguration,
        "KubeControllersConfiguration",
        "kubecontrollersconfigurations",
        false,
        &[
            "kubecontrollersconfiguration",
            "kubecontrollersconfigurations",
            "kubecontrollersconfig",
            "kubecontrollersconfigs",
        ],
    ),
    facts(
        Kind::NetworkPolicy,
        "NetworkPolicy",
        "networkpolicies",
        true,
        &["networkpolicy", "networkpolicies", "policy", "policies", "np", "nps", "pol", "pols"],
    ),
    facts(Kind::NetworkSet, "NetworkSet", "networksets", true, &["networkset", "networksets", "netsets"]),
    facts(Kind::Node, "Node", "nodes", false, &["node", "nodes", "no", "nos"]),
    facts(Kind::Profile, "Profile", "profiles", false, &["profile", "profiles", "pro", "pros"]),
    facts(
        Kind::StagedGlobalNetworkPolicy,
        "StagedGlobalNetworkPolicy",
        "stagedglobalnetworkpolicies",
        false,
        &["stagedglobalnetworkpolicy", "stagedglobalnetworkpolicies", "sgnp", "sgnps"],
    ),
    facts(
        Kind::StagedKubernetesNetworkPolicy,
        "StagedKubernetesNetworkPolicy",
        "stagedkubernetesnetworkpolicies",
        true,
        &[
            "stagedkubernetesnetworkpolicy",
            "stagedkubernetesnetworkpolicies",
            "stagedkubernetespolicy",
            "stagedkubernetespolicies",
            "sknp",
            "skpol",
            "skpols",
        ],
    ),
    facts(
        Kind::StagedNetworkPolicy,
        "StagedNetworkPolicy",
        "stagednetworkpolicies",
        true,
        &[
            "stagednetworkpolicy",
            "stagednetworkpolicies",
            "stagedpolicy",
            "stagedpolicies",
            "snp",
            "spol",
            "spols",
        ],
    ),
    facts(Kind::Tier, "Tier", "tiers", false, &["tier", "tiers"]),
    facts(
        Kind::WorkloadEndpoint,
        "WorkloadEndpoint",
        "workloadendpoints",
        true,
        &["workloadendpoint", "workloadendpoints", "wep", "weps"],
    ),
];

impl Kind {
    /// Every kind, alphabetically.
    pub fn all() -> impl Iterator<Item = Kind> {
        FACTS.iter().map(|f| f.kind)
    }

    fn facts(self) -> &'static Facts {
        &FACTS[self as usize]
    }

    /// The kind as documents write it, such as `IPPool`.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The plural in keys, lower case, such as `ippools`.
    pub fn plural(self) -> &'static str {
        self.facts().plural
    }

    /// Whether resources of the kind live in a namespace.
    pub fn is_namespaced(self) -> bool {
        self.facts().namespaced
    }

    /// Whether resources of the kind are policies of a tier, whose stored names have changed over the years
    /// ([`crate::policy_name`]).
    pub fn has_tiered_names(self) -> bool {
        matches!(
            self,
            Kind::GlobalNetworkPolicy
                | Kind::NetworkPolicy
                | Kind::StagedGlobalNetworkPolicy
                | Kind::StagedNetworkPolicy
        )
    }

    /// Names accepted on the command line, lower case; none for kinds nobody manages there.
    pub fn aliases(self) -> &'static [&'static str] {
        self.facts().aliases
    }

    /// The kind with exactly this name in documents.
    pub fn from_name(name: &str) -> Option<Kind> {
        FACTS.iter().find(|f| f.name == name).map(|f| f.kind)
    }

    /// The kind of a plural in a key.
    pub fn from_plural(plural: &str) -> Option<Kind> {
        FACTS.iter().find(|f| f.plural == plural).map(|f| f.kind)
    }

    /// The kind a user means on the command line: any alias, in any case.
    pub fn from_alias(alias: &str) -> Option<Kind> {
        let alias = alias.to_ascii_lowercase();
        FACTS.iter().find(|f| f.aliases.contains(&alias.as_str())).map(|f| f.kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_stand_in_the_order_of_the_enum() {
        for (i, f) in FACTS.iter().enumerate() {
            assert_eq!(f.kind as usize, i, "{}", f.name);
            assert_eq!(Kind::from_name(f.name), Some(f.kind));
            assert_eq!(Kind::from_plural(f.plural), Some(f.kind));
            for alias in f.aliases {
                assert_eq!(Kind::from_alias(&alias.to_uppercase()), Some(f.kind), "{alias}");
            }
        }
    }
}
