//! The endpoints of a cluster: one client each, connected when first used, and which one is asked.
//!
//! One endpoint is used until it fails, then the next one. Requests that must not happen twice move on only when
//! the failed endpoint was never reached. Every call ends by its deadline.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use futures::stream::FuturesUnordered;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tokio_stream::StreamExt;

use super::EtcdOptions;
use super::error::{Failure, classify, is_auth_not_enabled, is_login_over};
use crate::StoreError;

/// A dead peer is noticed after interval + timeout. Servers refuse pings more often than every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether a request may be sent to a second endpoint when it is not known what became of it at the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Reads, and whatever may happen twice.
    Harmless,
    /// Writes: a repeated compare-and-swap would report a conflict with itself.
    Never,
}

/// The clients of a cluster's endpoints.
pub(super) struct Endpoints {
    options: EtcdOptions,
    slots: Vec<Slot>,
    current: AtomicUsize,
}

/// What is known of one endpoint.
#[derive(Default)]
struct Slot {
    login: Mutex<Login>,
    /// Whether its last request got no answer; told once.
    lost: AtomicBool,
}

/// The client of an endpoint. With credentials it is as good as the token it got.
#[derive(Default)]
struct Login {
    client: Option<Client>,
    /// How many there have been: of many requests that find one token over, the first replaces it.
    count: u64,
}

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoints").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Endpoints {
    pub(super) fn new(options: EtcdOptions) -> Result<Endpoints, StoreError> {
        if options.endpoints.is_empty() {
            return Err(StoreError::Refused { reason: "no endpoints configured".to_owned() });
        }
        let slots = options.endpoints.iter().map(|_| Slot::default()).collect();
        Ok(Endpoints { options, slots, current: AtomicUsize::new(0) })
    }

    /// The limit of a request.
    pub(super) fn deadline(&self) -> Duration {
        self.options.deadline
    }

    /// Asks all endpoints at once and starts with the first that answers.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        let deadline = Instant::now() + self.options.deadline;
        let mut answers: FuturesUnordered<_> = (0..self.slots.len())
            .map(|index| async move { (index, self.attempt(index, deadline, &read_probe, 0).await) })
            .collect();
        let mut reasons = Vec::new();
        while let Some((index, answer)) = answers.next().await {
            match answer {
                Ok(_) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(());
                }
                Err(Failure::Answered(error)) => return Err(error),
                Err(Failure::Lost { reason, .. }) => reasons.push((index, reason)),
            }
        }
        reasons.sort();
        Err(self.unavailable(self.all(&reasons)))
    }

    /// Sends a request to the current endpoint, and to the others in turn as far as `repeat` allows. `requested` is the
    /// revision asked for, where there is one.
    pub(super) async fn call<T, F, R>(
        &self,
        repeat: Repeat,
        requested: i64,
        request: F,
    ) -> Result<T, StoreError>
    where
        F: Fn(Client) -> R,
        R: Future<Output = Result<T, Error>>,
    {
        let count = self.slots.len();
        let deadline = Instant::now() + self.options.deadline;
        let first = self.current.load(Ordering::Relaxed);
        let mut reasons = Vec::new();
        for step in 0..count {
            let index = (first + step) % count;
            match self.attempt(index, limit(repeat, deadline, count - step), &request, requested).await {
                Ok(answer) => {
                    self.answered(index);
                    return Ok(answer);
                }
                Err(Failure::Answered(error)) => {
                    self.answered(index);
                    return Err(error);
                }
                Err(Failure::Lost { reason, sent }) => {
                    self.failed(index, &reason);
                    reasons.push((index, reason));
                    if (sent && repeat == Repeat::Never) || Instant::now() >= deadline {
                        break;
                    }
                }
            }
        }
        Err(self.unavailable(self.all(&reasons)))
    }

    /// One request to one endpoint; once more with a new login when the old one has expired or the cluster asks for one
    /// since. A refused login means that nothing was done, so that writes may be sent again too.
    pub(super) async fn attempt<T, F, R>(
        &self,
        index: usize,
        limit: Instant,
        request: &F,
        requested: i64,
    ) -> Result<T, Failure>
    where
        F: Fn(Client) -> R,
        R: Future<Output = Result<T, Error>>,
    {
        let begun = Instant::now();
        let answer = timeout_at(limit, async {
            let (client, login) = self.client(index).await?;
            match request(client).await {
                Err(error) if self.options.user.is_some() && is_login_over(&error) => {
                    self.log_out(index, login).await;
                    request(self.client(index).await?.0).await
                }
                answer => answer,
            }
        });
        match answer.await {
            Ok(answer) => answer.map_err(|error| classify(&error, requested)),
            Err(_) => {
                let limit = limit.saturating_duration_since(begun).as_secs_f32();
                Err(Failure::Lost { reason: format!("no answer within {limit:.1} s"), sent: true })
            }
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.slots.len()
    }

    /// One of them, for messages.
    pub(super) fn name(&self, index: usize) -> &str {
        &self.options.endpoints[index]
    }

    /// Notes that an endpoint answered.
    fn answered(&self, index: usize) {
        if self.slots[index].lost.swap(false, Ordering::Relaxed) {
            tracing::info!(endpoint = self.name(index), "the datastore endpoint answers again");
        }
    }

    /// Notes that an endpoint failed: the next request starts at its neighbour.
    fn failed(&self, index: usize, reason: &str) {
        let next = (index + 1) % self.slots.len();
        // Somebody else may have moved on already.
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
        // With one endpoint, who asked says it.
        if !self.slots[index].lost.swap(true, Ordering::Relaxed) && next != index {
            tracing::warn!(endpoint = self.name(index), reason, "a datastore endpoint does not answer");
        }
    }

    /// What each endpoint failed with; a single one is named by the error already.
    fn all(&self, reasons: &[(usize, String)]) -> String {
        if self.slots.len() == 1 {
            return reasons.iter().map(|(_, reason)| reason.as_str()).collect();
        }
        let named: Vec<String> =
            reasons.iter().map(|(index, reason)| format!("{}: {reason}", self.name(*index))).collect();
        named.join("; ")
    }

    /// The error of a request nobody answered.
    pub(super) fn unavailable(&self, reason: String) -> StoreError {
        StoreError::Unavailable { endpoints: self.names(), reason }
    }

    /// All endpoints, for messages.
    pub(super) fn names(&self) -> String {
        self.options.endpoints.join(",")
    }

    /// The client of an endpoint and its number, made on first use: authentication needs the server to be there.
    async fn client(&self, index: usize) -> Result<(Client, u64), Error> {
        let mut login = self.slots[index].login.lock().await;
        if let Some(client) = login.client.as_ref() {
            return Ok((client.clone(), login.count));
        }
        let endpoint = [self.options.endpoints[index].as_str()];
        let client = match Client::connect(endpoint, Some(self.connect_options(index, true))).await {
            // Upstream's client goes on without credentials when the cluster asks for none.
            Err(error) if is_auth_not_enabled(&error) => {
                Client::connect(endpoint, Some(self.connect_options(index, false))).await?
            }
            other => other?,
        };
        login.client = Some(client.clone());
        login.count += 1;
        Ok((client, login.count))
    }

    /// Forgets a client whose credentials the server takes no more, unless somebody replaced it already.
    async fn log_out(&self, index: usize, count: u64) {
        let mut login = self.slots[index].login.lock().await;
        if login.count == count {
            login.client = None;
        }
    }

    fn connect_options(&self, index: usize, with_user: bool) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.options.connect_timeout)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true);
        if let Some((name, password)) = self.options.user.as_ref().filter(|_| with_user) {
            options = options.with_user(name, password);
        }
        if self.options.endpoints[index].starts_with("https://") {
            options = options.with_tls(self.tls_options());
        }
        options
    }

    fn tls_options(&self) -> TlsOptions {
        let mut tls = match &self.options.tls.authorities {
            Some(pem) => TlsOptions::new().ca_certificate(Certificate::from_pem(pem)),
            None => TlsOptions::new().with_enabled_roots(),
        };
        if let Some((certificate, key)) = &self.options.tls.identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        tls
    }
}

/// When an attempt ends, with so many endpoints left to try. A member that hangs must leave time to ask the others.
fn limit(repeat: Repeat, deadline: Instant, left: usize) -> Instant {
    let now = Instant::now();
    match repeat {
        Repeat::Harmless if left > 1 => now + deadline.saturating_duration_since(now) / 2,
        Repeat::Harmless | Repeat::Never => deadline,
    }
}

/// The read that shows that a cluster works: linearizable, so that a member without a majority cannot answer it.
pub(super) async fn read_probe(client: Client) -> Result<(), Error> {
    client.kv_client().get(PROBE_KEY, None).await.map(drop)
}

/// Read to see whether a server answers; lies where the roles of a Calico user reach.
const PROBE_KEY: &str = "/calico/resources/v3/projectcalico.org/clusterinformations/default";
