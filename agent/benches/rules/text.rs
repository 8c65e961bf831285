//! Changes in the words of nft, and an `nft` process for them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use tortie_policy::Ruleset;
use tortie_policy::change::Change;
use tortie_policy::ir::{Chain, Comment, Set, TABLE, VerdictMap};
use tortie_policy::nft::render_table;

/// Has a new `nft` process do it.
pub(super) fn nft(text: &str) {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
    child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("nft reads");
    assert!(child.wait().expect("nft ends").success(), "nft failed");
}

/// One transaction.
pub(super) fn of(changes: &[Change]) -> String {
    changes.iter().map(one).collect()
}

fn one(change: &Change) -> String {
    let comment = Comment::default;
    let delete = |kind: &str, name: &str| format!("delete {kind} inet {TABLE} {name}\n");
    match change {
        Change::Reset => format!("delete table inet {TABLE}\nadd table inet {TABLE}\n"),
        Change::CreateChain(name, base, comment) => {
            chain(name, Chain { comment: comment.clone(), base: *base, rules: Vec::new() })
        }
        Change::SetRules(name, rules) => {
            let mut text = format!("flush chain inet {TABLE} {name}\n");
            let rules = Chain { comment: comment(), base: None, rules: rules.clone() };
            let _ = write!(text, "{}", chain(name, rules));
            text
        }
        Change::RemoveChain(name) => delete("chain", name),
        Change::CreateMap(name, comment) => {
            map(name, VerdictMap { comment: comment.clone(), ..VerdictMap::default() })
        }
        Change::AddRows(name, rows) => map(name, VerdictMap { comment: comment(), elements: rows.clone() }),
        Change::RemoveRows(name, rows) => {
            members(name, &map(name, VerdictMap { comment: comment(), elements: rows.clone() }))
        }
        Change::RemoveMap(name) => delete("map", name),
        Change::CreateSet(name, head) => set(name, head.empty()),
        Change::AddElements(name, _, elements) => set(name, Set::new(comment(), elements.clone())),
        Change::RemoveElements(name, _, elements) => {
            let text = set(name, Set::new(comment(), elements.clone()));
            members(name, &text)
        }
        Change::RemoveSet(name) => delete("set", name),
    }
}

/// Takes away the members a table of one set or map names.
fn members(name: &str, table: &str) -> String {
    let (_, rest) = table.split_once("elements = ").expect("members");
    let (list, _) = rest.split_once('}').expect("the end of the members");
    format!("delete element inet {TABLE} {name} {list}}}\n")
}

fn chain(name: &str, chain: Chain) -> String {
    let mut part = Ruleset::empty();
    part.chains.insert(name.to_owned(), chain);
    render_table(&part)
}

fn map(name: &str, map: VerdictMap) -> String {
    let mut part = Ruleset::empty();
    part.maps.insert(name.to_owned(), map);
    render_table(&part)
}

fn set(name: &str, set: Set) -> String {
    let mut part = Ruleset::empty();
    part.sets.insert(name.to_owned(), set);
    render_table(&part)
}
