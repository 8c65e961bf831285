//! Counting what happened to many resources, and calicoctl's words for it (calico-datamodel 6.3).

use std::collections::BTreeSet;

use tortie_model::Kind;

use crate::outcome::Outcome;

/// What happened to the resources of one command.
#[derive(Debug, Default)]
pub(super) struct Results {
    kinds: BTreeSet<Kind>,
    /// How many there were.
    pub(super) total: usize,
    /// How many were handled, or skipped as asked.
    pub(super) handled: usize,
    /// One text a failure.
    pub(super) errors: Vec<String>,
}

impl Results {
    /// Of resources of these kinds, one entry a resource.
    pub(super) fn of(kinds: impl IntoIterator<Item = Kind>) -> Results {
        let mut results = Results::default();
        for kind in kinds {
            results.kinds.insert(kind);
            results.total += 1;
        }
        results
    }

    /// The kind, when it is only one.
    pub(super) fn single_kind(&self) -> Option<Kind> {
        self.kinds.first().copied().filter(|_| self.kinds.len() == 1)
    }

    /// `'IPPool' `, or nothing when kinds are mixed.
    fn quoted_kind(&self) -> String {
        self.single_kind().map(|kind| format!("'{kind}' ")).unwrap_or_default()
    }

    /// `Successfully created 2 'IPPool' resource(s)`.
    pub(super) fn success(&self, past: &str) -> String {
        format!("Successfully {past} {} {}resource(s)\n", self.handled, self.quoted_kind())
    }

    /// The outcome of create, apply, replace and validate.
    pub(super) fn outcome(self, verb: &str, past: &str) -> Outcome {
        if self.errors.is_empty() {
            return Outcome::ok(self.success(past));
        }
        let errors = listed(&self.errors);
        if self.handled == 0 {
            return Outcome::failed(self.failure(verb, &errors));
        }
        let mut stdout = String::new();
        if self.handled > self.errors.len() {
            let (done, total, kind) = (self.handled, self.total, self.quoted_kind());
            stdout = format!("Partial success: {past} the first {done} out of {total} {kind}resources:\n");
        }
        Outcome { stdout, stderr: format!("hit error: {errors}"), failed: true }
    }

    fn failure(&self, verb: &str, errors: &str) -> String {
        match (self.total, self.single_kind()) {
            (1, Some(kind)) => format!("failed to {verb} '{kind}' resource: {errors}"),
            (_, Some(kind)) => format!("failed to {verb} any '{kind}' resources: {errors}"),
            (_, None) => format!("failed to {verb} any resources: {errors}"),
        }
    }
}

/// `[one]`, or one a line.
fn listed(errors: &[String]) -> String {
    match errors {
        [error] => format!("[{error}]"),
        errors => format!("[\n-  {}\n]", errors.join("\n-  ")),
    }
}

/// What is said when a file has no resources in it.
pub(super) fn nothing_in(source: &str, skip_empty: bool) -> Outcome {
    if skip_empty {
        return Outcome::line("No resources specified");
    }
    let source = if source == "-" { "standard input" } else { source };
    Outcome::failed(format!("no resources specified in file {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(kinds: &[Kind], handled: usize, errors: &[&str]) -> Results {
        let errors = errors.iter().map(|e| (*e).to_owned()).collect();
        Results { handled, errors, ..Results::of(kinds.iter().copied()) }
    }

    #[test]
    fn the_words_are_calicoctls() {
        let two = [Kind::IpPool, Kind::IpPool];
        let mixed = [Kind::IpPool, Kind::Node];
        let said = |r: Results| {
            let outcome = r.outcome("create", "created");
            (outcome.stdout, outcome.stderr, outcome.failed)
        };
        let ok = |text: &str| (text.to_owned(), String::new(), false);
        assert_eq!(said(results(&two, 2, &[])), ok("Successfully created 2 'IPPool' resource(s)\n"));
        assert_eq!(said(results(&mixed, 2, &[])), ok("Successfully created 2 resource(s)\n"));
        let bad = |out: &str, err: &str| (out.to_owned(), err.to_owned(), true);
        assert_eq!(said(results(&two[..1], 0, &["x"])), bad("", "failed to create 'IPPool' resource: [x]"));
        assert_eq!(
            said(results(&two, 0, &["x", "y"])),
            bad("", "failed to create any 'IPPool' resources: [\n-  x\n-  y\n]")
        );
        assert_eq!(said(results(&mixed, 0, &["x"])), bad("", "failed to create any resources: [x]"));
        assert_eq!(said(results(&two, 1, &["x"])), bad("", "hit error: [x]"));
        assert_eq!(
            said(results(&[Kind::IpPool; 3], 2, &["x"])),
            bad("Partial success: created the first 2 out of 3 'IPPool' resources:\n", "hit error: [x]")
        );
    }
}
