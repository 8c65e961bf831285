//! Judges an UPDATE: what it says, which faults it has, and their outcome by RFC 7606.
//!
//! Outcomes, from mild to severe: an attribute is discarded; the announced prefixes are treated as withdrawn; the
//! session is reset ([`WireError`]), only where the prefixes concerned cannot be told.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::attribute::{PathAttributes, RawAttribute, aggregator, code, flag, split};
use super::nlri::{self, Nlri};
use super::update::RawUpdate;
use super::{WireError, as_path, take, take_slice};
use crate::family::Family;

/// What the session says about how to read its UPDATEs.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Internal session.
    pub internal: bool,
    /// AS numbers have four octets (RFC 6793).
    pub four_octet: bool,
    /// IPv4 unicast, if the session carries it; prefixes of a family it does not carry are ignored (RFC 4760 6).
    pub ipv4: Option<Reading>,
    /// IPv6 unicast, likewise.
    pub ipv6: Option<Reading>,
}

/// How the prefixes of a family are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Each prefix has a path identifier (RFC 7911).
    pub add_path: bool,
    /// Next hops may be of the other family (RFC 8950).
    pub extended_next_hop: bool,
}

impl Context {
    /// A session that carries these families, each as simply as can be.
    #[must_use]
    pub fn plain(internal: bool, four_octet: bool, families: &[Family]) -> Context {
        let reading = |family| families.contains(&family).then(Reading::default);
        Context { internal, four_octet, ipv4: reading(Family::Ipv4), ipv6: reading(Family::Ipv6) }
    }

    /// How prefixes of a family are read, if the session carries it.
    #[must_use]
    pub fn reading(&self, family: Family) -> Option<Reading> {
        match family {
            Family::Ipv4 => self.ipv4,
            Family::Ipv6 => self.ipv6,
        }
    }
}

/// A judged UPDATE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update<'a> {
    /// Prefixes to forget, with those treated as withdrawn.
    pub withdrawn: Vec<Nlri>,
    /// Prefixes announced; empty without `attributes`.
    pub announced: Vec<Nlri>,
    /// Their attributes.
    pub attributes: Option<PathAttributes<'a>>,
    /// More prefixes announced with the same attributes but this next hop: those of the multiprotocol attribute when
    /// the classic fields announce some, too. Senders should not do that (RFC 7606 5.1).
    pub also: Option<(IpAddr, Vec<Nlri>)>,
    /// The End-of-RIB marker of a family.
    pub end_of_rib: Option<Family>,
    /// What was wrong, for the log.
    pub faults: Vec<Fault>,
}

/// A fault the session survives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Type code of the attribute.
    pub code: u8,
    /// What is wrong with it.
    pub problem: &'static str,
    /// What follows from it.
    pub outcome: Outcome,
}

/// Outcome of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The attribute was left out.
    Discard,
    /// The prefixes count as withdrawn.
    Withdraw,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Discard => "attribute discarded",
            Outcome::Withdraw => "routes treated as withdrawn",
        };
        write!(f, "attribute {}: {}; {outcome}", self.code, self.problem)
    }
}

/// Judges an UPDATE.
///
/// # Errors
/// A fault after which the session has to be reset.
pub fn judge<'a>(raw: RawUpdate<'a>, context: Context) -> Result<Update<'a>, WireError> {
    if raw.withdrawn.is_empty() && raw.attributes.is_empty() && raw.announced.is_empty() {
        let end_of_rib = context.ipv4.map(|_| Family::Ipv4);
        return Ok(Update { end_of_rib, ..Update::default() });
    }
    let mut reader = Reader::new(context);
    reader.sections(raw)?;
    reader.attributes(raw.attributes, !raw.announced.is_empty())?;
    Ok(reader.finish())
}

/// Collects while an attribute section is read.
struct Reader<'a> {
    context: Context,
    update: Update<'a>,
    attributes: PathAttributes<'a>,
    seen: [bool; 256],
    /// NEXT_HOP, kept apart since MP_REACH has its own.
    classic_next_hop: Option<Ipv4Addr>,
    /// What MP_REACH announces.
    multiprotocol: Option<(IpAddr, Vec<Nlri>)>,
    as4_path: Option<&'a [u8]>,
    as4_aggregator: Option<(u32, Ipv4Addr)>,
    mp_unreach_empty: Option<Family>,
}

impl<'a> Reader<'a> {
    fn new(context: Context) -> Reader<'a> {
        Reader {
            context,
            update: Update::default(),
            attributes: PathAttributes::originated(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            seen: [false; 256],
            classic_next_hop: None,
            multiprotocol: None,
            as4_path: None,
            as4_aggregator: None,
            mp_unreach_empty: None,
        }
    }

    /// The classic fields; read even where they are not wanted, since a fault in them is a fault.
    fn sections(&mut self, raw: RawUpdate<'a>) -> Result<(), WireError> {
        let add_path = self.context.ipv4.is_some_and(|reading| reading.add_path);
        nlri::decode(raw.withdrawn, Family::Ipv4, add_path, &mut self.update.withdrawn)?;
        nlri::decode(raw.announced, Family::Ipv4, add_path, &mut self.update.announced)?;
        if self.context.ipv4.is_none() {
            self.update.withdrawn.clear();
            self.update.announced.clear();
        }
        Ok(())
    }

    fn attributes(&mut self, mut section: &'a [u8], classic: bool) -> Result<(), WireError> {
        while !section.is_empty() {
            let Some((raw, rest)) = split(section) else {
                let known = classic
                    || self.seen[usize::from(code::MP_REACH)]
                    || self.seen[usize::from(code::MP_UNREACH)];
                if !known {
                    return Err(WireError::Update("attribute lengths exceed their section"));
                }
                self.fault(0, "attribute lengths exceed their section", Outcome::Withdraw);
                return Ok(());
            };
            section = rest;
            if std::mem::replace(&mut self.seen[usize::from(raw.code)], true) {
                if matches!(raw.code, code::MP_REACH | code::MP_UNREACH) {
                    return Err(WireError::Update("a multiprotocol attribute stands twice"));
                }
                self.fault(raw.code, "stands twice", Outcome::Discard);
                continue;
            }
            self.attribute(raw)?;
        }
        Ok(())
    }

    fn fault(&mut self, code: u8, problem: &'static str, outcome: Outcome) {
        self.update.faults.push(Fault { code, problem, outcome });
    }

    fn attribute(&mut self, raw: RawAttribute<'a>) -> Result<(), WireError> {
        match raw.code {
            code::MP_REACH => return self.mp_reach(raw.value),
            code::MP_UNREACH => return self.mp_unreach(raw.value),
            _ => {}
        }
        let judged = if flags_fit(raw) { self.known(raw) } else { Err(("wrong flags", Outcome::Withdraw)) };
        if let Err((problem, outcome)) = judged {
            self.fault(raw.code, problem, outcome);
        }
        Ok(())
    }

    fn known(&mut self, raw: RawAttribute<'a>) -> Result<(), (&'static str, Outcome)> {
        const LENGTH: (&str, Outcome) = ("wrong length", Outcome::Withdraw);
        const EXTERNAL: (&str, Outcome) = ("not for external sessions", Outcome::Discard);
        const LENGTH_DISCARD: (&str, Outcome) = ("wrong length", Outcome::Discard);
        let value = raw.value;
        let word = || <[u8; 4]>::try_from(value).map(u32::from_be_bytes).map_err(|_| LENGTH);
        let list = |unit: usize| match value.len() {
            0 => Err(LENGTH),
            length if length % unit != 0 => Err(LENGTH),
            _ => Ok(Cow::Borrowed(value)),
        };
        let internal = if self.context.internal { Ok(()) } else { Err(EXTERNAL) };
        match raw.code {
            code::ORIGIN => match value {
                [origin @ 0..=2] => self.attributes.origin = *origin,
                [_] => return Err(("unknown origin", Outcome::Withdraw)),
                _ => return Err(LENGTH),
            },
            code::AS_PATH => {
                self.attributes.as_path = self.path(value).ok_or(("malformed path", Outcome::Withdraw))?
            }
            code::NEXT_HOP => self.classic_next_hop = Some(Ipv4Addr::from(word()?)),
            code::MULTI_EXIT_DISC => self.attributes.med = Some(word()?),
            code::LOCAL_PREF => self.attributes.local_pref = Some(internal.and_then(|()| word())?),
            code::ATOMIC_AGGREGATE if value.is_empty() => self.attributes.atomic_aggregate = true,
            code::ATOMIC_AGGREGATE => return Err(LENGTH_DISCARD),
            code::AGGREGATOR => {
                self.attributes.aggregator = Some(self.aggregator(value).ok_or(LENGTH_DISCARD)?)
            }
            code::COMMUNITIES => self.attributes.communities = list(4)?,
            code::ORIGINATOR_ID => {
                self.attributes.originator_id = Some(Ipv4Addr::from(internal.and_then(|()| word())?));
            }
            code::CLUSTER_LIST => self.attributes.cluster_list = internal.and_then(|()| list(4))?,
            code::EXTENDED_COMMUNITIES => self.attributes.extended_communities = list(8)?,
            code::LARGE_COMMUNITIES => self.attributes.large_communities = list(12)?,
            code::ONLY_TO_CUSTOMER => self.attributes.only_to_customer = Some(word()?),
            code::AS4_PATH | code::AS4_AGGREGATOR if self.context.four_octet => {
                return Err(("sent by a four-octet speaker", Outcome::Discard));
            }
            code::AS4_PATH if as_path::is_valid(value, 4) => self.as4_path = Some(value),
            code::AS4_PATH => return Err(("malformed path", Outcome::Discard)),
            code::AS4_AGGREGATOR if value.len() == 8 => self.as4_aggregator = aggregator(value),
            code::AS4_AGGREGATOR => return Err(LENGTH_DISCARD),
            _ => return self.unknown(raw),
        }
        Ok(())
    }

    fn unknown(&mut self, raw: RawAttribute<'a>) -> Result<(), (&'static str, Outcome)> {
        if raw.flags & flag::OPTIONAL == 0 {
            return Err(("unknown but said to be well-known", Outcome::Withdraw));
        }
        if raw.flags & flag::TRANSITIVE != 0 {
            let flags = raw.flags | flag::PARTIAL;
            super::attribute::push(self.attributes.unknown.to_mut(), flags, raw.code, raw.value);
        }
        Ok(())
    }

    fn path(&self, value: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let width = if self.context.four_octet { 4 } else { 2 };
        as_path::is_valid(value, width).then(|| {
            if self.context.four_octet { Cow::Borrowed(value) } else { Cow::Owned(as_path::widen(value)) }
        })
    }

    fn aggregator(&self, value: &[u8]) -> Option<(u32, Ipv4Addr)> {
        match (self.context.four_octet, value) {
            (true, value) if value.len() == 8 => aggregator(value),
            (false, [high, low, a, b, c, d]) => {
                Some((u16::from_be_bytes([*high, *low]).into(), Ipv4Addr::new(*a, *b, *c, *d)))
            }
            _ => None,
        }
    }

    fn mp_reach(&mut self, value: &'a [u8]) -> Result<(), WireError> {
        const CUT: WireError = WireError::Multiprotocol("MP_REACH_NLRI cut short");
        let ([high, low, safi, length], rest) = take::<4>(value).ok_or(CUT)?;
        let (next_hop, rest) = take_slice(rest, length.into()).ok_or(CUT)?;
        let ([_reserved], prefixes) = take::<1>(rest).ok_or(CUT)?;
        let Some((family, reading)) = self.carried(high, low, safi) else { return Ok(()) };
        // A second, link-local address may follow the global IPv6 one (RFC 2545 3).
        let long = next_hop.len() == 16 || next_hop.len() == 32;
        let next_hop = match (family, next_hop) {
            (Family::Ipv4, [a, b, c, d]) => IpAddr::from([*a, *b, *c, *d]),
            (_, address) if long && (family == Family::Ipv6 || reading.extended_next_hop) => {
                let (global, _) = take::<16>(address).ok_or(CUT)?;
                IpAddr::from(global)
            }
            _ => return Err(WireError::Multiprotocol("next hop of a wrong length")),
        };
        let mut announced = Vec::new();
        nlri::decode(prefixes, family, reading.add_path, &mut announced)?;
        self.multiprotocol = Some((next_hop, announced));
        Ok(())
    }

    /// The family, if the session carries it.
    fn carried(&self, high: u8, low: u8, safi: u8) -> Option<(Family, Reading)> {
        let family = Family::from_code(u16::from_be_bytes([high, low]), safi)?;
        Some((family, self.context.reading(family)?))
    }

    fn mp_unreach(&mut self, value: &'a [u8]) -> Result<(), WireError> {
        const CUT: WireError = WireError::Multiprotocol("MP_UNREACH_NLRI cut short");
        let ([high, low, safi], prefixes) = take::<3>(value).ok_or(CUT)?;
        let Some((family, reading)) = self.carried(high, low, safi) else { return Ok(()) };
        self.mp_unreach_empty = prefixes.is_empty().then_some(family);
        nlri::decode(prefixes, family, reading.add_path, &mut self.update.withdrawn)
    }

    /// What concerns the message as a whole.
    fn finish(mut self) -> Update<'a> {
        let alone = self.seen.iter().filter(|seen| **seen).count() == 1;
        self.update.end_of_rib = self.mp_unreach_empty.filter(|_| alone && self.update.withdrawn.is_empty());
        self.update.announced.retain(|nlri| !nlri.prefix.address().is_multicast());
        let multiprotocol = self.multiprotocol.take().and_then(|(next_hop, mut prefixes)| {
            prefixes.retain(|nlri| !nlri.prefix.address().is_multicast());
            (!prefixes.is_empty()).then_some((next_hop, prefixes))
        });
        if self.update.announced.is_empty() && multiprotocol.is_none() {
            return self.update;
        }
        self.merge_as4();
        if self.attributes.as_path.len() > as_path::LONGEST {
            self.fault(code::AS_PATH, "longer than can be kept", Outcome::Withdraw);
        }
        self.next_hops(multiprotocol);
        for mandatory in [code::ORIGIN, code::AS_PATH] {
            if !self.seen[usize::from(mandatory)] {
                self.fault(mandatory, "missing", Outcome::Withdraw);
            }
        }
        if self.update.faults.iter().any(|fault| fault.outcome == Outcome::Withdraw) {
            let announced = std::mem::take(&mut self.update.announced);
            self.update.withdrawn.extend(announced);
            self.update
                .withdrawn
                .extend(self.update.also.take().into_iter().flat_map(|(_, prefixes)| prefixes));
        } else {
            self.update.attributes = Some(self.attributes);
        }
        self.update
    }

    /// Gives the announced prefixes their next hops.
    fn next_hops(&mut self, multiprotocol: Option<(IpAddr, Vec<Nlri>)>) {
        let classic = self.classic_next_hop.map(IpAddr::V4);
        match (self.update.announced.is_empty(), multiprotocol) {
            (true, Some((next_hop, prefixes))) => {
                self.attributes.next_hop = next_hop;
                self.update.announced = prefixes;
            }
            (_, also) => {
                match classic {
                    Some(next_hop) => self.attributes.next_hop = next_hop,
                    None => return self.withdraw_with(also, "missing"),
                }
                self.update.also = also;
            }
        }
        let also = self.update.also.as_ref().map(|(next_hop, _)| *next_hop);
        if !is_host(self.attributes.next_hop) || !also.is_none_or(is_host) {
            self.fault(code::NEXT_HOP, "not the address of a host", Outcome::Withdraw);
        }
    }

    fn withdraw_with(&mut self, also: Option<(IpAddr, Vec<Nlri>)>, problem: &'static str) {
        self.update.also = also;
        self.fault(code::NEXT_HOP, problem, Outcome::Withdraw);
    }

    /// RFC 6793 4.2.3.
    fn merge_as4(&mut self) {
        let through_old =
            matches!(self.attributes.aggregator, Some((asn, _)) if asn != u32::from(super::open::AS_TRANS));
        if self.context.four_octet || (through_old && self.as4_aggregator.is_some()) {
            return;
        }
        if let Some(as4_path) = self.as4_path {
            self.attributes.as_path = Cow::Owned(as_path::merge(&self.attributes.as_path, as4_path));
        }
        self.attributes.aggregator = self.as4_aggregator.or(self.attributes.aggregator);
    }
}

/// Optional and transitive as its standard says (RFC 7606 3 c); unknown ones may have any.
fn flags_fit(raw: RawAttribute<'_>) -> bool {
    let kind = raw.flags & (flag::OPTIONAL | flag::TRANSITIVE);
    match raw.code {
        code::ORIGIN | code::AS_PATH | code::NEXT_HOP | code::LOCAL_PREF | code::ATOMIC_AGGREGATE => {
            kind == flag::TRANSITIVE
        }
        code::MULTI_EXIT_DISC | code::ORIGINATOR_ID | code::CLUSTER_LIST => kind == flag::OPTIONAL,
        code::AGGREGATOR
        | code::COMMUNITIES
        | code::EXTENDED_COMMUNITIES
        | code::LARGE_COMMUNITIES
        | code::ONLY_TO_CUSTOMER
        | code::AS4_PATH
        | code::AS4_AGGREGATOR => kind == flag::OPTIONAL | flag::TRANSITIVE,
        _ => true,
    }
}

fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(a) if a.octets()[0] >= 224 || a.octets()[0] == 0);
    !(address.is_unspecified() || address.is_multicast() || broadcast)
}
