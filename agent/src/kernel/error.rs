//! What the kernel refused, with the words it gave.

use std::error::Error;
use std::io;

use nix::errno::Errno;

/// A failed operation on the kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The operation was refused.
    #[error("cannot {action}")]
    Refused {
        /// What was to be done, as `add route 10.0.0.0/26`.
        action: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel said why in words of its own besides the error number.
    #[error("cannot {action} (the kernel says: {words})")]
    RefusedInWords {
        /// What was to be done.
        action: String,
        /// The kernel's words.
        words: String,
        /// The error number.
        #[source]
        source: io::Error,
    },
}

impl KernelError {
    /// `action` failed with `source`.
    pub fn refused(action: impl Into<String>, source: io::Error) -> KernelError {
        KernelError::Refused { action: action.into(), source }
    }

    /// The error number, when the kernel gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            KernelError::Refused { source, .. } | KernelError::RefusedInWords { source, .. } => {
                source.raw_os_error().map(Errno::from_raw)
            }
        }
    }

    /// What was to be removed is not there (any more).
    pub fn is_gone(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::ENOENT | Errno::ESRCH | Errno::ENODEV | Errno::EADDRNOTAVAIL | Errno::ENXIO)
        )
    }

    /// What was to be added is there already.
    pub fn exists(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }

    /// The kernel does not know this kind of object.
    pub fn unsupported(&self) -> bool {
        matches!(self.errno(), Some(Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT))
    }
}

/// An error with all its causes on one line, outermost first.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
