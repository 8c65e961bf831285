use super::columns::go_float;
use super::*;
use serde_json::json;
use tortie_model::codec::from_document;

fn resource(kind: Kind, document: serde_json::Value) -> AnyResource {
    from_document(kind, document).unwrap()
}

fn pool() -> AnyResource {
    resource(
        Kind::IpPool,
        json!({
            "metadata": {"name": "default-ipv4-ippool", "resourceVersion": "7"},
            "spec": {"cidr": "192.168.0.0/16", "ipipMode": "Always", "natOutgoing": true, "nodeSelector": "all()"}
        }),
    )
}

fn shown(kind: Kind, items: Vec<AnyResource>) -> [Shown; 1] {
    [Shown::List { kind, revision: 42, items }]
}

const FACTS: Facts = Facts { default_as: 64512, with_namespace: false };

fn text(shown: &[Shown], format: &str) -> String {
    render(shown, &format.parse().unwrap(), &FACTS).unwrap()
}

#[test]
fn a_pool_is_shown_in_calicoctls_columns() {
    let list = shown(Kind::IpPool, vec![pool()]);
    assert_eq!(
        text(&list, "ps"),
        "NAME                  CIDR             SELECTOR   \n\
         default-ipv4-ippool   192.168.0.0/16   all()      \n\n"
    );
    assert_eq!(
        text(&list, "wide"),
        "NAME                  CIDR             NAT    IPIPMODE   VXLANMODE   DISABLED   DISABLEBGPEXPORT   \
         SELECTOR   ASSIGNMENTMODE   \n\
         default-ipv4-ippool   192.168.0.0/16   true   Always     Never       false      false              \
         all()      <nil>            \n\n"
    );
    assert_eq!(text(&list, "custom-columns=cidr"), "CIDR             \n192.168.0.0/16   \n\n");
    assert_eq!(text(&list, "name"), "ippool/default-ipv4-ippool\n");
}

#[test]
fn lists_and_single_resources_have_calicoctls_documents() {
    let one = [Shown::One(Box::new(pool()))];
    assert_eq!(
        text(&one, "yaml"),
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  name: default-ipv4-ippool\n  \
         resourceVersion: '7'\nspec:\n  cidr: 192.168.0.0/16\n  ipipMode: Always\n  natOutgoing: true\n  \
         nodeSelector: all()\n"
    );
    let list = text(&shown(Kind::IpPool, vec![pool()]), "json");
    assert!(
        list.starts_with("{\n  \"kind\": \"IPPoolList\",\n  \"apiVersion\": \"projectcalico.org/v3\",\n"),
        "{list}"
    );
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["metadata"]["resourceVersion"], "42");
    assert_eq!(list["items"][0]["spec"]["cidr"], "192.168.0.0/16");
    let two = [Shown::One(Box::new(pool())), Shown::One(Box::new(pool()))];
    assert!(text(&two, "json").starts_with("[\n"));
}

#[test]
fn nodes_show_inherited_as_numbers_in_parentheses() {
    let own = json!({"metadata": {"name": "a"}, "spec": {"bgp": {"asNumber": 65000, "ipv4Address": "10.0.0.1/24"}}});
    let none = json!({"metadata": {"name": "b"}});
    let list = shown(Kind::Node, vec![resource(Kind::Node, own), resource(Kind::Node, none)]);
    let expected = "NAME   ASN       IPV4          IPV6   \n\
                    a      65000     10.0.0.1/24          \n\
                    b      (64512)                        \n\n";
    assert_eq!(text(&list, "wide"), expected);
}

#[test]
fn tiers_are_sorted_by_order_and_orders_print_as_in_go() {
    let tier = |name: &str, order: serde_json::Value| {
        resource(Kind::Tier, json!({"metadata": {"name": name}, "spec": {"order": order}}))
    };
    let tiers =
        vec![tier("default", json!(1_000_000.0)), tier("late", json!(null)), tier("first", json!(1.5))];
    assert_eq!(
        text(&shown(Kind::Tier, tiers), "ps"),
        "NAME      ORDER   \nfirst     1.5     \ndefault   1e+06   \nlate      <nil>   \n\n"
    );
    for (value, expected) in [
        (0.0, "0"),
        (100.0, "100"),
        (100_000.0, "100000"),
        (1_234_567.0, "1.234567e+06"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (-3.25, "-3.25"),
    ] {
        assert_eq!(go_float(value), expected);
    }
}

#[test]
fn every_kind_has_its_columns() {
    for kind in Kind::all() {
        let cidr = if kind == Kind::IpPool { json!({"cidr": "10.0.0.0/8"}) } else { json!({}) };
        let item = resource(kind, json!({"metadata": {"name": "x", "namespace": "ns"}, "spec": cidr}));
        for format in ["ps", "wide"] {
            let facts = Facts { with_namespace: true, ..FACTS };
            let text = render(&shown(kind, vec![item.clone()]), &format.parse().unwrap(), &facts).unwrap();
            assert_eq!(text.lines().count(), 3, "{text}");
            assert_eq!(text.starts_with("NAMESPACE "), kind.is_namespaced(), "{text}");
        }
    }
}

#[test]
fn unknown_formats_and_columns_are_refused() {
    assert_eq!("foo".parse::<Format>(), Err(FormatError::Unknown("foo".into())));
    assert!(matches!("go-template={{.}}".parse::<Format>(), Err(FormatError::Template(_))));
    let error = render(&shown(Kind::Tier, vec![]), &"custom-columns=NAME,FOO".parse().unwrap(), &FACTS);
    assert_eq!(
        error.unwrap_err().to_string(),
        "unknown output column 'FOO' for Tier: columns are NAME, ORDER"
    );
}
