//! Whether the rules in the kernel are the ones that are wanted: what it holds as far as we know, and what leads from there
//! to what is wanted. Decides; the kernel compares and writes.
//!
//! As long as nobody else has touched the table, what we wrote last is what it holds, and nothing is read. A transaction
//! that is refused leaves everything as it was; the next begins with reading, and the one after that makes the table
//! anew.

use std::sync::Arc;

use tortie_policy::Ruleset;
use tortie_policy::change::{Change, diff, from_nothing};

use crate::kernel::{KernelError, Rulesets};

/// What is known about the rules in the kernel.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    held: Held,
    /// Transactions refused in a row.
    refused: u32,
}

/// What the table holds.
#[derive(Debug, Default)]
enum Held {
    /// Not known.
    #[default]
    Unknown,
    /// Exactly these.
    Ours(Arc<Ruleset>),
}

impl Loaded {
    /// Whether the kernel holds these rules.
    pub(super) fn is(&self, wanted: &Arc<Ruleset>) -> bool {
        matches!(&self.held, Held::Ours(loaded) if Arc::ptr_eq(loaded, wanted) || loaded == wanted)
    }

    /// Whether the kernel is known to hold rules of ours, of now or before.
    pub(super) fn is_any(&self) -> bool {
        matches!(self.held, Held::Ours(_))
    }

    /// Finds out whether the table was touched since it was loaded.
    pub(super) fn check(&mut self, kernel: &mut impl Rulesets) -> Result<(), KernelError> {
        let Held::Ours(loaded) = &self.held else { return Ok(()) };
        if kernel.ruleset_untouched()? {
            return Ok(());
        }
        if kernel.ruleset(loaded)?.as_ref() == Some(&**loaded) {
            return Ok(());
        }
        // What others made of it is read again, beside what is wanted by then.
        self.held = Held::Unknown;
        tracing::warn!("table inet tortie was changed by somebody else, putting it right");
        Ok(())
    }

    /// Brings the kernel to these rules with what differs, in one transaction.
    pub(super) fn load(
        &mut self,
        kernel: &mut impl Rulesets,
        wanted: &Arc<Ruleset>,
    ) -> Result<(), KernelError> {
        let held = std::mem::take(&mut self.held);
        let changes = self.changes(held, kernel, wanted)?;
        if !changes.is_empty()
            && let Err(error) = kernel.change_ruleset(&changes)
        {
            self.refused += 1;
            return Err(error);
        }
        *self = Loaded { held: Held::Ours(Arc::clone(wanted)), refused: 0 };
        Ok(())
    }

    fn changes(
        &self,
        held: Held,
        kernel: &mut impl Rulesets,
        wanted: &Ruleset,
    ) -> Result<Vec<Change>, KernelError> {
        Ok(match held {
            Held::Ours(held) => diff(&held, wanted),
            Held::Unknown => match kernel.ruleset(wanted)?.filter(|_| self.refused < 2) {
                Some(found) => diff(&found, wanted),
                None => from_nothing(wanted),
            },
        })
    }
}
