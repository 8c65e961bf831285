//! Secrets BGPPeers refer to, as the agent found them on this machine.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use tortie_model::resource::SecretSource;

/// Octets of a TCP-MD5 key at most (`TCP_MD5SIG_MAXKEYLEN`).
const LONGEST_KEY: usize = 80;

/// Texts by name of the secret and key inside it. Kubernetes keeps secrets upstream; here each is a file
/// `<name>/<key>` under a directory.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// Where the files are.
    pub directory: PathBuf,
    /// What is in them, or why that is not known.
    pub files: BTreeMap<(String, String), Result<String, String>>,
}

impl Secrets {
    /// The TCP-MD5 key a resource refers to.
    pub(super) fn password(&self, source: &SecretSource) -> Result<String, String> {
        let Some(reference) = &source.secret_key_ref else {
            return Err("secretKeyRef is missing".into());
        };
        let file = self.directory.join(&reference.name).join(&reference.key);
        let fault = |reason: &str| Err(format!("the secret's file {} {reason}", file.display()));
        match self.files.get(&(reference.name.clone(), reference.key.clone())) {
            None => fault("is missing"),
            Some(Err(reason)) => fault(&format!("cannot be read: {reason}")),
            Some(Ok(text)) if text.is_empty() => fault("is empty"),
            Some(Ok(text)) if text.len() > LONGEST_KEY => {
                fault(&format!("has {} octets; a TCP-MD5 key has at most {LONGEST_KEY}", text.len()))
            }
            Some(Ok(text)) => Ok(text.clone()),
        }
    }
}

/// Names, never contents.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("directory", &self.directory)
            .field("files", &self.files.keys())
            .finish()
    }
}
