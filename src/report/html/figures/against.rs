//! The last rounds of several runs against a key of the configuration in which they differ.

use super::super::drawing::axes::Unit;
use super::super::drawing::chart::{Chart, Line, Style};
use super::super::drawing::dots::Dots;
use super::super::drawing::scene::{Paint, Scene};
use super::super::reading::run::{Run, point, together};
use super::super::reading::seed::Circuit;
use super::super::reading::swept::{Scale, Swept, groups, keys};
use super::{Figure, nth, present};
use crate::report::{Comparison, Estimate};

/// Keys with a figure of their own; their names are their files'.
pub(super) const IDS: [&str; 4] = ["against-1", "against-2", "against-3", "against-4"];
/// Values of the other keys with a line.
const MOST: usize = 14;

/// What is measured of a run: its name, its look where it stands among other measures, and its value.
type Measure = (&'static str, (Paint, Style), fn(&Run) -> Estimate);

/// Measures that belong into one picture.
struct Panel {
    title: &'static str,
    y_title: &'static str,
    unit: Unit,
    range: Option<(f64, f64)>,
    /// The first is the one that is drawn where other keys have the lines; the second, if it is dotted, beside it.
    measures: &'static [Measure],
}

const PANELS: [Panel; 5] = [
    Panel {
        title: "Test accuracy",
        y_title: "test accuracy",
        unit: Unit::Percent,
        range: Some((0.0, 1.0)),
        measures: &[
            ("all classes", (Paint::Ink, Style::Solid), |run| run.accuracy(|global| global.accuracy)),
            ("trained classes", (Paint::Series(0), Style::Dashed), |run| {
                run.accuracy(|global| global.trained_accuracy)
            }),
        ],
    },
    Panel {
        title: "Overlap of local and global circuits",
        y_title: "IoU of channels",
        unit: Unit::Plain,
        range: Some((0.0, 1.0)),
        measures: &[
            ("same class", (Paint::Series(0), Style::Solid), |run| run.overlap(Comparison::LocalGlobal, false)),
            ("chance", (Paint::Faded, Style::Dotted), |run| run.overlap(Comparison::LocalGlobal, true)),
            ("noise ceiling", (Paint::Series(2), Style::Dotted), |run| run.ceiling().0),
            ("another class", (Paint::Series(1), Style::Dashed), Run::mismatched),
        ],
    },
    Panel {
        title: "Sizes of circuits",
        y_title: "channels",
        unit: Unit::Plain,
        range: None,
        measures: &[
            ("global model", (Paint::Series(0), Style::Solid), |run| run.of_circuits(true, Circuit::size)),
            ("clients' models", (Paint::Series(1), Style::Solid), |run| run.of_circuits(false, Circuit::size)),
        ],
    },
    Panel {
        title: "Worth of global circuits",
        y_title: "accuracy on the class",
        unit: Unit::Percent,
        range: Some((0.0, 1.0)),
        measures: &[
            ("sufficiency", (Paint::Series(0), Style::Solid), |run| {
                run.of_circuits(true, |circuit| circuit.measure("sufficiency"))
            }),
            ("random circuits as large", (Paint::Faded, Style::Dotted), |run| {
                run.of_circuits(true, |circuit| circuit.measure("random_sufficiency"))
            }),
            ("false positives", (Paint::Series(1), Style::Dashed), |run| {
                run.of_circuits(true, |circuit| circuit.measure("false_positive"))
            }),
            ("necessity", (Paint::Series(2), Style::Solid), |run| {
                run.of_circuits(true, |circuit| circuit.measure("necessity"))
            }),
        ],
    },
    Panel {
        title: "Local mask on global weights",
        y_title: "accuracy on the class",
        unit: Unit::Percent,
        range: Some((0.0, 1.0)),
        measures: &[("cross", (Paint::Series(3), Style::Solid), |run| {
            run.of_circuits(true, |circuit| circuit.measure("cross"))
        })],
    },
];

/// One for each key.
pub fn all(runs: &[Run]) -> Vec<Figure> {
    let swept = keys(runs);
    let figure = |(i, id): (usize, &&'static str)| of_key(runs, &swept, i, id);
    IDS.iter().enumerate().take(swept.len()).map(figure).collect()
}

fn of_key(runs: &[Run], swept: &[Swept], key: usize, id: &'static str) -> Figure {
    let places = Places::new(&swept[key]);
    let all = groups(swept, key);
    let shown = &all[..all.len().min(MOST)];
    let scenes: Vec<Scene> = PANELS.iter().filter_map(|panel| places.draw(panel, runs, shown)).collect();
    let several = runs.iter().any(|run| run.seeds.len() > 1);
    let mut caption =
        format!("The last round of each run, of circuits the last that has them, against {}.", swept[key].key);
    if all.len() > 1 {
        let others: Vec<&str> =
            swept.iter().enumerate().filter(|(i, _)| *i != key).map(|(_, other)| other.key.as_str()).collect();
        caption += &format!(" A colour for each value of {}.", others.join(" and "));
    } else if swept.len() > 1 {
        let others: Vec<&str> = swept.iter().map(|other| other.key.as_str()).filter(|k| *k != swept[key].key).collect();
        caption += &format!(" {} changes with it, and may be what matters.", others.join(" and "));
    }
    let averaged = shown.iter().any(|(_, members)| places.of(members).len() < members.len());
    if averaged {
        caption += " Runs of one value are averaged, and their intervals are over runs.";
    }
    caption += &beside(runs, places.rows, all.len() > 1);
    caption += match several {
        true => " Bars are 95% intervals of the mean over seeds (Student's t).",
        false if averaged => "",
        false => " One seed each: how much another seed would differ is not known.",
    };
    let title = format!("Against {}", swept[key].key);
    let left_out = match all.len() - shown.len() {
        0 => String::new(),
        more => format!("{more} further values of the other keys are in the table only."),
    };
    Figure::new(id, &title, &caption, scenes).without(left_out)
}

/// What stands beside what was measured: marks of chance, in colours of their own or of the lines to which they belong.
fn beside(runs: &[Run], rows: bool, in_groups: bool) -> String {
    let any = |value: &dyn Fn(&Run) -> Estimate| runs.iter().any(|run| value(run).mean.is_finite());
    let random = |run: &Run| run.of_circuits(true, |circuit| circuit.measure("random_sufficiency"));
    if !any(&|run| run.overlap(Comparison::LocalGlobal, true)) && !any(&random) {
        return String::new();
    }
    let marks = if rows { "Upright strokes" } else { "Dotted" };
    let ceiling = match runs.iter().any(|run| run.ceiling().1.is_some()) {
        true => ", in some runs of an earlier round",
        false => "",
    };
    let which = match in_groups {
        true => format!("{marks}, in the colour of what they belong to: what chance would give."),
        false if any(&|run| run.ceiling().0) => format!(
            "{marks} in grey: what chance would give, of overlaps those of the same class; in green: the noise ceiling, what \
             two searches in the same weights share{ceiling}."
        ),
        false => format!("{marks} in grey: what chance would give, of overlaps those of the same class."),
    };
    format!(
        " {which} An overlap counts only by its distance to chance, and sufficiency only by its distance to random circuits and to \
         false positives."
    )
}

/// Where the values of a key lie.
struct Places {
    /// As it is called beside the axis.
    title: String,
    /// By run: along an axis, or which row.
    of_runs: Vec<f64>,
    /// Along the axis, each once with what it is called.
    ticks: Vec<(f64, String)>,
    /// Whether they are rows.
    rows: bool,
}

impl Places {
    fn new(swept: &Swept) -> Self {
        let (numbers, mut title) = (swept.numbers(), swept.key.clone());
        let of_runs: Vec<f64> = match &numbers {
            Some(numbers) => {
                let scale = Scale::of(numbers);
                title = scale.title(&title);
                numbers.iter().map(|number| scale.place(*number)).collect()
            }
            None => {
                let mut names: Vec<&String> = Vec::new();
                let row = |value| {
                    let known = names.iter().position(|name| *name == value);
                    known.unwrap_or_else(|| {
                        names.push(value);
                        names.len() - 1
                    }) as f64
                };
                swept.values.iter().map(row).collect()
            }
        };
        let mut ticks: Vec<(f64, String)> = of_runs.iter().copied().zip(swept.values.iter().cloned()).collect();
        ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
        ticks.dedup_by(|a, b| a.0 == b.0);
        Self { title, of_runs, ticks, rows: numbers.is_none() }
    }

    /// The runs at each place.
    fn of(&self, members: &[usize]) -> Vec<(f64, Vec<usize>)> {
        let mut sorted = members.to_vec();
        sorted.sort_by(|a, b| self.of_runs[*a].total_cmp(&self.of_runs[*b]));
        let together = sorted.chunk_by(|a, b| self.of_runs[*a] == self.of_runs[*b]);
        together.map(|runs| (self.of_runs[runs[0]], runs.to_vec())).collect()
    }

    fn draw(&self, panel: &Panel, runs: &[Run], groups: &[(String, Vec<usize>)]) -> Option<Scene> {
        let line = |label: String, (paint, style): (Paint, Style), members: &[usize], value: fn(&Run) -> Estimate| {
            let at = |(place, of): (f64, Vec<usize>)| {
                point(place, together(&of.iter().map(|run| &runs[*run]).collect::<Vec<_>>(), value))
            };
            Line { label, points: self.of(members).into_iter().map(at).collect(), paint, style }
        };
        let lines: Vec<Line> = match groups {
            [(_, members)] => panel
                .measures
                .iter()
                .rev()
                .map(|(name, look, value)| line((*name).into(), *look, members, *value))
                .collect(),
            several => {
                let (_, _, first) = panel.measures[0];
                let beside = panel.measures.get(1).filter(|(_, (_, style), _)| *style == Style::Dotted);
                let chance = |(i, (_, members)): (usize, &(String, Vec<usize>))| {
                    beside.map(|(_, _, value)| line(String::new(), (Paint::Series(i), Style::Dotted), members, *value))
                };
                let own =
                    |(i, (label, members)): (usize, &(String, Vec<usize>))| line(label.clone(), nth(i), members, first);
                let chances = several.iter().enumerate().filter_map(chance);
                chances.chain(several.iter().enumerate().map(own)).collect()
            }
        };
        let lines = present(lines);
        if lines.is_empty() {
            return None;
        }
        // With many lines, which measure it is stands above.
        let title = match (groups.len(), panel.measures) {
            (1, _) | (_, [_]) => panel.title.to_string(),
            (_, [(name, ..), ..]) => format!("{}: {name}", panel.title),
            (_, []) => return None,
        };
        let Panel { y_title, unit, range, .. } = *panel;
        if self.rows {
            let names: Vec<String> = self.ticks.iter().map(|(_, name)| name.clone()).collect();
            return Some(Dots { title: &title, x_title: y_title, unit, range, names: &names, lines: &lines }.draw());
        }
        let chart = Chart::by_round(title, y_title, unit, lines);
        Some(Chart { range, x_title: self.title.clone(), x_ticks: self.ticks.clone(), ..chart }.draw())
    }
}
