//! Federations that cannot go on: each stops with what happened, where, and what would help.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fedcircuit::Error;
use fedcircuit::config::{Plan, Variant};
use fedcircuit::device::{Choice, Cpu};
use fedcircuit::experiment::{self, Federation, Jobs, Outcome, Request};
use fedcircuit::report::{Control, ControlRecord};

use crate::small::{assert_same, data, linear, on_each_device, run, small};

/// With a rate of 1e38, plain SGD overflows in its first step, so that the second is the first whose loss is not
/// finite, for every client that makes two.
#[test]
fn divergence_names_the_round_the_client_and_the_step() {
    on_each_device(|device| {
        let kind = device.info().kind;
        for set in ["device.max_wave=5", "device.max_wave=1"] {
            let mut experiment = linear(&["training.momentum=0", set]);
            experiment.training.lr = 1e38;
            let error = run(device, &experiment).unwrap_err();
            assert_eq!(error.exit_code(), 1);
            let Error::Diverged { round, place, lr, .. } = error else { panic!("{kind}: {error}") };
            assert_eq!((round, place.as_str(), lr), (1, "at client 0, step 2", 1e38), "{kind}, {set}");
        }
    });
}

/// A client that diverges in its very last step reports finite losses; the averaged model tells.
#[test]
fn divergence_in_the_last_step_is_noticed_in_the_averaged_model() {
    on_each_device(|device| {
        let mut experiment =
            linear(&["training.momentum=0", "training.local_epochs=1", "training.batch_size=300", "rounds=1"]);
        experiment.training.lr = 1e38;
        let error = run(device, &experiment).unwrap_err();
        assert!(error.to_string().contains("round 1, in the averaged model"), "{error}");
    });
}

/// The model that is trained without federation may diverge where no client does. Its weights are no numbers then, its
/// gates all close, and every image is of class 0: nothing of that is a result, and nothing else suffers from it.
#[test]
fn a_control_that_diverged_says_nothing_and_is_told_of() {
    on_each_device(|device| {
        let controls = "circuits.controls={ repeat = true, centralised = true, every = 1 }";
        let experiment = small(&[controls, "rounds=4", "seeds=[7, 9]", "circuits.steps=3"]);
        let (dataset, kind) = (data(&experiment), device.info().kind);
        let mut federation = Federation::new(device, &experiment, &dataset).unwrap();
        federation.round().unwrap();
        let sound = federation.state().unwrap();
        let mut broken = sound.clone();
        // Of the second seed.
        let row = broken.memory.centralised.len() / 2;
        broken.memory.centralised[row..].fill(f32::NAN.to_bits());
        let mut rest = |state| {
            federation.restore(state).unwrap();
            federation.take_notes();
            let round = |_| (federation.round().unwrap(), federation.take_notes());
            (2..=4).map(round).collect::<Vec<_>>()
        };
        let (want, got) = (rest(&sound), rest(&broken));
        let beside = |outcome: &Outcome| -> Vec<ControlRecord> {
            outcome.controls.iter().filter(|c| c.control == Control::Centralised).cloned().collect()
        };
        let nothing = |c: &ControlRecord| {
            let numbers = [c.accuracy, c.sufficiency, c.false_positive];
            numbers.iter().all(|x| x.is_nan()) && (c.iou, c.chance) == (None, None) && c.active_nodes.is_empty()
        };
        for ((got, _), (want, _)) in got.iter().zip(&want) {
            assert!(beside(&got[1]).iter().all(nothing) && beside(&got[1]).len() > 2, "{kind}: {:?}", beside(&got[1]));
            assert!(!beside(&want[1]).iter().any(nothing));
            let (mut got, mut want) = (got.clone(), want.clone());
            for seeds in [&mut got, &mut want] {
                seeds[1].controls.retain(|c| c.control == Control::Repeat);
            }
            assert_same(&got, &want, kind);
        }
        let told = |rounds: &[(Vec<Outcome>, Vec<String>)]| -> Vec<bool> {
            rounds.iter().map(|(_, notes)| notes.iter().any(|note| note.contains("diverged"))).collect()
        };
        assert_eq!((told(&got), told(&want)), (vec![true, false, true], vec![false; 3]), "{kind}");
    });
}

#[test]
fn a_wish_to_stop_ends_the_round_after_the_step_under_way() {
    on_each_device(|device| {
        let experiment = small(&[]);
        let mut federation = Federation::new(device, &experiment, &data(&experiment)).unwrap();
        let (stop, mut done) = (AtomicBool::new(false), 0);
        federation.round_with(&stop, &mut |steps| done += steps).unwrap();
        assert_eq!(done, federation.cost(), "every client-step of training and circuits is told");
        // Asked for in the middle of the second round: in training, then in the search for circuits.
        for part in [0.1, 0.9] {
            let (stop, mut told) = (AtomicBool::new(false), 0);
            let limit = (part * done as f64) as u64;
            let advance = &mut |steps| {
                told += steps;
                stop.store(told > limit, Ordering::Relaxed);
            };
            let error = federation.round_with(&stop, advance).unwrap_err();
            assert!(matches!(error, Error::Interrupted { round: 1 }), "{error}");
            assert_eq!(error.exit_code(), 1);
            assert!(told > limit && told <= limit + 40, "{told} client-steps, {limit} were allowed");
        }
    });
}

/// A run that is stopped keeps every finished round on disk, whole.
#[test]
fn an_interrupted_run_keeps_its_earlier_rounds() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("run");
    let experiment = small(&["rounds=100000"]);
    let plan = Plan { name: "small".into(), variants: vec![Variant { label: None, swept: Vec::new(), experiment }] };
    let data = root.path().to_path_buf();
    let request = Request {
        plan,
        device: Choice::Cpu,
        data,
        out: out.clone(),
        resume: false,
        quiet: true,
        jobs: Jobs::Suited { most: usize::MAX },
        live: None,
    };
    let stop = AtomicBool::new(false);
    let lines = || -> Vec<String> {
        let text = std::fs::read_to_string(out.join("rounds.jsonl")).unwrap_or_default();
        text.lines().map(str::to_string).collect()
    };
    let error = std::thread::scope(|scope| {
        let run = scope.spawn(|| experiment::run(&request, &|| Ok(&stop)).unwrap_err());
        let deadline = Instant::now() + Duration::from_secs(60);
        while lines().len() < 2 && Instant::now() < deadline && !run.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        run.join().unwrap()
    });
    let Error::Interrupted { round: last } = error else { panic!("{error}") };
    assert!(last >= 2);
    let lines = lines();
    assert_eq!(lines.len(), last, "a line for each finished round");
    for (i, line) in lines.iter().enumerate() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["round"], i + 1);
        assert!(out.join(format!("model/round_{:04}.safetensors", i + 1)).is_file());
    }
    let circuits: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("circuits.json")).unwrap()).unwrap();
    assert!(circuits[format!("round_{last}")].is_object());
}

/// The message says how much one client needs: so much, and no less, is enough.
#[test]
fn a_client_that_does_not_fit_is_refused_with_what_it_needs() {
    let cpu = Cpu::new(Some(1)).unwrap();
    let with = |mib: f64| {
        let mut experiment = small(&["model={ preset = \"simple-cnn\" }", &format!("device.memory={mib}MiB")]);
        experiment.circuits = None;
        Federation::new(&cpu, &experiment, &data(&experiment)).map(|f| f.wave_size())
    };
    let error = with(1.0).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    let message = error.to_string();
    assert!(
        ["one client", "batch size 32", "device.memory allows 1.0 MiB", "or raise device.memory"]
            .iter()
            .all(|s| message.contains(s)),
        "{message}"
    );
    let Error::TooLarge { needed, .. } = error else { panic!("{message}") };
    let mib: f64 = needed.strip_suffix(" MiB").unwrap_or_else(|| panic!("{needed}")).parse().unwrap();
    assert!(with(mib - 0.1).is_err(), "{mib} MiB are said to be needed");
    assert_eq!(with(mib + 0.1).unwrap(), 1);
    assert_eq!(with(2.0 * mib + 0.2).unwrap(), 2);
}
