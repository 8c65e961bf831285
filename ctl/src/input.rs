//! Files to resources: `-f FILE|-|DIR`, every mistake in every file reported before anything is done.

use std::io::Read;
use std::path::{Path, PathBuf};

use tortie_model::AnyResource;
use tortie_model::strict::{self, Document, MAX_INPUT_BYTES, Origin, Problem};

/// A resource and where it stands.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) origin: Origin,
    pub(crate) resource: AnyResource,
}

/// Why the input cannot be used. Nothing was done with any of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("cannot read {path}: {source}")]
    File { path: String, source: std::io::Error },
    /// Mistakes, one line each.
    #[error("{}", numbered(.0))]
    Mistakes(Vec<String>),
}

/// One line as it is; more under a line that counts them.
pub(crate) fn numbered(lines: &[String]) -> String {
    match lines {
        [line] => line.clone(),
        lines => format!("{} problems in the input:\n-  {}", lines.len(), lines.join("\n-  ")),
    }
}

/// Reads and checks all resources of `source`: a file, a directory, or `-` for standard input.
///
/// # Errors
/// A file that cannot be read, or every mistake in all files.
pub(crate) fn read(source: &str, recursive: bool, namespace: &str) -> Result<Vec<Input>, InputError> {
    let mut mistakes = Vec::new();
    let mut inputs = Vec::new();
    for Document { origin, value } in documents(source, recursive)? {
        match strict::read(&value, namespace) {
            Ok(resource) => inputs.push(Input { origin, resource }),
            Err(problems) => mistakes.extend(problems.iter().map(|p| located(&origin, &value, p))),
        }
    }
    if mistakes.is_empty() { Ok(inputs) } else { Err(InputError::Mistakes(mistakes)) }
}

/// All documents of `source`, parsed only.
///
/// # Errors
/// A file that cannot be read, or every syntax error in all files.
pub(crate) fn documents(source: &str, recursive: bool) -> Result<Vec<Document>, InputError> {
    let mut documents = Vec::new();
    let mut mistakes = Vec::new();
    for (name, text) in texts(source, recursive)? {
        match strict::documents(&name, &text) {
            Ok(found) => documents.extend(found),
            Err(errors) => mistakes.extend(errors.iter().map(ToString::to_string)),
        }
    }
    if mistakes.is_empty() { Ok(documents) } else { Err(InputError::Mistakes(mistakes)) }
}

/// `pool.yaml, document 1 (line 1), IPPool(p): problem`.
pub(crate) fn located(origin: &Origin, document: &serde_json::Value, problem: &Problem) -> String {
    let text = |pointer| document.pointer(pointer).and_then(|v| v.as_str()).unwrap_or_default();
    let (kind, name) = (text("/kind"), text("/metadata/name"));
    match (kind, name) {
        ("", _) => format!("{origin}: {problem}"),
        (kind, "") => format!("{origin}, {kind}: {problem}"),
        (kind, name) => format!("{origin}, {kind}({name}): {problem}"),
    }
}

/// The text of a file or of standard input, however long.
///
/// # Errors
/// A file that cannot be read or is not text.
pub(crate) fn whole(source: &str) -> Result<String, InputError> {
    if source == "-" {
        return text(source, std::io::stdin().lock());
    }
    let open = std::fs::File::open(source)
        .map_err(|error| InputError::File { path: source.to_owned(), source: error })?;
    text(source, open)
}

fn texts(source: &str, recursive: bool) -> Result<Vec<(String, String)>, InputError> {
    if source == "-" {
        return Ok(vec![(source.to_owned(), limited(source, std::io::stdin().lock())?)]);
    }
    let path = Path::new(source);
    let failed = |source_error| InputError::File { path: source.to_owned(), source: source_error };
    let files = if std::fs::metadata(path).map_err(failed)?.is_dir() {
        let mut files = Vec::new();
        collect_files(path, recursive, &mut files)?;
        files
    } else {
        vec![path.to_owned()]
    };
    files
        .into_iter()
        .map(|file| {
            let name = file.display().to_string();
            let open = std::fs::File::open(&file)
                .map_err(|source| InputError::File { path: name.clone(), source })?;
            limited(&name, open).map(|text| (name, text))
        })
        .collect()
}

/// The text of a reader, cut one byte after the limit; the reader of documents refuses it then.
fn limited(name: &str, reader: impl Read) -> Result<String, InputError> {
    text(name, reader.take(MAX_INPUT_BYTES as u64 + 1))
}

fn text(name: &str, mut reader: impl Read) -> Result<String, InputError> {
    let failed = |source| InputError::File { path: name.to_owned(), source };
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        let reason = format!("is not UTF-8 text (byte {place})");
        failed(std::io::Error::new(std::io::ErrorKind::InvalidData, reason))
    })
}

/// Files of a directory that look like manifests, by name.
fn collect_files(directory: &Path, recursive: bool, files: &mut Vec<PathBuf>) -> Result<(), InputError> {
    let failed = |source| InputError::File { path: directory.display().to_string(), source };
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect())
        .map_err(failed)?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if recursive {
                collect_files(&path, recursive, files)?;
            }
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_its_manifests_in_order_of_name() {
        let directory = tempfile::tempdir().unwrap();
        let pool = |n: u8| {
            format!(
                "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: p{n}}}\nspec: {{cidr: 10.{n}.0.0/16}}\n"
            )
        };
        std::fs::write(directory.path().join("b.yml"), pool(2)).unwrap();
        std::fs::write(directory.path().join("a.yaml"), pool(1)).unwrap();
        std::fs::write(directory.path().join("README.md"), "no manifest").unwrap();
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        std::fs::write(directory.path().join("sub/c.json"), r#"{"kind": "IPPool""#).unwrap();
        let source = directory.path().to_str().unwrap();
        let names: Vec<String> = read(source, false, "default")
            .unwrap()
            .iter()
            .map(|input| input.resource.metadata().name.clone())
            .collect();
        assert_eq!(names, ["p1", "p2"]);
        let error = read(source, true, "default").unwrap_err().to_string();
        assert!(error.contains("sub/c.json, document 1 (line 1): broken YAML at line "), "{error}");
    }

    #[test]
    fn mistakes_of_all_files_are_listed() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a.yaml", "b.yaml"] {
            std::fs::write(directory.path().join(name), "apiVersion: projectcalico.org/v3\nkind: Nod\n")
                .unwrap();
        }
        let error = read(directory.path().to_str().unwrap(), false, "default").unwrap_err().to_string();
        assert!(error.starts_with("2 problems in the input:\n-  "), "{error}");
        assert!(error.contains("a.yaml, document 1") && error.contains("b.yaml, document 1"), "{error}");
    }
}
