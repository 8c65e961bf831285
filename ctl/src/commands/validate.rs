//! `validate`: reads files as strictly as `apply` does, without a datastore.

use super::namespace_of;
use super::results::{Results, nothing_in};
use crate::cli::FileArgs;
use crate::input;
use crate::outcome::Outcome;

pub(super) fn run(args: &FileArgs) -> Outcome {
    let namespace = namespace_of(args.namespace.as_deref());
    match input::read(&args.filename, args.recursive, namespace) {
        Err(error) => Outcome::failed(format!("failed to execute command: {error}")),
        Ok(inputs) if inputs.is_empty() => nothing_in(&args.filename, args.skip_empty),
        Ok(inputs) => {
            let mut results = Results::of(inputs.iter().map(|input| input.resource.kind()));
            results.handled = results.total;
            results.outcome("validate", "validated")
        }
    }
}
