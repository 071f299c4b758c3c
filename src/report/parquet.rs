//! The tables of a run folder as Parquet: the same rows and columns, typed, beside the CSV files they are made from.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::basic::{LogicalType, Repetition, Type as Physical};
use ::parquet::column::writer::ColumnWriter;
use ::parquet::data_type::ByteArray;
use ::parquet::errors::Result as Written;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::types::Type;

use super::folder::unwritable;
use crate::files::new_beside;
use crate::{Error, Result};

/// Columns of whole numbers, in whatever table; also those that begin with `size_` and end with `_n`.
const WHOLE: [&str; 26] = [
    "round",
    "client",
    "class",
    "examples",
    "client_a",
    "class_a",
    "client_b",
    "class_b",
    "pairs",
    "undefined",
    "n",
    "seed",
    "images",
    "channel",
    "channels",
    "channels_silenced",
    "users",
    "source_client",
    "rescued",
    "dominator",
    "winner",
    "from",
    "with",
    "steps",
    "rounds",
    "rank",
];
/// Columns of words.
const WORDS: [&str; 9] =
    ["variant", "figure", "model", "comparison", "level", "layer", "control", "diagnosis", "cross_answers"];

/// Rows that are held in memory at once, and lie together in the file.
const GROUP: usize = 1 << 16;

/// What a column holds; any cell may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Whole,
    Number,
    Flag,
    Text,
}

/// What all cells of a column so far may be read as.
#[derive(Clone, Copy)]
struct Seen {
    whole: bool,
    number: bool,
    flag: bool,
    any: bool,
}

impl Seen {
    const NOTHING: Self = Self { whole: true, number: true, flag: true, any: false };

    fn see(&mut self, cell: &str) {
        if !cell.is_empty() {
            self.any = true;
            self.whole &= cell.parse::<i64>().is_ok();
            self.number &= cell.parse::<f64>().is_ok();
            self.flag &= cell.parse::<bool>().is_ok();
        }
    }

    /// By the column's name where that is known, so that it is the same for every run; by its cells where the column is a
    /// key that was swept. Numbers are written without a point where they have no fraction, and are numbers all the same.
    fn kind(self, name: &str) -> Kind {
        let swept = name.contains('.') || name == "seeds";
        match name {
            _ if WORDS.contains(&name) => Kind::Text,
            _ if WHOLE.contains(&name) || name.starts_with("size_") || name.ends_with("_n") => Kind::Whole,
            _ if self.any && self.flag => Kind::Flag,
            _ if self.any && self.whole && swept => Kind::Whole,
            _ if self.number => Kind::Number,
            _ => Kind::Text,
        }
    }
}

/// Writes `x.parquet` beside each `x.csv` of a folder and the folders in it, over earlier ones, and returns where they are.
///
/// # Errors
/// Folders without tables, tables that are broken, by name and line, and whatever stands in the way of writing.
pub fn export(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut tables = Vec::new();
    find(folder, &mut tables)?;
    if tables.is_empty() {
        let help = "accepted: the folder of a run, of several seeds, of a sweep, or one that holds such folders";
        return Err(Error::config(folder.display().to_string(), "holds no tables", help));
    }
    tables.iter().map(|table| convert(table)).collect()
}

/// Every table under `folder`, sorted.
fn find(folder: &Path, tables: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        let kind = entry.file_type().map_err(Error::io("read", folder))?;
        entries.push((entry.path(), kind.is_dir()));
    }
    entries.sort();
    for (path, is_folder) in entries {
        if is_folder {
            find(&path, tables)?;
        } else if path.extension().is_some_and(|extension| extension == "csv") {
            tables.push(path);
        }
    }
    Ok(())
}

/// One table.
fn convert(table: &Path) -> Result<PathBuf> {
    let columns = columns(table)?;
    let path = table.with_extension("parquet");
    let folder = table.parent().unwrap_or(Path::new("."));
    let mut file = new_beside(folder).map_err(Error::io("write", &path))?;
    let schema = schema(&columns).map_err(unwritable(&path))?;
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(file.as_file_mut(), schema, properties).map_err(unwritable(&path))?;
    let mut reader = open(table)?;
    let mut cells = csv::StringRecord::new();
    loop {
        let mut group: Vec<Cells> = columns.iter().map(|(_, kind)| Cells::new(*kind)).collect();
        let mut rows = 0;
        while rows < GROUP && reader.read_record(&mut cells).map_err(|error| broken(table, &error))? {
            for ((cell, column), (name, kind)) in cells.iter().zip(&mut group).zip(&columns) {
                column.push(cell).ok_or_else(|| wrong(table, cells.position(), name, cell, *kind))?;
            }
            rows += 1;
        }
        if rows > 0 {
            let group = writer.next_row_group().and_then(|to| write_group(to, &group));
            group.map_err(unwritable(&path))?;
        }
        if rows < GROUP {
            break;
        }
    }
    writer.close().map_err(unwritable(&path))?;
    file.as_file().sync_data().map_err(Error::io("write", &path))?;
    file.persist(&path).map_err(|error| Error::io("write", &path)(error.error))?;
    Ok(path)
}

fn open(table: &Path) -> Result<csv::Reader<File>> {
    Ok(csv::Reader::from_reader(File::open(table).map_err(Error::io("read", table))?))
}

/// Its columns, and what they hold.
fn columns(table: &Path) -> Result<Vec<(String, Kind)>> {
    let mut reader = open(table)?;
    let names: Vec<String> =
        reader.headers().map_err(|error| broken(table, &error))?.iter().map(String::from).collect();
    let mut seen = vec![Seen::NOTHING; names.len()];
    let mut cells = csv::StringRecord::new();
    while reader.read_record(&mut cells).map_err(|error| broken(table, &error))? {
        cells.iter().zip(&mut seen).for_each(|(cell, seen)| seen.see(cell));
    }
    Ok(names.into_iter().zip(seen).map(|(name, seen)| (name.clone(), seen.kind(&name))).collect())
}

fn schema(columns: &[(String, Kind)]) -> Written<Arc<Type>> {
    let field = |(name, kind): &(String, Kind)| -> Written<Arc<Type>> {
        let (physical, logical) = match kind {
            Kind::Whole => (Physical::INT64, None),
            Kind::Number => (Physical::DOUBLE, None),
            Kind::Flag => (Physical::BOOLEAN, None),
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let field = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
        field.with_logical_type(logical).build().map(Arc::new)
    };
    let fields = columns.iter().map(field).collect::<Written<Vec<_>>>()?;
    Ok(Arc::new(Type::group_type_builder("table").with_fields(fields).build()?))
}

/// Some cells of a column: those that are not empty, and for each row whether it has one.
struct Cells {
    values: Values,
    present: Vec<i16>,
}

enum Values {
    Whole(Vec<i64>),
    Number(Vec<f64>),
    Flag(Vec<bool>),
    Text(Vec<ByteArray>),
}

impl Cells {
    fn new(kind: Kind) -> Self {
        let values = match kind {
            Kind::Whole => Values::Whole(Vec::new()),
            Kind::Number => Values::Number(Vec::new()),
            Kind::Flag => Values::Flag(Vec::new()),
            Kind::Text => Values::Text(Vec::new()),
        };
        Self { values, present: Vec::new() }
    }

    /// Takes a cell in; `None` where it is not of the column's kind.
    fn push(&mut self, cell: &str) -> Option<()> {
        self.present.push(i16::from(!cell.is_empty()));
        if cell.is_empty() {
            return Some(());
        }
        match &mut self.values {
            Values::Whole(values) => values.push(cell.parse().ok()?),
            Values::Number(values) => values.push(cell.parse().ok()?),
            Values::Flag(values) => values.push(cell.parse().ok()?),
            Values::Text(values) => values.push(cell.into()),
        }
        Some(())
    }
}

fn write_group(mut to: SerializedRowGroupWriter<'_, &mut File>, group: &[Cells]) -> Written<()> {
    for Cells { values, present } in group {
        let Some(mut column) = to.next_column()? else { break };
        let present = Some(&present[..]);
        match (column.untyped(), values) {
            (ColumnWriter::Int64ColumnWriter(to), Values::Whole(values)) => to.write_batch(values, present, None)?,
            (ColumnWriter::DoubleColumnWriter(to), Values::Number(values)) => to.write_batch(values, present, None)?,
            (ColumnWriter::BoolColumnWriter(to), Values::Flag(values)) => to.write_batch(values, present, None)?,
            (ColumnWriter::ByteArrayColumnWriter(to), Values::Text(values)) => to.write_batch(values, present, None)?,
            _ => unreachable!("columns are written in the order of the schema"),
        };
        column.close()?;
    }
    to.close().map(drop)
}

fn broken(table: &Path, error: &csv::Error) -> Error {
    Error::file(table, error.to_string(), "accepted: the table as the run wrote it")
}

fn wrong(table: &Path, position: Option<&csv::Position>, name: &str, cell: &str, kind: Kind) -> Error {
    let (line, cell): (u64, String) = (position.map_or(0, csv::Position::line), cell.chars().take(40).collect());
    let accepted = match kind {
        Kind::Whole => "a whole number",
        Kind::Number => "a number",
        Kind::Flag => "true or false",
        Kind::Text => "text",
    };
    Error::file(table, format!("line {line}: {name} is {cell:?}"), format!("accepted: {accepted}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use ::parquet::record::Field;

    /// The rows of a Parquet file.
    fn read(path: &Path) -> Vec<Vec<(String, Field)>> {
        let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        let rows = reader.get_row_iter(None).unwrap();
        rows.map(|row| row.unwrap().get_column_iter().map(|(name, field)| (name.clone(), field.clone())).collect())
            .collect()
    }

    #[test]
    fn columns_keep_their_types_whatever_is_in_them() {
        let folder = tempfile::tempdir().unwrap();
        let table = "variant,sparsity.target,training.batch_size,round,layer,iou,size_fc1,synonyms,optimizer,seeds\n\
                     a,0.5,32,1,conv1,1,3,true,adam,2\n\
                     \"b, c\",1,64,2,7,,,false,,3\n";
        fs::write(folder.path().join("sweep.csv"), table).unwrap();
        fs::create_dir(folder.path().join("seed_1")).unwrap();
        fs::write(folder.path().join("seed_1/overlap.csv"), "round,layer,iou\n").unwrap();
        let paths = export(folder.path()).unwrap();
        assert_eq!(paths, ["seed_1/overlap.parquet", "sweep.parquet"].map(|name| folder.path().join(name)));
        assert!(read(&paths[0]).is_empty());
        let rows = read(&paths[1]);
        let text = |text: &str| Field::Str(text.into());
        let fields = |row: usize| rows[row].iter().map(|(_, field)| field.clone()).collect::<Vec<_>>();
        let (whole, number) = (Field::Long, Field::Double);
        let first = [text("a"), number(0.5), whole(32), whole(1), text("conv1"), number(1.0), whole(3)];
        assert_eq!(fields(0), [&first[..], &[Field::Bool(true), text("adam"), whole(2)]].concat());
        let second = [text("b, c"), number(1.0), whole(64), whole(2), text("7"), Field::Null, Field::Null];
        assert_eq!(fields(1), [&second[..], &[Field::Bool(false), Field::Null, whole(3)]].concat());
        assert_eq!(rows[0][1].0, "sparsity.target");
        // Again, over these.
        assert_eq!(export(folder.path()).unwrap(), paths);
    }

    #[test]
    fn long_tables_are_written_in_groups() {
        let folder = tempfile::tempdir().unwrap();
        let rows: String = (0..GROUP + 3).map(|i| format!("{i},{}\n", i as f64 / 4.0)).collect();
        fs::write(folder.path().join("a.csv"), format!("round,loss\n{rows}")).unwrap();
        let reader = SerializedFileReader::new(File::open(&export(folder.path()).unwrap()[0]).unwrap()).unwrap();
        let groups: Vec<i64> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(groups, [GROUP as i64, 3]);
    }

    #[test]
    fn broken_tables_are_named_and_earlier_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let message = export(folder.path()).unwrap_err().to_string();
        assert!(message.contains("holds no tables"), "{message}");
        let table = folder.path().join("a.csv");
        fs::write(&table, "round,loss\n1,0.5\n").unwrap();
        let path = export(folder.path()).unwrap().remove(0);
        let before = fs::read(&path).unwrap();
        for (text, says) in [("round,loss\n1.5,0\n", "line 2: round is \"1.5\""), ("round,loss\n1\n", "line")] {
            fs::write(&table, text).unwrap();
            let error = export(folder.path()).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(says), "{error}");
            assert_eq!(fs::read(&path).unwrap(), before);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
