//! From network policy to an nf_tables rule-set; pure.
//!
//! ```text
//! what is set ──▶ Engine ──flush──▶ Ruleset (ir) ──▶ change ──▶ netlink  (what differs, as messages for the kernel)
//!                                      ├──────────▶ nft::render         (text for people, golden files)
//!                                      └──────────▶ eval                (the same IR judged on a packet)
//! ```
//!
//! | module | what it owns |
//! |---|---|
//! | [`snapshot`] | the input, and all of it at once |
//! | `engine` | what was set, and what of the outcome it touches |
//! | `check` | a rule as stored → a rule that cannot be wrong, or the reason why it is |
//! | `select` | policies and profiles as stored → ones that can be enforced, and whom they are about |
//! | `index` | which labels a selector matches |
//! | `members` | whom selectors of rules can name, counted |
//! | `order` | tiers, policies within a tier, profiles: the stages a packet passes |
//! | `sets` | selectors, nets, ports → named sets with stable names |
//! | `lower` | one checked rule → rules of the IR |
//! | `merge` | runs of rules → lookups in merged sets |
//! | `group` | stages → chains shared by all endpoints with the same stages |
//! | `dispatch` | base chains and maps that lead packets to the groups |
//! | `phase` | where on its way a packet is asked about, and what "allowed" means there |
//! | `host` | host endpoints: their interfaces, hooks and failsafe ports |
//! | `staged` | policies that are counted, never enforced |
//! | `log` | prefixes of the lines of `Log` |
//! | [`ir`] | the rule-set as typed values |
//! | [`nft`] | the rule-set as text |
//! | [`netlink`] | changes as messages for the kernel, and its dumps as a rule-set |
//! | [`eval`] | the rule-set judged on a packet |
//! | [`flows`] | the rule-set judged on a flow that goes on |
//! | [`counters`] | what rules have counted, by policy |
//! | [`change`] | what leads from one rule-set to another |
//!
//! Never does IO, never looks at a clock, never panics on what a user stored: what cannot be understood denies and
//! is listed in [`Compiled::problems`].

pub mod change;
mod check;
pub mod counters;
mod dispatch;
mod engine;
pub mod eval;
pub mod flows;
mod group;
mod host;
mod index;
pub mod ir;
mod log;
mod lower;
mod members;
mod merge;
pub mod netlink;
pub mod nft;
mod order;
mod phase;
mod select;
mod sets;
pub mod snapshot;
mod staged;

pub use engine::Engine;
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
    let mut engine = Engine::default();
    engine.set_all(snapshot);
    engine.flush()
}

/// Collects problems; each is kept once.
#[derive(Default)]
struct Problems(BTreeSet<Problem>);

impl Problems {
    fn add(&mut self, subject: impl fmt::Display, reason: impl fmt::Display) {
        self.0.insert(Problem { subject: subject.to_string(), reason: reason.to_string() });
    }
}
