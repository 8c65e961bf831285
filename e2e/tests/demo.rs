//! `make demo` as a person runs it: it ends with 0, says what it proved, and takes less than a minute.

use std::process::Command;
use std::time::Instant;

use tortie_e2e::eventually::seconds;
use tortie_e2e::process::bin_dir;

#[test]
fn the_demo_proves_every_step() {
    let started = Instant::now();
    let output = Command::new(bin_dir().unwrap().join("tortie-lab")).arg("demo").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the demo failed:\n{text}");
    for line in [
        "1. Two racks, a router, a datastore",
        "✓ 172.169.10.0/24 is the only pool left",
        "✓ node3: both nodes and the router are Established",
        "✓ all answer, each with the expected TTL",
        "✓ guest no longer reaches web on port 80",
        "✓ 0 packets lost from far",
        "13. This machine is as it was",
        "✓ every check of every step before held",
        "The main job works.",
    ] {
        assert!(text.contains(line), "the demo did not print {line:?}:\n{text}");
    }
    assert!(!text.contains('✗') && !text.contains('\x1b'), "a failed check, or colours in a file:\n{text}");
    assert!(started.elapsed() < seconds(60), "it took {:?}", started.elapsed());
}
