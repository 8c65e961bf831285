//! `node checksystem`: whether this machine has what a node needs, and whether rules of others are in the way.
//!
//! | module | what it owns |
//! |---|---|
//! | [`probe`] | asks the machine; the only one that does |
//! | `kernel` | parts of the kernel and settings |
//! | `listing`, `sets` | tables of others, and what their sets have |
//! | `packet`, `walk` | a packet and its way through a chain |
//! | `conflicts`, `remedy` | what is stopped, and what to type |
//! | this one | facts in, report out |

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

mod conflicts;
mod kernel;
mod listing;
mod packet;
pub(crate) mod probe;
mod remedy;
mod sets;
mod walk;

pub(crate) use conflicts::Conflict;

/// What the machine says.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// As `uname -r` prints it.
    pub(crate) release: String,
    /// The kernel's answers, by module; those that could not be asked are absent.
    pub(crate) answers: BTreeMap<&'static str, Answer>,
    /// Modules that are loaded, built in or at hand.
    pub(crate) modules: BTreeSet<String>,
    /// Whether `modules` has those that are built in.
    pub(crate) modules_complete: bool,
    /// Options that the kernel was built with, built in or as modules, when a configuration was found.
    pub(crate) options: Option<BTreeSet<String>>,
    /// Settings by path; those that do not exist are absent.
    pub(crate) settings: BTreeMap<&'static str, String>,
    /// Tables of the old iptables, such as `IPv4 filter`.
    pub(crate) legacy: Vec<String>,
    /// The interface of the default route.
    pub(crate) uplink: Option<String>,
    /// What `nft -j list ruleset` prints, or why it does not.
    pub(crate) listing: Option<Result<String, String>>,
    /// What `nft -a list ruleset` prints.
    pub(crate) text: String,
}

/// What the kernel says of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    /// In its words, when it has some.
    No(Option<String>),
    Unknown,
}

/// How a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Standing {
    Ok,
    /// Something does not work, or may not, that not every node needs.
    Warn,
    /// A node does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) standing: Standing,
    /// What it means and what to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) advice: String,
}

impl Line {
    fn ok(name: String) -> Line {
        Line { name, standing: Standing::Ok, advice: String::new() }
    }
}

/// Everything that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) kernel_version: Vec<Line>,
    pub(crate) kernel_modules: Vec<Line>,
    pub(crate) kernel_parameters: Vec<Line>,
    pub(crate) rules_of_others: Vec<Line>,
    /// Base chains of others that stop what a node needs.
    pub(crate) conflicts: Vec<Conflict>,
}

impl Report {
    /// Whether a node can work here, conflicts aside.
    pub(crate) fn meets_requirements(&self) -> bool {
        let lines = [&self.kernel_version, &self.kernel_modules, &self.kernel_parameters];
        lines.into_iter().flatten().all(|line| line.standing != Standing::Fail)
    }

    /// Whether others surely stop what every node needs.
    pub(crate) fn has_conflicts(&self) -> bool {
        self.conflicts.iter().any(|conflict| conflict.certain)
    }
}

/// Judges the facts.
pub(crate) fn judge(facts: &Facts) -> Report {
    let mut rules_of_others = Vec::new();
    let mut conflicts = Vec::new();
    let warn = |name: &str, advice: String| Line { name: name.to_owned(), standing: Standing::Warn, advice };
    match facts.listing.as_ref().map(|listing| listing.as_ref().map(|json| listing::parse(json, &facts.text)))
    {
        Some(Ok(Ok(listing))) => {
            conflicts = conflicts::find(&listing, facts.uplink.as_deref());
            rules_of_others
                .extend(listing.tables.keys().map(|table| of_table(table.to_string(), &conflicts)));
            if listing.unread > 0 {
                let advice =
                    "this version does not know what they mean; it took them for conditions that may hold";
                rules_of_others.push(warn(&format!("{} parts not read", listing.unread), advice.to_owned()));
            }
        }
        Some(Ok(Err(error))) => rules_of_others.push(warn("nftables", format!("cannot be read: {error}"))),
        Some(Err(reason)) => rules_of_others.push(warn("nftables", format!("cannot be read: {reason}"))),
        None => {}
    }
    if !facts.legacy.is_empty() {
        let advice = "rules of the old iptables are not read here, and what they drop is dropped: look at \
                      `iptables-legacy -S` and `ip6tables-legacy -S`";
        rules_of_others
            .push(warn(&format!("iptables-legacy: {}", facts.legacy.join(", ")), advice.to_owned()));
    }
    Report {
        kernel_version: kernel::version(facts),
        kernel_modules: kernel::parts(facts),
        kernel_parameters: kernel::settings(facts),
        rules_of_others,
        conflicts,
    }
}

/// How it stands with a table.
fn of_table(name: String, conflicts: &[Conflict]) -> Line {
    let own: Vec<&Conflict> = conflicts.iter().filter(|conflict| conflict.table == name).collect();
    let standing = if own.iter().any(|conflict| conflict.certain) {
        Standing::Fail
    } else if own.is_empty() {
        Standing::Ok
    } else {
        Standing::Warn
    };
    Line { name, standing, advice: String::new() }
}

#[cfg(test)]
mod tests;
