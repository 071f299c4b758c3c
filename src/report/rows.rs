//! Records as rows of CSV.

use super::estimate::Estimate;
use super::figures::{Figure, RoundFigures};
use super::records::{
    Against, CircuitRecord, ControlRecord, Diagnosis, OverlapMean, OverlapRecord, Removals, RoundRecord, area, size,
};
use super::sweep::SweepRun;

/// The columns of `metrics.csv`.
pub const METRICS: &str = "round,loss,accuracy,trained_accuracy,seconds\n";
/// The columns of `overlap.csv`.
pub const OVERLAP: &str = "round,comparison,level,layer,client_a,class_a,client_b,class_b,size_a,size_b,iou,chance\n";
/// The columns of `overlap_means.csv`.
pub const MEANS: &str = "round,comparison,level,layer,class,pairs,undefined,iou,chance\n";
/// The columns of `partition.csv`.
pub const PARTITION: &str = "client,class,examples\n";

/// One row of `metrics.csv`.
pub fn metrics(record: &RoundRecord) -> csv::Result<Vec<u8>> {
    let global = &record.global;
    let figures = [global.loss, global.accuracy, global.trained_accuracy, record.seconds.total];
    rows([[vec![record.round.to_string()], figures.map(number).to_vec()].concat()])
}

/// The columns of `figures.csv` of several seeds.
pub const FIGURES: &str = "round,figure,mean,std,low,high,n,undefined\n";

/// What `metrics.csv` of several seeds shows of each round; all other figures are in `figures.csv`.
const SEEDS_METRICS: [Figure; 3] = [Figure::Loss, Figure::Accuracy, Figure::TrainedAccuracy];

/// The columns of `metrics.csv` of several seeds.
pub fn seeds_metrics_header() -> String {
    let columns = |name: String| format!("{name}_mean,{name}_std,{name}_low,{name}_high,{name}_n,");
    let columns: String = SEEDS_METRICS.iter().map(|figure| columns(figure.name())).collect();
    format!("round,{columns}seconds\n")
}

/// One row of `metrics.csv` of several seeds.
pub fn seeds_metrics(round: &RoundFigures) -> csv::Result<Vec<u8>> {
    let mut row = vec![round.round.to_string()];
    for figure in &SEEDS_METRICS {
        let none = Estimate::new(&[]);
        let estimate = round.get(figure).unwrap_or(&none);
        row.extend(interval(estimate));
        row.push(estimate.n.to_string());
    }
    row.push(number(round.seconds));
    rows([row])
}

/// One row of `figures.csv` a figure.
pub fn figures(round: &RoundFigures) -> csv::Result<Vec<u8>> {
    rows(figure_rows(round))
}

/// What [`FIGURES`] names, of every figure of a round.
fn figure_rows(round: &RoundFigures) -> impl Iterator<Item = Vec<String>> {
    round.figures.iter().map(|(figure, estimate)| {
        let mut row = vec![round.round.to_string(), figure.name()];
        row.extend(interval(estimate));
        row.extend([estimate.n.to_string(), estimate.undefined.to_string()]);
        row
    })
}

/// The columns and rows of `sweep.csv`.
pub fn sweep(runs: &[SweepRun<'_>]) -> csv::Result<Vec<u8>> {
    let keys = runs.first().into_iter().flat_map(|run| run.values.iter().map(|(key, _)| key.clone()));
    let header = std::iter::once("variant".to_string()).chain(keys);
    let header = header.chain(FIGURES.trim_end().split(',').map(String::from)).collect();
    rows(std::iter::once(header).chain(runs.iter().flat_map(|run| {
        figure_rows(run.last).map(|row| {
            let values = run.values.iter().map(|(_, value)| value.clone());
            std::iter::once(run.label.to_string()).chain(values).chain(row).collect()
        })
    })))
}

fn interval(estimate: &Estimate) -> [String; 4] {
    [estimate.mean, estimate.std, estimate.low, estimate.high].map(number)
}

/// The columns of `circuits.csv` for a network with these gated layers.
pub fn circuits_header(layers: &[String]) -> String {
    let sizes: String = layers.iter().map(|layer| format!("size_{layer},")).collect();
    format!(
        "round,model,client,class,{sizes}sufficiency,necessity,cross,false_positive,diagnosis,accuracy,damage,{CONTROLS},{MEASURES},cross_answers\n"
    )
}

/// The columns of `circuits.csv` that the controls fill: mean sufficiency of random circuits as large, the share of them
/// that are less sufficient, the p-value, and the overlap with a second search.
const CONTROLS: &str = "random_sufficiency,random_percentile,random_p,ceiling";

/// The columns of `circuits.csv` for what is measured beyond sufficiency and necessity: how much better the global
/// circuit's mask serves the class than the local one's, what its channels are worth one by one, and the mean accuracy over
/// all sizes.
const MEASURES: &str = "drift_gap,completeness,minimality,curve_area";

/// The columns of `curve.csv`.
pub const CURVE: &str = "round,model,client,class,share,accuracy\n";

/// The columns of `controls.csv` for a network with these gated layers.
pub fn controls_header(layers: &[String]) -> String {
    let sizes: String = layers.iter().map(|layer| format!("size_{layer},")).collect();
    format!("round,control,client,class,{sizes}accuracy,sufficiency,false_positive,iou,chance\n")
}

/// One row of `circuits.csv` a circuit.
pub fn circuits(layers: &[String], circuits: &[CircuitRecord]) -> csv::Result<Vec<u8>> {
    rows(circuits.iter().map(|circuit| {
        let mut row = vec![circuit.round.to_string(), circuit.model.name().into()];
        row.extend([circuit.client.to_string(), circuit.class.to_string()]);
        row.extend(layers.iter().map(|layer| circuit.size(layer).to_string()));
        row.extend([number(circuit.sufficiency), number(circuit.necessity), optional(circuit.cross)]);
        row.extend([number(circuit.false_positive), circuit.diagnosis.map_or("", Diagnosis::name).into()]);
        row.extend([number(circuit.accuracy), number(circuit.damage)]);
        let random = |part: fn(&Against) -> f64| optional(circuit.random.as_ref().map(part));
        row.extend([random(|r| r.mean), random(|r| r.percentile), random(|r| r.p_value), optional(circuit.ceiling)]);
        let removals = |part: fn(&Removals) -> f64| optional(circuit.removals.as_ref().map(part));
        row.extend([optional(circuit.drift_gap()), removals(|r| r.completeness), removals(|r| r.minimality)]);
        row.extend([optional(area(&circuit.curve)), answers(&circuit.cross_answers)]);
        row
    }))
}

/// What images were called, `3:10 5:2` for ten a 3 and two a 5; nothing where none were shown.
fn answers(counts: &[u32]) -> String {
    let called = counts.iter().enumerate().filter(|(_, images)| **images > 0);
    called.map(|(class, images)| format!("{class}:{images}")).collect::<Vec<_>>().join(" ")
}

/// One row of `curve.csv` a point.
pub fn curves(circuits: &[CircuitRecord]) -> csv::Result<Vec<u8>> {
    rows(circuits.iter().flat_map(|circuit| {
        circuit.curve.iter().map(|point| {
            let whose = [circuit.client.to_string(), circuit.class.to_string()];
            let point = [number(point.share), number(point.accuracy)];
            [vec![circuit.round.to_string(), circuit.model.name().into()], whose.to_vec(), point.to_vec()].concat()
        })
    }))
}

/// One row of `controls.csv` a search.
pub fn controls(layers: &[String], controls: &[ControlRecord]) -> csv::Result<Vec<u8>> {
    rows(controls.iter().map(|record| {
        let mut row = vec![record.round.to_string(), record.control.name().into()];
        row.extend([record.client.to_string(), record.class.to_string()]);
        let nodes = Some(&record.active_nodes).filter(|nodes| !nodes.is_empty());
        row.extend(layers.iter().map(|layer| nodes.map_or(String::new(), |nodes| size(nodes, layer).to_string())));
        row.extend([number(record.accuracy), number(record.sufficiency), number(record.false_positive)]);
        row.extend([optional(record.iou), optional(record.chance)]);
        row
    }))
}

/// One row of `overlap.csv` a comparison.
pub fn overlaps(overlaps: &[OverlapRecord]) -> csv::Result<Vec<u8>> {
    rows(overlaps.iter().map(|record| {
        vec![
            record.round.to_string(),
            record.comparison.name().into(),
            record.level.name().into(),
            record.layer.clone(),
            record.client_a.to_string(),
            record.class_a.to_string(),
            record.client_b.to_string(),
            record.class_b.to_string(),
            record.size_a.to_string(),
            record.size_b.to_string(),
            optional(record.iou),
            optional(record.chance),
        ]
    }))
}

/// One row of `overlap_means.csv` a mean.
pub fn overlap_means(means: &[OverlapMean]) -> csv::Result<Vec<u8>> {
    rows(means.iter().map(|mean| {
        vec![
            mean.round.to_string(),
            mean.comparison.name().into(),
            mean.level.name().into(),
            mean.layer.clone(),
            mean.class.map(|class| class.to_string()).unwrap_or_default(),
            mean.pairs.to_string(),
            mean.undefined.to_string(),
            optional(mean.iou),
            optional(mean.chance),
        ]
    }))
}

/// `partition.csv`, from how many examples of each class each client holds; classes that a client lacks get no row.
pub fn partition(counts: impl Iterator<Item = Vec<u32>>) -> csv::Result<Vec<u8>> {
    let held = counts.enumerate().flat_map(|(client, counts)| {
        let classes = counts.into_iter().enumerate().filter(|(_, examples)| *examples > 0);
        classes.map(move |(class, examples)| vec![client.to_string(), class.to_string(), examples.to_string()])
    });
    Ok([PARTITION.as_bytes(), &rows(held)?].concat())
}

fn rows(rows: impl IntoIterator<Item = Vec<String>>) -> csv::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(&row)?;
    }
    writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))
}

/// A number, or an empty cell where there is none.
fn number(x: f64) -> String {
    if x.is_finite() { x.to_string() } else { String::new() }
}

fn optional(x: Option<f64>) -> String {
    x.map(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::records::{
        Comparison, Control, CurvePoint, Diagnosis, GlobalRecord, Level, ModelSide, Seconds, sample_circuit,
    };
    use super::*;

    #[test]
    fn rows_match_their_headers_and_leave_undefined_cells_empty() {
        let round = RoundRecord {
            round: 3,
            seconds: Seconds { total: 1.5, ..Seconds::default() },
            global: GlobalRecord { loss: f64::NAN, accuracy: 0.25, trained_accuracy: 1.0, per_class_accuracy: vec![] },
            clients: vec![],
            dropped: vec![],
            sparsity: vec![],
            readbacks: 1,
            bytes_read_back: 8,
        };
        assert_eq!(metrics(&round).unwrap(), b"3,,0.25,1,1.5\n");
        let layers = ["conv1".to_string(), "conv2".to_string()];
        let circuit = CircuitRecord {
            round: 3,
            model: ModelSide::Global,
            class: 7,
            active_nodes: vec![("conv1".into(), vec![1, 2]), ("conv2".into(), vec![])],
            sufficiency: 1.0,
            necessity: 0.5,
            cross: Some(0.25),
            cross_answers: vec![4, 0, 1],
            false_positive: 0.125,
            diagnosis: Some(Diagnosis::StructuralDrift),
            accuracy: 0.75,
            damage: f64::NAN,
            random: Some(Against { mean: 0.25, percentile: 0.9, p_value: 0.125 }),
            ceiling: Some(0.5),
            removals: Some(Removals { completeness: 0.75, minimality: 1.0 }),
            curve: vec![CurvePoint { share: 0.5, accuracy: 0.25 }, CurvePoint { share: 1.0, accuracy: 0.75 }],
            ..sample_circuit()
        };
        assert_eq!(
            circuits(&layers, std::slice::from_ref(&circuit)).unwrap(),
            b"3,global,0,7,2,0,1,0.5,0.25,0.125,structural_drift,0.75,,0.25,0.9,0.125,0.5,0.75,0.75,1,0.5,0:4 2:1\n"
        );
        assert_eq!(curves(&[circuit]).unwrap(), b"3,global,0,7,0.5,0.25\n3,global,0,7,1,0.75\n");
        let control = ControlRecord {
            round: 3,
            control: Control::Shuffled,
            client: 0,
            class: 7,
            active_nodes: vec![("conv1".into(), vec![4])],
            accuracy: 0.5,
            sufficiency: 0.25,
            false_positive: f64::NAN,
            iou: None,
            chance: Some(0.125),
        };
        let mut undefined = ControlRecord { active_nodes: Vec::new(), chance: None, ..control.clone() };
        (undefined.accuracy, undefined.sufficiency) = (f64::NAN, f64::NAN);
        assert_eq!(
            controls(&layers, &[control, undefined]).unwrap(),
            b"3,shuffled,0,7,1,0,0.5,0.25,,,0.125\n3,shuffled,0,7,,,,,,,\n"
        );
        assert_eq!(
            controls_header(&layers),
            "round,control,client,class,size_conv1,size_conv2,accuracy,sufficiency,false_positive,iou,chance\n"
        );
        assert_eq!(
            circuits_header(&layers),
            "round,model,client,class,size_conv1,size_conv2,sufficiency,necessity,cross,false_positive,diagnosis,\
             accuracy,damage,random_sufficiency,random_percentile,random_p,ceiling,drift_gap,completeness,minimality,\
             curve_area,cross_answers\n"
        );
        let overlap = OverlapRecord {
            round: 3,
            comparison: Comparison::InterClassGlobal,
            level: Level::Edge,
            layer: "all".into(),
            client_a: 0,
            class_a: 1,
            client_b: 0,
            class_b: 2,
            size_a: 0,
            size_b: 0,
            iou: None,
            chance: None,
        };
        let empty = overlap.clone();
        assert_eq!(overlaps(&[empty]).unwrap(), b"3,inter_class_global,edge,all,0,1,0,2,0,0,,\n");
        let overlap = OverlapRecord {
            client_a: 4,
            client_b: 5,
            size_a: 6,
            size_b: 7,
            iou: Some(0.5),
            chance: Some(0.25),
            ..overlap
        };
        assert_eq!(overlaps(&[overlap]).unwrap(), b"3,inter_class_global,edge,all,4,1,5,2,6,7,0.5,0.25\n");
        let mean = OverlapMean {
            round: 3,
            comparison: Comparison::InterClientLocal,
            level: Level::Node,
            layer: "all".into(),
            class: Some(4),
            pairs: 3,
            undefined: 1,
            iou: Some(0.5),
            chance: None,
        };
        let overall = OverlapMean { class: None, iou: None, ..mean.clone() };
        let expected = b"3,inter_client_local,node,all,4,3,1,0.5,\n3,inter_client_local,node,all,,3,1,,\n";
        assert_eq!(overlap_means(&[mean, overall]).unwrap(), expected);
        assert_eq!(
            partition([vec![5, 0], vec![1, 7]].into_iter()).unwrap(),
            b"client,class,examples\n0,0,5\n1,0,1\n1,1,7\n"
        );
    }
}
