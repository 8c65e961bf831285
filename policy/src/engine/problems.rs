//! What could not be enforced as written, by what it is about, so that each part of the calculation replaces its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::members::{MissingProfile, ThingId};
use crate::snapshot::PolicyId;
use crate::{Problem, Problems};

/// What problems are about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    Policy(PolicyId),
    Staged(PolicyId),
    Profile(Arc<str>),
    Interface(String),
    Hosts,
    Tiers,
    MissingProfiles,
}

/// All problems.
#[derive(Debug, Default)]
pub(super) struct Reports(BTreeMap<About, BTreeSet<Problem>>);

impl Reports {
    /// What is wrong with something now.
    pub(super) fn set(&mut self, about: About, problems: Problems) {
        if problems.0.is_empty() {
            self.0.remove(&about);
        } else {
            self.0.insert(about, problems.0);
        }
    }

    /// Everything, with what else there is, each once.
    pub(super) fn all<'a>(&'a self, others: impl Iterator<Item = &'a Problem>) -> Vec<Problem> {
        let all: BTreeSet<&Problem> = self.0.values().flatten().chain(others).collect();
        all.into_iter().cloned().collect()
    }
}

/// Profiles that endpoints have and nobody wrote: a line for each, not for each endpoint of the cluster.
pub(super) fn missing<'a>(missing: impl Iterator<Item = MissingProfile<'a>>) -> Problems {
    let mut problems = Problems::default();
    for MissingProfile { name, first, count } in missing {
        let others = match count - 1 {
            0 => " has".to_owned(),
            1 => " and one more have".to_owned(),
            more => format!(" and {more} more have"),
        };
        let first = match first {
            ThingId::Endpoint(id) => format!("WorkloadEndpoint {}/{}", id.namespace, id.name),
            ThingId::HostEndpoint(id) | ThingId::NetworkSet(id) => format!("HostEndpoint {}", id.name),
        };
        problems.add(
            format_args!("Profile {name}"),
            format_args!("does not exist, so it matches nothing; {first}{others} it"),
        );
    }
    problems
}
