//! Spread for timers, so that many sessions that began together do not speak together (RFC 4271 10). Pure: the numbers
//! follow from a seed, and the same run gives the same times.

use std::time::Duration;

/// A sequence of factors from 0.75 to 1.
#[derive(Clone, Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Jitter {
        Jitter(seed)
    }

    /// Three quarters to the whole of a time, drawn anew at each call.
    pub(crate) fn of(&mut self, time: Duration) -> Duration {
        let quarter = time / 4;
        // Of 1024 steps; times are short enough for the product.
        let steps = u32::try_from(self.next() >> 54).unwrap_or(0);
        time - quarter + quarter * steps / 1023
    }

    /// The seed of another sequence.
    pub(crate) fn fork(&mut self) -> Jitter {
        Jitter(self.next())
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_over_the_last_quarter() {
        let mut jitter = Jitter::new(7);
        let times: Vec<Duration> = (0..1000).map(|_| jitter.of(Duration::from_secs(80))).collect();
        let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(*least >= Duration::from_secs(60) && *least < Duration::from_secs(61), "{least:?}");
        assert!(*most <= Duration::from_secs(80) && *most > Duration::from_secs(79), "{most:?}");
        let mean = times.iter().sum::<Duration>() / 1000;
        assert!(mean.abs_diff(Duration::from_secs(70)) < Duration::from_secs(1), "{mean:?}");
    }

    #[test]
    fn is_the_same_for_the_same_seed_only() {
        let times = |seed| {
            let mut jitter = Jitter::new(seed);
            [(); 3].map(|()| jitter.of(Duration::from_secs(5)))
        };
        assert_eq!(times(1), times(1));
        assert_ne!(times(1), times(2));
    }

    #[test]
    fn the_longest_times_do_not_overflow() {
        let mut jitter = Jitter::new(1);
        (0..100).for_each(|_| assert!(jitter.of(Duration::from_secs(65535 * 4096)) > Duration::ZERO));
    }
}
