//! Tables of a run folder, row by row: their columns by name, since older folders lack some, and faults by file and line.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use crate::{Error, Result};

/// Bytes of a line, at most: a row of figures takes a few hundred. A reader of tables holds a line, and eight bytes a cell.
const LINE: usize = 256 << 10;
/// Columns of a table, at most: a few, and one a layer.
const COLUMNS: usize = 4096;

/// One row.
pub struct Row<'a> {
    path: &'a Path,
    header: &'a csv::StringRecord,
    columns: &'a HashMap<String, usize>,
    cells: &'a csv::StringRecord,
}

/// Gives each row of a CSV file to `each`; whether there is such a file.
///
/// # Errors
/// A file that cannot be read or is no CSV, and whatever `each` finds.
pub fn each_row(path: &Path, each: &mut dyn FnMut(&Row<'_>) -> Result<()>) -> Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let mut reader = csv::Reader::from_reader(ShortLines { file, since: 0 });
    let header = reader.headers().map_err(|error| broken(path, error))?.clone();
    if header.len() > COLUMNS {
        let problem = format!("line 1: {} columns", header.len());
        return Err(Error::file(
            path,
            problem,
            format!("accepted: the table as the run wrote it, of at most {COLUMNS}"),
        ));
    }
    let columns = header.iter().enumerate().map(|(i, name)| (name.to_string(), i)).collect();
    let mut cells = csv::StringRecord::new();
    while reader.read_record(&mut cells).map_err(|error| broken(path, error))? {
        each(&Row { path, header: &header, columns: &columns, cells: &cells })?;
    }
    Ok(true)
}

/// A file up to its first line that is too long to be a row.
struct ShortLines {
    file: File,
    /// Bytes since the last line ended.
    since: usize,
}

impl Read for ShortLines {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(into)?;
        for part in into[..n].split_inclusive(|byte| *byte == b'\n') {
            self.since += part.len();
            if self.since > LINE {
                let problem = format!("a line is longer than {LINE} bytes, which no row of a run's table is");
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
            if part.ends_with(b"\n") {
                self.since = 0;
            }
        }
        Ok(n)
    }
}

fn broken(path: &Path, error: csv::Error) -> Error {
    let line = error.position().map_or_else(String::new, |position| format!("line {}: ", position.line()));
    let problem = match error.into_kind() {
        csv::ErrorKind::Io(error) => return Error::io("read", path)(error),
        csv::ErrorKind::Utf8 { .. } => "is not text in UTF-8".to_string(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} cells where the header has {expected_len}")
        }
        other => format!("{other:?}"),
    };
    Error::file(path, format!("{line}{problem}"), "accepted: the table as the run wrote it")
}

impl Row<'_> {
    /// The names of the columns, in the file's order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.header.iter()
    }

    /// A cell; empty where the table has no such column.
    pub fn text(&self, column: &str) -> &str {
        self.columns.get(column).and_then(|i| self.cells.get(*i)).unwrap_or_default()
    }

    /// A number; not a number where the cell is empty or the column missing.
    pub fn number(&self, column: &str) -> Result<f64> {
        let text = self.text(column);
        if text.is_empty() { Ok(f64::NAN) } else { self.parse(column, "a number") }
    }

    /// A number without a fraction that must be there.
    pub fn whole<T: FromStr>(&self, column: &str) -> Result<T> {
        self.parse(column, "a whole number")
    }

    fn parse<T: FromStr>(&self, column: &str, accepted: &str) -> Result<T> {
        let text = self.text(column);
        text.parse().map_err(|_| {
            let line = self.cells.position().map_or(0, |position| position.line());
            let cell: String = text.chars().take(40).collect();
            let problem = format!("line {line}: {column} is {cell:?}");
            Error::file(self.path, problem, format!("accepted: {accepted}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (Vec<(usize, f64)>, Result<bool>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, bytes).unwrap();
        let mut rows = Vec::new();
        let result = each_row(&path, &mut |row| {
            rows.push((row.whole("round")?, row.number("value")?));
            Ok(())
        });
        (rows, result)
    }

    #[test]
    fn columns_go_by_name_and_empty_cells_are_no_numbers() {
        let (rows, result) = read(b"value,round\n0.5,1\n,2\n");
        assert!(result.unwrap() && rows.len() == 2);
        assert_eq!(rows[0], (1, 0.5));
        assert!(rows[1].1.is_nan());
        assert!(read(b"round\n3\n").0[0].1.is_nan());
        assert!(!each_row(Path::new("/nowhere/a.csv"), &mut |_| Ok(())).unwrap());
    }

    #[test]
    fn faults_say_file_and_line() {
        for (bytes, says) in [
            (&b"round,value\n1,2\nx,3\n"[..], "a.csv: line 3: round is \"x\"\n  accepted: a whole number"),
            (b"round,value\n1,a lot\n", "line 2: value is \"a lot\"\n  accepted: a number"),
            (b"round,value\n1\n", "line 2: 1 cells where the header has 2"),
            (b"round,value\n1,\xff\n", "line 2: is not text in UTF-8"),
            (b"value\n1\n", "line 2: round is \"\""),
            (&b",".repeat(LINE + 1), "a.csv: a line is longer than 262144 bytes"),
            (&b",".repeat(COLUMNS), "line 1: 4097 columns"),
        ] {
            let error = read(bytes).1.unwrap_err();
            assert!(error.to_string().contains(says) && error.exit_code() == 2, "{error}");
        }
    }
}
