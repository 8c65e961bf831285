//! The outcome as long as it holds. A node has many workloads and perhaps a thousand peers: the former come and go all
//! the time, and the latter have nothing to do with that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use tortie_policy::snapshot::{Endpoint, EndpointId};

use super::filters::Shared;
use super::workloads::{self, Workload};
use super::{Inputs, Outcome, calculate};
use crate::calc::cache::Cache;
use crate::calc::{Secrets, Settings};

/// The last outcome and what it was made of.
#[derive(Debug, Default)]
pub(in crate::calc) struct Memo {
    made_of: Option<MadeOf>,
    outcome: Outcome,
    filters: Shared,
    /// How often it was calculated.
    #[cfg(test)]
    pub(in crate::calc) calculations: u64,
}

/// Everything the outcome depends on, as far as it can change.
#[derive(Debug, PartialEq)]
struct MadeOf {
    /// Of the resources.
    revision: u64,
    secrets: Arc<Secrets>,
    own_blocks: BTreeSet<IpNetwork>,
    workloads: Vec<Workload>,
}

impl Memo {
    /// The outcome for the present inputs.
    pub(in crate::calc) fn outcome(
        &mut self,
        cache: &Cache,
        settings: &Settings,
        secrets: &Arc<Secrets>,
        own_blocks: &BTreeSet<IpNetwork>,
        endpoints: &BTreeMap<Arc<EndpointId>, Arc<Endpoint>>,
    ) -> &Outcome {
        let workloads = workloads::all(cache, endpoints);
        let made_of = MadeOf {
            revision: cache.bgp_revision,
            secrets: Arc::clone(secrets),
            own_blocks: own_blocks.clone(),
            workloads,
        };
        if self.made_of.as_ref() != Some(&made_of) {
            let workloads = &made_of.workloads;
            let inputs = Inputs { cache, settings, secrets, own_blocks, workloads };
            let (outcome, filters) = calculate(inputs, &self.filters);
            self.replace(outcome, filters);
            self.made_of = Some(made_of);
        }
        &self.outcome
    }

    /// An equal configuration stays the same allocation, so that nobody compares a thousand peers.
    fn replace(&mut self, mut outcome: Outcome, filters: Shared) {
        if outcome.config == self.outcome.config {
            outcome.config = self.outcome.config.take();
        }
        self.outcome = outcome;
        self.filters = filters;
        #[cfg(test)]
        {
            self.calculations += 1;
        }
    }
}
