//! Which pools to create when there are none (calico-datamodel 7.4).

use ipnetwork::IpNetwork;
use tortie_model::resource::EncapMode;
use tortie_model::selector::{Selector, SelectorError};

use super::environment::Reader;

/// Default pools of both families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// `None`: create none.
    pub ipv4: Option<PoolWish>,
    /// `None`: create none.
    pub ipv6: Option<PoolWish>,
}

/// A pool to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolWish {
    /// Its range; `None` lets the agent choose.
    pub cidr: Option<IpNetwork>,
    /// Prefix length of blocks.
    pub block_size: u8,
    /// IPIP.
    pub ipip: EncapMode,
    /// VXLAN.
    pub vxlan: EncapMode,
    /// Masquerade.
    pub nat_outgoing: bool,
    /// Nodes that use it.
    pub node_selector: String,
    /// Keep it out of BGP.
    pub disable_bgp_export: bool,
}

/// The settings of both families.
pub(super) fn read(reader: &mut Reader<'_>) -> PoolSettings {
    let none = reader.flag("NO_DEFAULT_POOLS", false);
    for name in ["CALICO_IPV4POOL_CIDR", "CALICO_IPV6POOL_CIDR"] {
        if none && reader.environment.get(name).is_some() {
            reader.problems.push(format!("NO_DEFAULT_POOLS and {name} exclude each other; unset one"));
        }
    }
    let (ipv4, ipv6) = (family(reader, false), family(reader, true));
    if none { PoolSettings { ipv4: None, ipv6: None } } else { PoolSettings { ipv4, ipv6 } }
}

fn family(reader: &mut Reader<'_>, ipv6: bool) -> Option<PoolWish> {
    let variable = |what: &str| format!("CALICO_IPV{}POOL_{what}", if ipv6 { 6 } else { 4 });
    let (shortest, longest, usual) = if ipv6 { (116, 128, 122) } else { (20, 32, 26) };
    let wish = PoolWish {
        cidr: match reader.environment.get(&variable("CIDR")) {
            Some("none") => None,
            Some(_) | None => reader.value(&variable("CIDR"), None, |text| parse_cidr(text, ipv6).map(Some)),
        },
        block_size: reader.value(&variable("BLOCK_SIZE"), usual, |text| match text.parse::<u8>() {
            Ok(size) if (shortest..=longest).contains(&size) => Ok(size),
            Ok(_) | Err(_) => Err(format!("must be from {shortest} to {longest}")),
        }),
        ipip: if ipv6 {
            EncapMode::Never
        } else {
            reader.value(&variable("IPIP"), EncapMode::Never, parse_mode)
        },
        vxlan: reader.value(&variable("VXLAN"), EncapMode::Never, parse_mode),
        nat_outgoing: reader.flag(&variable("NAT_OUTGOING"), !ipv6),
        node_selector: reader.value(&variable("NODE_SELECTOR"), "all()".to_owned(), |text| {
            let wrong =
                |error: SelectorError| format!("is no selector: column {}: {}", error.column, error.reason);
            text.parse::<Selector>().map(|_| text.to_owned()).map_err(wrong)
        }),
        disable_bgp_export: reader.flag(&variable("DISABLE_BGP_EXPORT"), false),
    };
    if wish.ipip != EncapMode::Never && wish.vxlan != EncapMode::Never {
        reader.problems.push(format!(
            "{} and {} exclude each other; set one to Never",
            variable("IPIP"),
            variable("VXLAN")
        ));
    }
    if let Some(cidr) = wish.cidr.filter(|cidr| cidr.prefix() > wish.block_size) {
        reader.problems.push(format!(
            "{}: '{cidr}' is smaller than a block (/{})",
            variable("CIDR"),
            wish.block_size
        ));
    }
    (reader.environment.get(&variable("CIDR")) != Some("none")).then_some(wish)
}

fn parse_cidr(text: &str, ipv6: bool) -> Result<IpNetwork, String> {
    let family = if ipv6 { "IPv6" } else { "IPv4" };
    match text.parse::<IpNetwork>() {
        Ok(net) if net.is_ipv6() != ipv6 || !text.contains('/') => {
            Err(format!("must be an {family} CIDR or none"))
        }
        Ok(net) if net.ip() != net.network() => {
            Err(format!("has host bits set; did you mean {}/{}?", net.network(), net.prefix()))
        }
        Ok(net) => Ok(net),
        Err(_) => Err(format!("must be an {family} CIDR or none")),
    }
}

fn parse_mode(text: &str) -> Result<EncapMode, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "off" | "never" => Ok(EncapMode::Never),
        "always" => Ok(EncapMode::Always),
        "crosssubnet" | "cross-subnet" => Ok(EncapMode::CrossSubnet),
        _ => Err("must be Always, CrossSubnet or Never"),
    }
}
