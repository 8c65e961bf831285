//! A benchmark in namespaces of its own: its binary starts itself again inside `unshare`, ahead of all other processes where
//! the system allows that.

use std::process::Command;

const INSIDE: &str = "TORTIE_BENCH_NAMESPACE";
/// Ahead of everything that is not in real time itself.
const FIRST: [&str; 3] = ["chrt", "--rr", "10"];

/// Whether this process runs inside already. If not, the benchmark has been run there and is over.
///
/// Transactions larger than `net.core.wmem_max` need root.
pub(crate) fn is_inside() -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let root = nix::unistd::geteuid().is_root();
    let namespaces =
        if root { &["--net", "--mount"][..] } else { &["--user", "--map-root-user", "--net", "--mount"] };
    let [program, options @ ..] = FIRST;
    let first = Command::new(program).args(options).arg("true").status().is_ok_and(|status| status.success());
    let words = FIRST.into_iter().filter(|_| first).chain(["unshare"]).chain(namespaces.iter().copied());
    let words: Vec<&str> = words.collect();
    let status = Command::new(words[0])
        .args(&words[1..])
        .arg(std::env::current_exe().expect("the name of this binary"))
        .args(std::env::args().skip(1))
        .env(INSIDE, "1")
        .status()
        .expect("unshare (util-linux) can be started");
    assert!(status.success(), "failed inside its namespaces");
    false
}
