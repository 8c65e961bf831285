//! Waiting for a condition with a deadline: the only place of the lab that sleeps.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(30);

/// Multiplies every deadline: 10 inside a machine emulated by software.
const SLOW: &str = "TORTIE_E2E_SLOW";

/// A deadline of so many seconds on an ordinary machine, stretched by the environment variable `TORTIE_E2E_SLOW`.
pub fn seconds(count: u32) -> Duration {
    let factor = std::env::var(SLOW).ok().and_then(|text| text.parse().ok()).filter(|f| *f >= 1);
    Duration::from_secs(count.into()) * factor.unwrap_or(1)
}

/// Repeats `probe` until it succeeds and returns its value.
///
/// # Errors
/// Past the deadline: what was waited for, how long, and the last failure.
pub fn eventually<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= limit => {
                return Err(anyhow!("{what}: not within {} s; last seen: {error:#}", limit.as_secs()));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_first_success_and_the_last_failure() {
        let mut count = 0;
        let value = eventually("three", Duration::from_secs(5), || {
            count += 1;
            if count == 3 { Ok(count) } else { Err(anyhow!("only {count}")) }
        });
        assert_eq!(value.unwrap(), 3);
        let error = eventually("never", Duration::ZERO, || Err::<(), _>(anyhow!("still no"))).unwrap_err();
        assert_eq!(error.to_string(), "never: not within 0 s; last seen: still no");
    }
}
