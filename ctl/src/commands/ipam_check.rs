//! `ipam check` and `ipam release --from-report` (calico-datamodel 6.6).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tortie_datastore::Client;
use tortie_datastore::ipam::{Ipam, IpamError, Release};
use tortie_datastore::store::{Compare, Operation, Outcome as Stored, Transaction};
use tortie_model::Key;

use super::words;
use crate::cli::{Global, IpamCheckArgs};
use crate::context;
use crate::operations::OperationError;
use crate::operations::ipam_check::{self, Allocation, Head, Inputs, LeakedHandle, Report};
use crate::outcome::Outcome;

pub(super) async fn run(global: &Global, args: &IpamCheckArgs) -> anyhow::Result<Outcome> {
    let client = context::client(global).await?;
    let inputs = match ipam_check::load(&client).await {
        Ok(inputs) => inputs,
        Err(error) => return Ok(Outcome::failed(words(error))),
    };
    let report = ipam_check::check(&inputs);
    if let Some(file) = &args.output {
        let text = serde_json::to_string_pretty(&report).context("the report cannot be written as JSON")?;
        std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(Outcome::ok(told(&inputs, &report, args)))
}

/// The check in words.
fn told(inputs: &Inputs, report: &Report, args: &IpamCheckArgs) -> String {
    let all: Vec<&Allocation> = report.allocations.values().flatten().collect();
    let leaked: Vec<&&Allocation> = all.iter().filter(|one| one.is_leaked()).collect();
    let cooling = all.iter().filter(|one| one.cooling_down).count();
    let mut text = String::from("Checking IPAM for inconsistencies...\n\n");
    let mut say = |line: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
    };
    say(format!("Found {} IPAM blocks.", inputs.blocks.len()));
    for block in &inputs.blocks {
        say(format!(" IPAM block {} affinity={}", block.cidr, block.affinity.as_deref().unwrap_or("<none>")));
    }
    say(format!("IPAM blocks record {} allocations; {cooling} more cool down.", all.len() - cooling));
    let active: Vec<_> = inputs.pools.iter().filter(|pool| !pool.spec.disabled).collect();
    say(format!("Found {} active IP pools.", active.len()));
    for pool in active {
        say(format!("  {}", pool.spec.cidr));
    }
    say(format!("Workloads and nodes are using {} IPs.\n", ipam_check::in_use(inputs).len()));
    for one in &all {
        if args.show_all_ips || (args.show_problem_ips && one.is_leaked()) {
            say(described(one));
        }
    }
    say(format!("Found {} IPs that are allocated in IPAM but not actually in use.", leaked.len()));
    say(format!("Found {} handles with no matching IPs.", report.leaked_handles.len()));
    if args.show_all_ips || args.show_problem_ips {
        report.leaked_handles.iter().for_each(|handle| say(format!("  {}", handle.id)));
    }
    say(format!("Found {} contradictions.", report.problems.len()));
    report.problems.iter().for_each(|problem| say(format!("  {problem}")));
    let problems = leaked.len() + report.leaked_handles.len() + report.problems.len();
    say(format!("Check complete; found {problems} problems."));
    text
}

fn described(one: &Allocation) -> String {
    let state = match (one.cooling_down, one.in_use) {
        (true, _) => "cools down".to_owned(),
        (false, true) if one.owners.is_empty() => "in use".to_owned(),
        (false, true) => format!("in use; owners: {}", one.owners.join(", ")),
        (false, false) => "leaked".to_owned(),
    };
    let borrowed = if one.borrowed { ", borrowed" } else { "" };
    format!("  {} {state}; handle {}, node {}{borrowed}", one.ip, one.handle, one.node)
}

/// Releases what every report calls leaked.
pub(super) async fn release(global: &Global, files: &[PathBuf], force: bool) -> anyhow::Result<Outcome> {
    let reports = files.iter().map(|file| read(file)).collect::<anyhow::Result<Vec<Report>>>()?;
    let client = context::client(global).await?;
    let head = match ipam_check::head(&client).await {
        Ok(head) => head,
        Err(error) => return Ok(Outcome::failed(words(error))),
    };
    refuse_unfit(&head, files, &reports, force)?;
    let (allocations, handles) = ipam_check::leaked_in_all(&reports);
    Ok(match release_all(&client, &allocations, &handles).await {
        Ok(text) => Outcome::ok(text),
        Err(error) => Outcome::failed(words(error)),
    })
}

fn read(file: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not a report of ipam check", file.display()))
}

/// Reports of another cluster never fit; of another version, or without a lock that keeps everyone from allocating, only by
/// force. At least one must have been made since the datastore was locked.
fn refuse_unfit(head: &Head, files: &[PathBuf], reports: &[Report], force: bool) -> anyhow::Result<()> {
    for (file, report) in files.iter().zip(reports) {
        let file = file.display();
        if report.head.cluster_guid != head.cluster_guid {
            anyhow::bail!(
                "{file} is of cluster {}, this is cluster {}",
                report.head.cluster_guid,
                head.cluster_guid
            );
        }
        if report.head.version != head.version && !force {
            anyhow::bail!(
                "{file} is of version {}, this is version {}: make a new report, or use --force",
                report.head.version,
                head.version
            );
        }
    }
    if !head.datastore_locked && !force {
        anyhow::bail!(
            "the datastore is not locked (datastoreReady of ClusterInformation is not false): addresses may be given \
             out meanwhile; lock it, or use --force"
        );
    }
    let current =
        |report: &Report| report.head.cluster_information_revision == head.cluster_information_revision;
    if !reports.iter().any(current) {
        anyhow::bail!(
            "no report is current: ClusterInformation was changed since; make a new one with ipam check -o"
        );
    }
    Ok(())
}

async fn release_all(
    client: &Client,
    allocations: &[Allocation],
    handles: &[LeakedHandle],
) -> Result<String, OperationError> {
    let ipam = Ipam::new(client.clone(), std::time::SystemTime::now);
    let mut released = 0;
    let mut text = String::new();
    for one in allocations {
        let Ok(address) = one.ip.parse() else { continue };
        let handle = (!one.handle.is_empty()).then(|| one.handle.clone());
        let wanted = Release { address, handle, sequence: Some(one.sequence_number) };
        match ipam.release_certain(&[wanted]).await {
            Ok(change) => released += change.addresses.len(),
            Err(error @ (IpamError::HandleMismatch { .. } | IpamError::SequenceMismatch { .. })) => {
                text.push_str(&format!("{address} stays: {error}\n"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut removed = 0;
    for handle in handles {
        let Ok(revision) = handle.revision.parse() else { continue };
        let key = Key::Handle(handle.id.clone()).to_string();
        let transaction = Transaction {
            compares: vec![Compare::ModRevision(key.clone(), revision)],
            operations: vec![Operation::Delete(key)],
        };
        if let Stored::Committed { .. } = client.store().transact(transaction).await? {
            removed += 1;
        }
    }
    text.push_str(&format!("Released {released} IPs, removed {removed} handles.\n"));
    text.push_str("You may now unlock the data store.\n");
    Ok(text)
}
