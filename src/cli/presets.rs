//! `fedcircuit presets [show NAME]`.

use clap::{Args, Subcommand};

use super::print;
use crate::Result;
use crate::config::presets;

/// Flags of `fedcircuit presets`.
#[derive(Debug, Args)]
pub struct PresetsArgs {
    /// Without one, the presets are listed.
    #[command(subcommand)]
    pub action: Option<PresetsAction>,
}

/// What to do with presets.
#[derive(Debug, Subcommand)]
pub enum PresetsAction {
    /// Print a preset's file: the start of an experiment of your own
    Show {
        /// The preset
        name: String,
    },
}

/// Lists the presets, or prints one as it is.
pub fn execute(args: PresetsArgs) -> Result<()> {
    match args.action {
        None => print(&list()),
        Some(PresetsAction::Show { name }) => print(presets::get(&name)?.text),
    }
}

fn list() -> String {
    let width = presets::ALL.iter().map(|preset| preset.name.len()).max().unwrap_or(0);
    presets::ALL.iter().map(|preset| format!("{:width$}  {}\n", preset.name, preset.purpose())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_listed_with_its_purpose() {
        let list = list();
        assert_eq!(list.lines().count(), presets::ALL.len());
        assert!(list.starts_with("quickstart                IID beside one class per client"), "{list}");
        assert!(list.lines().all(|line| line.len() > 30), "{list}");
    }
}
