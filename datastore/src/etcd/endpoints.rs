//! The endpoints of a cluster: one client each, connected when first used, and which one is asked.
//!
//! One endpoint is used until it fails, then the next one. Requests that must not happen twice move on only when
//! the failed endpoint was never reached. Every call ends by its deadline.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use futures::stream::FuturesUnordered;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tokio_stream::StreamExt;

use super::EtcdOptions;
use super::error::{Failure, classify, is_auth_not_enabled};
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
    clients: Vec<Mutex<Option<Client>>>,
    current: AtomicUsize,
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
        let clients = options.endpoints.iter().map(|_| Mutex::new(None)).collect();
        Ok(Endpoints { options, clients, current: AtomicUsize::new(0) })
    }

    /// The limit of a request.
    pub(super) fn deadline(&self) -> Duration {
        self.options.deadline
    }

    /// Asks all endpoints at once and starts with the first that answers.
    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        let deadline = Instant::now() + self.options.deadline;
        let mut answers: FuturesUnordered<_> = (0..self.clients.len())
            .map(|index| async move {
                let probe = |client: Client| async move { client.kv_client().get(PROBE_KEY, None).await };
                (index, self.attempt(index, deadline, &probe, 0).await)
            })
            .collect();
        let mut reasons = Vec::new();
        while let Some((index, answer)) = answers.next().await {
            match answer {
                Ok(_) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(());
                }
                Err(Failure::Answered(error)) => return Err(error),
                Err(Failure::Lost { reason, .. }) => reasons.push(reason),
            }
        }
        reasons.dedup();
        Err(self.unavailable(reasons.join("; ")))
    }

    /// Sends a request to the current endpoint, and to the others in turn as far as `repeat` allows.
    pub(super) async fn call<T, F, R>(&self, repeat: Repeat, request: F) -> Result<T, StoreError>
    where
        F: Fn(Client) -> R,
        R: Future<Output = Result<T, Error>>,
    {
        let count = self.clients.len();
        let deadline = Instant::now() + self.options.deadline;
        let first = self.current.load(Ordering::Relaxed);
        let mut last = String::new();
        for step in 0..count {
            let index = (first + step) % count;
            let others_left = step + 1 < count;
            // A member that hangs must leave time to ask another one.
            let limit = match repeat {
                Repeat::Harmless if others_left => deadline.min(Instant::now() + self.options.deadline / 2),
                Repeat::Harmless | Repeat::Never => deadline,
            };
            match self.attempt(index, limit, &request, 0).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Answered(error)) => return Err(error),
                Err(Failure::Lost { reason, sent }) => {
                    self.failed(index);
                    last = reason;
                    if (sent && repeat == Repeat::Never) || Instant::now() >= deadline {
                        break;
                    }
                }
            }
        }
        Err(self.unavailable(last))
    }

    /// One request to one endpoint.
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
        let answer = timeout_at(limit, async { request(self.client(index).await?).await }).await;
        match answer {
            Ok(answer) => answer.map_err(|error| classify(&error, requested)),
            Err(_) => {
                let reason = format!(
                    "no answer from {} within {:?}",
                    self.options.endpoints[index], self.options.deadline
                );
                Err(Failure::Lost { reason, sent: true })
            }
        }
    }

    /// The endpoint requests go to first.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Notes that an endpoint failed: the next request starts at its neighbour.
    pub(super) fn failed(&self, index: usize) {
        let next = (index + 1) % self.clients.len();
        // Somebody else may have moved on already.
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The error of a request nobody answered.
    pub(super) fn unavailable(&self, reason: String) -> StoreError {
        StoreError::Unavailable { endpoints: self.names(), reason }
    }

    /// All endpoints, for messages.
    pub(super) fn names(&self) -> String {
        self.options.endpoints.join(",")
    }

    /// The client of an endpoint, made on first use: authentication needs the server to be there.
    async fn client(&self, index: usize) -> Result<Client, Error> {
        let mut slot = self.clients[index].lock().await;
        if let Some(client) = slot.as_ref() {
            return Ok(client.clone());
        }
        let endpoint = [self.options.endpoints[index].as_str()];
        let client = match Client::connect(endpoint, Some(self.connect_options(index, true))).await {
            // Upstream's client goes on without credentials when the cluster asks for none.
            Err(error) if is_auth_not_enabled(&error) => {
                Client::connect(endpoint, Some(self.connect_options(index, false))).await?
            }
            other => other?,
        };
        *slot = Some(client.clone());
        Ok(client)
    }

    fn connect_options(&self, index: usize, with_user: bool) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.options.connect_timeout)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            .with_keep_alive_while_idle(false)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
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

/// Read to see whether a server answers; lies where the roles of a Calico user reach.
const PROBE_KEY: &str = "/calico/resources/v3/projectcalico.org/clusterinformations/default";
