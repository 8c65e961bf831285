//! The local API over a unix socket (`tortie_model::local_api`): workloads come and go through it, and operators ask.
//!
//! Every failure is a status of 400 or more with an error body; nothing here decides anything.

mod bgp;
mod query;
mod socket;
mod status;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::de::DeserializeOwned;
use tortie_model::local_api::{AttachRequest, AttachResponse, DetachRequest, ErrorBody};

use crate::workload::{Service, WorkloadError};

pub use socket::{SocketError, check_free, listen};
pub use status::Sources;

/// An answer that says what went wrong.
#[derive(Debug)]
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(ErrorBody { error: self.1 })).into_response()
    }
}

impl From<WorkloadError> for Failure {
    fn from(error: WorkloadError) -> Failure {
        let status = StatusCode::from_u16(error.kind().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Failure(status, error.chain())
    }
}

/// All routes.
pub fn router(sources: Sources, workloads: Service) -> Router {
    let workload = Router::new()
        .route("/v1/workload/attach", post(attach))
        .route("/v1/workload/detach", post(detach))
        .route("/v1/workload/check", post(check))
        .with_state(workloads);
    status::router(sources).merge(workload).fallback(|| async {
        Failure(StatusCode::NOT_FOUND, "no such path; this agent may be older than its client".into())
    })
}

/// A body as JSON, whatever its content type claims.
fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        Failure(StatusCode::BAD_REQUEST, format!("the request body is no valid request: {error}"))
    })
}

async fn attach(State(service): State<Service>, bytes: Bytes) -> Result<Json<AttachResponse>, Failure> {
    let request: AttachRequest = body(&bytes)?;
    let (container, interface) = (request.container_id.clone(), request.interface.clone());
    match service.attach(request).await {
        Ok(answer) => {
            let addresses: Vec<String> = answer.addresses.iter().map(ToString::to_string).collect();
            let (host_interface, addresses) = (&answer.host_interface, addresses.join(","));
            tracing::info!(container, interface, host_interface, addresses, "attached");
            Ok(Json(answer))
        }
        Err(error) => {
            tracing::warn!(container, interface, error = error.chain(), "cannot attach");
            Err(error.into())
        }
    }
}

async fn detach(State(service): State<Service>, bytes: Bytes) -> Result<Json<serde_json::Value>, Failure> {
    let request: DetachRequest = body(&bytes)?;
    let (container, interface) = (request.container_id.clone(), request.interface.clone());
    match service.detach(request).await {
        Ok(()) => {
            tracing::info!(container, interface, "detached");
            Ok(Json(serde_json::json!({})))
        }
        Err(error) => {
            tracing::warn!(container, interface, error = error.chain(), "cannot detach");
            Err(error.into())
        }
    }
}

async fn check(State(service): State<Service>, bytes: Bytes) -> Result<Json<serde_json::Value>, Failure> {
    let request: AttachRequest = body(&bytes)?;
    service.check(request).await?;
    Ok(Json(serde_json::json!({})))
}
