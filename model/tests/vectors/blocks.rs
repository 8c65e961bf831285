//! Arithmetic of blocks: ordinals, what is given out next, what a write changes (calico-datamodel 4.2, 4.5).

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use tortie_model::ipam::{AffinityState, AllocationAttribute, Block, BlockAffinity, Handle, IpamConfig};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn block(cidr: &str) -> Block {
    let cidr: IpNetwork = cidr.parse().unwrap_or_else(|error| panic!("{cidr}: {error}"));
    Block::new(cidr, Some("n1"), None, 1_767_323_045_000_000_000)
}

fn owner(handle: &str) -> AllocationAttribute {
    AllocationAttribute { handle_id: Some(handle.to_owned()), ..AllocationAttribute::default() }
}

/// Block, address, ordinal; `None` when the address is outside.
const ORDINALS: &[(&str, &str, Option<usize>)] = &[
    ("10.65.3.0/26", "10.65.3.0", Some(0)),
    ("10.65.3.0/26", "10.65.3.1", Some(1)),
    ("10.65.3.0/26", "10.65.3.63", Some(63)),
    ("10.65.3.0/26", "10.65.3.64", None),
    ("10.65.3.0/26", "10.65.2.255", None),
    ("10.65.3.0/26", "::a41:300", None),
    ("10.65.3.64/26", "10.65.3.100", Some(36)),
    ("10.65.3.255/32", "10.65.3.255", Some(0)),
    ("10.65.3.255/32", "10.65.3.254", None),
    ("10.65.0.0/20", "10.65.15.255", Some(4095)),
    ("10.65.0.0/20", "10.65.1.2", Some(258)),
    ("255.255.255.192/26", "255.255.255.255", Some(63)),
    ("0.0.0.0/26", "0.0.0.0", Some(0)),
    ("fd00:1::40/122", "fd00:1::40", Some(0)),
    ("fd00:1::40/122", "fd00:1::7f", Some(63)),
    ("fd00:1::40/122", "fd00:1::80", None),
    ("fd00:1::40/122", "fd00:1::3f", None),
    ("fd00:1::40/122", "10.0.0.1", None),
    ("fd00:1::/116", "fd00:1::fff", Some(4095)),
    ("fd00:1::ff/128", "fd00:1::ff", Some(0)),
    ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffc0/122", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Some(63)),
    ("::/122", "::1", Some(1)),
];

#[test]
fn ordinals_count_from_the_blocks_base() {
    for (cidr, address, ordinal) in ORDINALS {
        let block = block(cidr);
        assert_eq!(block.ordinal(ip(address)), *ordinal, "{address} in {cidr}");
        if let Some(ordinal) = ordinal {
            assert_eq!(block.address(*ordinal), ip(address));
        }
    }
}

#[test]
fn sizes_are_powers_of_two_and_every_address_is_given_out() {
    for (cidr, size) in [
        ("10.65.3.0/32", 1),
        ("10.65.3.0/31", 2),
        ("10.65.3.0/30", 4),
        ("10.65.3.0/26", 64),
        ("10.65.0.0/20", 4096),
        ("fd00::/128", 1),
        ("fd00::/122", 64),
        ("fd00::/116", 4096),
    ] {
        let mut block = block(cidr);
        assert_eq!((block.free(), block.allocations.len()), (size, size), "{cidr}");
        assert_eq!(block.unallocated, (0..size).collect::<Vec<_>>(), "{cidr}");
        let given = block.assign_next(size + 1, &owner("h"), |_| true);
        assert_eq!(given, (0..size).map(|ordinal| block.address(ordinal)).collect::<Vec<_>>());
        assert_eq!((block.free(), block.attributes.len()), (0, 1));
        block.check().expect("a whole block");
    }
}

/// A step, and the state of a block of four after it: allocations, unallocated, handles.
/// Steps: `+h` next address for h, `=2h` ordinal 2 for h, `-2` release ordinal 2, `~h` release handle h.
const HISTORY: &[(&str, &str, &[usize], &str)] = &[
    ("+a", "0...", &[1, 2, 3], "a"),
    ("+b", "01..", &[2, 3], "a b"),
    ("+a", "010.", &[3], "a b"),
    // Released ordinals queue at the tail.
    ("-0", ".10.", &[3, 0], "a b"),
    ("=3c", ".102", &[0], "a b c"),
    // The last address of an owner takes its attribute away; the others close ranks.
    ("-1", "..01", &[0, 1], "a c"),
    ("+d", "2.01", &[1], "a c d"),
    ("~a", "1..0", &[1, 2], "c d"),
    // Releasing what is free changes nothing.
    ("-2", "1..0", &[1, 2], "c d"),
    ("~a", "1..0", &[1, 2], "c d"),
    // A wanted address leaves the middle of the queue.
    ("-3", "0...", &[1, 2, 3], "d"),
    ("=2d", "0.0.", &[1, 3], "d"),
    ("~d", "....", &[1, 3, 0, 2], ""),
    ("+e", ".0..", &[3, 0, 2], "e"),
];

#[test]
fn a_blocks_history() {
    let mut block = block("10.65.3.0/30");
    for (at, (step, allocations, unallocated, handles)) in HISTORY.iter().enumerate() {
        let (kind, rest) = step.split_at(1);
        let ordinal = rest.chars().next().and_then(|c| c.to_digit(10)).unwrap_or_default() as usize;
        let address = block.address(ordinal);
        match kind {
            "+" => assert_eq!(block.assign_next(1, &owner(rest), |_| true).len(), 1),
            "=" => block.assign(address, &owner(&rest[1..])).expect("a free address"),
            "-" => drop(block.release(&[address])),
            _ => drop(block.release_handle(rest)),
        }
        let entry = |entry: &Option<usize>| entry.map_or(".".to_owned(), |index| index.to_string());
        assert_eq!(
            block.allocations.iter().map(entry).collect::<String>(),
            *allocations,
            "step {at}: {step}"
        );
        assert_eq!(block.unallocated, *unallocated, "step {at}: {step}");
        let found: Vec<&str> = block.attributes.iter().filter_map(|a| a.handle_id.as_deref()).collect();
        assert_eq!(found.join(" "), *handles, "step {at}: {step}");
        block.check().expect("a whole block");
    }
}

#[test]
fn the_sequence_number_of_an_allocation_is_that_before_its_write() {
    let mut block = block("10.65.3.0/30");
    block.assign_next(1, &owner("a"), |_| true);
    block.advance();
    block.assign_next(1, &owner("a"), |_| true);
    block.advance();
    let numbers: Vec<_> =
        block.sequence_number_for_allocation.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    assert_eq!(numbers, [("0", 1_767_323_045_000_000_000), ("1", 1_767_323_045_000_000_001)]);
    assert_eq!(block.sequence_number, 1_767_323_045_000_000_002);
    block.release(&[ip("10.65.3.0")]);
    assert_eq!(block.sequence_number_for_allocation.len(), 1);
}

#[test]
fn numbers_beyond_a_double_survive() {
    let text = r#"{"cidr":"10.65.3.0/32","affinity":null,"allocations":[null],"unallocated":[0],"attributes":[],"sequenceNumber":9223372036854775807,"sequenceNumberForAllocation":{"0":9007199254740993},"deleted":false,"new":1.2345678901234567}"#;
    let block: Block = serde_json::from_str(text).expect("a block");
    assert_eq!(serde_json::to_string(&block).expect("JSON"), text);
}

/// Whose a block is: JSON of affinity fields, host, whether anyone's.
const OWNERS: &[(&str, Option<&str>, bool)] = &[
    (r#""affinity":"host:n1""#, Some("n1"), true),
    (r#""affinity":"host:a:b""#, Some("a:b"), true),
    (r#""affinity":"virtual:load-balancer""#, None, true),
    (r#""affinity":null"#, None, false),
    (r#""deleted":false"#, None, false),
    (r#""affinity":null,"hostAffinity":"n2""#, Some("n2"), true),
    (r#""affinity":"host:n1","hostAffinity":"n2""#, Some("n1"), true),
];

#[test]
fn affinities_of_blocks() {
    for (fields, host, affine) in OWNERS {
        let text = format!(r#"{{"cidr":"10.65.3.0/32","allocations":[null],"unallocated":[0],{fields}}}"#);
        let block: Block = serde_json::from_str(&text).expect("a block");
        assert_eq!((block.host(), block.is_affine()), (*host, *affine), "{fields}");
    }
}

#[test]
fn blocks_larger_than_they_say_stay_within_their_bounds() {
    // Ordinals past the last address there is.
    let text = r#"{"cidr":"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128","allocations":[0,0,0],"attributes":[{"handle_id":"h"}]}"#;
    let mut block: Block = serde_json::from_str(text).expect("a block");
    assert!(block.check().is_err());
    assert_eq!(block.in_use().count(), 3);
    assert!(block.release_handle("h").len() <= 3);
}

#[test]
fn states_of_affinities() {
    for (text, state, written) in [
        (
            r#"{"state":"confirmed","deleted":false}"#,
            AffinityState::Confirmed,
            r#"{"state":"confirmed","deleted":false}"#,
        ),
        (
            r#"{"state":"pending","deleted":false}"#,
            AffinityState::Pending,
            r#"{"state":"pending","deleted":false}"#,
        ),
        (
            r#"{"state":"pendingDeletion","deleted":true}"#,
            AffinityState::PendingDeletion,
            r#"{"state":"pendingDeletion","deleted":true}"#,
        ),
        ("{}", AffinityState::Confirmed, r#"{"state":"confirmed","deleted":false}"#),
        (r#"{"state":""}"#, AffinityState::Confirmed, r#"{"state":"confirmed","deleted":false}"#),
        (
            r#"{"state":"pending","new":[1]}"#,
            AffinityState::Pending,
            r#"{"state":"pending","deleted":false,"new":[1]}"#,
        ),
    ] {
        let affinity: BlockAffinity = serde_json::from_str(text).expect("an affinity");
        assert_eq!(affinity.state, state, "{text}");
        assert_eq!(serde_json::to_string(&affinity).expect("JSON"), written);
    }
    assert!(serde_json::from_str::<BlockAffinity>(r#"{"state":"Confirmed"}"#).is_err());
}

#[test]
fn handles_and_configuration() {
    for (text, written) in [
        (
            r#"{"block":{"10.65.3.0/26":2},"deleted":false}"#,
            r#"{"block":{"10.65.3.0/26":2},"deleted":false}"#,
        ),
        (r#"{"block":null}"#, r#"{"block":{},"deleted":false}"#),
        ("{}", r#"{"block":{},"deleted":false}"#),
    ] {
        let handle: Handle = serde_json::from_str(text).expect("a handle");
        assert_eq!(serde_json::to_string(&handle).expect("JSON"), written);
    }
    for (id, stored) in [("a.b", "a.b"), ("a\rb", "a"), ("a\r\n", "a"), ("\rb", ""), ("a\nb", "a\nb")] {
        assert_eq!(Handle::stored_id(id), stored);
    }
    // Left out when false or zero, so what is missing is false; only a missing object allocates blocks by itself.
    for (text, strict, auto, limit) in [
        ("{}", false, false, 0),
        (r#"{"auto_allocate_blocks":true}"#, false, true, 0),
        (r#"{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":4}"#, true, true, 4),
        (r#"{"auto_allocate_blocks":true,"ipCooldownSeconds":5}"#, false, true, 0),
    ] {
        let config: IpamConfig = serde_json::from_str(text).expect("a configuration");
        let found = (config.strict_affinity, config.auto_allocate_blocks, config.max_blocks_per_host);
        assert_eq!(found, (strict, auto, limit), "{text}");
        assert_eq!(serde_json::to_string(&config).expect("JSON"), text);
    }
    let absent = IpamConfig::absent();
    assert_eq!(
        (absent.strict_affinity, absent.auto_allocate_blocks, absent.max_blocks_per_host),
        (false, true, 0)
    );
}
