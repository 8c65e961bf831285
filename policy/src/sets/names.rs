//! Names made of what something means.

use std::collections::BTreeSet;
use std::fmt::Debug;

use sha2::{Digest as _, Sha256};

/// Short names that stay the same as long as the meaning does.
#[derive(Debug, Default)]
pub(crate) struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// `prefix` and as many digits of a hash of `meaning` as make it unique, at least 12.
    pub(crate) fn unique(&mut self, prefix: &str, meaning: &impl Debug) -> String {
        let digest = Sha256::digest(format!("{meaning:?}"));
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut length = 12;
        loop {
            let name = format!("{prefix}{}", digits.get(..length).unwrap_or(&digits));
            if self.taken.insert(name.clone()) || length >= digits.len() {
                return name;
            }
            length += 4;
        }
    }

    /// Nobody has this name any more.
    pub(crate) fn release(&mut self, name: &str) {
        self.taken.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable_and_never_shared() {
        let mut names = Names::default();
        let first = names.unique("x-", &"a");
        assert_eq!(first.len(), 14);
        assert_eq!(names.unique("x-", &"a").len(), 18);
        assert_eq!(Names::default().unique("x-", &"a"), first);
    }
}
