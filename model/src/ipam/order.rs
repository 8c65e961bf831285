//! The order in which a host visits the blocks of a pool when it needs a new one or borrows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::go_rand::{GoRand, fnv1_32};

/// The number of blocks is counted in 128 bits. Only `::/0` with blocks of one address has more; half of it is visited.
const MAX_BITS: u32 = 127;

/// All blocks of a pool, from a start that depends on the host, wrapping around (calico-datamodel 4.3, step 5).
///
/// Hosts that start at different places rarely want the same block at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockOrder {
    pool: IpNetwork,
    prefix: u8,
    /// Base-two logarithm of the number of blocks; `None` when the pool is smaller than a block.
    bits: Option<u32>,
    start: u128,
}

impl BlockOrder {
    /// The order of `host` in a pool with blocks of prefix length `prefix`.
    pub fn new(pool: IpNetwork, prefix: u8, host: &str) -> BlockOrder {
        let bits = prefix.checked_sub(pool.prefix()).map(|bits| u32::from(bits).min(MAX_BITS));
        let start = bits.map_or(0, |bits| GoRand::new(fnv1_32(host)).below_power_of_two(bits));
        BlockOrder { pool, prefix, bits, start }
    }

    /// The blocks in order.
    pub fn iter(&self) -> impl Iterator<Item = IpNetwork> + '_ {
        let count = self.count();
        (0..count).map(move |step| self.block((self.start + step) % count))
    }

    /// How many blocks the host visits before this one; `None` for what is no block of the pool.
    pub fn rank(&self, block: &IpNetwork) -> Option<u128> {
        let ours = block.prefix() == self.prefix
            && block.is_ipv4() == self.pool.is_ipv4()
            && self.bits.is_some()
            && self.pool.contains(block.network());
        ours.then(|| {
            let index = (to_bits(block.network()) - to_bits(self.pool.network())) >> self.shift();
            (index % self.count() + self.count() - self.start) % self.count()
        })
    }

    fn count(&self) -> u128 {
        self.bits.map_or(0, |bits| 1 << bits)
    }

    fn shift(&self) -> u32 {
        u32::from(family_bits(&self.pool) - self.prefix)
    }

    fn block(&self, index: u128) -> IpNetwork {
        let base = to_bits(self.pool.network()) + (index << self.shift());
        IpNetwork::new(from_bits(base, self.pool.is_ipv4()), self.prefix)
            .expect("a block's length is valid in its family")
    }
}

/// Length of an address of the family: 32 or 128.
pub(super) fn family_bits(cidr: &IpNetwork) -> u8 {
    if cidr.is_ipv4() { 32 } else { 128 }
}

pub(super) fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

/// The address of these bits; an IPv4 address has 32.
pub(super) fn from_bits(bits: u128, ipv4: bool) -> IpAddr {
    if ipv4 { IpAddr::V4(Ipv4Addr::from(bits as u32)) } else { IpAddr::V6(Ipv6Addr::from(bits)) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    #[test]
    fn every_block_is_visited_once_from_the_hosts_start() {
        let order = BlockOrder::new(net("10.65.0.0/22"), 26, "node-1");
        let visited: Vec<IpNetwork> = order.iter().collect();
        assert_eq!(visited.iter().collect::<BTreeSet<_>>().len(), 16);
        for (rank, block) in visited.iter().enumerate() {
            assert_eq!(order.rank(block), Some(rank as u128), "{block}");
        }
        let next = |block: &IpNetwork| to_bits(block.network()) + 64;
        let wrapped = visited.windows(2).filter(|pair| next(&pair[0]) != to_bits(pair[1].network())).count();
        assert!(wrapped <= 1, "sequential but for the wrap: {visited:?}");
    }

    #[test]
    fn what_is_no_block_of_the_pool_has_no_rank() {
        let order = BlockOrder::new(net("10.65.0.0/22"), 26, "n");
        for other in ["10.66.0.0/26", "10.65.0.0/27", "fd00::/122"] {
            assert_eq!(order.rank(&net(other)), None, "{other}");
        }
        let too_small = BlockOrder::new(net("10.65.0.0/28"), 26, "n");
        assert_eq!(too_small.iter().count(), 0);
        assert_eq!(too_small.rank(&net("10.65.0.0/26")), None);
    }

    #[test]
    fn hosts_start_at_different_blocks_of_a_large_pool() {
        let start = |host: &str| BlockOrder::new(net("fd00::/48"), 122, host).iter().next();
        let starts: BTreeSet<_> = (0..100).map(|n| start(&format!("node-{n}"))).collect();
        assert_eq!(starts.len(), 100);
        assert!(net("fd00::/48").contains(start("node-1").unwrap().network()));
    }
}
