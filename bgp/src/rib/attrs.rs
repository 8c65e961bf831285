//! Interned path attributes: canonical octets with a parsed summary. Equal attributes have one id and one copy.
//!
//! An id is four octets, so that a table of many prefixes stays small. Nobody counts who holds one: now and then the
//! owner of all holders marks what is in use, and the rest is forgotten ([`Interner::sweep`]).

use std::fmt;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::wire::as_path;
use crate::wire::attribute::PathAttributes;
use crate::wire::update::Encoded;

/// LOCAL_PREF of a route that carries none (bgp-behaviour 6.2).
pub(crate) const DEFAULT_LOCAL_PREF: u32 = 100;
/// Fewer sets than this are not worth a sweep.
const SMALL: usize = 1024;

/// Names a set of attributes of one [`Interner`]; equal ids are equal attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttrId(NonZeroU32);

impl AttrId {
    fn new(index: usize) -> AttrId {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        AttrId(number.expect("fewer than 2^32 sets of attributes fit into memory"))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The attributes of a route.
pub(crate) struct Set {
    /// Next hop, then the canonical octets: what makes two sets equal.
    key: Box<[u8]>,
    next_hop: IpAddr,
    head_end: u16,
    summary: Summary,
}

/// What the decision process reads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) local_pref: u32,
    /// Zero when absent (RFC 4271 9.1.2.2 c).
    pub(crate) med: u32,
    /// AS 0, which no path holds, when the path does not say.
    pub(crate) neighbour_as: u32,
    /// 0.0.0.0 when absent.
    originator_id: u32,
    pub(crate) hops: u16,
    pub(crate) clusters: u16,
    pub(crate) origin: u8,
}

impl Summary {
    fn of(attributes: &PathAttributes<'_>) -> Summary {
        let short = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        Summary {
            local_pref: attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF),
            med: attributes.med.unwrap_or(0),
            neighbour_as: as_path::neighbour(&attributes.as_path).unwrap_or(0),
            originator_id: attributes.originator_id.map_or(0, u32::from),
            hops: short(as_path::hops(&attributes.as_path)),
            clusters: short(attributes.cluster_list.len() / 4),
            origin: attributes.origin,
        }
    }

    pub(crate) fn originator_id(&self) -> Option<Ipv4Addr> {
        (self.originator_id != 0).then(|| Ipv4Addr::from(self.originator_id))
    }
}

impl Set {
    pub(crate) fn summary(&self) -> &Summary {
        &self.summary
    }

    pub(crate) fn next_hop(&self) -> IpAddr {
        self.next_hop
    }

    /// All attributes, borrowed.
    pub(crate) fn view(&self) -> PathAttributes<'_> {
        PathAttributes::from_canonical(self.next_hop, self.octets())
    }

    /// Ready to be sent to a speaker of four-octet AS numbers.
    pub(crate) fn encoded(&self) -> Encoded<'_> {
        let (head, tail) = self.octets().split_at(self.head_end.into());
        Encoded { head, tail, next_hop: self.next_hop }
    }

    fn octets(&self) -> &[u8] {
        let start = if self.next_hop.is_ipv4() { 4 } else { 16 };
        &self.key[start..]
    }
}

/// All attributes in use by the table of one family.
#[derive(Default)]
pub(crate) struct Interner {
    sets: Vec<Option<Set>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    scratch: Vec<u8>,
    sweep_at: usize,
}

impl fmt::Debug for Interner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interner").field("sets", &self.index.len()).finish_non_exhaustive()
    }
}

impl Interner {
    /// The set an id names. Ids that a sweep forgot name nothing any more; nobody may hold one.
    pub(crate) fn get(&self, id: AttrId) -> &Set {
        self.sets[id.index()].as_ref().expect("who holds an id marks it before a sweep")
    }

    /// The id of `attributes`.
    pub(crate) fn intern(&mut self, attributes: &PathAttributes<'_>) -> AttrId {
        let mut key = std::mem::take(&mut self.scratch);
        let head = encode_key(attributes, &mut key);
        let id = self.find_or_add(&key, head, attributes.next_hop);
        self.scratch = key;
        id
    }

    /// The id of what `change` makes of a set; `None` when it makes nothing of it.
    pub(crate) fn derive(
        &mut self,
        id: AttrId,
        change: impl for<'a> FnOnce(PathAttributes<'a>) -> Option<PathAttributes<'a>>,
    ) -> Option<AttrId> {
        let mut key = std::mem::take(&mut self.scratch);
        let changed = change(self.get(id).view());
        let changed = changed.map(|attributes| (encode_key(&attributes, &mut key), attributes.next_hop));
        let id = changed.map(|(head, next_hop)| self.find_or_add(&key, head, next_hop));
        self.scratch = key;
        id
    }

    fn find_or_add(&mut self, key: &[u8], head: usize, next_hop: IpAddr) -> AttrId {
        let hash = self.hasher.hash_one(key);
        let same = |index: &u32| {
            let set = self.sets[*index as usize].as_ref();
            set.is_some_and(|set| *set.key == *key && set.next_hop.is_ipv4() == next_hop.is_ipv4())
        };
        match self.index.find(hash, same) {
            Some(index) => AttrId::new(*index as usize),
            None => self.add(key, head, hash, next_hop),
        }
    }

    fn add(&mut self, key: &[u8], head: usize, hash: u64, next_hop: IpAddr) -> AttrId {
        let head_end = u16::try_from(head).expect("attributes come from messages of at most 65535 octets");
        let mut set = Set { key: key.into(), next_hop, head_end, summary: Summary::default() };
        set.summary = Summary::of(&set.view());
        let index = match self.free.pop() {
            Some(index) => index as usize,
            None => {
                self.sets.push(None);
                self.sets.len() - 1
            }
        };
        self.sets[index] = Some(set);
        let id = AttrId::new(index);
        let Interner { sets, index: table, hasher, .. } = self;
        let rehash = |index: &u32| sets[*index as usize].as_ref().map_or(0, |set| hasher.hash_one(&*set.key));
        table.insert_unique(hash, id.0.get() - 1, rehash);
        id
    }

    /// How many sets there are.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// There are twice as many sets as were in use after the last sweep.
    pub(crate) fn wants_sweep(&self) -> bool {
        self.index.len() >= self.sweep_at.max(SMALL)
    }

    /// No id marked yet.
    pub(crate) fn marks(&self) -> Marks {
        Marks(vec![0; self.sets.len().div_ceil(64)])
    }

    /// Forgets what is not marked.
    pub(crate) fn sweep(&mut self, marks: &Marks) {
        let Interner { sets, free, index, .. } = self;
        index.retain(|at| {
            let used = marks.has(*at as usize);
            if !used {
                sets[*at as usize] = None;
                free.push(*at);
            }
            used
        });
        self.sweep_at = self.index.len() * 2;
    }
}

/// Ids in use.
#[derive(Debug)]
pub(crate) struct Marks(Vec<u64>);

impl Marks {
    pub(crate) fn mark(&mut self, id: AttrId) {
        self.0[id.index() / 64] |= 1 << (id.index() % 64);
    }

    fn has(&self, index: usize) -> bool {
        self.0[index / 64] & (1 << (index % 64)) != 0
    }
}

/// Writes what makes two sets equal, and returns where the attributes before NEXT_HOP end.
fn encode_key(attributes: &PathAttributes<'_>, key: &mut Vec<u8>) -> usize {
    key.clear();
    match attributes.next_hop {
        IpAddr::V4(a) => key.extend_from_slice(&a.octets()),
        IpAddr::V6(a) => key.extend_from_slice(&a.octets()),
    }
    let start = key.len();
    attributes.encode_head(key);
    let head = key.len() - start;
    attributes.encode_tail(key);
    head
}
