//! `bgp routes`: the routes of the agent's BGP speaker as a table, YAML or JSON.

use anyhow::{anyhow, bail};
use ipnetwork::IpNetwork;
use serde::Serialize;
use tortie_model::local_api::{BgpRoute, BgpStanding};

use super::{bgp_explain, unanswered};
use crate::agent::{self, AgentError};
use crate::cli::BgpRoutesArgs;
use crate::outcome::Outcome;
use crate::output::{Format, structured, table};

pub(super) async fn run(args: &BgpRoutesArgs) -> anyhow::Result<Outcome> {
    let format: Format = args.output.parse()?;
    if matches!(format, Format::Name | Format::Columns(_)) {
        bail!("output format '{}' is not for routes: use ps, wide, yaml or json", args.output);
    }
    let failed = |error: AgentError| anyhow!(unanswered(&error));
    let peer = args.peer.as_deref();
    if let Some(text) = &args.explain {
        let prefix = prefix(text)?;
        let explanation = agent::bgp_explain(&args.socket, prefix, peer).await.map_err(failed)?;
        return match format {
            Format::Yaml | Format::Json => document(&explanation, &format),
            Format::Table | Format::Wide | Format::Name | Format::Columns(_) => {
                Ok(Outcome::ok(bgp_explain::text(&explanation)))
            }
        };
    }
    let view = match args {
        BgpRoutesArgs { received: true, .. } => "received",
        BgpRoutesArgs { sent: true, .. } => "sent",
        BgpRoutesArgs { best: true, .. } => "best",
        _ => "table",
    };
    let mut routes = agent::bgp_routes(&args.socket, view, peer).await.map_err(failed)?;
    routes.sort_by(|a, b| key(a).cmp(&key(b)));
    match format {
        Format::Yaml | Format::Json => document(&routes, &format),
        Format::Table | Format::Wide | Format::Name | Format::Columns(_) => {
            Ok(Outcome::ok(text(&routes, format == Format::Wide)))
        }
    }
}

/// IPv4 first, by address and length; of a prefix the best first.
fn key(route: &BgpRoute) -> impl Ord + '_ {
    (route.prefix, route.standing, route.from.as_ref(), route.path_id)
}

fn document(value: &impl Serialize, format: &Format) -> anyhow::Result<Outcome> {
    Ok(Outcome::ok(structured::to_text(&serde_json::to_value(value)?, format)))
}

/// The value of `--explain`: a prefix, or an address alone.
fn prefix(text: &str) -> anyhow::Result<IpNetwork> {
    text.parse().map_err(|_| {
        anyhow!(
            "--explain {text}: must be a prefix or an address, such as 10.64.0.0/26, fd00::/64 or 10.64.0.7"
        )
    })
}

fn text(routes: &[BgpRoute], wide: bool) -> String {
    let mut header =
        vec!["PREFIX", "NEXT HOP", "LOCALPREF", "MED", "AS PATH", "ORIGIN", "COMMUNITIES", "FROM", "FLAGS"];
    if wide {
        header.push("REASON");
    }
    let row = |route: &BgpRoute| {
        let attributes = &route.attributes;
        let mut row = vec![
            route.prefix.to_string(),
            attributes.next_hop.map_or_else(|| "self".to_owned(), |next_hop| next_hop.to_string()),
            number(attributes.local_pref),
            number(attributes.med),
            attributes.as_path.clone(),
            attributes.origin.clone(),
            attributes.communities.join(","),
            route.from.as_ref().map_or_else(|| "self".to_owned(), |peer| peer.name.clone()),
            flags(route),
        ];
        if wide {
            row.push(route.reason.clone().unwrap_or_default());
        }
        row
    };
    let header = header.into_iter().map(str::to_owned).collect();
    table::plain(&std::iter::once(header).chain(routes.iter().map(row)).collect::<Vec<_>>())
}

fn number(value: Option<u32>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn flags(route: &BgpRoute) -> String {
    let stale = if route.stale { ",stale" } else { "" };
    let path = route.path_id.map(|id| format!(",path {id}")).unwrap_or_default();
    format!("{}{stale}{path}", word(route.standing))
}

pub(super) fn word(standing: BgpStanding) -> &'static str {
    match standing {
        BgpStanding::Originated => "originated",
        BgpStanding::Best => "best",
        BgpStanding::Multipath => "multipath",
        BgpStanding::NotBest => "not best",
        BgpStanding::Unusable => "unusable",
        BgpStanding::Rejected => "rejected",
        BgpStanding::Announced => "announced",
        BgpStanding::Pending => "pending",
        BgpStanding::Withheld => "withheld",
    }
}
