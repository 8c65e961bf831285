//! External peering at the top of a rack, with several ways to one prefix.
//!
//! ```text
//!   hosts 1, 2: ours, AS 64512 and 64513     host 3: router, AS 65000     host 4: second router, AS 65001
//! ```

use anyhow::{Result, ensure};
use tortie_e2e::eventually::{eventually, seconds};
use tortie_e2e::on_lan;
use tortie_e2e::speakers::frr::Frr;
use tortie_e2e::speakers::{Family, Host, Make, Peer, Setup, Speaker, start, wait_learned};

const ANYCAST: &str = "172.16.9.0/24";
const NODES: [u32; 2] = [64512, 64513];

fn nodes(router: &Host, hosts: &[Host; 2]) -> Result<Vec<Box<dyn Speaker>>> {
    let node = |(host, asn): (&Host, u32)| {
        let setup = Setup::new(asn, [Peer::new(host, router, Family::V4, 65000)]);
        start(Make::Tortie, host, &setup.originating(&[ANYCAST]))
    };
    hosts.iter().zip(NODES).map(node).collect()
}

fn to_nodes(router: &Host, hosts: &[Host; 2]) -> Vec<Peer> {
    hosts.iter().zip(NODES).map(|(host, asn)| Peer::new(router, host, Family::V4, asn)).collect()
}

on_lan!(
    fn bird_spreads_over_both_nodes_and_drops_one_that_is_gone(lan) {
        let hosts = [lan.host(1)?, lan.host(2)?];
        let router = lan.host(3)?;
        let mut setup = Setup::new(65000, to_nodes(&router, &hosts));
        setup.extra = "protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; merge paths on; }\n".into();
        let _bird = start(Make::Bird, &router, &setup)?;
        let mut nodes = nodes(&router, &hosts)?;
        let kernel = |hops: usize| {
            eventually(&format!("{hops} ways in the kernel"), seconds(15), || {
                let text = router.netns.run(&format!("ip route show {ANYCAST}")).ok()?;
                ensure!(text.matches("via 10.9.0.").count() == hops, "{text}");
                Ok(())
            })
        };
        kernel(2)?;
        // Without graceful restart its end is the end of its routes.
        nodes[1].kill()?;
        kernel(1)
    }
);

on_lan!(
    fn frr_uses_both_nodes(lan) {
        let hosts = [lan.host(1)?, lan.host(2)?];
        let router = lan.host(3)?;
        let mut setup = Setup::new(65000, to_nodes(&router, &hosts));
        setup.extra = " bgp bestpath as-path multipath-relax\n".into();
        let frr = Frr::start(&router, &setup)?;
        let _nodes = nodes(&router, &hosts)?;
        eventually("two paths in use", seconds(15), || {
            let text = frr.ask(&format!("show bgp ipv4 unicast {ANYCAST}"))?;
            ensure!(text.matches("multipath").count() == 2, "{text}");
            Ok(())
        })
    }
);

on_lan!(
    /// Two routers of different AS and make announce the same; both are next hops.
    fn we_use_both_routers(lan) {
        let [node, bird, gobgp] = [lan.host(1)?, lan.host(3)?, lan.host(4)?];
        let router = |make, host: &Host, asn| {
            let setup = Setup::new(asn, [Peer::new(host, &node, Family::V4, 64512)]);
            start(make, host, &setup.originating(&["203.0.113.0/24"]))
        };
        let _routers = (router(Make::Bird, &bird, 65000)?, router(Make::Gobgp, &gobgp, 65001)?);
        let peers = [Peer::new(&node, &bird, Family::V4, 65000), Peer::new(&node, &gobgp, Family::V4, 65001)];
        let us = start(Make::Tortie, &node, &Setup::new(64512, peers))?;
        eventually("both next hops", seconds(25), || {
            let learned = wait_learned(&*us, Family::V4, &["203.0.113.0/24"])?;
            let hops: Vec<&str> = learned.iter().map(|(_, hop)| hop.as_str()).collect();
            ensure!(hops == ["10.9.0.3", "10.9.0.4"], "{hops:?}");
            Ok(())
        })
    }
);
