//! Transcripts: `golden/*.txt` hold commands (`$ `), their standard output, their standard error (`! `) and their exit
//! code when it is not 0 (`[1]`). They are run with the real binary against the embedded datastore, and against a real
//! etcd where one is installed. `UPDATE_GOLDEN=1 cargo test` writes what was said; read the difference.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use support::{Run, RunningStore};

#[test]
fn transcripts_against_the_embedded_datastore() {
    play_all(&RunningStore::embedded);
}

#[test]
fn transcripts_against_etcd() {
    if RunningStore::etcd().is_none() {
        eprintln!("etcd is not installed: transcripts ran against the embedded datastore only");
        return;
    }
    play_all(&|| RunningStore::etcd().expect("it was there a moment ago"));
}

fn play_all(store: &dyn Fn() -> RunningStore) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> = std::fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let expected = std::fs::read_to_string(&file).unwrap();
        let actual = play(&store(), &expected);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, &actual).unwrap();
            continue;
        }
        let line = expected.lines().zip(actual.lines()).take_while(|(a, b)| a == b).count();
        let (wanted, said) = (expected.lines().nth(line), actual.lines().nth(line));
        assert_eq!(said, wanted, "{}:{} (UPDATE_GOLDEN=1 rewrites it)", file.display(), line + 1);
    }
}

/// Runs the commands of a transcript and writes it anew.
fn play(store: &RunningStore, transcript: &str) -> String {
    let mut text = String::new();
    for line in transcript.lines() {
        if line.starts_with('#') {
            text.push_str(&format!("{line}\n"));
        }
        let Some(command) = line.strip_prefix("$ ") else { continue };
        let words = split(command);
        let args: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
        let Run { stdout, stderr, code } = store.run(&args);
        text.push_str(&format!("{line}\n"));
        text.push_str(&stable(&stdout, store));
        for said in stable(&stderr, store).lines() {
            text.push_str(&format!("! {said}\n"));
        }
        if code != 0 {
            text.push_str(&format!("[{code}]\n"));
        }
    }
    text
}

/// Words of a command; single quotes keep blanks together.
fn split(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in command.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

/// What differs from run to run, made equal.
fn stable(text: &str, store: &RunningStore) -> String {
    let mut result = String::new();
    for line in text.replace(&store.endpoint, "http://STORE").lines() {
        let indent = &line[..line.len() - line.trim_start().len()];
        let value = |name: &str, with: &str| format!("{indent}{name}: {with}\n");
        match line.trim_start().split_once(": ") {
            Some(("uid", _)) => result.push_str(&value("uid", "UID")),
            Some(("creationTimestamp", _)) => result.push_str(&value("creationTimestamp", "TIME")),
            Some(("resourceVersion", _)) => result.push_str(&value("resourceVersion", "'N'")),
            _ => result.push_str(&format!("{line}\n")),
        }
    }
    result
}
