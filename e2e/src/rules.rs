//! Whether the kernel of a node holds the rules its agent wants.
//!
//! The agent prints what it wants (`GET /v1/node/ruleset`); nft loads that into a namespace of its own, and both tables are
//! listed by the same `nft -j`. What depends on history is left out: handles, counters, owners, the order of objects and
//! of members of sets. The order of rules in a chain counts.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::eventually::{eventually, seconds};
use crate::lab::Lab;
use crate::netns::Netns;
use crate::node::Node;

/// Makes a table of that name go first, whether or not there is one.
const REPLACE: &str = "add table inet tortie\ndelete table inet tortie\n";

/// Waits until every node whose agent runs holds the rules the agent wants.
///
/// # Errors
/// Past the deadline, with the first object that differs; or when nft cannot list what is there.
pub fn all_agree(lab: &Lab) -> Result<()> {
    let mut running = lab.nodes.iter().filter(|node| node.agent_pid().is_some());
    running.try_for_each(|node| agree_within(node, seconds(5)))
}

/// The same for one node.
///
/// # Errors
/// As [`all_agree`].
pub fn agree_within(node: &Node, limit: Duration) -> Result<()> {
    let scratch = Netns::add(&format!("rules-of-{}", node.name()))?;
    let agreed = eventually(&format!("{} holding the rules its agent wants", node.name()), limit, || {
        let wanted = node.ask("/v1/node/ruleset")?;
        scratch.run("nft -f -").stdin(format!("{REPLACE}{wanted}")).ok()?;
        same(&table(&scratch)?, &table(&node.netns)?)
    });
    scratch.delete()?;
    agreed
}

/// The rules of a namespace as `nft` lists them, which must not fail, whatever is there.
///
/// # Errors
/// When `nft` does.
pub fn list(netns: &Netns) -> Result<String> {
    netns.run("nft -j list ruleset").ok()?;
    netns.run("nft list ruleset").ok()
}

/// Our table, an object a line.
fn table(netns: &Netns) -> Result<Vec<String>> {
    list(netns)?;
    objects(&netns.run("nft -j list table inet tortie").ok()?)
}

fn same(wanted: &[String], held: &[String]) -> Result<()> {
    let place = (0..wanted.len().max(held.len())).find(|place| wanted.get(*place) != held.get(*place));
    let Some(place) = place else { return Ok(()) };
    let object = |list: &[String]| list.get(place).cloned().unwrap_or_else(|| "nothing more".to_owned());
    bail!("wanted: {}\nheld: {}", object(wanted), object(held))
}

/// The objects of a listing without what depends on history. Rules of a chain stay in order.
fn objects(listing: &str) -> Result<Vec<String>> {
    let mut listing: Value = serde_json::from_str(listing).context("`nft -j` printed no JSON")?;
    let objects = listing["nftables"].as_array_mut().context("`nft -j` printed no list of objects")?;
    let mut objects: Vec<(String, String)> = objects
        .iter_mut()
        .filter(|object| object.get("metainfo").is_none())
        .map(|object| {
            // Who owns a table is no part of what it says.
            if let Some(Value::Object(table)) = object.get_mut("table") {
                table.remove("flags");
            }
            strip(object);
            (place(object), object.to_string())
        })
        .collect();
    objects.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(objects.into_iter().map(|(_, object)| object).collect())
}

/// What objects are sorted by: kind and name, of rules that of their chain.
fn place(object: &Value) -> String {
    let Some((kind, fields)) = object.as_object().and_then(|members| members.iter().next()) else {
        return String::new();
    };
    let name = fields.get("chain").or(fields.get("name")).and_then(Value::as_str).unwrap_or_default();
    format!("{kind} {name}")
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("handle");
            if let Some(counter) = members.get_mut("counter") {
                *counter = Value::Null;
            }
            members.values_mut().for_each(strip);
            if let Some(Value::Array(elements)) = members.get_mut("elem") {
                elements.sort_by_key(Value::to_string);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn listing(handle: u32, packets: u32, members: [&str; 2], verdicts: [&str; 2]) -> Vec<String> {
        let rule = |verdict: &str| {
            let counter = json!({"counter": {"packets": packets, "bytes": 7}});
            let rule =
                json!({"family": "inet", "chain": "c", "handle": handle, "expr": [counter, {verdict: null}]});
            json!({"rule": rule})
        };
        let flags = if packets == 0 { json!(["owner"]) } else { json!(null) };
        let objects = json!({"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"table": {"family": "inet", "name": "tortie", "handle": handle, "flags": flags}},
            {"set": {"name": "s", "table": "tortie", "handle": handle, "elem": members}},
            rule(verdicts[0]),
            rule(verdicts[1]),
        ]});
        objects_of(&objects)
    }

    fn objects_of(value: &Value) -> Vec<String> {
        objects(&value.to_string()).unwrap()
    }

    #[test]
    fn history_does_not_count_and_the_order_of_rules_does() {
        let one = listing(1, 0, ["a", "b"], ["accept", "drop"]);
        assert_eq!(one.len(), 4);
        assert!(same(&one, &listing(2, 5, ["b", "a"], ["accept", "drop"])).is_ok());
        let error = same(&one, &listing(1, 0, ["a", "b"], ["drop", "accept"])).unwrap_err();
        assert!(error.to_string().contains("accept"), "{error}");
        assert!(same(&one, &listing(1, 0, ["a", "c"], ["accept", "drop"])).is_err());
        assert!(same(&one, &one[..3]).is_err() && same(&one[..3], &one).is_err());
    }
}
