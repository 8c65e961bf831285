//! Asks this machine: files below `/proc`, `/sys` and `/lib/modules`, and `nft`, which changes nothing with `--check`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nftables::helper::{DEFAULT_ARGS, NftablesError, get_current_ruleset_raw};

use super::kernel::{PARTS, SETTINGS};
use super::{Answer, Facts};

/// Everything the machine says. `config` is a kernel configuration, in place of those that are looked for.
///
/// # Errors
/// When `config` cannot be read; whatever else is missing is a fact.
pub(crate) fn gather(config: Option<&Path>) -> anyhow::Result<Facts> {
    let release = word("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (modules, modules_complete) = modules(&release);
    let options = match config {
        Some(path) => Some(options(&read_config(path)?)),
        None => configs(&release).iter().find_map(|path| read_config(path).ok()).map(|text| options(&text)),
    };
    let setting = |path: &&'static str| Some((*path, word(&format!("/proc/sys/{path}"))?));
    Ok(Facts {
        answers: answers(),
        modules,
        modules_complete,
        options,
        settings: SETTINGS.iter().filter_map(setting).collect(),
        legacy: legacy_tables(),
        uplink: uplink(),
        listing: Some(get_current_ruleset_raw(Some(nft()), DEFAULT_ARGS).map_err(in_words)),
        text: text_listing(),
        release,
    })
}

/// Where `nft` is: not every PATH has the directory of root's programs.
fn nft() -> &'static str {
    const USUAL: &str = "/usr/sbin/nft";
    if Path::new(USUAL).exists() { USUAL } else { "nft" }
}

/// A file's text without the blanks around it.
fn word(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Asks the kernel for each part that there is a question for. Without nft, or the rights, there are no answers.
fn answers() -> BTreeMap<&'static str, Answer> {
    let mut answers = BTreeMap::new();
    for part in &PARTS {
        let Some(question) = part.question else { continue };
        match ask(question) {
            Some(answer) => answers.insert(part.module, answer),
            None => return answers,
        };
    }
    answers
}

/// Whether the kernel would take a table with this content.
fn ask(content: &str) -> Option<Answer> {
    let mut nft = Command::new(nft());
    nft.args(["--check", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = nft.spawn().ok()?;
    let table = format!("table inet tortie-check {{\n{content}\n}}\n");
    child.stdin.take()?.write_all(table.as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    if output.status.success() {
        return Some(Answer::Yes);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    // Rights are no part of the kernel.
    if words.contains("Operation not permitted") || words.contains("Permission denied") {
        return None;
    }
    let reason =
        words.lines().find_map(|line| line.split_once("Error: ")).map(|(_, reason)| reason.to_owned());
    Some(Answer::No(Some(reason.unwrap_or_else(|| words.trim().to_owned()))))
}

/// The rules for people, with handles; nothing when nft does not say.
fn text_listing() -> String {
    let output = Command::new(nft()).args(["-a", "list", "ruleset"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn in_words(error: NftablesError) -> String {
    match error {
        NftablesError::NftExecution { inner, .. } => {
            format!("nft: {inner}; install nftables, which only this check needs")
        }
        NftablesError::NftFailed { stderr, .. } => stderr.lines().next().unwrap_or_default().to_owned(),
        error @ (NftablesError::NftOutputEncoding { .. } | NftablesError::NftInvalidJson(_)) => {
            error.to_string()
        }
    }
}

/// Modules that are loaded, built in or at hand, and whether the list has those that are built in.
fn modules(release: &str) -> (BTreeSet<String>, bool) {
    let directory = Path::new("/lib/modules").join(release);
    let read = |path: PathBuf| std::fs::read_to_string(path).ok();
    let loaded = word("/proc/modules").unwrap_or_default();
    let mut modules: BTreeSet<String> =
        loaded.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    let builtin = read(directory.join("modules.builtin"));
    let complete = builtin.is_some();
    for list in [builtin, read(directory.join("modules.dep"))].into_iter().flatten() {
        modules.extend(list.lines().filter_map(module_name));
    }
    (modules, complete)
}

/// `nft_ct` of `kernel/net/netfilter/nft_ct.ko.xz: kernel/…`.
fn module_name(line: &str) -> Option<String> {
    let path = line.split(':').next()?;
    let file = path.rsplit('/').next()?;
    Some(file.split(".ko").next()?.replace('-', "_")).filter(|name| !name.is_empty())
}

/// Where distributions keep the configuration of the running kernel.
fn configs(release: &str) -> [PathBuf; 4] {
    [
        "/proc/config.gz".into(),
        format!("/boot/config-{release}").into(),
        format!("/lib/modules/{release}/config").into(),
        format!("/usr/src/linux-headers-{release}/.config").into(),
    ]
}

fn read_config(path: &Path) -> anyhow::Result<String> {
    let failed = |reason: &dyn std::fmt::Display| {
        anyhow::anyhow!("cannot read the kernel configuration {}: {reason}", path.display())
    };
    if path.extension().is_none_or(|extension| extension != "gz") {
        return std::fs::read_to_string(path).map_err(|error| failed(&error));
    }
    let output = Command::new("gzip").arg("-cd").arg(path).output().map_err(|error| failed(&error))?;
    if !output.status.success() {
        return Err(failed(&String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Options that are on, without `CONFIG_`.
fn options(config: &str) -> BTreeSet<String> {
    let on = |line: &str| {
        let (option, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
        ["y", "m"].contains(&value).then(|| option.to_owned())
    };
    config.lines().filter_map(on).collect()
}

fn legacy_tables() -> Vec<String> {
    let of = |(family, path): (&str, &str)| {
        let names = word(path).unwrap_or_default();
        names.lines().map(|name| format!("{family} {name}")).collect::<Vec<_>>()
    };
    [("IPv4", "/proc/net/ip_tables_names"), ("IPv6", "/proc/net/ip6_tables_names")]
        .into_iter()
        .flat_map(of)
        .collect()
}

/// The interface of the default route, of IPv4 if there is one.
fn uplink() -> Option<String> {
    let ipv4 = word("/proc/net/route").and_then(|table| {
        let columns = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        let mut default =
            columns.filter(|line| line.get(1) == Some(&"00000000") && line.get(7) == Some(&"00000000"));
        default.next().map(|line| line[0].to_owned())
    });
    ipv4.or_else(|| {
        let table = word("/proc/net/ipv6_route")?;
        let columns = table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        let mut default = columns.filter(|line| {
            line.get(1) == Some(&"00")
                && line.first().is_some_and(|address| address.bytes().all(|b| b == b'0'))
        });
        default.find_map(|line| line.last().filter(|name| **name != "lo").map(|name| (*name).to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_configurations_are_read() {
        assert_eq!(module_name("kernel/net/ipv4/ipip.ko.xz: kernel/net/ipv4/tunnel4.ko").unwrap(), "ipip");
        assert_eq!(module_name("kernel/net/netfilter/nf-tables.ko").unwrap(), "nf_tables");
        assert_eq!(module_name(""), None);
        let on = options("# CONFIG_NET_IPIP is not set\nCONFIG_VETH=y\nCONFIG_VXLAN=m\nCONFIG_HZ=250\n");
        assert_eq!(on.into_iter().collect::<Vec<_>>(), ["VETH", "VXLAN"]);
    }
}
