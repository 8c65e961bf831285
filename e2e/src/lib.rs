//! A lab of network namespaces: two racks, a router running BIRD, nodes running the real binaries, pods.
//!
//! The demo (`tortie-lab demo`) and the end-to-end tests in `e2e/tests` are written with it. It drives binaries and
//! looks at what they did through `ip`, `nft`, `birdc`, `etcdctl` and packets; it never links the product's crates.
//!
//! | module | owns |
//! |---|---|
//! | [`sandbox`] | the user, mount, network and process namespaces everything lives in |
//! | [`host`] | proof that the machine outside stayed as it was |
//! | [`netns`], [`process`] | one named network namespace; commands and daemons inside |
//! | [`eventually`] | waiting for a condition with a deadline |
//! | [`topology`], [`bird`] | racks, links and addresses; the router |
//! | [`node`], [`workload`] | an agent and its environment; a pod made through CNI |
//! | [`lab`] | all of these together |
//! | [`rules`] | a node's rules against what its agent wants |
//! | [`firewalls`] | other programs with rules on a node: firewalld, Docker |
//! | [`traffic`], [`capture`] | pings, connections, packets seen on a wire |
//! | [`diagnostics`], [`report`] | what is printed on failure; what the demo prints |
//! | [`speakers`] | BGP speakers of several makes on one switch |
//! | [`demo`], [`mod@scenario`] | the demo's steps; how a test gets a lab |

pub mod bird;
pub mod capture;
pub mod demo;
pub mod diagnostics;
pub mod eventually;
pub mod firewalls;
pub mod host;
pub mod lab;
pub mod netns;
pub mod node;
pub mod process;
pub mod report;
pub mod rules;
pub mod sandbox;
pub mod scenario;
pub mod speakers;
pub mod topology;
pub mod traffic;
pub mod workload;
