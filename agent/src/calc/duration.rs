//! Durations as Go writes them (`30s`, `1m30s`, `1.5h`, `0`), which is how v3 resources store them.

use std::time::Duration;

/// Units with their length in seconds, longer names before their prefixes.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

/// Reads a duration; `None` when the text is none, or it is negative.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, length) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        seconds += number * length;
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

/// Reads a duration and rounds it to whole seconds, as BIRD's options take them.
pub(super) fn parse_seconds(text: &str) -> Option<Duration> {
    let exact = parse(text)?;
    Some(Duration::from_secs(exact.as_secs() + u64::from(exact.subsec_millis() >= 500)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        for (text, seconds) in
            [("30s", 30.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("100ms", 0.1), ("0", 0.0), ("2h3m", 7380.0)]
        {
            assert_eq!(parse(text).map(|d| d.as_secs_f64()), Some(seconds), "{text}");
        }
        for bad in ["", "30", "s", "-1s", "1d", "1.2.3s", "1s "] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse_seconds("10.6s"), Some(Duration::from_secs(11)));
        assert_eq!(parse_seconds("1400ms"), Some(Duration::from_secs(1)));
    }
}
