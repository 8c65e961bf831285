//! Measurements as one table: a row for each speaker in each scenario, medians of several runs, and what ours is of the others'. Pure.

use anyhow::{Context, Result};
use serde_json::Value;

/// Ours.
const OURS: &str = "tortie";

/// Name in the report, title.
const COLUMNS: [(&str, &str); 10] = [
    ("setup_s", "set-up s"),
    ("converge_s", "converge s"),
    ("cpu_s", "CPU s"),
    ("rss_mib", "MiB"),
    ("peak_mib", "peak MiB"),
    ("late_s", "late joiner s"),
    ("withdraw_s", "withdraw s"),
    ("probe_p50_ms", "one route p50 ms"),
    ("probe_p99_ms", "p99 ms"),
    ("rejoin_s", "rejoin s"),
];

/// Renders lines of JSON.
///
/// # Errors
/// The line that is no measurement.
pub(crate) fn render(text: &str) -> Result<String> {
    let mut runs = Vec::new();
    for line in text.lines() {
        runs.push(serde_json::from_str::<Value>(line).with_context(|| format!("no measurement: {line}"))?);
    }
    let titles: Vec<&str> = COLUMNS.iter().map(|(_, title)| *title).collect();
    let mut out =
        format!("| scenario | speaker | {} |\n{}|\n", titles.join(" | "), "|---".repeat(COLUMNS.len() + 2));
    for scenario in distinct(&runs, "scenario") {
        let of_scenario: Vec<&Value> = runs.iter().filter(|run| run["scenario"] == scenario).collect();
        let mut speakers = distinct(&runs, "speaker");
        // Ours last, below what it is compared with.
        speakers.sort_by_key(|speaker| *speaker == OURS);
        for speaker in speakers {
            let of_speaker: Vec<&Value> =
                of_scenario.iter().filter(|run| run["speaker"] == speaker).copied().collect();
            if of_speaker.is_empty() {
                continue;
            }
            out += &row(&scenario, &speaker, &of_speaker, &of_scenario);
        }
    }
    Ok(out)
}

/// The row of a speaker; one that never got anywhere says why.
fn row(scenario: &str, speaker: &str, own: &[&Value], all: &[&Value]) -> String {
    let mut out = format!("| {scenario} | {speaker} |");
    let failed = own.iter().find_map(|run| run["failed"].as_str());
    for (index, (name, _)) in COLUMNS.iter().enumerate() {
        let best = best_of_others(all, name).filter(|_| speaker == OURS);
        let cell = match failed {
            Some(reason) if index == 0 => reason.to_owned(),
            _ => cell(median(own, name), best),
        };
        out += &format!(" {cell} |");
    }
    out + "\n"
}

/// The values of a field in order of appearance.
fn distinct(runs: &[Value], field: &str) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    for value in runs.iter().filter_map(|run| run[field].as_str()) {
        if !values.iter().any(|have| have == value) {
            values.push(value.to_owned());
        }
    }
    values
}

fn median(runs: &[&Value], name: &str) -> Option<f64> {
    let mut values: Vec<f64> = runs.iter().filter_map(|run| run[name].as_f64()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The smallest median another speaker has, with its name.
fn best_of_others(runs: &[&Value], name: &str) -> Option<(f64, String)> {
    let owned: Vec<Value> = runs.iter().map(|run| (*run).clone()).collect();
    let others = distinct(&owned, "speaker").into_iter().filter(|speaker| speaker != OURS);
    let medians = others.filter_map(|speaker| {
        let own: Vec<&Value> =
            runs.iter().filter(|run| run["speaker"] == speaker.as_str()).copied().collect();
        Some((median(&own, name)?, speaker))
    });
    medians.min_by(|a, b| a.0.total_cmp(&b.0))
}

fn cell(value: Option<f64>, best: Option<(f64, String)>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    match best {
        Some((other, speaker)) if other > 0.0 => {
            format!("{} ({:.2} × {speaker})", short(value), value / other)
        }
        _ => short(value),
    }
}

fn short(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_the_best_of_the_others() {
        let run = |speaker: &str, seconds: f64| {
            format!(
                "{{\"speaker\":\"{speaker}\",\"scenario\":\"feed\",\"converge_s\":{seconds},\"complete\":true}}\n"
            )
        };
        let text = run("tortie", 1.0)
            + &run("bird", 4.0)
            + &run("tortie", 3.0)
            + &run("frr", 8.0)
            + &run("tortie", 2.0);
        let table = render(&text).unwrap();
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert!(rows[0].starts_with("| feed | bird | - | 4.00 | - |"), "{table}");
        assert!(rows[2].starts_with("| feed | tortie | - | 2.00 (0.50 × bird) | - |"), "{table}");
        assert!(render("{").is_err());
        let failed =
            render("{\"speaker\":\"bird\",\"scenario\":\"feed\",\"failed\":\"no session\"}").unwrap();
        assert!(failed.contains("| feed | bird | no session |"), "{failed}");
    }
}
