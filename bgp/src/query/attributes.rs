//! The attributes of a route in an operator's words.

use std::net::{IpAddr, Ipv4Addr};

use crate::wire::{PathAttributes, as_path};

/// Attributes of a route. Texts are as operators write them: paths `64512 65000 {1,2}`, communities `65000:7`,
/// `65000:1:2` and `no-export`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// NEXT_HOP; `None` for a route of our own, whose next hop is our end of each session.
    pub next_hop: Option<IpAddr>,
    /// `IGP`, `EGP` or `incomplete`.
    pub origin: &'static str,
    /// AS_PATH; empty within the AS it comes from.
    pub as_path: String,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE.
    pub atomic_aggregate: bool,
    /// AGGREGATOR: AS number and identifier.
    pub aggregator: Option<(u32, Ipv4Addr)>,
    /// COMMUNITIES and LARGE_COMMUNITIES.
    pub communities: Vec<String>,
    /// EXTENDED COMMUNITIES, as hexadecimal digits.
    pub extended_communities: Vec<String>,
    /// ORIGINATOR_ID.
    pub originator_id: Option<Ipv4Addr>,
    /// CLUSTER_LIST.
    pub cluster_list: Vec<Ipv4Addr>,
    /// ONLY_TO_CUSTOMER.
    pub only_to_customer: Option<u32>,
}

impl Attributes {
    pub(crate) fn new(attributes: &PathAttributes<'_>) -> Attributes {
        let standard = attributes.communities.chunks_exact(4).map(|octets| standard(number(octets)));
        let large = attributes.large_communities.chunks_exact(12).map(|octets| {
            let parts: Vec<String> = octets.chunks_exact(4).map(|part| number(part).to_string()).collect();
            parts.join(":")
        });
        let extended = attributes.extended_communities.chunks_exact(8);
        let clusters = attributes.cluster_list.chunks_exact(4);
        Attributes {
            next_hop: Some(attributes.next_hop).filter(|next_hop| !next_hop.is_unspecified()),
            origin: match attributes.origin {
                0 => "IGP",
                1 => "EGP",
                _ => "incomplete",
            },
            as_path: as_path::text(&attributes.as_path),
            med: attributes.med,
            local_pref: attributes.local_pref,
            atomic_aggregate: attributes.atomic_aggregate,
            aggregator: attributes.aggregator,
            communities: standard.chain(large).collect(),
            extended_communities: extended.map(hexadecimal).collect(),
            originator_id: attributes.originator_id,
            cluster_list: clusters.map(|octets| Ipv4Addr::from(number(octets))).collect(),
            only_to_customer: attributes.only_to_customer,
        }
    }
}

fn number(octets: &[u8]) -> u32 {
    octets.iter().fold(0, |number, octet| number << 8 | u32::from(*octet))
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A standard community; those everybody knows by name.
fn standard(community: u32) -> String {
    match community {
        0xffff_0000 => "graceful-shutdown".to_owned(),
        0xffff_029a => "blackhole".to_owned(),
        0xffff_ff01 => "no-export".to_owned(),
        0xffff_ff02 => "no-advertise".to_owned(),
        0xffff_ff03 => "no-export-subconfed".to_owned(),
        _ => format!("{}:{}", community >> 16, community & 0xffff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_as_operators_write_them() {
        let attributes = PathAttributes {
            communities: [0xffff_ff01_u32, 65000 << 16 | 7].map(u32::to_be_bytes).concat().into(),
            large_communities: [65000_u32, 1, 2].map(u32::to_be_bytes).concat().into(),
            extended_communities: vec![0, 2, 0, 1, 0, 0, 0, 9].into(),
            cluster_list: vec![9, 9, 9, 9].into(),
            // A sequence of two, and a set of two.
            as_path: vec![2, 2, 0, 0, 252, 0, 0, 1, 0, 0, 1, 2, 0, 0, 0, 1, 0, 0, 0, 2].into(),
            origin: 2,
            ..PathAttributes::originated([0, 0, 0, 0].into())
        };
        let shown = Attributes::new(&attributes);
        assert_eq!(shown.communities, ["no-export", "65000:7", "65000:1:2"]);
        assert_eq!(shown.extended_communities, ["0002000100000009"]);
        assert_eq!((shown.as_path.as_str(), shown.origin), ("64512 65536 {1,2}", "incomplete"));
        assert_eq!((shown.next_hop, shown.cluster_list), (None, vec![Ipv4Addr::new(9, 9, 9, 9)]));
    }
}
