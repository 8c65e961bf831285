//! Addresses nobody gets unasked: the IPReservation resources (calico-datamodel 2.8, 4.3 step 1). Pure.
//!
//! The reader is tolerant of fields it does not know and of a resource without reservations, but not of a range it
//! cannot read: an address that was reserved would be given out.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use crate::store::KeyValue;

/// Prefix of their keys.
pub(super) const PREFIX: &str = "/calico/resources/v3/projectcalico.org/ipreservations/";

/// A reservation that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "IPReservation {key} cannot be read: {reason}; repair or delete it, no address is given out until then"
)]
pub struct ReservationFault {
    /// Its key.
    key: String,
    /// What is wrong with it.
    reason: String,
}

/// All reserved ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reservations(Vec<IpNetwork>);

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    spec: Option<Spec>,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(rename = "reservedCIDRs", default)]
    reserved_cidrs: Option<Vec<String>>,
}

impl Reservations {
    /// Reads stored resources.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub(super) fn read(entries: &[KeyValue]) -> Result<Reservations, ReservationFault> {
        let mut ranges = Vec::new();
        for entry in entries {
            let refused = |reason: String| ReservationFault { key: entry.key.clone(), reason };
            let document: Document =
                serde_json::from_slice(&entry.value).map_err(|error| refused(error.to_string()))?;
            for text in document.spec.and_then(|spec| spec.reserved_cidrs).unwrap_or_default() {
                let range = text.trim().parse::<IpNetwork>().map_err(|_| {
                    refused(format!(
                        "spec.reservedCIDRs has '{text}', which is neither an address nor a CIDR"
                    ))
                })?;
                ranges.push(range);
            }
        }
        Ok(Reservations(ranges))
    }

    /// Whether an address is reserved.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }

    /// Whether one reservation has the whole of `network`.
    pub(super) fn covers(&self, network: &IpNetwork) -> bool {
        self.0.iter().any(|range| range.contains(network.network()) && range.prefix() <= network.prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: &str) -> KeyValue {
        let key = format!("{PREFIX}r");
        KeyValue { key, value: value.as_bytes().to_vec(), create_revision: 1, mod_revision: 1 }
    }

    #[test]
    fn addresses_and_ranges_are_read_and_nothing_else_is_needed() {
        let read = Reservations::read(&[
            entry(r#"{"kind":"IPReservation","spec":{"reservedCIDRs":["10.0.0.1","10.0.1.0/26","fd00::/64"],"new":1}}"#),
            entry(r#"{"spec":{"reservedCIDRs":null}}"#),
            entry("{}"),
        ])
        .unwrap();
        for (address, reserved) in [
            ("10.0.0.1", true),
            ("10.0.0.2", false),
            ("10.0.1.63", true),
            ("10.0.1.64", false),
            ("fd00::9", true),
        ] {
            assert_eq!(read.contains(address.parse().unwrap()), reserved, "{address}");
        }
        for (network, covered) in [
            ("10.0.1.0/28", true),
            ("10.0.1.0/26", true),
            ("10.0.1.0/25", false),
            ("10.0.0.1/32", true),
            ("fd00::/122", true),
        ] {
            assert_eq!(read.covers(&network.parse().unwrap()), covered, "{network}");
        }
    }

    #[test]
    fn damage_is_an_error_that_names_the_key() {
        for (value, reason) in [
            (r#"{"spec":{"reservedCIDRs":["10.0.0.0/33"]}}"#, "has '10.0.0.0/33', which is neither"),
            (r#"{"spec":{"reservedCIDRs":"10.0.0.0/8"}}"#, "invalid type"),
            ("", "EOF"),
        ] {
            let error = Reservations::read(&[entry(value)]).unwrap_err().to_string();
            assert!(error.contains("ipreservations/r") && error.contains(reason), "{error}");
        }
    }
}
