//! tortie-lab: a lab of network namespaces.

fn main() {}
