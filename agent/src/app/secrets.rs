//! The task that reads the secrets BGPPeers refer to: files `<name>/<key>` under one directory. They are read again from
//! time to time, so a key is changed by changing its file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::calc::Secrets;

/// How often the files are read again.
const PERIOD: Duration = Duration::from_secs(5);
/// A longer file is no key.
const LONGEST: u64 = 4096;
/// More files are none of ours; somebody pointed us to a wrong directory.
const MOST: usize = 4096;

/// The directory, and what was in it last.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    secrets: watch::Sender<Arc<Secrets>>,
}

impl Directory {
    /// Reads it for the first time, so that sessions begin with their keys.
    pub(super) async fn open(path: PathBuf) -> Directory {
        let directory = Directory { path, secrets: watch::Sender::new(Arc::default()) };
        directory.look().await;
        directory
    }

    /// What is in it, now and later.
    pub(super) fn reader(&self) -> watch::Receiver<Arc<Secrets>> {
        self.secrets.subscribe()
    }

    /// Runs for ever.
    pub(super) async fn watch(self) {
        loop {
            sleep(PERIOD).await;
            self.look().await;
        }
    }

    async fn look(&self) {
        let path = self.path.clone();
        let Ok(found) = spawn_blocking(move || read(&path)).await else { return };
        self.secrets.send_if_modified(|present| {
            let different = **present != found;
            if different {
                *present = Arc::new(found);
            }
            different
        });
    }
}

/// Everything in the directory; one that is not there is empty.
fn read(directory: &Path) -> Secrets {
    let mut files = BTreeMap::new();
    for (name, path) in entries(directory).unwrap_or_default() {
        for (key, path) in entries(&path).unwrap_or_default() {
            if files.len() < MOST && !path.is_dir() {
                let text = text(&path).map_err(|error| error.to_string());
                files.insert((name.clone(), key), text);
            }
        }
    }
    Secrets { directory: directory.to_owned(), files }
}

/// Names and paths in a directory, but for hidden ones: Kubernetes has those beside its mounted secrets.
fn entries(directory: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = fs::read_dir(directory)?.filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        (!name.starts_with('.')).then(|| (name, entry.path()))
    });
    Ok(entries.collect())
}

/// A file without the line break at its end.
fn text(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if metadata.len() > LONGEST {
        return Err(io::Error::other(format!("it has {} octets, more than {LONGEST}", metadata.len())));
    }
    let text = fs::read_to_string(path)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(secrets: &Secrets, name: &str, key: &str) -> Option<Result<String, String>> {
        secrets.files.get(&(name.to_owned(), key.to_owned())).cloned()
    }

    #[test]
    fn files_are_secrets_by_directory_and_name() {
        let root = tempfile::tempdir().unwrap();
        let path = |tail: &str| root.path().join(tail);
        fs::create_dir_all(path("bgp/..2026")).unwrap();
        fs::write(path("bgp/..2026/pw"), "hidden").unwrap();
        std::os::unix::fs::symlink("..2026/pw", path("bgp/linked")).unwrap();
        fs::write(path("bgp/pw"), "s3cret\n").unwrap();
        fs::write(path("bgp/dos"), " two \r\n").unwrap();
        fs::write(path("bgp/long"), "x".repeat(5000)).unwrap();
        fs::write(path("bgp/latin1"), [0xe9]).unwrap();
        fs::write(path("stray"), "not in a secret").unwrap();
        let secrets = read(root.path());
        assert_eq!(text(&secrets, "bgp", "pw"), Some(Ok("s3cret".into())));
        assert_eq!(text(&secrets, "bgp", "dos"), Some(Ok(" two ".into())));
        assert_eq!(text(&secrets, "bgp", "linked"), Some(Ok("hidden".into())));
        assert!(text(&secrets, "bgp", "long").unwrap().unwrap_err().contains("5000 octets"));
        assert!(text(&secrets, "bgp", "latin1").unwrap().is_err());
        assert_eq!(secrets.files.len(), 5);
        assert!(!format!("{secrets:?}").contains("s3cret"));
        assert!(read(&path("nowhere")).files.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("bgp/pw");
        fs::create_dir(file.parent().unwrap()).unwrap();
        fs::write(&file, "one").unwrap();
        let directory = Directory::open(root.path().to_owned()).await;
        let mut reader = directory.reader();
        let present = |secrets: &Arc<Secrets>| text(secrets, "bgp", "pw");
        assert_eq!(present(&reader.borrow_and_update()), Some(Ok("one".into())));
        let task = tokio::spawn(directory.watch());
        fs::write(&file, "two").unwrap();
        reader.changed().await.unwrap();
        assert_eq!(present(&reader.borrow_and_update()), Some(Ok("two".into())));
        fs::remove_file(&file).unwrap();
        reader.changed().await.unwrap();
        assert_eq!(present(&reader.borrow_and_update()), None);
        task.abort();
    }
}
