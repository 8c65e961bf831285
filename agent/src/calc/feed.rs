//! What policy is calculated from, told to the policy engine change by change: a flush costs what was touched since the
//! last one.

mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tortie_model::resource::ProfileSpec;
use tortie_model::rule::{Action, Rule};
use tortie_model::{Key, Kind};
use tortie_policy::snapshot::{Endpoint, EndpointId, Surroundings};
use tortie_policy::{Compiled, Engine};

use super::cache::{Cache, StoredEndpoint};
use super::endpoints::{self, Workloads};
use super::policies::{self, DEFAULT_ALLOW};
use super::{Problems, Settings, felix, hosts, network_sets};
use names::Names;
pub(super) use names::Stored;

/// The policy engine, and what it has to be told.
#[derive(Debug)]
pub(super) struct Feed {
    engine: Engine,
    touched: Touched,
    /// The endpoints of this node, as last judged.
    workloads: Workloads,
    policies: Names,
    staged: Names,
    /// What is wrong with network sets.
    set_problems: BTreeMap<Arc<EndpointId>, Problems>,
    around_problems: Problems,
}

/// What was touched since the last flush.
#[derive(Debug, Default)]
struct Touched {
    endpoints: BTreeSet<EndpointId>,
    /// Endpoints of this node among them.
    workloads: bool,
    network_sets: BTreeSet<EndpointId>,
    hosts: BTreeSet<String>,
    policies: BTreeSet<Stored>,
    staged: BTreeSet<Stored>,
    profiles: BTreeSet<String>,
    tiers: BTreeSet<String>,
    around: bool,
}

impl Default for Feed {
    fn default() -> Feed {
        let mut engine = Engine::default();
        // Upstream's client makes this one up on each read; the store never has it (calico-datamodel 1.11).
        let allow = Rule { action: Action::Allow, ..Rule::default() };
        let allow_all =
            ProfileSpec { ingress: vec![allow.clone()], egress: vec![allow], ..ProfileSpec::default() };
        engine.set_profile(DEFAULT_ALLOW, Some(Some(&allow_all)));
        Feed {
            engine,
            touched: Touched { workloads: true, around: true, ..Touched::default() },
            workloads: Workloads::default(),
            policies: Names::default(),
            staged: Names::default(),
            set_problems: BTreeMap::new(),
            around_problems: Problems::default(),
        }
    }
}

impl Feed {
    /// What is under a key may be other than before.
    pub(super) fn touch(&mut self, key: &Key) {
        let Key::Resource { kind, namespace, name } = key else { return };
        let touched = &mut self.touched;
        let namespace = || namespace.clone().unwrap_or_default();
        let id = || EndpointId { namespace: namespace(), name: name.clone() };
        let stored = || Stored { kind: *kind, namespace: namespace(), name: name.clone() };
        match kind {
            Kind::WorkloadEndpoint => {
                touched.endpoints.insert(id());
            }
            Kind::NetworkSet | Kind::GlobalNetworkSet => {
                touched.network_sets.insert(id());
            }
            Kind::HostEndpoint => {
                touched.hosts.insert(name.clone());
            }
            Kind::NetworkPolicy | Kind::GlobalNetworkPolicy => {
                touched.policies.insert(stored());
            }
            Kind::StagedNetworkPolicy
            | Kind::StagedGlobalNetworkPolicy
            | Kind::StagedKubernetesNetworkPolicy => {
                touched.staged.insert(stored());
            }
            Kind::Profile => {
                touched.profiles.insert(name.clone());
            }
            Kind::Tier => {
                touched.tiers.insert(name.clone());
            }
            Kind::Node | Kind::IpPool | Kind::FelixConfiguration => touched.around = true,
            Kind::BgpConfiguration
            | Kind::BgpFilter
            | Kind::BgpPeer
            | Kind::BlockAffinity
            | Kind::CalicoNodeStatus
            | Kind::ClusterInformation
            | Kind::IpReservation
            | Kind::IpamConfiguration
            | Kind::KubeControllersConfiguration => {}
        }
    }

    /// What is around the node may be other than before.
    pub(super) fn touch_surroundings(&mut self) {
        self.touched.around = true;
    }

    /// Tells the endpoints, and judges those of this node.
    pub(super) fn tell_endpoints(&mut self, cache: &Cache, settings: &Settings) -> &Workloads {
        let touched = std::mem::take(&mut self.touched.endpoints);
        let mut judge = std::mem::take(&mut self.touched.workloads);
        for id in touched {
            let known = cache.endpoints.get_key_value(&id);
            judge |= self.workloads.all.contains_key(&id);
            match known {
                Some((_, StoredEndpoint::Local(_))) => judge = true,
                Some((id, StoredEndpoint::Remote(endpoint))) => {
                    self.engine.set_endpoint(id, Some(&endpoints::usable(endpoint, settings)));
                }
                None => self.engine.set_endpoint(&Arc::new(id), None),
            }
        }
        if judge {
            let judged = endpoints::calculate(cache, settings);
            self.tell_workloads(cache, &judged.all);
            self.workloads = judged;
        }
        &self.workloads
    }

    /// One change may make another endpoint the owner of an interface or address.
    fn tell_workloads(&mut self, cache: &Cache, all: &BTreeMap<Arc<EndpointId>, Arc<Endpoint>>) {
        for id in self.workloads.all.keys().filter(|id| !all.contains_key(*id)) {
            // It may live on, elsewhere.
            if !cache.endpoints.contains_key(id) {
                self.engine.set_endpoint(id, None);
            }
        }
        for (id, endpoint) in all.iter().filter(|(id, new)| self.workloads.all.get(*id) != Some(*new)) {
            self.engine.set_endpoint(id, Some(endpoint));
        }
    }

    /// Tells everything else that was touched, and works out what follows.
    pub(super) fn flush(&mut self, cache: &Cache, settings: &Settings, problems: &mut Problems) -> Compiled {
        self.tell_resources(cache, settings);
        if std::mem::take(&mut self.touched.around) {
            self.around_problems = Problems::default();
            let around = surroundings(cache, settings, &mut self.around_problems);
            self.engine.set_surroundings(&around);
        }
        problems.extend(&self.around_problems);
        self.set_problems.values().for_each(|found| problems.extend(found));
        self.engine.flush()
    }

    fn tell_resources(&mut self, cache: &Cache, settings: &Settings) {
        let (engine, touched) = (&mut self.engine, &mut self.touched);
        for name in std::mem::take(&mut touched.tiers) {
            match cache.tiers.get(&name) {
                None if cache.invalid.contains_key(&Key::resource(Kind::Tier, None, &name)) => {
                    engine.set_unreadable_tier(&name);
                }
                tier => engine.set_tier(&name, tier.cloned()),
            }
        }
        for name in std::mem::take(&mut touched.profiles) {
            if name != DEFAULT_ALLOW {
                engine.set_profile(&name, policies::profile(cache, &name));
            }
        }
        for id in std::mem::take(&mut touched.network_sets) {
            let known = cache.network_sets.get_key_value(&id);
            let id = known.map_or_else(|| Arc::new(id), |(id, _)| Arc::clone(id));
            engine.set_network_set(&id, known.map(|(_, stored)| stored.set()));
            match known.and_then(|(id, stored)| network_sets::problems(id, stored)) {
                Some(problems) => self.set_problems.insert(id, problems),
                None => self.set_problems.remove(&id),
            };
        }
        for name in std::mem::take(&mut touched.hosts) {
            let host = cache.host_endpoints.get(&name).map(|stored| hosts::for_policy(stored, settings));
            let id = EndpointId { namespace: String::new(), name };
            engine.set_host_endpoint(&Arc::new(id), host.as_ref());
        }
        let tell = |engine: &mut Engine, id: &_, body: Option<&_>| engine.set_policy(id, body);
        let of = (policies::policy as fn(&_, &_) -> _, policies::policies as fn(&_) -> _);
        self.policies
            .tell(std::mem::take(&mut touched.policies), cache, of, |id, body| tell(engine, id, body));
        let of = (policies::staged_policy as fn(&_, &_) -> _, policies::staged as fn(&_) -> _);
        self.staged.tell(std::mem::take(&mut touched.staged), cache, of, |id, body| {
            engine.set_staged(id, body);
        });
    }
}

/// What is around the node.
pub(super) fn surroundings(cache: &Cache, settings: &Settings, problems: &mut Problems) -> Surroundings {
    let others = cache.nodes.iter().filter(|(name, _)| **name != settings.node);
    Surroundings {
        host_interfaces: cache.host_interfaces.clone(),
        options: felix::options(cache, settings, problems),
        pools: policies::pools(cache),
        endpoint_to_host: felix::endpoint_to_host(cache, settings, problems),
        tunnel_peers: others.flat_map(|(_, node)| node.spec.bgp_ips()).collect(),
    }
}
