//! `bgp routes --explain`: a prefix in sentences, as a tree. Pure.

use tortie_model::local_api::{
    BgpAnnouncement, BgpAttributes, BgpExplanation, BgpKernel, BgpPath, BgpPeerName, BgpStanding, BgpTold,
};

use super::bgp_routes::word;

/// Peers named in a sentence; of more, the number.
const NAMED: usize = 5;

/// A sentence with what belongs to it.
#[derive(Debug, PartialEq, Eq)]
struct Tree {
    text: String,
    below: Vec<Tree>,
}

impl Tree {
    fn leaf(text: impl Into<String>) -> Tree {
        Tree { text: text.into(), below: Vec::new() }
    }

    fn new(text: impl Into<String>, below: Vec<Tree>) -> Tree {
        Tree { text: text.into(), below }
    }

    fn write(&self, indent: &str, out: &mut String) {
        for (at, tree) in self.below.iter().enumerate() {
            let (branch, further) =
                if at + 1 == self.below.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            out.push_str(&format!("{indent}{branch}{}\n", tree.text));
            tree.write(&format!("{indent}{further}"), out);
        }
    }
}

/// The whole text.
pub(super) fn text(explanation: &BgpExplanation) -> String {
    let BgpExplanation { node, asked, prefix, originated, paths, kernel, peers, omitted } = explanation;
    let Some(prefix) = prefix else {
        return format!(
            "{asked} on {node}: no route\n└─ neither originated here nor announced by any peer, and nothing that holds it\n"
        );
    };
    let mut below = Vec::new();
    if prefix != asked {
        below.push(Tree::leaf(format!(
            "{asked} itself is not in the table; this is the longest prefix that holds it"
        )));
    }
    below.push(match originated {
        Some(own) => Tree::leaf(format!("originated by this node: {}", attributes(own))),
        None => Tree::leaf("not originated by this node"),
    });
    below.push(learned(paths));
    below.extend(kernel.as_ref().map(in_kernel));
    below.push(announced(peers, *omitted));
    let tree = Tree::new(format!("{prefix} on {node}"), below);
    let mut text = format!("{}\n", tree.text);
    tree.write("", &mut text);
    text
}

fn learned(paths: &[BgpPath]) -> Tree {
    let head = match paths.len() {
        0 => return Tree::leaf("announced by no peer"),
        1 => "learned: 1 path".to_owned(),
        more => format!("learned: {more} paths, best first"),
    };
    let mut paths: Vec<&BgpPath> = paths.iter().collect();
    paths.sort_by_key(|path| (path.received.standing, path.received.from.clone()));
    Tree::new(head, paths.into_iter().map(path).collect())
}

fn path(path: &BgpPath) -> Tree {
    let BgpPath { received, import, accepted } = path;
    let from = received.from.as_ref().map_or_else(|| "a peer that is gone".to_owned(), peer);
    let id = received.path_id.map(|id| format!(", path {id}")).unwrap_or_default();
    let mut below = vec![Tree::leaf(format!("received: {}", attributes(&received.attributes)))];
    let verdict = if received.standing == BgpStanding::Rejected { "refused" } else { "accepted" };
    below.push(Tree::leaf(format!("import: {verdict}, {import}")));
    below.extend(accepted.as_ref().map(|after| Tree::leaf(format!("after import: {}", attributes(after)))));
    if received.stale {
        below.push(Tree::leaf("stale: kept until its peer confirms it, or its time is over"));
    }
    // Why it is refused stands below already.
    let reason = received.reason.as_ref().filter(|_| received.standing != BgpStanding::Rejected);
    let reason = reason.map(|reason| format!(", {reason}")).unwrap_or_default();
    Tree::new(format!("from {from}{id}: {}{reason}", word(received.standing)), below)
}

fn in_kernel(kernel: &BgpKernel) -> Tree {
    let ways = kernel.gateways.iter().map(|way| format!("via {way}")).collect::<Vec<_>>().join(", ");
    Tree::leaf(match (kernel.programmed, &kernel.reason) {
        (true, None) => format!("kernel: programmed {ways}"),
        (true, Some(reason)) if ways.is_empty() => {
            format!("kernel: a route of before is still there: {reason}")
        }
        (false, Some(reason)) if ways.is_empty() => format!("kernel: not programmed: {reason}"),
        (_, Some(reason)) => format!("kernel: should be programmed {ways}: {reason}"),
        (false, None) => "kernel: not programmed".to_owned(),
    })
}

/// Peers that are told the same share a branch.
fn announced(peers: &[BgpTold], omitted: usize) -> Tree {
    let mut branches: Vec<(Vec<&BgpPeerName>, Vec<Tree>)> = Vec::new();
    for told in peers {
        let below = match &told.nothing {
            Some(words) => vec![Tree::leaf(format!("nothing: {words}"))],
            None => told.routes.iter().map(|one| announcement(one, told.routes.len() > 1)).collect(),
        };
        match branches.iter_mut().find(|(_, known)| *known == below) {
            Some((peers, _)) => peers.push(&told.peer),
            None => branches.push((vec![&told.peer], below)),
        }
    }
    let mut below: Vec<Tree> = branches
        .into_iter()
        .map(|(peers, below)| Tree::new(format!("to {}", names(&peers)), below))
        .collect();
    if omitted > 0 {
        below.push(Tree::leaf(format!("to {omitted} more peers: ask with --peer")));
    }
    if below.is_empty() {
        return Tree::leaf("announced to nobody: there are no peers");
    }
    Tree::new("announcements", below)
}

/// Which route it is about is said where there are several.
fn announcement(announcement: &BgpAnnouncement, several: bool) -> Tree {
    let BgpAnnouncement { from, path_id, standing, reason, attributes: sent } = announcement;
    let from = from.as_ref().map_or_else(|| "this node".to_owned(), peer);
    let mut which = if several { format!("the route of {from}: ") } else { String::new() };
    which.extend(path_id.map(|id| format!("path {id}: ")));
    match (standing, sent) {
        (BgpStanding::Withheld, _) | (_, None) => Tree::leaf(format!("{which}nothing: {reason}")),
        (_, Some(sent)) => {
            let waits =
                if *standing == BgpStanding::Pending { ", as soon as the peer takes more" } else { "" };
            Tree::new(format!("{which}announced{waits}: {reason}"), vec![Tree::leaf(attributes(sent))])
        }
    }
}

fn names(peers: &[&BgpPeerName]) -> String {
    let mut names: Vec<String> = peers.iter().take(NAMED).map(|name| peer(name)).collect();
    if peers.len() > NAMED {
        names.push(format!("{} more", peers.len() - NAMED));
    }
    names.join(", ")
}

fn peer(peer: &BgpPeerName) -> String {
    format!("{} ({})", peer.name, peer.address)
}

fn attributes(attributes: &BgpAttributes) -> String {
    let path = if attributes.as_path.is_empty() { "empty" } else { &attributes.as_path };
    let number = |name: &str, value: Option<u32>| value.map(|value| format!("{name} {value}"));
    let list =
        |name: &str, values: &[String]| (!values.is_empty()).then(|| format!("{name} {}", values.join(" ")));
    let clusters: Vec<String> = attributes.cluster_list.iter().map(ToString::to_string).collect();
    let parts = [
        attributes.next_hop.map(|next_hop| format!("next hop {next_hop}")),
        number("LOCAL_PREF", attributes.local_pref),
        number("MED", attributes.med),
        Some(format!("AS path {path}")),
        Some(format!("origin {}", attributes.origin)),
        list("communities", &attributes.communities),
        list("extended communities", &attributes.extended_communities),
        attributes.originator_id.map(|id| format!("originator {id}")),
        list("clusters", &clusters),
        number("only to customers since AS", attributes.only_to_customer),
        attributes.atomic_aggregate.then(|| "atomic aggregate".to_owned()),
        attributes.aggregator.as_ref().map(|aggregator| format!("aggregator {aggregator}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
