//! The verbs, one a file: arguments in, [`Outcome`] out.

use tortie_model::Kind;
use tortie_model::strict::nearest;

use crate::agent::AgentError;
use crate::cli::{BgpCommand, Cli, Command, DatastoreCommand, IpamCommand, NodeCommand};
use crate::context;
use crate::operations::{OperationError, Verb};
use crate::outcome::Outcome;

mod bgp_explain;
mod bgp_routes;
mod convert;
mod datastore_copy;
mod datastore_serve;
mod datastore_status;
mod delete;
mod get;
mod ipam_change;
mod ipam_check;
mod ipam_show;
mod label;
pub(crate) mod node_checksystem;
mod node_status;
mod patch;
mod results;
mod validate;
mod version;
mod write;

/// Our own version, as calicoctl writes its.
pub(crate) const CLIENT_VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// Namespace of namespaced resources when nobody says another.
const DEFAULT_NAMESPACE: &str = "default";

/// Runs the command.
pub(crate) async fn run(cli: Cli) -> Outcome {
    let global = &cli.global;
    let result = match cli.command {
        Command::Create(args) => write::create(global, &args).await,
        Command::Apply(args) => write::run(global, &args, Verb::Apply, false).await,
        Command::Replace(args) => write::run(global, &args, Verb::Replace, false).await,
        Command::Delete(args) => delete::run(global, &args).await,
        Command::Get(args) => get::run(global, &args).await,
        Command::Patch(args) => patch::run(global, &args).await,
        Command::Label(args) => label::run(global, &args).await,
        Command::Validate(args) => Ok(validate::run(&args)),
        Command::Convert(args) => Ok(convert::run(&args)),
        Command::Ipam(IpamCommand::Show(args)) => ipam_show::run(global, &args).await,
        Command::Ipam(IpamCommand::Release(args)) => ipam_change::release(global, &args).await,
        Command::Ipam(IpamCommand::Configure(args)) => ipam_change::configure(global, &args).await,
        Command::Ipam(IpamCommand::Check(args)) => ipam_check::run(global, &args).await,
        Command::Node(NodeCommand::Checksystem(args)) => node_checksystem::run(&args),
        Command::Node(NodeCommand::Status(args)) => Ok(node_status::run(&args).await),
        Command::Bgp(BgpCommand::Routes(args)) => bgp_routes::run(&args).await,
        Command::Datastore(DatastoreCommand::Export(args)) => datastore_copy::export(global, &args).await,
        Command::Datastore(DatastoreCommand::Import(args)) => datastore_copy::import(global, &args).await,
        Command::Datastore(DatastoreCommand::Serve(args)) => datastore_serve::run(&args).await,
        Command::Datastore(DatastoreCommand::Status) => datastore_status::run(global).await,
        Command::Version(args) => version::run(global, &args).await,
    };
    result.unwrap_or_else(|error| Outcome::failed(format!("{error:#}")))
}

/// The kind an argument means.
///
/// # Errors
/// calicoctl's words for none, with the nearest alias.
fn kind_of(argument: &str) -> anyhow::Result<Kind> {
    Kind::from_alias(argument).ok_or_else(|| {
        let aliases = Kind::all().flat_map(Kind::aliases).copied();
        let hint = match nearest(argument, aliases) {
            Some(alias) => format!("; did you mean '{alias}'?"),
            None => {
                let managed = Kind::all().filter(|kind| !kind.aliases().is_empty()).map(Kind::name);
                format!("; types are {}", managed.collect::<Vec<_>>().join(", "))
            }
        };
        anyhow::anyhow!("failed to execute command: resource type '{argument}' is not supported{hint}")
    })
}

/// The value of `--ip`.
fn address(text: &str) -> anyhow::Result<std::net::IpAddr> {
    text.parse().map_err(|_| anyhow::anyhow!("failed to execute command: --ip {text}: must be an IP address"))
}

/// The words for an agent that does not answer, with what to do.
fn unanswered(error: &AgentError) -> String {
    match error {
        AgentError::NotRunning { .. } => format!(
            "{error}; is tortie-node started, and is this its socket? --socket or TORTIE_SOCKET name another one"
        ),
        AgentError::Refused(_) | AgentError::Failed { .. } => error.to_string(),
    }
}

/// The namespace of `-n`; an empty one is none.
fn namespace_of(option: Option<&str>) -> &str {
    option.filter(|namespace| !namespace.is_empty()).unwrap_or(DEFAULT_NAMESPACE)
}

/// An error with its causes, outermost first.
pub(crate) fn chain(error: &impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The words for a failed operation; an unreachable store comes with advice.
fn words(error: OperationError) -> String {
    match error.store_failure() {
        Some(failure) => format!("{:#}", context::with_advice(failure.clone())),
        None => chain(&error),
    }
}
