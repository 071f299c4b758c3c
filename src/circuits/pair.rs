//! Whose circuit is looked for, and in which model.

/// A circuit is looked for in this client's model for this class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    /// Which of the federations side by side the client belongs to.
    pub replicate: usize,
    pub client: usize,
    pub class: u32,
    /// The client's place in the round.
    pub member: usize,
    /// The client has no example of another class.
    pub alone: bool,
}

/// Which weights a circuit is looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Model {
    Local = 0,
    Global = 1,
}
