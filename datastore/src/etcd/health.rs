//! How each endpoint of a cluster is: what it says of itself, and whether it can serve a read that the majority vouches
//! for.

use etcd_client::{Client, StatusResponse};
use futures::future::join_all;
use tokio::time::Instant;

use super::endpoints::{Endpoints, read_probe};
use super::error::Failure;
use crate::StoreError;

/// One endpoint and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointHealth {
    /// As configured.
    pub endpoint: String,
    /// What the member says of itself; `None` when it does not answer.
    pub member: Option<MemberStatus>,
    /// Why nothing should be asked of it; empty when it is healthy.
    pub problems: Vec<String>,
}

/// A member's own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Of the server.
    pub version: String,
    /// Whether it leads, follows, or only learns.
    pub role: Role,
    /// Revision of its store; members that lag have a lower one.
    pub revision: i64,
    /// Size of its database file, octets.
    pub size: i64,
    /// The cluster it belongs to.
    pub cluster: u64,
}

/// A member's part in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Writes pass through it.
    Leader,
    /// It votes.
    Follower,
    /// It does not vote, and answers no reads.
    Learner,
}

/// Asks all at once.
pub(super) async fn ask(endpoints: &Endpoints) -> Vec<EndpointHealth> {
    let mut all = join_all((0..endpoints.count()).map(|index| ask_one(endpoints, index))).await;
    // A member of another cluster would serve other data whenever it is its turn.
    let cluster = all.iter().find_map(|one| Some((one.endpoint.clone(), one.member.as_ref()?.cluster)));
    if let Some((first, cluster)) = cluster {
        for one in &mut all {
            if one.member.as_ref().is_some_and(|member| member.cluster != cluster) {
                one.problems.push(format!("belongs to another cluster than {first}"));
            }
        }
    }
    all
}

async fn ask_one(endpoints: &Endpoints, index: usize) -> EndpointHealth {
    let deadline = Instant::now() + endpoints.deadline();
    let status = |client: Client| async move { client.maintenance_client().status().await };
    let mut problems = Vec::new();
    let (status, read) = tokio::join!(
        endpoints.attempt(index, deadline, &status, 0),
        endpoints.attempt(index, deadline, &read_probe, 0)
    );
    let member = match status {
        Ok(status) => {
            problems.extend(status.errors().iter().cloned());
            Some(member(&status))
        }
        Err(failure) => {
            problems.push(words(failure));
            None
        }
    };
    if let Err(failure) = read {
        let reason = words(failure);
        if !problems.contains(&reason) {
            problems.push(reason);
        }
    }
    EndpointHealth { endpoint: endpoints.name(index).to_owned(), member, problems }
}

fn member(status: &StatusResponse) -> MemberStatus {
    let header = status.header();
    let id = header.map_or(0, |header| header.member_id());
    let role = match () {
        () if status.is_learner() => Role::Learner,
        () if status.leader() == id => Role::Leader,
        () => Role::Follower,
    };
    MemberStatus {
        version: status.version().to_owned(),
        role,
        revision: header.map_or(0, |header| header.revision()),
        size: status.db_size(),
        cluster: header.map_or(0, |header| header.cluster_id()),
    }
}

fn words(failure: Failure) -> String {
    match failure {
        Failure::Answered(StoreError::Refused { reason }) | Failure::Lost { reason, .. } => reason,
        Failure::Answered(error) => error.to_string(),
    }
}
