//! `node checksystem`: what this machine lacks, as calicoctl says it (calico-datamodel 6.5), and which rules of others are
//! in the way.

use anyhow::bail;

use crate::checksystem::{Conflict, Line, Report, Standing, judge, probe};
use crate::cli::NodeChecksystemArgs;
use crate::outcome::Outcome;
use crate::output::{Format, structured};

/// calicoctl's last words.
const MEETS: &str = "System meets minimum system requirements to run Tortie!";
const DOES_NOT_MEET: &str = "system doesn't meet one or more minimum systems requirements to run Tortie";
const CONFLICTS: &str = "rules of others stop what this node needs; see the conflicts";

pub(super) fn run(args: &NodeChecksystemArgs) -> anyhow::Result<Outcome> {
    let format: Format = args.output.parse()?;
    if matches!(format, Format::Wide | Format::Name | Format::Columns(_)) {
        bail!("output format '{}' is not for this check: use ps, yaml or json", args.output);
    }
    let report = judge(&probe::gather(args.kernel_config.as_deref())?);
    let mut outcome = Outcome::ok(match format {
        Format::Yaml | Format::Json => structured::to_text(&serde_json::to_value(&report)?, &format),
        Format::Table | Format::Wide | Format::Name | Format::Columns(_) => text(&report),
    });
    let failure = match (report.meets_requirements(), report.has_conflicts()) {
        (false, _) => Some(DOES_NOT_MEET),
        (true, true) => Some(CONFLICTS),
        (true, false) => None,
    };
    outcome.failed = failure.is_some();
    outcome.stderr = failure.unwrap_or_default().to_owned();
    Ok(outcome)
}

/// The report for people.
pub(crate) fn text(report: &Report) -> String {
    let mut text = String::new();
    for (what, lines) in [
        ("kernel version", &report.kernel_version),
        ("kernel modules", &report.kernel_modules),
        ("kernel parameters", &report.kernel_parameters),
        ("rules of others", &report.rules_of_others),
    ] {
        text.push_str(&format!("Checking {what}...\n"));
        lines.iter().for_each(|line| text.push_str(&row(line)));
    }
    report.conflicts.iter().for_each(|conflict| text.push_str(&of_conflict(conflict)));
    if report.meets_requirements() && !report.has_conflicts() {
        text.push_str(&format!("{MEETS}\n"));
    }
    text
}

fn row(line: &Line) -> String {
    let word = match line.standing {
        Standing::Ok => "OK",
        Standing::Warn => "WARN",
        Standing::Fail => "FAIL",
    };
    let advice = if line.advice.is_empty() { String::new() } else { format!("\t\t\t{}\n", line.advice) };
    format!("\t\t{:<20}\t\t{word}\n{advice}", line.name)
}

fn of_conflict(conflict: &Conflict) -> String {
    let Conflict { table, chain, hook, stops, reason, certain, remedy } = conflict;
    let word = if *certain { "Conflict" } else { "Possible conflict" };
    let mut text = format!("{word}: table {table}, chain {chain} (hook {hook}) stops new connections\n");
    stops.iter().for_each(|what| text.push_str(&format!("\t\t{what}\n")));
    text.push_str(&format!(
        "\tbecause {reason}. An accept of ours does not change that. To let them through:\n"
    ));
    remedy.iter().for_each(|command| text.push_str(&format!("\t\t{command}\n")));
    text
}
