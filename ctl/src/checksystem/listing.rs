//! The tables of others, out of what `nft -j list ruleset` prints; pure.
//!
//! Of iptables' connection states only `nft -a list ruleset` tells, which is looked at for them.
//!
//! Read object by object and statement by statement with the types of the crate `nftables`. What it has no type for is
//! counted and leaves a hole, and never keeps the rest from being read.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::once;

use nftables::expr::{CT, Expression, NamedExpression};
use nftables::schema;
use nftables::stmt::{Match, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfHook};
use serde_json::Value;
use tortie_policy::ir::TABLE;

use super::sets::Sets;
use super::walk::legacy;

/// Families whose chains see packets of workloads.
const FAMILIES: [&str; 3] = ["ip", "ip6", "inet"];

/// Why a listing cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListingError {
    /// No JSON.
    #[error("nft printed no JSON")]
    Json(#[from] serde_json::Error),
    /// JSON of another kind.
    #[error("nft printed JSON without a list of objects")]
    Shape,
}

/// A table, as nft names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TableName {
    pub(crate) family: String,
    pub(crate) name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// What is in a table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) chains: Chains,
    pub(crate) sets: Sets,
}

/// Chains of a table by name.
pub(crate) type Chains = BTreeMap<String, Chain>;

/// Everybody's tables but ours.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) tables: BTreeMap<TableName, Table>,
    /// Chains, statements and elements that could not be read.
    pub(crate) unread: usize,
}

/// A chain.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// When the kernel calls it.
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}

/// Statements in order; a hole for each that could not be read.
pub(crate) type Rule = Vec<Option<Statement<'static>>>;

/// Where the kernel calls a chain that filters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base {
    pub(crate) hook: NfHook,
    /// What reaches the end is dropped.
    pub(crate) drops: bool,
}

/// Reads a listing; `text` is the same with handles, for people.
///
/// # Errors
/// When it is none. Single objects never fail.
pub(crate) fn parse(json: &str, text: &str) -> Result<Listing, ListingError> {
    let document: Value = serde_json::from_str(json)?;
    let states = states(text);
    let objects = document.get("nftables").and_then(Value::as_array).ok_or(ListingError::Shape)?;
    let mut listing = Listing::default();
    for object in objects {
        if let Some(chain) = object.get("chain") {
            listing.add_chain(chain);
        } else if let Some(rule) = object.get("rule") {
            listing.add_rule(rule, &states);
        } else if let Some(set) = object.get("set").or_else(|| object.get("map")) {
            listing.add_set(set);
        }
    }
    Ok(listing)
}

impl Listing {
    fn add_chain(&mut self, object: &Value) {
        let Some(table) = table_of(object) else { return };
        let Ok(chain) = serde_json::from_value::<schema::Chain<'static>>(object.clone()) else {
            self.unread += 1;
            return;
        };
        // A chain that translates sees only first packets, and its drops are not for filtering.
        let filters = chain._type.is_some_and(|kind| kind != NfChainType::NAT);
        let drops = chain.policy == Some(NfChainPolicy::Drop);
        let base = chain.hook.filter(|_| filters).map(|hook| Base { hook, drops });
        let chains = &mut self.tables.entry(table).or_default().chains;
        chains.entry(chain.name.into_owned()).or_default().base = base;
    }

    fn add_rule(&mut self, object: &Value, states: &States) {
        let Some(table) = table_of(object) else { return };
        let (Some(chain), Some(statements)) =
            (object.get("chain").and_then(Value::as_str), object.get("expr").and_then(Value::as_array))
        else {
            self.unread += 1;
            return;
        };
        let read = |statement: &Value| serde_json::from_value::<Statement<'static>>(statement.clone()).ok();
        // What an element is added with counts for the rule, too: behind a rate the rest of it may be left out.
        let added = |statement: &Value| match statement.pointer("/set/stmt").and_then(Value::as_array) {
            Some(statements) => statements.iter().map(read).collect(),
            None => Rule::new(),
        };
        let mut rule: Rule =
            statements.iter().flat_map(|statement| once(read(statement)).chain(added(statement))).collect();
        let handle = object.get("handle").and_then(Value::as_u64).unwrap_or_default();
        if let Some(condition) = states.get(&(table.clone(), handle)) {
            let of_iptables = |statement: &&mut Statement<'_>| {
                matches!(legacy(statement), Some(("match", "conntrack" | "state")))
            };
            if let Some(statement) = rule.iter_mut().flatten().find(of_iptables) {
                *statement = condition.clone();
            }
        }
        self.unread += rule.iter().filter(|statement| statement.is_none()).count();
        let table = self.tables.entry(table).or_default();
        // nft 1.0 does not tell in JSON that a set is dynamic; that rules write it does.
        for statement in statements {
            if let Some(name) =
                statement.pointer("/set/set").and_then(Value::as_str).and_then(|set| set.strip_prefix('@'))
            {
                table.sets.entry(name.to_owned()).or_default().changes = true;
            }
        }
        table.chains.entry(chain.to_owned()).or_default().rules.push(rule);
    }

    fn add_set(&mut self, object: &Value) {
        let (Some(table), Some(name)) = (table_of(object), object.get("name").and_then(Value::as_str)) else {
            return;
        };
        // A map to other things than verdicts decides nothing.
        if object.get("map").is_none_or(|data| data == "verdict") {
            let set = self.tables.entry(table).or_default().sets.entry(name.to_owned()).or_default();
            self.unread += set.read(object);
        }
    }
}

/// The table of an object that matters: not ours, of a family that sees our packets.
fn table_of(object: &Value) -> Option<TableName> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    let table = TableName { family: text("family")?, name: text("table")? };
    let ours = table.family == "inet" && table.name == TABLE;
    (!ours && FAMILIES.contains(&table.family.as_str())).then_some(table)
}

/// Conditions on the connection's state, by table and handle of the rule.
type States = BTreeMap<(TableName, u64), Statement<'static>>;

/// Finds them in a listing for people: `ct state related,established … # handle 7` in `table ip filter { …`.
fn states(text: &str) -> States {
    let mut states = States::new();
    let mut table = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if let ["table", family, name, ..] = words.as_slice() {
            table = Some(TableName { family: (*family).to_owned(), name: (*name).to_owned() });
        }
        let (Some(table), [.., "handle", handle]) = (&table, words.as_slice()) else { continue };
        let state = words.windows(3).find(|three| three[..2] == ["ct", "state"]).map(|three| three[2]);
        if let (Some(state), Ok(handle)) = (state.filter(|state| is_list(state)), handle.parse()) {
            states.insert((table.clone(), handle), condition(state));
        }
    }
    states
}

/// Whether it is words with commas between them, and no operator.
fn is_list(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b',')
}

fn condition(states: &str) -> Statement<'static> {
    let key = CT { key: "state".into(), family: None, dir: None };
    let word = |state: &str| Expression::String(state.to_owned().into());
    Statement::Match(Match {
        left: Expression::Named(NamedExpression::CT(key)),
        right: Expression::List(states.split(',').map(word).collect()),
        op: Operator::IN,
    })
}
