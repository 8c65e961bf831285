//! What an error of the etcd client means: the server's own answer, or a failure on the way to it.

use std::error::Error as _;

use etcd_client::Error;
use tonic::{Code, Status};

use crate::StoreError;

/// How a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server answered; asking another one gives the same answer.
    Answered(StoreError),
    /// No answer.
    Lost {
        /// Why.
        reason: String,
        /// Whether the request may have reached the server.
        sent: bool,
    },
}

/// Sorts an error of the client. `requested` is the revision asked for, where there was one.
pub(super) fn classify(error: &Error, requested: i64) -> Failure {
    match error {
        Error::GRpcStatus(status) => classify_status(status, requested),
        Error::TransportError(error) if is_tls_setting(error) => {
            Failure::Answered(StoreError::Refused { reason: format!("TLS settings: {}", chain(error)) })
        }
        Error::TransportError(error) => Failure::Lost { reason: chain(error), sent: false },
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => {
            Failure::Answered(StoreError::Refused { reason: error.to_string() })
        }
        Error::IoError(_)
        | Error::WatchError(_)
        | Error::Utf8Error(_)
        | Error::LeaseKeepAliveError(_)
        | Error::ElectError(_)
        | Error::EndpointError(_)
        | Error::EndpointsNotManaged
        | Error::Internal(_) => Failure::Lost { reason: error.to_string(), sent: true },
    }
}

fn classify_status(status: &Status, requested: i64) -> Failure {
    let message = status.message();
    match status.code() {
        Code::OutOfRange if message.contains("has been compacted") => {
            Failure::Answered(StoreError::Compacted { requested, oldest: 0 })
        }
        Code::ResourceExhausted if message.contains("too many requests") => {
            Failure::Lost { reason: message.to_owned(), sent: false }
        }
        // Said by a member in front of every request while it knows no leader (etcd: api/v3rpc/interceptor.go).
        Code::Unavailable if message == "etcdserver: no leader" => {
            Failure::Lost { reason: message.to_owned(), sent: false }
        }
        // What tonic makes of an answer that is plain HTTP. A proxy may have passed the request on before it failed.
        _ if message.starts_with("grpc-status header missing") => {
            Failure::Lost { reason: format!("what answers there is not etcd ({message})"), sent: true }
        }
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::ResourceExhausted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Failure::Answered(StoreError::Refused { reason: message.to_owned() }),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Failure::Lost { reason: reason(status), sent: !never_connected(status) },
    }
}

/// Whether the connection was not even made, so that the request cannot have had an effect.
fn never_connected(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The status in words: its message, and the deepest cause, which is what the operating system said.
fn reason(status: &Status) -> String {
    let mut deepest = None;
    let mut source = status.source();
    while let Some(error) = source {
        deepest = Some(error.to_string());
        source = error.source();
    }
    match deepest {
        Some(cause) if !cause.is_empty() && !status.message().contains(&cause) => {
            if status.message().is_empty() { cause } else { format!("{}: {cause}", status.message()) }
        }
        _ => status.message().to_owned(),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// A transport error that comes from building the TLS configuration has no connection error among its causes.
fn is_tls_setting(error: &tonic::transport::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<tonic::ConnectError>() || cause.is::<std::io::Error>() {
            return false;
        }
        source = cause.source();
    }
    true
}

/// Whether the server said that it runs without authentication.
pub(super) fn is_auth_not_enabled(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.message().contains("authentication is not enabled"))
}

/// Whether the server wants a new login, see [`asks_for_login`].
pub(super) fn is_login_over(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status)
        if status.code() == Code::Unauthenticated || asks_for_login(status.message()))
}

/// Whether the server says that a login is over: the token has expired or went with a restart of the server, users were
/// changed since it was given (JWT), or authentication was switched on after this client had connected without it.
pub(super) fn asks_for_login(message: &str) -> bool {
    ["invalid auth token", "revision of auth store is old", "user name is empty"]
        .iter()
        .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: Status) -> Failure {
        classify(&Error::GRpcStatus(status), 7)
    }

    #[test]
    fn answers_of_the_server_are_told_from_lost_requests() {
        let compacted = of(Status::out_of_range("etcdserver: mvcc: required revision has been compacted"));
        assert!(matches!(compacted, Failure::Answered(StoreError::Compacted { requested: 7, .. })));
        let denied = of(Status::permission_denied("etcdserver: permission denied"));
        assert!(matches!(denied, Failure::Answered(StoreError::Refused { .. })));
        let other = of(Status::unimplemented("grpc-status header missing, mapped from HTTP status code 404"));
        assert!(matches!(other, Failure::Lost { sent: true, reason } if reason.contains("not etcd")));
        // The cluster may have applied the request before it lost its leader.
        let leader = of(Status::unavailable("etcdserver: leader changed"));
        assert!(matches!(leader, Failure::Lost { sent: true, .. }));
        // This one was not even looked at.
        let leaderless = of(Status::unavailable("etcdserver: no leader"));
        assert!(matches!(leaderless, Failure::Lost { sent: false, .. }));
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let connect = Status::from_error(Box::new(tonic::ConnectError(Box::new(refused))));
        let Failure::Lost { sent: false, reason } = of(connect) else { panic!("a connect error was sent") };
        assert!(reason.contains("refused"), "{reason}");
    }

    #[test]
    fn a_login_that_is_over_is_told_from_a_wrong_one() {
        let over = |status: Status| is_login_over(&Error::GRpcStatus(status));
        assert!(over(Status::unauthenticated("etcdserver: invalid auth token")));
        assert!(over(Status::invalid_argument("etcdserver: revision of auth store is old")));
        assert!(over(Status::invalid_argument("etcdserver: user name is empty")));
        let wrong = "etcdserver: authentication failed, invalid user ID or password";
        assert!(!over(Status::invalid_argument(wrong)));
        assert!(!over(Status::permission_denied("etcdserver: permission denied")));
    }
}
