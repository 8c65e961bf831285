//! `get`: one resource, several, or all of a kind.

use tortie_datastore::Client;
use tortie_datastore::client::Identifier;
use tortie_model::resource::{BgpConfigurationSpec, Node};
use tortie_model::{AnyResource, DEFAULT_AS_NUMBER, Kind};

use super::results::nothing_in;
use super::{kind_of, namespace_of, words};
use crate::cli::{GetArgs, Global};
use crate::operations::OperationError;
use crate::outcome::Outcome;
use crate::output::{Facts, Format, Shown, render};
use crate::{context, input, operations};

pub(super) async fn run(global: &Global, args: &GetArgs) -> anyhow::Result<Outcome> {
    let format: Format =
        args.output.parse().map_err(|error| anyhow::anyhow!("failed to execute command: {error}"))?;
    let wanted = match wanted(args) {
        Ok(Ok(wanted)) => wanted,
        Ok(Err(outcome)) => return Ok(outcome),
        Err(error) => return Err(error),
    };
    let client = context::client(global).await?;
    Ok(get(&client, args, &format, wanted).await)
}

/// What was asked for.
enum Wanted {
    All(Kind),
    Some(Vec<Identifier>),
}

fn wanted(args: &GetArgs) -> anyhow::Result<Result<Wanted, Outcome>> {
    let selection = &args.selection;
    let namespace = namespace_of(selection.namespace.as_deref());
    let Some(source) = &selection.filename else {
        let kind = kind_of(selection.kind.as_deref().unwrap_or_default())?;
        if selection.names.is_empty() {
            return Ok(Ok(Wanted::All(kind)));
        }
        if args.all_namespaces && kind.is_namespaced() {
            anyhow::bail!(
                "failed to execute command: a name goes with --namespace, not with --all-namespaces"
            );
        }
        let ids = selection.names.iter().map(|name| operations::identifier(kind, namespace, name));
        return Ok(Ok(Wanted::Some(ids.collect())));
    };
    Ok(match input::read(source, selection.recursive, namespace) {
        Ok(inputs) if inputs.is_empty() => Err(nothing_in(source, selection.skip_empty)),
        Ok(inputs) => Ok(Wanted::Some(inputs.iter().map(|i| Identifier::of(&i.resource)).collect())),
        Err(error) => Err(Outcome::failed(format!("failed to execute command: {error}"))),
    })
}

async fn get(client: &Client, args: &GetArgs, format: &Format, wanted: Wanted) -> Outcome {
    let mut outcome = Outcome::default();
    let mut shown = Vec::new();
    let mut notes = Vec::new();
    match wanted {
        Wanted::All(kind) => {
            let namespace = namespace_of(args.selection.namespace.as_deref());
            let namespace = (!args.all_namespaces).then_some(namespace);
            match operations::list(client, kind, namespace).await {
                Ok(list) => {
                    notes = list.unreadable;
                    shown.push(Shown::List { kind, revision: list.revision, items: list.items });
                }
                Err(error) => return Outcome::failed(words(error)),
            }
        }
        Wanted::Some(ids) => {
            for id in ids {
                match operations::get(client, &id).await {
                    Ok(resource) => shown.push(Shown::One(Box::new(exported(resource, args.export)))),
                    Err(error) if error.store_failure().is_some() => return Outcome::failed(words(error)),
                    Err(error) => notes.push(words(error)),
                }
            }
        }
    }
    outcome.failed = !notes.is_empty();
    outcome.stderr = notes.join("\n");
    if shown.is_empty() {
        return outcome;
    }
    let with_namespace = args.all_namespaces || args.selection.namespace.is_some();
    match facts(client, &shown, with_namespace).await {
        Ok(facts) => match render(&shown, format, &facts) {
            Ok(text) => outcome.stdout = text,
            Err(error) => return Outcome::failed(format!("failed to execute command: {error}")),
        },
        Err(error) => return Outcome::failed(words(error)),
    }
    outcome
}

/// Without what belongs to this cluster only.
fn exported(mut resource: AnyResource, export: bool) -> AnyResource {
    if export {
        let metadata = resource.metadata_mut();
        metadata.uid = None;
        metadata.resource_version = None;
        metadata.creation_timestamp = None;
    }
    resource
}

/// What tables need beside the resources.
async fn facts(client: &Client, shown: &[Shown], with_namespace: bool) -> Result<Facts, OperationError> {
    let has_own = |node: &Node| node.spec.bgp.as_ref().is_some_and(|bgp| bgp.as_number.is_some());
    let inherits = |resource: &AnyResource| matches!(resource, AnyResource::Node(node) if !has_own(node));
    let mut default_as = DEFAULT_AS_NUMBER;
    if shown.iter().flat_map(Shown::resources).any(inherits)
        && let Some(config) = client.find::<BgpConfigurationSpec>(None, "default").await?
        && let Some(number) = config.spec.as_number
    {
        default_as = number.0;
    }
    Ok(Facts { default_as, with_namespace })
}
