//! Sessions with every make, dialled by either end, over IPv4 and IPv6, external and internal: up, routes both ways, a withdrawal
//! both ways.
//!
//! Host 1 runs ours in AS 64512, host 2 the other in AS 4200000001 (external) or 64512 (internal).

use anyhow::{Result, ensure};
use tortie_e2e::on_lan;
use tortie_e2e::speakers::{Family, Lan, Make, Peer, Setup, Speaker, start, wait_established, wait_learned};

const OURS: [[&str; 2]; 2] = [["172.16.1.0/26", "172.16.1.64/26"], ["fd01::/64", "fd01:0:0:1::/64"]];
const THEIRS: [[&str; 2]; 2] = [["192.0.2.0/24", "198.51.100.7/32"], ["fd02::/64", "fd02::7/128"]];

/// Who dials.
#[derive(Clone, Copy, PartialEq)]
enum Dials {
    We,
    They,
    Both,
}

/// The life of a session; ends with both speakers' sessions still up.
fn life(lan: &Lan, make: Make, family: Family, their_as: u32, dials: Dials) -> Result<()> {
    let [one, two] = [lan.host(1)?, lan.host(2)?];
    let [ours, theirs] = [OURS, THEIRS].map(|all| all[usize::from(family == Family::V6)]);
    let to_them = Peer::new(&one, &two, family, their_as).with(|peer| peer.passive = dials == Dials::They);
    let to_us = Peer::new(&two, &one, family, 64512).with(|peer| peer.passive = dials == Dials::We);
    let mut our_setup = Setup::new(64512, [to_them]).originating(&ours);
    let mut their_setup = Setup::new(their_as, [to_us]).originating(&theirs);
    let mut them = start(make, &two, &their_setup)?;
    let mut us = start(Make::Tortie, &one, &our_setup)?;
    let (our_address, their_address) = (one.address(family), two.address(family));
    wait_established(&*us, &their_address)?;
    wait_established(&*them, &our_address)?;
    let check = |speaker: &dyn Speaker, prefixes: &[&str], hop: &str| -> Result<()> {
        let learned = wait_learned(speaker, family, prefixes)?;
        ensure!(learned.iter().all(|(_, via)| via == hop), "{learned:?}");
        Ok(())
    };
    check(&*us, &theirs, &their_address)?;
    check(&*them, &ours, &our_address)?;

    our_setup.originate.remove(1);
    us.reconfigure(&our_setup)?;
    check(&*them, &ours[..1], &our_address)?;
    their_setup.originate.remove(0);
    them.reconfigure(&their_setup)?;
    check(&*us, &theirs[1..], &their_address)?;
    ensure!(us.received(&their_address)? == 1 && them.received(&our_address)? == 1, "counts");
    ensure!(us.is_established(&their_address)? && them.is_established(&our_address)?, "a session went down");
    Ok(())
}

/// A test a line: name, make, family, the other's AS, who dials.
macro_rules! lives {
    ($($name:ident: $make:ident $family:ident $asn:literal $dials:ident;)*) => {
        $(on_lan!(fn $name(lan) { life(lan, Make::$make, Family::$family, $asn, Dials::$dials) });)*
    };
}

lives! {
    bird_external_ipv4_we_dial: Bird V4 4_200_000_001 We;
    bird_external_ipv4_they_dial: Bird V4 4_200_000_001 They;
    bird_external_ipv6_we_dial: Bird V6 4_200_000_001 We;
    bird_external_ipv6_they_dial: Bird V6 4_200_000_001 They;
    bird_internal_ipv4_both_dial: Bird V4 64512 Both;
    frr_external_ipv4_we_dial: Frr V4 4_200_000_001 We;
    frr_external_ipv4_they_dial: Frr V4 4_200_000_001 They;
    frr_external_ipv6_we_dial: Frr V6 4_200_000_001 We;
    frr_external_ipv6_they_dial: Frr V6 4_200_000_001 They;
    frr_internal_ipv4_both_dial: Frr V4 64512 Both;
    frr_internal_ipv6_we_dial: Frr V6 64512 We;
    gobgp_external_ipv4_we_dial: Gobgp V4 4_200_000_001 We;
    gobgp_external_ipv4_they_dial: Gobgp V4 4_200_000_001 They;
    gobgp_external_ipv6_we_dial: Gobgp V6 4_200_000_001 We;
    gobgp_external_ipv6_they_dial: Gobgp V6 4_200_000_001 They;
    gobgp_internal_ipv4_both_dial: Gobgp V4 64512 Both;
}
