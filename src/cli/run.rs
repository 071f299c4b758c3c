//! `fedcircuit run`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, value_parser};

use super::{DEFAULT_DATA, print};
use crate::config::{Override, Plan, load, presets};
use crate::experiment::{self, Request};
use crate::report::folder::check_free;
use crate::{Error, Result};

/// Flags of `fedcircuit run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// A preset (see `fedcircuit presets`) or the path of an experiment file
    #[arg(value_name = "PRESET|FILE.toml")]
    pub experiment: String,
    /// What computes: auto takes a hardware GPU, else the CPU engine
    #[arg(long, value_name = "auto|cpu|gpu|PART OF A NAME", default_value = "auto")]
    pub device: String,
    /// Where data sets are looked for: DIR and DIR/mnist [default: data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The run's folder, which must be empty or absent unless with --resume [default: runs/NAME-SEED, the first seed]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The root of every random draw, instead of the experiment's seed or seeds
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = value_parser!(i64).range(0..))]
    pub seed: Option<i64>,
    /// How many rounds, instead of the experiment's
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = value_parser!(i64).range(1..=1_000_000))]
    pub rounds: Option<i64>,
    /// Change a key of the experiment, such as sparsity.target=0.97; a section given whole is replaced
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub set: Vec<String>,
    /// Go on with the run in the folder where it was ended, to the same results
    #[arg(long)]
    pub resume: bool,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
}

/// Flags of `fedcircuit sweep`.
#[derive(Clone, Debug, Args)]
pub struct SweepArgs {
    /// Those of a run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Experiments at a time, each with its share of the threads and of device.memory; no result depends on it [default: as
    /// many as keep the device busy]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=100))]
    pub jobs: Option<u16>,
}

/// Resolves the flags: reads the experiment, applies `--set`, and refuses a folder that is taken, all before any work.
pub fn prepare(args: RunArgs) -> Result<Request> {
    let mut overrides = args.set.iter().map(|set| Override::parse(set)).collect::<Result<Vec<_>>>()?;
    // A list of one: it stands for whatever the file says of seed and seeds.
    overrides.extend(args.seed.map(|seed| Override::new("seeds", vec![seed])));
    overrides.extend(args.rounds.map(|rounds| Override::new("rounds", rounds)));
    let plan = read_plan(&args.experiment, &overrides)?;
    let out = args.out.unwrap_or_else(|| plan.default_folder());
    if args.resume {
        experiment::check_resumable(&out)?;
    } else {
        check_free(&out)?;
    }
    let Ok(device) = args.device.parse();
    let data = args.data.unwrap_or_else(|| DEFAULT_DATA.into());
    Ok(Request { plan, device, data, out, resume: args.resume, quiet: args.quiet, jobs: Some(1) })
}

/// A name that a preset has is the preset; whatever looks like a path, or is one, is a file.
fn read_plan(experiment: &str, overrides: &[Override]) -> Result<Plan> {
    let preset = presets::get(experiment);
    let path = Path::new(experiment);
    let is_path = path.extension().is_some_and(|e| e == "toml") || path.components().count() > 1 || path.exists();
    match preset {
        Err(_) if is_path => {
            let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
            let text = String::from_utf8(bytes)
                .map_err(|_| Error::file(path, "is not text in UTF-8", "accepted: an experiment in TOML"))?;
            load(&text, experiment, overrides)
        }
        preset => preset?.load(overrides),
    }
}

/// Runs the experiment.
pub fn execute(args: RunArgs) -> Result<()> {
    go(&prepare(args)?)
}

/// Runs the experiment, which must be a sweep.
pub fn sweep(args: SweepArgs) -> Result<()> {
    let name = args.run.experiment.clone();
    let request = Request { jobs: args.jobs.map(usize::from), ..prepare(args.run)? };
    if request.plan.variants.iter().all(|variant| variant.swept.is_empty()) {
        let help = "add a [sweep] with lists of values, such as sparsity.target = [0.9, 0.99], or use fedcircuit run";
        return Err(Error::config(name, "has no [sweep]", help));
    }
    go(&request)
}

fn go(request: &Request) -> Result<()> {
    let table = experiment::run(request, stop_on_signal()?)?;
    if request.quiet { Ok(()) } else { print(&table) }
}

/// Sets a flag on the first Ctrl-C or termination signal, and lets the second end the program at once.
///
/// # Errors
/// When the system refuses the handler.
fn stop_on_signal() -> Result<&'static AtomicBool> {
    static STOP: AtomicBool = AtomicBool::new(false);
    let handler = || {
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(handler)
        .map_err(|e| Error::device(format!("cannot listen for Ctrl-C: {e}"), "run without other signal handlers"))?;
    Ok(&STOP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Choice;
    use clap::Parser;

    fn parse(line: &[&str]) -> Result<Request> {
        let words = ["fedcircuit", "run"].iter().chain(line);
        let cli = super::super::Cli::try_parse_from(words).unwrap();
        let super::super::Command::Run(args) = cli.command else { panic!("run") };
        prepare(args)
    }

    #[test]
    fn flags_change_every_variant() {
        let out = tempfile::tempdir().unwrap();
        let out = out.path().join("out");
        let request = parse(&[
            "quickstart",
            "--seed",
            "7",
            "--rounds",
            "2",
            "--set",
            "training.lr=0.01",
            "--out",
            out.to_str().unwrap(),
        ])
        .unwrap();
        assert_eq!((&request.device, request.quiet, &request.out), (&Choice::Auto, false, &out));
        assert_eq!(request.plan.variants.len(), 2);
        for variant in &request.plan.variants {
            let experiment = &variant.experiment;
            assert_eq!((experiment.seeds.all(), experiment.rounds, experiment.training.lr), (&[7][..], 2, 0.01));
        }
        assert_eq!(request.folder_of(Some("iid")), out.join("iid"));
        assert_eq!(request.folder_of(None), out);
    }

    #[test]
    fn files_and_folders_at_fault_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
        std::fs::write(at("latin.toml"), b"name = \"\xe9\"").unwrap();
        std::fs::write(
            at("typo.toml"),
            "name = \"a\"\nrouns = 3\n[data]\nsource = \"digits\"\n[partition]\nkind = \"iid\"\nnum_clients = 2\n",
        )
        .unwrap();
        for (args, says) in [
            (vec![at("absent.toml")], "cannot read"),
            (vec![at("latin.toml")], "is not text in UTF-8"),
            (vec![at("typo.toml")], "typo.toml: rouns: unknown key\n  did you mean rounds?"),
            (vec!["paper_iid".into()], "paper_iid: is neither a file nor a preset\n  did you mean paper-iid?"),
            (vec!["quickstart".into(), "--out".into(), at("")], "exists and is not empty"),
            (vec!["quickstart".into(), "--out".into(), at("typo.toml")], "typo.toml is not a folder"),
            (
                vec!["quickstart".into(), "--set".into(), "sparsity.target=1".into()],
                "--set sparsity.target: the number 1",
            ),
        ] {
            let error = parse(&args.iter().map(String::as_str).collect::<Vec<_>>()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
            assert!(error.to_string().contains(says), "{args:?}: {error}");
        }
    }
}
