//! The product's main job, step by step, readable by a person. Each step shows what it does and checks it.
//!
//! | module | steps |
//! |---|---|
//! | [`setup`] | topology, datastore, pool, nodes, pods |
//! | [`looks`] | kernel state, the router's table, the store's keys |
//! | [`moves`] | pings, NAT, policy, a killed agent, removal |

pub mod looks;
pub mod moves;
pub mod setup;

use std::io::stdout;

use anyhow::Result;

use crate::diagnostics;
use crate::lab::Lab;
use crate::report::Report;
use crate::rules::all_agree;
use crate::workload::Wanted;

/// The pods: two on node1, one on each of the others.
pub const PODS: [Wanted<'static>; 4] = [
    Wanted { name: "web", node: 0, labels: &[("role", "web")] },
    Wanted { name: "guest", node: 0, labels: &[("role", "guest")] },
    Wanted { name: "client", node: 1, labels: &[("role", "client")] },
    Wanted { name: "far", node: 2, labels: &[("role", "guest")] },
];

/// How many steps there are inside the sandbox.
pub const STEPS: u32 = 12;

/// Runs all steps inside the sandbox. Whether their checks held, the report knows.
///
/// # Errors
/// When a step cannot go on; the state of the lab is printed before.
pub fn run(report: &mut Report) -> Result<()> {
    let mut lab = setup::topology(report)?;
    let result = steps(&mut lab, report);
    if result.is_err() || !report.all_held() {
        diagnostics::print(&lab, &mut stdout());
    }
    result
}

fn steps(lab: &mut Lab, report: &mut Report) -> Result<()> {
    setup::pool(lab, report)?;
    setup::nodes(lab, report)?;
    rules(lab, report);
    setup::pods(lab, report)?;
    rules(lab, report);
    looks::kernel(lab, report)?;
    looks::router(lab, report)?;
    looks::keys(lab, report)?;
    moves::pings(lab, report)?;
    rules(lab, report);
    moves::nat(lab, report)?;
    moves::policy(lab, report)?;
    rules(lab, report);
    moves::restart(lab, report)?;
    rules(lab, report);
    moves::removal(lab, report)
}

/// After every step that may change a rule.
fn rules(lab: &Lab, report: &mut Report) {
    report.check_result("the kernel of every node holds the rules its agent wants", all_agree(lab));
}
