//! Settings below `/proc/sys`, which the kernel shows for the network namespace of whoever opens them.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use super::linux::Linux;
use super::{KernelError, Sysctls};

impl Sysctls for Linux {
    fn read_sysctl(&mut self, name: &str) -> Result<Option<String>, KernelError> {
        match fs::read_to_string(Path::new("/proc/sys").join(name)) {
            Ok(text) => Ok(Some(text.trim().to_string())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(KernelError::refused(format!("read /proc/sys/{name}"), error)),
        }
    }

    fn write_sysctl(&mut self, name: &str, value: &str) -> Result<(), KernelError> {
        let path = Path::new("/proc/sys").join(name);
        // Opened without O_CREAT: an interface that went away is ENOENT, not EACCES.
        let written = fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(value.as_bytes()));
        written.map_err(|error| KernelError::refused(format!("write {value} to /proc/sys/{name}"), error))
    }
}
