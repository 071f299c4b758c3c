//! The analyses after the last round, each computed again in float64 from the weights and circuits that the run saved.

mod neurons;
mod tally;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use fedcircuit::circuits::analyses::{Analysed, Centroids, DominatorRow, Dominators, Findings};
use fedcircuit::config::Experiment;
use fedcircuit::data::Dataset;
use fedcircuit::device::{Cpu, Device};
use fedcircuit::experiment::{Federation, Outcome};
use fedcircuit::model::Layout;
use fedcircuit::report::{CircuitRecord, ModelSide};

use neurons::{patching, shared_neurons};
use tally::{NEAR, Tally, best};

use crate::reference::{judge, pass, picture};
use crate::small::{data, on_each_device, small};

/// A finished run, and what it takes to compute everything again.
struct Run {
    dataset: Dataset,
    layout: Layout,
    counts: Vec<Vec<u32>>,
    outcome: Outcome,
    analysed: Vec<Analysed>,
}

fn experiment(set: &[&str]) -> Experiment {
    let names = "[\"patching\",\"dominators\",\"ensemble\",\"cascade\",\"centroids\",\"shared_neurons\"]";
    let analyses = format!("circuits.analyses={names}");
    let base = [
        "rounds=1",
        "training.local_epochs=8",
        "circuits.classes=owned",
        "circuits.steps=15",
        "circuits.lr=0.2",
        "circuits.l0=0.05",
        &analyses,
    ];
    small(&[&base, set].concat())
}

fn finished(device: &dyn Device, experiment: &Experiment) -> Run {
    let dataset = data(experiment);
    let mut federation = Federation::new(device, experiment, &dataset).unwrap();
    let go_on = AtomicBool::new(false);
    assert!(federation.analyse(&go_on).unwrap().is_empty(), "nothing is done before the last round");
    let outcome = federation.round().unwrap().remove(0);
    let analysed = federation.analyse(&go_on).unwrap().remove(0);
    let (layout, counts) = (federation.layout().clone(), federation.class_counts(0).collect::<Vec<_>>());
    drop(federation);
    Run { dataset, layout, counts, outcome, analysed }
}

fn wide(row: &[f32]) -> Vec<f64> {
    row.iter().map(|w| f64::from(*w)).collect()
}

impl Run {
    fn global(&self) -> Vec<f64> {
        wide(self.outcome.weights.as_ref().unwrap())
    }

    fn local(&self, client: usize) -> Vec<f64> {
        wide(&self.outcome.client_weights.iter().find(|(k, _)| *k == client).unwrap().1)
    }

    /// The client with most examples of the class, the first among equals.
    fn specialist(&self, class: u32) -> Option<usize> {
        let counts: Vec<u32> = self.counts.iter().map(|c| c[class as usize]).collect();
        let most = counts.iter().copied().max().filter(|n| *n > 0)?;
        counts.iter().position(|n| *n == most)
    }

    fn circuit(&self, client: usize, class: u32) -> &CircuitRecord {
        let same = |c: &&CircuitRecord| (c.model, c.client, c.class) == (ModelSide::Local, client, class);
        self.outcome.circuits.iter().find(same).unwrap()
    }

    /// Class, specialist, circuit.
    fn experts(&self) -> Vec<(u32, usize, &CircuitRecord)> {
        let expert = |class| self.specialist(class).map(|client| (class, client, self.circuit(client, class)));
        (0..10).filter_map(expert).collect()
    }

    fn images(&self, class: u32) -> Vec<usize> {
        let labels = &self.dataset.test.labels;
        (0..labels.len()).filter(|i| u32::from(labels[*i]) == class).collect()
    }

    fn picture(&self, image: usize) -> Vec<f64> {
        picture(&self.dataset, &self.dataset.test, image)
    }

    fn logits(&self, row: &[f64], image: usize, open: &dyn Fn(usize, usize) -> bool) -> Vec<f64> {
        pass(&self.layout, row, &self.picture(image), open, &mut |_, _| ())
    }

    /// Channels, as (gated layer, channel), in any of a client's local circuits.
    fn channels(&self, client: usize) -> BTreeSet<(usize, u32)> {
        let own = self.outcome.circuits.iter().filter(|c| (c.model, c.client) == (ModelSide::Local, client));
        own.flat_map(nodes).collect()
    }

    fn has_circuits(&self, client: usize) -> bool {
        self.outcome.circuits.iter().any(|circuit| circuit.client == client)
    }

    /// Where the weights and the bias of a channel lie in a row.
    fn places(&self, layer: usize, channel: usize) -> Vec<usize> {
        let (weight, bias) = (&self.layout.tensors[2 * layer], &self.layout.tensors[2 * layer + 1]);
        let at = weight.at + channel * weight.fan_in;
        (at..at + weight.fan_in).chain([bias.at + channel]).collect()
    }

    fn findings(&self, name: &str) -> &Findings {
        let analysed = self.analysed.iter().find(|a| a.analysis.name() == name).unwrap();
        analysed.findings.as_ref().unwrap_or_else(|why| panic!("{name} was skipped: {why}"))
    }
}

fn nodes(circuit: &CircuitRecord) -> impl Iterator<Item = (usize, u32)> {
    circuit.active_nodes.iter().enumerate().flat_map(|(l, (_, nodes))| nodes.iter().map(move |n| (l, *n)))
}

fn close(found: f64, want: f64, what: &str) {
    assert!((found - want).abs() <= 1e-4 * want.abs().max(1.0), "{what}: {found}, not {want}");
}

fn every(_: usize, _: usize) -> bool {
    true
}

fn dominators(run: &Run, found: &Dominators) {
    let (global, experts) = (run.global(), run.experts());
    let (_, client, circuit) = experts.iter().find(|(class, ..)| *class == found.class).unwrap();
    assert_eq!(found.client, *client);
    let others: BTreeSet<_> = experts.iter().filter(|(c, ..)| *c != found.class).flat_map(|e| nodes(e.2)).collect();
    let silenced: BTreeSet<_> = nodes(circuit).filter(|node| !others.contains(node)).collect();
    let listed = found.silenced.iter().enumerate().flat_map(|(l, (_, nodes))| nodes.iter().map(move |n| (l, *n)));
    assert_eq!(listed.collect::<BTreeSet<_>>(), silenced);
    let open = |layer: usize, channel: usize| !silenced.contains(&(layer, channel as u32));
    let mut most = 0.0f64;
    for row in &found.rows {
        assert_eq!((row.dominator, row.channels_silenced), (found.class, silenced.len()));
        let class = row.class as usize;
        let before = [row.top1_before, row.top3_before, row.p_before];
        let after = [row.top1_after, row.top3_after, row.p_after];
        for (cut, [top1, top3, p]) in [(false, before), (true, after)] {
            let (mut first, mut third, mut sum) = (Tally::default(), Tally::default(), 0.0);
            for image in run.images(row.class) {
                let logits = run.logits(&global, image, &|l, c| !cut || open(l, c));
                first.add(best(&logits), class);
                let above = logits.iter().filter(|x| **x > logits[class]).count();
                let near = logits.iter().enumerate().any(|(c, x)| c != class && (x - logits[class]).abs() < NEAR);
                third.add((usize::from(above >= 3), near), 0);
                sum += (-judge(&logits, class).loss).exp();
            }
            first.expect(top1, "top-1");
            third.expect(top3, "top-3");
            close(p, sum / first.all, "mean p");
        }
        close(row.p_change, row.p_after - row.p_before, "change of p");
        if experts.iter().any(|(c, ..)| *c == row.class) {
            most = most.max(row.top1_before);
        }
    }
    assert_eq!((found.accuracy, found.rows.len()), (most, 10));
    let of_experts = |row: &&DominatorRow| experts.iter().any(|(class, ..)| *class == row.class);
    let first = found.rows.iter().filter(of_experts).find(|row| row.top1_before == most).unwrap();
    assert_eq!(found.class, first.class, "the lowest class of those that are right most often");
}

/// The ensemble and the cascade: how often `scores` of the experts' classes, and the global logits, choose right. `rows`
/// are a class, what is said of it, and of the global model; `overall` is of all of them.
fn choose(
    run: &Run,
    rows: &[(u32, Option<f64>, Option<f64>)],
    overall: (f64, f64),
    scores: &dyn Fn(usize) -> Vec<f64>,
) {
    let (global, experts) = (run.global(), run.experts());
    let (mut all_right, mut all_base) = (Tally::default(), Tally::default());
    assert_eq!(rows.len(), experts.len());
    for (truth, ((class, ..), row)) in experts.iter().zip(rows).enumerate() {
        let (mut right, mut base) = (Tally::default(), Tally::default());
        for image in run.images(*class) {
            let logits = run.logits(&global, image, &every);
            let own = best(&scores(image));
            let among = best(&experts.iter().map(|(c, ..)| logits[*c as usize]).collect::<Vec<_>>());
            right.add(own, truth);
            base.add(among, truth);
        }
        all_right.join(&right);
        all_base.join(&base);
        assert_eq!(row.0, *class);
        right.expect(row.1.unwrap(), "together");
        base.expect(row.2.unwrap(), "global");
    }
    all_right.expect(overall.0, "together");
    all_base.expect(overall.1, "global");
    assert!(all_base.right > 0.0);
}

fn ensemble_scores(run: &Run, global: &[f64], image: usize) -> Vec<f64> {
    let score = |(class, _, circuit): &(u32, usize, &CircuitRecord)| {
        let kept: BTreeSet<_> = nodes(circuit).collect();
        run.logits(global, image, &|l, c| kept.contains(&(l, c as u32)))[*class as usize]
    };
    run.experts().iter().map(score).collect()
}

fn cascade_row(run: &Run) -> Vec<f64> {
    let mut row = vec![0.0; run.layout.words];
    let clients: Vec<usize> = (0..run.counts.len()).collect();
    for (layer, range) in run.layout.gates.iter().enumerate() {
        for channel in 0..range.channels {
            let users: Vec<usize> =
                clients.iter().copied().filter(|k| run.channels(*k).contains(&(layer, channel as u32))).collect();
            for user in &users {
                let local = run.local(*user);
                run.places(layer, channel).iter().for_each(|i| row[*i] += local[*i] / users.len() as f64);
            }
        }
    }
    let last = run.layout.gates.len();
    for (class, client, circuit) in run.experts() {
        let (local, places) = (run.local(client), run.places(last, class as usize));
        let pixels = run.layout.tensors[2 * last].fan_in / run.layout.gates[last - 1].channels;
        for (i, place) in places.iter().enumerate() {
            let bias = i + 1 == places.len();
            if bias || circuit.active_nodes[last - 1].1.contains(&((i / pixels) as u32)) {
                row[*place] = local[*place];
            }
        }
    }
    row
}

fn centroids(run: &Run, found: &Centroids) {
    let (global, last) = (run.global(), run.layout.gates.len() - 1);
    let classes: Vec<u32> = (0..10).filter(|c| run.specialist(*c).is_some()).collect();
    let mean = |class: &u32| -> Vec<f64> {
        let images = run.images(*class);
        let mut sum: Vec<f64> = Vec::new();
        for image in &images {
            pass(&run.layout, &global, &run.picture(*image), &every, &mut |layer, values| {
                if layer == last {
                    sum.resize(values.len(), 0.0);
                    sum.iter_mut().zip(values).for_each(|(s, v)| *s += *v / images.len() as f64);
                }
            });
        }
        sum
    };
    let means: Vec<Vec<f64>> = classes.iter().map(mean).collect();
    let dot = |a: usize, b: usize| means[a].iter().zip(&means[b]).map(|(x, y)| x * y).sum::<f64>();
    assert_eq!(found.rows.len(), classes.len() * (classes.len() - 1) / 2);
    for row in &found.rows {
        let place = |class: u32| classes.iter().position(|c| *c == class).unwrap();
        let (a, b) = (place(row.class_a), place(row.class_b));
        let (na, nb) = (dot(a, a).sqrt(), dot(b, b).sqrt());
        close(row.norm_a, na, "norm");
        close(row.norm_b, nb, "norm");
        close(row.distance.unwrap(), 1.0 - dot(a, b) / (na * nb), "distance");
    }
}

fn verify(run: &Run) {
    let global = run.global();
    for analysed in &run.analysed {
        match run.findings(analysed.analysis.name()) {
            Findings::Dominators(found) => dominators(run, found),
            Findings::Ensemble(found) => {
                let scores = |image| ensemble_scores(run, &global, image);
                let rows = found.rows.iter().map(|r| (r.class, r.ensemble_accuracy, r.global_accuracy));
                choose(run, &rows.collect::<Vec<_>>(), (found.ensemble_accuracy, found.global_accuracy), &scores);
            }
            Findings::Cascade(found) => {
                let row = cascade_row(run);
                let clients: Vec<usize> = (0..run.counts.len()).filter(|k| run.has_circuits(*k)).collect();
                let used: BTreeSet<_> = clients.iter().flat_map(|k| run.channels(*k)).collect();
                let count = |layer| used.iter().filter(|(of, _)| *of == layer).count();
                let channels = found.channels.iter().enumerate();
                assert!(channels.clone().all(|(layer, (_, n))| *n == count(layer)), "{:?}", found.channels);
                assert_eq!((channels.count(), found.clients), (run.layout.gates.len(), clients.len()));
                let scores = |image| {
                    let logits = run.logits(&row, image, &every);
                    run.experts().iter().map(|(c, ..)| logits[*c as usize]).collect()
                };
                let rows = found.rows.iter().map(|r| (r.class, r.cascade_accuracy, r.global_accuracy));
                choose(run, &rows.collect::<Vec<_>>(), (found.cascade_accuracy, found.global_accuracy), &scores);
            }
            Findings::Centroids(found) => centroids(run, found),
            Findings::SharedNeurons(found) => shared_neurons(run, found),
            Findings::Patching(found) => patching(run, found),
        }
    }
    assert_eq!(run.analysed.len(), 6);
}

#[test]
fn analyses_of_a_convolutional_network_equal_an_independent_computation() {
    on_each_device(|device| verify(&finished(device, &experiment(&[]))));
}

#[test]
fn analyses_of_a_network_of_units_equal_an_independent_computation() {
    let layers =
        "model.layers=[{kind=\"linear\",features=40},{kind=\"linear\",features=9},{kind=\"linear\",features=10}]";
    verify(&finished(&Cpu::new(Some(2)).unwrap(), &experiment(&[layers, "device.max_wave=2"])));
}

/// Models are run as many at once as memory allows: how many must not change a bit.
#[test]
fn analyses_do_not_depend_on_how_much_fits_at_once() {
    let cpu = Cpu::new(Some(2)).unwrap();
    let found = |memory: &str| {
        let before = cpu.traffic().dispatches;
        let run = finished(&cpu, &experiment(&["circuits.steps=4", memory]));
        (run.analysed, cpu.traffic().dispatches - before)
    };
    let (want, least) = found("device.memory=1GiB");
    let (got, most) = found("device.memory=4MiB");
    assert!(got == want && most > least, "{least} dispatches, {most} with less memory");
}

/// One client, one class: whatever sets clients or classes against each other says why it cannot.
#[test]
fn what_lacks_its_input_says_so() {
    let set = ["partition={kind=\"by_class\",classes=[[3]]}", "training.local_epochs=1"];
    let run = finished(&Cpu::new(Some(1)).unwrap(), &experiment(&set));
    let why =
        |name: &str| run.analysed.iter().find(|a| a.analysis.name() == name).unwrap().findings.clone().unwrap_err();
    assert_eq!(why("patching"), "1 client took part in the last round: no circuits of two can share a channel");
    assert_eq!(why("shared_neurons"), "1 client has circuits: it takes two");
    assert_eq!(why("centroids"), "fewer than two of the clients' classes have test images");
    for name in ["dominators", "ensemble", "cascade"] {
        assert_eq!(why(name), "only class 3 has a circuit: it takes two");
    }
}
