//! Route reflection, with ours as the reflector of all makes at once, and with each make as the reflector of ours.
//!
//! ```text
//!   host 1: reflector     host 2, 3, 4: clients, one prefix each, AS 64512 everywhere
//! ```

use anyhow::{Result, ensure};
use tortie_e2e::on_lan;
use tortie_e2e::speakers::{Family, Host, Lan, Make, OTHERS, Peer, Setup, Speaker, start, wait_learned};

const AS: u32 = 64512;

fn prefix(family: Family, host: &Host) -> String {
    match family {
        Family::V4 => format!("172.16.{}.0/24", host.number),
        Family::V6 => format!("fd01:0:0:{}::/64", host.number),
    }
}

/// Every client has the prefixes of all others, from where they are.
fn reflects(lan: &Lan, reflector: Make, clients: &[Make], family: Family) -> Result<()> {
    let hub = lan.host(1)?;
    let hosts: Vec<Host> = (2..).take(clients.len()).map(|number| lan.host(number)).collect::<Result<_>>()?;
    let to_client = |host: &Host| {
        Peer::new(&hub, host, family, AS).with(|peer| (peer.client, peer.passive) = (true, true))
    };
    let _hub = start(reflector, &hub, &Setup::new(AS, hosts.iter().map(to_client)))?;
    let mut speakers: Vec<Box<dyn Speaker>> = Vec::new();
    for (make, host) in clients.iter().zip(&hosts) {
        let setup = Setup::new(AS, [Peer::new(host, &hub, family, AS)]);
        speakers.push(start(*make, host, &setup.originating(&[&prefix(family, host)]))?);
    }
    for (speaker, own) in speakers.iter().zip(&hosts) {
        let others: Vec<&Host> = hosts.iter().filter(|host| host.number != own.number).collect();
        let wanted: Vec<String> = others.iter().map(|host| prefix(family, host)).collect();
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let learned = wait_learned(&**speaker, family, &wanted)?;
        let hops: Vec<String> = others.iter().map(|host| host.address(family)).collect();
        let seen: Vec<&String> = learned.iter().map(|(_, hop)| hop).collect();
        ensure!(seen == hops.iter().collect::<Vec<_>>(), "next hops {seen:?} of {learned:?}");
    }
    Ok(())
}

on_lan!(fn we_reflect_ipv4_between_all_makes(lan) { reflects(lan, Make::Tortie, &OTHERS, Family::V4) });
on_lan!(fn we_reflect_ipv6_between_all_makes(lan) { reflects(lan, Make::Tortie, &OTHERS, Family::V6) });
on_lan!(fn bird_reflects_between_us(lan) { reflects(lan, Make::Bird, &[Make::Tortie, Make::Tortie], Family::V4) });
on_lan!(fn frr_reflects_between_us(lan) { reflects(lan, Make::Frr, &[Make::Tortie, Make::Tortie], Family::V4) });
on_lan!(fn gobgp_reflects_between_us(lan) { reflects(lan, Make::Gobgp, &[Make::Tortie, Make::Tortie], Family::V4) });

on_lan!(
    /// The marks of reflection (RFC 4456 8), as FRR sees them; and a non-client gets routes of clients only.
    fn what_we_reflect_carries_originator_and_cluster(lan) {
        let [hub, client, other] = [lan.host(1)?, lan.host(2)?, lan.host(3)?];
        let family = Family::V4;
        let _bird = start(
            Make::Bird,
            &client,
            &Setup::new(AS, [Peer::new(&client, &hub, family, AS)]).originating(&["172.16.2.0/24"]),
        )?;
        let frr = tortie_e2e::speakers::frr::Frr::start(
            &other,
            &Setup::new(AS, [Peer::new(&other, &hub, family, AS)]).originating(&["172.16.3.0/24"]),
        )?;
        let _hub = start(
            Make::Tortie,
            &hub,
            &Setup::new(
                AS,
                [Peer::new(&hub, &client, family, AS).with(|peer| peer.client = true), Peer::new(&hub, &other, family, AS)],
            ),
        )?;
        wait_learned(&frr, family, &["172.16.2.0/24"])?;
        let text = frr.ask("show bgp ipv4 unicast 172.16.2.0/24")?;
        ensure!(text.contains("Originator: 10.9.0.2, Cluster list: 10.9.0.1"), "{text}");
        Ok(())
    }
);
