//! The keys of `[sweep]` and `[[compare]]`. They fill no documented fields, so that what they mean is told here; what they
//! accept is what their readers say, as for all others.

use super::{BASE, Key, Section};
use crate::config::plan::{MAX_VARIANTS, load};
use crate::error::Error;

/// A key as it is told: its path, a file that gives it a date, which it accepts nowhere, what it means, and its choices.
type Told = (&'static str, &'static str, String, &'static [(&'static str, &'static str)]);

/// `[sweep]` and `[[compare]]`.
pub(super) fn sections() -> [Section; 2] {
    [section("[sweep]", sweep()), section("[[compare]]", compare())]
}

fn section(heading: &str, keys: impl IntoIterator<Item = Told>) -> Section {
    let key = |(path, text, meaning, choices): Told| {
        let choices = choices.iter().map(|(name, what)| (name.to_string(), what.to_string())).collect();
        Some(Key { path: path.into(), accepted: accepted(text)?, meaning, choices })
    };
    Section { heading: heading.into(), keys: keys.into_iter().filter_map(key).collect() }
}

/// What is accepted in place of the date in `text`.
fn accepted(text: &str) -> Option<String> {
    match load(&format!("{BASE}{text}"), "", &[]) {
        Err(Error::Config { help, .. }) => help.strip_prefix("accepted: ").map(String::from),
        _ => None,
    }
}

fn sweep() -> [Told; 6] {
    let key = format!(
        "A key of the experiment, such as \"training.lr\", or a section, and the values that it has in turn: an experiment for \
         each, in a folder of its own, and at most {MAX_VARIANTS} in a file. Any key but name and device.threads. What is \
         swept cannot be changed by --set, --seed or --rounds."
    );
    [
        (
            "sweep.mode",
            "[sweep]\nmode = 1979-05-27\n",
            "How several keys go together. Default crossed.".into(),
            &[
                ("crossed", "Every combination of their values."),
                ("zipped", "The first values of all, then the second, and so on: as many of each key."),
            ],
        ),
        ("sweep.KEY", "[sweep]\nrounds = 1979-05-27\n", key, &[]),
        (
            "sweep.KEY.from",
            "[sweep]\nrounds = { from = 1979-05-27, to = 2, steps = 2 }\n",
            "The first value of a range. Required in one.".into(),
            &[],
        ),
        (
            "sweep.KEY.to",
            "[sweep]\nrounds = { from = 1, to = 1979-05-27, steps = 2 }\n",
            "The last value. Required. Between whole numbers, all values are rounded to whole ones.".into(),
            &[],
        ),
        (
            "sweep.KEY.steps",
            "[sweep]\nrounds = { from = 1, to = 2, steps = 1979-05-27 }\n",
            "How many values, the first and the last among them. Required.".into(),
            &[],
        ),
        (
            "sweep.KEY.scale",
            "[sweep]\nrounds = { from = 1, to = 2, steps = 2, scale = 1979-05-27 }\n",
            "How they are spaced. Default linear.".into(),
            &[("linear", "By equal differences."), ("log", "By equal ratios; both ends have to be above 0.")],
        ),
    ]
}

fn compare() -> [Told; 2] {
    let set = format!(
        "Keys of the experiment, any but name and device.threads, or whole sections, which are replaced, with what they are in \
         this variant; {{}} changes nothing. Required. --set, --seed and --rounds are applied later, to every variant. At most \
         {MAX_VARIANTS} entries in a file, and no [sweep] beside them."
    );
    [
        (
            "compare[].name",
            "[[compare]]\nname = 1979-05-27\nset = {}\n",
            "The variant's folder, and its column in the tables. Required.".into(),
            &[],
        ),
        ("compare[].set", "[[compare]]\nname = \"a\"\nset = 1979-05-27\n", set, &[]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_sweeps_and_comparisons_is_what_their_readers_say() {
        let sections = sections();
        let told: Vec<_> =
            sections.iter().flat_map(|s| &s.keys).map(|k| (k.path.as_str(), k.accepted.as_str())).collect();
        assert_eq!(
            told,
            [
                ("sweep.mode", "\"crossed\", \"zipped\""),
                ("sweep.KEY", "a list of values, such as [0.1, 0.2], or { from, to, steps, scale }"),
                ("sweep.KEY.from", "a number"),
                ("sweep.KEY.to", "a number"),
                ("sweep.KEY.steps", "a whole number from 2 to 100"),
                ("sweep.KEY.scale", "\"linear\", \"log\""),
                ("compare[].name", "a name of at most 40 letters, digits, - and _"),
                ("compare[].set", "a table of dotted keys, such as { \"training.lr\" = 0.01 }"),
            ]
        );
    }

    #[test]
    fn the_defaults_of_a_sweep_are_those_that_are_told() {
        let changes = |more: &str, mode: &str| {
            let text =
                format!("{BASE}[sweep]\nseed = [1, 2]\nrounds = {{ from = 1, to = 9, steps = 2{more} }}\n{mode}");
            let variants = load(&text, "a.toml", &[]).unwrap().variants;
            variants.into_iter().map(|variant| variant.swept).collect::<Vec<_>>()
        };
        assert_eq!(changes("", ""), changes(", scale = \"linear\"", "mode = \"crossed\"\n"));
        assert_ne!(changes("", ""), changes("", "mode = \"zipped\"\n"));
    }
}
