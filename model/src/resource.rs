//! Resources: metadata plus a spec, one spec type a kind, and an enum over all of them.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Kind, ObjectMeta};

mod bgp;
mod bgp_filter;
mod cluster;
mod endpoint;
mod felix;
mod ip_pool;
mod ipam;
mod kube_controllers;
mod network_set;
mod node;
mod node_status;
mod policy;
mod staged;

pub use bgp::*;
pub use bgp_filter::*;
pub use cluster::*;
pub use endpoint::*;
pub use felix::*;
pub use ip_pool::*;
pub use ipam::*;
pub use kube_controllers::*;
pub use network_set::*;
pub use node::*;
pub use node_status::*;
pub use policy::*;
pub use staged::*;

/// The spec of one kind.
pub trait Spec: Clone + std::fmt::Debug + PartialEq + Default + Serialize + DeserializeOwned {
    /// The kind it belongs to.
    const KIND: Kind;
    /// Whether the stored JSON always carries `status`, `{}` when empty (calico-datamodel 1.2).
    const WRITES_STATUS: bool = false;
    /// The status of the kind: objects keep it as JSON, the type says which fields a document may have. [`Value`] for
    /// kinds that have none, or one we know nothing about.
    type Status: Default + Serialize + DeserializeOwned;
}

/// A resource of one kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object<S> {
    /// Identity, labels, revision.
    pub metadata: ObjectMeta,
    /// The kind's own fields.
    pub spec: S,
    /// Status as read; we only pass it on.
    pub status: Option<Value>,
    /// The JSON it was decoded from, so that fields unknown to us survive when it is written again.
    pub original: Original,
}

/// The JSON an object was read from. Never part of a comparison: it is no property of the object.
#[derive(Clone, Debug, Default)]
pub struct Original(pub Option<Box<Value>>);

impl PartialEq for Original {
    fn eq(&self, _: &Original) -> bool {
        true
    }
}

impl<S: Spec> Object<S> {
    /// A new object that was never stored.
    pub fn new(metadata: ObjectMeta, spec: S) -> Object<S> {
        Object { metadata, spec, status: None, original: Original::default() }
    }

    /// The key it is stored under.
    pub fn key(&self) -> crate::Key {
        crate::Key::resource(S::KIND, self.metadata.namespace.as_deref(), &self.metadata.name)
    }
}

macro_rules! any_resource {
    ($($(#[$doc:meta])* $variant:ident($spec:ty);)*) => {
        /// A resource of any kind.
        #[derive(Clone, Debug, PartialEq)]
        pub enum AnyResource {
            $($(#[$doc])* $variant(Object<$spec>),)*
        }

        impl AnyResource {
            /// Its kind.
            pub fn kind(&self) -> Kind {
                match self { $(AnyResource::$variant(_) => Kind::$variant,)* }
            }

            /// Its metadata.
            pub fn metadata(&self) -> &ObjectMeta {
                match self { $(AnyResource::$variant(o) => &o.metadata,)* }
            }

            /// Its metadata, to change.
            pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self { $(AnyResource::$variant(o) => &mut o.metadata,)* }
            }

            /// The JSON it was read from.
            pub fn original_mut(&mut self) -> &mut Original {
                match self { $(AnyResource::$variant(o) => &mut o.original,)* }
            }

            /// Its status, to change.
            pub fn status_mut(&mut self) -> &mut Option<Value> {
                match self { $(AnyResource::$variant(o) => &mut o.status,)* }
            }

            /// A resource of `kind` from a JSON document, strict about types, tolerant of unknown fields.
            pub(crate) fn from_value(kind: Kind, value: Value) -> Result<AnyResource, serde_json::Error> {
                match kind { $(Kind::$variant => crate::codec::object_from_value(value).map(AnyResource::$variant),)* }
            }

            /// The whole document, `kind` and `apiVersion` first.
            pub fn to_value(&self) -> Value {
                match self { $(AnyResource::$variant(o) => crate::codec::object_to_value(o),)* }
            }

            /// The same, as a newtype deserializer sees it: the fields of the kind's spec.
            /// Calls `visitor` with the concrete spec type.
            pub fn visit_spec_type<V: SpecVisitor>(kind: Kind, visitor: V) -> V::Output {
                match kind { $(Kind::$variant => visitor.visit::<$spec>(),)* }
            }
        }

        $(
            impl From<Object<$spec>> for AnyResource {
                fn from(object: Object<$spec>) -> AnyResource {
                    AnyResource::$variant(object)
                }
            }

            impl TryFrom<AnyResource> for Object<$spec> {
                type Error = AnyResource;

                fn try_from(any: AnyResource) -> Result<Object<$spec>, AnyResource> {
                    if let AnyResource::$variant(object) = any { Ok(object) } else { Err(any) }
                }
            }
        )*
    };
}

/// Calls back with the spec type of a kind; see [`AnyResource::visit_spec_type`].
pub trait SpecVisitor {
    /// What the call returns.
    type Output;
    /// Called with the spec type.
    fn visit<S: Spec>(self) -> Self::Output
    where
        Object<S>: Into<AnyResource>;
}

any_resource! {
    /// A BGPConfiguration.
    BgpConfiguration(BgpConfigurationSpec);
    /// A BGPFilter.
    BgpFilter(BgpFilterSpec);
    /// A BGPPeer.
    BgpPeer(BgpPeerSpec);
    /// A BlockAffinity.
    BlockAffinity(BlockAffinitySpec);
    /// A CalicoNodeStatus.
    CalicoNodeStatus(CalicoNodeStatusSpec);
    /// The ClusterInformation.
    ClusterInformation(ClusterInformationSpec);
    /// A FelixConfiguration.
    FelixConfiguration(FelixConfigurationSpec);
    /// A GlobalNetworkPolicy.
    GlobalNetworkPolicy(GlobalNetworkPolicySpec);
    /// A GlobalNetworkSet.
    GlobalNetworkSet(GlobalNetworkSetSpec);
    /// A HostEndpoint.
    HostEndpoint(HostEndpointSpec);
    /// The IPAMConfiguration.
    IpamConfiguration(IpamConfigurationSpec);
    /// An IPPool.
    IpPool(IpPoolSpec);
    /// An IPReservation.
    IpReservation(IpReservationSpec);
    /// The KubeControllersConfiguration.
    KubeControllersConfiguration(KubeControllersConfigurationSpec);
    /// A NetworkPolicy.
    NetworkPolicy(NetworkPolicySpec);
    /// A NetworkSet.
    NetworkSet(NetworkSetSpec);
    /// A Node.
    Node(NodeSpec);
    /// A Profile.
    Profile(ProfileSpec);
    /// A StagedGlobalNetworkPolicy.
    StagedGlobalNetworkPolicy(StagedGlobalNetworkPolicySpec);
    /// A StagedKubernetesNetworkPolicy.
    StagedKubernetesNetworkPolicy(StagedKubernetesNetworkPolicySpec);
    /// A StagedNetworkPolicy.
    StagedNetworkPolicy(StagedNetworkPolicySpec);
    /// A Tier.
    Tier(TierSpec);
    /// A WorkloadEndpoint.
    WorkloadEndpoint(WorkloadEndpointSpec);
}

/// A reference to one key of a Kubernetes secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretSource {
    /// The key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// Name and key of a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretKeyRef {
    /// Name of the secret.
    pub name: String,
    /// Key inside it.
    pub key: String,
    /// Whether it may be missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}
