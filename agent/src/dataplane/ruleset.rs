//! Whether the rules in the kernel are the ones that are wanted: what we loaded last, and what tells that somebody has
//! touched it since. Decides; loading is the cycle's affair.
//!
//! Every commit to any table of the namespace moves one generation number. While it stands where it stood after our own
//! load, nothing has changed and nothing is read. When it moved, the table is listed and compared by digest with what it
//! was while the generation was still ours.

use std::sync::Arc;

use tortie_policy::Ruleset;

use crate::kernel::{KernelError, Rulesets};

/// What is known about the rules in the kernel.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    ruleset: Option<Arc<Ruleset>>,
    /// Generation up to which the table is known to be as we loaded it.
    generation: u32,
    /// Digest of the table as we loaded it, once taken.
    digest: Option<u64>,
}

impl Loaded {
    /// Whether these are the rules that were loaded last.
    pub(super) fn is(&self, wanted: &Arc<Ruleset>) -> bool {
        self.ruleset.as_ref().is_some_and(|loaded| Arc::ptr_eq(loaded, wanted) || loaded == wanted)
    }

    /// Whether any rules of ours are known to be in the kernel.
    pub(super) fn is_any(&self) -> bool {
        self.ruleset.is_some()
    }

    /// These rules are in the kernel as of now.
    pub(super) fn loaded(&mut self, ruleset: Arc<Ruleset>, generation: u32) {
        *self = Loaded { ruleset: Some(ruleset), generation, digest: None };
    }

    /// Nothing is known: load again.
    pub(super) fn forget(&mut self) {
        *self = Loaded::default();
    }

    /// Finds out whether the table was touched since it was loaded. Then, what was loaded counts as forgotten.
    pub(super) fn check(&mut self, kernel: &mut impl Rulesets) -> Result<(), KernelError> {
        if self.ruleset.is_none() {
            return Ok(());
        }
        let generation = kernel.ruleset_generation()?;
        let untouched = generation == self.generation;
        if untouched && self.digest.is_some() {
            return Ok(());
        }
        let digest = kernel.ruleset_digest()?;
        let ours = match self.digest {
            // The first look: only while the generation is ours does it show what we loaded.
            None => digest.is_some() && untouched && kernel.ruleset_generation()? == generation,
            Some(_) => digest == self.digest,
        };
        if ours {
            self.digest = digest;
            // Taken before the listing: a commit since then is seen next time.
            self.generation = generation;
        } else {
            tracing::warn!("table inet tortie was changed by somebody else, loading it again");
            self.forget();
        }
        Ok(())
    }
}
