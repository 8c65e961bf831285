//! tortiectl: the command line.

fn main() {}
