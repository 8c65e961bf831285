//! FelixConfiguration (calico-datamodel 2.13, 8): parameters by name; [`crate::felix`] knows the names.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::Spec;
use crate::{Kind, felix};

/// Parameters of the data plane, of the cluster (`default`), of one node (`node.<name>`) or of selected nodes.
///
/// All parameters of upstream are held as they were written. Others are unknown fields like those of any kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct FelixConfigurationSpec {
    /// Parameters by their v3 name; never null.
    pub parameters: Map<String, Value>,
}

impl<'de> Deserialize<'de> for FelixConfigurationSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A struct rather than a map, so that a strict reader learns the names.
        deserializer.deserialize_struct("FelixConfigurationSpec", &felix::NAMES, Parameters)
    }
}

struct Parameters;

impl<'de> Visitor<'de> for Parameters {
    type Value = FelixConfigurationSpec;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<FelixConfigurationSpec, A::Error> {
        let mut parameters = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if felix::form(&name).is_none() {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            let value: Value = members.next_value()?;
            if !value.is_null() {
                parameters.insert(name, value);
            }
        }
        Ok(FelixConfigurationSpec { parameters })
    }
}

impl Spec for FelixConfigurationSpec {
    const KIND: Kind = Kind::FelixConfiguration;
    type Status = Value;
}

/// A FelixConfiguration.
pub type FelixConfiguration = super::Object<FelixConfigurationSpec>;
