use super::*;
use crate::AnyResource;
use proptest::prelude::*;

const POOL: &str =
    "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.0.0.0/16}\n";

fn problems(text: &str) -> Vec<String> {
    let documents = match documents("f.yaml", text) {
        Ok(documents) => documents,
        Err(errors) => return errors.iter().map(ToString::to_string).collect(),
    };
    let read = documents.iter().map(|d| read(&d.value, "default"));
    read.filter_map(Result::err).flatten().map(|p| p.to_string()).collect()
}

fn pool_with(spec: &str) -> Vec<String> {
    problems(&format!(
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  name: p\nspec:\n  {spec}\n"
    ))
}

#[test]
fn a_good_document_is_read_with_its_defaults() {
    let documents = documents("f", POOL).unwrap();
    let AnyResource::IpPool(pool) = read(&documents[0].value, "default").unwrap() else { panic!("kind") };
    assert_eq!(pool.spec.block_size, Some(26));
    assert!(pool.original.0.is_none());
}

#[test]
fn every_mistake_is_reported_with_path_value_and_nearest_name() {
    let found = pool_with(
        "{cidr: 10.0.0.0/33, natoutgoing: true, ipipMode: crosssubnet, blockSize: 300, blocksiz: 1}",
    );
    assert_eq!(
        found,
        [
            "error with field spec.cidr = '10.0.0.0/33' (must be a network such as 10.0.0.0/16 or fd00::/48)",
            "error with field spec.ipipMode = 'crosssubnet' (must be one of Never, Always, CrossSubnet; did you mean 'CrossSubnet'?)",
            "error with field spec.blockSize = '300' (must be a whole number from 0 to 255)",
            "field in document is not recognized or is in the wrong location: spec.blocksiz (did you mean 'blockSize'?)",
            "field in document is not recognized or is in the wrong location: spec.natoutgoing (did you mean 'natOutgoing'?)",
        ]
    );
    assert_eq!(
        pool_with("cidr: 10.0.0.0/16\n  natOutgoing: yes"),
        ["error with field spec.natOutgoing = 'yes' (must be true or false)"]
    );
}

#[test]
fn paths_go_through_lists_and_survive_earlier_mistakes() {
    let text = "
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata:
  name: p
  lables: {a: b}
  labels: {version: 2}
spec:
  ingress:
  - action: Alow
  - action: Allow
    protocol: TCP
    source:
      netz: [10.0.0.0/8]
      nets: [10.0.0.0/8, 10.0.0.300/32]
    destination: {ports: [80, 70000, '5:1']}
";
    let found = problems(text);
    assert_eq!(found.len(), 7, "{found:#?}");
    for (path, hint) in [
        ("metadata.lables", "did you mean 'labels'?"),
        ("metadata.labels.version = '2'", "must be text; put it in quotes"),
        ("spec.ingress[0].action = 'Alow'", "did you mean 'Allow'?"),
        ("spec.ingress[1].source.netz", "did you mean 'nets'?"),
        ("spec.ingress[1].source.nets[1] = '10.0.0.300/32'", "must be a network"),
        ("spec.ingress[1].destination.ports[1] = '70000'", "must be a number from 0 to 65535"),
        ("spec.ingress[1].destination.ports[2] = '5:1'", "range must be min:max"),
    ] {
        assert!(found.iter().any(|f| f.contains(path) && f.contains(hint)), "{path} {hint}: {found:#?}");
    }
}

#[test]
fn a_wrong_required_field_is_reported_once() {
    let text = "
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec:
  serviceClusterIPs: [{cidr: 10.0.0.0/99}, {}]
";
    let found = problems(text);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("spec.serviceClusterIPs[0].cidr = '10.0.0.0/99'"));
    assert_eq!(found[1], "error with field spec.serviceClusterIPs[1].cidr (is required)");
}

#[test]
fn kinds_and_versions_are_checked_first() {
    let with = |api, kind: &str| {
        problems(&POOL.replace("projectcalico.org/v3", api).replace("IPPool", kind)).join("|")
    };
    let v3 = "projectcalico.org/v3";
    assert_eq!(
        with(v3, "IPPol"),
        "unknown resource type (IPPol) and/or version (projectcalico.org/v3); did you mean 'IPPool'?"
    );
    assert!(with(v3, "IPAMBlock").ends_with("Calico keeps these by itself, they cannot be written"));
    assert!(with(v3, "Deployment").contains("kinds are BGPConfiguration, "));
    assert!(with("projectcalico.org/v2", "IPPool").contains("apiVersion must be projectcalico.org/v3"));
    assert!(with("v1", "IPPool").contains("did you mean 'ipPool'?; or set apiVersion: projectcalico.org/v3"));
    assert!(with("v1", "Node").contains("did you mean 'node'?"));
    assert_eq!(
        problems("apiversion: projectcalico.org/v3\nkind: IPPool\n"),
        ["error with field apiVersion (is required; is 'apiversion' a typing mistake?)"]
    );
    assert_eq!(problems("just words\n").len(), 1);
}

#[test]
fn documents_are_separated_numbered_and_taken_apart() {
    let list = "apiVersion: projectcalico.org/v3\nkind: IPPoolList\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n";
    let text = format!("# only a comment\n---\n{POOL}---\n\n---\n{list}--- {{\"a\": 1}}\n...\n[{{b: 2}}]\n");
    let documents = documents("x", &text).unwrap();
    let origins: Vec<String> = documents.iter().map(|d| d.origin.to_string()).collect();
    assert_eq!(
        origins,
        [
            "x, document 1 (line 2)",
            "x, document 2 (line 9), items[0]",
            "x, document 2 (line 9), items[1]",
            "x, document 3 (line 15)",
            "x, document 4 (line 16), [0]",
        ]
    );
    assert_eq!(documents[2].value["kind"], "IPPool");
}

#[test]
fn syntax_errors_name_line_and_column_of_the_file() {
    let errors = documents("f.yaml", &format!("{POOL}---\na: [1,\nb: 2\n---\n{{\"a\": 1,}}\n")).unwrap_err();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(
        texts[0],
        "f.yaml, document 2 (line 5): broken YAML at line 8, column 1: did not find expected ',' or ']', \
         while parsing a flow sequence at line 6 column 4"
    );
    let errors = documents("-", "{\"a\": 1\n \"b\": 2}").unwrap_err();
    assert!(
        errors[0]
            .to_string()
            .starts_with("standard input, document 1 (line 1): broken YAML at line 2, column ")
    );
    assert!(documents("f", &"#".repeat(MAX_INPUT_BYTES + 1)).is_err());
}

#[test]
fn duplicate_fields_and_tags_are_refused() {
    assert!(documents("f", "a: 1\na: 2\n").is_err());
    assert!(documents("f", "a: !secret x\n").is_err());
    assert!(documents("f", "a: .nan\n").is_err());
}

#[test]
fn misspelt_and_unknown_parameters_of_felix_are_refused() {
    let with = |spec: &str| {
        problems(&format!(
            "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {{name: default}}\nspec: {{{spec}}}\n"
        ))
    };
    let unknown = "field in document is not recognized or is in the wrong location: spec.";
    assert_eq!(
        with("ipipEnable: true, somethingNew: 1, ipipEnabled: true, bpfLogLevl: Info"),
        [
            format!("{unknown}bpfLogLevl (did you mean 'bpfLogLevel'?)"),
            format!("{unknown}ipipEnable (did you mean 'ipipEnabled'?)"),
            format!("{unknown}somethingNew"),
        ]
    );
    assert_eq!(with("ipv4NormalRoutePriority: 5, ipipEnabled: true, nodeSelector: null"), [""; 0]);
}

#[test]
fn fields_of_a_status_are_known_too() {
    let with = |status: &str| {
        problems(&format!(
            "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: n}}\nstatus: {{{status}}}\n"
        ))
    };
    assert_eq!(with("podCIDRs: [10.0.0.0/24], wireguardPublicKey: k"), [""; 0]);
    assert_eq!(
        with("podCidrs: []"),
        [
            "field in document is not recognized or is in the wrong location: status.podCidrs (did you mean 'podCIDRs'?)"
        ]
    );
}

proptest! {
    #[test]
    fn reading_any_text_never_panics(text in "\\PC{0,80}(\n[ -]{0,4}[a-z\\[{:'\"&*!]{1,12}){0,12}") {
        problems(&text);
    }

    #[test]
    fn reading_any_document_never_panics(kind in 0..crate::Kind::all().count(), spec in any_json(), metadata in any_json()) {
        let kind = crate::Kind::all().nth(kind).unwrap();
        let document = serde_json::json!({
            "apiVersion": "projectcalico.org/v3", "kind": kind.name(), "metadata": metadata, "spec": spec
        });
        let _ = read(&document, "default");
    }

    #[test]
    fn what_is_read_is_read_again_unchanged(spec in any_json()) {
        let document = serde_json::json!({
            "apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "p"}, "spec": spec
        });
        if let Ok(resource) = read(&document, "default") {
            prop_assert_eq!(read(&resource.to_value(), "default").unwrap(), resource);
        }
    }
}

/// Objects with names that our kinds know, and values of every type.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![
            "\\PC{0,12}",
            Just("10.0.0.0/16".to_owned()),
            Just("all()".to_owned()),
            Just("TCP".to_owned())
        ]
        .prop_map(Value::from),
    ];
    let names = prop_oneof![
        Just("cidr"),
        Just("name"),
        Just("labels"),
        Just("ingress"),
        Just("egress"),
        Just("source"),
        Just("nets"),
        Just("ports"),
        Just("protocol"),
        Just("selector"),
        Just("blockSize"),
        Just("ipipMode"),
        Just("node"),
        Just("bgp"),
        Just("peerIP"),
        Just("icmp"),
        Just("type"),
        Just("services"),
        Just("other"),
        Just("allowedUses"),
        Just("disabled"),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((names.clone(), inner), 0..6).prop_map(|members| Value::Object(
                members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
            )),
        ]
    })
}

#[test]
fn nets_of_rules_need_a_prefix_length_but_stored_ones_are_read_without() {
    let rules = "egress: [{action: Deny, destination: {nets: [10.0.0.0/8, 10.0.0.1], notNets: [10.0.0.2]}}, {action: Deny, source: {nets: ['fd00::1']}}]";
    for kind in ["NetworkPolicy", "GlobalNetworkPolicy", "Profile"] {
        let text = format!(
            "apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: p}}\nspec: {{{rules}}}\n"
        );
        assert_eq!(
            problems(&text),
            [
                "error with field spec.egress[0].destination.nets[1] = '10.0.0.1' (must have a prefix length, such as 10.0.0.1/32)",
                "error with field spec.egress[0].destination.notNets[0] = '10.0.0.2' (must have a prefix length, such as 10.0.0.2/32)",
                "error with field spec.egress[1].source.nets[0] = 'fd00::1' (must have a prefix length, such as fd00::1/128)",
            ]
        );
    }
    // The old form was laxer; its documents are converted to full nets.
    let v1 = "apiVersion: v1\nkind: profile\nmetadata: {name: p}\nspec: {egress: [{action: deny, destination: {nets: [10.0.0.1]}}]}\n";
    assert_eq!(problems(v1), [""; 0]);
    let stored: crate::rule::Rule =
        serde_json::from_value(serde_json::json!({"source": {"nets": ["10.0.0.1"]}})).unwrap();
    assert_eq!(stored.source.nets[0].to_string(), "10.0.0.1/32");
}

#[test]
fn numbers_in_quotes_are_told_so() {
    assert_eq!(
        pool_with("{cidr: 10.0.0.0/16, blockSize: '26', natOutgoing: 'true'}"),
        [
            "error with field spec.blockSize = '26' (must be a whole number from 0 to 255; take it out of its quotes)",
            "error with field spec.natOutgoing = 'true' (must be true or false; take it out of its quotes)",
        ]
    );
}

#[test]
fn orders_are_written_as_go_writes_them() {
    for (order, text) in [
        ("5", "5"),
        ("5.0", "5"),
        ("1e6", "1000000"),
        ("-3", "-3"),
        ("1.5", "1.5"),
        ("1e300", "1e+300"),
        ("-0.0", "-0.0"),
    ] {
        let spec: crate::resource::TierSpec =
            serde_json::from_str(&format!("{{\"order\":{order}}}")).unwrap();
        assert_eq!(serde_json::to_string(&spec).unwrap(), format!("{{\"order\":{text}}}"));
    }
}
