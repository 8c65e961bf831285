//! Flags and environment: defaults, every variable, and all problems at once.

use std::ffi::OsString;

use super::*;
use tortie_model::resource::EncapMode;

fn read(flags: &[&str], variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let args = std::iter::once("tortie-node").chain(flags.iter().copied()).map(OsString::from);
    let etcd = [("ETCD_ENDPOINTS", "http://127.0.0.1:2379")];
    Config::read(args, &etcd.iter().chain(variables).map(|(k, v)| (*k, *v)).collect())
}

/// The one problem of a configuration.
fn problem(flags: &[&str], variables: &[(&str, &str)]) -> String {
    match read(flags, variables) {
        Err(ConfigError::Invalid(problems)) if problems.len() == 1 => problems[0].clone(),
        other => panic!("{variables:?}: {other:?}"),
    }
}

#[test]
fn defaults_are_those_of_calico_node() {
    let config = read(&[], &[]).unwrap();
    assert_eq!(config.name.file.to_str(), Some("/var/lib/calico/nodename"));
    assert_eq!(config.socket.to_str(), Some("/var/run/tortie/tortie.sock"));
    assert!(matches!(config.ipv4, AddressSetting::KeepOrDetect(Method::FirstFound)));
    assert!(matches!(config.ipv6, AddressSetting::Keep));
    assert_eq!(
        (config.backend, config.router_id, config.as_number),
        (Backend::Bird, RouterId::NodeAddress, None)
    );
    assert!(!config.wait_for_datastore && !config.skip_address_check && config.ipv6_support);
    assert_eq!((config.ownership, config.log_group), (Ownership::Exclusive, None));
    assert!(!config.reevaluate);
    assert_eq!((config.endpoint_to_host, config.ipip_mtu, config.log_level), (None, None, LevelFilter::INFO));
    let (ipv4, ipv6) = (config.pools.ipv4.unwrap(), config.pools.ipv6.unwrap());
    assert_eq!(
        (ipv4.cidr, ipv4.block_size, ipv4.ipip, ipv4.nat_outgoing),
        (None, 26, EncapMode::Never, true)
    );
    assert_eq!(
        (ipv6.cidr, ipv6.block_size, ipv6.vxlan, ipv6.nat_outgoing),
        (None, 122, EncapMode::Never, false)
    );
    assert_eq!(ipv4.node_selector, "all()");
}

#[test]
fn addresses_are_polled_as_asked() {
    for (text, seconds) in [
        ("60s", Some(60)),
        ("1m30s", Some(90)),
        ("15", Some(15)),
        ("0", None),
        ("0s", None),
        ("-5s", None),
        ("-1", None),
    ] {
        let config = read(&[], &[("AUTODETECT_POLL_INTERVAL", text)]).unwrap();
        assert_eq!(config.autodetect_poll.map(|poll| poll.as_secs()), seconds, "{text}");
    }
    assert_eq!(read(&[], &[]).unwrap().autodetect_poll, Some(Duration::from_secs(60)));
    assert!(problem(&[], &[("AUTODETECT_POLL_INTERVAL", "soon")]).contains("'soon' must be a duration"));
}

#[test]
fn the_embedded_datastore_is_for_this_machine_unless_told_otherwise() {
    let embedded = |flags: &[&str], variables: &[(&str, &str)]| {
        let flags = [&["--embedded-datastore", "/x"], flags].concat();
        match read(&flags, variables).unwrap().datastore {
            DatastoreConfig::Embedded { listen, insecure, .. } => (listen.to_string(), insecure),
            DatastoreConfig::Cluster(_) => panic!("embedded"),
        }
    };
    assert_eq!(embedded(&[], &[]), ("127.0.0.1:2379".into(), false));
    assert_eq!(embedded(&["--embedded-listen", "[::1]:2400"], &[]), ("[::1]:2400".into(), false));
    let open = ["--embedded-listen", "0.0.0.0:2379", "--embedded-insecure"];
    assert_eq!(embedded(&open, &[]), ("0.0.0.0:2379".into(), true));
    let variables = [("TORTIE_EMBEDDED_LISTEN", "10.0.0.1:2379"), ("TORTIE_EMBEDDED_INSECURE", "true")];
    assert_eq!(embedded(&[], &variables), ("10.0.0.1:2379".into(), true));
    assert_eq!(embedded(&["--embedded-listen", "127.0.0.1:1"], &variables).0, "127.0.0.1:1", "flags win");

    let refused = |flags: &[&str], variables: &[(&str, &str)]| {
        problem(&[&["--embedded-datastore", "/x"], flags].concat(), variables)
    };
    assert!(
        refused(&["--embedded-listen", "10.0.0.1:1"], &[])
            .starts_with("--embedded-listen: '10.0.0.1:1' is no loop")
    );
    assert!(
        refused(&[], &variables[..1]).starts_with("TORTIE_EMBEDDED_LISTEN: '10.0.0.1:2379' is no loopback")
    );
    let cert = ["--embedded-listen", "10.0.0.1:1", "--embedded-cert-file", "/none"];
    let text = match read(&[&["--embedded-datastore", "/x"], &cert[..]].concat(), &[]) {
        Err(ConfigError::Invalid(problems)) => problems.join("\n"),
        other => panic!("{other:?}"),
    };
    for part in [
        "--embedded-cert-file needs --embedded-trusted-ca-file",
        "--embedded-cert-file is given but --embedded-key-file is not",
        "--embedded-cert-file: cannot read '/none'",
    ] {
        assert!(text.contains(part), "no '{part}' in: {text}");
    }
    assert!(refused(&["--embedded-listen", "here"], &[]).contains("'here' must be an address and a port"));
    assert!(matches!(read(&["--embedded-insecure"], &[]), Err(ConfigError::Flags(_))));
}

#[test]
fn variables_are_read() {
    let config = read(
        &["--socket", "/tmp/s", "--log-level", "debug", "--log-format", "json"],
        &[
            ("NODENAME", "n1"),
            ("IP", "10.0.0.1/24"),
            ("IP6", "autodetect"),
            ("IP6_AUTODETECTION_METHOD", "cidr=fd00::/8"),
            ("AS", "64999"),
            ("DISABLE_NODE_IP_CHECK", "true"),
            ("CALICO_NETWORKING_BACKEND", "vxlan"),
            ("CALICO_ROUTER_ID", "hash"),
            ("CALICO_K8S_NODE_REF", "k"),
            ("CLUSTER_TYPE", "k8s,bgp"),
            ("WAIT_FOR_DATASTORE", "true"),
            ("TORTIE_SOCKET", "/tmp/ignored"),
            ("TORTIE_NFT_OWNER", "false"),
            ("TORTIE_LOG_GROUP", "7"),
            ("TORTIE_REEVALUATE_FLOWS", "true"),
            ("FELIX_IPV6SUPPORT", "false"),
            ("FELIX_DefaultEndpointToHostAction", "ACCEPT"),
            ("felix_ipinipmtu", "1400"),
            ("CALICO_IPV4POOL_CIDR", "10.64.0.0/16"),
            ("CALICO_IPV4POOL_BLOCK_SIZE", "28"),
            ("CALICO_IPV4POOL_IPIP", "Cross-Subnet"),
            ("CALICO_IPV4POOL_NAT_OUTGOING", "false"),
            ("CALICO_IPV4POOL_NODE_SELECTOR", "has(x)"),
            ("CALICO_IPV4POOL_DISABLE_BGP_EXPORT", "true"),
            ("CALICO_IPV6POOL_CIDR", "none"),
        ],
    )
    .unwrap();
    assert_eq!(config.name.explicit.as_deref(), Some("n1"));
    assert!(matches!(config.ipv4, AddressSetting::Explicit(ip, Some(24)) if ip.to_string() == "10.0.0.1"));
    assert!(matches!(&config.ipv6, AddressSetting::Detect(Method::Cidr(nets)) if nets.len() == 1));
    assert_eq!((config.as_number, config.skip_address_check), (Some(AsNumber(64999)), true));
    assert_eq!((config.backend, config.router_id), (Backend::Vxlan, RouterId::Hash));
    assert_eq!((config.k8s_node_ref.as_deref(), config.cluster_type.as_str()), (Some("k"), "k8s,bgp"));
    assert!(config.wait_for_datastore && !config.ipv6_support);
    assert_eq!((config.ownership, config.log_group), (Ownership::Shared, Some(7)));
    assert!(config.reevaluate);
    assert_eq!((config.endpoint_to_host, config.ipip_mtu), (Some(EndpointToHost::Accept), Some(1400)));
    assert_eq!((config.log_level, config.log_format), (LevelFilter::DEBUG, Format::Json));
    assert_eq!(config.socket.to_str(), Some("/tmp/s"));
    let expected = PoolWish {
        cidr: Some("10.64.0.0/16".parse().unwrap()),
        block_size: 28,
        ipip: EncapMode::CrossSubnet,
        vxlan: EncapMode::Never,
        nat_outgoing: false,
        node_selector: "has(x)".into(),
        disable_bgp_export: true,
    };
    assert_eq!(config.pools, PoolSettings { ipv4: Some(expected), ipv6: None });
}

#[test]
fn empty_variables_count_as_unset() {
    let config = read(&[], &[("IP", ""), ("AS", " "), ("NODENAME", ""), ("CALICO_ROUTER_ID", "")]).unwrap();
    assert!(matches!(config.ipv4, AddressSetting::KeepOrDetect(_)));
    assert_eq!((config.as_number, config.name.explicit), (None, None));
    assert!(matches!(read(&[], &[("IP", "none")]).unwrap().ipv4, AddressSetting::Keep));
    let pools = read(&[], &[("NO_DEFAULT_POOLS", "TRUE")]).unwrap().pools;
    assert_eq!(pools, PoolSettings { ipv4: None, ipv6: None });
}

#[test]
fn each_bad_value_is_named_with_its_rule() {
    for (name, value, rule) in [
        ("IP", "10.0.0.1/33", "10.0.0.1/24"),
        ("IP", "fd00::1", "an IPv4 address"),
        ("IP6", "10.0.0.1", "an IPv6 address"),
        ("IP", "0.0.0.0", "an IPv4 address"),
        ("IP", "127.0.0.1", "an IPv4 address"),
        ("IP6", "::1/128", "an IPv6 address"),
        ("IP_AUTODETECTION_METHOD", "kubernetes-internal-ip", "first-found"),
        ("IP_AUTODETECTION_METHOD", "interface=", "needs a value"),
        ("IP_AUTODETECTION_METHOD", "interface=eth[", "regular expression"),
        ("IP_AUTODETECTION_METHOD", "cidr=fd00::/8", "other address family"),
        ("AS", "65536.1", "16 bits each"),
        ("AS", "0", "RFC 7607"),
        ("WAIT_FOR_DATASTORE", "2", "true or false"),
        ("DISABLE_NODE_IP_CHECK", "maybe", "true or false"),
        ("TORTIE_NFT_OWNER", "mine", "true or false"),
        ("TORTIE_LOG_GROUP", "65536", "0 to 65535"),
        ("TORTIE_REEVALUATE_FLOWS", "all", "true or false"),
        ("CALICO_NETWORKING_BACKEND", "gobgp", "bird, vxlan or none"),
        ("CALICO_ROUTER_ID", "239.0.0.1", "hash"),
        ("CALICO_STARTUP_LOGLEVEL", "loud", "error, warn"),
        ("FELIX_IPV6SUPPORT", "si", "true or false"),
        ("FELIX_DEFAULTENDPOINTTOHOSTACTION", "REJECT", "Drop, Accept or Return"),
        ("FELIX_IPINIPMTU", "67", "68 to 65535"),
        ("CALICO_IPV4POOL_CIDR", "10.64.0.1/16", "did you mean 10.64.0.0/16?"),
        ("CALICO_IPV4POOL_CIDR", "10.64.0.0", "an IPv4 CIDR"),
        ("CALICO_IPV6POOL_CIDR", "10.64.0.0/16", "an IPv6 CIDR"),
        ("CALICO_IPV4POOL_CIDR", "10.64.0.0/27", "smaller than a block"),
        ("CALICO_IPV4POOL_BLOCK_SIZE", "33", "20 to 32"),
        ("CALICO_IPV6POOL_BLOCK_SIZE", "64", "116 to 128"),
        ("CALICO_IPV4POOL_IPIP", "sometimes", "Always, CrossSubnet or Never"),
        ("CALICO_IPV4POOL_NODE_SELECTOR", "has(", "selector"),
    ] {
        let text = problem(&[], &[(name, value)]);
        assert!(text.starts_with(name) && text.contains(value) && text.contains(rule), "{text}");
    }
    assert!(problem(&["--log-level", "loud"], &[]).starts_with("--log-level: 'loud'"));
    let both = [("CALICO_IPV4POOL_IPIP", "Always"), ("CALICO_IPV4POOL_VXLAN", "Always")];
    assert!(problem(&[], &both).contains("exclude each other"));
    let both = [("NO_DEFAULT_POOLS", "true"), ("CALICO_IPV4POOL_CIDR", "10.64.0.0/16")];
    assert!(problem(&[], &both).contains("exclude each other"));
}

#[test]
fn all_problems_come_together() {
    let variables = [
        ("IP", "x"),
        ("AS", "y"),
        ("CALICO_IPV4POOL_IPIP", "z"),
        ("DATASTORE_TYPE", "consul"),
        ("FELIX_IPINIPMTU", "q"),
    ];
    let error = read(&["--log-level", "w"], &variables).unwrap_err().to_string();
    for name in ["IP:", "AS:", "CALICO_IPV4POOL_IPIP:", "consul", "FELIX_IPINIPMTU:", "--log-level:"] {
        assert!(error.contains(name), "{name} in {error}");
    }
}

#[test]
fn the_datastore_is_a_cluster_or_a_directory() {
    let embedded = read(&["--embedded-datastore", "/var/lib/x"], &[]).unwrap().datastore;
    assert!(
        matches!(embedded, DatastoreConfig::Embedded { directory: dir, .. } if dir.to_str() == Some("/var/lib/x"))
    );
    let DatastoreConfig::Cluster(config) = read(&[], &[]).unwrap().datastore else { panic!("a cluster") };
    assert_eq!(config.endpoints(), "http://127.0.0.1:2379");
    assert!(problem(&["--config", "/nonexistent/x.cfg"], &[]).contains("/nonexistent/x.cfg"));
}

#[test]
fn unknown_flags_are_refused() {
    for flags in [&["--sokcet", "/x"][..], &["run"], &["--config", "a", "--embedded-datastore", "b"]] {
        assert!(
            matches!(read(flags, &[]), Err(ConfigError::Flags(error)) if error.use_stderr()),
            "{flags:?}"
        );
    }
    assert!(matches!(read(&["--version"], &[]), Err(ConfigError::Flags(error)) if !error.use_stderr()));
}

#[test]
fn service_ranges_and_secrets() {
    let config = read(&[], &[]).unwrap();
    assert_eq!((config.service_cluster_ips, config.secrets.to_str()), (None, Some("/etc/tortie/secrets")));
    let variables =
        [("CALICO_ADVERTISE_CLUSTER_IPS", "10.96.0.0/12, fd00:96::/112,"), ("TORTIE_SECRETS_DIR", "/run/s")];
    let config = read(&[], &variables).unwrap();
    let ranges: Vec<String> = config.service_cluster_ips.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.96.0.0/12", "fd00:96::/112"]);
    assert_eq!(config.secrets.to_str(), Some("/run/s"));
    for bad in ["10.96.0.0", "10.96.0.0/33", "all"] {
        assert!(problem(&[], &[("CALICO_ADVERTISE_CLUSTER_IPS", bad)]).contains("CIDRs"), "{bad}");
    }
}
