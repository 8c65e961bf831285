//! The same policies by the `nftables` crate, which gives JSON to an `nft` process. It cannot say a map from interfaces to
//! verdicts, so a rule for each interface leads to the chain of its group; and a rule is taken away by the number it got.

use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;
use nftables::batch::Batch;
use nftables::expr::{CT, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField};
use nftables::helper::{apply_and_return_ruleset, apply_ruleset};
use nftables::schema::{
    Chain, Element, FlushObject, NfCmd, NfListObject, NfObject, Nftables, Rule, Set, SetType, SetTypeValue,
    Table,
};
use nftables::stmt::{JumpTarget, Match, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use tortie_policy::ir;
use tortie_policy::ir::Direction;

use crate::world::{self, FIRST_PORT};
use crate::{OTHER_PORT, WORLD, text};

const TABLE: &str = "wrapped";
const LIST: &str = "to-workload";

pub(super) fn all(group: &mut BenchmarkGroup<'_, WallTime>) {
    text::nft("flush ruleset");
    let load = load();
    group.bench_function("full/crate", |bencher| bencher.iter(|| apply_ruleset(&load).expect("a load")));

    let interface = one(NfCmd::Add(dispatch(WORLD.endpoints)));
    group.bench_function("endpoint_there_and_back/crate", |bencher| {
        bencher.iter(|| {
            let made = apply_and_return_ruleset(&interface).expect("a rule");
            apply_ruleset(&one(NfCmd::Delete(numbered(&made)))).expect("no rule");
        });
    });
    let (_, peer) = world::peer(0, world::PEERS);
    let member = || {
        NfListObject::Element(Element {
            family: NfFamily::INet,
            table: TABLE.into(),
            name: "peers-0".into(),
            elem: peer.addresses.iter().map(word).collect(),
        })
    };
    let both = [one(NfCmd::Add(member())), one(NfCmd::Delete(member()))];
    group.bench_function("member_there_and_back/crate", |bencher| {
        bencher.iter(|| both.each_ref().map(|change| apply_ruleset(change).expect("a change")));
    });
    let both = [OTHER_PORT, FIRST_PORT].map(|port| {
        let mut batch = Batch::new();
        batch.add_cmd(NfCmd::Flush(FlushObject::Chain(chain(group_chain(0)))));
        group_rules(0, port).for_each(|rule| batch.add(rule));
        batch.to_nftables()
    });
    group.bench_function("policy_there_and_back/crate", |bencher| {
        bencher.iter(|| both.each_ref().map(|change| apply_ruleset(change).expect("a change")));
    });
    text::nft("flush ruleset");
}

/// The table anew.
fn load() -> Nftables<'static> {
    let table =
        || NfListObject::Table(Table { family: NfFamily::INet, name: TABLE.into(), ..Table::default() });
    let mut batch = Batch::new();
    batch.add(table());
    batch.delete(table());
    batch.add(table());
    for (name, part) in &WORLD.chains().sets {
        let ir::Elements::Addresses(_, addresses) = &part.elements else { continue };
        batch.add(NfListObject::Set(Box::new(Set {
            family: NfFamily::INet,
            table: TABLE.into(),
            name: name.clone().into(),
            set_type: SetTypeValue::Single(SetType::Ipv4Addr),
            elem: Some(addresses.iter().map(word).collect()),
            ..Set::default()
        })));
    }
    for group in 0..WORLD.groups {
        batch.add(NfListObject::Chain(chain(group_chain(group))));
        group_rules(group, FIRST_PORT).for_each(|rule| batch.add(rule));
        batch.add(rule(group_chain(group), vec![Statement::Drop(None)]));
    }
    batch.add(NfListObject::Chain(chain(LIST.to_owned())));
    (0..WORLD.endpoints).for_each(|n| batch.add(dispatch(n)));
    batch.add(NfListObject::Chain(Chain {
        _type: Some(NfChainType::Filter),
        hook: Some(NfHook::Forward),
        prio: Some(0),
        policy: Some(NfChainPolicy::Accept),
        ..chain("forward".to_owned())
    }));
    batch.add(rule("forward".to_owned(), vec![established(), Statement::Accept(None)]));
    batch.add(rule("forward".to_owned(), vec![Statement::Goto(JumpTarget { target: LIST.into() })]));
    batch.to_nftables()
}

fn one(command: NfCmd<'static>) -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add_cmd(command);
    batch.to_nftables()
}

/// The rule that was made, by its number.
fn numbered(made: &Nftables<'_>) -> NfListObject<'static> {
    let handle = made.objects.iter().find_map(|object| match object {
        NfObject::CmdObject(NfCmd::Add(NfListObject::Rule(rule)))
        | NfObject::ListObject(NfListObject::Rule(rule)) => rule.handle,
        NfObject::CmdObject(_) | NfObject::ListObject(_) => None,
    });
    NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: LIST.into(),
        handle: Some(handle.expect("its number")),
        ..Rule::default()
    })
}

fn group_chain(group: u32) -> String {
    format!("group-{group}")
}

fn chain(name: String) -> Chain<'static> {
    Chain { family: NfFamily::INet, table: TABLE.into(), name: name.into(), ..Chain::default() }
}

fn rule(chain: String, statements: Vec<Statement<'static>>) -> NfListObject<'static> {
    NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: statements.into(),
        ..Rule::default()
    })
}

/// The rules of all policies of a group, the ports of the first one beginning with this.
fn group_rules(group: u32, first_port: u16) -> impl Iterator<Item = NfListObject<'static>> {
    let policies = (0..WORLD.policies).map(move |n| n * WORLD.groups + group);
    policies.flat_map(move |n| {
        let port = if n == group { first_port } else { FIRST_PORT };
        let rules = WORLD.chain_of_policy(Direction::Ingress, n, port).rules;
        rules.into_iter().map(move |part| rule(group_chain(group), statements(&part)))
    })
}

fn statements(rule: &ir::Rule) -> Vec<Statement<'static>> {
    let mut statements = Vec::new();
    for condition in &rule.matches {
        if let ir::Match::Address(_, _, _, ir::AddressSet::Named(set)) = condition {
            statements.push(is(field("ip", "saddr"), word(&format!("@{set}"))));
        }
        if let ir::Match::Port(_, _, ir::PortSet::Range(port, _)) = condition {
            statements.push(is(field("tcp", "dport"), Expression::Number(u32::from(*port))));
        }
    }
    statements.push(Statement::Accept(None));
    statements
}

/// Leads from the interface of an endpoint to its group.
fn dispatch(n: u32) -> NfListObject<'static> {
    let interface = Expression::Named(NamedExpression::Meta(Meta { key: MetaKey::Oifname }));
    let target = JumpTarget { target: group_chain(n % WORLD.groups).into() };
    rule(LIST.to_owned(), vec![is(interface, word(&world::interface(n))), Statement::Goto(target)])
}

fn established() -> Statement<'static> {
    let state = CT { key: "state".into(), family: None, dir: None };
    let left = Expression::Named(NamedExpression::CT(state));
    let right = Expression::List(vec![word(&"established"), word(&"related")]);
    Statement::Match(Match { left, right, op: Operator::IN })
}

fn is(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op: Operator::EQ })
}

fn word(text: &impl ToString) -> Expression<'static> {
    Expression::String(text.to_string().into())
}

fn field(protocol: &'static str, field: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: protocol.into(), field: field.into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}
