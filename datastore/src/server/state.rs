//! The server's whole state and what each request does to it: range, put, delete, transactions, leases, compaction.
//!
//! Pure: requests and the time in, answers out, and into a log of [`Entry`]s whatever must be stored before the answer
//! may be sent.

use std::time::Duration;

use bytes::Bytes;
use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbLeaseGrantRequest,
    PbLeaseGrantResponse, PbLeaseKeepAliveResponse, PbLeaseLeasesResponse, PbLeaseRevokeResponse,
    PbLeaseStatus, PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse, PbPutRequest, PbPutResponse,
    PbRangeRequest, PbRangeResponse, PbResponseHeader, PbTxnRequest, PbTxnResponse,
};

use super::error::Refusal;
use super::lease::Leases;
use super::mvcc::{Change, Interval, Keyspace, Place, Record};
use super::{range, txn};

/// Something to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A version of a key.
    Version(Record),
    /// A lease of so many seconds.
    LeaseGranted { id: i64, ttl: i64 },
    /// A lease is gone.
    LeaseEnded(i64),
    /// Versions are gone.
    Compacted { revision: i64, removed: Vec<Place> },
}

/// Who the server is, in every answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) cluster: u64,
    pub(super) member: u64,
}

/// Everything the server knows.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) identity: Identity,
    pub(super) keyspace: Keyspace,
    pub(super) leases: Leases,
}

impl State {
    /// The header of an answer given now.
    pub(super) fn header(&self) -> Option<PbResponseHeader> {
        Some(PbResponseHeader {
            cluster_id: self.identity.cluster,
            member_id: self.identity.member,
            revision: self.keyspace.revision(),
            raft_term: 1,
        })
    }

    /// What is in memory, roughly.
    pub(super) fn bytes(&self) -> u64 {
        self.keyspace.bytes() + self.leases.bytes()
    }

    /// Refuses to grow beyond a number of bytes, as an etcd over its quota refuses puts and leases.
    pub(super) fn check_space(&self, limit: u64) -> Result<(), Refusal> {
        if self.bytes() < limit { Ok(()) } else { Err(Refusal::NoSpace) }
    }

    /// Ties keys to their leases again, after a start.
    pub(super) fn attach_leases(&mut self) {
        for kv in self.keyspace.range(&Interval::new(&[0], &[0]), 0).filter(|kv| kv.lease != 0) {
            self.leases.move_key(&Bytes::from(kv.key), 0, kv.lease);
        }
    }

    pub(super) fn range(&self, request: &PbRangeRequest) -> Result<PbRangeResponse, Refusal> {
        range::check(request)?;
        self.keyspace.check_readable(request.revision)?;
        Ok(PbRangeResponse { header: self.header(), ..range::answer(&self.keyspace, request) })
    }

    pub(super) fn put(
        &mut self,
        request: PbPutRequest,
        log: &mut Vec<Entry>,
    ) -> Result<PbPutResponse, Refusal> {
        txn::check_put(&request)?;
        // Of two faults etcd names the lease here, and the key in a transaction.
        self.check_lease(&request)?;
        self.check_kept(&request)?;
        let mut change = Change::default();
        let answer = self.apply_put(&mut change, request);
        self.commit(change, log);
        Ok(PbPutResponse { header: self.header(), ..answer })
    }

    pub(super) fn delete(
        &mut self,
        request: &PbDeleteRequest,
        log: &mut Vec<Entry>,
    ) -> Result<PbDeleteResponse, Refusal> {
        txn::check_delete(request)?;
        let mut change = Change::default();
        let answer = self.apply_delete(&mut change, request);
        self.commit(change, log);
        Ok(PbDeleteResponse { header: self.header(), ..answer })
    }

    pub(super) fn txn(
        &mut self,
        request: PbTxnRequest,
        log: &mut Vec<Entry>,
    ) -> Result<PbTxnResponse, Refusal> {
        txn::check(&request)?;
        let mut change = Change::default();
        let answer = txn::apply(self, &mut change, request)?;
        self.commit(change, log);
        Ok(PbTxnResponse { header: self.header(), ..answer })
    }

    pub(super) fn compact(
        &mut self,
        request: PbCompactionRequest,
        log: &mut Vec<Entry>,
    ) -> Result<PbCompactionResponse, Refusal> {
        let removed = self.keyspace.compact(request.revision)?;
        log.push(Entry::Compacted { revision: request.revision, removed });
        Ok(PbCompactionResponse { header: self.header() })
    }

    /// Compacts by itself once twice the revisions to be kept are there, so that a store nobody compacts does not
    /// grow for ever.
    pub(super) fn compact_beyond(&mut self, keep: i64, log: &mut Vec<Entry>) {
        let last = self.keyspace.revision();
        if last - self.keyspace.compacted().max(0) > 2 * keep {
            let request = PbCompactionRequest { revision: last - keep, physical: false };
            self.compact(request, log).expect("a revision between the compacted and the last one");
        }
    }

    pub(super) fn grant(
        &mut self,
        request: PbLeaseGrantRequest,
        now: Duration,
        log: &mut Vec<Entry>,
    ) -> Result<PbLeaseGrantResponse, Refusal> {
        let ttl = self.leases.grant(request.id, request.ttl, now)?;
        log.push(Entry::LeaseGranted { id: request.id, ttl });
        Ok(PbLeaseGrantResponse { header: self.header(), id: request.id, ttl, error: String::new() })
    }

    /// Ends a lease; its keys go at one revision.
    pub(super) fn revoke(&mut self, id: i64, log: &mut Vec<Entry>) -> Result<PbLeaseRevokeResponse, Refusal> {
        let keys = self.leases.revoke(id).ok_or(Refusal::LeaseNotFound)?;
        let mut change = Change::default();
        for key in keys {
            self.keyspace.delete(&mut change, &key);
        }
        self.commit(change, log);
        log.push(Entry::LeaseEnded(id));
        Ok(PbLeaseRevokeResponse { header: self.header() })
    }

    /// Ends the leases whose time is over.
    pub(super) fn expire(&mut self, now: Duration, log: &mut Vec<Entry>) {
        while let Some(id) = self.leases.over(now) {
            self.revoke(id, log).expect("the lease was found a line ago");
        }
    }

    /// Of an unknown lease the TTL is 0 (`lease_keep_alive`).
    pub(super) fn keep_alive(&mut self, id: i64, now: Duration) -> PbLeaseKeepAliveResponse {
        let ttl = self.leases.keep_alive(id, now).unwrap_or(0);
        PbLeaseKeepAliveResponse { header: self.header(), id, ttl }
    }

    /// Of an unknown lease the TTL is -1 (`lease_time_to_live`).
    pub(super) fn time_to_live(
        &self,
        request: PbLeaseTimeToLiveRequest,
        now: Duration,
    ) -> PbLeaseTimeToLiveResponse {
        let lease = self.leases.get(request.id);
        let keys = lease.filter(|_| request.keys).map(|l| l.keys.iter().map(|k| k.to_vec()).collect());
        PbLeaseTimeToLiveResponse {
            header: self.header(),
            id: request.id,
            ttl: lease.map_or(-1, |l| l.remaining(now)),
            granted_ttl: lease.map_or(0, |l| l.ttl),
            keys: keys.unwrap_or_default(),
        }
    }

    pub(super) fn leases(&self) -> PbLeaseLeasesResponse {
        let leases = self.leases.ids().map(|id| PbLeaseStatus { id }).collect();
        PbLeaseLeasesResponse { header: self.header(), leases }
    }

    /// A put that keeps the value or the lease needs a key that has them.
    pub(super) fn check_kept(&self, request: &PbPutRequest) -> Result<(), Refusal> {
        let keeps = request.ignore_value || request.ignore_lease;
        if keeps && self.keyspace.get(&request.key).is_none() { Err(Refusal::KeyNotFound) } else { Ok(()) }
    }

    /// A put's lease must be there.
    pub(super) fn check_lease(&self, request: &PbPutRequest) -> Result<(), Refusal> {
        let missing = request.lease != 0 && self.leases.get(request.lease).is_none();
        if missing { Err(Refusal::LeaseNotFound) } else { Ok(()) }
    }

    /// A checked put. The header carries the revision only, as inside etcd's transactions.
    pub(super) fn apply_put(&mut self, change: &mut Change, request: PbPutRequest) -> PbPutResponse {
        let kept =
            (request.ignore_value || request.ignore_lease).then(|| self.keyspace.get(&request.key)).flatten();
        let (mut value, mut lease) = (request.value, request.lease);
        if let Some(kept) = kept {
            value = if request.ignore_value { kept.value } else { value };
            lease = if request.ignore_lease { kept.lease } else { lease };
        }
        let key = Bytes::from(request.key);
        let before = self.keyspace.put(change, key.clone(), Bytes::from(value), lease);
        self.leases.move_key(&key, before.as_ref().map_or(0, |kv| kv.lease), lease);
        let header = Some(inner_header(self.keyspace.revision() + 1));
        PbPutResponse { header, prev_kv: before.filter(|_| request.prev_kv) }
    }

    /// A checked delete.
    pub(super) fn apply_delete(
        &mut self,
        change: &mut Change,
        request: &PbDeleteRequest,
    ) -> PbDeleteResponse {
        let interval = Interval::new(&request.key, &request.range_end);
        let found: Vec<_> = self.keyspace.range(&interval, 0).collect();
        for kv in &found {
            self.keyspace.delete(change, &kv.key);
            self.leases.move_key(&Bytes::copy_from_slice(&kv.key), kv.lease, 0);
        }
        PbDeleteResponse {
            header: Some(inner_header(self.revision_within(change))),
            deleted: i64::try_from(found.len()).unwrap_or(i64::MAX),
            prev_kvs: if request.prev_kv { found } else { Vec::new() },
        }
    }

    /// The revision as seen from inside a change.
    pub(super) fn revision_within(&self, change: &Change) -> i64 {
        self.keyspace.revision() + i64::from(!change.is_empty())
    }

    fn commit(&mut self, change: Change, log: &mut Vec<Entry>) {
        log.extend(self.keyspace.commit(change).into_iter().map(Entry::Version));
    }
}

/// The header of an answer inside a transaction.
pub(super) fn inner_header(revision: i64) -> PbResponseHeader {
    PbResponseHeader { revision, ..PbResponseHeader::default() }
}
