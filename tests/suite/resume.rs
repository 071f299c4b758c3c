//! A federation that goes on from the state of another: the same bits as if there had been one.

use std::sync::atomic::{AtomicBool, Ordering};

use fedcircuit::Error;
use fedcircuit::config::Experiment;
use fedcircuit::data::Dataset;
use fedcircuit::device::{Cpu, Device};
use fedcircuit::experiment::{Federation, Outcome, State};
use fedcircuit::report::Seconds;

use crate::small::{assert_same, data, on_each_device, small};

/// With every control and every measure, of two seeds, and in rounds with circuits and rounds without.
fn rich(set: &[&str]) -> Experiment {
    let rich = [
        "seeds=[7, 2]",
        "rounds=4",
        "data.train_examples=120",
        "data.test_examples=40",
        "partition.num_clients=3",
        "partition.min_partition_size=20",
        "training.local_epochs=1",
        "circuits.steps=3",
        "circuits.controls={random=2,repeat=true,permuted=true,untrained=true,shuffled=true,centralised=true,every=1}",
        "circuits.analyses=[\"ensemble\",\"shared_neurons\"]",
    ];
    small(&[&rich[..], set].concat())
}

/// Something done to a state.
type Edit = fn(&mut State);

/// What a round gives, of each seed, with what the user is told after it.
type Told = (Vec<Outcome>, Vec<String>);

/// The rounds of `federation` from where it is, with the state after each, and what its analyses find.
fn finish(mut federation: Federation<'_>, experiment: &Experiment) -> (Vec<Told>, Vec<State>, String) {
    let (mut rounds, mut states) = (Vec::new(), vec![federation.state().unwrap()]);
    federation.take_notes();
    for _ in federation.rounds_done()..experiment.rounds {
        rounds.push((federation.round().unwrap(), federation.take_notes()));
        states.push(federation.state().unwrap());
    }
    let found = format!("{:?}", federation.analyse(&AtomicBool::new(false)).unwrap());
    (rounds, states, found)
}

fn resumed<'d>(device: &'d dyn Device, experiment: &Experiment, dataset: &Dataset, state: &State) -> Federation<'d> {
    let mut federation = Federation::new(device, experiment, dataset).unwrap();
    federation.restore(state).unwrap();
    assert_eq!(federation.state().unwrap(), *state);
    federation
}

/// The two gave the same, the seconds of their rounds apart.
fn assert_same_rounds(got: &[Told], want: &[Told], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for ((got, told), (want, tell)) in got.iter().zip(want) {
        assert_eq!(told, tell, "{what}");
        assert_same(got, want, what);
    }
}

/// Everything that rounds gave, but for their seconds.
fn text(rounds: &[Told]) -> String {
    let mut rounds = rounds.to_vec();
    rounds.iter_mut().flat_map(|(outcomes, _)| outcomes).for_each(|o| o.record.seconds = Seconds::default());
    format!("{rounds:?}")
}

#[test]
fn after_each_round_another_federation_goes_on_with_the_same_bits() {
    on_each_device(|device| {
        // A dense federation with circuits in every other round takes a GPU made of software long, and tells nothing new.
        let sets = [&["rounds=3"][..], &["circuits.every=2", "sparsity.target=0", "seeds=[7]", "rounds=5"]];
        let count = if device.info().kind == "cpu" { 2 } else { 1 };
        for set in sets.into_iter().take(count) {
            let experiment = rich(set);
            let dataset = data(&experiment);
            let whole = Federation::new(device, &experiment, &dataset).unwrap();
            let (rounds, states, found) = finish(whole, &experiment);
            for done in 0..experiment.rounds {
                let what = format!("{} {set:?}: resumed after round {done}", device.info().kind);
                let (rest, after, found_again) =
                    finish(resumed(device, &experiment, &dataset, &states[done]), &experiment);
                assert_same_rounds(&rest, &rounds[done..], &what);
                assert!(after[..] == states[done..] && found_again == found, "{what}");
            }
        }
    });
}

/// The test above sees every part of the state: without any one of them the rest of the run is another.
#[test]
fn no_part_of_the_state_is_there_for_nothing() {
    let device = Cpu::new(Some(2)).unwrap();
    // Hardly any gate is left open, so that there are empty circuits to be told of.
    let experiment = rich(&["circuits.l0=5", "circuits.lr=3", "circuits.steps=10", "rounds=3"]);
    let dataset = data(&experiment);
    let (rounds, states, _) = finish(Federation::new(&device, &experiment, &dataset).unwrap(), &experiment);
    let state = &states[1];
    assert!(state.memory.told != [false; 5], "nobody was told of an empty circuit");
    let edits: [(&str, Edit); 6] = [
        ("global", |s| s.global.swap(0, 1)),
        ("masks", |s| s.memory.masks.iter_mut().for_each(|word| *word = !*word)),
        ("edges", |s| s.memory.edges.iter_mut().for_each(|word| *word = !*word)),
        ("pairs", |s| s.memory.pairs.chunks_exact_mut(3).for_each(|pair| pair[1] += 50)),
        ("centralised", |s| s.memory.centralised.iter_mut().for_each(|word| *word = 0)),
        ("told", |s| s.memory.told = [false; 5]),
    ];
    for (part, edit) in edits {
        let mut other = state.clone();
        edit(&mut other);
        let (rest, ..) = finish(resumed(&device, &experiment, &dataset, &other), &experiment);
        assert!(text(&rest) != text(&rounds[1..]), "{part} has no say in the rounds that follow");
    }
}

#[test]
fn a_state_that_is_held_outlives_a_round_that_is_ended() {
    on_each_device(|device| {
        let experiment = rich(&["rounds=3"]);
        let dataset = data(&experiment);
        let mut federation = Federation::new(device, &experiment, &dataset).unwrap();
        federation.round().unwrap();
        let (state, cost) = (federation.state().unwrap(), federation.cost());
        // In training, in the searches, and in the last step of all.
        for share in [0.02, 0.5, 1.0] {
            let (stop, mut beats) = (AtomicBool::new(false), 0);
            federation.restore(&state).unwrap();
            federation.hold().unwrap();
            let ended = federation.round_with(&stop, &mut |steps| {
                beats += steps;
                stop.store(beats as f64 >= share * cost as f64, Ordering::Relaxed);
            });
            assert!(matches!(ended, Err(Error::Interrupted { round: 1 })), "{:?}", ended.map(|_| ()));
            assert!(federation.state().unwrap() == state, "{} at {share}", device.info().kind);
        }
        // Without, it says so; and goes on once it is given one.
        federation.restore(&state).unwrap();
        assert!(federation.round_with(&AtomicBool::new(true), &mut |_| {}).is_err());
        assert!(federation.state().is_err() && federation.hold().is_err());
        federation.restore(&state).unwrap();
        assert!(federation.round().is_ok() && federation.rounds_done() == 2);
    });
}

#[test]
fn the_state_of_another_federation_is_refused() {
    let device = Cpu::new(Some(2)).unwrap();
    let experiment = rich(&["rounds=2"]);
    let dataset = data(&experiment);
    let mut federation = Federation::new(&device, &experiment, &dataset).unwrap();
    federation.round().unwrap();
    let state = federation.state().unwrap();
    let edits: [Edit; 8] = [
        |s| s.round = 3,
        |s| s.global.push(0),
        |s| s.memory.pairs.push(0),
        |s| s.memory.pairs[0] = 2,
        |s| s.memory.pairs[2] = u32::MAX,
        |s| s.memory.masks.push(0),
        |s| s.memory.edges.push(0),
        |s| s.memory.centralised.clear(),
    ];
    for edit in edits {
        let mut other = state.clone();
        edit(&mut other);
        let error = federation.restore(&other).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("of another federation"), "{error}");
    }
    federation.restore(&state).unwrap();
}
