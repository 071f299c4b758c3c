//! Axes: where values lie, which of them are written, and how.

use crate::report::estimate::percent;

/// What a number counts, and so how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A fraction, written in percent.
    Percent,
    /// A fraction, or any number that is not a count.
    Plain,
    /// A count.
    Count,
}

impl Unit {
    /// A value in a sentence or a table.
    pub fn text(self, value: f64) -> String {
        match self {
            _ if !value.is_finite() => "–".into(),
            Unit::Percent => percent(value),
            Unit::Plain => format!("{value:.2}"),
            Unit::Count if value.fract() == 0.0 => format!("{value:.0}"),
            Unit::Count => format!("{value:.1}"),
        }
    }

    /// A value beside an axis.
    fn tick(self, value: f64) -> String {
        // No more digits than a step of the axis has, and no negative zero.
        let rounded = (value * 1e6).round() / 1e6 + 0.0;
        match self {
            Unit::Percent => format!("{}", (rounded * 1e6).round() / 1e4),
            Unit::Plain | Unit::Count => format!("{rounded}"),
        }
    }
}

/// An axis from a value to a higher one, on a stretch of the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    /// Its values at both ends.
    pub values: (f64, f64),
    /// Where its ends lie.
    pub ends: (f64, f64),
}

impl Axis {
    /// Where a value lies; beyond the ends is at the end.
    pub fn at(&self, value: f64) -> f64 {
        let (from, to) = self.values;
        let share = if to > from { ((value - from) / (to - from)).clamp(0.0, 1.0) } else { 0.5 };
        self.ends.0 + share * (self.ends.1 - self.ends.0)
    }
}

/// Values to write beside an axis, at most `most`, in steps of 1, 2, 2.5 or 5 times a power of ten; whole ones for counts.
pub fn ticks((from, to): (f64, f64), most: usize, unit: Unit) -> Vec<(f64, String)> {
    let spans = to > from && to.is_finite() && from.is_finite();
    if !spans {
        return if from.is_finite() { vec![(from, unit.tick(from))] } else { Vec::new() };
    }
    let least = (to - from) / most.max(1) as f64;
    let power = 10f64.powf(least.log10().floor());
    let wide = |step: &f64| {
        let steps = ((to / step + 1e-9).floor() - (from / step - 1e-9).ceil() + 1.0).max(0.0);
        steps <= most as f64 && (unit != Unit::Count || *step >= 1.0 && step.fract() == 0.0)
    };
    let candidates = (0..12).flat_map(|i| [1.0, 2.0, 2.5, 5.0].map(|digit| digit * power * 10f64.powi(i)));
    let Some(step) = candidates.into_iter().find(wide) else { return Vec::new() };
    let first = (from / step - 1e-9).ceil() as i64;
    let last = (to / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).map(|value| (value, unit.tick(value))).collect()
}

/// Zero to a little above the highest of these, where ticks lie well.
pub fn from_zero(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let highest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
    (0.0, if highest > 0.0 { 1.05 * highest } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_numbers_that_people_count_in() {
        let names = |range, most, unit| ticks(range, most, unit).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        assert_eq!(names((0.0, 1.0), 5, Unit::Percent), ["0", "25", "50", "75", "100"]);
        assert_eq!(names((1.0, 4.0), 6, Unit::Count), ["1", "2", "3", "4"]);
        assert_eq!(names((1.0, 50.0), 6, Unit::Count), ["10", "20", "30", "40", "50"]);
        assert_eq!(names((-0.1, 0.1), 5, Unit::Plain), ["-0.1", "-0.05", "0", "0.05", "0.1"]);
        assert_eq!(names((3.0, 3.0), 5, Unit::Count), ["3"]);
        assert!(names((f64::NAN, f64::NAN), 5, Unit::Plain).is_empty());
        assert!(ticks((0.0, 1e300), 5, Unit::Count).len() <= 5);
    }

    #[test]
    fn values_lie_between_the_ends() {
        let axis = Axis { values: (0.0, 2.0), ends: (100.0, 0.0) };
        assert_eq!([0.0, 1.0, 5.0].map(|value| axis.at(value)), [100.0, 50.0, 0.0]);
        assert_eq!(Axis { values: (1.0, 1.0), ..axis }.at(1.0), 50.0);
        assert_eq!(from_zero([f64::NAN, 2.0].into_iter()), (0.0, 2.1));
    }

    #[test]
    fn numbers_are_written_with_their_unit() {
        assert_eq!(Unit::Percent.text(0.1234), "12.3%");
        assert_eq!((Unit::Percent.text(0.9996), Unit::Percent.text(1.0)), (">99.9%".into(), "100.0%".into()));
        assert_eq!((Unit::Count.text(3.0), Unit::Count.text(2.25)), ("3".into(), "2.2".into()));
        assert_eq!(Unit::Plain.text(f64::NAN), "–");
    }
}
