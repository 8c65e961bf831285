//! The semantics of policy read straight from the resources, one packet at a time, with no thought for speed. Written
//! from the facts on Calico's semantics, not from the compiler, and shares no code with it but the selector language.

#[path = "oracle/host.rs"]
mod host;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tortie_model::resource::{PolicyType, TierAction, WorkloadEndpointPort};
use tortie_model::rule::{Action, EntityRule, Icmp, Rule};
use tortie_model::scalar::Port;
use tortie_model::selector::{Labels, Selector};
use tortie_policy::eval::{CtState, Packet};
use tortie_policy::snapshot::{Endpoint, EndpointId, LabelSet, PolicyBody, PolicyId, Snapshot};

/// What should happen.
pub(crate) struct Judgement {
    pub(crate) allowed: bool,
    pub(crate) masqueraded: bool,
    pub(crate) untracked: bool,
}

pub(crate) fn judge(snapshot: &Snapshot, packet: &Packet) -> Judgement {
    host::judge(snapshot, packet)
}

struct Oracle<'a> {
    snapshot: &'a Snapshot,
    packet: &'a Packet,
}

/// Label names as seen through a prefix.
struct Under<'a>(&'a str, &'a BTreeMap<String, String>);

impl Labels for Under<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.1.get(&format!("{}{name}", self.0)).map(String::as_str)
    }
}

/// Somebody who has the address of one end of a packet.
struct Owner<'a> {
    labels: BTreeMap<String, String>,
    ports: &'a [WorkloadEndpointPort],
}

/// Policies by tier.
type ByTier<'a> = BTreeMap<String, Vec<(&'a PolicyId, &'a PolicyBody)>>;

/// Where on its way a packet meets policy.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Workload,
    Untracked,
    PreDnat,
    Forward,
    Host,
}

fn asked_in(body: &PolicyBody, phase: Phase) -> bool {
    let PolicyBody::Global(spec) = body else {
        let invalid = matches!(body, PolicyBody::Invalid(_));
        return matches!(phase, Phase::Workload | Phase::Host) || (invalid && phase == Phase::Forward);
    };
    match phase {
        Phase::Untracked => spec.do_not_track,
        Phase::PreDnat => spec.pre_dnat && !spec.do_not_track,
        _ if spec.do_not_track || spec.pre_dnat => false,
        Phase::Forward => spec.apply_on_forward,
        Phase::Workload | Phase::Host => true,
    }
}

/// What a rule says about a packet.
#[derive(Clone, Copy, PartialEq)]
enum Says {
    Nothing,
    Allow,
    Deny,
    Pass,
}

impl Oracle<'_> {
    fn masqueraded(&self) -> bool {
        let p = self.packet;
        let pools = &self.snapshot.pools;
        p.output.is_some()
            && p.state == CtState::New
            && pools.iter().any(|pool| pool.nat_outgoing && pool.cidr.contains(p.source))
            && !pools.iter().any(|pool| pool.cidr.contains(p.destination))
    }

    fn side_allows(&self, interface: &str, direction: PolicyType) -> bool {
        let mut owners =
            self.snapshot.endpoints.iter().filter(|(_, e)| e.interface.as_deref() == Some(interface));
        match (owners.next(), owners.next()) {
            (Some((id, endpoint)), None) => {
                self.endpoint_says(id, endpoint, direction, Phase::Workload) == Says::Allow
            }
            _ => false,
        }
    }

    /// The policies that apply to an endpoint here, by tier; `Err` when one of them cannot be read.
    fn applied(
        &self,
        id: &EndpointId,
        endpoint: &Endpoint,
        direction: PolicyType,
        phase: Phase,
    ) -> Result<ByTier<'_>, ()> {
        let labels = self.labels(&endpoint.labels, &endpoint.profiles);
        let in_scope = |policy: &PolicyId| {
            policy.namespace.is_empty()
                || policy.namespace == id.namespace
                || labels.get("projectcalico.org/namespace") == Some(&policy.namespace)
        };
        let mut tiers = ByTier::new();
        // Nobody knows what it would have denied: nothing may be allowed before it denies.
        let unreadable =
            |(id, body): (&PolicyId, &PolicyBody)| matches!(body, PolicyBody::Invalid(_)) && in_scope(id);
        if matches!(phase, Phase::Untracked | Phase::PreDnat) && self.snapshot.policies.iter().any(unreadable)
        {
            return Ok(tiers);
        }
        for (policy, body) in &self.snapshot.policies {
            if !asked_in(body, phase) {
                continue;
            }
            if let PolicyBody::Invalid(_) = body {
                if in_scope(policy) {
                    return Err(());
                }
                continue;
            }
            let selected = self.selects(policy, body, &labels).unwrap_or_else(|| in_scope(policy));
            if selected && self.types(body).contains(&direction) {
                tiers.entry(tier_of(body)).or_default().push((policy, body));
            }
        }
        Ok(tiers)
    }

    fn endpoint_says(
        &self,
        id: &EndpointId,
        endpoint: &Endpoint,
        direction: PolicyType,
        phase: Phase,
    ) -> Says {
        let Ok(tiers) = self.applied(id, endpoint, direction, phase) else { return Says::Deny };
        let mut names: Vec<&String> = tiers.keys().collect();
        names.sort_by(|a, b| self.compare_tiers(a, b));
        for name in names {
            let mut policies = tiers[name].clone();
            policies.sort_by(|(a, x), (b, y)| {
                by_order(order_of(x), order_of(y)).then((&a.name, &a.namespace).cmp(&(&b.name, &b.namespace)))
            });
            let mut says = Says::Nothing;
            for (policy, body) in policies {
                says = if self.broken(policy, body) {
                    Says::Deny
                } else {
                    self.rules_say(rules_of(body, direction), &policy.namespace)
                };
                if says != Says::Nothing {
                    break;
                }
            }
            let default = match phase {
                Phase::Untracked | Phase::PreDnat => Some(TierAction::Pass),
                Phase::Workload | Phase::Forward | Phase::Host => {
                    self.snapshot.tiers.get(name).and_then(|t| t.default_action)
                }
            };
            match (says, default) {
                (Says::Allow, _) => return Says::Allow,
                (Says::Deny, _) | (Says::Nothing, None | Some(TierAction::Deny)) => return Says::Deny,
                (Says::Pass, _) | (Says::Nothing, Some(TierAction::Pass)) => {}
            }
        }
        match phase {
            Phase::Workload | Phase::Host if self.profiles_allow(endpoint, direction) => Says::Allow,
            Phase::Workload | Phase::Host => Says::Deny,
            Phase::Untracked | Phase::PreDnat | Phase::Forward => Says::Nothing,
        }
    }

    fn profiles_allow(&self, endpoint: &Endpoint, direction: PolicyType) -> bool {
        for name in &endpoint.profiles {
            let Some(Some(profile)) = self.snapshot.profiles.get(&**name) else { continue };
            if profile.ingress.iter().chain(&profile.egress).any(rule_broken) {
                continue;
            }
            let rules = match direction {
                PolicyType::Ingress => &profile.ingress,
                PolicyType::Egress => &profile.egress,
            };
            match self.rules_say(rules, "") {
                Says::Allow => return true,
                Says::Deny => return false,
                Says::Pass | Says::Nothing => {}
            }
        }
        false
    }

    /// Everybody who has an address: endpoints, and network sets around it.
    fn owners(&self, address: IpAddr) -> Vec<Owner<'_>> {
        let endpoints = self.snapshot.endpoints.values().filter(|e| e.addresses.contains(&address));
        let sets = self.snapshot.network_sets.values().filter(|s| s.nets.iter().any(|n| n.contains(address)));
        let hosts = self.snapshot.host_endpoints.values().map(|h| &h.endpoint);
        let hosts = hosts.filter(|e| e.addresses.contains(&address));
        let endpoints = endpoints
            .map(Arc::as_ref)
            .chain(hosts)
            .map(|e| Owner { labels: self.labels(&e.labels, &e.profiles), ports: &e.ports });
        let sets = sets.map(|s| Owner { labels: self.labels(&s.labels, &s.profiles), ports: &[] });
        endpoints.chain(sets).collect()
    }

    fn labels(&self, own: &LabelSet, profiles: &[Arc<str>]) -> BTreeMap<String, String> {
        let own = own.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut labels: BTreeMap<String, String> =
            own.filter(|(name, _)| !name.starts_with("pcns.") && !name.starts_with("pcsa.")).collect();
        for profile in profiles.iter().filter_map(|p| self.snapshot.profiles.get(&**p)?.as_ref()) {
            for (name, value) in &profile.labels_to_apply {
                if !labels.contains_key(name) {
                    labels.insert(name.clone(), value.clone());
                }
            }
        }
        labels
    }

    /// Whether a policy selects labels; `None` when its selection cannot be read.
    fn selects(
        &self,
        policy: &PolicyId,
        body: &PolicyBody,
        labels: &BTreeMap<String, String>,
    ) -> Option<bool> {
        let (selector, accounts, namespaces) = match body {
            PolicyBody::Network(spec) => (&spec.selector, &spec.service_account_selector, ""),
            PolicyBody::Global(spec) => {
                (&spec.selector, &spec.service_account_selector, spec.namespace_selector.as_str())
            }
            PolicyBody::Invalid(_) => return None,
        };
        let own = selects_plainly(selector, labels)?;
        let accounts = selects_under(accounts, "pcsa.", "projectcalico.org/serviceaccount", labels)?;
        let namespaces = selects_under(namespaces, "pcns.", "projectcalico.org/namespace", labels)?;
        let inside = policy.namespace.is_empty()
            || labels.get("projectcalico.org/namespace") == Some(&policy.namespace);
        Some(own && accounts && namespaces && inside)
    }

    fn types(&self, body: &PolicyBody) -> Vec<PolicyType> {
        let (types, ingress, egress) = match body {
            PolicyBody::Network(s) => (&s.types, &s.ingress, &s.egress),
            PolicyBody::Global(s) => (&s.types, &s.ingress, &s.egress),
            PolicyBody::Invalid(_) => return vec![PolicyType::Ingress, PolicyType::Egress],
        };
        match (types.is_empty(), ingress.is_empty(), egress.is_empty()) {
            (false, ..) => types.clone(),
            (true, true, false) => vec![PolicyType::Egress],
            (true, _, true) => vec![PolicyType::Ingress],
            (true, false, false) => vec![PolicyType::Ingress, PolicyType::Egress],
        }
    }

    fn compare_tiers(&self, a: &str, b: &str) -> Ordering {
        let tiers = &self.snapshot.tiers;
        match (tiers.get(a), tiers.get(b)) {
            (Some(x), Some(y)) => by_order(x.order, y.order).then(a.cmp(b)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => a.cmp(b),
        }
    }

    fn broken(&self, policy: &PolicyId, body: &PolicyBody) -> bool {
        let rules: Vec<&Rule> = match body {
            PolicyBody::Network(s) => s.ingress.iter().chain(&s.egress).collect(),
            PolicyBody::Global(s) => s.ingress.iter().chain(&s.egress).collect(),
            PolicyBody::Invalid(_) => return true,
        };
        rules.into_iter().any(rule_broken) || self.selects(policy, body, &BTreeMap::new()).is_none()
    }

    fn rules_say(&self, rules: &[Rule], namespace: &str) -> Says {
        for rule in rules {
            let part =
                rule.http.is_some() || rule.source.services.is_some() || rule.destination.services.is_some();
            if (part && matches!(rule.action, Action::Allow | Action::Log)) || !self.matches(rule, namespace)
            {
                continue;
            }
            match rule.action {
                Action::Allow => return Says::Allow,
                Action::Deny => return Says::Deny,
                Action::Pass if part => return Says::Deny,
                Action::Pass => return Says::Pass,
                Action::Log => {}
            }
        }
        Says::Nothing
    }

    fn matches(&self, rule: &Rule, namespace: &str) -> bool {
        let p = self.packet;
        let version = if p.source.is_ipv4() { 4 } else { 6 };
        let number = rule.protocol.map(|x| x.number());
        let wrong_family = matches!((number, version), (Some(1), 6) | (Some(58), 4));
        if rule.ip_version.is_some_and(|v| v != version) || wrong_family {
            return false;
        }
        if number.is_some_and(|n| n != p.protocol)
            || rule.not_protocol.is_some_and(|n| n.number() == p.protocol)
        {
            return false;
        }
        let is = |icmp: Icmp| match (icmp.icmp_type, p.icmp) {
            (None, _) => None,
            (Some(_), None) => Some(false),
            (Some(t), Some((pt, pc))) => Some(t == pt && icmp.code.is_none_or(|c| c == pc)),
        };
        if rule.icmp.and_then(is) == Some(false) || rule.not_icmp.and_then(is) == Some(true) {
            return false;
        }
        let (source_port, destination_port) = p.ports.map_or((None, None), |(s, d)| (Some(s), Some(d)));
        self.entity_matches(&rule.source, namespace, p.source, source_port)
            && self.entity_matches(&rule.destination, namespace, p.destination, destination_port)
    }

    fn entity_matches(
        &self,
        entity: &EntityRule,
        namespace: &str,
        address: IpAddr,
        port: Option<u16>,
    ) -> bool {
        if !entity.nets.is_empty() && !entity.nets.iter().any(|n| n.contains(address)) {
            return false;
        }
        if !entity.not_nets.is_empty() {
            let same_family = entity.not_nets.iter().any(|n| n.is_ipv4() == address.is_ipv4());
            if !same_family || entity.not_nets.iter().any(|n| n.contains(address)) {
                return false;
            }
        }
        let owners = self.owners(address);
        let excluded = |owner: &Owner<'_>| {
            !entity.not_selector.is_empty()
                && selects_plainly(&entity.not_selector, &owner.labels) == Some(true)
        };
        let positive = |owner: &Owner<'_>| is_peer(entity, namespace, &owner.labels);
        let wants_peer = !entity.selector.is_empty()
            || !entity.namespace_selector.is_empty()
            || entity
                .service_accounts
                .as_ref()
                .is_some_and(|a| !a.names.is_empty() || !a.selector.is_empty())
            || (!namespace.is_empty()
                && (!entity.not_selector.is_empty() || entity.service_accounts.is_some()));
        if wants_peer {
            if !owners.iter().any(|e| positive(e) && !excluded(e)) {
                return false;
            }
        } else if owners.iter().any(excluded) {
            return false;
        }
        let has = |owner: &Owner<'_>, name: &str| {
            let fits = |q: &WorkloadEndpointPort| {
                q.name == name && Some(q.port) == port && q.protocol.number() == self.packet.protocol
            };
            owner.ports.iter().any(fits)
        };
        let listed = |wanted: &Port, of_peers: bool| match wanted {
            Port::Range(low, high) => port.is_some_and(|p| (*low..=*high).contains(&p)),
            Port::Named(name) => owners
                .iter()
                .any(|e| has(e, name) && (!of_peers || !wants_peer || (positive(e) && !excluded(e)))),
        };
        (entity.ports.is_empty() || entity.ports.iter().any(|p| listed(p, true)))
            && !entity.not_ports.iter().any(|p| listed(p, false))
    }
}

/// Whether an endpoint is one of the peers a rule names positively.
fn is_peer(entity: &EntityRule, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
    let own_namespace = labels.get("projectcalico.org/namespace");
    let in_namespace = match entity.namespace_selector.trim() {
        _ if entity.namespace_selector.is_empty() => {
            namespace.is_empty() || own_namespace.is_some_and(|n| n == namespace)
        }
        "global()" => own_namespace.is_none(),
        text => selects_under(text, "pcns.", "projectcalico.org/namespace", labels) == Some(true),
    };
    let account = entity.service_accounts.as_ref().is_none_or(|wanted| {
        let named = labels.get("projectcalico.org/serviceaccount").is_some_and(|a| wanted.names.contains(a));
        (wanted.names.is_empty() || named)
            && selects_under(&wanted.selector, "pcsa.", "projectcalico.org/serviceaccount", labels)
                == Some(true)
    });
    let selected = entity.selector.is_empty() || selects_plainly(&entity.selector, labels) == Some(true);
    in_namespace && account && selected
}

/// `None` for a text that is no selector here.
fn selects_plainly(text: &str, labels: &dyn Labels) -> Option<bool> {
    let selector: Selector = text.parse().ok()?;
    (!text.contains("global(")).then(|| selector.matches(labels))
}

/// A selector over labels kept under a prefix; absent selects everything, `all()` whatever has the label.
fn selects_under(text: &str, prefix: &str, label: &str, labels: &BTreeMap<String, String>) -> Option<bool> {
    match text {
        "" => Some(true),
        "all()" => Some(labels.contains_key(label)),
        text => selects_plainly(text, &Under(prefix, labels)),
    }
}

fn rule_broken(rule: &Rule) -> bool {
    let nothing = BTreeMap::new();
    let entity_broken = |entity: &EntityRule| {
        let accounts = entity.service_accounts.as_ref().map_or("", |a| a.selector.as_str());
        let namespaces = entity.namespace_selector.as_str();
        let selectors = [&entity.selector, &entity.not_selector, accounts]
            .iter()
            .any(|text| selects_plainly(text, &nothing).is_none());
        let reversed = |p: &Port| matches!(p, Port::Range(low, high) if low > high);
        let all_ports = || entity.ports.iter().chain(&entity.not_ports);
        let ports = all_ports().any(reversed)
            || [&entity.ports, &entity.not_ports].iter().any(|ports| {
                !ports.is_empty()
                    && match rule.protocol {
                        Some(protocol) => ![6, 17, 132].contains(&protocol.number()),
                        None => ports.iter().any(|p| matches!(p, Port::Range(..))),
                    }
            });
        let namespaces = namespaces.trim() != "global()" && selects_plainly(namespaces, &nothing).is_none();
        selectors || ports || namespaces
    };
    let icmp_broken = |icmp: Option<Icmp>| match icmp {
        None | Some(Icmp { icmp_type: None, code: None }) => false,
        Some(Icmp { icmp_type: None, code: Some(_) } | Icmp { icmp_type: Some(255), .. }) => true,
        Some(_) => !rule.protocol.is_some_and(|p| [1, 58].contains(&p.number())),
    };
    entity_broken(&rule.source)
        || entity_broken(&rule.destination)
        || icmp_broken(rule.icmp)
        || icmp_broken(rule.not_icmp)
        || rule.ip_version.is_some_and(|v| v != 4 && v != 6)
}

fn tier_of(body: &PolicyBody) -> String {
    let tier = match body {
        PolicyBody::Network(s) => s.tier.clone(),
        PolicyBody::Global(s) => s.tier.clone(),
        PolicyBody::Invalid(_) => None,
    };
    tier.filter(|t| !t.is_empty()).unwrap_or_else(|| "default".to_owned())
}

fn order_of(body: &PolicyBody) -> Option<f64> {
    match body {
        PolicyBody::Network(s) => s.order,
        PolicyBody::Global(s) => s.order,
        PolicyBody::Invalid(_) => None,
    }
}

fn rules_of(body: &PolicyBody, direction: PolicyType) -> &[Rule] {
    match (body, direction) {
        (PolicyBody::Network(s), PolicyType::Ingress) => &s.ingress,
        (PolicyBody::Network(s), PolicyType::Egress) => &s.egress,
        (PolicyBody::Global(s), PolicyType::Ingress) => &s.ingress,
        (PolicyBody::Global(s), PolicyType::Egress) => &s.egress,
        (PolicyBody::Invalid(_), _) => &[],
    }
}

/// An absent order is after every number.
fn by_order(a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}
