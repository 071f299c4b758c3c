//! `[sweep]`: one experiment over lists or ranges of values of any of its keys.
//!
//! ```toml
//! [sweep]
//! mode = "crossed"                              # every combination; "zipped": the first values, then the second, ...
//! "sparsity.target" = [0.95, 0.99, 0.995]
//! "training.lr" = { from = 0.0005, to = 0.002, steps = 3, scale = "log" }    # ends included; or scale = "linear"
//! ```

use toml::{Table, Value};

use super::Override;
use super::keys::{Keys, Limits, refused};
use super::overrides::{collide, within};
use super::plan::NOT_VARIED;
use crate::{Error, Result};

/// One experiment of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    /// Names its folder and its column: `target-0.95_lr-0.001`.
    pub label: String,
    /// The swept keys with their values, sorted by key.
    pub changes: Vec<Override>,
}

/// A swept key and its values.
struct Axis {
    key: String,
    values: Vec<Value>,
}

const HELP: &str = "accepted: dotted keys, each with a list of values or { from, to, steps, scale }, and a mode";
const VALUES: &str = "accepted: a list of values, such as [0.1, 0.2], or { from, to, steps, scale }";
const MAX_LABEL: usize = 60;

/// The experiments of a `[sweep]`, at most `most`: keys go in alphabetical order, and of crossed ones the last
/// changes fastest.
pub(super) fn points(sweep: &Value, most: usize) -> Result<Vec<Point>> {
    let table = sweep.as_table().ok_or_else(|| refused("sweep".into(), sweep, HELP))?;
    let mut table = table.clone();
    let mode = table.remove("mode");
    let zipped = match mode.as_ref().map(|mode| (mode, mode.as_str())) {
        None | Some((_, Some("crossed"))) => false,
        Some((_, Some("zipped"))) => true,
        Some((mode, _)) => return Err(refused("sweep.mode".into(), mode, "accepted: \"crossed\", \"zipped\"")),
    };
    let mut axes = Vec::new();
    collect(&table, "", &mut axes)?;
    if axes.is_empty() {
        return Err(Error::config("sweep", "names no keys", HELP));
    }
    check_apart(&axes)?;
    let sizes: Vec<usize> = axes.iter().map(|axis| axis.values.len()).collect();
    let count = if zipped {
        if let Some(other) = axes.iter().find(|axis| axis.values.len() != sizes[0]) {
            let problem = format!("has {} values, {} has {}", other.values.len(), axes[0].key, sizes[0]);
            return Err(Error::config(format!("sweep.{}", other.key), problem, "zipped keys have as many values each"));
        }
        sizes[0]
    } else {
        sizes.iter().try_fold(1usize, |all, n| all.checked_mul(*n)).unwrap_or(usize::MAX)
    };
    if count > most {
        let problem = format!("asks for {count} experiments");
        return Err(Error::config("sweep", problem, format!("accepted: at most {most}, in several files if need be")));
    }
    let point = |i: usize| {
        let mut rest = if zipped { 0 } else { i };
        let mut places = vec![i; axes.len()];
        if !zipped {
            for (place, size) in places.iter_mut().zip(&sizes).rev() {
                (*place, rest) = (rest % size, rest / size);
            }
        }
        Point {
            label: label(&axes, &places, i, count),
            changes: axes
                .iter()
                .zip(places)
                .map(|(axis, at)| Override::new(&axis.key, axis.values[at].clone()))
                .collect(),
        }
    };
    let mut points: Vec<Point> = (0..count).map(point).collect();
    // Of two points of one name, as a number and a list can have it, each has its own number. Some file systems know no case.
    let names: Vec<String> = points.iter().map(|point| point.label.to_ascii_lowercase()).collect();
    for (i, point) in points.iter_mut().enumerate() {
        if names.iter().filter(|name| **name == names[i]).count() > 1 {
            point.label = number(i, count);
        }
    }
    Ok(points)
}

/// The axes in `table`, whose keys begin with `prefix`: `sparsity.target` may be one quoted key or a table in a table.
fn collect(table: &Table, prefix: &str, axes: &mut Vec<Axis>) -> Result<()> {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        let path = format!("sweep.{key}");
        if NOT_VARIED.iter().any(|taken| within(taken, &key)) {
            return Err(Error::config(path, "cannot be swept", HELP));
        }
        let values = match value {
            Value::Array(values) => values.clone(),
            Value::Table(range) if range.contains_key("from") || range.contains_key("to") => span(&path, range)?,
            Value::Table(deeper) => {
                collect(deeper, &format!("{key}."), axes)?;
                continue;
            }
            other => return Err(refused(path, other, VALUES)),
        };
        if values.is_empty() {
            return Err(Error::config(path, "has no values", HELP));
        }
        if let Some(twice) =
            values.iter().enumerate().find(|(i, value)| values[..*i].iter().any(|known| equal(known, value)))
        {
            return Err(Error::config(path, format!("has {} twice", twice.1), "each value once"));
        }
        axes.push(Axis { key, values });
    }
    Ok(())
}

/// Whether two values set the same: 1 and 1.0 do.
fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Integer(n), Value::Float(x)) | (Value::Float(x), Value::Integer(n)) => *n as f64 == *x,
        _ => one == other,
    }
}

/// Refuses two axes that would set the same: the values of one of them would be shown and not used.
fn check_apart(axes: &[Axis]) -> Result<()> {
    let mut keys: Vec<&str> = axes.iter().map(|axis| axis.key.as_str()).collect();
    // Section by section, so that keys that collide are neighbours.
    keys.sort_unstable_by(|one, other| one.split('.').cmp(other.split('.')));
    match keys.windows(2).find(|pair| collide(pair[0], pair[1])) {
        None => Ok(()),
        Some(pair) => {
            let problem = format!("sets what {} sets", pair[0]);
            let help = "accepted: each key once, a whole section or keys in it, and one of seed and seeds";
            Err(Error::config(format!("sweep.{}", pair[1]), problem, help))
        }
    }
}

/// The values of a range, both ends included; whole numbers where both ends are.
fn span(path: &str, range: &Table) -> Result<Vec<Value>> {
    let mut keys = Keys::new(range, path);
    let finite = |v: f64| v.is_finite();
    let whole = |keys: &mut Keys<'_>, key| keys.value(key).is_some_and(Value::is_integer);
    let integers = whole(&mut keys, "from") & whole(&mut keys, "to");
    let number = "a number";
    let from = keys.real("from", number, finite)?.ok_or_else(|| keys.missing("from", HELP))?;
    let to = keys.real("to", number, finite)?.ok_or_else(|| keys.missing("to", HELP))?;
    let limits = Limits::new(2, 100, "");
    let steps = keys.count("steps", &limits)?.ok_or_else(|| keys.missing("steps", HELP))?;
    let log = keys.choice("scale", &[("linear", false), ("log", true)])?.unwrap_or(false);
    keys.finish("a range of [sweep]")?;
    if log && (from <= 0.0 || to <= 0.0) {
        return Err(Error::config(
            path,
            "has an end that is not above 0",
            "a range with scale = \"log\" needs both above 0",
        ));
    }
    let at = |i: usize| {
        let share = i as f64 / (steps - 1) as f64;
        let exact = if log { (from.ln() * (1.0 - share) + to.ln() * share).exp() } else { from + (to - from) * share };
        match (i, integers) {
            // As they are written: not all whole numbers are floats.
            (0, true) => range["from"].clone(),
            (i, true) if i == steps - 1 => range["to"].clone(),
            (_, true) => Value::Integer(exact.round() as i64),
            (0, _) => Value::Float(from),
            (i, _) if i == steps - 1 => Value::Float(to),
            // Twelve digits: 0.3 rather than 0.30000000000000004.
            _ => Value::Float(format!("{exact:.11e}").parse().unwrap_or(exact)),
        }
    };
    Ok((0..steps).map(at).collect())
}

/// Of values that make no short name, their number: the i-th of `count` points.
fn label(axes: &[Axis], places: &[usize], i: usize, count: usize) -> String {
    let part = |(axis, at): (&Axis, &usize)| {
        let name = axis.key.rsplit('.').next().unwrap_or_default();
        let value = match &axis.values[*at] {
            Value::String(text) => text.clone(),
            Value::Array(_) | Value::Table(_) => (at + 1).to_string(),
            other => other.to_string(),
        };
        format!("{name}-{value}")
    };
    let label = axes.iter().zip(places).map(part).collect::<Vec<_>>().join("_");
    let plain = label.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if plain && label.len() <= MAX_LABEL { label } else { number(i, count) }
}

/// The i-th of `count` points, as many digits for each.
fn number(i: usize, count: usize) -> String {
    format!("{:0width$}", i + 1, width = count.to_string().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Point>> {
        points(&toml::from_str::<Table>(text).unwrap()["sweep"], 100)
    }

    fn labels(text: &str) -> Vec<String> {
        read(text).unwrap().into_iter().map(|point| point.label).collect()
    }

    #[test]
    fn crossed_keys_give_every_combination_and_zipped_ones_go_together() {
        let keys = "\"sparsity.target\" = [0.9, 0.99]\ntraining.lr = [0.1, 0.2]\n";
        let crossed = ["target-0.9_lr-0.1", "target-0.9_lr-0.2", "target-0.99_lr-0.1", "target-0.99_lr-0.2"];
        assert_eq!(labels(&format!("[sweep]\n{keys}")), crossed);
        assert_eq!(labels(&format!("[sweep]\nmode = \"crossed\"\n{keys}")), crossed);
        assert_eq!(labels(&format!("[sweep]\nmode = \"zipped\"\n{keys}")), [crossed[0], crossed[3]]);
        let points = read(&format!("[sweep]\n{keys}")).unwrap();
        assert_eq!(points[1].changes, [Override::new("sparsity.target", 0.9), Override::new("training.lr", 0.2)]);
    }

    #[test]
    fn ranges_include_their_ends() {
        let values = |range: &str| -> Vec<Value> {
            let points = read(&format!("[sweep]\na.b = {range}\n")).unwrap();
            points.into_iter().map(|mut point| point.changes.remove(0).value).collect()
        };
        let floats = |list: &[f64]| list.iter().map(|v| Value::Float(*v)).collect::<Vec<_>>();
        assert_eq!(values("{ from = 0.1, to = 0.5, steps = 5 }"), floats(&[0.1, 0.2, 0.3, 0.4, 0.5]));
        assert_eq!(values("{ from = 0.001, to = 1.0, steps = 4, scale = \"log\" }"), floats(&[0.001, 0.01, 0.1, 1.0]));
        assert_eq!(values("{ from = 10, to = 1000, steps = 3, scale = \"log\" }"), [10, 100, 1000].map(Value::Integer));
        let odd = (1 << 53) + 1;
        assert_eq!(values(&format!("{{ from = 1, to = {odd}, steps = 2 }}")), [1, odd].map(Value::Integer));
    }

    #[test]
    fn values_that_make_no_name_are_numbered() {
        assert_eq!(labels("[sweep]\npartition.classes = [[[0], [1]], [[0, 1], [2]]]\n"), ["classes-1", "classes-2"]);
        assert_eq!(labels("[sweep]\n\"model.init\" = [\"a/b\", \"c d\"]\n"), ["1", "2"]);
        assert_eq!(labels("[sweep]\nseeds = [2, [5, 6], [7]]\n"), ["1", "2", "seeds-3"]);
        assert_eq!(labels("[sweep]\n\"a.b\" = [\"x\", \"X\"]\n"), ["1", "2"]);
    }

    #[test]
    fn sweeps_that_make_no_sense_are_refused_with_what_is_accepted() {
        for (sweep, says) in [
            ("sweep = 3", "sweep: the number 3"),
            ("[sweep]\nmode = \"crossed\"", "names no keys"),
            ("[sweep]\nmode = \"mixed\"\nrounds = [1]", "accepted: \"crossed\", \"zipped\""),
            ("[sweep]\nrounds = 3", "sweep.rounds: the number 3"),
            ("[sweep]\nrounds = []", "has no values"),
            ("[sweep]\nrounds = [1, 2, 1]", "has 1 twice"),
            ("[sweep]\nname = [\"a\"]", "cannot be swept"),
            ("[sweep]\n\"a.b\" = [1]\na.b = [2]", "sweep.a.b: sets what a.b sets"),
            ("[sweep]\n\"a.b\" = [1]\na-c = [1]\na = [{ b = 2 }]", "sweep.a.b: sets what a sets"),
            ("[sweep]\nseed = [1, 2]\nseeds = [3, 4]", "sweep.seeds: sets what seed sets"),
            ("[sweep]\nmode = \"zipped\"\nrounds = [1]\nseed = [1, 2]", "sweep.seed: has 2 values, rounds has 1"),
            ("[sweep]\na.b = { from = 0, steps = 3 }", "sweep.a.b.to"),
            ("[sweep]\na.b = { from = 0, to = 1, steps = 1 }", "sweep.a.b.steps"),
            ("[sweep]\na.b = { from = 0, to = 1, steps = 3, scale = \"log\" }", "sweep.a.b: has an end"),
            ("[sweep]\na.b = { from = 1, to = 2, steps = 5 }", "twice"),
            ("[sweep]\na.b = { from = 1, to = 2, steps = 3, step = 1 }", "sweep.a.b.step"),
        ] {
            let error = read(sweep).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(says), "{sweep}: {error}");
        }
        let many = (0..11).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
        let error = read(&format!("[sweep]\nrounds = [{many}]\nseed = [{many}]")).unwrap_err();
        assert!(error.to_string().contains("asks for 121 experiments"), "{error}");
    }

    #[test]
    fn steps_between_the_ends_are_rounded_and_have_twelve_digits() {
        let values = |range: &str| -> Vec<Value> {
            let points = read(&format!("[sweep]\na.b = {range}\n")).unwrap();
            points.into_iter().map(|mut point| point.changes.remove(0).value).collect()
        };
        // 2.15 and 4.64; 2.67 and 4.33.
        assert_eq!(values("{ from = 1, to = 10, steps = 4, scale = \"log\" }"), [1, 2, 5, 10].map(Value::Integer));
        assert_eq!(values("{ from = 1, to = 6, steps = 4 }"), [1, 3, 4, 6].map(Value::Integer));
        let third = [0.0, 0.333333333333, 0.666666666667, 1.0].map(Value::Float);
        assert_eq!(values("{ from = 0.0, to = 1.0, steps = 4 }"), third);
        for range in ["from = -1.0, to = 1.0", "from = 1.0, to = -1.0", "from = 1.0, to = 0.0"] {
            let error = read(&format!("[sweep]\na.b = {{ {range}, steps = 3, scale = \"log\" }}")).unwrap_err();
            assert!(error.to_string().contains("has an end that is not above 0"), "{range}: {error}");
        }
    }

    #[test]
    fn as_many_experiments_as_are_accepted_and_no_more() {
        let list = |n| (1..=n).map(|i: usize| i.to_string()).collect::<Vec<_>>().join(", ");
        assert_eq!(labels(&format!("[sweep]\nrounds = [{}]", list(100))).len(), 100);
        let error = read(&format!("[sweep]\nrounds = [{}]", list(101))).unwrap_err().to_string();
        assert!(error.contains("asks for 101 experiments"), "{error}");
    }

    /// A folder's name has to be one on every file system.
    #[test]
    fn a_long_name_gives_way_to_a_number() {
        let label = |length: usize| labels(&format!("[sweep]\nkey = [\"{}\"]", "x".repeat(length))).remove(0);
        assert_eq!(label(56), format!("key-{}", "x".repeat(56)));
        assert_eq!(label(57), "1");
    }
}
