//! CNI's commands: what each asks of the agent, and which code a failure has.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tortie_model::local_api::AttachResponse;

use super::client::{Agent, CallError, socket_path};
use super::config::{Environment, NetConf};
use super::result::{self, Version};

/// How long an agent that is not up yet is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

// Codes of the specification, "Well-known Error Codes"; 100 and above are ours.
const INCOMPATIBLE_VERSION: u32 = 1;
const UNKNOWN_CONTAINER: u32 = 3;
pub(super) const INVALID_ENVIRONMENT: u32 = 4;
const IO_FAILURE: u32 = 5;
pub(super) const DECODING: u32 = 6;
pub(super) const INVALID_CONFIG: u32 = 7;
const TRY_AGAIN_LATER: u32 = 11;
const NOT_AVAILABLE: u32 = 50;
const AGENT_FAILED: u32 = 100;

/// What a call prints, and whether it failed (exit code 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// For standard output; may be empty.
    pub stdout: String,
    /// Whether the call failed.
    pub failed: bool,
}

/// A failure with its code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    code: u32,
    message: String,
    details: String,
}

impl Failure {
    pub(super) fn new(code: u32, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), details: String::new() }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        let code = match &error {
            CallError::Unreachable { .. } | CallError::Refused { status: 503, .. } => TRY_AGAIN_LATER,
            CallError::Broken { .. } => IO_FAILURE,
            CallError::Malformed { .. } => DECODING,
            CallError::Refused { status: 404, .. } => UNKNOWN_CONTAINER,
            CallError::Refused { status: 400, .. } => INVALID_CONFIG,
            CallError::Refused { .. } => AGENT_FAILED,
        };
        let details = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        Failure { code, message: error.to_string(), details }
    }
}

/// Performs the call described by environment and standard input. Waits for the agent as long as `patience` says.
pub fn run(environment: &dyn Fn(&str) -> Option<String>, stdin: &str, patience: Duration) -> Output {
    let asked = serde_json::from_str::<Value>(stdin).ok();
    let asked = asked.as_ref().and_then(|conf| conf["cniVersion"].as_str()).and_then(Version::parse);
    match perform(environment, stdin, patience) {
        Ok(None) => Output { stdout: String::new(), failed: false },
        Ok(Some(answer)) => Output { stdout: pretty(&answer), failed: false },
        Err(Failure { code, message, details }) => {
            let version = asked.unwrap_or(Version::V1_1_0).text();
            Output { stdout: pretty(&result::error(version, code, &message, &details)), failed: true }
        }
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn perform(environment: Environment<'_>, stdin: &str, patience: Duration) -> Result<Option<Value>, Failure> {
    let command = environment("CNI_COMMAND").unwrap_or_default();
    if command == "VERSION" {
        return Ok(Some(result::versions()));
    }
    let since = match command.as_str() {
        "ADD" | "DEL" => Version::V0_3_1,
        "CHECK" => Version::V0_4_0,
        "STATUS" | "GC" => Version::V1_1_0,
        "" => return Err(Failure::new(INVALID_ENVIRONMENT, "environment variable CNI_COMMAND is missing")),
        other => return Err(Failure::new(INVALID_ENVIRONMENT, format!("CNI_COMMAND '{other}' is unknown"))),
    };
    let conf = NetConf::parse(stdin)?;
    let version = version_of(&conf, &command, since)?;
    let agent = Agent { socket: socket_path(conf.socket.as_deref(), environment("TORTIE_SOCKET")), patience };
    match command.as_str() {
        "ADD" => {
            let request = conf.attach_request(environment)?;
            let answer = agent.call("/v1/workload/attach", Some(&json(&request)))?;
            let answer: AttachResponse = serde_json::from_slice(&answer)
                .map_err(|error| CallError::Malformed { reason: error.to_string() })?;
            Ok(Some(result::added(version, &request, &answer)))
        }
        "CHECK" => {
            agent.call("/v1/workload/check", Some(&json(&conf.check_request(environment)?)))?;
            Ok(None)
        }
        "DEL" => {
            agent.call("/v1/workload/detach", Some(&json(&conf.detach_request(environment)?)))?;
            Ok(None)
        }
        "STATUS" => match (Agent { patience: Duration::ZERO, ..agent }).call("/ready", None) {
            Ok(_) => Ok(None),
            Err(error) => Err(Failure { code: NOT_AVAILABLE, ..Failure::from(error) }),
        },
        // GC. Nothing is collected: a workload's addresses go with its DEL.
        _ => Ok(None),
    }
}

fn version_of(conf: &NetConf, command: &str, since: Version) -> Result<Version, Failure> {
    let asked = &conf.cni_version;
    let supported = Version::ALL.map(Version::text).join(", ");
    match Version::parse(asked) {
        Some(version) if version >= since => Ok(version),
        Some(_) => {
            let message = format!(
                "{command} needs cniVersion {} or later, the configuration has '{asked}'",
                since.text()
            );
            Err(Failure::new(INCOMPATIBLE_VERSION, message))
        }
        None if asked.is_empty() => {
            let message = format!("the network configuration has no 'cniVersion'; supported are {supported}");
            Err(Failure::new(INCOMPATIBLE_VERSION, message))
        }
        None => {
            let message = format!("cniVersion '{asked}' is not supported; supported are {supported}");
            Err(Failure::new(INCOMPATIBLE_VERSION, message))
        }
    }
}

fn json(request: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(request).expect("requests have text keys")
}

#[cfg(test)]
mod tests;
