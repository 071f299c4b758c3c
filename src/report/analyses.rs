//! `analyses.json`, and a table a analysis in `analyses/`: what the analyses after the last round found.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::circuits::analyses::{Analysed, Findings};

/// `analyses.json`: the round, then an object a analysis, with its findings or `skipped` and why.
pub fn json(round: usize, analyses: &[Analysed]) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&All { round, analyses }).map(|text| text + "\n")
}

/// The rows of an analysis under a header; `None` where it found none.
pub fn table(analysed: &Analysed) -> csv::Result<Option<Vec<u8>>> {
    let bytes = match &analysed.findings {
        Err(_) => return Ok(None),
        Ok(Findings::Patching(found)) => rows(&found.rows)?,
        Ok(Findings::Dominators(found)) => rows(&found.rows)?,
        Ok(Findings::Ensemble(found)) => rows(&found.rows)?,
        Ok(Findings::Cascade(found)) => rows(&found.rows)?,
        Ok(Findings::Centroids(found)) => rows(&found.rows)?,
        Ok(Findings::SharedNeurons(found)) => rows(&found.rows)?,
    };
    Ok(Some(bytes))
}

fn rows<T: Serialize>(rows: &[T]) -> csv::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))
}

struct All<'a> {
    round: usize,
    analyses: &'a [Analysed],
}

impl Serialize for All<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + self.analyses.len()))?;
        map.serialize_entry("round", &self.round)?;
        for analysed in self.analyses {
            match &analysed.findings {
                Ok(found) => map.serialize_entry(analysed.analysis.name(), found)?,
                Err(why) => map.serialize_entry(analysed.analysis.name(), &Skipped { skipped: why })?,
            }
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Skipped<'a> {
    skipped: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuits::analyses::{Ensemble, EnsembleRow};
    use crate::config::Analysis;

    #[test]
    fn findings_are_an_object_and_a_table_and_what_was_skipped_says_why() {
        let row = EnsembleRow { class: 3, client: 1, images: 4, ensemble_accuracy: Some(0.75), global_accuracy: None };
        let found =
            Ensemble { classes: vec![3, 5], images: 4, ensemble_accuracy: 0.75, global_accuracy: 0.5, rows: vec![row] };
        let analyses = [
            Analysed { analysis: Analysis::Ensemble, findings: Ok(Findings::Ensemble(found)) },
            Analysed { analysis: Analysis::Cascade, findings: Err("one client".into()) },
        ];
        let value: serde_json::Value = serde_json::from_str(&json(7, &analyses).unwrap()).unwrap();
        let ensemble = serde_json::json!(
            { "classes": [3, 5], "images": 4, "ensemble_accuracy": 0.75, "global_accuracy": 0.5 }
        );
        let skipped = serde_json::json!({ "skipped": "one client" });
        assert_eq!(value, serde_json::json!({ "round": 7, "ensemble": ensemble, "cascade": skipped }));
        let expected = b"class,client,images,ensemble_accuracy,global_accuracy\n3,1,4,0.75,\n";
        assert_eq!(table(&analyses[0]).unwrap().as_deref(), Some(&expected[..]));
        assert_eq!(table(&analyses[1]).unwrap(), None);
    }
}
