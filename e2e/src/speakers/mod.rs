//! BGP speakers of several makes on one switch, told the same things in their own words and asked the same questions.
//!
//! ```text
//!   host 1 10.9.0.1 fd09::1     host 2 10.9.0.2 fd09::2     host 3 …
//!        └───────────────────── switch ────────┴───────────────┘
//! ```
//!
//! A [`Setup`] says what a speaker is to be; [`start`] writes that in the language of the make and starts it. Asking goes through
//! each make's own tool (`birdc`, `vtysh`, `gobgp`, `tortie-bgpd status`), so what a test sees is what its operators see.

pub mod bird;
pub mod exabgp;
pub mod frr;
pub mod gobgp;
pub mod lan;
pub mod member;
pub mod tortie;
pub mod zebra;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use crate::eventually::{eventually, seconds};
pub use lan::{Family, Host, Lan};

/// The makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// `tortie-bgpd`.
    Tortie,
    /// BIRD 2.
    Bird,
    /// FRR's bgpd.
    Frr,
    /// GoBGP.
    Gobgp,
}

/// Those of others.
pub const OTHERS: [Make; 3] = [Make::Bird, Make::Frr, Make::Gobgp];

/// What a speaker is to be.
#[derive(Clone, Debug)]
pub struct Setup {
    /// AS number.
    pub asn: u32,
    /// Prefixes it originates.
    pub originate: Vec<String>,
    /// Its peers.
    pub peers: Vec<Peer>,
    /// Lines in the speaker's own language, for what only one make has: top level of BIRD's file, `router bgp` of FRR's.
    pub extra: String,
}

/// One peer, as the speaker sees it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The other end.
    pub address: String,
    /// The own end, of the same family.
    pub local: String,
    /// The other end's AS number.
    pub asn: u32,
    /// Never dials.
    pub passive: bool,
    /// A client of this reflector.
    pub client: bool,
    /// TCP-MD5 key.
    pub password: Option<String>,
    /// GTSM, one hop.
    pub gtsm: bool,
    /// Not on the same subnet (BIRD).
    pub multihop: bool,
    /// Add-path both ways.
    pub add_path: bool,
    /// IPv4 over the IPv6 session, with IPv6 next hops.
    pub ipv4_over_ipv6: bool,
    /// Hold time in seconds.
    pub hold: u16,
    /// Graceful restart time in seconds, if it is to be spoken.
    pub restart: Option<u16>,
    /// A prefix it does not take from the peer (BIRD and ours).
    pub refuse: Option<String>,
    /// Lines of the make's own language, in the peer's section.
    pub extra: String,
}

impl Setup {
    /// A speaker with these peers that originates nothing.
    pub fn new(asn: u32, peers: impl IntoIterator<Item = Peer>) -> Setup {
        Setup { asn, originate: Vec::new(), peers: peers.into_iter().collect(), extra: String::new() }
    }

    /// It originates these prefixes.
    #[must_use]
    pub fn originating(mut self, prefixes: &[&str]) -> Setup {
        self.originate = prefixes.iter().map(|&prefix| prefix.to_owned()).collect();
        self
    }

    /// The prefixes of a family.
    pub fn of_family(&self, family: Family) -> impl Iterator<Item = &String> {
        self.originate.iter().filter(move |prefix| Family::of(prefix) == family)
    }
}

impl Peer {
    /// The peer of `own` at `other`.
    pub fn new(own: &Host, other: &Host, family: Family, asn: u32) -> Peer {
        Peer {
            address: other.address(family),
            local: own.address(family),
            asn,
            passive: false,
            client: false,
            password: None,
            gtsm: false,
            multihop: false,
            add_path: false,
            ipv4_over_ipv6: false,
            hold: 30,
            restart: None,
            refuse: None,
            extra: String::new(),
        }
    }

    /// The family of the session.
    pub fn family(&self) -> Family {
        Family::of(&self.address)
    }

    /// With changes.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Peer)) -> Peer {
        change(&mut self);
        self
    }
}

/// A route a speaker has from a peer: prefix and next hop, in order. Several paths of a prefix are several entries.
pub type Learned = Vec<(String, String)>;

/// A running speaker.
pub trait Speaker {
    /// Whether the session with a peer is up.
    ///
    /// # Errors
    /// When it does not answer.
    fn is_established(&self, peer: &str) -> Result<bool>;

    /// All paths from peers.
    ///
    /// # Errors
    /// When it does not answer.
    fn learned(&self, family: Family) -> Result<Learned>;

    /// How many prefixes it has from a peer.
    ///
    /// # Errors
    /// When it does not answer.
    fn received(&self, peer: &str) -> Result<usize>;

    /// What it says about a peer at length.
    ///
    /// # Errors
    /// When it does not answer.
    fn describe(&self, peer: &str) -> Result<String>;

    /// Takes a changed setup without a restart.
    ///
    /// # Errors
    /// When it refuses.
    fn reconfigure(&mut self, setup: &Setup) -> Result<()>;

    /// Signals its BGP process.
    ///
    /// # Errors
    /// When it is gone.
    fn signal(&mut self, signal: nix::sys::signal::Signal) -> Result<()>;

    /// `kill -9`; its files and, where it programs any, its kernel routes stay.
    ///
    /// # Errors
    /// When it is gone already.
    fn kill(&mut self) -> Result<()>;

    /// Starts it again as after a crash.
    ///
    /// # Errors
    /// When it does not come up.
    fn restart(&mut self) -> Result<()>;
}

/// Starts a speaker on a host and waits until it answers.
///
/// # Errors
/// When it does not come up.
pub fn start(make: Make, host: &Host, setup: &Setup) -> Result<Box<dyn Speaker>> {
    Ok(match make {
        Make::Tortie => Box::new(tortie::Tortie::start(host, setup)?),
        Make::Bird => Box::new(bird::Bird::start(host, setup)?),
        Make::Frr => Box::new(frr::Frr::start(host, setup)?),
        Make::Gobgp => Box::new(gobgp::Gobgp::start(host, setup)?),
    })
}

/// Waits until a speaker's session with a peer is up.
///
/// # Errors
/// Past the deadline.
pub fn wait_established(speaker: &dyn Speaker, peer: &str) -> Result<()> {
    eventually(&format!("session with {peer} up"), seconds(25), || {
        ensure!(speaker.is_established(peer)?, "{}", speaker.describe(peer)?);
        Ok(())
    })
}

/// Waits until a speaker has exactly these prefixes from peers, and returns its paths.
///
/// # Errors
/// Past the deadline.
pub fn wait_learned(speaker: &dyn Speaker, family: Family, prefixes: &[&str]) -> Result<Learned> {
    eventually(&format!("exactly {prefixes:?} learned"), seconds(25), || {
        let learned = speaker.learned(family)?;
        let have: BTreeMap<&str, ()> = learned.iter().map(|(prefix, _)| (prefix.as_str(), ())).collect();
        let want: BTreeMap<&str, ()> = prefixes.iter().map(|prefix| (*prefix, ())).collect();
        ensure!(have == want, "{learned:?}");
        Ok(learned)
    })
}
