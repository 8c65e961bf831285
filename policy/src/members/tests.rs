//! Whatever happens, rosters hold what a walk over all things finds, and deltas lead from one state to the next.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tortie_model::selector::Labels as _;

use super::*;

const SELECTORS: [&str; 5] = ["all()", "a == 'x'", "has(b)", "!has(a)", "a == 'x' && b == 'y'"];

#[derive(Clone, Debug)]
enum Step {
    Set(usize, Option<Thing>),
    Profile(usize, Option<LabelSet>),
    Ask(usize),
    Forget(usize),
}

fn id(number: usize) -> ThingId {
    let id = Arc::new(EndpointId { namespace: "n".to_owned(), name: format!("t{number}") });
    if number.is_multiple_of(2) { ThingId::Endpoint(id) } else { ThingId::NetworkSet(id) }
}

fn profile(number: usize) -> Arc<str> {
    Arc::from(format!("p{number}"))
}

fn wanted(number: usize) -> Wanted {
    let selector = SELECTORS[number / 2].parse().unwrap();
    match number % 2 {
        0 => Wanted::Networks(selector),
        _ => Wanted::Services(["http".to_owned(), "dns".to_owned()].into(), selector),
    }
}

fn labels() -> impl Strategy<Value = LabelSet> {
    let pairs = prop::collection::vec(
        (prop::sample::select(vec!["a", "b"]), prop::sample::select(vec!["x", "y"])),
        0..3,
    );
    pairs.prop_map(|pairs| pairs.into_iter().collect())
}

fn profiles() -> impl Strategy<Value = Vec<Arc<str>>> {
    prop::collection::vec((0..2_usize).prop_map(profile), 0..3)
}

fn port() -> impl Strategy<Value = WorkloadEndpointPort> {
    let ports = serde_json::json!([
        { "name": "http", "protocol": "TCP", "port": 80 },
        { "name": "dns", "protocol": "UDP", "port": 53 },
        { "name": "other", "protocol": "TCP", "port": 80 },
    ]);
    prop::sample::select(serde_json::from_value::<Vec<WorkloadEndpointPort>>(ports).unwrap())
}

fn thing(number: usize) -> impl Strategy<Value = Thing> {
    let address = (1..4_u8).prop_map(|last| IpAddr::from([10, 0, 0, last]));
    let net = prop::sample::select(vec!["10.0.0.1/32", "10.0.0.0/24", "fd00::1/128", "fd00::/64"]);
    let parts = (
        labels(),
        profiles(),
        prop::collection::vec(address, 0..3),
        prop::collection::vec(net, 0..3),
        prop::collection::vec(port(), 0..3),
    );
    parts.prop_map(move |(labels, profiles, addresses, nets, ports)| match number % 2 {
        0 => {
            let addresses = addresses.into_iter().collect();
            Thing::Endpoint(Arc::new(Endpoint { labels, profiles, addresses, ports, interface: None }))
        }
        _ => {
            let nets = nets.into_iter().map(|net| net.parse().unwrap()).collect();
            Thing::NetworkSet(Arc::new(NetworkSet { labels, profiles, nets }))
        }
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let set = (0..6_usize).prop_flat_map(|number| {
        prop::option::weighted(0.8, thing(number)).prop_map(move |thing| Step::Set(number, thing))
    });
    let step = prop_oneof![
        4 => set,
        1 => (0..2_usize, prop::option::of(labels())).prop_map(|(number, labels)| Step::Profile(number, labels)),
        2 => (0..10_usize).prop_map(Step::Ask),
        1 => (0..10_usize).prop_map(Step::Forget),
    ];
    prop::collection::vec(step, 1..50)
}

/// What an observer of deltas believes, beside the plain inputs.
#[derive(Default)]
struct World {
    members: Members,
    things: BTreeMap<usize, Thing>,
    asked: BTreeMap<usize, RosterId>,
    believed: BTreeMap<RosterId, BTreeSet<Member>>,
}

impl World {
    fn run(&mut self, step: Step) {
        let deltas = match step {
            Step::Set(number, thing) => {
                match &thing {
                    Some(thing) => self.things.insert(number, thing.clone()),
                    None => self.things.remove(&number),
                };
                self.members.set(&id(number), thing)
            }
            Step::Profile(number, labels) => self.members.set_profile(&profile(number), labels),
            Step::Ask(number) => {
                let (roster, is_new) = self.members.ask(&wanted(number));
                assert_eq!(is_new, !self.asked.contains_key(&number));
                match self.asked.insert(number, roster) {
                    Some(_) => assert!(!self.members.forget(roster)),
                    None => {
                        self.believed.insert(roster, self.members.of(roster).collect());
                    }
                }
                Vec::new()
            }
            Step::Forget(number) => {
                if let Some(roster) = self.asked.remove(&number) {
                    assert!(self.members.forget(roster));
                    self.believed.remove(&roster);
                }
                Vec::new()
            }
        };
        for Delta { roster, member, present } in deltas {
            let believed = self.believed.get_mut(&roster).unwrap();
            assert!(if present { believed.insert(member) } else { believed.remove(&member) });
        }
    }

    fn check(&self) {
        for (number, roster) in &self.asked {
            let wanted = wanted(*number);
            let matching = self.things.iter().filter(|(number, _)| {
                let labels = self.members.labels(&id(**number)).unwrap();
                assert!(labels.get("c").is_none());
                wanted.selector().matches(&labels)
            });
            let expected: BTreeSet<Member> = matching.flat_map(|(_, thing)| wanted.of(thing)).collect();
            assert_eq!(self.members.of(*roster).collect::<BTreeSet<_>>(), expected);
            assert_eq!(self.believed[roster], expected);
        }
    }
}

proptest! {
    #[test]
    fn rosters_hold_what_a_walk_over_all_things_finds(steps in steps()) {
        let mut world = World::default();
        for step in steps {
            world.run(step);
            world.check();
        }
    }

    /// Nothing stays behind when all is gone.
    #[test]
    fn nothing_asked_and_nothing_there_is_nothing(steps in steps()) {
        let mut world = World::default();
        for step in steps {
            world.run(step);
        }
        (0..6).for_each(|number| world.run(Step::Set(number, None)));
        (0..10).for_each(|number| world.run(Step::Forget(number)));
        (0..2).for_each(|number| world.run(Step::Profile(number, None)));
        world.members.take_missing_touched();
        // Room once needed is kept, that is all.
        let holds = |members: &Members| -> String {
            format!("{members:?}").split("cap: ").map(|part| part.trim_start_matches(char::is_numeric)).collect()
        };
        prop_assert_eq!(holds(&world.members), holds(&Members::default()));
    }
}
