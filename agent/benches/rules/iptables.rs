//! The same number of rules by `iptables-restore`, a chain for each policy behind a list of interfaces. Peers are a network
//! for each policy: a set would be another program's.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;

use crate::world::{FIRST_PORT, RULES, interface};
use crate::{OTHER_PORT, WORLD};

/// Which programs there may be.
const PROGRAMS: [(&str, &str); 2] =
    [("iptables_legacy", "iptables-legacy-restore"), ("iptables_nft", "iptables-nft-restore")];

pub(super) fn all(group: &mut BenchmarkGroup<'_, WallTime>) {
    let load = load();
    for (name, program) in PROGRAMS {
        // Not installed, or not in this kernel.
        if !restore(program, &[], "*filter\nCOMMIT\n") {
            continue;
        }
        let run = |options: &[&str], text: &str| assert!(restore(program, options, text), "{program} failed");
        group.bench_function(format!("full/{name}"), |bencher| bencher.iter(|| run(&[], &load)));
        let endpoints = ["-A", "-D"]
            .map(|verb| format!("*filter\n{verb} FORWARD {}\nCOMMIT\n", dispatch(WORLD.endpoints)));
        let policies = [OTHER_PORT, FIRST_PORT]
            .map(|port| format!("*filter\n:policy0 - [0:0]\n{}COMMIT\n", policy(0, port)));
        for (step, both) in [("endpoint", endpoints), ("policy", policies)] {
            group.bench_function(format!("{step}_there_and_back/{name}"), |bencher| {
                bencher.iter(|| both.each_ref().map(|text| run(&["--noflush"], text)));
            });
        }
        run(&[], "*filter\nCOMMIT\n");
    }
}

fn restore(program: &str, options: &[&str], text: &str) -> bool {
    let child = Command::new(program).args(options).stdin(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return false };
    // A program that fails before it reads its input closes the pipe; its exit code tells.
    let _ = child.stdin.take().expect("its input").write_all(text.as_bytes());
    child.wait().expect("it ends").success()
}

fn load() -> String {
    let mut text = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n".to_owned();
    (0..WORLD.groups).for_each(|n| text += &format!(":group{n} - [0:0]\n"));
    (0..WORLD.all_policies()).for_each(|n| text += &format!(":policy{n} - [0:0]\n"));
    text += "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT\n";
    for n in 0..WORLD.all_policies() {
        let _ = writeln!(text, "-A group{} -j policy{n}", n % WORLD.groups);
        text += &policy(n, FIRST_PORT);
    }
    (0..WORLD.groups).for_each(|n| text += &format!("-A group{n} -j DROP\n"));
    (0..WORLD.endpoints).for_each(|n| text += &format!("-A FORWARD {}\n", dispatch(n)));
    text + "COMMIT\n"
}

fn dispatch(n: u32) -> String {
    format!("-o {} -j group{}", interface(n), n % WORLD.groups)
}

fn policy(n: u32, first_port: u16) -> String {
    let rule = |rule: u16| {
        let (a, b, port) = (n / 256, n % 256, first_port + rule);
        format!("-A policy{n} -p tcp -s 172.{}.{b}.0/24 -m tcp --dport {port} -j ACCEPT\n", 16 + a)
    };
    (0..RULES).map(rule).collect()
}
