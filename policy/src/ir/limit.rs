//! How often a rule may do something.

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Packets in a period.
    pub packets: u32,
    /// The period.
    pub period: Period,
    /// Packets at once after a pause; not 0, for which the kernel has a number of its own.
    pub burst: u32,
}

/// A period of a [`Limit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// A second.
    Second,
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
}
