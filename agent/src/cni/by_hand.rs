//! What somebody is told who calls the plugin by hand.

use std::time::Duration;

use super::plugin::{Output, run};
use super::result::Version;

/// Before and after the versions.
const ABOUT: [&str; 2] = [
    concat!(
        "tortie-cni ",
        env!("CARGO_PKG_VERSION"),
        ": a CNI plugin, which container runtimes call\n\nVersions of CNI: "
    ),
    r#"
Configuration (/etc/cni/net.d/10-tortie.conflist):
  { "cniVersion": "1.0.0", "name": "pods", "plugins": [ { "type": "tortie-cni" } ] }

By hand, as root and with tortie-node running:
  ip netns add x
  echo '{ "cniVersion": "1.0.0", "name": "pods", "type": "tortie-cni" }' |
    CNI_COMMAND=ADD CNI_CONTAINERID=x CNI_NETNS=/run/netns/x CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin tortie-cni
"#,
];

/// The answer to a call without need of standard input; `None` for what runtimes do: no arguments, and what they want in
/// the environment.
pub fn by_hand(argument: Option<&str>, environment: &dyn Fn(&str) -> Option<String>) -> Option<Output> {
    let says = |stdout: String| Some(Output { stdout, failed: false });
    match argument {
        Some("-h" | "--help") => {
            let [before, after] = ABOUT;
            says(format!("{before}{}\n{after}", Version::ALL.map(Version::text).join(", ")))
        }
        Some("-v" | "-V" | "--version") => says(concat!(env!("CARGO_PKG_VERSION"), "\n").to_owned()),
        // A terminal would be waited for in vain.
        _ if environment("CNI_COMMAND").is_none() => Some(run(environment, "", Duration::ZERO)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_what_it_is() {
        let unset = |_: &str| None;
        let called = |name: &str| (name == "CNI_COMMAND").then(|| "ADD".to_owned());
        for flag in ["-h", "--help"] {
            let output = by_hand(Some(flag), &called).unwrap();
            assert!(
                !output.failed && output.stdout.contains("0.3.1, 0.4.0, 1.0.0, 1.1.0"),
                "{}",
                output.stdout
            );
        }
        let output = by_hand(Some("--version"), &unset).unwrap();
        assert_eq!(output.stdout, concat!(env!("CARGO_PKG_VERSION"), "\n"));
        let output = by_hand(None, &unset).unwrap();
        assert!(output.failed && output.stdout.contains("environment variable CNI_COMMAND is missing"));
        assert_eq!(by_hand(None, &called), None);
    }
}
