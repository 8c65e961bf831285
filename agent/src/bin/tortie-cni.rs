//! tortie-cni: the CNI plugin, a thin client of the agent. Everything it does is in `tortie_agent::cni`.

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use tortie_agent::cni;

fn main() -> ExitCode {
    let environment = |name: &str| std::env::var(name).ok();
    let first = std::env::args_os().nth(1);
    if let Some(output) = cni::by_hand(first.as_deref().and_then(|first| first.to_str()), &environment) {
        return print(&output.stdout, output.failed);
    }
    let mut stdin = String::new();
    // What cannot be read is no configuration; the plugin says so in the form the runtime expects.
    let _ = std::io::stdin().read_to_string(&mut stdin);
    let output = cni::run(&environment, &stdin, cni::PATIENCE);
    print(&output.stdout, output.failed)
}

fn print(text: &str, failed: bool) -> ExitCode {
    let written = std::io::stdout().write_all(text.as_bytes());
    if failed || written.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
