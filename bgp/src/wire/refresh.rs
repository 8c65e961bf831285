//! ROUTE-REFRESH (RFC 2918) with the marks of its enhancement (RFC 7313).

use super::frame::{Kind, message};
use super::take;
use crate::family::Family;

/// What a ROUTE-REFRESH says of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subtype {
    /// Send all routes once more.
    Request,
    /// BoRR: all routes follow.
    Begin,
    /// EoRR: these were all.
    End,
}

impl Subtype {
    fn code(self) -> u8 {
        match self {
            Subtype::Request => 0,
            Subtype::Begin => 1,
            Subtype::End => 2,
        }
    }

    /// Others have no meaning and are ignored (RFC 7313 5).
    #[must_use]
    pub fn from_code(code: u8) -> Option<Subtype> {
        [Subtype::Request, Subtype::Begin, Subtype::End].into_iter().find(|subtype| subtype.code() == code)
    }
}

/// The whole message.
#[must_use]
pub fn encode(family: Family, subtype: Subtype) -> Vec<u8> {
    let [high, low] = family.afi().to_be_bytes();
    message(Kind::Refresh, |out| out.extend([high, low, subtype.code(), 1]))
}

/// A message body's family and subtype; `None` for families we do not carry and subtypes without a meaning.
#[must_use]
pub fn decode(body: &[u8]) -> Option<(Family, Subtype)> {
    let ([high, low, subtype, safi], _) = take::<4>(body)?;
    Some((Family::from_code(u16::from_be_bytes([high, low]), safi)?, Subtype::from_code(subtype)?))
}
