use super::*;

#[test]
fn draws_the_sequence_every_go_programmer_knows() {
    let mut generator = GoRand::new(1);
    let drawn: Vec<u64> = (0..10).map(|_| ((generator.next_u64() & (u64::MAX >> 1)) >> 32) % 100).collect();
    assert_eq!(drawn, [81, 87, 47, 59, 81, 18, 25, 40, 56, 0]);
}

#[test]
fn fnv1_has_its_published_values() {
    assert_eq!(fnv1_32(""), 0x811c_9dc5);
    assert_eq!(fnv1_32("a"), 0x050c_5d7e);
    assert_eq!(fnv1_32("foobar"), 0x31f0_b262);
}

#[test]
fn a_draw_stays_below_its_limit() {
    for bits in [0, 1, 10, 63, 64, 65, 106] {
        let mut generator = GoRand::new(7);
        for _ in 0..20 {
            assert!(generator.below_power_of_two(bits) < 1 << bits, "{bits} bits");
        }
    }
}

/// A polynomial below x^607 over the integers modulo 2^64.
type Polynomial = Vec<u64>;

/// The product modulo x^607 = x^334 + 1, the recurrence's characteristic polynomial.
fn multiply(a: &Polynomial, b: &Polynomial) -> Polynomial {
    let mut product = vec![0u64; 2 * LENGTH - 1];
    for (i, x) in a.iter().enumerate().filter(|(_, x)| **x != 0) {
        for (j, y) in b.iter().enumerate() {
            product[i + j] = product[i + j].wrapping_add(x.wrapping_mul(*y));
        }
    }
    for i in (LENGTH..product.len()).rev() {
        let carry = product[i];
        for target in [i - LENGTH, i - TAP] {
            product[target] = product[target].wrapping_add(carry);
        }
    }
    product.truncate(LENGTH);
    product
}

/// Go's `gen_cooked.go` runs the generator 7.8e12 steps; jumping there takes 43 squarings.
#[test]
fn the_table_is_the_generator_far_from_its_start() {
    const STEPS: u64 = 7_800_000_000_000;
    let position = |step: u64| (LENGTH - TAP + LENGTH - (step % LENGTH as u64) as usize) % LENGTH;
    // Word of step s lies at position(s); the seed fills steps 1 to 607 (counted modulo the length).
    let seed = seeded_state(1, [20, 10]);
    let mut sequence: Vec<u64> = (1..=LENGTH as u64).map(|step| seed[position(step)]).collect();
    for n in LENGTH..2 * LENGTH {
        sequence.push(sequence[n - LENGTH].wrapping_add(sequence[n - TAP]));
    }
    let mut power: Polynomial = vec![0; LENGTH];
    power[0] = 1;
    let mut square: Polynomial = vec![0; LENGTH];
    square[1] = 1;
    let mut rest = STEPS;
    while rest > 0 {
        if rest & 1 == 1 {
            power = multiply(&power, &square);
        }
        square = multiply(&square, &square);
        rest >>= 1;
    }
    let jumped = |offset: usize| {
        power.iter().zip(&sequence[offset..]).fold(0u64, |sum, (p, s)| sum.wrapping_add(p.wrapping_mul(*s)))
    };
    let mut found = [0; LENGTH];
    for offset in 0..LENGTH {
        found[position(STEPS + 1 + offset as u64)] = jumped(offset);
    }
    assert_eq!(found, table::START);
}
