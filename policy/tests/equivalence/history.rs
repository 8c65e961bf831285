//! Whatever was set before, in whatever order: what follows is what a calculation from nothing says.

use std::collections::BTreeMap;
use std::fmt;

use proptest::prelude::*;
use tortie_policy::snapshot::{Snapshot, Surroundings};
use tortie_policy::{Engine, compile, nft};

use crate::generate;
use crate::support::words;

/// One thing that is set, or that everything set so far is worked out.
type Step<'a> = Box<dyn FnOnce(&mut Engine) + 'a>;

/// For each name in two maps what leads from the first to the second, for values that differ.
fn steps<'a, K: Ord, V: PartialEq>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
    set: impl Fn(&mut Engine, &K, Option<&V>) + Copy + 'a,
) -> Vec<Step<'a>> {
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    let changed = new.keys().filter(|key| old.get(*key) != new.get(*key));
    let step = |key: &'a K| -> Step<'a> { Box::new(move |engine| set(engine, key, new.get(key))) };
    gone.chain(changed).map(step).collect()
}

fn between<'a>(old: &'a Snapshot, new: &'a Snapshot) -> Vec<Step<'a>> {
    let mut all = steps(&old.tiers, &new.tiers, |engine, name, tier| engine.set_tier(name, tier.cloned()));
    all.extend(steps(&old.policies, &new.policies, Engine::set_policy));
    all.extend(steps(&old.staged, &new.staged, Engine::set_staged));
    all.extend(steps(&old.profiles, &new.profiles, |engine, name, profile| {
        engine.set_profile(name, profile.map(Option::as_ref));
    }));
    all.extend(steps(&old.endpoints, &new.endpoints, Engine::set_endpoint));
    all.extend(steps(&old.network_sets, &new.network_sets, Engine::set_network_set));
    all.extend(steps(&old.host_endpoints, &new.host_endpoints, Engine::set_host_endpoint));
    all.push(Box::new(|engine| {
        engine.set_surroundings(&Surroundings {
            host_interfaces: new.host_interfaces.clone(),
            pools: new.pools.clone(),
            endpoint_to_host: new.endpoint_to_host,
            tunnel_peers: new.tunnel_peers.clone(),
            options: new.options.clone(),
        });
    }));
    all
}

/// Takes steps in an order made of `seed`, and works out what follows after some of them.
fn run(engine: &mut Engine, mut steps: Vec<Step<'_>>, mut seed: u64, flush: bool) {
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        usize::try_from(seed >> 33).unwrap_or(0) % below
    };
    while !steps.is_empty() {
        let step = steps.swap_remove(random(steps.len()));
        step(engine);
        if flush && random(4) == 0 {
            engine.flush();
        }
    }
}

/// Of one kind after the other, or of several.
fn any_snapshot() -> impl Strategy<Value = Readable> {
    let any = prop_oneof![2 => generate::snapshot().boxed(), 1 => generate::run_snapshot().boxed()];
    any.prop_map(Readable)
}

/// A failure shows it in words.
struct Readable(Snapshot);

impl fmt::Debug for Readable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", words::snapshot(&self.0))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::support::cases(0.02).max(200), max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_before_what_follows_is_the_same(
        snapshots in prop::collection::vec((any_snapshot(), any::<u64>()), 1..4),
    ) {
        follows(snapshots)?;
    }

    /// Merged sets change in place.
    #[test]
    fn merged_sets_follow_whatever_was_before(
        snapshots in prop::collection::vec((generate::merged_snapshot().prop_map(Readable), any::<u64>()), 1..4),
        policies_stay in any::<bool>(),
    ) {
        let mut snapshots = snapshots;
        if policies_stay {
            let policies = snapshots[0].0.0.policies.clone();
            snapshots.iter_mut().for_each(|(Readable(snapshot), _)| snapshot.policies.clone_from(&policies));
        }
        follows(snapshots)?;
    }
}

fn follows(snapshots: Vec<(Readable, u64)>) -> Result<(), TestCaseError> {
    let mut engine = Engine::default();
    let mut before = Snapshot::default();
    for (Readable(snapshot), seed) in snapshots {
        // Some things are set again before anything is worked out.
        let flush = seed % 3 != 0;
        run(&mut engine, between(&before, &snapshot), seed, flush);
        if flush {
            let (kept, fresh) = (engine.flush(), compile(&snapshot));
            prop_assert_eq!(&kept.problems, &fresh.problems);
            if kept.ruleset != fresh.ruleset {
                prop_assert_eq!(nft::render_table(&kept.ruleset), nft::render_table(&fresh.ruleset));
                prop_assert_eq!(&kept.ruleset.origins, &fresh.ruleset.origins);
                prop_assert!(false, "the same in text only");
            }
            // Working it out once more changes nothing.
            prop_assert!(engine.flush() == kept);
        }
        before = snapshot;
    }
    run(&mut engine, between(&before, &Snapshot::default()), 1, true);
    prop_assert!(engine.flush() == compile(&Snapshot::default()));
    Ok(())
}
