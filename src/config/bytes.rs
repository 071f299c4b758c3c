//! Amounts of memory as people write them.

use std::fmt;

use serde::{Serialize, Serializer};

/// A number of bytes, read and written as `"2GiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl Bytes {
    /// What [`Bytes::parse`] accepts.
    pub const ACCEPTED: &'static str = "an amount of memory such as \"512MiB\", \"2GiB\" or \"1.5GB\"";

    /// A number and one of the units GiB, MiB, KiB, GB, MB, kB, B.
    pub fn parse(text: &str) -> Option<Self> {
        let (unit, scale) = UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
        let number = text[..text.len() - unit.len()].trim();
        // Only digits and a point: `parse` alone would also take "inf" and "1e9".
        if !number.chars().all(|c| c.is_ascii_digit() || c == '.') {
            return None;
        }
        let bytes = number.parse::<f64>().ok()? * *scale as f64;
        // Beyond 2^53 a float no longer counts single bytes; no device comes near.
        (bytes <= (1u64 << 53) as f64).then_some(Bytes(bytes as u64))
    }
}

impl fmt::Display for Bytes {
    /// In the largest unit that divides the amount, so that nothing is rounded.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().find(|(_, scale)| self.0 > 0 && self.0.is_multiple_of(*scale));
        let (unit, scale) = exact.unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / scale)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written_exactly() {
        for (text, bytes, written) in
            [("2GiB", 2 << 30, "2GiB"), ("1.5 GiB", 3 << 29, "1536MiB"), ("3MB", 3_000_000, "3MB"), ("7B", 7, "7B")]
        {
            assert_eq!(Bytes::parse(text), Some(Bytes(bytes)), "{text}");
            assert_eq!(Bytes(bytes).to_string(), written);
        }
        for text in ["", "GiB", "2", "-1GiB", "infGiB", "1e3MB", "2TB", "99999999999GiB"] {
            assert_eq!(Bytes::parse(text), None, "{text}");
        }
    }
}
