//! The unix socket of the local API: one agent a socket, reachable by its owner only.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another agent serves it.
    #[error("another tortie-node answers at {}; stop it first, or choose another path with --socket", .0.display())]
    InUse(PathBuf),
    /// Something else has that name.
    #[error("{} exists and is no socket; remove it, or choose another path with --socket", .0.display())]
    Occupied(PathBuf),
    /// An operation on the file failed.
    #[error("cannot {action} {}", .path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> SocketError + 'a {
    move |source| SocketError::File { action, path: path.to_owned(), source }
}

/// Makes sure that nobody serves the path. A socket nobody answers at was left by an agent that was killed.
///
/// # Errors
/// [`SocketError`].
pub fn check_free(path: &Path) -> Result<(), SocketError> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => Err(SocketError::Occupied(path.to_owned())),
        Ok(_) => match StdStream::connect(path) {
            Ok(_) => Err(SocketError::InUse(path.to_owned())),
            Err(error) if is_nobody(error.kind()) => Ok(()),
            // A full backlog means that somebody listens.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(SocketError::InUse(path.to_owned()))
            }
            Err(error) => Err(failed("connect to", path)(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("look at", path)(error)),
    }
}

fn is_nobody(error: io::ErrorKind) -> bool {
    matches!(error, io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

/// Listens at a path, in place of a socket nobody answers at. Nobody can connect before the mode is 0600: the socket is
/// made under another name and moved.
///
/// # Errors
/// [`SocketError`].
pub fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    check_free(path)?;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed("create the directory", directory))?;
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    // Left by an agent with our process id, in an earlier life of the machine.
    let _ = std::fs::remove_file(&draft);
    let listener = UnixListener::bind(&draft).map_err(failed("listen at", &draft))?;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&draft, mode).map_err(failed("set the mode of", &draft))?;
    std::fs::rename(&draft, path).map_err(failed("create", path))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_agent_serves_a_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/tortie.sock");
        let listener = listen(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = listen(&path).unwrap_err().to_string();
        assert!(error.contains("another tortie-node") && error.contains("run/tortie.sock"), "{error}");

        // Killed: the file stays, nobody answers.
        drop(listener);
        assert!(path.exists());
        drop(listen(&path).unwrap());
        let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "no draft is left");

        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(matches!(listen(&path), Err(SocketError::Occupied(_))));
    }
}
