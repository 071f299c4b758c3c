//! What a run must know of its earlier rounds for its summary, closing table and pictures, as a line of JSON a round: a
//! run that is resumed reads it, and so does a comparison of runs of which some are finished.

use std::fs;
use std::io::{self, BufRead};
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::estimate::Estimate;
use super::figures::{Figure, RoundFigures};
use super::records::{RoundRecord, as_map};
use super::summary::Fates;
use crate::{Error, Result};

/// One round of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryRound {
    /// Of all seeds together: all of the last round, and what is shown of the others.
    pub figures: RoundFigures,
    /// Each seed's part.
    pub seeds: Vec<SeedRound>,
}

/// One seed's part of a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedRound {
    /// Without its clients, those that dropped out, and its sparsity.
    pub record: RoundRecord,
    /// Where circuits were looked for.
    pub fates: Option<Fates>,
    /// As those of all seeds.
    pub figures: RoundFigures,
}

impl HistoryRound {
    /// The line, with its end.
    ///
    /// # Errors
    /// [`Error::Io`] for a round that JSON cannot hold.
    pub fn line(&self) -> Result<String> {
        let unwritable = |error: serde_json::Error| Error::io("write", "history.jsonl")(error.into());
        Ok(serde_json::to_string(self).map_err(unwritable)? + "\n")
    }
}

/// Reads the first `rounds` rounds of a run of `seeds` seeds.
///
/// # Errors
/// [`Error::Io`] for a file that cannot be read, [`Error::File`] for one that does not hold these rounds.
pub fn read_history(path: &Path, rounds: usize, seeds: usize) -> Result<Vec<HistoryRound>> {
    let fault = |problem: String| {
        Error::file(path, problem, "accepted: the file as the run left it; without it, start the run in another folder")
    };
    let file = fs::File::open(path).map_err(Error::io("read", path))?;
    let mut read = Vec::new();
    for (i, line) in io::BufReader::new(file).lines().take(rounds).enumerate() {
        let line = line.map_err(Error::io("read", path))?;
        let round: HistoryRound =
            serde_json::from_str(&line).map_err(|e| fault(format!("line {} is no round: {e}", i + 1)))?;
        if round.figures.round != i + 1 || round.seeds.len() != seeds {
            return Err(fault(format!("line {} is not round {0} of {seeds} seeds", i + 1)));
        }
        read.push(round);
    }
    if read.len() < rounds {
        return Err(fault(format!("holds {} rounds, and should hold {rounds}", read.len())));
    }
    Ok(read)
}

/// A number that is `null` where it is none.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Numbers that are `null` where they are none.
pub(super) fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<f64>, D::Error> {
    let read: Vec<Option<f64>> = Vec::deserialize(deserializer)?;
    Ok(read.into_iter().map(|number| number.unwrap_or(f64::NAN)).collect())
}

/// Numbers by name that are `null` where they are none.
pub(super) fn numbers_by_name<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<(String, f64)>, D::Error> {
    let read: Vec<(String, Option<f64>)> = from_map(deserializer)?;
    Ok(read.into_iter().map(|(name, number)| (name, number.unwrap_or(f64::NAN))).collect())
}

/// The members of a JSON object in their order: what [`as_map`] wrote.
fn from_map<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<(String, T)>, D::Error> {
    struct Members<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
        type Value = Vec<(String, T)>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    deserializer.deserialize_map(Members(PhantomData))
}

/// Figures as an object by name.
pub(super) fn figures_by_name<S: Serializer>(
    figures: &[(Figure, Estimate)],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    as_map(&figures.iter().map(|(figure, estimate)| (figure.name(), estimate)).collect::<Vec<_>>(), serializer)
}

/// What [`figures_by_name`] wrote.
pub(super) fn figures_from_names<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<(Figure, Estimate)>, D::Error> {
    let members: Vec<(String, Estimate)> = from_map(deserializer)?;
    let one = |(name, estimate): (String, Estimate)| match Figure::named(&name) {
        Some(figure) => Ok((figure, estimate)),
        None => Err(D::Error::custom(format!("{name:?} is no figure"))),
    };
    members.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::growing::tests::round as record;
    use super::*;

    fn round(number: usize) -> HistoryRound {
        let mut record = record(number);
        record.sparsity = vec![("z".into(), 1.0 / 3.0), ("a".into(), 0.0), ("nobody's".into(), f64::NAN)];
        record.global.per_class_accuracy = vec![0.1 + 0.2, f64::NAN];
        record.seconds.total = 1e-7;
        let seeds = [vec![(Figure::Loss, 0.1), (Figure::Accuracy, f64::NAN)], vec![(Figure::Loss, 0.7)]];
        let figures = RoundFigures::new(number, 0.3, &seeds);
        HistoryRound { figures: figures.clone(), seeds: vec![SeedRound { record, fates: None, figures }] }
    }

    /// As text, in which NaN equals NaN and every other number is written exactly.
    #[test]
    fn rounds_come_back_to_the_last_bit() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let rounds: Vec<_> = (1..=3).map(round).collect();
        let text: String = rounds.iter().map(|round| round.line().unwrap()).collect();
        fs::write(file.path(), &text).unwrap();
        for n in 0..=3 {
            assert_eq!(format!("{:?}", read_history(file.path(), n, 1).unwrap()), format!("{:?}", &rounds[..n]));
        }
        for (text, rounds, says) in [
            (text.clone(), 4, "holds 3 rounds, and should hold 4"),
            (text.replace("\"loss\"", "\"los\""), 3, "line 1 is no round"),
            (text.replace("\"accuracy\":{", "\"acuracy\":{"), 3, "\"acuracy\" is no figure"),
            (text.replace("\"round\":2", "\"round\":1"), 3, "line 2 is not round 2 of 1 seeds"),
            (text[..text.len() / 2].into(), 3, "is no round"),
        ] {
            fs::write(file.path(), text).unwrap();
            let error = read_history(file.path(), rounds, 1).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(says), "{error}");
        }
        assert!(read_history(file.path(), 0, 1).unwrap().is_empty());
    }
}
