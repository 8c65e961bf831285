//! `datastore status`: every configured endpoint, whether it answers, and what it says of itself.

use tortie_datastore::config::{StoreConfig, health};
use tortie_datastore::etcd::{EndpointHealth, Role};

use crate::cli::Global;
use crate::outcome::Outcome;
use crate::output::table::boxed;

pub(super) async fn run(global: &Global) -> anyhow::Result<Outcome> {
    let config = StoreConfig::load(global.config.as_deref(), |name| std::env::var(name).ok())?;
    Ok(outcome(&health(config).await?))
}

/// The table goes to standard output however the endpoints are; the words about sick ones to standard error.
fn outcome(all: &[EndpointHealth]) -> Outcome {
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    let mut stderr = String::new();
    for one in all.iter().filter(|one| !one.problems.is_empty()) {
        stderr.push_str(&format!("{}: {}\n", one.endpoint, one.problems.join("; ")));
    }
    Outcome {
        stdout: boxed(&["ENDPOINT", "HEALTH", "VERSION", "ROLE", "REVISION", "SIZE"], &rows),
        failed: !stderr.is_empty(),
        stderr: stderr.trim_end().to_owned(),
    }
}

fn row(one: &EndpointHealth) -> Vec<String> {
    let mut row = vec![one.endpoint.clone()];
    row.push(match (&one.member, one.problems.is_empty()) {
        (_, true) => "healthy".to_owned(),
        (Some(_), false) => "unhealthy".to_owned(),
        (None, false) => "unreachable".to_owned(),
    });
    match &one.member {
        Some(member) => {
            let role = match member.role {
                Role::Leader => "leader",
                Role::Follower => "follower",
                Role::Learner => "learner",
            };
            row.extend([
                member.version.clone(),
                role.to_owned(),
                member.revision.to_string(),
                size(member.size),
            ]);
        }
        None => row.resize(6, String::new()),
    }
    row
}

/// In binary units, rounded down.
fn size(octets: i64) -> String {
    let mebibytes = octets.max(0) >> 20;
    if mebibytes > 0 { format!("{mebibytes} MiB") } else { format!("{} KiB", octets.max(0) >> 10) }
}

#[cfg(test)]
mod tests {
    use tortie_datastore::etcd::MemberStatus;

    use super::*;

    fn one(endpoint: &str, role: Option<Role>, problems: &[&str]) -> EndpointHealth {
        let member = role.map(|role| MemberStatus {
            version: "3.4.23".to_owned(),
            role,
            revision: 1234,
            size: 25 << 20,
            cluster: 7,
        });
        EndpointHealth {
            endpoint: endpoint.to_owned(),
            member,
            problems: problems.iter().map(|problem| (*problem).to_owned()).collect(),
        }
    }

    #[test]
    fn each_endpoint_has_a_row_and_each_sick_one_a_reason() {
        let outcome = outcome(&[
            one("https://10.0.0.1:2379", Some(Role::Leader), &[]),
            one("https://10.0.0.2:2379", Some(Role::Follower), &["alarm: NOSPACE"]),
            one("https://10.0.0.3:2379", None, &["Connection refused (os error 111)"]),
        ]);
        let table = "\
+-----------------------+-------------+---------+----------+----------+--------+
|       ENDPOINT        |   HEALTH    | VERSION |   ROLE   | REVISION |  SIZE  |
+-----------------------+-------------+---------+----------+----------+--------+
| https://10.0.0.1:2379 | healthy     | 3.4.23  | leader   |     1234 | 25 MiB |
| https://10.0.0.2:2379 | unhealthy   | 3.4.23  | follower |     1234 | 25 MiB |
| https://10.0.0.3:2379 | unreachable |         |          |          |        |
+-----------------------+-------------+---------+----------+----------+--------+
";
        assert_eq!(outcome.stdout, table);
        let words =
            "https://10.0.0.2:2379: alarm: NOSPACE\nhttps://10.0.0.3:2379: Connection refused (os error 111)";
        assert_eq!((outcome.stderr.as_str(), outcome.failed), (words, true));
    }
}
