//! `create`, `apply` and `replace`: one way through, three verbs.

use tortie_datastore::Client;

use super::results::{Results, nothing_in};
use super::{namespace_of, words};
use crate::cli::{CreateArgs, FileArgs, Global};
use crate::context;
use crate::input::{self, Input};
use crate::operations::{self, Verb, preflight};
use crate::outcome::Outcome;

pub(super) async fn create(global: &Global, args: &CreateArgs) -> anyhow::Result<Outcome> {
    run(global, &args.files, Verb::Create, args.skip_exists).await
}

pub(super) async fn run(
    global: &Global,
    args: &FileArgs,
    verb: Verb,
    skip_exists: bool,
) -> anyhow::Result<Outcome> {
    let namespace = namespace_of(args.namespace.as_deref());
    let inputs = match input::read(&args.filename, args.recursive, namespace) {
        Ok(inputs) => inputs,
        Err(error) => return Ok(Outcome::failed(format!("failed to execute command: {error}"))),
    };
    if inputs.is_empty() {
        return Ok(nothing_in(&args.filename, args.skip_empty));
    }
    let client = context::client(global).await?;
    Ok(write(&client, verb, inputs, skip_exists).await)
}

/// Checks everything against the store, then writes in the order of the input. create and apply go on after a
/// failed resource, replace stops (calico-datamodel 6.3); a failing store stops all.
async fn write(client: &Client, verb: Verb, inputs: Vec<Input>, skip_exists: bool) -> Outcome {
    let mut results = Results::of(inputs.iter().map(|input| input.resource.kind()));
    match preflight(client, verb, &inputs).await {
        Ok(refusals) if refusals.is_empty() => {}
        Ok(refusals) => {
            results.errors = refusals;
            return results.outcome(verb.name(), verb.past());
        }
        Err(error) => return Outcome::failed(words(error)),
    }
    for Input { resource, .. } in inputs {
        let written = match verb {
            Verb::Create => operations::create(client, resource).await,
            Verb::Apply => operations::apply(client, resource).await,
            Verb::Replace => operations::replace(client, resource).await,
        };
        match written {
            Ok(_) => results.handled += 1,
            Err(error) if skip_exists && error.exists() => results.handled += 1,
            Err(error) => {
                let stop = verb == Verb::Replace || error.store_failure().is_some();
                results.errors.push(words(error));
                if stop {
                    break;
                }
            }
        }
    }
    results.outcome(verb.name(), verb.past())
}
