//! `ipam show`: how full pools and blocks are, and who has an address (calico-datamodel 6.6).

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use tortie_datastore::Client;
use tortie_datastore::ipam::Ipam;
use tortie_model::Key;
use tortie_model::ipam::{AllocationAttribute, Block, IpamConfig};
use tortie_model::resource::{IpPool, IpPoolSpec};

use super::{address, words};
use crate::cli::{Global, IpamShowArgs};
use crate::context;
use crate::operations::OperationError;
use crate::outcome::Outcome;
use crate::output::table::boxed;

pub(super) async fn run(global: &Global, args: &IpamShowArgs) -> anyhow::Result<Outcome> {
    let address = args.ip.as_deref().map(address).transpose()?;
    let client = context::client(global).await?;
    let (blocks, unreadable) = match blocks(&client).await {
        Ok(found) => found,
        Err(error) => return Ok(Outcome::failed(words(error))),
    };
    let stdout = match address {
        Some(address) => owner_of(address, &blocks),
        None if args.show_configuration => {
            let ipam = Ipam::new(client, std::time::SystemTime::now);
            match ipam.configuration().await {
                Ok(config) => configuration(&config),
                Err(error) => return Ok(Outcome::failed(words(OperationError::Ipam(error)))),
            }
        }
        None if args.show_borrowed => borrowed(&blocks),
        None => match client.find_every::<IpPoolSpec>().await {
            Ok(pools) => usage(&pools, &blocks, args.show_blocks),
            Err(error) => return Ok(Outcome::failed(words(error.into()))),
        },
    };
    Ok(Outcome { stdout, failed: !unreadable.is_empty(), stderr: unreadable.join("\n") })
}

/// All blocks in order, and what is said about values that are none.
async fn blocks(client: &Client) -> Result<(Vec<Block>, Vec<String>), OperationError> {
    let (mut blocks, mut unreadable) = (Vec::new(), Vec::new());
    for ipv6 in [false, true] {
        for entry in client.store().list(&Key::block_prefix(ipv6)).await?.entries {
            match serde_json::from_slice::<Block>(&entry.value) {
                Ok(block) => blocks.push(block),
                Err(error) => unreadable.push(format!("value of {} is not a block: {error}", entry.key)),
            }
        }
    }
    blocks.sort_by_key(|block| (block.cidr.is_ipv6(), block.cidr.ip(), block.cidr.prefix()));
    Ok((blocks, unreadable))
}

fn usage(pools: &[IpPool], blocks: &[Block], show_blocks: bool) -> String {
    let inside = |network: &IpNetwork, block: &Block| network.contains(block.cidr.ip());
    let mut rows = Vec::new();
    for pool in pools {
        let own: Vec<&Block> = blocks.iter().filter(|block| inside(&pool.spec.cidr, block)).collect();
        let used: usize = own.iter().map(|block| in_use(block)).sum();
        rows.push(row("IP Pool", &pool.spec.cidr, used));
        if show_blocks {
            rows.extend(own.iter().map(|block| row("Block", &block.cidr, in_use(block))));
        }
    }
    if show_blocks {
        let orphans = blocks.iter().filter(|block| !pools.iter().any(|pool| inside(&pool.spec.cidr, block)));
        rows.extend(orphans.map(|block| row("Block", &block.cidr, in_use(block))));
    }
    boxed(&["GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE", "IPS FREE"], &rows)
}

fn in_use(block: &Block) -> usize {
    block.in_use().count()
}

fn row(grouping: &str, cidr: &IpNetwork, used: usize) -> Vec<String> {
    let length = if cidr.is_ipv4() { 32 } else { 128 };
    let total = 2_f64.powi(length - i32::from(cidr.prefix()));
    let used = used as f64;
    let share = |part: f64| format!("{} ({:.0}%)", go_g5(part), 100.0 * part / total);
    vec![grouping.to_owned(), cidr.to_string(), go_g5(total), share(used), share(total - used)]
}

/// Addresses whose node is not the one that has their block.
fn borrowed(blocks: &[Block]) -> String {
    let mut rows = Vec::new();
    for block in blocks {
        let Some(host) = block.host() else { continue };
        for (address, owner) in block.in_use() {
            let attribute =
                |name: &str| owner.secondary.as_ref().and_then(|all| all.get(name)).map(String::as_str);
            let Some(node) = attribute("node").filter(|node| *node != host) else { continue };
            let (kind, holder) = match (attribute("pod"), attribute("type")) {
                (Some(pod), _) => ("Pod", format!("{}/{pod}", attribute("namespace").unwrap_or_default())),
                (None, Some(kind)) => (kind, owner.handle_id.clone().unwrap_or_default()),
                (None, None) => ("Unknown", owner.handle_id.clone().unwrap_or_default()),
            };
            let cells = [&address.to_string(), node, &block.cidr.to_string(), host, kind, holder.as_str()];
            rows.push(cells.iter().map(|cell| (*cell).to_owned()).collect());
        }
    }
    boxed(&["IP", "BORROWING-NODE", "BLOCK", "BLOCK OWNER", "TYPE", "ALLOCATED-TO"], &rows)
}

/// The settings, named as upstream names them.
fn configuration(config: &IpamConfig) -> String {
    let persistence = config.kube_virt_vm_address_persistence.as_deref().unwrap_or("Enabled");
    let rows = [
        ("StrictAffinity", config.strict_affinity.to_string()),
        ("AutoAllocateBlocks", config.auto_allocate_blocks.to_string()),
        ("MaxBlocksPerHost", config.max_blocks_per_host.to_string()),
        ("KubeVirtVMAddressPersistence", persistence.to_owned()),
        ("IPCooldownSeconds", config.ip_cooldown_seconds.to_string()),
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    boxed(&["PROPERTY", "VALUE"], &rows)
}

/// Go's `%.5g`: five digits, with an exponent when that is not enough for the whole part.
fn go_g5(value: f64) -> String {
    let scientific = format!("{value:.4e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if (-4..5).contains(&exponent) {
        let decimals = usize::try_from(4 - exponent).unwrap_or(0);
        return trimmed(&format!("{value:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(digits), exponent.abs())
}

fn owner_of(address: IpAddr, blocks: &[Block]) -> String {
    let allocation = blocks.iter().find_map(|block| block.owner(address));
    match allocation {
        Some(attribute) => format!("IP {address} is in use\n{}", attributes(attribute)),
        None => format!("{address} is not assigned\n"),
    }
}

fn attributes(attribute: &AllocationAttribute) -> String {
    let handle = attribute.handle_id.as_deref().filter(|id| !id.is_empty()).unwrap_or("<none>");
    let mut text = format!("Handle ID: {handle}\n");
    let none = BTreeMap::new();
    let active = attribute.secondary.as_ref().unwrap_or(&none);
    if active.is_empty() {
        text.push_str("No Active Owner attributes defined\n");
    } else {
        text.push_str("Active Owner Attributes:\n");
        for (key, value) in active {
            text.push_str(&format!("  {key}: {value}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(json: &str) -> Block {
        serde_json::from_str(json).unwrap()
    }

    fn example() -> Block {
        block(
            r#"{"cidr":"10.65.3.0/30","affinity":"host:n1","allocations":[0,null,1,null],"unallocated":[3,1],
                "attributes":[{"handle_id":"ipip-tunnel-addr-n1","secondary":{"type":"ipipTunnelAddress","node":"n1"}},
                              {"handle_id":null,"secondary":null}]}"#,
        )
    }

    #[test]
    fn numbers_print_as_gos_g_with_five_digits() {
        for (value, expected) in [
            (0.0, "0"),
            (64.0, "64"),
            (65536.0, "65536"),
            (1_048_576.0, "1.0486e+06"),
            (2_f64.powi(80), "1.2089e+24"),
        ] {
            assert_eq!(go_g5(value), expected);
        }
    }

    #[test]
    fn usage_is_a_box_of_pools_and_blocks() {
        let pool = IpPool::new(
            tortie_model::ObjectMeta::named("p"),
            IpPoolSpec { cidr: "10.65.0.0/16".parse().unwrap(), ..IpPoolSpec::default() },
        );
        let text = usage(
            &[pool],
            &[example(), block(r#"{"cidr":"10.9.0.0/30","allocations":[],"unallocated":[]}"#)],
            true,
        );
        let expected = "\
+----------+--------------+-----------+------------+--------------+
| GROUPING |     CIDR     | IPS TOTAL | IPS IN USE |   IPS FREE   |
+----------+--------------+-----------+------------+--------------+
| IP Pool  | 10.65.0.0/16 |     65536 | 2 (0%)     | 65534 (100%) |
| Block    | 10.65.3.0/30 |         4 | 2 (50%)    | 2 (50%)      |
| Block    | 10.9.0.0/30  |         4 | 0 (0%)     | 4 (100%)     |
+----------+--------------+-----------+------------+--------------+
";
        assert_eq!(text, expected);
    }

    #[test]
    fn borrowed_addresses_name_both_nodes() {
        let borrowed_by_n2 = r#"{"cidr":"10.65.3.0/30","affinity":"host:n1","allocations":[0,1,null,null],"unallocated":[2,3],
            "attributes":[{"handle_id":"a","secondary":{"node":"n2","namespace":"shop","pod":"till"}},
                          {"handle_id":"b","secondary":{"node":"n1","namespace":"shop","pod":"own"}}]}"#;
        let expected = "\
+-----------+----------------+--------------+-------------+------+--------------+
|    IP     | BORROWING-NODE |    BLOCK     | BLOCK OWNER | TYPE | ALLOCATED-TO |
+-----------+----------------+--------------+-------------+------+--------------+
| 10.65.3.0 | n2             | 10.65.3.0/30 | n1          | Pod  | shop/till    |
+-----------+----------------+--------------+-------------+------+--------------+
";
        assert_eq!(borrowed(&[block(borrowed_by_n2)]), expected);
    }

    #[test]
    fn settings_are_named_as_upstream_names_them() {
        let text = configuration(&IpamConfig { ip_cooldown_seconds: 30, ..IpamConfig::absent() });
        for line in
            ["| StrictAffinity               | false   |", "| IPCooldownSeconds            |      30 |"]
        {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn an_address_says_who_has_it() {
        let blocks = [example()];
        assert_eq!(
            owner_of("10.65.3.0".parse().unwrap(), &blocks),
            "IP 10.65.3.0 is in use\nHandle ID: ipip-tunnel-addr-n1\nActive Owner Attributes:\n  node: n1\n  \
             type: ipipTunnelAddress\n"
        );
        assert_eq!(
            owner_of("10.65.3.2".parse().unwrap(), &blocks),
            "IP 10.65.3.2 is in use\nHandle ID: <none>\nNo Active Owner attributes defined\n"
        );
        assert_eq!(owner_of("10.65.3.1".parse().unwrap(), &blocks), "10.65.3.1 is not assigned\n");
        assert_eq!(owner_of("10.66.0.1".parse().unwrap(), &blocks), "10.66.0.1 is not assigned\n");
    }
}
