//! The generator of Go's `math/rand`, as far as IPAM needs it: where a host starts to look for a free block.
//!
//! Upstream's nodes seed it with a hash of their name, so two implementations that agree here look for blocks in the
//! same places. Nothing else may use it; it is no source of secrets.
//!
//! An additive lagged Fibonacci generator, `x[n] = x[n-607] + x[n-273]` modulo 2^64 (Go, `math/rand/rng.go`), whose
//! state is a multiplicative sequence of the seed, XORed with a fixed starting state.

mod table;

const LENGTH: usize = 607;
const TAP: usize = 273;
/// Modulus of the seeding sequence, 2^31 - 1.
const SEED_MODULUS: i64 = (1 << 31) - 1;
/// What Go takes for a seed that is 0 modulo [`SEED_MODULUS`].
const SEED_FOR_ZERO: i64 = 89_482_311;

/// `rand.New(rand.NewSource(seed))`.
pub(super) struct GoRand {
    state: Box<[u64; LENGTH]>,
    tap: usize,
    feed: usize,
}

impl GoRand {
    /// A generator at the start of the sequence of `seed`.
    pub(super) fn new(seed: u32) -> GoRand {
        let state = seeded_state(i64::from(seed), [40, 20]);
        let mut generator = GoRand { state: Box::new(state), tap: 0, feed: LENGTH - TAP };
        for (word, start) in generator.state.iter_mut().zip(table::START) {
            *word ^= start;
        }
        generator
    }

    fn next_u64(&mut self) -> u64 {
        self.tap = self.tap.checked_sub(1).unwrap_or(LENGTH - 1);
        self.feed = self.feed.checked_sub(1).unwrap_or(LENGTH - 1);
        let next = self.state[self.feed].wrapping_add(self.state[self.tap]);
        self.state[self.feed] = next;
        next
    }

    /// `Uint32`.
    fn next_u32(&mut self) -> u32 {
        let int63 = self.next_u64() & (u64::MAX >> 1);
        (int63 >> 31) as u32
    }

    /// `big.Int.Rand`: uniform below `2^bits`, drawn in 64-bit words, least significant first, and drawn again while
    /// it is not below the limit (the limit itself has `bits + 1` bits).
    pub(super) fn below_power_of_two(&mut self, bits: u32) -> u128 {
        debug_assert!(bits < 128, "no pool has so many blocks");
        let limit = 1u128 << bits;
        loop {
            let mut value = 0;
            for word in 0..=(bits / 64) {
                let low = u128::from(self.next_u32());
                let high = u128::from(self.next_u32());
                value |= (low | high << 32) << (64 * word);
            }
            value &= limit | (limit - 1);
            if value < limit {
                return value;
            }
        }
    }
}

/// FNV-1 (not 1a), 32 bits, as Go's `fnv.New32`.
pub(super) fn fnv1_32(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash: u32, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(byte))
}

/// The state a seed gives before the starting state is mixed in; three draws a word, the first two shifted.
fn seeded_state(seed: i64, shifts: [u32; 2]) -> [u64; LENGTH] {
    let mut x = match seed % SEED_MODULUS {
        0 => SEED_FOR_ZERO,
        other => other,
    };
    let mut draw = || {
        x = x * 48_271 % SEED_MODULUS;
        x as u64
    };
    for _ in 0..20 {
        draw();
    }
    let mut state = [0; LENGTH];
    for word in &mut state {
        *word = draw() << shifts[0];
        *word ^= draw() << shifts[1];
        *word ^= draw();
    }
    state
}

#[cfg(test)]
mod tests;
