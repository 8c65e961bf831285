//! The unix socket of a daemon: one daemon a path, for its owner only.
//!
//! The file stays when the daemon stops, however it stops. So one that is there already, with nobody behind it, says that a daemon
//! ran here since the machine started, and that peers may still keep its routes: what graceful restart wants to know.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// Somebody serves it.
    #[error("another tortie-bgpd answers at {}; choose another path with --socket", .0.display())]
    InUse(PathBuf),
    /// Something else has that name.
    #[error("{} exists and is no socket; choose another path with --socket", .0.display())]
    Occupied(PathBuf),
    /// The file system refused.
    #[error("cannot {action} {}; --socket chooses another path", .path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
}

/// Listens at a path. True with it when an earlier daemon left its socket there.
///
/// # Errors
/// [`SocketError`].
pub(crate) fn listen(path: &Path) -> Result<(UnixListener, bool), SocketError> {
    let left = was_left(path)?;
    if left {
        std::fs::remove_file(path).map_err(failed("replace", path))?;
    }
    let listener = UnixListener::bind(path).map_err(failed("listen at", path))?;
    // Who connects in between may read what is no secret.
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).map_err(failed("set the mode of", path))?;
    Ok((listener, left))
}

fn was_left(path: &Path) -> Result<bool, SocketError> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => Err(SocketError::Occupied(path.to_owned())),
        Ok(_) => match StdStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
            Ok(_) => Err(SocketError::InUse(path.to_owned())),
            Err(error) => Err(failed("connect to", path)(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("look at", path)(error)),
    }
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> SocketError + 'a {
    move |source| SocketError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_left_behind_tells_of_an_earlier_life() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let (listener, left) = listen(&path).unwrap();
        assert!(!left);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(listen(&path), Err(SocketError::InUse(_))));
        drop(listener);
        assert!(listen(&path).unwrap().1);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(listen(&path), Err(SocketError::Occupied(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
