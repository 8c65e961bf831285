//! How the rest of the process talks to a running speaker. Levels go through `watch`: the newest value wins.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use tokio::sync::{mpsc, oneshot, watch};

use crate::SpeakerConfig;
use crate::query::{Explanation, Page, Query, QueryError};
use crate::snapshot::Snapshot;
use crate::table::OriginatedRoute;

/// All originated routes.
pub(super) type Originated = BTreeMap<IpNetwork, OriginatedRoute>;

/// A running speaker. When the last clone is dropped the speaker stops as by [`Handle::shutdown`].
#[derive(Clone, Debug)]
pub struct Handle {
    config: Arc<watch::Sender<Option<SpeakerConfig>>>,
    originated: Arc<watch::Sender<Option<Originated>>>,
    requests: mpsc::Sender<Request>,
}

/// A question.
#[derive(Debug)]
pub(super) enum Request {
    Snapshot(oneshot::Sender<Snapshot>),
    Routes(Query, oneshot::Sender<Result<Page, QueryError>>),
    Explain(IpNetwork, Option<String>, oneshot::Sender<Result<Explanation, QueryError>>),
    Shutdown(oneshot::Sender<()>),
}

/// The other end of [`Handle`].
#[derive(Debug)]
pub(super) struct Commands {
    pub(super) config: watch::Receiver<Option<SpeakerConfig>>,
    pub(super) originated: watch::Receiver<Option<Originated>>,
    pub(super) requests: mpsc::Receiver<Request>,
}

pub(super) fn channel(config: Option<SpeakerConfig>) -> (Handle, Commands) {
    let (config_sender, mut config) = watch::channel(config);
    config.mark_changed();
    let (originated_sender, originated) = watch::channel(None);
    let (requests_sender, requests) = mpsc::channel(16);
    let handle = Handle {
        config: Arc::new(config_sender),
        originated: Arc::new(originated_sender),
        requests: requests_sender,
    };
    (handle, Commands { config, originated, requests })
}

impl Handle {
    /// Replaces the configuration. Only what differs is touched.
    pub fn configure(&self, config: SpeakerConfig) {
        self.config.send_replace(Some(config));
    }

    /// Replaces the set of originated routes. To be called once at least, even with nothing to originate.
    pub fn originate(&self, routes: BTreeMap<IpNetwork, OriginatedRoute>) {
        self.originated.send_replace(Some(routes));
    }

    /// The speaker as it is now; empty when it has stopped.
    pub async fn snapshot(&self) -> Snapshot {
        let (answer, receiver) = oneshot::channel();
        if self.requests.send(Request::Snapshot(answer)).await.is_err() {
            return Snapshot::default();
        }
        receiver.await.unwrap_or_default()
    }

    /// A page of routes.
    ///
    /// # Errors
    /// A peer that is not known, or a speaker that has stopped.
    pub async fn routes(&self, query: Query) -> Result<Page, QueryError> {
        self.ask(|answer| Request::Routes(query, answer)).await
    }

    /// Everything about a prefix, or about the longest one that holds it; `peer` narrows down who is told what.
    ///
    /// # Errors
    /// A peer that is not known, or a speaker that has stopped.
    pub async fn explain(&self, prefix: IpNetwork, peer: Option<String>) -> Result<Explanation, QueryError> {
        self.ask(|answer| Request::Explain(prefix, peer, answer)).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, QueryError>>) -> Request,
    ) -> Result<T, QueryError> {
        let (answer, receiver) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| QueryError::Stopped)?;
        receiver.await.unwrap_or(Err(QueryError::Stopped))
    }

    /// Stops cleanly and returns when all connections are closed.
    ///
    /// No Cease is sent: the kernel forwards on without this process, and a NOTIFICATION would make peers drop our
    /// routes at once (RFC 4724 4). A closed connection makes them keep the routes for the restart time announced.
    pub async fn shutdown(&self) {
        let (answer, receiver) = oneshot::channel();
        if self.requests.send(Request::Shutdown(answer)).await.is_ok() {
            // An error only says that the speaker has stopped already.
            receiver.await.ok();
        }
    }
}
