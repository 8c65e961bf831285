//! Whether files have changed, by what the file system says of them. Polled: that also sees a link pointing elsewhere, as a
//! mounted ConfigMap changes.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files as they were seen.
#[derive(Debug)]
pub(crate) struct Stamps(BTreeMap<PathBuf, Option<Stamp>>);

/// Device, inode, size and time of change in seconds and nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

impl Stamps {
    /// As they are now.
    pub(crate) fn take(files: &[PathBuf]) -> Stamps {
        Stamps(files.iter().map(|file| (file.clone(), stamp(file))).collect())
    }

    /// The same files, as they are now.
    pub(crate) fn again(&self) -> Stamps {
        Stamps(self.0.keys().map(|file| (file.clone(), stamp(file))).collect())
    }

    /// These files from now on; those known keep what was seen.
    pub(crate) fn follow(&mut self, files: &[PathBuf]) {
        self.0.retain(|file, _| files.contains(file));
        for file in files {
            self.0.entry(file.clone()).or_insert_with(|| stamp(file));
        }
    }

    /// Whether one is not as it was seen.
    pub(crate) fn have_changed(&self) -> bool {
        self.0.iter().any(|(file, seen)| stamp(file) != *seen)
    }
}

/// `None` for a file that cannot be looked at.
fn stamp(file: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.size(), metadata.ctime(), metadata.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_replaced_or_missing_file_has_changed() {
        let directory = tempfile::tempdir().unwrap();
        let [file, other] = ["a", "b"].map(|name| directory.path().join(name));
        std::fs::write(&file, "one").unwrap();
        let mut stamps = Stamps::take(std::slice::from_ref(&file));
        assert!(!stamps.have_changed());
        std::fs::write(&file, "longer").unwrap();
        assert!(stamps.have_changed());
        stamps = stamps.again();
        std::fs::write(&other, "longer").unwrap();
        std::fs::rename(&other, &file).unwrap();
        assert!(stamps.have_changed());
        stamps = stamps.again();
        stamps.follow(&[file.clone(), other.clone()]);
        assert!(!stamps.have_changed());
        std::fs::write(&other, "").unwrap();
        assert!(stamps.have_changed());
        stamps = stamps.again();
        stamps.follow(std::slice::from_ref(&file));
        std::fs::remove_file(&other).unwrap();
        assert!(!stamps.have_changed());
        std::fs::remove_file(&file).unwrap();
        assert!(stamps.have_changed());
    }
}
