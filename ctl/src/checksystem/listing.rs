//! The tables of others, out of what `nft -j list ruleset` prints; pure.
//!
//! Read object by object and statement by statement with the types of the crate `nftables`. What it has no type for is
//! counted and leaves a hole, and never keeps the rest from being read.

use std::collections::BTreeMap;
use std::fmt;

use nftables::schema;
use nftables::stmt::Statement;
use nftables::types::{NfChainPolicy, NfChainType, NfHook};
use serde_json::Value;
use tortie_policy::ir::TABLE;

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

/// Chains of a table by name.
pub(crate) type Chains = BTreeMap<String, Chain>;

/// Everybody's tables but ours.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) tables: BTreeMap<TableName, Chains>,
    /// Chains and statements that could not be read.
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

/// Reads a listing.
///
/// # Errors
/// When it is none. Single objects never fail.
pub(crate) fn parse(text: &str) -> Result<Listing, ListingError> {
    let document: Value = serde_json::from_str(text)?;
    let objects = document.get("nftables").and_then(Value::as_array).ok_or(ListingError::Shape)?;
    let mut listing = Listing::default();
    for object in objects {
        if let Some(chain) = object.get("chain") {
            listing.add_chain(chain);
        } else if let Some(rule) = object.get("rule") {
            listing.add_rule(rule);
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
        self.tables.entry(table).or_default().entry(chain.name.into_owned()).or_default().base = base;
    }

    fn add_rule(&mut self, object: &Value) {
        let Some(table) = table_of(object) else { return };
        let (Some(chain), Some(statements)) =
            (object.get("chain").and_then(Value::as_str), object.get("expr").and_then(Value::as_array))
        else {
            self.unread += 1;
            return;
        };
        let read = |statement: &Value| serde_json::from_value::<Statement<'static>>(statement.clone()).ok();
        let rule: Rule = statements.iter().map(read).collect();
        self.unread += rule.iter().filter(|statement| statement.is_none()).count();
        self.tables.entry(table).or_default().entry(chain.to_owned()).or_default().rules.push(rule);
    }
}

/// The table of an object that matters: not ours, of a family that sees our packets.
fn table_of(object: &Value) -> Option<TableName> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    let table = TableName { family: text("family")?, name: text("table")? };
    let ours = table.family == "inet" && table.name == TABLE;
    (!ours && FAMILIES.contains(&table.family.as_str())).then_some(table)
}
