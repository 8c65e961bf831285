use proptest::prelude::*;

use super::*;

/// As upstream 3.31 writes it, for a block of four.
const STORED: &str = concat!(
    r#"{"cidr":"10.65.3.0/30","affinity":"host:n1","affinity_claim_time":"2026-01-02T03:04:05Z","#,
    r#""allocations":[0,null,1,null],"unallocated":[3,1],"#,
    r#""attributes":[{"handle_id":"ipip-tunnel-addr-n1","secondary":{"node":"n1","type":"ipipTunnelAddress"}},"#,
    r#"{"handle_id":"k8s-pod-network.0123abcd","secondary":{"namespace":"default","node":"n1","pod":"frontend-5gs43"}}],"#,
    r#""sequenceNumber":1767323045000000007,"sequenceNumberForAllocation":{"0":1767323045000000000,"2":1767323045000000006},"#,
    r#""deleted":false}"#
);

fn owner(handle: &str) -> AllocationAttribute {
    let secondary = BTreeMap::from([("node".to_owned(), "n1".to_owned())]);
    AllocationAttribute {
        handle_id: Some(handle.to_owned()),
        secondary: Some(secondary),
        ..AllocationAttribute::default()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn empty(cidr: &str) -> Block {
    Block::new(
        cidr.parse().unwrap(),
        Some("n1"),
        Some("2026-01-02T03:04:05Z".into()),
        1_767_323_045_000_000_000,
    )
}

#[test]
fn stored_blocks_keep_every_byte() {
    let block: Block = serde_json::from_str(STORED).unwrap();
    block.check().unwrap();
    assert_eq!(serde_json::to_string(&block).unwrap(), STORED);
    assert_eq!(block.host(), Some("n1"));
    assert_eq!(block.in_use().map(|(a, _)| a).collect::<Vec<_>>(), [ip("10.65.3.0"), ip("10.65.3.2")]);
}

#[test]
fn old_blocks_are_read() {
    let old = r#"{"cidr":"10.65.3.0/30","affinity":null,"hostAffinity":"n2","allocations":[null,null,null,null],
        "unallocated":[0,1,2,3],"attributes":null,"sequenceNumberForAllocation":null,"deleted":false}"#;
    let block: Block = serde_json::from_str(old).unwrap();
    block.check().unwrap();
    assert_eq!((block.host(), block.is_affine(), block.sequence_number), (Some("n2"), true, 0));
}

#[test]
fn a_new_block_gives_out_every_address_lowest_first() {
    let mut block = empty("10.65.3.0/30");
    assert_eq!(block.assign_next(1, &owner("a"), |_| true), [ip("10.65.3.0")]);
    assert_eq!(block.sequence_number_for_allocation["0"], 1_767_323_045_000_000_000);
    block.advance();
    assert_eq!(block.sequence_number, 1_767_323_045_000_000_001);
    assert_eq!(
        block.assign_next(9, &owner("b"), |_| true),
        [ip("10.65.3.1"), ip("10.65.3.2"), ip("10.65.3.3")]
    );
    assert_eq!(block.sequence_number_for_allocation["3"], 1_767_323_045_000_000_001);
    assert_eq!(block.free(), 0);
    assert_eq!(block.attributes.len(), 2, "one owner, one attribute");
}

#[test]
fn released_addresses_queue_at_the_tail_and_attributes_close_ranks() {
    let mut block: Block = serde_json::from_str(STORED).unwrap();
    assert_eq!(block.release(&[ip("10.65.3.0"), ip("10.65.3.1"), ip("10.99.0.0")]), [ip("10.65.3.0")]);
    assert_eq!(block.unallocated, [3, 1, 0]);
    assert_eq!(block.allocations, [None, None, Some(0), None]);
    assert_eq!(block.attributes[0].handle_id.as_deref(), Some("k8s-pod-network.0123abcd"));
    assert_eq!(block.sequence_number_for_allocation.keys().collect::<Vec<_>>(), ["2"]);
    assert_eq!(block.assign_next(1, &owner("a"), |_| true), [ip("10.65.3.3")]);
    assert_eq!(block.release_handle("k8s-pod-network.0123abcd"), [ip("10.65.3.2")]);
    block.check().unwrap();
}

#[test]
fn a_wanted_address_is_given_once() {
    let mut block = empty("fd00::40/122");
    block.assign(ip("fd00::7f"), &owner("a")).unwrap();
    let again = block.assign(ip("fd00::7f"), &owner("b"));
    assert_eq!(again, Err(AssignError::InUse { address: ip("fd00::7f"), handle: "a".into() }));
    assert!(matches!(block.assign(ip("fd00::80"), &owner("b")), Err(AssignError::Outside { .. })));
    assert_eq!(block.owner(ip("fd00::7f")), Some(&owner("a")));
    assert_eq!(block.held_by("a"), [ip("fd00::7f")]);
    block.check().unwrap();
}

#[test]
fn damage_is_found() {
    let damaged = |change: fn(&mut Block)| {
        let mut block: Block = serde_json::from_str(STORED).unwrap();
        change(&mut block);
        block.check().unwrap_err().to_string()
    };
    assert_eq!(damaged(|b| _ = b.allocations.pop()), "block 10.65.3.0/30 has 3 allocations, its size is 4");
    assert!(damaged(|b| _ = b.attributes.pop()).contains("ordinal 2 points at attribute 1"));
    assert!(damaged(|b| _ = b.unallocated.pop()).contains("each free ordinal exactly once"));
    assert!(damaged(|b| b.unallocated.push(3)).contains("each free ordinal exactly once"));
    assert!(damaged(|b| b.unallocated[0] = 0).contains("each free ordinal exactly once"));
}

#[test]
fn released_addresses_cool_down_in_name_of_their_former_owner() {
    let mut block: Block = serde_json::from_str(STORED).unwrap();
    let former = block.owner(ip("10.65.3.0")).unwrap().clone();
    block.release(&[ip("10.65.3.0")]);
    block.cool_down(ip("10.65.3.0"), &former, "2026-01-02T03:05:00Z");
    block.check().unwrap();
    assert_eq!((block.free(), block.owner(ip("10.65.3.0"))), (2, None));
    assert_eq!(block.cooling().map(|(a, _)| a).collect::<Vec<_>>(), [ip("10.65.3.0")]);
    let text = serde_json::to_string(&block).unwrap();
    assert!(text.contains(
        r#"{"handle_id":"ipip-tunnel-addr-n1","secondary":{"node":"n1","type":"ipipTunnelAddress"},"releasedAt":"2026-01-02T03:05:00Z"}"#
    ), "{text}");
    assert!(matches!(block.assign(ip("10.65.3.0"), &owner("a")), Err(AssignError::CoolingDown { .. })));
    assert!(block.release(&[ip("10.65.3.0")]).is_empty(), "it is released already");
    let mut again = block.clone();
    again.assign(ip("10.65.3.0"), &former).unwrap();
    again.check().unwrap();
    assert_eq!(again.attributes.len(), 2, "the mark of the release is gone");
    block.end_cooldown(|released| released > "2026-01-02T03:05:00Z");
    assert_eq!(block.free(), 2);
    block.end_cooldown(|released| released <= "2026-01-02T03:05:00Z");
    assert_eq!((block.unallocated.as_slice(), block.attributes.len()), ([3, 1, 0].as_slice(), 1));
    block.check().unwrap();
}

#[test]
fn a_blocks_owner_changes_and_the_obsolete_field_goes() {
    let old = r#"{"cidr":"10.65.3.0/31","affinity":null,"hostAffinity":"n2","allocations":[null,null],
        "unallocated":[0,1],"attributes":null,"sequenceNumberForAllocation":null,"deleted":false}"#;
    let mut block: Block = serde_json::from_str(old).unwrap();
    assert_eq!(block.affine_to(), Some(BlockOwner::Host("n2".into())));
    block.set_owner(Some(&BlockOwner::Virtual("load-balancer".into())), Some("2026-01-02T03:04:05Z".into()));
    assert_eq!((block.host(), block.is_affine()), (None, true));
    block.set_owner(None, Some("2026-01-02T03:04:05Z".into()));
    assert_eq!((block.is_affine(), block.affinity_claim_time.as_deref()), (false, None));
}

#[test]
fn reserved_addresses_are_passed_over_and_keep_their_place() {
    let mut block = empty("10.65.3.0/30");
    let usable = |address: IpAddr| address != ip("10.65.3.0") && address != ip("10.65.3.2");
    assert_eq!(block.assign_next(9, &owner("a"), usable), [ip("10.65.3.1"), ip("10.65.3.3")]);
    assert_eq!(block.unallocated, [0, 2]);
    block.check().unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Next { count: usize, handle: usize },
    Certain { ordinal: usize, handle: usize },
    Release { ordinals: Vec<usize> },
    ReleaseHandle { handle: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..5usize, 0..4usize).prop_map(|(count, handle)| Step::Next { count, handle }),
        (0..18usize, 0..4usize).prop_map(|(ordinal, handle)| Step::Certain { ordinal, handle }),
        prop::collection::vec(0..18usize, 0..6).prop_map(|ordinals| Step::Release { ordinals }),
        (0..4usize).prop_map(|handle| Step::ReleaseHandle { handle }),
    ]
}

/// The plain truth a block is compared with: who has which ordinal.
type Truth = BTreeMap<usize, usize>;

fn apply(block: &mut Block, truth: &mut Truth, step: &Step) {
    let address =
        |block: &Block, ordinal: usize| from_bits(to_bits(block.cidr.network()) + ordinal as u128, true);
    match step {
        Step::Next { count, handle } => {
            let free = block.free();
            let given = block.assign_next(*count, &owner(&handle.to_string()), |_| true);
            assert_eq!(given.len(), free.min(*count));
            for given in given {
                let before = truth.insert(block.ordinal(given).unwrap(), *handle);
                assert_eq!(before, None, "{given} was given twice");
            }
        }
        Step::Certain { ordinal, handle } => {
            let wanted = address(block, *ordinal);
            let given = block.assign(wanted, &owner(&handle.to_string())).is_ok();
            assert_eq!(given, *ordinal < 16 && !truth.contains_key(ordinal));
            if given {
                truth.insert(*ordinal, *handle);
            }
        }
        Step::Release { ordinals } => {
            let addresses: Vec<IpAddr> = ordinals.iter().map(|o| address(block, *o)).collect();
            let held: BTreeSet<&usize> = ordinals.iter().filter(|o| truth.contains_key(o)).collect();
            assert_eq!(block.release(&addresses).len(), held.len());
            truth.retain(|ordinal, _| !ordinals.contains(ordinal));
        }
        Step::ReleaseHandle { handle } => {
            let released = block.release_handle(&handle.to_string());
            assert_eq!(released.len(), truth.values().filter(|h| *h == handle).count());
            truth.retain(|_, h| h != handle);
        }
    }
}

proptest! {
    #[test]
    fn any_history_keeps_the_block_whole(steps in prop::collection::vec(step(), 0..60)) {
        let mut block = empty("10.65.3.16/28");
        let mut truth = Truth::new();
        for step in &steps {
            apply(&mut block, &mut truth, step);
            block.advance();
            block.check().unwrap();
            let found: Truth = block
                .in_use()
                .map(|(a, o)| (block.ordinal(a).unwrap(), o.handle_id.as_deref().unwrap().parse().unwrap()))
                .collect();
            prop_assert_eq!(&found, &truth);
            let used: BTreeSet<usize> = block.allocated().map(|(_, index)| index).collect();
            prop_assert!(used.iter().copied().eq(0..block.attributes.len()), "attributes referenced exactly");
            let numbered: BTreeSet<usize> =
                block.sequence_number_for_allocation.keys().map(|k| k.parse().unwrap()).collect();
            prop_assert!(numbered.iter().eq(truth.keys()));
            let text = serde_json::to_string(&block).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Block>(&text).unwrap(), &block);
        }
        prop_assert_eq!(block.sequence_number, 1_767_323_045_000_000_000 + steps.len() as u64);
    }
}
