//! One HTTP/1.1 request over a unix socket, and patience while nobody listens there.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tortie_model::local_api::ErrorBody;

/// How often a socket nobody listens at is tried.
const RETRY_EVERY: Duration = Duration::from_millis(50);
/// The agent answers or fails an attach within 10 s; this only guards against one that hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// No answer is so long.
const LONGEST_ANSWER: u64 = 1 << 20;

/// Why the agent gave no answer to use.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Nobody listens.
    #[error("no agent answers at {socket} after {waited:?}; is tortie-node running on this node?")]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// How long it was tried.
        waited: Duration,
        /// The last failure.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to the agent at {socket} broke")]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// How.
        source: io::Error,
    },
    /// The agent refused, or failed.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The agent's words.
        message: String,
    },
    /// Not HTTP, or not what was asked for.
    #[error("the agent's answer makes no sense: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
}

/// The agent of this node.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub(super) socket: PathBuf,
    /// How long to wait for it to come up.
    pub(super) patience: Duration,
}

impl Agent {
    /// Sends a request (`body` is JSON; none makes it a GET) and returns the body of a successful answer.
    pub(super) fn call(&self, path: &str, body: Option<&[u8]>) -> Result<Vec<u8>, CallError> {
        let stream = self.connect()?;
        let broken = |source| CallError::Broken { socket: self.socket.clone(), source };
        let answer = exchange(stream, &request(path, body)).map_err(broken)?;
        let (status, body) = parse(&answer).map_err(|reason| CallError::Malformed { reason })?;
        if status < 400 {
            return Ok(body.to_vec());
        }
        let message = match serde_json::from_slice::<ErrorBody>(body) {
            Ok(refusal) => refusal.error,
            Err(_) => format!("the agent answered {status}: {}", String::from_utf8_lossy(body).trim()),
        };
        Err(CallError::Refused { status, message })
    }

    /// The socket appears late when the machine boots, and refuses while the agent restarts.
    fn connect(&self) -> Result<UnixStream, CallError> {
        let start = Instant::now();
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => return Ok(stream),
                Err(error) if may_come(&error) && start.elapsed() < self.patience => {
                    std::thread::sleep(RETRY_EVERY.min(self.patience));
                }
                Err(source) => {
                    let waited = self.patience.min(start.elapsed());
                    return Err(CallError::Unreachable { socket: self.socket.clone(), waited, source });
                }
            }
        }
    }
}

fn may_come(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Where the agent listens: the configuration's word, else the environment's, else the default.
pub(super) fn socket_path(configured: Option<&Path>, environment: Option<String>) -> PathBuf {
    match (configured, environment) {
        (Some(path), _) => path.to_owned(),
        (None, Some(path)) if !path.is_empty() => path.into(),
        (None, _) => tortie_model::local_api::DEFAULT_SOCKET.into(),
    }
}

fn request(path: &str, body: Option<&[u8]>) -> Vec<u8> {
    let method = if body.is_some() { "POST" } else { "GET" };
    let body = body.unwrap_or_default();
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: tortie\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

fn exchange(mut stream: UnixStream, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    if answer.is_empty() {
        // It was killed over the request; what it had begun is taken up by the next ADD or DEL.
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended without an answer"));
    }
    Ok(answer)
}

/// Status and body.
fn parse(answer: &[u8]) -> Result<(u16, &[u8]), String> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or("it ends before its body")?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| "its head is no text")?;
    let body = &answer[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let status = status
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5)?.parse().ok())
        .ok_or_else(|| format!("'{status}' is no HTTP status"))?;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            let length: usize = value.trim().parse().map_err(|_| format!("Content-Length is '{value}'"))?;
            return body
                .get(..length)
                .map(|body| (status, body))
                .ok_or_else(|| format!("it has {} of {length} bytes", body.len()));
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(format!("Transfer-Encoding is '{}'", value.trim()));
        }
    }
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_or_refused() {
        let ok = parse(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        assert_eq!(ok, (200, b"{}".as_slice()));
        assert_eq!(parse(b"HTTP/1.0 503 No\r\n\r\nbody").unwrap(), (503, b"body".as_slice()));
        for (bad, reason) in [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".as_slice(), "it has 2 of 9 bytes"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding is 'chunked'"),
            (b"HTTP/1.1 200 OK\r\n", "it ends before its body"),
            (b"SSH-2.0\r\n\r\n", "'SSH-2.0' is no HTTP status"),
            (b"HTTP/1.1 x\r\n\r\n", "'HTTP/1.1 x' is no HTTP status"),
            (b"", "it ends before its body"),
        ] {
            assert_eq!(parse(bad).unwrap_err(), reason);
        }
    }

    #[test]
    fn the_socket_is_configured_then_set_then_default() {
        let configured = Path::new("/a");
        assert_eq!(socket_path(Some(configured), Some("/b".into())), configured);
        assert_eq!(socket_path(None, Some("/b".into())), Path::new("/b"));
        assert_eq!(socket_path(None, Some(String::new())), Path::new("/var/run/tortie/tortie.sock"));
    }
}
