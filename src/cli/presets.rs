//! `fedcircuit presets [show NAME]`.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::print;
use crate::config::presets::{self, Preset};
use crate::device::{GpuOptions, open};
use crate::experiment::{Forecast, Trial, forecast};
use crate::{Error, Result};

/// Flags of `fedcircuit presets`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  fedcircuit presets                             what there is, and what it takes here
  fedcircuit presets --device gpu --json         for another device, and for programs
  fedcircuit presets show paper-iid > my.toml    the start of an experiment of your own

Times are estimates, from a trial of a few seconds (on software Vulkan, minutes) that is remembered in the user's cache;
other work on the machine makes them longer. Memory is without the program itself.")]
pub struct PresetsArgs {
    /// Without one, the presets are listed.
    #[command(subcommand)]
    pub action: Option<PresetsAction>,
    /// What the estimates are for: auto takes a hardware GPU, else the CPU engine
    ///
    /// cpu is the CPU engine, gpu the first GPU, software Vulkan included; anything else is part of an adapter's name, such
    /// as nvidia or llvmpipe.
    #[arg(long, value_name = "auto|cpu|gpu|PART OF A NAME", default_value = "auto")]
    pub device: String,
    /// Measure nothing: times that are not remembered are left out
    #[arg(long)]
    pub no_measure: bool,
    /// Print JSON, for programs: a list of objects, times in seconds and memory in bytes
    #[arg(long)]
    pub json: bool,
}

/// What to do with presets.
#[derive(Debug, Subcommand)]
pub enum PresetsAction {
    /// Print a preset's file: the start of an experiment of your own
    #[command(after_help = "\
Examples:
  fedcircuit presets show quickstart
  fedcircuit presets show paper-iid > my.toml    then edit it, and run it with `fedcircuit run my.toml`")]
    Show {
        /// The preset, such as quickstart
        name: String,
    },
}

/// A preset as it is listed.
#[derive(Debug, Serialize)]
struct Listed {
    name: &'static str,
    purpose: &'static str,
    source: String,
    #[serde(flatten)]
    forecast: Forecast,
}

/// Lists the presets, or prints one as it is.
pub fn execute(args: PresetsArgs) -> Result<()> {
    if let Some(PresetsAction::Show { name }) = args.action {
        return print(presets::get(&name)?.text);
    }
    let Ok(choice) = args.device.parse();
    let (device, chosen) = open(&choice, GpuOptions::default(), None)?;
    let trial = if args.no_measure { Trial::Never } else { Trial::Allowed };
    let listed = |preset: &Preset| -> Result<Listed> {
        let forecast = forecast(device.as_ref(), &preset.load(&[])?, trial)?;
        Ok(Listed { name: preset.name, purpose: preset.purpose(), source: preset.source(), forecast })
    };
    if args.json {
        return print(&json(&presets::ALL.iter().map(listed).collect::<Result<Vec<_>>>()?)?);
    }
    print(&format!("device: {chosen}; times are estimates\n\n"))?;
    // Each as soon as it is known.
    presets::ALL.iter().try_for_each(|preset| print(&text(&listed(preset)?)))
}

fn json(listed: &[Listed]) -> Result<String> {
    let text = serde_json::to_string_pretty(listed)
        .map_err(|error| Error::device(format!("presets cannot be listed as JSON: {error}"), "list them without"))?;
    Ok(text + "\n")
}

/// Two lines: what it is, and what it takes.
fn text(listed: &Listed) -> String {
    let Listed { name, purpose, source, forecast } = listed;
    let Forecast { federations, clients, rounds, seconds, bytes } = *forecast;
    let time = seconds.map(|seconds| format!("about {}, ", duration(seconds))).unwrap_or_default();
    let of = if federations == 1 { String::new() } else { format!("{federations} federations of ") };
    let mib = bytes.div_ceil(1 << 20);
    // Without how the source was followed, which the file has.
    let source = source.split([':', ';']).next().unwrap_or_default();
    format!(
        "{name:24}  {purpose}\n{:26}{time}{mib} MiB: {of}{clients} clients, {rounds} rounds; source: {source}\n",
        ""
    )
}

/// As people say it, to two digits.
fn duration(seconds: f64) -> String {
    let units = [("days", 86_400.0), ("h", 3600.0), ("min", 60.0), ("s", 0.0)];
    let (unit, size) = units.into_iter().find(|(_, size)| seconds >= 2.0 * size).unwrap_or(("s", 0.0));
    let amount = seconds / f64::max(size, 1.0);
    let amount = if amount >= 10.0 { format!("{amount:.0}") } else { format!("{amount:.1}") };
    format!("{} {unit}", amount.trim_end_matches(".0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_is_listed_with_what_it_is_takes_and_comes_from() {
        let preset = presets::get("mcmahan-2nn").unwrap();
        let forecast = Forecast { federations: 3, clients: 10, rounds: 40, seconds: Some(130.0), bytes: (5 << 20) - 1 };
        let listed = Listed { name: preset.name, purpose: preset.purpose(), source: preset.source(), forecast };
        let indent = " ".repeat(26);
        assert_eq!(
            text(&listed),
            format!(
                "mcmahan-2nn               Federated averaging as first published: a two-layer network, 100 clients, a tenth of \
                 them a round\n{indent}about 2.2 min, 5 MiB: 3 federations of 10 clients, 40 rounds; source: McMahan et al. 2017 \
                 (arXiv 1602.05629), table 1\n"
            )
        );
        let unknown = Listed { forecast: Forecast { seconds: None, federations: 1, ..forecast }, ..listed };
        assert!(text(&unknown).contains(&format!("\n{indent}5 MiB: 10 clients, 40 rounds;")), "{}", text(&unknown));
    }

    #[test]
    fn times_are_told_to_two_digits() {
        let told = [0.04, 3.0, 59.4, 119.0, 120.0, 3000.0, 9000.0, 260_000.0].map(duration);
        assert_eq!(told, ["0 s", "3 s", "59 s", "119 s", "2 min", "50 min", "2.5 h", "3 days"]);
    }

    #[test]
    fn every_preset_names_its_source() {
        for preset in presets::ALL {
            assert!(preset.source().contains("arXiv"), "{}: {}", preset.name, preset.source());
            assert!(!preset.source().contains("name ="));
        }
    }
}
