//! The node's name (calico-datamodel 7.1) and the file that keeps it across starts.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::NameSources;

/// Why the node has no name.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// What the name was made of is no name.
    #[error(
        "node name '{name}' from {source_name} is invalid: lower-case letters, digits, '-' and '.', beginning and ending \
         with a letter or digit, at most 253 characters; set NODENAME"
    )]
    Invalid {
        /// The text.
        name: String,
        /// Where it came from.
        source_name: String,
    },
    /// The file that keeps the name cannot be read.
    #[error("cannot read the node name from {}; fix the file or set NODENAME", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Nothing names this machine.
    #[error("the host has no name; set NODENAME")]
    Nameless,
    /// The name could not be kept.
    #[error("cannot write the node name to {}; set CALICO_NODENAME_FILE to a writable place", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// The node's name: `NODENAME`, else the file, else `HOSTNAME`, else the host's name; the latter two in lower case.
///
/// # Errors
/// [`NameError`].
pub fn determine(sources: &NameSources) -> Result<String, NameError> {
    let stored = read(&sources.file)?;
    let host = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let (name, source_name) = choose(sources, stored.as_deref(), host).ok_or(NameError::Nameless)?;
    if !is_valid(&name) {
        return Err(NameError::Invalid { name, source_name });
    }
    tracing::info!("Using node name {name} from {source_name}");
    if let Some(stored) = stored.filter(|stored| *stored != name) {
        tracing::warn!("Node name {name} does not match the stored name {stored}; using {name}");
    }
    Ok(name)
}

fn choose(
    sources: &NameSources,
    stored: Option<&str>,
    host: impl FnOnce() -> Option<String>,
) -> Option<(String, String)> {
    if let Some(name) = &sources.explicit {
        return Some((name.clone(), "NODENAME".into()));
    }
    if let Some(name) = stored {
        return Some((name.to_owned(), sources.file.display().to_string()));
    }
    if let Some(name) = &sources.hostname {
        return Some((name.to_lowercase(), "HOSTNAME".into()));
    }
    host().filter(|name| !name.is_empty()).map(|name| (name.to_lowercase(), "the host's name".into()))
}

fn read(path: &Path) -> Result<Option<String>, NameError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|name| !name.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(NameError::Unreadable { path: path.to_owned(), source }),
    }
}

/// A DNS subdomain, since the name becomes a resource's.
fn is_valid(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// Keeps the name for the next start and for others on this machine (mode 0644).
///
/// # Errors
/// [`NameError::Unwritable`].
pub fn store(path: &Path, name: &str) -> Result<(), NameError> {
    let write = || {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(path, name)
    };
    write().map_err(|source| NameError::Unwritable { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(explicit: Option<&str>, hostname: Option<&str>) -> NameSources {
        NameSources {
            explicit: explicit.map(str::to_owned),
            file: "/x/nodename".into(),
            hostname: hostname.map(str::to_owned),
        }
    }

    #[test]
    fn the_first_source_wins() {
        let host = || Some("OS.example".to_owned());
        let name =
            |sources: NameSources, stored| choose(&sources, stored, host).map(|(name, _)| name).unwrap();
        assert_eq!(name(sources(Some("n1"), Some("H")), Some("stored")), "n1");
        assert_eq!(name(sources(None, Some("H")), Some("stored")), "stored");
        assert_eq!(name(sources(None, Some("H")), None), "h");
        assert_eq!(name(sources(None, None), None), "os.example");
        assert_eq!(choose(&sources(None, None), None, || None), None);
    }

    #[test]
    fn names_are_dns_subdomains_and_survive_a_restart() {
        for good in ["n1", "a.b-c.d", "0"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "N1", "a..b", "-a", "a-", "a_b", "a/b", &"x".repeat(254)] {
            assert!(!is_valid(bad), "{bad}");
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("calico/nodename");
        let mut from = sources(Some("first"), None);
        from.file = file.clone();
        store(&file, &determine(&from).unwrap()).unwrap();
        from.explicit = None;
        assert_eq!(determine(&from).unwrap(), "first");
        from.explicit = Some("Bad_Name".into());
        assert!(determine(&from).unwrap_err().to_string().contains("'Bad_Name' from NODENAME"));
    }
}
