//! ExaBGP.
