//! Pictures of made-up runs, among them runs that are hardly any.

use std::collections::HashSet;
use std::path::PathBuf;

use image::RgbImage;

use super::super::figures::figures;
use super::super::records::{
    CircuitRecord, Comparison, GlobalRecord, Level, ModelSide, OverlapMean, RoundRecord, Seconds, sample_circuit,
};
use super::*;

/// A run that owns its records.
#[derive(Default)]
struct Run {
    name: String,
    rounds: Vec<RoundRecord>,
    circuits: Vec<CircuitRecord>,
    overlaps: Vec<OverlapMean>,
    channels: Vec<(String, usize)>,
}

impl Run {
    /// What the pictures get; `rounds` are the run's own, [`measured`].
    fn figures<'a>(&'a self, rounds: &'a [RoundFigures]) -> RunFigures<'a> {
        RunFigures { name: &self.name, rounds, circuits: &self.circuits, channels: &self.channels }
    }

    fn measured(&self) -> Vec<RoundFigures> {
        measured(&self.rounds, &self.overlaps)
    }
}

/// The figures of one seed by round.
pub fn measured(rounds: &[RoundRecord], overlaps: &[OverlapMean]) -> Vec<RoundFigures> {
    let of = |number: usize| overlaps.iter().filter(|o| o.round == number).cloned().collect::<Vec<_>>();
    let one =
        |record: &RoundRecord| RoundFigures::new(record.round, 0.0, &[figures(record, &[], &[], &of(record.round))]);
    rounds.iter().map(one).collect()
}

pub fn round(round: usize, accuracy: f64, trained_accuracy: f64) -> RoundRecord {
    RoundRecord {
        round,
        seconds: Seconds::default(),
        global: GlobalRecord { loss: 0.5, accuracy, trained_accuracy, per_class_accuracy: vec![] },
        clients: vec![],
        dropped: vec![],
        sparsity: vec![],
        readbacks: 1,
        bytes_read_back: 0,
    }
}

pub fn overlap(round: usize, layer: &str, iou: Option<f64>, chance: Option<f64>) -> OverlapMean {
    OverlapMean {
        round,
        comparison: Comparison::LocalGlobal,
        level: Level::Node,
        layer: layer.into(),
        class: None,
        pairs: 1,
        undefined: u64::from(iou.is_none()),
        iou,
        chance,
    }
}

pub fn circuit(model: ModelSide, client: usize, class: u32, nodes: Vec<(String, Vec<u32>)>) -> CircuitRecord {
    CircuitRecord {
        model,
        client,
        class,
        class_name: ["zero", "one", "two", "three", "four", "five", "six"]
            .get(class as usize)
            .unwrap_or(&"")
            .to_string(),
        active_nodes: nodes,
        ..sample_circuit()
    }
}

/// `clients` with `classes` each on a network of three layers; every third channel or so, moved by `shift` in the
/// global model.
fn sample(name: &str, rounds: usize, clients: usize, classes: u32, shift: usize) -> Run {
    let layers = [("conv1", 32), ("conv2", 64), ("conv3", 128)];
    let mut run = Run { name: name.into(), ..Run::default() };
    run.channels = layers.map(|(layer, count)| (layer.to_string(), count)).to_vec();
    let agreement = 1.0 - 0.3 * shift as f64;
    for n in 1..=rounds {
        let progress = 1.0 - (-(n as f64) / 2.5).exp();
        run.rounds.push(round(n, agreement.max(0.3) * progress, (agreement.max(0.3) + 0.1 * shift as f64) * progress));
        for (i, (layer, _)) in layers.iter().enumerate() {
            let value = (0.95 - 0.12 * i as f64) * agreement.max(0.2) * (0.4 + 0.6 * progress);
            let undefined = shift > 1 && i == 0 && n == 3;
            run.overlaps.push(overlap(n, layer, (!undefined).then_some(value), Some(0.15 - 0.05 * i as f64)));
        }
    }
    for client in 0..clients {
        for class in 0..classes {
            let nodes = |shift: usize| {
                layers.map(|(layer, count)| {
                    let kept =
                        (0..count).filter(|i| (i * 7 + client * 3 + class as usize * 5 + shift * (i % 3)) % 11 < 2);
                    (layer.to_string(), kept.map(|i| i as u32).collect())
                })
            };
            run.circuits.push(circuit(ModelSide::Local, client, class, nodes(0).to_vec()));
            run.circuits.push(circuit(ModelSide::Global, client, class, nodes(shift).to_vec()));
        }
    }
    run
}

/// Draws both pictures and returns them.
fn draw(runs: &[Run]) -> [RgbImage; 2] {
    let folder = tempfile::tempdir().unwrap();
    let rounds: Vec<Vec<RoundFigures>> = runs.iter().map(Run::measured).collect();
    let figures: Vec<RunFigures> = runs.iter().zip(&rounds).map(|(run, rounds)| run.figures(rounds)).collect();
    let paths: [PathBuf; 2] = ["rounds.png", "circuits.png"].map(|name| folder.path().join("plots").join(name));
    draw_rounds(&figures, &paths[0]).unwrap();
    let nobody = Run::default();
    draw_circuits(figures.first().unwrap_or(&nobody.figures(&[])), &paths[1]).unwrap();
    paths.map(|path| image::open(path).unwrap().into_rgb8())
}

fn colors(picture: &RgbImage) -> HashSet<[u8; 3]> {
    picture.pixels().map(|pixel| pixel.0).collect()
}

fn rgb(color: canvas::RGBColor) -> [u8; 3] {
    [color.0, color.1, color.2]
}

#[test]
fn two_runs_have_a_line_for_each_layer_and_a_cell_for_each_fate_of_a_channel() {
    let [rounds, circuits] = draw(&[sample("iid", 10, 3, 3, 1), sample("one-class", 10, 3, 1, 2)]);
    let (lines, cells) = (colors(&rounds), colors(&circuits));
    for color in &style::LAYERS[..3] {
        assert!(lines.contains(&rgb(*color)), "{color:?}");
    }
    assert!(!lines.contains(&rgb(style::LAYERS[3])));
    for color in [style::INK, style::VERMILION, style::SKY_BLUE, style::PALE] {
        assert!(cells.contains(&rgb(color)), "{color:?}");
    }
    assert_eq!(circuits.width(), 900 * canvas::DENSITY);
    assert!((1700..=1900).contains(&rounds.width()), "{}", rounds.width());
}

/// Over three seeds, a line for the mean and a pale band around it.
#[test]
fn several_seeds_are_a_line_in_a_band() {
    let folder = tempfile::tempdir().unwrap();
    let seeds = [0, 1, 2].map(|shift| sample("iid", 5, 1, 1, shift));
    let seed = |run: &Run, n: usize| {
        let overlaps: Vec<_> = run.overlaps.iter().filter(|o| o.round == n).cloned().collect();
        figures(&run.rounds[n - 1], &[], &[], &overlaps)
    };
    let together = |n: usize| RoundFigures::new(n, 0.0, &seeds.each_ref().map(|run| seed(run, n)));
    let picture = |name: &str, rounds: &[RoundFigures]| {
        let path = folder.path().join(name);
        draw_rounds(&[seeds[0].figures(rounds)], &path).unwrap();
        image::open(path).unwrap().into_rgb8()
    };
    let all = picture("five.png", &(1..=5).map(together).collect::<Vec<_>>());
    let alone = picture("alone.png", &seeds[0].measured());
    // Blue mixed into white, as only the band of the first layer is.
    let pale = |picture: &RgbImage| {
        let is_pale = |p: &[u8; 3]| p[2] > p[0].saturating_add(30) && p[0] > 150;
        picture.pixels().filter(|pixel| is_pale(&pixel.0)).count()
    };
    assert!(pale(&all) > 10 * pale(&alone), "{} {}", pale(&all), pale(&alone));
    assert!(colors(&all).contains(&rgb(style::LAYERS[0])));
    // A single round has no band to draw; its interval is an upright line.
    assert!(picture("one.png", &[together(1)]) != picture("one alone.png", &seeds[0].measured()[..1]));
}

#[test]
fn identical_circuits_have_nothing_lost_or_new() {
    let [_, circuits] = draw(&[sample("iid", 1, 1, 1, 0)]);
    assert!(colors(&circuits).contains(&rgb(style::INK)));
    // The legend shows the colours of all fates, once; cells would be taller.
    let vermilion = circuits.enumerate_pixels().filter(|(_, _, pixel)| pixel.0 == rgb(style::VERMILION));
    assert!(vermilion.map(|(_, y, _)| y).max().unwrap() < 50 * canvas::DENSITY);
}

#[test]
fn hardly_any_run_is_drawn_without_complaint() {
    let mut runs: Vec<Vec<Run>> = vec![vec![], vec![Run::default()], vec![sample("one round", 1, 0, 0, 0)]];
    runs.push(vec![sample("wide", 3, 2, 1, 1), Run::default()]);
    let mut odd = sample("not\na number, and \u{1f98a} a name that does not fit ".repeat(9).as_str(), 2, 1, 1, 1);
    odd.rounds = vec![round(usize::MAX, f64::NAN, f64::INFINITY), round(0, -3.0, 1e300), round(0, f64::NAN, 0.5)];
    odd.overlaps.push(overlap(1, "", None, None));
    odd.overlaps.push(overlap(1, "conv9", Some(f64::NAN), Some(f64::NAN)));
    odd.circuits[0].active_nodes = vec![(String::new(), vec![u32::MAX]), ("conv1".into(), vec![5, 5, 1])];
    odd.circuits.push(circuit(ModelSide::Local, usize::MAX, u32::MAX, vec![]));
    runs.push(vec![odd]);
    let mut unknown = sample("no channel counts, nothing kept", 40, 1, 1, 1);
    unknown.channels.clear();
    unknown.circuits.iter_mut().for_each(|circuit| circuit.active_nodes.clear());
    runs.push(vec![unknown]);
    for runs in &runs {
        let pictures = draw(runs);
        assert!(pictures.iter().all(|picture| picture.width() >= 500 && picture.height() >= 100));
    }
}

#[test]
fn too_much_is_cut_to_a_page() {
    let mut many: Vec<Run> = (0..20).map(|i| sample(&format!("seed {i}"), 30, 6, 5, i % 3)).collect();
    for layer in 0..50 {
        many[0].overlaps.push(overlap(1, &format!("block{layer}.conv"), Some(0.5), Some(0.1)));
    }
    let [rounds, circuits] = draw(&many);
    assert!(rounds.width() <= 920 * canvas::DENSITY && rounds.height() <= 1400 * canvas::DENSITY);
    assert!(circuits.height() <= 600 * canvas::DENSITY);
}

#[test]
fn a_picture_replaces_an_earlier_one_and_an_unwritable_one_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (path, run) = (folder.path().join("circuits.png"), sample("iid", 1, 1, 1, 1));
    fs::write(&path, "earlier").unwrap();
    draw_circuits(&run.figures(&run.measured()), &path).unwrap();
    assert!(image::open(&path).is_ok());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let message = draw_rounds(&[run.figures(&run.measured())], &path.join("rounds.png")).unwrap_err().to_string();
    assert!(message.starts_with("cannot create "), "{message}");
}
