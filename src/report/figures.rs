//! Everything a round says of a federation, as named numbers: what tables, pictures and the means over seeds show.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::estimate::Estimate;
use super::history::{figures_by_name, figures_from_names};
use super::records::{
    Against, CircuitRecord, Comparison, Control, ControlRecord, Diagnosis, Level, ModelSide, OverlapMean, RoundRecord,
    area,
};
use super::summary::{Fates, mean_overlaps};

/// What a number says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Mean cross-entropy of the global model on the test set.
    Loss,
    /// Its accuracy over all classes.
    Accuracy,
    /// Its accuracy over the classes that some client holds.
    TrainedAccuracy,
    /// Its accuracy on one class.
    ClassAccuracy(usize),
    /// Share of zero weights in a layer of the clients' models.
    Sparsity(String),
    /// Mean over the circuits of a model of one of their measures, named as its column in `circuits.csv`.
    Circuits(ModelSide, String),
    /// Mean overlap of circuits.
    Overlap(Comparison, Level, String),
    /// What chance gives the same pairs.
    Chance(Comparison, Level, String),
    /// How many of the clients' classes fared so.
    Diagnoses(Diagnosis),
    /// Mean over the circuits that a control's searches found of a column of `controls.csv`.
    Control(Control, &'static str),
}

impl Figure {
    /// As `summary.json` and `figures.csv` of several seeds have it.
    pub fn name(&self) -> String {
        match self {
            Figure::Loss => "loss".into(),
            Figure::Accuracy => "accuracy".into(),
            Figure::TrainedAccuracy => "trained_accuracy".into(),
            Figure::ClassAccuracy(class) => format!("class_accuracy.{class}"),
            Figure::Sparsity(layer) => format!("sparsity.{layer}"),
            Figure::Circuits(model, measure) => format!("circuits.{}.{measure}", model.name()),
            Figure::Overlap(comparison, level, layer) => {
                format!("overlap.{}.{}.{layer}.iou", comparison.name(), level.name())
            }
            Figure::Chance(comparison, level, layer) => {
                format!("overlap.{}.{}.{layer}.chance", comparison.name(), level.name())
            }
            Figure::Diagnoses(diagnosis) => format!("diagnoses.{}", diagnosis.name()),
            Figure::Control(control, column) => format!("controls.{}.{column}", control.name()),
        }
    }

    /// The figure with this name.
    pub fn named(name: &str) -> Option<Self> {
        let (kind, rest) = name.split_once('.').unwrap_or((name, ""));
        let overlap = || -> Option<Self> {
            let mut parts = rest.splitn(3, '.');
            let comparison = find(&Comparison::ALL, Comparison::name, parts.next()?)?;
            let level = find(&[Level::Node, Level::Edge], Level::name, parts.next()?)?;
            let (layer, which) = parts.next()?.rsplit_once('.')?;
            match which {
                "iou" => Some(Figure::Overlap(comparison, level, layer.into())),
                "chance" => Some(Figure::Chance(comparison, level, layer.into())),
                _ => None,
            }
        };
        match kind {
            "loss" => Some(Figure::Loss),
            "accuracy" => Some(Figure::Accuracy),
            "trained_accuracy" => Some(Figure::TrainedAccuracy),
            "class_accuracy" => rest.parse().ok().map(Figure::ClassAccuracy),
            "sparsity" => Some(Figure::Sparsity(rest.into())),
            "circuits" => {
                let (model, measure) = rest.split_once('.')?;
                let model = find(&[ModelSide::Local, ModelSide::Global], ModelSide::name, model)?;
                Some(Figure::Circuits(model, measure.into()))
            }
            "overlap" => overlap(),
            "diagnoses" => find(&Diagnosis::ALL, Diagnosis::name, rest).map(Figure::Diagnoses),
            "controls" => {
                let (control, column) = rest.split_once('.')?;
                let (column, _) = CONTROL_COLUMNS.iter().find(|(name, _)| *name == column)?;
                find(&Control::ALL, Control::name, control).map(|control| Figure::Control(control, column))
            }
            _ => None,
        }
    }

    /// Whether tables and pictures show it for every round; of the others they show the last round's at most.
    fn is_shown_by_round(&self) -> bool {
        use Figure::*;
        match self {
            Overlap(comparison, level, _) | Chance(comparison, level, _) => {
                (*comparison, *level) == (Comparison::LocalGlobal, Level::Node)
            }
            Loss | Accuracy | TrainedAccuracy | Diagnoses(_) => true,
            ClassAccuracy(_) | Sparsity(_) | Circuits(..) | Control(..) => false,
        }
    }
}

/// The one of `all` with this name.
fn find<T: Copy>(all: &[T], name: fn(T) -> &'static str, wanted: &str) -> Option<T> {
    all.iter().copied().find(|one| name(*one) == wanted)
}

/// The figures of one federation after a round; not a number where one is undefined.
pub fn figures(
    record: &RoundRecord,
    circuits: &[CircuitRecord],
    controls: &[ControlRecord],
    overlaps: &[OverlapMean],
) -> Vec<(Figure, f64)> {
    let global = &record.global;
    let mut figures = vec![
        (Figure::Loss, global.loss),
        (Figure::Accuracy, global.accuracy),
        (Figure::TrainedAccuracy, global.trained_accuracy),
    ];
    let classes = global.per_class_accuracy.iter().enumerate();
    figures.extend(classes.map(|(class, accuracy)| (Figure::ClassAccuracy(class), *accuracy)));
    figures.extend(record.sparsity.iter().map(|(layer, share)| (Figure::Sparsity(layer.clone()), *share)));
    for model in [ModelSide::Local, ModelSide::Global] {
        let of_model: Vec<&CircuitRecord> = circuits.iter().filter(|c| c.model == model).collect();
        figures.extend(measures(&of_model).into_iter().map(|(name, mean)| (Figure::Circuits(model, name), mean)));
    }
    for mean in mean_overlaps(overlaps) {
        figures.push((Figure::Overlap(mean.comparison, mean.level, mean.layer.clone()), mean.iou));
        figures.push((Figure::Chance(mean.comparison, mean.level, mean.layer), mean.chance));
    }
    if let Some(f) = Fates::new(circuits) {
        let counts = [
            (Diagnosis::Preserved, f.preserved),
            (Diagnosis::StructuralDrift, f.structural_drift),
            (Diagnosis::DestructiveInterference, f.destructive_interference),
            (Diagnosis::NotLearned, f.not_learned),
        ];
        figures.extend(counts.map(|(diagnosis, n)| (Figure::Diagnoses(diagnosis), n as f64)));
    }
    figures.extend(control_figures(controls));
    figures
}

/// A column of `controls.csv`, and its value where it is defined.
type ControlColumn = (&'static str, fn(&ControlRecord) -> Option<f64>);

const CONTROL_COLUMNS: [ControlColumn; 5] = [
    ("iou", |c| c.iou),
    ("chance", |c| c.chance),
    ("accuracy", |c| Some(c.accuracy)),
    ("sufficiency", |c| Some(c.sufficiency)),
    ("false_positive", |c| Some(c.false_positive)),
];

fn control_figures(controls: &[ControlRecord]) -> Vec<(Figure, f64)> {
    let mut figures = Vec::new();
    for control in Control::ALL {
        let own: Vec<&ControlRecord> = controls.iter().filter(|c| c.control == control).collect();
        for (column, value) in CONTROL_COLUMNS.iter().filter(|_| !own.is_empty()) {
            figures.push((Figure::Control(control, column), mean(own.iter().filter_map(|c| value(c)))));
        }
    }
    figures
}

/// A measure of a circuit; `None` where this kind of circuit has no such measure.
type Measure = fn(&CircuitRecord) -> Option<f64>;

/// By the names of their columns.
const MEASURES: [(&str, Measure); 14] = [
    ("accuracy", |c| Some(c.accuracy)),
    ("sufficiency", |c| Some(c.sufficiency)),
    ("necessity", |c| Some(c.necessity)),
    ("cross", |c| c.cross),
    ("false_positive", |c| Some(c.false_positive)),
    ("damage", |c| Some(c.damage)),
    ("random_sufficiency", |c| c.random.map(|Against { mean, .. }| mean)),
    ("random_percentile", |c| c.random.map(|Against { percentile, .. }| percentile)),
    ("random_p", |c| c.random.map(|Against { p_value, .. }| p_value)),
    ("ceiling", |c| c.ceiling),
    ("drift_gap", CircuitRecord::drift_gap),
    ("completeness", |c| c.removals.map(|r| r.completeness)),
    ("minimality", |c| c.removals.map(|r| r.minimality)),
    ("curve_area", |c| area(&c.curve)),
];

/// Means over the circuits for which each measure is defined.
fn measures(circuits: &[&CircuitRecord]) -> Vec<(String, f64)> {
    let Some(first) = circuits.first() else { return Vec::new() };
    let mut means = Vec::new();
    for (layer, _) in &first.active_nodes {
        means.push((format!("size_{layer}"), mean(circuits.iter().map(|c| c.size(layer) as f64))));
    }
    let whole = |c: &&CircuitRecord| c.active_nodes.iter().map(|(_, nodes)| nodes.len()).sum::<usize>() as f64;
    means.push(("size_all".to_string(), mean(circuits.iter().map(whole))));
    for (name, measure) in MEASURES {
        let values: Vec<f64> = circuits.iter().filter_map(|c| measure(c)).collect();
        if !values.is_empty() {
            means.push((name.to_string(), mean(values.into_iter())));
        }
    }
    means
}

/// Over the finite values; not a number without any.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.filter(|v| v.is_finite()).fold((0.0, 0), |(sum, n), v| (sum + v, n + 1));
    sum / f64::from(n)
}

/// The figures of a round, over one seed or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundFigures {
    /// One-based.
    pub round: usize,
    /// Seconds it took, of all seeds side by side.
    pub seconds: f64,
    /// In the order of [`figures`].
    #[serde(serialize_with = "figures_by_name", deserialize_with = "figures_from_names")]
    pub figures: Vec<(Figure, Estimate)>,
}

impl RoundFigures {
    /// From the figures of each seed. One that a seed lacks is undefined for it.
    pub fn new(round: usize, seconds: f64, seeds: &[Vec<(Figure, f64)>]) -> Self {
        let (mut places, mut gathered) = (BTreeMap::new(), Vec::<(Figure, Vec<f64>)>::new());
        for (i, (figure, value)) in seeds.iter().enumerate().flat_map(|(i, seed)| seed.iter().map(move |f| (i, f))) {
            let place = *places.entry(figure.clone()).or_insert_with(|| {
                gathered.push((figure.clone(), vec![f64::NAN; seeds.len()]));
                gathered.len() - 1
            });
            gathered[place].1[i] = *value;
        }
        let figures = gathered.into_iter().map(|(figure, values)| (figure, Estimate::new(&values))).collect();
        Self { round, seconds, figures }
    }

    /// One of them, where the round has it.
    pub fn get(&self, figure: &Figure) -> Option<&Estimate> {
        self.figures.iter().find(|(other, _)| other == figure).map(|(_, estimate)| estimate)
    }

    /// Forgets what tables and pictures show of the last round only.
    pub fn thin(&mut self) {
        self.figures.retain(|(figure, _)| figure.is_shown_by_round());
        self.figures.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::super::plots::tests::{circuit, overlap, round};
    use super::*;

    fn named(figures: &[(Figure, f64)]) -> BTreeMap<String, f64> {
        let named: BTreeMap<_, _> = figures.iter().map(|(figure, value)| (figure.name(), *value)).collect();
        assert_eq!(named.len(), figures.len(), "names are distinct");
        figures.iter().for_each(|(figure, _)| assert_eq!(Figure::named(&figure.name()).as_ref(), Some(figure)));
        named
    }

    #[test]
    fn figures_are_means_over_what_is_defined() {
        let mut record = round(3, 0.5, 0.75);
        record.sparsity = vec![("conv1".into(), 0.9)];
        record.global.per_class_accuracy = vec![1.0, f64::NAN];
        let nodes = |n: u32| vec![("conv1".to_string(), (0..n).collect()), ("conv2".to_string(), vec![7])];
        let mut circuits = vec![
            circuit(ModelSide::Local, 0, 0, nodes(4)),
            circuit(ModelSide::Local, 0, 1, nodes(1)),
            circuit(ModelSide::Global, 0, 0, nodes(0)),
        ];
        circuits[0].necessity = f64::NAN;
        circuits[1].necessity = 0.25;
        circuits[2].cross = Some(0.5);
        circuits[2].ceiling = Some(0.875);
        let drifted = Some(Diagnosis::StructuralDrift);
        circuits.push(CircuitRecord { diagnosis: drifted, ..circuit(ModelSide::Global, 0, 1, nodes(0)) });
        let one_class = OverlapMean { class: Some(4), ..overlap(3, "conv1", Some(0.75), Some(0.5)) };
        let overlaps = [overlap(3, "conv1", Some(0.5), Some(0.25)), one_class, overlap(3, "conv2", None, None)];
        let control = |iou, sufficiency| ControlRecord {
            round: 3,
            control: Control::Shuffled,
            client: 0,
            class: 0,
            active_nodes: nodes(1),
            accuracy: 0.5,
            sufficiency,
            false_positive: f64::NAN,
            iou,
            chance: iou.map(|iou: f64| iou / 2.0),
        };
        let repeat = ControlRecord { control: Control::Repeat, ..control(Some(0.75), 0.0) };
        let controls = [control(Some(0.25), 1.0), repeat, control(None, 0.5)];
        let found = figures(&record, &circuits, &controls, &overlaps);
        let named = named(&found);
        for (name, value) in [
            ("loss", 0.5),
            ("accuracy", 0.5),
            ("trained_accuracy", 0.75),
            ("class_accuracy.0", 1.0),
            ("sparsity.conv1", 0.9),
            ("circuits.local.size_conv1", 2.5),
            ("circuits.local.size_all", 3.5),
            ("circuits.local.necessity", 0.25),
            ("circuits.global.size_all", 1.0),
            ("circuits.global.cross", 0.5),
            ("circuits.global.ceiling", 0.875),
            ("overlap.local_global.node.conv1.iou", 0.5),
            ("overlap.local_global.node.conv1.chance", 0.25),
            ("diagnoses.preserved", 1.0),
            ("diagnoses.structural_drift", 1.0),
            ("diagnoses.destructive_interference", 0.0),
            ("diagnoses.not_learned", 0.0),
            ("controls.repeat.iou", 0.75),
            ("controls.repeat.chance", 0.375),
            ("controls.shuffled.iou", 0.25),
            ("controls.shuffled.chance", 0.125),
            ("controls.shuffled.sufficiency", 0.75),
        ] {
            assert_eq!(named.get(name), Some(&value), "{name}");
        }
        // Undefined everywhere is not the same as not there.
        assert!(named["overlap.local_global.node.conv2.iou"].is_nan() && named["class_accuracy.1"].is_nan());
        assert!(!named.contains_key("circuits.local.cross") && !named.contains_key("circuits.local.random_p"));
        assert_eq!(figures(&round(1, 0.5, 0.5), &[], &[], &[]).len(), 3);
    }

    #[test]
    fn a_figure_that_a_seed_lacks_is_undefined_for_it() {
        let both = |loss: f64, accuracy: f64| vec![(Figure::Loss, loss), (Figure::Accuracy, accuracy)];
        let seeds = [both(1.0, 0.5), vec![(Figure::Loss, 3.0)], both(f64::NAN, 0.25)];
        let mut round = RoundFigures::new(1, 2.5, &seeds);
        let get = |figure| round.get(&figure).map(|e| (e.mean, e.n, e.undefined));
        assert_eq!(get(Figure::Loss), Some((2.0, 2, 1)));
        assert_eq!(get(Figure::Accuracy), Some((0.375, 2, 1)));
        assert_eq!(get(Figure::TrainedAccuracy), None);
        round.figures.push((Figure::Sparsity("fc".into()), Estimate::new(&[0.5])));
        round.thin();
        assert_eq!(round.figures.len(), 2);
    }
}
