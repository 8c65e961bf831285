//! `datastore export` and `import`: every key of Calico's, byte for byte, as one JSON object a line.
//!
//! ```text
//! {"tortieExport":1,"revision":42,"keys":2}
//! {"key":"/calico/ipam/v2/config","value":"{\"strict_affinity\":true}"}
//! {"key":"/calico/…","hex":"00ff"}            a value that is not UTF-8
//! ```
//!
//! The first line says how many follow, so that a file cut short is noticed before anything is written. Leases and
//! revisions belong to a store and do not move.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tortie_datastore::server::{read_data_dir, read_snapshot};
use tortie_datastore::store::{Compare, KeyValue, Operation, Outcome as Stored, Transaction};
use tortie_datastore::{Store, StoreError};
use tortie_model::key::ROOT;

use super::words;
use crate::cli::{ExportArgs, Global, ImportArgs};
use crate::input::{self, InputError, numbered};
use crate::outcome::Outcome;
use crate::{context, operations};

/// Version of the form.
const FORM: u32 = 1;

/// What one transaction writes at most: half of what a store allows, so that compares fit too.
const BATCH_KEYS: usize = 64;
const BATCH_BYTES: usize = 512 << 10;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Head {
    tortie_export: u32,
    revision: i64,
    keys: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

pub(super) async fn export(global: &Global, args: &ExportArgs) -> anyhow::Result<Outcome> {
    let listing = match (&args.snapshot, &args.data_dir) {
        (Some(file), _) => Some(read_snapshot(file, ROOT)?),
        (None, Some(directory)) => Some(read_data_dir(directory, ROOT)?),
        (None, None) => None,
    };
    if let Some(listing) = listing {
        return Ok(Outcome::ok(written(listing.revision, &listing.entries)));
    }
    let client = context::client(global).await?;
    Ok(match client.store().list(ROOT).await {
        Ok(listing) => Outcome::ok(written(listing.revision, &listing.entries)),
        Err(error) => Outcome::failed(words(error.into())),
    })
}

pub(super) async fn import(global: &Global, args: &ImportArgs) -> anyhow::Result<Outcome> {
    let text = match input::whole(&args.filename) {
        Ok(text) => text,
        Err(error) => return Ok(Outcome::failed(format!("failed to execute command: {error}"))),
    };
    let entries = match read(&args.filename, &text) {
        Ok(entries) => entries,
        Err(error) => return Ok(Outcome::failed(format!("failed to execute command: {error}"))),
    };
    // The cluster's version is among what is written.
    let client = context::client_of_any_version(global.config.as_deref()).await?;
    let present = match client.store().list(ROOT).await {
        Ok(listing) => listing.entries,
        Err(error) => return Ok(Outcome::failed(words(error.into()))),
    };
    if let Some(first) = present.first()
        && !args.force
    {
        return Ok(Outcome::failed(format!(
            "the datastore is not empty: it has {} keys, such as {}; nothing was written. --force replaces keys that \
             the file has too and leaves the others, which is right only for an export of the same cluster",
            present.len(),
            first.key
        )));
    }
    Ok(match write(client.store().as_ref(), &present, entries).await {
        Ok(written) => Outcome::line(format!("Successfully imported {written} keys")),
        Err(outcome) => outcome,
    })
}

fn written(revision: i64, entries: &[KeyValue]) -> String {
    let mut text = line(&Head { tortie_export: FORM, revision, keys: entries.len() });
    for entry in entries {
        let (value, hex) = match std::str::from_utf8(&entry.value) {
            Ok(value) => (Some(value.to_owned()), None),
            Err(_) => (None, Some(hex::encode(&entry.value))),
        };
        text.push_str(&line(&Line { key: entry.key.clone(), value, hex }));
    }
    text
}

fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("text and numbers") + "\n"
}

/// Keys and values of an export, complete and without doubles.
fn read(file: &str, text: &str) -> Result<Vec<(String, Vec<u8>)>, InputError> {
    let mistake = |line: usize, reason: String| format!("{file}, line {line}: {reason}");
    let mut lines = text.lines().enumerate().map(|(i, text)| (i + 1, text));
    let head: Head = match lines.next().map(|(_, first)| serde_json::from_str(first)) {
        Some(Ok(head)) => head,
        Some(Err(error)) => {
            let reason = format!("is not the first line of `tortiectl datastore export`: {error}");
            return Err(InputError::Mistakes(vec![mistake(1, reason)]));
        }
        None => return Err(InputError::Mistakes(vec![mistake(1, "the file is empty".to_owned())])),
    };
    let mut mistakes = Vec::new();
    if head.tortie_export != FORM {
        let reason = format!("tortieExport = {}: this version reads {FORM}", head.tortie_export);
        mistakes.push(mistake(1, reason));
    }
    let (mut entries, mut seen) = (Vec::new(), BTreeSet::new());
    for (number, text) in lines {
        match parsed(text) {
            Ok((key, _)) if !seen.insert(key.clone()) => {
                mistakes.push(mistake(number, format!("key '{key}' comes twice")));
            }
            Ok(entry) => entries.push(entry),
            Err(reason) => mistakes.push(mistake(number, reason)),
        }
    }
    if mistakes.is_empty() && entries.len() != head.keys {
        let reason = format!("keys = {}, but {} follow: the file is cut short", head.keys, entries.len());
        mistakes.push(mistake(1, reason));
    }
    if mistakes.is_empty() { Ok(entries) } else { Err(InputError::Mistakes(mistakes)) }
}

fn parsed(text: &str) -> Result<(String, Vec<u8>), String> {
    let Line { key, value, hex } = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if !key.starts_with(ROOT) {
        return Err(format!("key '{key}' does not begin with {ROOT}"));
    }
    match (value, hex) {
        (Some(value), None) => Ok((key, value.into_bytes())),
        (None, Some(hex)) => {
            let value = hex::decode(&hex).map_err(|error| format!("hex of {key}: {error}"))?;
            Ok((key, value))
        }
        (Some(_), Some(_)) | (None, None) => Err(format!("key '{key}' must have either value or hex")),
    }
}

/// Writes batch by batch, each key at the revision it was found at: what somebody else writes meanwhile stays.
async fn write(
    store: &dyn Store,
    present: &[KeyValue],
    entries: Vec<(String, Vec<u8>)>,
) -> Result<usize, Outcome> {
    let (mut done, mut bytes) = (0, 0);
    let mut batch = Transaction::default();
    for (key, value) in entries {
        let size = key.len() * 2 + value.len();
        if batch.operations.len() >= BATCH_KEYS || (bytes > 0 && bytes + size > BATCH_BYTES) {
            done = commit(store, std::mem::take(&mut batch), done).await?;
            bytes = 0;
        }
        bytes += size;
        let found = present.binary_search_by(|kv| kv.key.as_str().cmp(&key)).ok();
        batch.compares.push(match found {
            Some(at) => Compare::ModRevision(key.clone(), present[at].mod_revision),
            None => Compare::Absent(key.clone()),
        });
        batch.operations.push(Operation::Put { key, value, lease: 0 });
    }
    commit(store, batch, done).await
}

async fn commit(store: &dyn Store, batch: Transaction, done: usize) -> Result<usize, Outcome> {
    let keys = batch.operations.len();
    if keys == 0 {
        return Ok(done);
    }
    let failed = |reason: String| {
        let rest = "stop what else writes to the datastore, then import again with --force";
        Outcome::failed(format!(
            "{numbered}\n{done} keys were written; {rest}",
            numbered = numbered(&[reason])
        ))
    };
    match store.transact(batch).await {
        Ok(Stored::Committed { .. }) => Ok(done + keys),
        Ok(Stored::Conflict { current, .. }) => {
            let which = current.first().map_or("a key", |kv| kv.key.as_str());
            Err(failed(format!("somebody else writes to the datastore too: {which} changed meanwhile")))
        }
        Err(error @ StoreError::Unavailable { .. }) => {
            Err(failed(words(operations::OperationError::from(error))))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> String {
        read("f", text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_back_byte_for_byte() {
        let kv = |key: &str, value: &[u8]| KeyValue {
            key: format!("{ROOT}{key}"),
            value: value.to_vec(),
            create_revision: 1,
            mod_revision: 2,
        };
        let entries = [kv("a", b"{\"x\": \"\\u00fc\"}\n"), kv("b", b""), kv("c", &[0, 0xff])];
        let text = written(7, &entries);
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.starts_with("{\"tortieExport\":1,\"revision\":7,\"keys\":3}\n"), "{text}");
        let back = read("f", &text).unwrap();
        assert_eq!(back, entries.map(|kv| (kv.key, kv.value)));
    }

    #[test]
    fn files_that_are_no_complete_export_are_refused() {
        let head = "{\"tortieExport\":1,\"revision\":7,\"keys\":2}\n";
        let one = "{\"key\":\"/calico/a\",\"value\":\"\"}\n";
        assert_eq!(mistakes(""), "f, line 1: the file is empty");
        assert!(mistakes(one).starts_with("f, line 1: is not the first line of"), "{}", mistakes(one));
        let cut = mistakes(&format!("{head}{one}"));
        assert_eq!(cut, "f, line 1: keys = 2, but 1 follow: the file is cut short");
        assert_eq!(mistakes(&format!("{head}{one}{one}")), "f, line 3: key '/calico/a' comes twice");
        let foreign = mistakes(&format!("{head}{one}{}", one.replace("/calico", "/other")));
        assert_eq!(foreign, "f, line 3: key '/other/a' does not begin with /calico/");
        let newer = mistakes(&head.replace(":1,", ":2,").replace("keys\":2", "keys\":0"));
        assert_eq!(newer, "f, line 1: tortieExport = 2: this version reads 1");
        let neither = mistakes(&format!("{head}{one}{{\"key\":\"/calico/b\"}}"));
        assert_eq!(neither, "f, line 3: key '/calico/b' must have either value or hex");
    }
}
