//! tortie-node: the agent of a node.

fn main() {}
