//! What is measured: everything, or what a name picks.

use crate::device::Kernel;
use crate::error::{Error, Result};
use crate::kernels::{ALL, peak_copy, peak_fma};

/// Work larger than a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Steps of local training at 1, 8 and 64 clients.
    Training,
    /// Steps of the search for circuits, over all weights and over the survivors.
    Discovery,
    /// A round of the preset `quickstart`.
    Quickstart,
}

impl Work {
    /// All of it.
    pub const ALL: [Self; 3] = [Self::Training, Self::Discovery, Self::Quickstart];

    /// As it is printed and asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Training => "training-step",
            Self::Discovery => "discovery-step",
            Self::Quickstart => "quickstart-round",
        }
    }
}

/// The kernels and the work that a benchmark is to measure; the device's peaks are always measured.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Kernels, without those of the peaks.
    pub kernels: Vec<&'static Kernel>,
    /// Work larger than a kernel.
    pub work: Vec<Work>,
}

impl Selection {
    /// What has `part` in its name; everything where it is empty.
    ///
    /// # Errors
    /// [`Error::Config`] naming `--filter` when there is no such name, with all there are.
    pub fn new(part: &str) -> Result<Self> {
        let peaks = [peak_fma::KERNEL.name, peak_copy::KERNEL.name];
        let named = |name: &&str| name.contains(part);
        let kernels: Vec<_> = ALL.iter().copied().filter(|k| named(&k.name) && !peaks.contains(&k.name)).collect();
        let work: Vec<_> = Work::ALL.into_iter().filter(|work| named(&work.name())).collect();
        if kernels.is_empty() && work.is_empty() && !peaks.iter().any(named) {
            let names: Vec<_> = ALL.iter().map(|k| k.name).chain(Work::ALL.map(Work::name)).collect();
            let problem = format!("nothing that is measured has {part:?} in its name");
            return Err(Error::config("--filter", problem, format!("accepted: part of one of: {}", names.join(", "))));
        }
        Ok(Self { kernels, work })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_picks_and_an_unknown_one_says_what_there_is() {
        let all = Selection::new("").unwrap();
        assert_eq!((all.kernels.len(), all.work.len()), (ALL.len() - 2, 3));
        let picked = Selection::new("conv_forward").unwrap();
        let names: Vec<_> = picked.kernels.iter().map(|k| k.name).collect();
        assert_eq!(names, ["conv_forward", "sparse_conv_forward"]);
        assert!(picked.work.is_empty());
        assert_eq!(Selection::new("discovery").unwrap().work, [Work::Discovery]);
        let peaks = Selection::new("peak_fma").unwrap();
        assert!(peaks.kernels.is_empty() && peaks.work.is_empty());
        let error = Selection::new("convolution").unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(
            text.contains("--filter") && text.contains("conv_forward") && text.contains("quickstart-round"),
            "{text}"
        );
    }
}
