//! `fedcircuit run`.

use std::fs::File;
use std::io::{IsTerminal, Read, stderr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use super::{DEFAULT_DATA, print, tell};
use crate::config::{LONGEST, Override, Plan, check_size, load, presets};
use crate::experiment::{self, Jobs, LiveRequest, Ran, Request};
use crate::report::begin::EXPERIMENT;
use crate::report::folder::check_free;
use crate::{Error, Result};

/// Ends the help of `fedcircuit run`.
pub const EXAMPLES: &str = "\
Examples:
  fedcircuit run quickstart                                     the first thing to run
  fedcircuit run paper-3-classes --data ~/mnist --device cpu    a preset, with its data and device named
  fedcircuit run my.toml --rounds 3 --set sparsity.target=0.9   a file, with two keys changed
  fedcircuit run my.toml --live                                 with its report in a browser as it grows
  fedcircuit run my.toml --resume                               goes on where it was ended

Ctrl-C ends a run after the step under way, with all finished rounds on disk; a second one ends it at once. Exit status: 0
done, 1 the run failed or Ctrl-C ended it, 2 bad usage, configuration or data, 130 a second Ctrl-C ended it.";

/// Ends the help of `fedcircuit sweep`.
pub const SWEEP_EXAMPLES: &str = "\
Examples:
  fedcircuit sweep paper-sparsity                           five sparsities, three seeds each, one table
  fedcircuit sweep paper-sparsity --rounds 2 --out trial    the same, shorter, elsewhere
  fedcircuit sweep my.toml --resume                         does what is left of it

The swept keys stand in the experiment file, each with a list of values or a range:
  [sweep]
  \"sparsity.target\" = [0.95, 0.99, 0.995]
  \"training.lr\" = { from = 0.0005, to = 0.002, steps = 3, scale = \"log\" }

Every combination is an experiment with a folder of its own; with mode = \"zipped\", the first values together, then the
second, and so on. sweep.csv has the last rounds of all.";

/// Flags of `fedcircuit run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// A preset or the path of an experiment file, such as quickstart or my.toml
    ///
    /// `fedcircuit presets` lists the presets. A name that a preset has is the preset: write ./quickstart for a file of
    /// that name.
    #[arg(value_name = "PRESET|FILE.toml")]
    pub experiment: String,
    /// What computes: auto takes a hardware GPU, else the CPU engine
    ///
    /// cpu is the CPU engine, gpu the first GPU, software Vulkan included; anything else is part of an adapter's name, such
    /// as nvidia or llvmpipe. `fedcircuit devices` lists them. shadow is the CPU engine and the first GPU, each kernel on
    /// both: the run ends at the first whose outputs differ.
    #[arg(long, value_name = "auto|cpu|gpu|PART OF A NAME", default_value = "auto")]
    pub device: String,
    /// Where data sets are looked for: DIR and DIR/mnist [default: data]
    ///
    /// For MNIST its four IDX files, plain or gzipped, such as train-images-idx3-ubyte.gz.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The run's folder, which must be empty or absent unless with --resume [default: runs/NAME-SEED, the first seed]
    ///
    /// A path such as runs/trial-2; missing folders are made. Nothing is ever written over.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The root of every random draw, instead of the experiment's seed or seeds
    ///
    /// A whole number from 0, such as 7; the same one gives the same bits on the same device. Without it, the experiment's
    /// own.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = read_seed)]
    pub seed: Option<i64>,
    /// How many rounds, instead of the experiment's
    ///
    /// A whole number from 1 to 1000000, such as 3. Without it, the experiment's own.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = read_rounds)]
    pub rounds: Option<i64>,
    /// Change a key of the experiment, such as sparsity.target=0.97; a section given whole is replaced
    ///
    /// May be given several times. Values are TOML, for example 'partition.classes=[[0, 1], [2, 3]]'; a bare word is text.
    /// Without it, the experiment is run as it stands.
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub set: Vec<String>,
    /// Go on with the run in the folder where it was ended, to the same results
    ///
    /// However it was ended: what is left then is what a run that was never ended leaves, to the bit. Device, data, version
    /// and experiment must be those that it began with; only keys of the section `device` may differ, and rounds may be more.
    #[arg(long)]
    pub resume: bool,
    /// Print nothing but errors
    #[arg(long)]
    pub quiet: bool,
    /// Serve the growing report to browsers on this machine, and open one
    ///
    /// Its address is printed; with a port, such as --live=8080, it is always the same. The page updates after every
    /// round, and ends with the run, whose folder keeps report.html. Without it, nothing is served.
    #[arg(long, value_name = "PORT", value_parser = read_port)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    pub live: Option<u16>,
    /// With --live: open no browser, as where there is no screen or standard error is no terminal
    #[arg(long, requires = "live")]
    pub no_open: bool,
}

/// Flags of `fedcircuit sweep`.
#[derive(Clone, Debug, Args)]
pub struct SweepArgs {
    /// Those of a run.
    #[command(flatten)]
    pub run: RunArgs,
    /// Experiments at a time, such as 2; or "shared": experiments that can share waves are trained together
    ///
    /// Of several at a time each has its share of the threads and of device.memory. Waves are shared by experiments that
    /// differ in seeds, partition (of as many clients), training.lr and, on a GPU, in sparsity alone, as long as the same
    /// layers are sparse. No result depends on it [default: shared on a GPU; on the CPU engine as many as keep it busy]
    #[arg(long, value_name = "N|shared", value_parser = read_jobs)]
    pub jobs: Option<Jobs>,
}

fn read_jobs(text: &str) -> std::result::Result<Jobs, String> {
    match text.parse() {
        Ok(n @ 1..=100) => Ok(Jobs::AtATime(n)),
        _ if text == "shared" => Ok(Jobs::Shared),
        _ => Err("accepted: 1 to 100 experiments at a time, or shared".into()),
    }
}

/// Resolves the flags: reads the experiment, applies `--set`, and refuses a folder that is taken, all before any work.
pub fn prepare(args: RunArgs) -> Result<Request> {
    let mut overrides = args.set.iter().map(|set| Override::parse(set)).collect::<Result<Vec<_>>>()?;
    // A list of one: it stands for whatever the file says of seed and seeds.
    overrides.extend(args.seed.map(|seed| Override::new("seeds", vec![seed])));
    overrides.extend(args.rounds.map(|rounds| Override::new("rounds", rounds)));
    let mut plan = read_plan(&args.experiment, &overrides)?;
    make_absolute(&mut plan)?;
    let out = args.out.unwrap_or_else(|| plan.default_folder());
    if args.resume {
        experiment::check_resumable(&out, &plan)?;
    } else {
        check_free(&out)?;
    }
    let Ok(device) = args.device.parse();
    let data = args.data.unwrap_or_else(|| DEFAULT_DATA.into());
    let open = !args.no_open && stderr().is_terminal() && has_desktop();
    let live = args.live.map(|port| LiveRequest { port, open });
    Ok(Request {
        plan,
        device,
        data,
        out,
        resume: args.resume,
        quiet: args.quiet,
        jobs: Jobs::Suited { most: 1 },
        live,
    })
}

/// Whether there is a screen for a browser: without one, as over a network, some systems open one in the terminal itself.
fn has_desktop() -> bool {
    let named = ["DISPLAY", "WAYLAND_DISPLAY", "WSL_DISTRO_NAME"];
    cfg!(any(windows, target_os = "macos")) || named.into_iter().any(|name| std::env::var_os(name).is_some())
}

/// A name that a preset has is the preset; whatever looks like a path, or is one, is a file.
fn read_plan(experiment: &str, overrides: &[Override]) -> Result<Plan> {
    let preset = presets::get(experiment);
    let path = Path::new(experiment);
    let is_path = path.extension().is_some_and(|e| e == "toml") || path.components().count() > 1 || path.exists();
    match preset {
        Err(_) if is_path => {
            let bytes = read_experiment(path)?;
            let text = String::from_utf8(bytes)
                .map_err(|_| Error::file(path, "is not text in UTF-8", "accepted: an experiment in TOML"))?;
            load(&text, experiment, overrides)
        }
        Err(Error::Config { key, help, .. }) => {
            let key = if key.is_empty() { "\"\"".into() } else { key };
            let help = help.replace("accepted: ", "accepted: the path of a .toml file, or one of ");
            Err(Error::config(key, "is neither a file nor a preset", help))
        }
        preset => preset?.load(overrides),
    }
}

/// The bytes of an experiment's file.
fn read_experiment(path: &Path) -> Result<Vec<u8>> {
    if path.is_dir() {
        let own = path.join(EXPERIMENT);
        let example = if own.is_file() { format!(", such as {}", own.display()) } else { String::new() };
        return Err(Error::file(path, "is a folder", format!("accepted: an experiment in TOML{example}")));
    }
    // Whatever it is, no more of it than shows that it is none.
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            let help = "accepted: the path of an experiment in TOML, or a preset, see `fedcircuit presets`";
            Error::file(path, "there is no such file", help)
        }
        _ => Error::io("read", path)(error),
    })?;
    check_size(bytes.len(), &path.display().to_string())?;
    Ok(bytes)
}

/// Makes paths in the experiments whole: their `experiment.toml` is to give the same run wherever it is run again.
fn make_absolute(plan: &mut Plan) -> Result<()> {
    for init in plan.variants.iter_mut().filter_map(|variant| variant.experiment.model.init.as_mut()) {
        let whole = std::path::absolute(&init).map_err(Error::io("find", &init))?;
        // Of a text and the folder where the program was started, of which only the second may be none.
        if let Some(text) = whole.to_str() {
            *init = text.into();
        }
    }
    Ok(())
}

/// Reads a whole number of `accepted`.
fn whole(text: &str, accepted: std::ops::RangeInclusive<i64>) -> std::result::Result<i64, String> {
    let help = || format!("accepted: a whole number from {} to {}", accepted.start(), accepted.end());
    text.parse().ok().filter(|n| accepted.contains(n)).ok_or_else(help)
}

fn read_seed(text: &str) -> std::result::Result<i64, String> {
    whole(text, 0..=i64::MAX)
}

fn read_rounds(text: &str) -> std::result::Result<i64, String> {
    whole(text, 1..=1_000_000)
}

fn read_port(text: &str) -> std::result::Result<u16, String> {
    text.parse().map_err(|_| format!("accepted: a port, from 0, which is any that is free, to {}", u16::MAX))
}

/// Runs the experiment.
pub fn execute(args: RunArgs) -> Result<()> {
    go(&prepare(args)?)
}

/// Runs the experiment, which must be a sweep.
pub fn sweep(args: SweepArgs) -> Result<()> {
    let name = args.run.experiment.clone();
    let jobs = args.jobs.unwrap_or(Jobs::Suited { most: usize::MAX });
    let request = Request { jobs, ..prepare(args.run)? };
    if request.plan.variants.iter().all(|variant| variant.swept.is_empty()) {
        let help = "add a [sweep] with lists of values, such as sparsity.target = [0.9, 0.99], or use fedcircuit run";
        return Err(Error::config(name, "has no [sweep]", help));
    }
    go(&request)
}

fn go(request: &Request) -> Result<()> {
    let Ran { table, mut diverged } = experiment::run(request, &stop_on_signal)?;
    if !request.quiet {
        print(&table)?;
    }
    let Some(last) = diverged.pop() else { return Ok(()) };
    diverged.iter().for_each(tell);
    Err(last)
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
        let free = ["--out", out.to_str().unwrap()];
        let given = parse(&[&["quickstart", "--set", "model.init=w.safetensors"], &free[..]].concat()).unwrap();
        let init = given.plan.variants[1].experiment.model.init_path().unwrap();
        assert_eq!(init, std::env::current_dir().unwrap().join("w.safetensors"), "wherever it is run again");
        assert_eq!(request.folder_of(Some("iid")), out.join("iid"));
        assert_eq!(request.folder_of(None), out);
    }

    #[test]
    fn files_and_folders_at_fault_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
        std::fs::write(at("latin.toml"), b"name = \"\xe9\"").unwrap();
        std::fs::write(at("weights.toml"), [0xff; LONGEST + 1]).unwrap();
        std::fs::write(
            at("typo.toml"),
            "name = \"a\"\nrouns = 3\n[data]\nsource = \"digits\"\n[partition]\nkind = \"iid\"\nnum_clients = 2\n",
        )
        .unwrap();
        for (args, says) in [
            (vec![at("absent.toml")], "there is no such file\n  accepted: the path of an experiment in TOML"),
            (vec![at("")], "is a folder\n  accepted: an experiment in TOML"),
            (vec![at("latin.toml")], "is not text in UTF-8"),
            (vec![at("weights.toml")], "is longer than 131072 bytes"),
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
