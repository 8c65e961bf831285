//! From network policy to an nf_tables rule-set; pure.
//!
//! ```text
//! Snapshot ──▶ select, order ──▶ compile ──▶ Ruleset (ir) ──▶ change ──▶ netlink  (what differs, as messages for the kernel)
//!                                               ├──────────▶ nft::render         (text for people, golden files)
//!                                               └──────────▶ eval                (the same IR judged on a packet)
//! ```
//!
//! | module | what it owns |
//! |---|---|
//! | [`snapshot`] | the input |
//! | `check` | a rule as stored → a rule that cannot be wrong, or the reason why it is |
//! | `select` | labels of endpoints, which policies reach which endpoint |
//! | `order` | tiers, policies within a tier, profiles: the stages a packet passes |
//! | `sets` | selectors, nets, ports → named sets with stable names |
//! | `lower` | one checked rule → rules of the IR |
//! | `group` | stages → chains shared by all endpoints with the same stages |
//! | `dispatch` | base chains and maps that lead packets to the groups |
//! | [`ir`] | the rule-set as typed values |
//! | [`nft`] | the rule-set as text |
//! | [`netlink`] | changes as messages for the kernel, and its dumps as a rule-set |
//! | [`eval`] | the rule-set judged on a packet |
//! | [`change`] | what leads from one rule-set to another |
//!
//! Never does IO, never looks at a clock, never panics on what a user stored: what cannot be understood denies and
//! is listed in [`Compiled::problems`].

pub mod change;
mod check;
mod dispatch;
pub mod eval;
mod group;
pub mod ir;
mod lower;
pub mod netlink;
pub mod nft;
mod order;
mod select;
mod sets;
pub mod snapshot;

pub use ir::Ruleset;
pub use snapshot::Snapshot;

use std::collections::BTreeSet;
use std::fmt;

/// What [`compile`] yields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compiled {
    /// The rules of this node.
    pub ruleset: Ruleset,
    /// What could not be enforced as written, ordered by subject.
    pub problems: Vec<Problem>,
}

/// Something of the input that is not enforced as written, and what is done instead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Kind and name, such as `NetworkPolicy shop/web`.
    pub subject: String,
    /// What is wrong and what follows from it.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.reason)
    }
}

/// Compiles everything that decides about packets on one node. The same input gives the same output.
pub fn compile(snapshot: &Snapshot) -> Compiled {
    let mut problems = Problems::default();
    let endpoints = select::endpoints(snapshot);
    let policies = select::policies(snapshot, &mut problems);
    let profiles = select::profiles(snapshot, &mut problems);
    let tiers = order::tiers(snapshot, &policies, &mut problems);
    let mut groups = group::Groups::new(&tiers, &profiles, sets::Sets::new(&endpoints));
    let interfaces = dispatch::interfaces(&endpoints, &mut problems);
    let mut dispatch = dispatch::Dispatch::default();
    for (interface, endpoint) in interfaces {
        let [ingress, egress] = [ir::Direction::Ingress, ir::Direction::Egress]
            .map(|direction| groups.chain_for(endpoint, direction, &mut problems));
        dispatch.add(interface, ingress, egress);
    }
    let mut ruleset = dispatch.base(snapshot);
    groups.finish(&mut ruleset);
    Compiled { ruleset, problems: problems.0.into_iter().collect() }
}

/// Collects problems; each is kept once.
#[derive(Default)]
struct Problems(BTreeSet<Problem>);

impl Problems {
    fn add(&mut self, subject: impl fmt::Display, reason: impl fmt::Display) {
        self.0.insert(Problem { subject: subject.to_string(), reason: reason.to_string() });
    }
}
