//! The asking side: `tortie-bgpd status` and `tortie-bgpd routes`.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::rib::{Best, Paths, Why};
use super::{Peers, Question, Refusal, table};

/// Longest wait for the next piece of an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks the daemon behind `socket`; a table, or the JSON as it came.
///
/// # Errors
/// When nobody answers, or not as a daemon of this version does.
pub(crate) fn ask(socket: &Path, question: &Question, as_json: bool) -> Result<String> {
    let unreachable =
        || format!("no daemon answers at {}; is it running? --socket names another path", socket.display());
    let mut stream = UnixStream::connect(socket).with_context(unreachable)?;
    stream.set_read_timeout(Some(PATIENCE)).with_context(unreachable)?;
    let mut text = String::new();
    stream
        .write_all(format!("{}\n", question.line()).as_bytes())
        .and_then(|()| stream.shutdown(Shutdown::Write))
        .and_then(|()| stream.read_to_string(&mut text))
        .with_context(unreachable)?;
    ensure!(!text.is_empty(), "the daemon at {} does not know the question", socket.display());
    if let Ok(Refusal { error }) = serde_json::from_str(&text) {
        bail!(error);
    }
    if as_json {
        return Ok(text + "\n");
    }
    let text = match question {
        Question::Peers => serde_json::from_str::<Peers>(&text).map(|peers| table::peers(&peers)),
        Question::Best => serde_json::from_str::<Best>(&text).map(|best| table::best(&best)),
        Question::Paths(..) => serde_json::from_str::<Paths>(&text).map(|paths| table::paths(&paths.paths)),
        Question::Why(..) => serde_json::from_str::<Why>(&text).map(|why| table::why(&why)),
    };
    text.with_context(|| format!("the answer of the daemon at {} is of another version", socket.display()))
}
