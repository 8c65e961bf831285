//! Flows that go on, judged as their first packets.

use proptest::prelude::*;
use tortie_policy::eval::{CtState, Packet};
use tortie_policy::flows::{Flow, Places, judge};
use tortie_policy::{Snapshot, compile, eval};

use crate::generate;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A flow that goes on is judged as its first packet would be, but for what comes before connection tracking or for a tunnel,
    /// and for the policy of hosts.
    #[test]
    fn flows_are_judged_as_their_first_packets(
        snapshot in generate::snapshot(),
        packets in prop::collection::vec(generate::packet(), 50),
    ) {
        let snapshot = Snapshot { host_endpoints: Default::default(), ..snapshot };
        let ruleset = compile(&snapshot).ruleset;
        for packet in packets {
            let packet = Packet { state: CtState::New, ..packet };
            let outcome = eval::eval(&ruleset, &packet);
            let before = outcome
                .rule()
                .is_some_and(|step| ["prerouting", "tunnel"].contains(&step.chain.as_str()));
            let Some((flow, places)) = flow_of(&packet).filter(|_| !before) else { continue };
            if let Some(judged) = judge(&ruleset, &places, &flow) {
                prop_assert_eq!(judged.allowed, outcome.allowed, "{:?}\n{:#?}", packet, judged.trail);
            } else {
                let workloads = [&packet.input, &packet.output].into_iter().flatten();
                let asked = packet.input.is_some() && workloads.clone().any(|name| name.starts_with("cali"));
                prop_assert!(!asked, "{:?}", packet);
            }
        }
    }
}

/// The flow a packet begins, and where its ends are; `None` when both have one address.
fn flow_of(packet: &Packet) -> Option<(Flow, Places)> {
    let Packet { source, destination, original, protocol, ports, icmp, .. } = packet.clone();
    let mut places = Places::default();
    for (address, interface) in [(source, &packet.input), (destination, &packet.output)] {
        match interface {
            None => drop(places.own.insert(address)),
            Some(name) if name.starts_with("cali") => {
                places.workloads.insert(address, name.clone());
            }
            Some(_) => {}
        }
    }
    let flow = Flow { source, destination, original, protocol, ports, icmp };
    (source != destination).then_some((flow, places))
}
