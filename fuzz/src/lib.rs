//! The parsers that are fuzzed, as the suite has them, and which of them a target gives its inputs to.

#[path = "../../tests/suite/mutated/parsers.rs"]
pub mod parsers;

use parsers::{ALL, Parser};

/// The targets: their names, and how the names of their parsers begin.
pub const TARGETS: [(&str, &[&str]); 6] = [
    ("idx", &["idx"]),
    ("config", &["experiment"]),
    ("overrides", &["override"]),
    ("weights", &["weights"]),
    ("checkpoint", &["checkpoint", "history"]),
    ("report", &["report"]),
];

/// The parsers of a target.
pub fn parsers_of(target: &str) -> impl Iterator<Item = &'static Parser> {
    let begins = TARGETS.iter().find(|(name, _)| *name == target).map_or(&[][..], |(_, begins)| begins);
    ALL.iter().filter(move |parser| begins.iter().any(|begin| parser.name.starts_with(begin)))
}

/// Gives an input to the target's parser; where there are several, its first byte says to which.
pub fn fuzz(target: &str, input: &[u8]) {
    let parsers: Vec<_> = parsers_of(target).collect();
    match (&parsers[..], input) {
        ([parser], input) => _ = (parser.parse)(input),
        (several, [which, input @ ..]) => _ = (several[usize::from(*which) % several.len()].parse)(input),
        (_, []) => {}
    }
}
