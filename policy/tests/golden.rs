//! The text users and the kernel get, for typical snapshots. Each `golden/X.yaml` compiles to `golden/X.nft`, which
//! `UPDATE_GOLDEN=1 cargo test` rewrites, and which a real nft must accept.

mod support;

use std::path::{Path, PathBuf};

use tortie_policy::{Ruleset, Snapshot, compile, nft};

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut found: Vec<_> = std::fs::read_dir(directory)
        .expect("tests/golden")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    found.sort();
    found
}

fn compiled(path: &Path) -> tortie_policy::Compiled {
    compile(&support::snapshot(&std::fs::read_to_string(path).expect("a case")))
}

#[test]
fn text_is_as_recorded() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut different = Vec::new();
    for path in cases() {
        let compiled = compiled(&path);
        let mut text: String = compiled.problems.iter().map(|p| format!("# {p}\n")).collect();
        text += &nft::render_table(&compiled.ruleset);
        let golden = path.with_extension("nft");
        if update {
            std::fs::write(&golden, &text).expect("a golden file");
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != text {
            different.push(golden);
        }
    }
    assert!(different.is_empty(), "differ, run with UPDATE_GOLDEN=1 and look at the diff: {different:?}");
}

#[test]
fn nft_accepts_loads_and_lists_every_case() {
    for path in cases() {
        let ruleset = compiled(&path).ruleset;
        let listed = support::load(&[nft::render(&Ruleset::default()), nft::render(&ruleset)]);
        let count =
            |text: &str, word: &str| text.lines().filter(|l| l.trim_start().starts_with(word)).count();
        let ours = nft::render_table(&ruleset);
        for word in ["chain ", "set ", "map ", "table "] {
            assert_eq!(count(&listed, word), count(&ours, word), "{word} of {}\n{listed}", path.display());
        }
        let rules: usize = ruleset.chains.values().map(|c| c.rules.len()).sum();
        assert!(listed.lines().count() > rules, "{listed}");
    }
}

#[test]
fn a_ruleset_never_compiled_is_closed() {
    assert_eq!(Ruleset::default(), compile(&Snapshot::default()).ruleset);
    assert!(!Ruleset::default().chains.is_empty());
}

#[test]
fn replacing_is_one_transaction_on_our_table_alone() {
    let text = nft::render(&Ruleset::default());
    let others = "table inet other {\n\tchain c {\n\t\tcounter accept\n\t}\n}\n".to_owned();
    let listed = support::load(&[others, text.clone(), text.clone()]);
    assert!(listed.contains("table inet other") && listed.contains("table inet tortie"), "{listed}");
    assert!(text.starts_with("add table inet tortie\ndelete table inet tortie\ntable inet tortie {\n"));
}
