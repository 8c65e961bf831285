//! Calico's data model as plain values: resource types, keys of the etcd v3 layout, stored JSON, selectors,
//! validation, the old v1 form and the arithmetic of IPAM blocks.
//!
//! No IO, no clocks, no client libraries: every other crate may depend on this one, and it depends on none of ours.
//!
//! | module | what it owns |
//! |---|---|
//! | [`kind`] | the kinds: names, plurals, scope, aliases |
//! | [`meta`], [`resource`] | metadata, one spec type a kind, [`AnyResource`] |
//! | [`scalar`], [`rule`] | ports, protocols, AS numbers; policy rules |
//! | [`key`] | keys in the store and their text |
//! | [`codec`] | stored JSON to resource and back; unknown fields survive |
//! | [`felix`] | the parameters of a FelixConfiguration |
//! | [`ipam`] | blocks, affinities, handles: their JSON and arithmetic |
//! | [`local_api`] | messages between the agent and its local clients: CNI plugin, tortiectl |
//! | [`names`] | composed names: workload endpoints, interfaces, escapes |
//! | [`policy_name`] | stored names of policies and the names users know them by |
//! | [`selector`] | the selector language |
//! | [`strict`] | users' documents: strict reading, every mistake with its path |
//! | [`v1`] | the old v1 form, converted |
//! | [`defaults`], [`validate`] | stored defaults; rules of each kind beyond its types |

pub mod codec;
pub mod defaults;
pub mod felix;
pub mod ipam;
pub mod key;
pub mod kind;
pub mod kubernetes_policy;
pub mod local_api;
pub mod meta;
pub mod names;
pub mod policy_name;
pub mod resource;
pub mod rule;
pub mod scalar;
pub mod selector;
pub mod strict;
pub mod v1;
pub mod validate;

pub use codec::DecodeError;
pub use key::Key;
pub use kind::Kind;
pub use meta::ObjectMeta;
pub use resource::{AnyResource, Object, Spec};

/// The `apiVersion` of every v3 resource.
pub const API_VERSION: &str = "projectcalico.org/v3";

/// AS number of a node when neither it nor the BGPConfiguration `default` says otherwise.
pub const DEFAULT_AS_NUMBER: u32 = 64512;
