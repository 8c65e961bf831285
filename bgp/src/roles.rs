//! Route leaks (RFC 9234): what the role of a session says about its routes. Pure.
//!
//! A route that went down to a customer, or sideways to a peer, carries *Only to Customer* (OTC), and may from there on
//! only go further down. Roles are those of external sessions; unicast only, which is all we carry.

use std::fmt;

use crate::config::Role;
use crate::wire::PathAttributes;

/// Why a route is not eligible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leak {
    /// The customer or client got it from another provider or peer of its own.
    FromBelow {
        /// AS number in the attribute.
        otc: u32,
    },
    /// The peer passes on what is not its own or its customers'.
    FromPeer {
        /// AS number in the attribute.
        otc: u32,
    },
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leak::FromBelow { otc } => {
                write!(f, "route leak: from below, though only for customers since AS {otc} (RFC 9234)")
            }
            Leak::FromPeer { otc } => {
                write!(f, "route leak: from a peer, though only for customers since AS {otc} (RFC 9234)")
            }
        }
    }
}

/// Judges a received route where we are `own` and the other end is AS `remote_as`, and marks what came from above or
/// beside.
pub(crate) fn ingress(own: Role, remote_as: u32, attributes: &mut PathAttributes<'_>) -> Result<(), Leak> {
    match (own, attributes.only_to_customer) {
        (Role::Provider | Role::RouteServer, Some(otc)) => Err(Leak::FromBelow { otc }),
        (Role::Provider | Role::RouteServer, None) => Ok(()),
        (Role::Peer, Some(otc)) if otc != remote_as => Err(Leak::FromPeer { otc }),
        (Role::Peer | Role::Customer | Role::RouteServerClient, _) => {
            attributes.only_to_customer.get_or_insert(remote_as);
            Ok(())
        }
    }
}

/// Whether a route may be announced where we are `own` with the AS number `local_as`; marks what goes down or beside.
pub(crate) fn egress(own: Role, local_as: u32, attributes: &mut PathAttributes<'_>) -> bool {
    match own {
        Role::Customer | Role::RouteServerClient => attributes.only_to_customer.is_none(),
        Role::Peer if attributes.only_to_customer.is_some() => false,
        Role::Peer | Role::Provider | Role::RouteServer => {
            attributes.only_to_customer.get_or_insert(local_as);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u32 = 64512;
    const THEM: u32 = 65000;
    const OTHER: u32 = 65001;
    const ROLES: [Role; 5] =
        [Role::Provider, Role::RouteServer, Role::RouteServerClient, Role::Customer, Role::Peer];

    fn route(only_to_customer: Option<u32>) -> PathAttributes<'static> {
        PathAttributes { only_to_customer, ..PathAttributes::originated([10, 0, 0, 1].into()) }
    }

    /// RFC 9234 5, the three rules for what is received, for each role and each state of the attribute.
    #[test]
    fn what_is_received() {
        for own in ROLES {
            for otc in [None, Some(THEM), Some(OTHER)] {
                let mut attributes = route(otc);
                let judged = ingress(own, THEM, &mut attributes);
                let expected = match (own, otc) {
                    (Role::Provider | Role::RouteServer, Some(otc)) => Err(Leak::FromBelow { otc }),
                    (Role::Peer, Some(OTHER)) => Err(Leak::FromPeer { otc: OTHER }),
                    _ => Ok(()),
                };
                assert_eq!(judged, expected, "{own} {otc:?}");
                let marked = match (own, otc) {
                    (Role::Provider | Role::RouteServer, None) => None,
                    (_, None) => Some(THEM),
                    (_, otc) => otc,
                };
                assert_eq!(attributes.only_to_customer, marked, "{own} {otc:?}");
            }
        }
    }

    /// The two rules for what is sent.
    #[test]
    fn what_is_sent() {
        for own in ROLES {
            let down = [Role::Provider, Role::RouteServer].contains(&own);
            let mut marked = route(Some(OTHER));
            assert_eq!(egress(own, US, &mut marked), down, "{own}");
            assert_eq!(marked.only_to_customer, Some(OTHER), "never changed once it is there");
            let mut unmarked = route(None);
            assert!(egress(own, US, &mut unmarked));
            let expected = (down || own == Role::Peer).then_some(US);
            assert_eq!(unmarked.only_to_customer, expected, "{own}");
        }
    }

    /// A customer with two providers: what one told it does not reach the other, whatever it configures beside roles.
    #[test]
    fn a_route_never_goes_up_again() {
        for above in [Role::Customer, Role::RouteServerClient, Role::Peer] {
            for next in [Role::Customer, Role::RouteServerClient, Role::Peer] {
                let mut attributes = route(None);
                ingress(above, THEM, &mut attributes).unwrap();
                assert!(!egress(next, US, &mut attributes), "from {above} to {next}");
            }
        }
    }
}
