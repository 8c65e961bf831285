//! Interned path attributes: canonical octets with a parsed summary. Equal attributes share one allocation.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::wire::as_path;
use crate::wire::attribute::PathAttributes;
use crate::wire::update::Encoded;

/// LOCAL_PREF of a route that carries none (bgp-behaviour 6.2).
pub(crate) const DEFAULT_LOCAL_PREF: u32 = 100;

/// Immutable attributes of a route; cheap to clone.
#[derive(Clone)]
pub(crate) struct Attrs(Arc<Inner>);

struct Inner {
    /// Next hop, then the canonical octets: what makes two attributes equal.
    key: Box<[u8]>,
    head_end: u16,
    next_hop: IpAddr,
    summary: Summary,
}

/// What the decision process reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    pub(crate) local_pref: u32,
    pub(crate) hops: usize,
    pub(crate) origin: u8,
    pub(crate) neighbour_as: Option<u32>,
    /// Zero when absent (RFC 4271 9.1.2.2 c).
    pub(crate) med: u32,
    pub(crate) originator_id: Option<Ipv4Addr>,
    pub(crate) clusters: usize,
}

impl Attrs {
    pub(crate) fn summary(&self) -> &Summary {
        &self.0.summary
    }

    pub(crate) fn next_hop(&self) -> IpAddr {
        self.0.next_hop
    }

    /// All attributes, borrowed.
    pub(crate) fn view(&self) -> PathAttributes<'_> {
        PathAttributes::from_canonical(self.0.next_hop, &self.0.key[self.start()..])
    }

    /// Ready to be sent to a speaker of four-octet AS numbers.
    pub(crate) fn encoded(&self) -> Encoded<'_> {
        let (head, tail) = self.0.key[self.start()..].split_at(self.0.head_end.into());
        Encoded { head, tail, next_hop: self.0.next_hop }
    }

    /// Where two handles to one allocation are equal without a look at the octets.
    pub(crate) fn id(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    fn start(&self) -> usize {
        next_hop_octets(self.0.next_hop)
    }
}

impl PartialEq for Attrs {
    fn eq(&self, other: &Attrs) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.key == other.0.key
    }
}

impl Eq for Attrs {}

impl Hash for Attrs {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl Borrow<[u8]> for Attrs {
    fn borrow(&self) -> &[u8] {
        &self.0.key
    }
}

impl fmt::Debug for Attrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

fn next_hop_octets(next_hop: IpAddr) -> usize {
    match next_hop {
        IpAddr::V4(_) => 4,
        IpAddr::V6(_) => 16,
    }
}

/// All attributes in use by the table of one family, so that the length of a next hop is always the same.
/// Looked up by octets, never walked for output.
#[derive(Default)]
pub(crate) struct Interner {
    all: HashSet<Attrs>,
    scratch: Vec<u8>,
    sweep_at: usize,
}

impl Interner {
    /// The one shared copy of `attributes`.
    pub(crate) fn intern(&mut self, attributes: &PathAttributes<'_>) -> Attrs {
        let mut key = std::mem::take(&mut self.scratch);
        key.clear();
        match attributes.next_hop {
            IpAddr::V4(a) => key.extend(a.octets()),
            IpAddr::V6(a) => key.extend(a.octets()),
        }
        let start = key.len();
        attributes.encode_head(&mut key);
        let head = key.len() - start;
        attributes.encode_tail(&mut key);
        let found = self.all.get(key.as_slice()).cloned();
        let attrs = found.unwrap_or_else(|| self.add(&key, head, attributes));
        self.scratch = key;
        attrs
    }

    fn add(&mut self, key: &[u8], head: usize, attributes: &PathAttributes<'_>) -> Attrs {
        self.sweep();
        let attrs = Attrs(Arc::new(Inner {
            key: key.into(),
            head_end: u16::try_from(head).expect("attributes come from messages of at most 4096 octets"),
            next_hop: attributes.next_hop,
            summary: Summary {
                local_pref: attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF),
                hops: as_path::hops(&attributes.as_path),
                origin: attributes.origin,
                neighbour_as: as_path::neighbour(&attributes.as_path),
                med: attributes.med.unwrap_or(0),
                originator_id: attributes.originator_id,
                clusters: attributes.cluster_list.len() / 4,
            },
        }));
        self.all.insert(attrs.clone());
        attrs
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Forgets what nobody holds, each time the set has doubled.
    fn sweep(&mut self) {
        if self.all.len() >= self.sweep_at.max(1024) {
            self.all.retain(|attrs| Arc::strong_count(&attrs.0) > 1);
            self.sweep_at = self.all.len() * 2;
        }
    }
}
