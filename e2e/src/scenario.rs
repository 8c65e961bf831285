//! How a test gets a lab: it runs itself again inside a sandbox of its own.

use std::io::stderr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::diagnostics;
use crate::lab::Lab;
use crate::node::LAB_DIR;
use crate::process::bin_dir;
use crate::sandbox;
use crate::speakers::lan::print_files;
use crate::speakers::member;

/// The name of a test as its binary knows it, of which the crate's own name is no part.
pub(crate) fn full_name(module: &str, name: &str) -> String {
    match module.split_once("::") {
        Some((_, inner)) => format!("{inner}::{name}"),
        None => name.to_owned(),
    }
}

/// Runs the test `name` of `module` in a sandbox. Outside, starts the test binary again inside and demands that exactly this
/// test ran and passed; inside, builds the lab with `build` and hands it to `body`. Failures print the lab's state.
///
/// # Panics
/// When the scenario fails.
pub fn run(module: &str, name: &str, build: fn() -> Result<Lab>, body: impl FnOnce(&mut Lab) -> Result<()>) {
    let name = full_name(module, name);
    if !sandbox::is_inside() {
        run_inside(&name);
        return;
    }
    let mut lab = match build() {
        Ok(lab) => lab,
        Err(error) => panic!("the lab of {name} did not come up: {error:#}"),
    };
    if let Err(error) = body(&mut lab) {
        diagnostics::print(&lab, &mut stderr());
        print_files(&Path::new(LAB_DIR).join(member::NAME), &mut stderr());
        panic!("{name}: {error:#}");
    }
}

/// Runs the test called `name`, which does nothing else outside, again in a sandbox and demands that it passed.
pub(crate) fn run_inside(name: &str) {
    let this = std::env::current_exe().expect("a test knows its own binary");
    let bin_dir = bin_dir().unwrap_or_else(|error| panic!("{error:#}"));
    let output = Command::new(bin_dir.join("tortie-lab"))
        .args(["enter", "--"])
        .arg(this)
        .args(["--exact", name, "--nocapture", "--test-threads", "1"])
        .env(crate::process::BIN_DIR, &bin_dir)
        .output()
        .expect("tortie-lab starts");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} failed inside the lab:\n{text}");
    // A name that matches no test would pass by running none.
    assert!(text.contains("1 passed"), "{name} did not run inside the lab:\n{text}");
}

/// Defines tests that each get a lab of their own: `scenario!(Lab::up, fn name(lab) { ...; Ok(()) });`
#[macro_export]
macro_rules! scenario {
    ($build:expr, $(#[$meta:meta])* fn $name:ident($lab:ident) $body:block) => {
        $(#[$meta])*
        #[test]
        fn $name() {
            let body = |$lab: &mut $crate::lab::Lab| -> anyhow::Result<()> { $body };
            $crate::scenario::run(module_path!(), stringify!($name), $build, body);
        }
    };
}
