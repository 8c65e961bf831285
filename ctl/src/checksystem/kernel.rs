//! What a node needs of the kernel, and what to do where it is missing; pure.

use super::{Answer, Facts, Line, Standing};

/// Oldest kernel: before, chains could not have comments, by which they are recognised.
const OLDEST: (u32, u32) = (5, 10);
/// First kernel in which a table can belong to a process and outlive it.
const OWNERS: (u32, u32) = (6, 9);

/// A part of the kernel.
#[derive(Debug)]
pub(crate) struct Part {
    /// Its module.
    pub(crate) module: &'static str,
    /// Its option in the kernel's configuration, without `CONFIG_`.
    option: &'static str,
    /// Content of a table that a kernel without it refuses.
    pub(crate) question: Option<&'static str>,
    required: bool,
    /// What does not work without.
    without: &'static str,
}

/// Everything a node may ask of the kernel. The first question is whether questions can be asked.
pub(crate) const PARTS: [Part; 13] = [
    Part {
        module: "nf_tables",
        option: "NF_TABLES",
        question: Some(
            "chain c { type filter hook forward priority 0; policy accept; counter drop comment \"x\"; }",
        ),
        required: true,
        without: "there are no rules at all",
    },
    Part {
        module: "nf_tables (sets)",
        option: "NF_TABLES_INET",
        question: Some(
            "map m { type ifname : verdict; }; set s { type ipv4_addr; flags interval; }; \
             set p { type inet_proto . inet_service; counter; }; \
             set r { type ipv4_addr . inet_proto . inet_service; counter; }; \
             chain c { type filter hook forward priority 0; \
             iifname vmap @m; ip saddr @s drop; meta l4proto . th dport @p drop; \
             ip saddr & 255.255.255.0 . meta l4proto . th dport @r drop; }",
        ),
        required: true,
        without: "rules cannot look up interfaces, addresses and ports",
    },
    Part {
        module: "nft_ct",
        option: "NFT_CT",
        question: Some(
            "chain c { type filter hook prerouting priority -300; \
             notrack; ct state invalid drop; ct status dnat drop; }",
        ),
        required: true,
        without: "rules do not know which flows exist already",
    },
    Part {
        module: "nft_fib_inet",
        option: "NFT_FIB_INET",
        question: Some(
            "chain c { type filter hook prerouting priority -300; \
             fib saddr . iif oif missing drop; fib daddr type local drop; }",
        ),
        required: true,
        without: "workloads could send with addresses of others",
    },
    Part {
        module: "nft_masq",
        option: "NFT_MASQ",
        question: Some("chain c { type nat hook postrouting priority 110; masquerade fully-random; }"),
        required: true,
        without: "pools with natOutgoing do not work",
    },
    Part {
        module: "nft_log",
        option: "NFT_LOG",
        question: Some("chain c { type filter hook forward priority 0; log prefix \"x\"; }"),
        required: false,
        without: "policies with the action Log cannot be loaded, and nothing after them",
    },
    Part {
        module: "nft_reject_inet",
        option: "NFT_REJECT_INET",
        question: Some(
            "chain c { type filter hook forward priority 0; reject with icmpx port-unreachable; }",
        ),
        required: false,
        without: "nftablesFilterDenyAction Reject cannot be loaded, and no rules with it",
    },
    Part {
        module: "nft_limit",
        option: "NFT_LIMIT",
        question: Some("chain c { type filter hook forward priority 0; limit rate 10/second drop; }"),
        required: false,
        without: "logActionRateLimit cannot be loaded, and no rules with it",
    },
    Part {
        module: "nf_conntrack",
        option: "NF_CONNTRACK",
        question: None,
        required: true,
        without: "rules do not know which flows exist already",
    },
    Part {
        module: "nf_conntrack_netlink",
        option: "NF_CT_NETLINK",
        question: None,
        required: true,
        without: "flows of an address outlive its workload, and the next one inherits what they were allowed",
    },
    Part {
        module: "veth",
        option: "VETH",
        question: None,
        required: true,
        without: "workloads get no interface",
    },
    Part {
        module: "ipip",
        option: "NET_IPIP",
        question: None,
        required: false,
        without: "pools with ipipMode do not reach other subnets",
    },
    Part {
        module: "vxlan",
        option: "VXLAN",
        question: None,
        required: false,
        without: "pools with vxlanMode do not reach other subnets",
    },
];

/// The kernel's version.
pub(crate) fn version(facts: &Facts) -> Vec<Line> {
    let (name, number) = (facts.release.clone(), number(&facts.release));
    let mut lines = vec![match number {
        Some(number) if number < OLDEST => Line {
            name,
            standing: Standing::Fail,
            advice: format!("it must be Linux {}.{} or later", OLDEST.0, OLDEST.1),
        },
        Some(_) => Line::ok(name),
        None => {
            Line { name, standing: Standing::Warn, advice: "it is no version that can be read".to_owned() }
        }
    }];
    if number.is_some_and(|number| number < OWNERS) {
        lines.push(Line {
            name: "tables with an owner".to_owned(),
            standing: Standing::Warn,
            advice: format!(
                "from Linux {}.{} on nobody else can change our rules; here what others change is put right \
                 within a second",
                OWNERS.0, OWNERS.1
            ),
        });
    }
    lines
}

/// `6.1` of `6.1.0-18-amd64`.
fn number(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The parts.
pub(crate) fn parts(facts: &Facts) -> Vec<Line> {
    PARTS.iter().map(|part| judge(part, facts)).collect()
}

fn judge(part: &Part, facts: &Facts) -> Line {
    let name = part.module.to_owned();
    let missing = if part.required { Standing::Fail } else { Standing::Warn };
    let Part { module, option, without, .. } = part;
    let load = if part.question.is_some() && module.contains(' ') {
        "it needs a newer kernel".to_owned()
    } else {
        format!("load it (modprobe {module}), or take a kernel with CONFIG_{option}")
    };
    match answer(part, facts) {
        Answer::Yes => Line::ok(name),
        Answer::No(Some(words)) => Line {
            name,
            standing: missing,
            advice: format!("the kernel refuses it ({words}): {load}. Without it {without}"),
        },
        Answer::No(None) => {
            Line { name, standing: missing, advice: format!("not found: {load}. Without it {without}") }
        }
        Answer::Unknown => Line {
            name,
            standing: Standing::Warn,
            advice: format!(
                "nobody can tell: there is neither a list of modules nor a kernel configuration (-f names one). \
                 Without it {without}"
            ),
        },
    }
}

/// What the kernel says goes first; what files say is the next best.
fn answer(part: &Part, facts: &Facts) -> Answer {
    if let Some(answer) = facts.answers.get(part.module) {
        return answer.clone();
    }
    let module = part.module.split(' ').next().unwrap_or_default();
    if facts.modules.contains(module) || facts.options.as_ref().is_some_and(|all| all.contains(part.option)) {
        return Answer::Yes;
    }
    // A list of modules alone proves nothing about what is built in.
    if facts.options.is_some() || facts.modules_complete { Answer::No(None) } else { Answer::Unknown }
}

/// Settings of the machine, by their path below `/proc/sys`.
pub(crate) const SETTINGS: [&str; 3] =
    ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/rp_filter"];

/// What the settings are.
pub(crate) fn settings(facts: &Facts) -> Vec<Line> {
    facts.settings.iter().map(|(path, value)| setting(path, value)).collect()
}

fn setting(path: &str, value: &str) -> Line {
    let dotted = path.replace('/', ".");
    let name = format!("{dotted} = {value}");
    let advice = match (path, value) {
        ("net/ipv4/ip_forward" | "net/ipv6/conf/all/forwarding", "0") => {
            "the node does not forward: tortie-node sets it to 1 when it starts; look that nothing sets it back \
             (/etc/sysctl.d)"
                .to_owned()
        }
        ("net/ipv4/conf/all/rp_filter", "1") => {
            format!(
                "the strict check drops what comes back another way than it would go, as with several uplinks: \
                 sysctl -w {dotted}=2"
            )
        }
        _ => return Line::ok(name),
    };
    Line { name, standing: Standing::Warn, advice }
}
