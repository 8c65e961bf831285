//! The CNI plugin, as a library so that it can be tested: versions 0.3.1 to 1.1.0 of the specification.
//!
//! It reads environment and configuration, asks the agent over its unix socket, and prints. All knowledge is the agent's;
//! nothing here touches the kernel or the datastore, and nothing here needs an async runtime.
//!
//! | module | what it owns |
//! |---|---|
//! | `plugin` | commands, and which errors have which code |
//! | `config` | environment and standard input, to a request |
//! | `result` | answers in the shape of the asked version |
//! | `by_hand` | help for people |
//! | `client` | HTTP over the unix socket, and waiting for an agent that is not up yet |

mod by_hand;
mod client;
mod config;
mod plugin;
mod result;

pub use by_hand::by_hand;
pub use plugin::{Output, PATIENCE, run};
