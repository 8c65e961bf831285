//! `convert`: documents of the old v1 form in v3 form; v3 documents pass through with their defaults.

use serde_json::{Value, json};
use tortie_model::strict;

use super::DEFAULT_NAMESPACE;
use super::results::nothing_in;
use crate::cli::ConvertArgs;
use crate::input::{self, InputError, located};
use crate::outcome::Outcome;
use crate::output::Format;
use crate::output::structured::to_text;

pub(super) fn run(args: &ConvertArgs) -> Outcome {
    let format = match args.output.as_str() {
        "yaml" => Format::Yaml,
        "json" => Format::Json,
        other => {
            let message =
                format!("failed to execute command: unrecognized output format '{other}': use yaml or json");
            return Outcome::failed(message);
        }
    };
    match converted(&args.filename, args.recursive) {
        Err(error) => Outcome::failed(format!("failed to execute command: {error}")),
        Ok(documents) if documents.is_empty() => nothing_in(&args.filename, false),
        Ok(mut documents) if documents.len() == 1 => Outcome::ok(to_text(&documents.remove(0), &format)),
        Ok(documents) => {
            let list = json!({ "kind": "List", "apiVersion": "v1", "items": documents });
            Outcome::ok(to_text(&list, &format))
        }
    }
}

fn converted(source: &str, recursive: bool) -> Result<Vec<Value>, InputError> {
    let (mut documents, mut mistakes) = (Vec::new(), Vec::new());
    for document in input::documents(source, recursive)? {
        match strict::v3_document(&document.value, DEFAULT_NAMESPACE) {
            Ok(v3) => documents.push(v3),
            Err(problems) => {
                mistakes.extend(problems.iter().map(|p| located(&document.origin, &document.value, p)));
            }
        }
    }
    if mistakes.is_empty() { Ok(documents) } else { Err(InputError::Mistakes(mistakes)) }
}
