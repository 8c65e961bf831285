//! The daemon's side of the socket.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tortie_bgp::SpeakerConfig;
use tortie_bgp::net::Handle;
use tortie_bgp::query::QueryError;

use super::rib::{Best, Paths, Why};
use super::{Peers, Question, Refusal};

/// Longest question.
const LONGEST: u64 = 512;
/// How long who asks may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers, one at a time, for as long as the process runs.
pub(crate) async fn serve(
    listener: UnixListener,
    handle: Handle,
    config: watch::Receiver<Arc<SpeakerConfig>>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let config = Arc::clone(&config.borrow());
                match timeout(PATIENCE, answer(stream, &handle, &config)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "a question was not answered"),
                    Err(_) => tracing::debug!("who asked took too long"),
                }
            }
            Err(error) => {
                // Out of descriptors, most likely.
                tracing::warn!(%error, "cannot accept on the socket");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, handle: &Handle, config: &SpeakerConfig) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader.take(LONGEST)).read_line(&mut line).await?;
    let Some(question) = Question::from_line(&line) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("unknown question {line:?}")));
    };
    let text = match question {
        Question::Peers => json(&Peers::new(config, &handle.snapshot().await))?,
        Question::Best => either(Best::ask(handle, config).await)?,
        Question::Paths(of, peer) => either(Paths::ask(handle, of.view(), Some(&peer)).await)?,
        Question::Why(prefix, peer) => either(handle.explain(prefix, peer).await.map(Why::new))?,
    };
    writer.write_all(&text).await
}

/// An answer, or why there is none.
fn either(answer: Result<impl Serialize, QueryError>) -> io::Result<Vec<u8>> {
    match answer {
        Ok(answer) => json(&answer),
        Err(error) => json(&Refusal { error: error.to_string() }),
    }
}

fn json(answer: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(answer)?)
}
