//! What every cluster has: the ClusterInformation `default` and the built-in tiers (calico-datamodel 1.11, 2.9).
//!
//! What to write is computed from what is there, purely; [`ensure_initialized`] reads, writes, and takes time and ids
//! from the system. Never changes a tier that exists, nor a readiness somebody set.

use std::future::Future;

use tortie_model::resource::{ClusterInformation, ClusterInformationSpec, Tier, TierAction, TierSpec};
use tortie_model::{AnyResource, ObjectMeta};

use crate::{Client, ClientError};

/// Name of the ClusterInformation.
const DEFAULT: &str = "default";
/// Attempts at an update that others change meanwhile: every node of a cluster may start at once.
const ATTEMPTS: usize = 10;

/// What a new object is stamped with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// A random UUID.
    pub uid: String,
    /// RFC 3339, UTC, whole seconds.
    pub creation_timestamp: String,
}

impl Stamp {
    /// A fresh one, of now.
    pub fn now() -> Stamp {
        let seconds = jiff::Timestamp::now().as_second();
        let now =
            jiff::Timestamp::from_second(seconds).expect("the present is within the range of timestamps");
        Stamp { uid: uuid::Uuid::new_v4().to_string(), creation_timestamp: now.to_string() }
    }

    fn metadata(self, name: &str) -> ObjectMeta {
        ObjectMeta {
            uid: Some(self.uid),
            creation_timestamp: Some(self.creation_timestamp),
            ..ObjectMeta::named(name)
        }
    }
}

/// Makes what is missing: the ClusterInformation, with its version and types brought up to date, and the tiers
/// `default`, `kube-admin` and `kube-baseline`. Any number of nodes may do so at once.
///
/// `version` is the version of the data (`v3.x.y`); `None` leaves it as it is. `cluster_type` is a type or a comma list
/// of types to merge in, such as `bgp`.
///
/// # Errors
/// The store's, or [`ClientError::Conflict`] when others kept changing the ClusterInformation.
pub async fn ensure_initialized(
    client: &Client,
    version: Option<&str>,
    cluster_type: &str,
) -> Result<(), ClientError> {
    ensure_cluster(client, version, cluster_type).await?;
    for tier in built_in_tiers(Stamp::now) {
        unless_exists(client.create(tier.into())).await?;
    }
    Ok(())
}

async fn ensure_cluster(client: &Client, version: Option<&str>, types: &str) -> Result<(), ClientError> {
    for attempt in 1..=ATTEMPTS {
        let present = client.find::<ClusterInformationSpec>(None, DEFAULT).await?;
        let is_new = present.is_none();
        let guid = || uuid::Uuid::new_v4().simple().to_string();
        let Some(wanted) = cluster_information(present, version, types, Stamp::now, guid) else {
            return Ok(());
        };
        let written =
            if is_new { client.create(wanted.into()).await } else { client.update(wanted.into()).await };
        match written {
            Ok(_) => return Ok(()),
            Err(ClientError::AlreadyExists(_) | ClientError::Conflict(_) | ClientError::DoesNotExist(_))
                if attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn unless_exists(
    create: impl Future<Output = Result<AnyResource, ClientError>>,
) -> Result<(), ClientError> {
    match create.await {
        Ok(_) | Err(ClientError::AlreadyExists(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The ClusterInformation to write, or `None` when the present one is right.
pub fn cluster_information(
    present: Option<ClusterInformation>,
    version: Option<&str>,
    types: &str,
    stamp: impl FnOnce() -> Stamp,
    guid: impl FnOnce() -> String,
) -> Option<ClusterInformation> {
    let before = present.clone();
    let mut wanted = present.unwrap_or_else(|| {
        ClusterInformation::new(stamp().metadata(DEFAULT), ClusterInformationSpec::default())
    });
    let spec = &mut wanted.spec;
    if spec.cluster_guid.is_empty() {
        spec.cluster_guid = guid();
    }
    if let Some(version) = version {
        spec.calico_version = version.to_owned();
    }
    spec.cluster_type = merged(&spec.cluster_type, types);
    // Only an absent readiness is filled in: false is how an administrator stops the cluster's nodes.
    spec.datastore_ready.get_or_insert(true);
    (before.as_ref() != Some(&wanted)).then_some(wanted)
}

/// A comma list with the types of another that it lacks at its end.
fn merged(present: &str, more: &str) -> String {
    let mut all: Vec<&str> = present.split(',').filter(|t| !t.is_empty()).collect();
    for new in more.split(',').map(str::trim).filter(|t| !t.is_empty()) {
        if !all.contains(&new) {
            all.push(new);
        }
    }
    all.join(",")
}

/// The tiers every cluster has since Calico 3.32.
pub fn built_in_tiers(mut stamp: impl FnMut() -> Stamp) -> Vec<Tier> {
    let tiers = [
        ("default", 1_000_000.0, TierAction::Deny),
        ("kube-admin", 1000.0, TierAction::Pass),
        ("kube-baseline", 10_000_000.0, TierAction::Pass),
    ];
    tiers
        .into_iter()
        .map(|(name, order, action)| {
            let spec = TierSpec { order: Some(order), default_action: Some(action) };
            Tier::new(stamp().metadata(name), spec)
        })
        .collect()
}

#[cfg(test)]
mod tests;
