//! What is printed when something failed: enough to find out why without running it again.

use std::io::Write;

use crate::lab::Lab;
use crate::process::Run;

/// Lines kept of each log.
const TAIL: usize = 40;

/// Prints the state of the whole lab. Failures to print are ignored: there is nobody left to tell.
pub fn print(lab: &Lab, out: &mut impl Write) {
    for node in &lab.nodes {
        section(out, node.name(), "log of tortie-node", tail(&node.log()));
        for line in ["ip -4 route", "ip neigh", "ip -s link", "nft list table inet tortie"] {
            ask(out, node.name(), &node.run(line));
        }
        if let Ok(status) = node.tortiectl("node status") {
            ask(out, node.name(), &status);
        }
    }
    for pod in &lab.pods {
        for line in ["ip -4 route", "ip neigh", "ip -s link", "nstat -z"] {
            ask(out, &pod.name, &pod.netns.run(line));
        }
    }
    for question in ["show protocols", "show route"] {
        let text = lab.bird.ask(question).map_or_else(|e| format!("{e:#}"), |o| o.text());
        section(out, "router", &format!("birdc {question}"), &text);
    }
    ask(out, "router", &lab.topology.router.run("ip -4 route"));
    section(out, "router", "log of BIRD", tail(&lab.bird.log()));
    section(out, "router", "log of the datastore", tail(&lab.store_log()));
    ask(out, "router", &lab.etcdctl("get --prefix --keys-only /calico/"));
}

fn ask(out: &mut impl Write, place: &str, run: &Run) {
    let text = run.output().map_or_else(|error| format!("{error:#}"), |output| output.text());
    section(out, place, &run.display(), &text);
}

pub(crate) fn section(out: &mut impl Write, place: &str, title: &str, text: &str) {
    let _ = writeln!(out, "--- {place}: {title}\n{}", text.trim_end());
}

pub(crate) fn tail(text: &str) -> &str {
    let start = text.rmatch_indices('\n').nth(TAIL).map_or(0, |(index, _)| index + 1);
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_cut_from_the_front() {
        let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
        assert_eq!(tail(&text).lines().count(), TAIL);
        assert!(tail(&text).ends_with("line 99\n"));
        assert_eq!(tail("short\n"), "short\n");
    }
}
