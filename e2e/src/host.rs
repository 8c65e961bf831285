//! The machine outside: what its links, routes and rules look like, to prove that the lab changes none.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::process::Run;

/// Links, routes and rules of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    parts: BTreeMap<&'static str, String>,
}

const PARTS: [(&str, &str); 4] = [
    ("links", "ip -o link show"),
    ("IPv4 routes", "ip -4 route show table all"),
    ("IPv6 routes", "ip -6 route show table all"),
    // Without counters and timeouts. Root only.
    ("ruleset", "nft -s list ruleset"),
];

impl Fingerprint {
    /// Takes it. An ordinary user may not read the ruleset and cannot change it either; then it is left out.
    ///
    /// # Errors
    /// When `ip` is missing or fails.
    pub fn take() -> Result<Fingerprint> {
        let mut parts = BTreeMap::new();
        for (what, line) in PARTS {
            let output = Run::line(line).output()?;
            if output.success() {
                parts.insert(what, without_clocks(&output.stdout));
            } else if what != "ruleset" {
                anyhow::bail!("`{line}`: {}", output.text().trim());
            }
        }
        Ok(Fingerprint { parts })
    }

    /// What was looked at.
    pub fn covers(&self) -> String {
        self.parts.keys().copied().collect::<Vec<_>>().join(", ")
    }

    /// What differs, with the lines that came and went; empty when nothing does.
    pub fn difference(&self, after: &Fingerprint) -> Vec<String> {
        let mut differences = Vec::new();
        for (what, before) in &self.parts {
            let now = after.parts.get(what).map_or("", String::as_str);
            let only = |here: &str, there: &str, sign: &str| {
                let gone = here.lines().filter(|line| !there.lines().any(|other| other == *line));
                gone.map(|line| format!("{what}: {sign} {line}")).collect::<Vec<_>>()
            };
            differences.extend(only(before, now, "-"));
            differences.extend(only(now, before, "+"));
        }
        differences
    }
}

/// Leaves out the running clocks of addresses and routes that routers announced.
fn without_clocks(text: &str) -> String {
    let clean = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let clock = |index: usize| words[index] == "expires" || (index > 0 && words[index - 1] == "expires");
        (0..words.len())
            .filter(|index| !clock(*index))
            .map(|index| words[index])
            .collect::<Vec<_>>()
            .join(" ")
            + "\n"
    };
    text.lines().map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_more_is_told_and_a_clock_is_not() {
        let with =
            |routes: &str| Fingerprint { parts: BTreeMap::from([("IPv4 routes", without_clocks(routes))]) };
        let before = with("default via 10.0.0.1 expires 1790sec\n");
        assert!(before.difference(&with("default via 10.0.0.1 expires 1788sec\n")).is_empty());
        let after = with("default via 10.0.0.1 expires 1788sec\n10.9.0.0/16 dev eth0\n");
        assert_eq!(before.difference(&after), ["IPv4 routes: + 10.9.0.0/16 dev eth0"]);
        assert_eq!(after.difference(&before), ["IPv4 routes: - 10.9.0.0/16 dev eth0"]);
    }
}
