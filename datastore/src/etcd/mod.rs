//! [`EtcdStore`]: the [`Store`] contract over an etcd cluster, or over anything that speaks its v3 API.
//!
//! Owns the mapping of requests and answers. Which endpoint is asked, and when another one, is `endpoints`' affair; the
//! life of a watch is `watch`'s; what an error means is `error`'s. Never interprets a value.

use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{
    Compare as EtcdCompare, CompareOp, GetOptions, GetResponse, KvClient, PutOptions, Txn, TxnOp,
    TxnOpResponse, TxnResponse,
};
use tokio::sync::mpsc;

use crate::StoreError;
use crate::store::{Compare, KeyValue, Listing, Operation, Outcome, Store, Transaction, Watch};

mod endpoints;
mod error;
mod health;
mod watch;

use endpoints::{Endpoints, Repeat};
pub use health::{EndpointHealth, MemberStatus, Role};

/// Keys read at once by a list; a page is one request with its own deadline.
const PAGE: i64 = 1000;

/// How often a list starts over because the revision it reads at was compacted under it.
const LIST_ATTEMPTS: usize = 3;

/// Largest answer accepted. Servers send what was asked for however large it is; gRPC's own limit of 4 MiB is
/// less than a page of large resources.
const MAX_ANSWER: usize = 512 << 20;

/// How to reach an etcd cluster.
#[derive(Clone)]
pub struct EtcdOptions {
    /// `http://host:port` or `https://host:port`; at least one.
    pub endpoints: Vec<String>,
    /// Name and password, for clusters with authentication.
    pub user: Option<(String, String)>,
    /// For `https` endpoints.
    pub tls: Tls,
    /// Limit of every request.
    pub deadline: Duration,
    /// Limit of establishing a connection.
    pub connect_timeout: Duration,
}

/// TLS of the client: PEM texts.
#[derive(Clone, Default)]
pub struct Tls {
    /// Authorities the server's certificate may come from; the system's when absent.
    pub authorities: Option<Vec<u8>>,
    /// The client's own certificate chain and key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl EtcdOptions {
    /// Plain access with the usual limits: 5 s a request, 3 s a connection.
    pub fn new(endpoints: impl IntoIterator<Item = String>) -> EtcdOptions {
        EtcdOptions {
            endpoints: endpoints.into_iter().collect(),
            user: None,
            tls: Tls::default(),
            deadline: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
        }
    }
}

impl std::fmt::Debug for EtcdOptions {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoints)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// A store that is an etcd cluster.
#[derive(Debug)]
pub struct EtcdStore {
    endpoints: Endpoints,
}

impl EtcdStore {
    /// Connects: returns once one endpoint has answered a request.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] naming the endpoints within the request deadline when none answers;
    /// [`StoreError::Refused`] for bad credentials or TLS settings.
    pub async fn connect(options: EtcdOptions) -> Result<EtcdStore, StoreError> {
        let endpoints = Endpoints::new(options)?;
        endpoints.probe().await?;
        Ok(EtcdStore { endpoints })
    }

    /// A store on endpoints that need not answer yet; every request tries them again.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when there is no endpoint.
    pub fn lazy(options: EtcdOptions) -> Result<EtcdStore, StoreError> {
        Ok(EtcdStore { endpoints: Endpoints::new(options)? })
    }

    /// Asks every endpoint how it is, all at once; in the order of the configuration, within the request deadline.
    pub async fn health(&self) -> Vec<EndpointHealth> {
        health::ask(&self.endpoints).await
    }

    async fn range(&self, key: &[u8], options: GetOptions, revision: i64) -> Result<GetResponse, StoreError> {
        let request = |client: etcd_client::Client| {
            let (key, options) = (key.to_vec(), options.clone());
            async move { kv(&client).get(key, Some(options)).await }
        };
        self.endpoints.call(Repeat::Harmless, revision, request).await
    }

    /// All pages at one revision.
    async fn list_once(&self, prefix: &str) -> Result<Listing, StoreError> {
        let mut pages = Pages::new(prefix);
        let mut listing = Listing::default();
        while let Some(page) = pages.next(self).await? {
            listing.revision = page.revision;
            listing.entries.extend(page.entries);
        }
        Ok(listing)
    }
}

/// Where a listing in pages has got to.
struct Pages {
    start: Vec<u8>,
    end: Vec<u8>,
    /// The revision all pages are of; 0 before the first.
    revision: i64,
    more: bool,
}

impl Pages {
    fn new(prefix: &str) -> Pages {
        Pages { start: range_start(prefix), end: prefix_end(prefix.as_bytes()), revision: 0, more: true }
    }

    /// The next page; `None` after the last.
    async fn next(&mut self, store: &EtcdStore) -> Result<Option<Listing>, StoreError> {
        if !self.more {
            return Ok(None);
        }
        let options =
            GetOptions::new().with_range(self.end.clone()).with_limit(PAGE).with_revision(self.revision);
        let mut page = store.range(&self.start, options, self.revision).await?;
        if self.revision == 0 {
            self.revision = page.header().map_or(0, |h| h.revision());
        }
        self.more = page.more();
        let kvs = page.take_kvs();
        if let Some(last) = kvs.last() {
            self.start = [last.key(), b"\0"].concat();
        }
        let entries = kvs.into_iter().filter_map(key_value).collect();
        Ok(Some(Listing { revision: self.revision, entries }))
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>, StoreError> {
        let mut answer = self.range(key.as_bytes(), GetOptions::new(), 0).await?;
        Ok(answer.take_kvs().pop().and_then(key_value))
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        for _ in 1..LIST_ATTEMPTS {
            match self.list_once(prefix).await {
                Err(StoreError::Compacted { .. }) => {}
                other => return other,
            }
        }
        self.list_once(prefix).await
    }

    async fn list_in_pages(&self, prefix: &str, sender: mpsc::Sender<Listing>) -> Result<(), StoreError> {
        let mut pages = Pages::new(prefix);
        while let Some(page) = pages.next(self).await? {
            if sender.send(page).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn transact(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        let txn = etcd_txn(&transaction);
        let request = |client: etcd_client::Client| {
            let txn = txn.clone();
            async move { kv(&client).txn(txn).await }
        };
        Ok(outcome(&self.endpoints.call(Repeat::Never, 0, request).await?))
    }

    async fn watch(&self, prefix: &str, start_revision: i64) -> Result<Watch, StoreError> {
        watch::start(&self.endpoints, prefix, start_revision).await
    }

    async fn grant_lease(&self, seconds: i64) -> Result<i64, StoreError> {
        // A lease granted twice costs nothing: the forgotten one expires.
        let request =
            |client: etcd_client::Client| async move { client.lease_client().grant(seconds, None).await };
        Ok(self.endpoints.call(Repeat::Harmless, 0, request).await?.id())
    }

    async fn keep_alive(&self, lease: i64) -> Result<bool, StoreError> {
        let request = |client: etcd_client::Client| async move {
            // Opening the stream renews the lease once, and reads the answer to it.
            match client.lease_client().keep_alive(lease).await {
                Ok(_) => Ok(true),
                Err(etcd_client::Error::LeaseKeepAliveError(reason)) if reason.contains("not found") => {
                    Ok(false)
                }
                Err(error) => Err(error),
            }
        };
        self.endpoints.call(Repeat::Harmless, 0, request).await
    }
}

fn kv(client: &etcd_client::Client) -> KvClient {
    client.kv_client().max_decoding_message_size(MAX_ANSWER)
}

/// The first key of a range; etcd takes no empty key.
fn range_start(prefix: &str) -> Vec<u8> {
    if prefix.is_empty() { vec![0] } else { prefix.as_bytes().to_vec() }
}

/// The end of the range of all keys with a prefix; `\0` means there is none.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let Some(last) = prefix.iter().rposition(|byte| *byte < 0xff) else { return vec![0] };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end
}

/// Keys that are not UTF-8 are none of ours; they are left out.
fn key_value(kv: etcd_client::KeyValue) -> Option<KeyValue> {
    let (create_revision, mod_revision) = (kv.create_revision(), kv.mod_revision());
    let (key, value) = kv.into_key_value();
    Some(KeyValue { key: String::from_utf8(key).ok()?, value, create_revision, mod_revision })
}

fn etcd_compare(compare: &Compare) -> EtcdCompare {
    match compare {
        Compare::Absent(key) => EtcdCompare::create_revision(key.as_str(), CompareOp::Equal, 0),
        // To etcd an absent key has mod revision 0; here a mod revision means that the key is there.
        Compare::ModRevision(key, revision) if *revision <= 0 => {
            EtcdCompare::mod_revision(key.as_str(), CompareOp::Less, 0)
        }
        Compare::ModRevision(key, revision) => {
            EtcdCompare::mod_revision(key.as_str(), CompareOp::Equal, *revision)
        }
    }
}

fn etcd_txn(transaction: &Transaction) -> Txn {
    let when: Vec<EtcdCompare> = transaction.compares.iter().map(etcd_compare).collect();
    let then: Vec<TxnOp> = transaction
        .operations
        .iter()
        .map(|operation| match operation {
            Operation::Put { key, value, lease } => {
                TxnOp::put(key.as_str(), value.as_slice(), Some(PutOptions::new().with_lease(*lease)))
            }
            Operation::Delete(key) => TxnOp::delete(key.as_str(), None),
        })
        .collect();
    let otherwise: Vec<TxnOp> = transaction
        .compares
        .iter()
        .map(|compare| match compare {
            Compare::Absent(key) | Compare::ModRevision(key, _) => TxnOp::get(key.as_str(), None),
        })
        .collect();
    Txn::new().when(when).and_then(then).or_else(otherwise)
}

fn outcome(answer: &TxnResponse) -> Outcome {
    let revision = answer.header().map_or(0, |h| h.revision());
    if answer.succeeded() {
        return Outcome::Committed { revision };
    }
    let mut current = Vec::new();
    for response in answer.op_responses() {
        if let TxnOpResponse::Get(mut range) = response {
            current.extend(range.take_kvs().into_iter().filter_map(key_value));
        }
    }
    Outcome::Conflict { current, revision }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_prefix() {
        assert_eq!(prefix_end(b"/calico/"), b"/calico0");
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), b"\0");
        assert_eq!(prefix_end(b""), b"\0");
    }

    #[test]
    fn options_print_without_secrets() {
        let mut options = EtcdOptions::new(["http://127.0.0.1:2379".to_owned()]);
        options.user = Some(("root".to_owned(), "s3cret".to_owned()));
        options.tls.identity = Some((b"certificate".to_vec(), b"privatekey".to_vec()));
        let text = format!("{options:?}");
        assert!(text.contains("root") && text.contains("127.0.0.1"), "{text}");
        assert!(!text.contains("s3cret") && !text.contains("privatekey"), "{text}");
    }
}
