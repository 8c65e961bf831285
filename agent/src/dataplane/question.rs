//! What became of a learned route in the kernel, for operators who ask.

use ipnetwork::IpNetwork;
use tokio::sync::{mpsc, oneshot};

use super::cycle::Engine;
use super::owner::LEARNED_PROTOCOL;
use super::routes;
use crate::desired::Gateway;
use crate::fib::Outcome;
use crate::kernel::Kernel;

/// Questions that may wait for the end of a cycle.
const WAITING: usize = 16;

/// What became of a learned route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// A route of ours for it is in the kernel.
    pub programmed: bool,
    /// Where it leads, or should lead.
    pub gateways: Vec<Gateway>,
    /// Why it is not there, or not as it should be.
    pub reason: Option<String>,
}

/// A question, and where the answer goes: nothing when the route was not learned.
#[derive(Debug)]
pub struct Question {
    prefix: IpNetwork,
    answer: oneshot::Sender<Option<Fate>>,
}

/// Asks the data plane.
#[derive(Clone, Debug)]
pub struct Asker(mpsc::Sender<Question>);

/// An asker, and what the data plane answers.
#[must_use]
pub fn channel() -> (Asker, mpsc::Receiver<Question>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Asker(sender), receiver)
}

impl Asker {
    /// What became of a route; `None` when it was not learned, or nothing is known yet.
    pub async fn ask(&self, prefix: IpNetwork) -> Option<Fate> {
        let (answer, receiver) = oneshot::channel();
        // Before there is anything to program nobody answers.
        self.0.try_send(Question { prefix, answer }).ok()?;
        receiver.await.ok().flatten()
    }
}

impl Question {
    /// Answers from what the last cycle left.
    pub(super) fn answer<K: Kernel>(self, engine: &Engine<K>) {
        // Who asked may have gone.
        self.answer.send(engine.fate(self.prefix)).ok();
    }
}

impl<K: Kernel> Engine<K> {
    /// What became of a learned route.
    pub fn fate(&self, prefix: IpNetwork) -> Option<Fate> {
        let key = routes::key(prefix);
        let forwarding = self.forwarding();
        let programmed =
            forwarding.routes.actual().get(&key).is_some_and(|route| route.protocol == LEARNED_PROTOCOL);
        let (gateways, reason) = match self.fib().outcome(&prefix)? {
            Outcome::Local => {
                (Vec::new(), Some("a route of this node for the same prefix goes first".to_owned()))
            }
            Outcome::LeftOut(reason) => (Vec::new(), Some(reason.to_string())),
            Outcome::Routed(gateways) if forwarding.routes.in_place(&key) => (gateways.to_vec(), None),
            Outcome::Routed(gateways) => {
                let words = "the kernel does not hold it as it should be yet; `node status` names what fails";
                (gateways.to_vec(), Some(words.to_owned()))
            }
        };
        Some(Fate { programmed, gateways, reason })
    }
}
