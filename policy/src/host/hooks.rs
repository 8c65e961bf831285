//! Which hooks lead to host endpoints on this node, and the chains in between.

use std::collections::BTreeMap;

use super::{Ask, Local, Ways, failsafe};
use crate::Problems;
use crate::dispatch::{TUNNEL_PEERS, base, chain, goto, jump, rule, uncounted};
use crate::ir::{
    Action, AddressSet, ChainKind, Comment, Direction, Family, Hook, Interface, Match, Op, PortSet, Rule,
    Ruleset, Side, Verdict, VerdictMap,
};
use crate::phase::{ALLOWED, ALLOWED_UNTRACKED, Phase};
use crate::snapshot::{Options, Surroundings};

/// A phase and direction with its dispatch chain, which is also the name of its map.
const PLACES: [(Phase, Direction, &str); 7] = [
    (Phase::Untracked, Direction::Ingress, "host-raw-in"),
    (Phase::Untracked, Direction::Egress, "host-raw-out"),
    (Phase::PreDnat, Direction::Ingress, "host-dnat-in"),
    (Phase::Forward, Direction::Ingress, "host-forward-in"),
    (Phase::Forward, Direction::Egress, "host-forward-out"),
    (Phase::Host, Direction::Ingress, "host-input"),
    (Phase::Host, Direction::Egress, "host-output"),
];

/// Where host endpoints of this node have to be asked.
#[derive(Default)]
pub(crate) struct Hooks(BTreeMap<&'static str, (Phase, Direction, Ways)>);

impl Hooks {
    pub(crate) fn new(local: &Local<'_>, ask: &mut impl Ask, problems: &mut Problems) -> Hooks {
        let mut hooks = Hooks::default();
        for (phase, direction, name) in PLACES {
            let ways = Ways::new(local, phase, direction, ask, problems);
            if !ways.is_empty() {
                hooks.0.insert(name, (phase, direction, ways));
            }
        }
        hooks
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether what comes in may be marked as allowed.
    fn marks_received(&self) -> bool {
        self.has("host-raw-in") || self.has("host-dnat-in")
    }

    /// Rules of the first base chain of received packets: before and after it has judged workloads.
    pub(crate) fn prerouting(&self) -> (Vec<Rule>, Vec<Rule>) {
        let before = self.marks_received().then(|| mark(false));
        (before.into_iter().collect(), self.to("host-raw-in"))
    }

    /// Rules for what is forwarded, before and after workloads are asked.
    pub(crate) fn forward(&self) -> (Vec<Rule>, Vec<Rule>) {
        let mut before = self.to("host-forward-in");
        if self.marks_received() {
            before.iter_mut().for_each(|rule| rule.matches.insert(0, Match::Mark(Op::IsNot)));
        }
        (before, self.to("host-forward-out"))
    }

    /// Rules for what is for this node, after workloads are asked.
    pub(crate) fn input(&self) -> Vec<Rule> {
        let mut rules = self.to("host-input");
        if !rules.is_empty() && self.marks_received() {
            rules.insert(0, allowed_before());
        }
        rules
    }

    fn to(&self, name: &str) -> Vec<Rule> {
        if self.has(name) { vec![jump(vec![], name)] } else { Vec::new() }
    }

    /// Adds the chains and maps that are host endpoints' alone.
    pub(crate) fn install(self, around: &Surroundings, ruleset: &mut Ruleset) {
        if self.0.is_empty() {
            return;
        }
        self.received(ruleset);
        self.sent(around, ruleset);
        for (name, verdict) in [(ALLOWED, self.marks_received()), (ALLOWED_UNTRACKED, self.untracks())] {
            if verdict {
                ruleset.chains.insert(name.to_owned(), allowed(name));
            }
        }
        let places = self.0.values().map(|(phase, direction, _)| (*phase, *direction));
        failsafe::install_for(&around.options, places, ruleset);
        for (name, (phase, direction, ways)) in self.0 {
            dispatch(name, phase, direction, ways, ruleset);
        }
    }

    fn untracks(&self) -> bool {
        self.has("host-raw-in") || self.has("host-raw-out")
    }

    /// Before a service's address is translated.
    fn received(&self, ruleset: &mut Ruleset) {
        if self.has("host-dnat-in") {
            let rules = vec![known_flows(), allowed_before(), jump(vec![], "host-dnat-in")];
            let chain = base(Hook::Prerouting, ChainKind::Filter, -150, rules);
            ruleset.chains.insert("prerouting-host".to_owned(), chain);
        }
    }

    /// What this node sends. A translated packet is judged after routing: before, it is not known where it leaves.
    fn sent(&self, around: &Surroundings, ruleset: &mut Ruleset) {
        let marked = self.has("host-raw-out");
        let before = || marked.then(allowed_before);
        if marked {
            let rules = vec![mark(false), jump(vec![], "host-raw-out")];
            let chain = base(Hook::Output, ChainKind::Filter, -300, rules);
            ruleset.chains.insert("output-raw".to_owned(), chain);
        }
        if !self.has("host-output") {
            return;
        }
        let to_workload = vec![Match::WorkloadInterface(Interface::Output)];
        let mut rules: Vec<Rule> = [known_flows()].into_iter().chain(before()).collect();
        rules.push(uncounted(rule(to_workload, Verdict::Accept, "a node reaches its workloads")));
        rules.extend(tunnels(&around.options, ruleset));
        rules.push(uncounted(rule(vec![Match::Translated], Verdict::Accept, "after routing")));
        rules.push(jump(vec![], "host-output"));
        ruleset.chains.insert("output".to_owned(), base(Hook::Output, ChainKind::Filter, 0, rules));
        let mut rules: Vec<Rule> = [known_flows()].into_iter().chain(before()).collect();
        rules.push(goto(vec![Match::Translated, Match::LocalSource], "host-output"));
        let chain = base(Hook::Postrouting, ChainKind::Filter, -150, rules);
        ruleset.chains.insert("postrouting-host".to_owned(), chain);
    }
}

/// Policy of a host endpoint must not cut the tunnels between nodes (felix-dataplane 2.6).
fn tunnels(options: &Options, ruleset: &Ruleset) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (family, set) in TUNNEL_PEERS {
        if !ruleset.sets.contains_key(set) {
            continue;
        }
        let to_peer = Match::Address(Side::Destination, family, Op::Is, AddressSet::Named(set.to_owned()));
        if family == Family::V4 {
            let ipip = vec![Match::Protocol(Op::Is, 4), to_peer.clone()];
            rules.push(rule(ipip, Verdict::Accept, "IPIP to a node"));
        }
        if options.vxlan {
            let port = PortSet::Range(options.vxlan_port, options.vxlan_port);
            let vxlan =
                vec![Match::Protocol(Op::Is, 17), Match::Port(Side::Destination, Op::Is, port), to_peer];
            rules.push(rule(vxlan, Verdict::Accept, "VXLAN to a node"));
        }
    }
    rules
}

/// From the name of an interface to the policy of the host endpoint in charge of it.
fn dispatch(name: &str, phase: Phase, direction: Direction, ways: Ways, ruleset: &mut Ruleset) {
    let interface = match direction {
        Direction::Ingress => Interface::Input,
        Direction::Egress => Interface::Output,
    };
    let mut rules = Vec::new();
    if !ways.named.is_empty() {
        let action = Action::Lookup(interface, name.to_owned());
        rules.push(Rule { matches: vec![], counter: false, action, comment: Comment::default() });
        let comment = Comment::new("host endpoints by interface");
        ruleset
            .maps
            .insert(name.to_owned(), VerdictMap { comment, elements: ways.named.into_iter().collect() });
    }
    if let Some(rest) = ways.rest {
        // Before translation it is not about workloads but about whoever comes to a service of this node.
        if phase != Phase::PreDnat {
            let workload = vec![Match::WorkloadInterface(interface)];
            rules.push(uncounted(rule(workload, Verdict::Return, "not the host's")));
        }
        rules.push(goto(vec![], &rest));
    }
    let text = match phase {
        Phase::Untracked => "host endpoints before connection tracking",
        Phase::PreDnat => "host endpoints before address translation",
        Phase::Forward => "host endpoints for what is forwarded",
        Phase::Host | Phase::Workload => "host endpoints for this node itself",
    };
    ruleset.chains.insert(name.to_owned(), chain(text, rules));
}

fn known_flows() -> Rule {
    uncounted(rule(vec![Match::Established], Verdict::Accept, "known flows"))
}

fn allowed_before() -> Rule {
    uncounted(rule(vec![Match::Mark(Op::Is)], Verdict::Accept, "allowed before"))
}

fn mark(set: bool) -> Rule {
    Rule { matches: vec![], counter: false, action: Action::Mark(set), comment: Comment::default() }
}

fn allowed(name: &str) -> crate::ir::Chain {
    let mut rules = vec![mark(true), uncounted(rule(vec![], Verdict::Accept, ""))];
    if name == ALLOWED_UNTRACKED {
        rules.insert(0, Rule { action: Action::NoTrack, ..mark(true) });
    }
    chain("host policy allowed it: later policy of the host is skipped", rules)
}
