//! `label`: one label of one resource.

use super::{kind_of, namespace_of, words};
use crate::cli::{Global, LabelArgs};
use crate::context;
use crate::operations::{self, OperationError};
use crate::outcome::Outcome;
use tortie_model::strict::Problem;
use tortie_model::{AnyResource, Kind, validate};

pub(super) async fn run(global: &Global, args: &LabelArgs) -> anyhow::Result<Outcome> {
    let kind = kind_of(&args.kind)?;
    let (key, value) = match (args.remove, args.label.split_once('=')) {
        (true, None) => (args.label.as_str(), None),
        (false, Some((key, value))) => (key, Some(value)),
        (true, Some(_)) => anyhow::bail!("failed to execute command: give --remove a key without a value"),
        (false, None) => {
            anyhow::bail!("failed to execute command: label '{}' must be key=value", args.label);
        }
    };
    let client = context::client(global).await?;
    let id = operations::identifier(kind, namespace_of(args.namespace.as_deref()), &args.name);
    let (what, name) = (id.kind, &args.name);
    let before = match operations::get(&client, &id).await {
        Ok(resource) => resource.metadata().labels.get(key).cloned(),
        Err(error) => return Ok(failed(args, kind, key, &words(error))),
    };
    let done = match (&before, value) {
        (None, None) => {
            let message = format!("cannot remove label of {what} {name}, key {key} does not exist");
            return Ok(Outcome::failed(message));
        }
        (Some(_), None) => format!("Successfully removed label {key} from {what} {name}"),
        (Some(_), Some(_)) if !args.overwrite => {
            return Ok(Outcome::failed(format!(
                "failed to update label of {what} {name}, key {key} is already present. please use \
                 '--overwrite' to set a new value"
            )));
        }
        (Some(_), Some(_)) => format!("Successfully updated label {key} on {what} {name}"),
        (None, Some(_)) => format!("Successfully set label {key} on {what} {name}"),
    };
    match operations::modify(&client, &id, None, |resource| labelled(resource, key, value)).await {
        Ok(_) => Ok(Outcome::line(done)),
        Err(error) => Ok(failed(args, kind, key, &words(error))),
    }
}

fn failed(args: &LabelArgs, kind: Kind, key: &str, reason: &str) -> Outcome {
    let verb = if args.remove { "remove" } else { "set" };
    Outcome::failed(format!("failed to {verb} label {key} on {kind} {}: {reason}", args.name))
}

fn labelled(
    mut resource: AnyResource,
    key: &str,
    value: Option<&str>,
) -> Result<AnyResource, OperationError> {
    let labels = &mut resource.metadata_mut().labels;
    match value {
        Some(value) => labels.insert(key.to_owned(), value.to_owned()),
        None => labels.remove(key),
    };
    let about_labels = |problem: &Problem| problem.path().starts_with("metadata.labels");
    match validate::validate(&resource).into_iter().find(about_labels) {
        Some(problem) => Err(OperationError::Invalid(problem)),
        None => Ok(resource),
    }
}
