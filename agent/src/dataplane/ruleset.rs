//! Whether the rules in the kernel are the ones that are wanted: what it holds as far as we know, and what leads from there
//! to what is wanted. Decides; the kernel compares and writes.
//!
//! As long as nobody else has touched the table, what we wrote last is what it holds, and nothing is read. A transaction
//! that is refused leaves everything as it was; the next begins with reading, and the one after that makes the table
//! anew. Rules that are refused even then wait, longer each time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tortie_policy::Ruleset;
use tortie_policy::change::{Change, diff, from_nothing};

use crate::kernel::{KernelError, Rulesets, chain};

/// Refusals in a row, whatever the way, before the next attempt waits.
const PATIENCE: u32 = 3;
/// How long it waits then; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest.
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// What is known about the rules in the kernel.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    held: Held,
    /// Transactions refused in a row.
    refused: u32,
    waiting: Option<Waiting>,
}

/// Rules that were refused again and again.
#[derive(Debug)]
struct Waiting {
    wanted: Arc<Ruleset>,
    reason: String,
    /// When they are tried again.
    until: Instant,
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

    /// Why these rules are not tried now. Others may be taken, so they do not wait.
    pub(super) fn waits(&self, wanted: &Arc<Ruleset>, now: Instant) -> Option<&str> {
        let waiting = self.waiting.as_ref().filter(|waiting| now < waiting.until)?;
        let same = Arc::ptr_eq(&waiting.wanted, wanted) || waiting.wanted == *wanted;
        same.then_some(waiting.reason.as_str())
    }

    /// When rules that wait are tried again.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        self.waiting.as_ref().map(|waiting| waiting.until)
    }

    /// Brings the kernel to these rules with what differs, in one transaction.
    pub(super) fn load(
        &mut self,
        kernel: &mut impl Rulesets,
        wanted: &Arc<Ruleset>,
        now: Instant,
    ) -> Result<(), KernelError> {
        let held = std::mem::take(&mut self.held);
        let changes = self.changes(held, kernel, wanted)?;
        if !changes.is_empty()
            && let Err(error) = kernel.change_ruleset(&changes)
        {
            self.refused += 1;
            self.waiting = self.refused.checked_sub(PATIENCE).map(|times| Waiting {
                wanted: Arc::clone(wanted),
                reason: chain(&error),
                until: now + (FIRST_PAUSE * (1 << times.min(5))).min(LAST_PAUSE),
            });
            return Err(error);
        }
        *self = Loaded { held: Held::Ours(Arc::clone(wanted)), ..Loaded::default() };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::{FakeKernel, State};

    #[test]
    fn rules_refused_again_and_again_wait_longer_and_longer_and_others_do_not() {
        let mut kernel = FakeKernel::new(State { refuse_rules: true, ..State::default() });
        let (mut loaded, start) = (Loaded::default(), Instant::now());
        let wanted = Arc::new(Ruleset::default());
        let mut tried = Vec::new();
        for tenth in 0..1200 {
            let now = start + Duration::from_millis(100) * tenth;
            if loaded.waits(&wanted, now).is_none() {
                loaded.load(&mut kernel, &wanted, now).unwrap_err();
                tried.push(tenth);
            }
        }
        assert_eq!(tried, [0, 1, 2, 12, 32, 72, 152, 312, 612, 912]);
        let now = start + Duration::from_secs(100);
        assert!(loaded.waits(&wanted, now).is_some_and(|reason| reason.contains("Invalid argument")));
        let others = Arc::new(Ruleset::empty());
        assert_eq!(loaded.waits(&others, now), None);
        kernel.drift(|state| state.refuse_rules = false);
        loaded.load(&mut kernel, &others, now).unwrap();
        assert_eq!((loaded.waits(&wanted, now), loaded.next_attempt()), (None, None));
    }
}
