//! Whether two runs left the same, but for the time that they took.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::entries;

/// All files of a run by path, without what depends on the time they took.
pub(super) fn timeless(folder: &Path) -> Vec<(String, Vec<u8>)> {
    fn without_seconds(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.remove("seconds");
                members.values_mut().for_each(without_seconds);
            }
            Value::Array(values) => values.iter_mut().for_each(without_seconds),
            _ => {}
        }
    }
    let one = |path: String| {
        let bytes = fs::read(folder.join(&path)).unwrap();
        let json = |line: &str| {
            let mut value = serde_json::from_str(line).unwrap();
            without_seconds(&mut value);
            value.to_string()
        };
        let text = || String::from_utf8(bytes.clone()).unwrap();
        let bytes = match path.rsplit('/').next().unwrap() {
            "metrics.csv" => {
                text().lines().flat_map(|line| [line.rsplit_once(',').unwrap().0, "\n"]).collect::<String>().into()
            }
            name if name.ends_with(".jsonl") => text().lines().map(json).collect::<Vec<_>>().join("\n").into(),
            "summary.json" => json(&text()).into(),
            name if name.contains("tfevents") => timeless_events(&bytes),
            // It shows how long the rounds took, and is made of the other files.
            "report.html" => Vec::new(),
            // It has the lengths of files in which times are.
            name if path.contains("checkpoint/") && name.starts_with("round_") => Vec::new(),
            _ => bytes,
        };
        (path, bytes)
    };
    entries(folder).into_iter().filter(|path| folder.join(path).is_file()).map(one).collect()
}

/// The events of a file for TensorBoard, without their clocks and from the first time on, which other figures do not follow.
fn timeless_events(mut file: &[u8]) -> Vec<u8> {
    let mut events = Vec::new();
    while let Some((length, rest)) = file.split_first_chunk::<8>() {
        let (event, rest) = rest[4..].split_at(u64::from_le_bytes(*length) as usize);
        let end = event.windows(8).position(|bytes| bytes == b"seconds/").unwrap_or(event.len());
        // A key and eight bytes of time come first.
        events.extend(&event[9..end]);
        file = &rest[4..];
    }
    events
}

pub(super) fn assert_same_folders(got: &Path, want: &Path, what: &str) {
    let (got, want) = (timeless(got), timeless(want));
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(names(&got), names(&want), "{what}");
    got.iter().zip(&want).for_each(|(got, want)| assert!(got == want, "{what}: {} differs", got.0));
}
