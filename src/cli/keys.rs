//! `fedcircuit keys [PART OF A NAME]`.

use clap::Args;

use super::print;
use crate::config::catalogue::{Key, Section, catalogue};
use crate::{Error, Result};

/// Flags of `fedcircuit keys`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fedcircuit keys               every key, section by section
  fedcircuit keys partition     those of the partition
  fedcircuit keys lr            the learning rates
  fedcircuit keys sweep         what a [sweep] takes

Each is a key of the experiment file and, but for those of [sweep] and [[compare]], of the command line:
--set training.lr=0.01. `fedcircuit presets show paper-sparsity` has a [sweep], `fedcircuit presets show quickstart` has
[[compare]] entries.")]
pub struct KeysArgs {
    /// Only keys with this in their path, such as circuits.controls or lr [default: all]
    #[arg(value_name = "PART OF A NAME", default_value = "", hide_default_value = true)]
    pub part: String,
}

/// Lists the keys of an experiment file.
pub fn execute(args: KeysArgs) -> Result<()> {
    let text: String = catalogue()?.iter().map(|section| told(section, &args.part)).collect();
    if text.is_empty() {
        let help = "accepted: part of a key's path, such as training; without one, all keys are listed";
        return Err(Error::config(args.part, "is in no key", help));
    }
    print(&text)
}

/// The keys of a section with `part` in their path.
fn told(section: &Section, part: &str) -> String {
    let keys = section.keys.iter().filter(|key| key.path.contains(part));
    let one = |Key { path, accepted, meaning, choices }: &Key| {
        let choices: String = choices.iter().map(|(name, what)| format!("      {name}: {what}\n")).collect();
        format!("{path}\n    {meaning}\n    Accepted: {accepted}\n{choices}")
    };
    let keys: String = keys.map(one).collect();
    if keys.is_empty() || section.heading.is_empty() { keys } else { format!("\n{}\n{keys}", section.heading) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_by_section_and_found_by_part() {
        let key = |path: &str| Key {
            path: path.into(),
            accepted: "a number".into(),
            meaning: "What.".into(),
            choices: Vec::new(),
        };
        let section = Section { heading: "[a]".into(), keys: vec![key("a.lr"), key("a.b")] };
        assert_eq!(told(&section, "lr"), "\n[a]\na.lr\n    What.\n    Accepted: a number\n");
        assert_eq!(told(&section, "seed"), "");
        let choices = vec![("b".to_string(), "The second.".to_string())];
        let section = Section { keys: vec![Key { choices, ..key("a.of") }], ..section };
        assert_eq!(told(&section, ""), "\n[a]\na.of\n    What.\n    Accepted: a number\n      b: The second.\n");
    }
}
