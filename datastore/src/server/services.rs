//! The unary services of etcd's API: KV, Lease, Cluster and Maintenance. Each method is a call into the engine.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use etcd_client::proto::{
    PbAlarmMember, PbAlarmRequest, PbAlarmResponse, PbClusterService, PbCompactionRequest,
    PbCompactionResponse, PbDefragmentRequest, PbDefragmentResponse, PbDeleteRequest, PbDeleteResponse,
    PbDowngradeRequest, PbDowngradeResponse, PbHashKvRequest, PbHashKvResponse, PbHashRequest,
    PbHashResponse, PbKvService, PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest,
    PbLeaseKeepAliveResponse, PbLeaseLeasesRequest, PbLeaseLeasesResponse, PbLeaseRevokeRequest,
    PbLeaseRevokeResponse, PbLeaseService, PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
    PbMaintenanceService, PbMember, PbMemberAddRequest, PbMemberAddResponse, PbMemberListRequest,
    PbMemberListResponse, PbMemberPromoteRequest, PbMemberPromoteResponse, PbMemberRemoveRequest,
    PbMemberRemoveResponse, PbMemberUpdateRequest, PbMemberUpdateResponse, PbMoveLeaderRequest,
    PbMoveLeaderResponse, PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse,
    PbRangeStreamResponse, PbSnapshotRequest, PbSnapshotResponse, PbStatusRequest, PbStatusResponse,
    PbTxnRequest, PbTxnResponse,
};
use futures::Stream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::engine::Handle;
use super::error::Refusal;
use super::limits::Gates;
use super::{snapshot, txn};

/// The etcd whose API this is, and who answers, as a semantic version.
const VERSION: &str = concat!("3.5.0+tortie-", env!("CARGO_PKG_VERSION"));

/// `AlarmType.NOSPACE` of the protocol.
const NO_SPACE: i32 = 1;

/// Answers that come as a stream.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// All services; clones share the engine.
#[derive(Clone, Debug)]
pub(super) struct Services {
    pub(super) engine: Handle,
    /// True once the server stops: streams end then.
    pub(super) stopping: watch::Receiver<bool>,
    /// Where it listens.
    pub(super) url: String,
    pub(super) gates: Gates,
    /// Where snapshots are put together.
    pub(super) data_dir: Arc<Path>,
}

fn unsupported<T>(what: &'static str) -> Result<Response<T>, Status> {
    Err(Refusal::Unsupported(what).into())
}

/// etcd's service of users, which is not there. Every request is told so, where tonic would answer without a word.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoUsers;

impl NamedService for NoUsers {
    const NAME: &'static str = "etcdserverpb.Auth";
}

impl Service<http::Request<Body>> for NoUsers {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        ready(Ok(Status::from(Refusal::Unsupported("Auth")).into_http()))
    }
}

#[async_trait]
impl PbKvService for Services {
    type RangeStreamStream = Answers<PbRangeStreamResponse>;

    async fn range(&self, request: Request<PbRangeRequest>) -> Result<Response<PbRangeResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.engine.call(move |work| work.state.range(&request)).await?))
    }

    async fn range_stream(
        &self,
        _: Request<PbRangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        unsupported("RangeStream")
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        let (request, limit) = (request.into_inner(), self.gates.limits.bytes);
        let answer = self.engine.call(move |work| {
            work.state.check_space(limit)?;
            work.state.put(request, work.log)
        });
        Ok(Response::new(answer.await?))
    }

    async fn delete_range(
        &self,
        request: Request<PbDeleteRequest>,
    ) -> Result<Response<PbDeleteResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.engine.call(move |work| work.state.delete(&request, work.log)).await?))
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        let (request, limit) = (request.into_inner(), self.gates.limits.bytes);
        let answer = self.engine.call(move |work| {
            if txn::puts(&request) {
                work.state.check_space(limit)?;
            }
            work.state.txn(request, work.log)
        });
        Ok(Response::new(answer.await?))
    }

    async fn compact(
        &self,
        request: Request<PbCompactionRequest>,
    ) -> Result<Response<PbCompactionResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.engine.call(move |work| work.state.compact(request, work.log)).await?))
    }
}

#[async_trait]
impl PbLeaseService for Services {
    type LeaseKeepAliveStream = Answers<PbLeaseKeepAliveResponse>;

    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Result<Response<PbLeaseGrantResponse>, Status> {
        let mut request = request.into_inner();
        if request.id == 0 {
            request.id = random_lease();
        }
        let limit = self.gates.limits.bytes;
        let grant = self.engine.call(move |work| {
            work.state.check_space(limit)?;
            work.state.grant(request, work.now, work.log)
        });
        Ok(Response::new(grant.await?))
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Result<Response<PbLeaseRevokeResponse>, Status> {
        let id = request.into_inner().id;
        Ok(Response::new(self.engine.call(move |work| work.state.revoke(id, work.log)).await?))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let place = self.gates.stream()?;
        let (sender, answers) = mpsc::channel(4);
        let mut requests = request.into_inner();
        let Services { engine, mut stopping, .. } = self.clone();
        tokio::spawn(async move {
            let _place = place;
            loop {
                let request = tokio::select! {
                    request = requests.message() => request,
                    _ = stopping.wait_for(|stop| *stop) => return,
                };
                let Ok(Some(PbLeaseKeepAliveRequest { id })) = request else { return };
                let answer = engine.call(move |work| Ok(work.state.keep_alive(id, work.now))).await;
                if sender.send(answer.map_err(Status::from)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<PbLeaseTimeToLiveRequest>,
    ) -> Result<Response<PbLeaseTimeToLiveResponse>, Status> {
        let request = request.into_inner();
        let answer = self.engine.call(move |work| Ok(work.state.time_to_live(request, work.now)));
        Ok(Response::new(answer.await?))
    }

    async fn lease_leases(
        &self,
        _: Request<PbLeaseLeasesRequest>,
    ) -> Result<Response<PbLeaseLeasesResponse>, Status> {
        Ok(Response::new(self.engine.call(|work| Ok(work.state.leases())).await?))
    }
}

/// A positive number nobody else has.
fn random_lease() -> i64 {
    (uuid::Uuid::new_v4().as_u64_pair().0 >> 1).cast_signed().max(1)
}

#[async_trait]
impl PbClusterService for Services {
    async fn member_add(
        &self,
        _: Request<PbMemberAddRequest>,
    ) -> Result<Response<PbMemberAddResponse>, Status> {
        unsupported("MemberAdd")
    }

    async fn member_remove(
        &self,
        _: Request<PbMemberRemoveRequest>,
    ) -> Result<Response<PbMemberRemoveResponse>, Status> {
        unsupported("MemberRemove")
    }

    async fn member_update(
        &self,
        _: Request<PbMemberUpdateRequest>,
    ) -> Result<Response<PbMemberUpdateResponse>, Status> {
        unsupported("MemberUpdate")
    }

    async fn member_list(
        &self,
        _: Request<PbMemberListRequest>,
    ) -> Result<Response<PbMemberListResponse>, Status> {
        let url = self.url.clone();
        let answer = self.engine.call(move |work| {
            let member = PbMember {
                id: work.state.identity.member,
                name: "embedded".to_owned(),
                client_ur_ls: vec![url],
                ..PbMember::default()
            };
            Ok(PbMemberListResponse { header: work.state.header(), members: vec![member] })
        });
        Ok(Response::new(answer.await?))
    }

    async fn member_promote(
        &self,
        _: Request<PbMemberPromoteRequest>,
    ) -> Result<Response<PbMemberPromoteResponse>, Status> {
        unsupported("MemberPromote")
    }
}

#[async_trait]
impl PbMaintenanceService for Services {
    type SnapshotStream = Answers<PbSnapshotResponse>;

    async fn alarm(&self, _: Request<PbAlarmRequest>) -> Result<Response<PbAlarmResponse>, Status> {
        let limit = self.gates.limits.bytes;
        let answer = self.engine.call(move |work| {
            let full = work.state.check_space(limit).is_err();
            let alarm = PbAlarmMember { member_id: work.state.identity.member, alarm: NO_SPACE };
            let alarms = full.then_some(alarm).into_iter().collect();
            Ok(PbAlarmResponse { header: work.state.header(), alarms })
        });
        Ok(Response::new(answer.await?))
    }

    async fn status(&self, _: Request<PbStatusRequest>) -> Result<Response<PbStatusResponse>, Status> {
        let answer = self.engine.call(|work| {
            let revision = work.state.keyspace.revision().unsigned_abs();
            let size = i64::try_from(work.size).unwrap_or(i64::MAX);
            Ok(PbStatusResponse {
                header: work.state.header(),
                version: VERSION.to_owned(),
                db_size: size,
                db_size_in_use: size,
                leader: work.state.identity.member,
                raft_index: revision,
                raft_applied_index: revision,
                raft_term: 1,
                ..PbStatusResponse::default()
            })
        });
        Ok(Response::new(answer.await?))
    }

    async fn defragment(
        &self,
        _: Request<PbDefragmentRequest>,
    ) -> Result<Response<PbDefragmentResponse>, Status> {
        self.engine.shrink().await?;
        let header = self.engine.call(|work| Ok(work.state.header())).await?;
        Ok(Response::new(PbDefragmentResponse { header }))
    }

    async fn hash(&self, _: Request<PbHashRequest>) -> Result<Response<PbHashResponse>, Status> {
        unsupported("Hash")
    }

    async fn hash_kv(&self, _: Request<PbHashKvRequest>) -> Result<Response<PbHashKvResponse>, Status> {
        unsupported("HashKV")
    }

    async fn snapshot(
        &self,
        _: Request<PbSnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let place = self.gates.snapshot()?;
        let image = self.engine.image().await?;
        let blobs = snapshot::stream(image, self.data_dir.clone(), place);
        Ok(Response::new(Box::pin(blobs)))
    }

    async fn move_leader(
        &self,
        _: Request<PbMoveLeaderRequest>,
    ) -> Result<Response<PbMoveLeaderResponse>, Status> {
        unsupported("MoveLeader")
    }

    async fn downgrade(
        &self,
        _: Request<PbDowngradeRequest>,
    ) -> Result<Response<PbDowngradeResponse>, Status> {
        unsupported("Downgrade")
    }
}
