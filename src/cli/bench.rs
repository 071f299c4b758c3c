//! `fedcircuit bench [--json]`.

use clap::Args;

use super::print;
use crate::bench::{Depth, Part, Report, Selection, Timing, run};
use crate::device::{GpuOptions, open};
use crate::{Error, Result};

/// Flags of `fedcircuit bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fedcircuit bench                            everything, in some minutes; leave the machine alone meanwhile
  fedcircuit bench --filter discovery         the search for circuits alone
  fedcircuit bench --device gpu --json        for programs")]
pub struct BenchArgs {
    /// What is measured: auto takes a hardware GPU, else the CPU engine
    ///
    /// cpu is the CPU engine, gpu the first GPU, software Vulkan included; anything else is part of an adapter's name, such
    /// as nvidia or llvmpipe.
    #[arg(long, value_name = "auto|cpu|gpu|PART OF A NAME", default_value = "auto")]
    pub device: String,
    /// Only what has this in its name, such as conv, training or discovery [default: everything]
    #[arg(long, value_name = "PART OF A NAME", default_value = "", hide_default_value = true)]
    pub filter: String,
    /// See that everything runs, in seconds; the numbers mean nothing
    #[arg(long)]
    pub quick: bool,
    /// Print JSON, for programs: one object, once all is measured
    #[arg(long)]
    pub json: bool,
}

/// Measures, and prints each line of the table when it is there.
pub fn execute(args: BenchArgs) -> Result<()> {
    let selection = Selection::new(&args.filter)?;
    let Ok(choice) = args.device.parse();
    let (device, chosen) = open(&choice, GpuOptions::default(), None)?;
    let depth = if args.quick { Depth::Quick } else { Depth::Full };
    if args.json {
        return print(&json(&run(device.as_ref(), &selection, depth, &mut |_, _| {})?)?);
    }
    print(&format!("device: {chosen}\n"))?;
    let mut headed = false;
    // The first failure to print ends nothing but the printing.
    let mut printed = Ok(());
    let report = run(device.as_ref(), &selection, depth, &mut |peak, timing| {
        let heading = format!(
            "peaks: {:.1} GFLOP/s, {:.1} GB/s\n\n{}",
            peak.gflops,
            peak.gigabytes_per_second,
            Timing::heading()
        );
        let text = if headed { timing.line() } else { heading + &timing.line() };
        headed = true;
        if printed.is_ok() {
            printed = print(&text);
        }
    })?;
    printed?;
    print(&(parts(&report) + &ratios(&report)))
}

fn parts(report: &Report) -> String {
    let of_one_work = |a: &Part, b: &Part| (a.of, &a.case) == (b.of, &b.case);
    let table = |parts: &[Part]| {
        let heading = format!("\nwhere the device's time goes: {}, {}\n", parts[0].of, parts[0].case);
        parts.iter().fold(heading, |text, part| text + &part.line())
    };
    report.parts.chunk_by(of_one_work).map(table).collect()
}

fn ratios(report: &Report) -> String {
    let line = |ratio: &crate::bench::Ratio| format!("{}: {:.1}\n", ratio.what, ratio.value);
    let lines: String = report.ratios.iter().map(line).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

fn json(report: &Report) -> Result<String> {
    let text = serde_json::to_string_pretty(report).map_err(|error| {
        Error::device(format!("what was measured cannot be written as JSON: {error}"), "run without --json")
    })?;
    Ok(text + "\n")
}
