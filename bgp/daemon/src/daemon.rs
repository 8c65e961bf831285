//! The life of the daemon: start, changes of the file, signals, stop.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tortie_bgp::SpeakerConfig;
use tortie_bgp::net::{Handle, raise_descriptor_limit, start_relay};

use crate::config::Config;
use crate::status::{server, socket};
use crate::watch::Stamps;

/// How often the files of the configuration are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Runs until told to stop.
///
/// # Errors
/// When the first configuration is bad or the socket is taken; nothing later ends it.
pub(crate) async fn run(path: &Path, socket: &Path) -> Result<()> {
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let mut stamps = Stamps::take(&[path.to_owned()]);
    let config = Config::read(path)?;
    stamps.follow(&config.files);
    let (listener, restarted) = socket::listen(socket)?;
    let mut hangup = on(SignalKind::hangup())?;
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;

    let handle = start_relay(Some(config.speaker.clone()), restarted);
    handle.originate(config.originate);
    let (told, current) = watch::channel(Arc::new(config.speaker));
    tokio::spawn(server::serve(listener, handle.clone(), current));
    tracing::info!(file = %path.display(), restarted, "running");

    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = hangup.recv() => reload(path, &mut stamps, &handle, &told),
            _ = looks.tick() => if stamps.have_changed() {
                reload(path, &mut stamps, &handle, &told);
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    handle.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

fn on(kind: SignalKind) -> Result<Signal> {
    signal(kind).context("cannot wait for signals")
}

/// A bad file changes nothing; it is looked at again when it changes.
fn reload(path: &Path, stamps: &mut Stamps, handle: &Handle, told: &watch::Sender<Arc<SpeakerConfig>>) {
    // Before the files are read: a change meanwhile is one for the next look.
    let mut seen = stamps.again();
    match Config::read(path) {
        Ok(config) => {
            seen.follow(&config.files);
            tracing::info!(file = %path.display(), peers = config.speaker.peers.len(), "configuration read");
            handle.originate(config.originate);
            handle.configure(config.speaker.clone());
            told.send_replace(Arc::new(config.speaker));
        }
        Err(error) => {
            let error = anyhow::Error::from(error);
            tracing::error!("the configuration stays as it was: {error:#}");
        }
    }
    *stamps = seen;
}
