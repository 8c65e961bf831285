//! Changes of a group as octets, encoded once for all members.
//!
//! The octets are cut into segments by where the routes come from. A member that none of them leaves out gets
//! everything as one piece; one that is left out of some gets the pieces between. So what fifty peers announce at once
//! and all want to hear from each other is encoded once, not fifty times.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;

use bytes::Bytes;

use super::PeerKey;
use super::adj_out::{Change, Member, Told};
use super::attrs::{AttrId, Interner};
use crate::wire::PathAttributes;
use crate::wire::nlri::Nlri;
use crate::wire::update::{Encoded, Layout};

/// How the members of a group want their UPDATEs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) layout: Layout,
    /// AS numbers have four octets.
    pub(crate) four_octet: bool,
}

/// Whom a route is not for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    source: PeerKey,
    next_hop: IpAddr,
}

#[derive(Debug)]
struct Segment {
    origin: Origin,
    range: Range<usize>,
}

/// Changes, encoded.
#[derive(Debug)]
pub(crate) struct Batch {
    form: Form,
    octets: Bytes,
    segments: Vec<Segment>,
    /// Changes that leave out somebody else than before.
    moved: Vec<Change>,
    /// Peers and addresses that some change leaves out.
    peers: BTreeSet<PeerKey>,
    addresses: BTreeSet<IpAddr>,
}

impl Form {
    /// Appends announcements; false when the attributes leave no room for a prefix.
    fn announce<'n>(
        self,
        out: &mut Vec<u8>,
        attrs: AttrId,
        interner: &Interner,
        nlri: impl Iterator<Item = &'n Nlri>,
    ) -> bool {
        let set = interner.get(attrs);
        if self.four_octet {
            return self.layout.announce(out, set.encoded(), nlri);
        }
        let (head, tail) = set.view().encode_narrow();
        let narrow = Encoded { head: &head, tail: &tail, next_hop: set.next_hop() };
        self.layout.announce(out, narrow, nlri)
    }

    /// Whether the attributes leave room for a prefix.
    pub(crate) fn fits(self, attributes: &PathAttributes<'_>) -> bool {
        let (head, tail) = if self.four_octet {
            let (mut head, mut tail) = (Vec::new(), Vec::new());
            attributes.encode_head(&mut head);
            attributes.encode_tail(&mut tail);
            (head, tail)
        } else {
            attributes.encode_narrow()
        };
        let encoded = Encoded { head: &head, tail: &tail, next_hop: attributes.next_hop };
        self.layout.announce(&mut Vec::new(), encoded, std::iter::empty())
    }

    /// Withdrawals and announcements for one member. Routes whose attributes leave no room for a prefix are withdrawn.
    pub(crate) fn encode(
        self,
        mut withdrawn: Vec<Nlri>,
        mut announced: Vec<(AttrId, Nlri)>,
        interner: &Interner,
    ) -> Bytes {
        let mut announcements = Vec::new();
        announced.sort_unstable();
        for run in announced.chunk_by(|a, b| a.0 == b.0) {
            if !self.announce(&mut announcements, run[0].0, interner, run.iter().map(|(_, nlri)| nlri)) {
                withdrawn.extend(run.iter().map(|(_, nlri)| *nlri));
            }
        }
        let mut out = Vec::with_capacity(announcements.len());
        self.layout.withdraw(&mut out, withdrawn.iter());
        out.append(&mut announcements);
        out.into()
    }
}

impl Batch {
    pub(crate) fn new(changes: &[Change], interner: &Interner, form: Form) -> Batch {
        let mut batch = Batch {
            form,
            octets: Bytes::new(),
            segments: Vec::new(),
            moved: Vec::new(),
            peers: BTreeSet::new(),
            addresses: BTreeSet::new(),
        };
        let origin =
            |told: Told| Origin { source: told.source, next_hop: interner.get(told.attrs).next_hop() };
        let (mut withdrawn, mut announced) = (Vec::new(), Vec::new());
        for (at, change) in changes.iter().enumerate() {
            match (change.old, change.new) {
                (Some(old), None) => withdrawn.push((origin(old), at)),
                (None, Some(new)) => announced.push((new.source, new.attrs, at)),
                (Some(old), Some(new)) => {
                    if old.attrs != new.attrs {
                        announced.push((new.source, new.attrs, at));
                    }
                    if origin(old) != origin(new) {
                        batch.moved.push(*change);
                        batch.leaves_out(origin(old));
                        batch.leaves_out(origin(new));
                    }
                }
                (None, None) => {}
            }
        }
        let mut announcements = Vec::new();
        let mut runs = Vec::new();
        announced.sort_unstable();
        for run in announced.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (source, attrs, _) = run[0];
            let start = announcements.len();
            let nlri = run.iter().map(|(_, _, at)| &changes[*at].nlri);
            let origin = origin(Told { attrs, source });
            if form.announce(&mut announcements, attrs, interner, nlri) {
                runs.push((origin, start..announcements.len()));
            } else {
                withdrawn.extend(run.iter().map(|(_, _, at)| (origin, *at)));
            }
        }
        let mut out = Vec::with_capacity(announcements.len());
        withdrawn.sort_unstable_by_key(|(origin, at)| (origin.source, origin.next_hop, *at));
        for run in withdrawn.chunk_by(|a, b| a.0 == b.0) {
            let start = out.len();
            form.layout.withdraw(&mut out, run.iter().map(|(_, at)| &changes[*at].nlri));
            batch.segment(run[0].0, start..out.len());
        }
        let shift = out.len();
        if out.is_empty() {
            out = announcements;
        } else {
            out.append(&mut announcements);
        }
        runs.into_iter().for_each(|(origin, run)| batch.segment(origin, run.start + shift..run.end + shift));
        batch.octets = out.into();
        batch
    }

    fn leaves_out(&mut self, origin: Origin) {
        self.peers.insert(origin.source);
        self.addresses.insert(origin.next_hop);
    }

    fn segment(&mut self, origin: Origin, range: Range<usize>) {
        match self.segments.last_mut() {
            Some(last) if last.origin == origin => last.range.end = range.end,
            _ => {
                self.leaves_out(origin);
                self.segments.push(Segment { origin, range });
            }
        }
    }

    /// What a member is sent, in order.
    pub(crate) fn for_member(&self, member: Member, interner: &Interner) -> Vec<Bytes> {
        if !self.peers.contains(&member.peer) && !self.addresses.contains(&member.address) {
            return if self.octets.is_empty() { Vec::new() } else { vec![self.octets.clone()] };
        }
        let mut pieces: Vec<Range<usize>> = Vec::new();
        for segment in &self.segments {
            let Origin { source, next_hop } = segment.origin;
            if member.is_left_out(source, next_hop) {
                continue;
            }
            match pieces.last_mut() {
                Some(piece) if piece.end == segment.range.start => piece.end = segment.range.end,
                _ => pieces.push(segment.range.clone()),
            }
        }
        let own = self.only_for(member, interner);
        let shared = pieces.into_iter().map(|range| self.octets.slice(range));
        shared.chain((!own.is_empty()).then_some(own)).collect()
    }

    /// What only this member has to be told, since somebody else is left out now: it must forget its own route, or hears
    /// for the first time of a route the others know.
    fn only_for(&self, member: Member, interner: &Interner) -> Bytes {
        let (mut withdrawn, mut announced) = (Vec::new(), Vec::new());
        for change in &self.moved {
            let (Some(old), Some(new)) = (change.old, change.new) else { continue };
            match (member.sees(old, interner), member.sees(new, interner)) {
                (true, false) => withdrawn.push(change.nlri),
                (false, true) if old.attrs == new.attrs => announced.push((new.attrs, change.nlri)),
                _ => {}
            }
        }
        self.form.encode(withdrawn, announced, interner)
    }
}
