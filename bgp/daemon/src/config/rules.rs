//! Filters as the file has them: everything, nothing, or a list of prefixes of which the first that matches decides.

use ipnetwork::IpNetwork;
use tortie_bgp::filter::{Filter, PrefixMatch, Rule, Verdict};

use super::document::{Everything, Rules};

impl Rules {
    /// The filter; a list ends with a rule that rejects.
    ///
    /// # Errors
    /// The entry that is no prefix.
    pub(super) fn filter(&self) -> Result<Filter, String> {
        let rules = match self {
            Rules::All(Everything::Accept) => vec![rule("everything", None, Verdict::Accept)],
            Rules::All(Everything::Reject) => vec![rule("everything", None, Verdict::Reject)],
            Rules::List(words) => {
                let listed = words.iter().map(|word| listed(word).ok_or_else(|| word.clone()));
                listed.chain([Ok(rule("not listed", None, Verdict::Reject))]).collect::<Result<_, _>>()?
            }
        };
        Ok(Filter::new(rules))
    }
}

/// `10.0.0.0/8` is the very prefix, `10.0.0.0/8+` also everything inside; `!` in front rejects.
fn listed(word: &str) -> Option<Rule> {
    let (verdict, rest) = match word.strip_prefix('!') {
        Some(rest) => (Verdict::Reject, rest),
        None => (Verdict::Accept, word),
    };
    let prefix = match rest.strip_suffix('+') {
        Some(prefix) => PrefixMatch::In(network(prefix)?),
        None => PrefixMatch::Equal(network(rest)?),
    };
    Some(rule(word, Some(prefix), verdict))
}

/// With its length written, and without bits behind it.
fn network(text: &str) -> Option<IpNetwork> {
    let network: IpNetwork = text.parse().ok()?;
    (text.contains('/') && network.ip() == network.network()).then_some(network)
}

fn rule(reason: &str, prefix: Option<PrefixMatch>, verdict: Verdict) -> Rule {
    Rule { prefix, ..Rule::new(reason, verdict) }
}
