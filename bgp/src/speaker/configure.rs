//! A new configuration, applied as a difference: a peer that did not change never notices.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::kept::Kept;
use super::peer::{Admission, PeerEntry, import_rules, settings};
use super::{PeerId, Speaker};
use crate::config::{PeerConfig, SpeakerConfig};
use crate::fsm::Peer;
use crate::rib::PeerKey;
use crate::wire::notification::cease;

/// What a change of a peer's configuration takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    /// Routes are judged anew, timers apply at once or to the next session.
    InPlace,
    /// The session is made anew, routes are kept meanwhile as over a restart.
    Reconnect,
    /// It is another session: Cease, and routes are forgotten.
    Reset,
}

impl Speaker {
    pub(super) fn configure(&mut self, mut new: SpeakerConfig) {
        let peers = std::mem::take(&mut new.peers);
        let shortest = peers.values().map(|peer| peer.restart_time).filter(|time| !time.is_zero()).min();
        self.startup.configured(shortest, self.now);
        let old = self.config.replace(new.clone());
        let identity = |config: &SpeakerConfig| (config.router_id, config.local_as);
        let same_identity = old.as_ref().is_none_or(|old| identity(old) == identity(&new));
        let gone: Vec<PeerId> = self.keys.keys().filter(|id| !peers.contains_key(id)).copied().collect();
        for id in gone {
            self.remove_peer(id, cease::DECONFIGURED);
        }
        for (id, peer) in peers {
            self.configure_peer(id, peer, old.as_ref().filter(|_| same_identity), &new);
        }
        self.update_own_addresses();
        self.review_imports();
        self.regroup();
    }

    /// `old` is the speaker's former configuration unless it was another speaker.
    fn configure_peer(
        &mut self,
        id: PeerId,
        peer: PeerConfig,
        old: Option<&SpeakerConfig>,
        new: &SpeakerConfig,
    ) {
        let Some(key) = self.keys.get(&id).copied() else { return self.add_peer(id, peer, new) };
        let Some(entry) = self.peers.get_mut(&key) else { return };
        let effect = match old {
            Some(_) if entry.config == peer => return,
            Some(old) => effect(&entry.config, &peer, old),
            None => Effect::Reset,
        };
        if effect == Effect::Reset {
            self.remove_peer(id, cease::CONFIGURATION);
            return self.add_peer(id, peer, new);
        }
        entry.config = peer;
        let settings = settings(id, &entry.config, new);
        if let Some(established) = &entry.session {
            for carried in &established.session.families {
                let source = entry.source(&established.session);
                self.routes.table_mut(carried.family).set_source(key, source);
            }
        }
        self.with_peer(key, |fsm, now, out| {
            fsm.set_settings(settings, now, out);
            if effect == Effect::Reconnect {
                fsm.reconnect(now, out);
            }
        });
        self.over_limit(key);
    }

    fn add_peer(&mut self, id: PeerId, config: PeerConfig, speaker: &SpeakerConfig) {
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        let settings = settings(id, &config, speaker);
        let import = import_rules(&config, &settings, speaker);
        let mut fsm = Peer::new(settings, key.0, self.now);
        fsm.set_restarting(self.startup.is_restarting());
        let (session, kept, told_all, timer) = (None, Kept::default(), false, None);
        let admission = Admission::new(self.now);
        let lost_at = None;
        let entry = PeerEntry { id, config, fsm, import, session, kept, lost_at, told_all, admission, timer };
        self.peers.insert(key, Box::new(entry));
        self.keys.insert(id, key);
        self.with_peer(key, |fsm, now, out| fsm.tick(now, out));
    }

    fn remove_peer(&mut self, id: PeerId, subcode: u8) {
        let Some(key) = self.keys.remove(&id) else { return };
        self.with_peer(key, |fsm, now, out| fsm.stop(subcode, now, out));
        let Some(entry) = self.peers.remove(&key) else { return };
        self.routes.drop_peer(key);
        if let Some(at) = entry.timer {
            self.timers.remove(&(at, key));
        }
    }

    /// Judges anew what came from peers whose rules changed: filters, loops allowed, the cluster.
    fn review_imports(&mut self) {
        let Some(config) = &self.config else { return };
        for (key, entry) in &mut self.peers {
            let rules = import_rules(&entry.config, entry.fsm.settings(), config);
            if rules != entry.import {
                entry.import = rules;
                self.routes.review(*key, &entry.import);
            }
        }
    }

    /// Addresses that are ours, as far as we know: configured ones and those of sessions.
    fn update_own_addresses(&mut self) {
        let Some(config) = &self.config else { return };
        let listen = config.listen.iter().map(|address| address.ip());
        let peers = self.peers.values().flat_map(|entry| {
            let session = entry.session.as_ref().map(|established| established.session.local);
            entry.config.local_address.into_iter().chain(session)
        });
        let own: BTreeSet<IpAddr> = listen.chain(peers).filter(|address| !address.is_unspecified()).collect();
        self.routes.set_own_addresses(own);
    }
}

fn effect(old: &PeerConfig, new: &PeerConfig, speaker: &SpeakerConfig) -> Effect {
    let identity = |peer: &PeerConfig| {
        let local_as = peer.local_as.unwrap_or(speaker.local_as);
        // Another password is given to the living connection.
        (peer.remote_as, local_as, peer.local_address, peer.password.is_some(), peer.ttl_security)
    };
    let timers = |peer: &PeerConfig| -> (Duration, Option<Duration>, Duration) {
        (peer.hold_time, peer.keepalive_time, peer.restart_time)
    };
    let capabilities = |peer: &PeerConfig| {
        let families = (peer.families.clone(), peer.extended_next_hop, peer.add_path);
        (families, peer.extended_messages, peer.role, peer.strict_role)
    };
    if identity(old) != identity(new) {
        Effect::Reset
    } else if timers(old) != timers(new) || capabilities(old) != capabilities(new) {
        Effect::Reconnect
    } else {
        Effect::InPlace
    }
}
