//! Filters of sessions: what is built in, and BGPFilters.

use tortie_bgp::family::Prefix;
use tortie_bgp::filter::{Change, Context, Filter, PeerType, PrefixMatch, Source, Verdict};
use tortie_bgp::wire::{PathAttributes, as_path};
use tortie_model::ipam::AffinityState;

use super::*;

/// Rules as text: `accept = 10.0.0.0/26 (own block 10.0.0.0/26)`.
fn rules(filter: &Filter) -> Vec<String> {
    let line = |rule: &tortie_bgp::filter::Rule| {
        let verdict = match rule.verdict {
            Verdict::Accept => "accept",
            Verdict::Reject => "reject",
            Verdict::Continue => "continue",
        };
        let prefix = match rule.prefix {
            Some(PrefixMatch::Equal(p)) => format!(" = {p}"),
            Some(PrefixMatch::In(p)) => format!(" in {p}"),
            Some(PrefixMatch::NotEqual(p)) => format!(" != {p}"),
            Some(PrefixMatch::NotIn(p)) => format!(" not in {p}"),
            None => String::new(),
        };
        let interface = rule.interface.as_ref().map(|name| format!(", interface {name}"));
        let kind = rule.peer_type.map(|kind| format!(", {kind:?}"));
        let preference = rule.local_pref.map(|wanted| format!(", local_pref {wanted:?}"));
        let more: String = [interface, kind, preference].into_iter().flatten().collect();
        format!("{verdict}{prefix}{more} ({})", rule.reason)
    };
    filter.rules().iter().map(line).collect()
}

/// A route on its way through a filter.
struct Route {
    prefix: &'static str,
    source: Source,
    peer_type: PeerType,
    attributes: PathAttributes<'static>,
}

impl Route {
    fn learned(prefix: &'static str) -> Route {
        let attributes = PathAttributes::originated("10.0.0.2".parse().unwrap());
        Route { prefix, source: Source::Learned, peer_type: PeerType::Internal, attributes }
    }

    fn own(prefix: &'static str) -> Route {
        let mut route = Route { source: Source::Originated, ..Route::learned(prefix) };
        route.attributes.local_pref = Some(2_147_482_623);
        route
    }

    fn with_path(mut self, numbers: &[u32]) -> Route {
        let path = numbers.iter().rev().fold(Vec::new(), |path, number| as_path::prepend(&path, *number));
        self.attributes.as_path = path.into();
        self
    }

    fn external(self) -> Route {
        Route { peer_type: PeerType::External, ..self }
    }

    /// Verdict and reason, with the attributes it leaves with.
    fn through(mut self, filter: &Filter) -> (Option<Verdict>, String, PathAttributes<'static>) {
        let Route { source, peer_type, .. } = self;
        let prefix = Prefix::from(net(self.prefix));
        let context = Context { source, peer_type, interface: None };
        let decision = filter.decide(prefix, &context, &mut self.attributes);
        (decision.verdict, decision.reason.to_owned(), self.attributes)
    }

    /// `accept: own block 10.0.0.0/26`
    fn fate(self, filter: &Filter) -> String {
        let (verdict, reason, _) = self.through(filter);
        format!(
            "{}: {reason}",
            verdict.map_or_else(|| "undecided".into(), |v| format!("{v:?}").to_lowercase())
        )
    }
}

/// A cluster of two whose peer `tor` has these BGPFilters.
fn filtered(filters: &[(&str, serde_json::Value)]) -> World {
    let names: Vec<&str> = filters.iter().map(|(name, _)| *name).collect();
    let peer = json!({"peerIP": "10.0.0.254", "asNumber": 65100, "filters": names});
    let world = World::nodes(2).pool("p", "10.64.0.0/16", json!({})).confirmed("n1", "10.64.0.0/26");
    let world = world.with(Kind::BgpPeer, "tor", peer);
    filters.iter().fold(world, |world, (name, spec)| world.with(Kind::BgpFilter, name, spec.clone()))
}

fn tor(world: &World) -> PeerConfig {
    peers(world).remove("Global_10_0_0_254").expect("a session with the router")
}

#[test]
fn exported_are_own_blocks_and_what_lies_in_exportable_pools() {
    let world = World::nodes(2)
        .pool("a", "10.64.0.0/16", json!({}))
        .pool("b", "10.65.0.0/16", json!({"vxlanMode": "Always"}))
        .pool("c", "10.66.0.0/16", json!({"disableBGPExport": true}))
        .pool("d", "fd00:1::/48", json!({}))
        .confirmed("n1", "10.64.0.0/26")
        .confirmed("n1", "10.2.0.1/32")
        .confirmed("n2", "10.64.1.0/26");
    let expected = [
        "reject in 10.66.0.0/16 (pool c disableBGPExport)",
        "reject, interface *.cali, Internal (leads into a tunnel (*.cali))",
        "reject, interface *.calico, Internal (leads into a tunnel (*.calico))",
        "reject, interface bpf*.cali (leads into a tunnel (bpf*.cali))",
        "accept = 10.2.0.1/32 (own block 10.2.0.1/32)",
        "accept in 10.2.0.1/32, local_pref Above(2147482623) (moving inside own block 10.2.0.1/32)",
        "reject in 10.2.0.1/32 (inside own block 10.2.0.1/32)",
        "accept = 10.64.0.0/26 (own block 10.64.0.0/26)",
        "accept in 10.64.0.0/26, local_pref Above(2147482623) (moving inside own block 10.64.0.0/26)",
        "reject in 10.64.0.0/26 (inside own block 10.64.0.0/26)",
        "accept in 10.64.0.0/16 (pool a)",
        "accept in 10.65.0.0/16 (pool b)",
        "reject (no rule accepts it)",
    ];
    let peer = &peers(&world)["Mesh_10_0_0_2"];
    assert_eq!(rules(&peer.export), expected);
    assert_eq!(peer.import, Filter::default());
}

#[test]
fn blocks_make_export_rules_and_originated_routes() {
    let blocks = ["10.0.0.0/30", "10.1.0.0/24", "10.2.0.1/32", "10.3.0.0/26", "10.3.0.64/26"];
    let world = blocks.iter().fold(World::nodes(2), |world, block| world.confirmed("n1", block));
    let world = world.block("n1", "10.9.0.0/26", AffinityState::Pending);
    assert_eq!(peers(&world)["Mesh_10_0_0_2"].export.rules().len(), 19);
    let output = world.output();
    let originated: Vec<_> =
        output.bgp.originated.iter().map(|(p, r)| (p.to_string(), r.local_pref)).collect();
    assert_eq!(output.desired.routes.len(), 4, "no blackhole for a single address");
    let expected: Vec<_> = blocks.iter().map(|block| ((*block).to_owned(), 2_147_482_623)).collect();
    assert_eq!(originated, expected);
}

#[test]
fn communities_of_the_node_replace_those_of_the_cluster() {
    let advertise =
        |communities: serde_json::Value| json!([{"cidr": "192.168.0.0/16", "communities": communities}]);
    let changes = |world: &World| {
        let export = peers(world)["Mesh_10_0_0_2"].export.clone();
        export
            .rules()
            .iter()
            .find(|rule| rule.verdict == Verdict::Continue)
            .map(|rule| (rule.prefix, rule.set.clone()))
    };
    let in_range = Some(PrefixMatch::In(net("192.168.0.0/16")));
    let world = World::nodes(2).with(
        Kind::BgpConfiguration,
        "default",
        json!({"communities": [{"name": "large", "value": "100:555:107"}],
               "prefixAdvertisements": advertise(json!(["large", "100:6532", "5663:12", "100:6532", "nobody"]))}),
    );
    let expected = vec![
        Change::AddLargeCommunity([100, 555, 107]),
        Change::AddCommunity(100 << 16 | 6532),
        Change::AddCommunity(5663 << 16 | 12),
    ];
    assert_eq!(changes(&world), Some((in_range, expected)));
    assert!(world.output().problems.of("BGPConfiguration default").unwrap().contains("nobody"));

    let node = json!({"prefixAdvertisements": advertise(json!(["50:50:5364", "5663:12"]))});
    let world = world.with(Kind::BgpConfiguration, "node.n1", node);
    let expected = vec![Change::AddLargeCommunity([50, 50, 5364]), Change::AddCommunity(5663 << 16 | 12)];
    assert_eq!(changes(&world), Some((in_range, expected)));
}

#[test]
fn each_step_of_the_built_in_filter_names_its_reason() {
    let world = filtered(&[]).pool("quiet", "10.66.0.0/16", json!({"disableBGPExport": true}));
    let world = rr(world, "n1", "10.0.0.1/24", "1.1.1.1").with(
        Kind::BgpConfiguration,
        "default",
        json!({"serviceClusterIPs": [{"cidr": "10.96.0.0/12"}], "serviceExternalIPs": [{"cidr": "198.51.100.7/32"}]}),
    );
    let export = tor(&world).export;
    let moving = |mut route: Route| {
        route.attributes.local_pref = Some(2_147_483_135);
        route
    };
    for (route, fate) in [
        (Route::own("10.64.0.0/26"), "accept: own block 10.64.0.0/26"),
        (Route::own("10.64.0.1/32"), "reject: inside own block 10.64.0.0/26"),
        (moving(Route::own("10.64.0.1/32")), "accept: moving inside own block 10.64.0.0/26"),
        (Route::learned("10.66.1.0/26"), "reject: pool quiet disableBGPExport"),
        (Route::learned("10.64.1.0/26"), "accept: pool p"),
        (Route::own("10.64.9.9/32"), "accept: pool p"),
        (Route::own("10.96.0.0/12"), "accept: service range 10.96.0.0/12"),
        (Route::learned("198.51.100.7/32"), "accept: service range 198.51.100.7/32 of others"),
        (Route::learned("0.0.0.0/0"), "reject: no rule accepts it"),
        (Route::learned("192.0.2.0/24"), "reject: no rule accepts it"),
    ] {
        assert_eq!(route.fate(&export), fate);
    }
    let through = |interface| {
        let context =
            Context { source: Source::Learned, peer_type: PeerType::Internal, interface: Some(interface) };
        let prefix = Prefix::from(net("10.64.1.0/26"));
        export.decide(prefix, &context, &mut Route::learned("10.64.1.0/26").attributes).reason.to_owned()
    };
    assert_eq!(through("wireguard.cali"), "leads into a tunnel (*.cali)");
    assert_eq!((through("tunl0").as_str(), through("eth0").as_str()), ("pool p", "pool p"));
}

#[test]
fn the_normal_priority_is_configurable() {
    let world = World::nodes(2).confirmed("n1", "10.64.0.0/26").with(
        Kind::BgpConfiguration,
        "default",
        json!({"ipv4NormalRoutePriority": 200}),
    );
    let originated = &world.output().bgp.originated;
    assert_eq!(originated[&net("10.64.0.0/26")].local_pref, 2_147_483_447);
    assert!(rules(&peers(&world)["Mesh_10_0_0_2"].export)[4].contains("Above(2147483447)"));
}

#[test]
fn filters_set_priorities_on_import() {
    // Vector of bgp-behaviour 12.
    let spec = json!({"importV4": [
        {"action": "Accept", "communities": {"values": ["65000:100"]},
         "operations": [{"setPriority": {"value": 100}}]},
        {"action": "Accept", "asPathPrefix": [65000], "operations": [{"setPriority": {"value": 200}}]},
    ]});
    let import = tor(&filtered(&[("f", spec)])).import;
    let mut marked = Route::learned("192.0.2.0/24").with_path(&[65000]);
    marked.attributes.add_community(65000 << 16 | 100);
    assert_eq!(marked.through(&import).2.local_pref, Some(2_147_483_547));
    let (_, reason, attributes) = Route::learned("192.0.2.0/24").with_path(&[65000, 1]).through(&import);
    assert_eq!(
        (attributes.local_pref, reason.as_str()),
        (Some(2_147_483_447), "BGPFilter f rule 2 (importV4)")
    );
    let (verdict, _, attributes) = Route::learned("192.0.2.0/24").with_path(&[1, 65000]).through(&import);
    assert_eq!((verdict, attributes.local_pref), (None, None));
}

#[test]
fn filters_prepend_paths_and_add_communities_on_export() {
    let spec = json!({"exportV4": [{"action": "Accept", "operations": [
        {"addCommunity": {"value": "65000:1"}}, {"addCommunity": {"value": "1:2:3"}},
        {"prependASPath": {"prefix": [65000, 65001]}}, {"setPriority": {"value": 5}},
    ]}]});
    let export = tor(&filtered(&[("f", spec)])).export;
    let (verdict, _, attributes) = Route::learned("10.64.1.0/26").with_path(&[7]).through(&export);
    assert_eq!(verdict, Some(Verdict::Accept));
    assert_eq!(
        attributes.as_path,
        Route::learned("0.0.0.0/0").with_path(&[65000, 65001, 7]).attributes.as_path
    );
    assert!(attributes.has_community(65000 << 16 | 1) && attributes.large_communities.len() == 12);
    assert_eq!(attributes.local_pref, Some(2_147_483_642));
}

#[test]
fn every_criterion_of_a_filter_counts() {
    let decided = |rule: serde_json::Value, route: Route| {
        let mut rule = rule;
        rule["action"] = json!("Reject");
        let export = tor(&filtered(&[("f", json!({"exportV4": [rule]}))])).export;
        route.fate(&export) == "reject: BGPFilter f rule 1 (exportV4)"
    };
    let cidr = |operator: &str, more: serde_json::Value| {
        let mut rule = json!({"cidr": "10.64.0.0/16", "matchOperator": operator});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule
    };
    let none = json!({});
    for (rule, yes, no) in [
        (cidr("Equal", none.clone()), Route::learned("10.64.0.0/16"), Route::learned("10.64.1.0/26")),
        (cidr("NotEqual", none.clone()), Route::learned("10.64.1.0/26"), Route::learned("10.64.0.0/16")),
        (cidr("In", none.clone()), Route::learned("10.64.1.0/26"), Route::learned("10.65.0.0/26")),
        (cidr("NotIn", none.clone()), Route::learned("10.65.0.0/26"), Route::learned("10.64.1.0/26")),
        (
            cidr("In", json!({"prefixLength": {"min": 27}})),
            Route::learned("10.64.1.0/27"),
            Route::learned("10.64.1.0/26"),
        ),
        (
            cidr("In", json!({"prefixLength": {"max": 26}})),
            Route::learned("10.64.1.0/26"),
            Route::learned("10.64.1.0/27"),
        ),
        // The least length is never less than that of the CIDR itself.
        (
            cidr("In", json!({"prefixLength": {"min": 8, "max": 16}})),
            Route::learned("10.64.0.0/16"),
            Route::learned("10.64.0.0/17"),
        ),
        (json!({"source": "RemotePeers"}), Route::learned("10.64.1.0/26"), Route::own("10.64.0.0/26")),
        (json!({"peerType": "eBGP"}), Route::own("10.64.0.0/26").external(), Route::own("10.64.0.0/26")),
        (json!({"peerType": "iBGP"}), Route::own("10.64.0.0/26"), Route::own("10.64.0.0/26").external()),
        (json!({"priority": 1024}), Route::own("10.64.0.0/26"), Route::learned("10.64.1.0/26")),
        (
            json!({"asPathPrefix": [7, 8]}),
            Route::learned("10.64.1.0/26").with_path(&[7, 8, 9]),
            Route::learned("10.64.1.0/26").with_path(&[8]),
        ),
        (
            json!({"peerType": "iBGP", "source": "RemotePeers"}),
            Route::learned("10.64.1.0/26"),
            Route::own("10.64.0.0/26"),
        ),
    ] {
        assert!(decided(rule.clone(), yes) && !decided(rule.clone(), no), "{rule}");
    }
    // A route has no interface until somebody resolves it.
    assert!(!decided(json!({"interface": "*"}), Route::learned("10.64.1.0/26")));
    assert!(decided(json!({}), Route::own("10.64.0.0/26")), "a rule without criteria takes everything");
}

#[test]
fn filters_come_in_order_and_before_what_is_built_in() {
    let leak = json!({"exportV4": [{"action": "Accept", "cidr": "192.0.2.0/24", "matchOperator": "In"}]});
    let stop = json!({
        "exportV4": [{"action": "Reject", "source": "RemotePeers"}],
        "exportV6": [{"action": "Reject"}], "importV6": [{"action": "Reject"}],
    });
    let peer = tor(&filtered(&[("z-leak", leak), ("a-stop", stop)]));
    for (route, fate) in [
        (Route::learned("192.0.2.0/25"), "accept: BGPFilter z-leak rule 1 (exportV4)"),
        (Route::learned("10.64.1.0/26"), "reject: BGPFilter a-stop rule 1 (exportV4)"),
        (Route::own("10.64.0.0/26"), "accept: own block 10.64.0.0/26"),
    ] {
        assert_eq!(route.fate(&peer.export), fate);
    }
    assert!(peer.import.is_empty(), "rules of another family");
    assert!(peers(&filtered(&[]))["Mesh_10_0_0_2"].import.is_empty());
}

#[test]
fn a_filter_that_is_gone_is_left_out_and_one_that_cannot_be_read_keeps_the_session_down() {
    let world = filtered(&[("f", json!({"exportV4": [{"action": "Reject"}]}))]);
    let key = tortie_model::Key::resource(Kind::BgpFilter, None, "f");
    let gone = world.clone().without(&key);
    assert_eq!(Route::own("10.64.0.0/26").fate(&tor(&gone).export), "accept: own block 10.64.0.0/26");
    assert_eq!(
        gone.output().problems.of("BGPPeer tor").unwrap(),
        "filters: there is no BGPFilter f; it is left out"
    );
    let unreadable = world.clone().unreadable(Kind::BgpFilter, "f");
    assert_eq!(names(&unreadable), ["Mesh_10_0_0_2"]);
    assert!(unreadable.output().problems.of("BGPPeer tor").unwrap().contains("BGPFilter f cannot be read"));
    assert!(unreadable.output().problems.of("BGPFilter f").is_some());
    let odd =
        world.with(Kind::BgpFilter, "f", json!({"importV4": [{"action": "Accept", "cidr": "10.0.0.0/8"}]}));
    let reason = odd.output().problems.of("BGPPeer tor").unwrap();
    assert!(reason.contains("BGPFilter f rule 1 (importV4): cidr needs a matchOperator"), "{reason}");
}
