//! `fedcircuit bench`: that what it prints is there, finite and positive. How fast anything is, is no test's business.

use std::process::Command;

use fedcircuit::bench::{Depth, Selection, run};
use fedcircuit::device::{Choice, Cpu, Device, GpuOptions, open};
use fedcircuit::kernels::ALL;

use crate::common::gpu;

fn bench(args: &[&str]) -> (Option<i32>, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_fedcircuit")).arg("bench").args(args).env_remove("RUST_LOG").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Every kernel and all larger work, on the CPU engine, as JSON.
#[test]
fn everything_is_measured_and_written_as_json() {
    let (code, out, err) = bench(&["--quick", "--json", "--device", "cpu"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["device"]["kind"], &report["depth"]), (&"cpu".into(), &"quick".into()));
    let positive = |value: &serde_json::Value| value.as_f64().is_some_and(|v| v.is_finite() && v > 0.0);
    assert!(positive(&report["peak"]["gflops"]) && positive(&report["peak"]["gigabytes_per_second"]));
    let timings = report["timings"].as_array().unwrap();
    for name in ALL.iter().map(|k| k.name).chain(["training-step", "discovery-step", "quickstart-round"]) {
        assert!(timings.iter().any(|t| t["name"] == name), "{name}");
    }
    for timing in timings {
        for key in ["median", "lower_quartile", "upper_quartile", "fastest", "slowest", "samples", "repeats"] {
            assert!(positive(&timing["seconds"][key]), "{key}: {timing}");
        }
        for key in ["gflops", "of_peak_gflops", "gigabytes_per_second", "of_peak_bandwidth", "images_per_second"] {
            assert!(timing[key].is_null() || positive(&timing[key]), "{key}: {timing}");
        }
        let is_kernel = ALL.iter().any(|k| timing["name"] == k.name);
        assert_eq!(is_kernel, positive(&timing["of_peak_bandwidth"]), "{timing}");
    }
    assert!(report["ratios"].as_array().unwrap().iter().all(|r| positive(&r["value"])));
    assert_eq!(report["ratios"].as_array().unwrap().len(), 2);
}

#[test]
fn the_table_has_a_line_for_each_timing_under_the_peaks() {
    let (code, out, _) = bench(&["--quick", "--device", "cpu", "--filter", "linear_forward"]);
    assert_eq!(code, Some(0));
    assert!(out.starts_with("device: CPU engine, as asked\npeaks: "), "{out}");
    for name in ["peak_fma", "peak_copy", "linear_forward", "sparse_linear_forward"] {
        assert!(out.lines().any(|line| line.starts_with(&format!("{name} ")) && line.contains('%')), "{name}: {out}");
    }
    assert!(!out.contains("conv") && !out.contains("training-step"), "{out}");
}

#[test]
fn a_filter_that_picks_nothing_is_refused_with_what_there_is() {
    let (code, out, err) = bench(&["--filter", "convolution", "--device", "cpu"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    for part in ["--filter", "\"convolution\"", "conv_forward", "discovery-step"] {
        assert!(err.contains(part), "{part}: {err}");
    }
}

/// A device with a clock tells which kernels the time of larger work goes to, one without tells nothing.
#[test]
fn the_parts_of_larger_work_are_those_of_its_kernels() {
    if gpu().is_none_or(|gpu| !gpu.has_clock()) {
        return;
    }
    let measured = |device: &dyn Device| {
        run(device, &Selection::new("-step").unwrap(), Depth::Quick, &mut |_, _| {}).unwrap().parts
    };
    // A device of its own: on the shared one other tests' kernels would count.
    let (gpu, _) = open(&Choice::Gpu, GpuOptions { checked: true, ..Default::default() }, None).unwrap();
    let parts = measured(gpu.as_ref());
    // One step of training with three convolutions, two of a search.
    for (work, kernel, dispatches) in
        [("training-step", "conv_weight_grad", 3), ("training-step", "adam", 1), ("discovery-step", "gate_step", 2)]
    {
        let part =
            parts.iter().find(|part| (part.of, part.kernel) == (work, kernel)).unwrap_or_else(|| panic!("{parts:?}"));
        assert!(part.dispatches == dispatches && part.seconds > 0.0, "{part:?}");
    }
    for work in ["training-step", "discovery-step"] {
        let shares: f64 = parts.iter().filter(|part| part.of == work).map(|part| part.share).sum();
        assert!((shares - 1.0).abs() < 1e-9, "{work}: {shares}");
    }
    assert!(measured(&Cpu::new(Some(1)).unwrap()).is_empty());
}

/// The same on a GPU: dispatches are waited for, and none is lost.
#[test]
fn a_gpu_is_measured_alike() {
    let Some(gpu) = gpu() else { return };
    for device in [gpu, &Cpu::new(Some(1)).unwrap() as &dyn Device] {
        let mut seen = 0;
        let selection = Selection::new("adam").unwrap();
        let report = run(device, &selection, Depth::Quick, &mut |peak, timing| {
            seen += 1;
            assert!(peak.gflops > 0.0 && timing.seconds.fastest > 0.0, "{peak:?} {timing:?}");
        })
        .unwrap();
        assert_eq!((seen, report.timings.len(), report.ratios.len()), (3, 3, 0));
        assert_eq!(report.device.kind, device.info().kind);
    }
}
