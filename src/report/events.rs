//! A run's figures as TensorBoard reads them: a file of events, which grows by a round at a time.
//!
//! Each event is a protocol buffer in a TFRecord: its length (u64), a checksum of those eight bytes (u32), the event, and
//! its checksum (u32), all little-endian. Of the messages `Event`, `Summary` and `Summary.Value` of TensorFlow's
//! `event.proto` and `summary.proto` only the few fields of scalars are written, so they are written here.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};

use super::append::{Appender, Mark};
use super::begin::{Begin, check_marks};
use super::figures::{Figure, figures};
use super::growing::RoundRows;
use super::records::Seconds;
use crate::Result;

/// The file in a run's folder; TensorBoard takes any whose name has `tfevents` in it.
pub const EVENTS: &str = "events.out.tfevents.0.fedcircuit";

/// What the first event of a file says.
const VERSION: &str = "brain.Event:2";

/// A run's file of events while the run goes on.
pub struct Events {
    file: Appender,
}

impl Events {
    /// Begins the file in `folder`, or goes on with it: its mark is the last of the marks.
    ///
    /// # Errors
    /// As those of [`Begin::open`] and [`Begin::appender`].
    pub fn begin(folder: &Path, begin: Begin<'_>) -> Result<Self> {
        let path = folder.join(EVENTS);
        let begin = match begin {
            Begin::At(marks) => Begin::At(&marks[marks.len().saturating_sub(1)..]),
            other => other,
        };
        let mut file = begin.appender(0, begin.open(&path)?, &path, "", "")?;
        if !matches!(begin, Begin::At(_)) {
            file.append(&record(&event(now(), 0, |event| bytes(event, 3, VERSION.as_bytes()))))?;
        }
        Ok(Self { file })
    }

    /// Refuses a file that is not as the last of these marks says.
    ///
    /// # Errors
    /// [`crate::Error::File`], and what the system says.
    pub fn check(folder: &Path, marks: &[Mark]) -> Result<()> {
        check_marks(folder, &[EVENTS], &marks[marks.len().saturating_sub(1)..])
    }

    /// What the file holds.
    pub fn mark(&self) -> Mark {
        self.file.mark()
    }

    /// Waits until what was written would survive a failure of power.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync()
    }

    /// A round, as one event with all its scalars.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_round(&mut self, rows: &RoundRows<'_>) -> Result<()> {
        let summary: Vec<u8> = scalars(rows).iter().flat_map(|(tag, number)| value(tag, *number)).collect();
        let event = event(now(), rows.round.round as u64, |event| bytes(event, 5, &summary));
        self.file.append(&record(&event))
    }
}

/// The figures of a round under the names that TensorBoard groups by, up to the first slash; without those that are not
/// numbers.
fn scalars(rows: &RoundRows<'_>) -> Vec<(String, f32)> {
    let RoundRows { round, circuits, controls, means, .. } = *rows;
    let named = figures(round, circuits, controls, means).into_iter().map(|(figure, n)| (tag(&figure), n));
    let Seconds { train, centralised, circuits, evaluate, total } = round.seconds;
    let parts = [
        ("train", train),
        ("centralised", centralised),
        ("circuits", circuits),
        ("evaluate", evaluate),
        ("total", total),
    ];
    let seconds = parts.map(|(part, n)| (format!("seconds/{part}"), n));
    let all = named.chain(seconds).filter(|(_, n)| n.is_finite());
    all.map(|(tag, number)| (tag, number as f32)).collect()
}

/// `global/accuracy`, `class_accuracy/3`, `overlap_local_global/node/conv1/iou`.
fn tag(figure: &Figure) -> String {
    let name = figure.name();
    match figure {
        Figure::Loss | Figure::Accuracy | Figure::TrainedAccuracy => format!("global/{name}"),
        Figure::ClassAccuracy(_) | Figure::Sparsity(_) | Figure::Diagnoses(_) => name.replacen('.', "/", 1),
        Figure::Circuits(..) | Figure::Control(..) | Figure::Overlap(..) | Figure::Chance(..) => {
            name.replacen('.', "_", 1).replace('.', "/")
        }
    }
}

/// `Event`: wall_time = 1, step = 2, and what `fill` adds.
fn event(wall_time: f64, step: u64, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut event = vec![1 << 3 | FIXED64];
    event.extend(wall_time.to_le_bytes());
    event.push(2 << 3 | VARINT);
    varint(&mut event, step);
    fill(&mut event);
    event
}

/// A member of `Summary.value`, which is its field 1: tag = 1, simple_value = 2.
fn value(tag: &str, number: f32) -> Vec<u8> {
    let mut value = Vec::new();
    bytes(&mut value, 1, tag.as_bytes());
    value.push(2 << 3 | FIXED32);
    value.extend(number.to_le_bytes());
    let mut member = Vec::new();
    bytes(&mut member, 1, &value);
    member
}

/// How a field's value is written, the low bits of its key.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH: u8 = 2;
const FIXED32: u8 = 5;

/// A field of text, bytes or another message.
fn bytes(message: &mut Vec<u8>, field: u8, content: &[u8]) {
    message.push(field << 3 | LENGTH);
    varint(message, content.len() as u64);
    message.extend(content);
}

/// Seven bits a byte, the lowest first; all but the last byte have the highest bit.
fn varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let [of_length, of_event] = [&length[..], event].map(|bytes| masked(bytes).to_le_bytes());
    [&length[..], &of_length[..], event, &of_event[..]].concat()
}

/// CRC-32C, rotated and offset so that a checksum of data with checksums in it is none of theirs.
fn masked(bytes: &[u8]) -> u32 {
    const CASTAGNOLI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
    CASTAGNOLI.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::super::growing::tests::{circuit, round};
    use super::*;
    use crate::data::hex;

    #[test]
    fn an_event_is_what_tensorflow_writes() {
        // By tensorboard 2.21's `RecordWriter`, of Event(wall_time=1.5, step=300, summary=Summary(value=[
        // Summary.Value(tag="global/loss", simple_value=0.25)])).
        let event = event(1.5, 300, |event| bytes(event, 5, &value("global/loss", 0.25)));
        assert_eq!(hex(&record(&event)), GOLDEN);
    }

    const GOLDEN: &str =
        "220000000000000078113dfd09000000000000f83f10ac022a140a120a0b676c6f62616c2f6c6f7373150000803ed5414b4d";

    #[test]
    fn tags_are_grouped_and_figures_that_are_no_numbers_are_left_out() {
        let (mut round, circuits) = (round(1), [circuit(1)]);
        round.global.loss = f64::NAN;
        round.global.per_class_accuracy = vec![0.5, f64::NAN];
        let scalars = scalars(&RoundRows { circuits: &circuits, ..RoundRows::of(&round) });
        let find = |tag: &str| scalars.iter().find(|(name, _)| name == tag).map(|(_, number)| *number);
        assert_eq!((find("global/loss"), find("global/accuracy")), (None, Some(0.0)));
        assert_eq!((find("class_accuracy/0"), find("class_accuracy/1")), (Some(0.5), None));
        assert_eq!((find("circuits_local/size_conv1"), find("seconds/total")), (Some(1.0), Some(0.0)));
    }

    #[test]
    fn a_file_goes_on_without_rounds_twice() {
        let folder = tempfile::tempdir().unwrap();
        let read = || std::fs::read(folder.path().join(EVENTS)).unwrap();
        let rounds = [1, 2].map(round);
        let mut events = Events::begin(folder.path(), Begin::New).unwrap();
        events.write_round(&RoundRows::of(&rounds[0])).unwrap();
        let mark = events.mark();
        assert_eq!(mark.length as usize, read().len());
        events.write_round(&RoundRows::of(&rounds[1])).unwrap();
        let whole = read();
        // Behind the record's length and checksum, and the event's clock, is its step: the round.
        assert_eq!(whole[mark.length as usize + 12 + 9..][..2], [2 << 3 | VARINT, 2]);
        // Others' marks come first.
        let marks = [Mark::default(), Mark { length: 9, sum: 7 }, mark];
        Events::check(folder.path(), &marks).unwrap();
        let mut again = Events::begin(folder.path(), Begin::At(&marks)).unwrap();
        assert_eq!(read(), whole[..mark.length as usize]);
        again.write_round(&RoundRows::of(&rounds[1])).unwrap();
        // The same but for the wall clock, and the checksum over it.
        let clock = mark.length as usize + 13..mark.length as usize + 21;
        let end = whole.len() - 4;
        assert_eq!((read()[..clock.start].to_vec(), read().len()), (whole[..clock.start].to_vec(), whole.len()));
        assert_eq!(read()[clock.end..end], whole[clock.end..end]);
        Events::check(folder.path(), &[]).unwrap_err();
    }
}
