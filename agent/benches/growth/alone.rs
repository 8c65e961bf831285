//! Interfaces that lead to a chain in a table with nothing else: what the kernel takes for one more at the least.
//!
//! Reached as ours are: both maps from what is forwarded, one from what is received.

use std::time::{Duration, Instant};

use tortie_policy::Ruleset;
use tortie_policy::change::{diff, from_nothing};
use tortie_policy::ir::{
    Action, Base, Chain, ChainKind, Comment, Hook, Interface, InterfaceName, Rule, Verdict, VerdictMap,
};

use super::limit::{Limit, messages};
use super::{TIMES, median};

const MAPS: [(Interface, &str); 2] = [(Interface::Input, "from"), (Interface::Output, "to")];
/// Where all lead.
const TARGET: &str = "target";

/// Time from sending the messages to the answer, for one interface more than so many.
pub(super) fn one_more(size: u32) -> Duration {
    let (base, other) = (table(size), table(size + 1));
    let (more, less) = (messages(&diff(&base, &other)), messages(&diff(&other, &base)));
    let mut kernel = Limit::open();
    kernel.send(&messages(&from_nothing(&base)));
    median(std::array::from_fn::<_, TIMES, _>(|_| {
        let begin = Instant::now();
        kernel.send(&more);
        let taken = begin.elapsed();
        kernel.send(&less);
        taken
    }))
}

fn table(size: u32) -> Ruleset {
    let name = |n: u32| InterfaceName::new(&format!("cali{n}")).expect("the name of an interface");
    let map = || VerdictMap {
        comment: Comment::default(),
        elements: (0..size).map(|n| (name(n), Verdict::Goto(TARGET.to_owned()))).collect(),
    };
    let chains = [
        (TARGET, None, vec![Action::Verdict(Verdict::Return)]),
        ("forward", Some(Hook::Forward), MAPS.map(lookup).into()),
        ("input", Some(Hook::Input), vec![lookup(MAPS[0])]),
    ];
    Ruleset {
        maps: MAPS.map(|(_, name)| (name.to_owned(), map())).into_iter().collect(),
        chains: chains
            .map(|(name, hook, actions)| (name.to_owned(), chain(hook, actions)))
            .into_iter()
            .collect(),
        ..Ruleset::empty()
    }
}

fn lookup((interface, map): (Interface, &str)) -> Action {
    Action::Lookup(interface, map.to_owned())
}

fn chain(hook: Option<Hook>, actions: Vec<Action>) -> Chain {
    let rule = |action| Rule { matches: Vec::new(), counter: false, action, comment: Comment::default() };
    Chain {
        comment: Comment::default(),
        base: hook.map(|hook| Base { kind: ChainKind::Filter, hook, priority: 0 }),
        rules: actions.into_iter().map(rule).collect(),
    }
}
