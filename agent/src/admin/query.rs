//! The query of a request: `name=value` pairs, percent-encoded.

use super::Failure;
use axum::http::StatusCode;

/// Names and values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// Takes a query apart.
    ///
    /// # Errors
    /// A pair whose name is not among `known`, or that is no text.
    pub(super) fn parse(query: &str, known: &[&str]) -> Result<Pairs, Failure> {
        let pair = |text: &str| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            if !known.contains(&name) {
                let reason = format!("unknown parameter '{name}'; parameters are {}", known.join(", "));
                return Err(Failure(StatusCode::BAD_REQUEST, reason));
            }
            let refused =
                || Failure(StatusCode::BAD_REQUEST, format!("parameter {name} is no text: {value}"));
            Ok((name.to_owned(), decoded(value).ok_or_else(refused)?))
        };
        let pairs = query.split('&').filter(|text| !text.is_empty()).map(pair);
        Ok(Pairs(pairs.collect::<Result<_, _>>()?))
    }

    /// The value of a name; an empty one is none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// Without percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        octets.push(match first {
            b'%' => {
                let (digits, tail) = rest.split_at_checked(2)?;
                rest = tail;
                let digit = |octet: u8| char::from(octet).to_digit(16);
                u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()?
            }
            b'+' => b' ',
            octet => *octet,
        });
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_taken_apart() {
        let pairs = Pairs::parse("prefix=fd00%3A%3A%2f64&peer=&x=a%20b+c", &["prefix", "peer", "x"]).unwrap();
        assert_eq!((pairs.get("prefix"), pairs.get("peer")), (Some("fd00::/64"), None));
        assert_eq!(pairs.get("x"), Some("a b c"));
        for bad in ["y=1", "x=%", "x=%f", "x=%zz", "x=%ff"] {
            assert!(Pairs::parse(bad, &["x"]).is_err(), "{bad}");
        }
        assert_eq!(
            Pairs::parse("y=1", &["x", "z"]).unwrap_err().1,
            "unknown parameter 'y'; parameters are x, z"
        );
    }
}
