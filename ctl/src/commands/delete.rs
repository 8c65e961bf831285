//! `delete`: by kind and names, or by the resources of files.

use tortie_datastore::Client;
use tortie_datastore::client::Identifier;

use super::results::{Results, nothing_in};
use super::{kind_of, namespace_of, words};
use crate::cli::{DeleteArgs, Global, Selection};
use crate::outcome::Outcome;
use crate::{context, input, operations};

/// What to delete: a resource, at a revision when the document has one.
type Target = (Identifier, Option<String>);

pub(super) async fn run(global: &Global, args: &DeleteArgs) -> anyhow::Result<Outcome> {
    let targets = match &args.selection.filename {
        None => by_name(&args.selection)?,
        Some(source) => {
            let namespace = namespace_of(args.selection.namespace.as_deref());
            match input::read(source, args.selection.recursive, namespace) {
                Ok(inputs) if inputs.is_empty() => return Ok(nothing_in(source, args.selection.skip_empty)),
                Ok(inputs) => inputs
                    .iter()
                    .map(|input| {
                        let revision = input.resource.metadata().resource_version.clone();
                        (Identifier::of(&input.resource), revision)
                    })
                    .collect(),
                Err(error) => return Ok(Outcome::failed(format!("failed to execute command: {error}"))),
            }
        }
    };
    let client = context::client(global).await?;
    Ok(delete(&client, targets, args.skip_not_exists).await)
}

fn by_name(selection: &Selection) -> anyhow::Result<Vec<Target>> {
    let kind = kind_of(selection.kind.as_deref().unwrap_or_default())?;
    if selection.names.is_empty() {
        anyhow::bail!("failed to execute command: resource name must be specified to delete a resource");
    }
    let namespace = namespace_of(selection.namespace.as_deref());
    Ok(selection.names.iter().map(|name| (operations::identifier(kind, namespace, name), None)).collect())
}

async fn delete(client: &Client, targets: Vec<Target>, skip_not_exists: bool) -> Outcome {
    let mut results = Results::of(targets.iter().map(|(id, _)| id.kind));
    let mut outcome = Outcome::default();
    for (id, revision) in targets {
        match operations::delete(client, &id, revision.as_deref()).await {
            Ok(()) => results.handled += 1,
            Err(error) if skip_not_exists && error.is_absent() => results.handled += 1,
            Err(error) if error.store_failure().is_some() => {
                outcome.stderr.push_str(&format!("hit error: {}\n", words(error)));
                outcome.failed = true;
                break;
            }
            Err(error) => {
                let line = format!("Failed to delete '{}' resource: {}\n", id.kind, words(error));
                outcome.stderr.push_str(&line);
                outcome.failed = true;
            }
        }
    }
    if results.handled > 0 {
        outcome.stdout = results.success("deleted");
    }
    outcome
}
