//! `datastore serve`: the embedded datastore in the foreground, until SIGINT or SIGTERM.

use std::io::{self, Write};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tortie_datastore::server::{Server, TlsFiles};

use crate::cli::ServeArgs;
use crate::outcome::Outcome;

pub(super) async fn run(args: &ServeArgs) -> anyhow::Result<Outcome> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let files = TlsFiles {
        cert_file: args.cert_file.clone(),
        key_file: args.key_file.clone(),
        trusted_ca_file: args.trusted_ca_file.clone(),
        client_cert_auth: args.client_cert_auth,
    };
    let tls = files.read("--").map_err(|problems| anyhow::anyhow!("{}", problems.join("\n")))?;
    let listener = match tls {
        Some(tls) => Server::bind_tls(args.listen, tls).await?,
        None => Server::bind(args.listen, args.insecure).await?,
    };
    let url = listener.url();
    let data_dir = args.data_dir.clone();
    let server = tokio::task::spawn_blocking(move || Server::open(&data_dir)).await??;
    announce(&format!("serving {} at {url}\n", args.data_dir.display()));
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    server.serve(listener, shutdown).await?;
    Ok(Outcome::default())
}

/// Says at once that it serves, where other commands speak when they are done. Who started us may not listen.
fn announce(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
