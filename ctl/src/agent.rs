//! The agent on the same machine, asked over its unix socket (`tortie_model::local_api`).
//!
//! One GET of HTTP/1.0: the answer ends with the connection, so there is nothing to frame.

use std::io;
use std::path::Path;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tortie_model::local_api::{BgpExplanation, BgpRoute, BgpRoutes, ErrorBody, NodeStatus};

/// Longest wait for the whole answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Largest answer; 1000 peers take some 200 kB.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// Why the agent did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// Nobody listens there.
    #[error("nothing listens on {path}: {source}")]
    NotRunning { path: String, source: io::Error },
    /// The agent says that the question is wrong.
    #[error("{0}")]
    Refused(String),
    /// Something else on the way.
    #[error("cannot ask the agent at {path}: {reason}")]
    Failed { path: String, reason: String },
}

/// The node's BGP sessions.
pub(crate) async fn node_status(socket: &Path) -> Result<NodeStatus, AgentError> {
    ask(socket, "/v1/node/status", &[]).await
}

/// Routes of the node's BGP speaker: of a view, and of one peer.
pub(crate) async fn bgp_routes(
    socket: &Path,
    view: &str,
    peer: Option<&str>,
) -> Result<Vec<BgpRoute>, AgentError> {
    let (mut routes, mut from) = (Vec::new(), None);
    loop {
        let pairs = [
            ("view", view),
            ("peer", peer.unwrap_or_default()),
            ("from", from.as_deref().unwrap_or_default()),
        ];
        let page: BgpRoutes = ask(socket, "/v1/bgp/routes", &pairs).await?;
        routes.extend(page.routes);
        if page.next.is_none() {
            return Ok(routes);
        }
        from = page.next;
    }
}

/// Why a prefix is what it is.
pub(crate) async fn bgp_explain(
    socket: &Path,
    prefix: IpNetwork,
    peer: Option<&str>,
) -> Result<BgpExplanation, AgentError> {
    let prefix = prefix.to_string();
    ask(socket, "/v1/bgp/explain", &[("prefix", &prefix), ("peer", peer.unwrap_or_default())]).await
}

/// Asks for a value; pairs without a value are left out.
async fn ask<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
    query: &[(&str, &str)],
) -> Result<T, AgentError> {
    let failed = |reason: String| AgentError::Failed { path: socket.display().to_string(), reason };
    let pairs = query.iter().filter(|(_, value)| !value.is_empty());
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let target = if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) };
    let answer = match tokio::time::timeout(DEADLINE, get(socket, &target)).await {
        Ok(answer) => answer?,
        Err(_) => return Err(failed(format!("no answer within {} s", DEADLINE.as_secs()))),
    };
    let (status, body) = parted(&answer).ok_or_else(|| failed("the answer is not HTTP".to_owned()))?;
    if status != 200 {
        let said = serde_json::from_slice::<ErrorBody>(body).map(|body| body.error);
        return Err(match said {
            Ok(said) if (400..500).contains(&status) => AgentError::Refused(said),
            Ok(said) => failed(said),
            Err(_) => failed(format!("HTTP status {status}")),
        });
    }
    serde_json::from_slice(body).map_err(|error| failed(format!("the answer is of another version: {error}")))
}

/// Percent-encoded, as a value of a query.
fn encoded(text: &str) -> String {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.~:/".contains(&octet);
    let encode =
        |octet: u8| if plain(octet) { char::from(octet).to_string() } else { format!("%{octet:02X}") };
    text.bytes().map(encode).collect()
}

async fn get(socket: &Path, path: &str) -> Result<Vec<u8>, AgentError> {
    let failed = |error: io::Error| AgentError::Failed {
        path: socket.display().to_string(),
        reason: error.to_string(),
    };
    let mut stream = UnixStream::connect(socket).await.map_err(|source| {
        if source.kind() == io::ErrorKind::PermissionDenied {
            let reason = format!("{source}; it belongs to root");
            return AgentError::Failed { path: socket.display().to_string(), reason };
        }
        if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
            AgentError::NotRunning { path: socket.display().to_string(), source }
        } else {
            failed(source)
        }
    })?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await.map_err(failed)?;
    Ok(answer)
}

/// Status and body of an answer.
fn parted(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut words = head.split_ascii_whitespace();
    words.next().filter(|word| word.starts_with("HTTP/1."))?;
    Some((words.next()?.parse().ok()?, &answer[end + 4..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_query_are_encoded() {
        assert_eq!(encoded("fd00::/64"), "fd00::/64");
        assert_eq!(encoded("a b&c=[x]"), "a%20b%26c%3D%5Bx%5D");
    }

    #[test]
    fn answers_are_parted_at_the_empty_line() {
        assert_eq!(parted(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}"), Some((200, b"{}".as_slice())));
        assert_eq!(parted(b"HTTP/1.1 503 No\r\n\r\n"), Some((503, b"".as_slice())));
        assert_eq!(parted(b"SSH-2.0\r\n\r\n"), None);
        assert_eq!(parted(b""), None);
    }
}
