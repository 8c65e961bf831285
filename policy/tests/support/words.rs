//! Snapshots and packets in the words the tests are written in, so that what a random test finds can be read, and becomes a
//! test of its own by copying. Only what YAML here has no word for is lost: a `projectcalico.org/namespace` label that is not
//! that of the endpoint, profiles of network sets, the port of VXLAN where it is not used.

use serde::Serialize;
use serde_json::{Map, Value, json};
use tortie_policy::eval::{CtState, Packet, Step};
use tortie_policy::snapshot::{
    Endpoint, EndpointId, EndpointToHost, Failsafe, HostEndpoint, HostPlace, LabelSet, NetworkSet, Options,
    PolicyBody, PolicyId, Snapshot, StagedBody,
};

/// Longest value on one line.
const WIDTH: usize = 150;

/// A snapshot as [`super::snapshot`] reads it. What is empty is left out.
pub(crate) fn snapshot(snapshot: &Snapshot) -> String {
    let Snapshot { tiers, policies, staged, profiles, endpoints, network_sets, host_endpoints, .. } =
        snapshot;
    let pools = snapshot.pools.iter().map(|p| json!({ "cidr": p.cidr, "natOutgoing": p.nat_outgoing }));
    let endpoint_to_host = match snapshot.endpoint_to_host {
        EndpointToHost::Drop => "Drop",
        EndpointToHost::Accept => "Accept",
        EndpointToHost::Return => "Return",
    };
    let document = [
        ("tiers", value(tiers)),
        ("policies", policies.iter().map(|(id, body)| policy(id, body)).collect()),
        ("staged", staged.iter().map(|(id, body)| staged_policy(id, body)).collect()),
        ("profiles", value(profiles)),
        ("endpoints", endpoints.iter().map(|(id, e)| endpoint(id, e)).collect()),
        ("networkSets", network_sets.iter().map(|(id, set)| network_set(id, set)).collect()),
        ("hostEndpoints", host_endpoints.iter().map(|(id, host)| host_endpoint(id, host)).collect()),
        ("hostInterfaces", value(&snapshot.host_interfaces)),
        ("pools", pools.collect()),
        ("tunnelPeers", value(&snapshot.tunnel_peers)),
        ("options", options(&snapshot.options)),
        ("endpointToHost", value(&endpoint_to_host)),
    ];
    let mut text = String::new();
    write(&mut text, &object(document), 0);
    text
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).expect("a value")
}

/// An object of what is not empty.
fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let full = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Number(_) => true,
    };
    let fields = fields.into_iter().filter(|(_, value)| full(value));
    Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect())
}

fn policy(id: &PolicyId, body: &PolicyBody) -> Value {
    let (spec, invalid) = match body {
        PolicyBody::Network(spec) => (value(spec), Value::Null),
        PolicyBody::Global(spec) => (value(spec), Value::Null),
        PolicyBody::Invalid(reason) => (Value::Null, value(reason)),
    };
    let (name, namespace) = (value(&id.name), value(&id.namespace));
    object([("name", name), ("namespace", namespace), ("spec", spec), ("invalid", invalid)])
}

fn staged_policy(id: &PolicyId, body: &StagedBody) -> Value {
    let (spec, kubernetes, invalid) = match body {
        StagedBody::Network(spec) => (value(spec), false, Value::Null),
        StagedBody::Global(spec) => (value(spec), false, Value::Null),
        StagedBody::Kubernetes(spec) => (value(spec), true, Value::Null),
        StagedBody::Invalid(reason) => (Value::Null, false, value(reason)),
    };
    let (kubernetes, namespace) = (value(&kubernetes), value(&id.namespace));
    object([
        ("name", value(&id.name)),
        ("namespace", namespace),
        ("spec", spec),
        ("kubernetes", kubernetes),
        ("invalid", invalid),
    ])
}

fn labels(labels: &LabelSet) -> Value {
    labels.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect::<Map<_, _>>().into()
}

/// What endpoints of both kinds have in common.
fn common(e: &Endpoint) -> [(&'static str, Value); 4] {
    let profiles = e.profiles.iter().map(|name| json!(**name)).collect();
    [
        ("labels", labels(&e.labels)),
        ("profiles", profiles),
        ("addresses", value(&e.addresses)),
        ("ports", value(&e.ports)),
    ]
}

fn endpoint(id: &EndpointId, e: &Endpoint) -> Value {
    let name = [("name", value(&id.name)), ("namespace", value(&id.namespace))];
    object(name.into_iter().chain(common(e)).chain([("interface", value(&e.interface))]))
}

fn host_endpoint(id: &EndpointId, host: &HostEndpoint) -> Value {
    let place = match &host.place {
        HostPlace::Elsewhere => Some(("elsewhere", json!(true))),
        HostPlace::Interface(name) => Some(("interface", json!(name))),
        HostPlace::All => Some(("interface", json!("*"))),
        HostPlace::Addresses => None,
    };
    object([("name", value(&id.name))].into_iter().chain(common(&host.endpoint)).chain(place))
}

fn network_set(id: &EndpointId, set: &NetworkSet) -> Value {
    let (name, namespace) = (value(&id.name), value(&id.namespace));
    let labels = labels(&set.labels);
    // A set without networks has to say so.
    let mut fields = object([("name", name), ("namespace", namespace), ("labels", labels)]);
    fields["nets"] = value(&set.nets);
    fields
}

fn options(options: &Options) -> Value {
    let failsafe = |f: &Failsafe| match f.net {
        Some(net) => json!({ "protocol": f.protocol, "port": f.port, "net": net }),
        None => json!({ "protocol": f.protocol, "port": f.port }),
    };
    let failsafes = |list: &[Failsafe]| list.iter().map(failsafe).collect::<Value>();
    let mut fields = object([
        ("ipipFromWorkloads", json!(options.ipip_from_workloads)),
        ("vxlanFromWorkloads", json!(options.vxlan_from_workloads)),
        ("acceptInvalid", json!(options.accept_invalid)),
        ("vxlanPort", value(&options.vxlan.then_some(options.vxlan_port))),
        ("logPrefix", value(&options.log.prefix)),
        ("logGroup", value(&options.log.group)),
    ]);
    // No failsafes are not those there are by default.
    fields["failsafeInbound"] = failsafes(&options.failsafe_inbound);
    fields["failsafeOutbound"] = failsafes(&options.failsafe_outbound);
    fields
}

/// YAML: what fits in a line is in one, and looks like JSON.
fn write(out: &mut String, value: &Value, indent: usize) {
    let pad = " ".repeat(indent);
    let line = |value: &Value| Some(value.to_string()).filter(|text| text.len() <= WIDTH);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match line(value) {
                    Some(text) => *out += &format!("{pad}{name}: {text}\n"),
                    None => {
                        *out += &format!("{pad}{name}:\n");
                        write(out, value, indent + 2);
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut text = String::new();
                match line(item) {
                    Some(item) => text = format!("{pad}  {item}\n"),
                    None => write(&mut text, item, indent + 2),
                }
                text.replace_range(indent..=indent, "-");
                *out += &text;
            }
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            *out += &format!("{pad}{plain}\n")
        }
    }
}

/// A packet as [`super::packet`] reads it.
pub(crate) fn packet(packet: &Packet) -> String {
    let interface = |name: &Option<String>| name.as_deref().unwrap_or("-").to_owned();
    let mut words = vec![interface(&packet.input), ">".to_owned(), interface(&packet.output)];
    words.extend([packet.source.to_string(), ">".to_owned(), packet.destination.to_string()]);
    match (packet.protocol, packet.ports, packet.icmp) {
        (number, Some((source, destination)), _) => {
            let name = match number {
                6 => "tcp",
                17 => "udp",
                _ => "sctp",
            };
            words.push(format!("{name} {destination} from {source}"));
        }
        (_, None, Some((icmp_type, code))) => words.push(format!("icmp {icmp_type} {code}")),
        (number, None, None) => words.push(number.to_string()),
    }
    let state = match packet.state {
        CtState::New => None,
        CtState::Established => Some("established"),
        CtState::Related => Some("related"),
        CtState::Invalid => Some("invalid"),
        CtState::Refused => Some("refused"),
        CtState::Untracked => Some("untracked"),
    };
    let flags = [(!packet.reverse_route, "spoofed"), (packet.marked, "marked")];
    words.extend(state.map(str::to_owned));
    words.extend(flags.into_iter().filter(|(set, _)| *set).map(|(_, word)| word.to_owned()));
    words.extend(packet.original.map(|(address, port)| format!("for {address} {port}")));
    words.join(" ")
}

/// A rule that matched a packet.
pub(crate) fn step(step: &Step) -> String {
    let Step { chain, index, comment, action } = step;
    format!("{chain} rule {index}, {comment:?}: {action:?}")
}
