//! Experiments that come with the program, each with its source in a comment.

use super::{Override, Plan, load, nearest};
use crate::{Error, Result};

/// An experiment file inside the program.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// What `fedcircuit run` calls it.
    pub name: &'static str,
    /// The file, comments and all.
    pub text: &'static str,
}

/// Every preset, the one to begin with first.
pub const ALL: [Preset; 12] = [
    Preset { name: "quickstart", text: include_str!("../../assets/presets/quickstart.toml") },
    Preset { name: "paper-iid", text: include_str!("../../assets/presets/paper-iid.toml") },
    Preset { name: "paper-1-class", text: include_str!("../../assets/presets/paper-1-class.toml") },
    Preset { name: "paper-2-classes", text: include_str!("../../assets/presets/paper-2-classes.toml") },
    Preset { name: "paper-3-classes", text: include_str!("../../assets/presets/paper-3-classes.toml") },
    Preset { name: "paper-shared-class", text: include_str!("../../assets/presets/paper-shared-class.toml") },
    Preset { name: "paper-3-classes-long", text: include_str!("../../assets/presets/paper-3-classes-long.toml") },
    Preset { name: "paper-sparsity", text: include_str!("../../assets/presets/paper-sparsity.toml") },
    Preset { name: "paper-dirichlet", text: include_str!("../../assets/presets/paper-dirichlet.toml") },
    Preset {
        name: "sparsity-x-learning-rate",
        text: include_str!("../../assets/presets/sparsity-x-learning-rate.toml"),
    },
    Preset { name: "mcmahan-2nn", text: include_str!("../../assets/presets/mcmahan-2nn.toml") },
    Preset { name: "mcmahan-cnn", text: include_str!("../../assets/presets/mcmahan-cnn.toml") },
];

impl Preset {
    /// One line about it: the file's first comment.
    pub fn purpose(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches(['#', ' '])
    }

    /// Where its settings come from: the comment that begins with `Source:`.
    pub fn source(&self) -> String {
        let comments = self.text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
        let lines: Vec<&str> = comments.skip_while(|line| !line.starts_with("Source:")).collect();
        lines.join(" ").trim_start_matches("Source:").trim().to_string()
    }

    /// The preset's experiments, with `overrides` applied.
    pub fn load(&self, overrides: &[Override]) -> Result<Plan> {
        load(self.text, &format!("preset {}", self.name), overrides)
    }
}

/// The preset called `name`; the error suggests the nearest.
pub fn get(name: &str) -> Result<Preset> {
    let names = ALL.map(|preset| preset.name);
    ALL.into_iter().find(|preset| preset.name == name).ok_or_else(|| {
        let hint = nearest(name, &names).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
        Error::config(name, "is not a preset", format!("{hint}accepted: {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{CircuitClasses, Experiment, Partition, Source, Strategy, Weighting};
    use super::*;

    fn only(name: &str) -> Experiment {
        get(name).unwrap().load(&[]).unwrap().variants.remove(0).experiment
    }

    #[test]
    fn the_papers_presets_hold_the_papers_settings() {
        for (name, classes) in [
            ("paper-1-class", vec![vec![0], vec![3], vec![6]]),
            ("paper-2-classes", vec![vec![0, 1], vec![3, 4], vec![6, 7]]),
            ("paper-3-classes", vec![vec![0, 1, 2], vec![3, 4, 5], vec![6, 7, 8]]),
        ] {
            let experiment = only(name);
            assert_eq!(experiment.partition, Partition::ByClass { classes }, "{name}");
            assert_eq!(experiment.circuits.unwrap().classes, CircuitClasses::Owned);
        }
        assert_eq!(only("paper-iid").partition, Partition::Iid { num_clients: 5 });
        assert_eq!(only("paper-iid").circuits.unwrap().classes, CircuitClasses::List(vec![0, 1, 2, 7]));
        for preset in &ALL[1..5] {
            let e = only(preset.name);
            let circuits = e.circuits.unwrap();
            assert_eq!((e.name.as_str(), e.seeds.all(), e.rounds), (preset.name, &[42][..], 10));
            assert_eq!((e.data.source, e.data.fallback), (Source::Mnist, Some(Source::Digits)));
            assert_eq!((e.training.local_epochs, e.training.batch_size, e.training.lr), (5, 256, 0.001));
            assert_eq!((e.sparsity.target, e.sparsity.anneal, e.sparsity.min_alive), (0.995, 0.5, 4));
            assert_eq!(e.strategy, Strategy::FedAvg { weighting: Weighting::Uniform });
            assert_eq!((circuits.steps, circuits.lr, circuits.l0), (200, 0.1, 0.01));
        }
    }

    #[test]
    fn quickstart_sets_two_federations_side_by_side_without_files() {
        let plan = get("quickstart").unwrap().load(&[]).unwrap();
        let labels: Vec<_> = plan.variants.iter().map(|variant| variant.label.as_deref()).collect();
        assert_eq!(labels, [Some("iid"), Some("one-class")]);
        assert!(plan.variants.iter().all(|variant| variant.experiment.data.source == Source::Digits));
    }

    #[test]
    fn a_misspelt_preset_is_suggested() {
        let message = get("quick-start").unwrap_err().to_string();
        assert!(message.contains("did you mean quickstart?") && message.contains("paper-3-classes"), "{message}");
    }
}
