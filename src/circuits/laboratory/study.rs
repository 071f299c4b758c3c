//! What is done with the circuits of some pairs in some weights: finding, testing, and the controls that search.

use super::Laboratory;
use crate::circuits::ablate::{self, Ablation};
use crate::circuits::controls::ControlCounts;
use crate::circuits::discover;
use crate::circuits::fill::{Fills, Ready};
use crate::circuits::pair::Model;
use crate::circuits::rank::Found;
use crate::circuits::round::{RoundBuffers, Tally};
use crate::circuits::subject::Subject;
use crate::device::{Buffer, Device};
use crate::error::{Error, Result, mib};
use crate::federation::{Member, Pulse, Stage, upload, wave_that_fits};
use crate::kernels::complement::complement;

impl Laboratory {
    /// Finds and tests the circuits of the subject's pairs, which are pairs `at..` of the round; as many at once as fit.
    pub(super) fn study(
        &self,
        subject: &Subject<'_>,
        buffers: &RoundBuffers,
        mut at: usize,
        pulse: &mut Pulse<'_>,
    ) -> Result<()> {
        let device = subject.stage.device;
        for part in self.parts(subject)? {
            let fills = Fills::new(&part, &self.circuits)?;
            let found = self.finder.find(&part, &fills, pulse)?;
            let first = buffers.gate(part.model, at, self.gate_words);
            device.copy(found.hard.all(), buffers.gates.view(first, found.hard.words()))?;
            self.measure(&part, buffers, at, (&found, &fills))?;
            let counts = &buffers.families[part.model as usize];
            self.families.count(&part, &self.finder, (&found, &fills), at, counts, pulse)?;
            at += part.pairs.len();
        }
        Ok(())
    }

    /// The subject in parts that fit the device.
    fn parts<'s>(&self, subject: &Subject<'s>) -> Result<Vec<Subject<'s>>> {
        if subject.pairs.is_empty() {
            return Ok(Vec::new());
        }
        let fit = self.fitting(subject.stage, subject.pairs.len())?;
        let starts = (0..subject.pairs.len()).step_by(fit);
        Ok(starts.map(|at| subject.part(at..(at + fit).min(subject.pairs.len()))).collect())
    }

    /// Counts the predictions of the subject's pairs, `at..` of the round, under every mask that says something about
    /// their circuits.
    fn measure(
        &self,
        subject: &Subject<'_>,
        buffers: &RoundBuffers,
        at: usize,
        (found, fills): (&Found, &Fills),
    ) -> Result<()> {
        let (stage, pairs) = (subject.stage, subject.pairs.len());
        let (device, hard) = (stage.device, &found.hard);
        let rows = upload(device, "rows", &subject.rows())?;
        let ablation = Ablation::new(stage, subject.weights, &rows, &subject.classes(), &self.probes)?;
        let filled = ablation.fill(stage, fills, &(0..pairs).collect::<Vec<_>>())?;
        let count = |tally: Tally, gates: &Buffer, pass: &Ready| {
            buffers.keep(device, tally, at, pairs, &ablation.count_with(stage, gates.all(), pass)?)
        };
        let (whole, kept, cut) = subject.model.tallies();
        let gates = all_open(device, hard.words())?;
        count(whole, &gates, &Ready::Zero)?;
        count(kept, hard, &filled)?;
        complement(device, hard.all(), gates.all())?;
        // Necessity zeroes, whatever the others do, as in the code of arXiv 2512.23043.
        count(cut, &gates, &Ready::Zero)?;
        if subject.model == Model::Global {
            let local = buffers.gate(Model::Local, at, self.gate_words);
            device.copy(buffers.gates.view(local, gates.words()), gates.all())?;
            count(Tally::Cross, &gates, &filled)?;
        }
        Ok(())
    }

    /// Searches for the global subject's pairs again, as the round's controls have it.
    pub(super) fn control(&self, global: &Subject<'_>, counts: &ControlCounts, pulse: &mut Pulse<'_>) -> Result<()> {
        let (stage, control) = (global.stage, counts.control);
        let device = stage.device;
        let own = self.models.weights(stage, control, global.weights)?;
        let weights = match &own {
            None => global.weights,
            Some((rows, None)) => rows.all().into(),
            Some((rows, Some(survivors))) => {
                survivors.list(device, stage.network, rows.words() / stage.network.layout.words, rows.all(), true)?
            }
        };
        let mut at = 0;
        for part in self.parts(&Subject { purpose: control.purpose(), weights, ..*global })? {
            let fills = Fills::new(&part, &self.circuits)?;
            let found = self.finder.find(&part, &fills, pulse)?;
            let rows = upload(device, "rows", &part.rows())?;
            let ablation = Ablation::new(stage, weights, &rows, &part.classes(), &self.probes)?;
            let whole = ablation.count(stage, all_open(device, found.hard.words())?.all())?;
            let losses = ablation.losses(device)?;
            let own: Vec<usize> = (0..part.pairs.len()).collect();
            let kept = ablation.count_filled(stage, found.hard.all(), &fills, &own)?;
            counts.keep(&part, &self.masks, &found, at, (&whole, &losses, &kept))?;
            at += part.pairs.len();
        }
        Ok(())
    }

    /// How many of `wanted` pairs go side by side.
    ///
    /// # Errors
    /// [`crate::Error::TooLarge`] when not even one does.
    pub fn fitting(&self, stage: Stage<'_>, wanted: usize) -> Result<usize> {
        let (total, largest) = self.search_words(stage);
        let what = format!("the search for one circuit (circuits.steps = {})", self.circuits.steps);
        wave_that_fits(stage.budget, wanted, total, largest, &what)
    }

    /// Refuses a round of these members whose circuits would not fit the device.
    ///
    /// # Errors
    /// [`Error::TooLarge`] that says so.
    pub fn check_circuits(&self, stage: Stage<'_>, members: &[Member<'_>]) -> Result<()> {
        let pairs = self.pairs(stage, members);
        // The last round has all controls that are asked for.
        let controls = self.searched(self.rounds).len();
        let (total, largest) = RoundBuffers::words(&pairs, stage.replicates, &self.circuits, controls, &self.layouts());
        let (total, largest) = (4 * total as u64, 4 * largest as u64);
        let refused = |needed, limit, or: &str| Error::TooLarge {
            what: format!("the list of {} circuits, and what is counted of them,", 2 * pairs.len()),
            needed,
            limit,
            help: format!(
                "take fewer circuits.clients, circuits.classes or circuits.controls, circuits.edges = \"channel\", or {or}"
            ),
        };
        if largest > stage.budget.binding {
            let limit = format!("the device allows {}", mib(stage.budget.binding));
            return Err(refused(format!("{} in one buffer", mib(largest)), limit, "--device cpu"));
        }
        if total > stage.budget.bytes {
            let limit = format!("device.memory allows {}", mib(stage.budget.bytes));
            return Err(refused(mib(total), limit, "a larger device.memory"));
        }
        Ok(())
    }

    /// Bytes that the searches for the circuits of `members` take, as many at once as fit.
    pub fn search_bytes(&self, stage: Stage<'_>, members: &[Member<'_>]) -> u64 {
        let wanted = self.pairs(stage, members).len();
        let (total, _) = self.search_words(stage);
        4 * (total * self.fitting(stage, wanted).unwrap_or(0)) as u64
    }

    /// Words that one search takes, or the test of what it found: in all, and in the largest buffer.
    fn search_words(&self, stage: Stage<'_>) -> (usize, usize) {
        // A minibatch of one class holds at most a whole batch.
        let search = discover::search_words(stage, &self.circuits, self.batch_size.next_multiple_of(4));
        let ablation =
            ablate::words(stage, self.circuits.ablation, self.probes.iter().map(Vec::len).max().unwrap_or(0));
        (search.0.max(ablation.0), search.1.max(ablation.1))
    }
}

/// Gates that ablate nothing.
pub(in crate::circuits) fn all_open(device: &dyn Device, words: usize) -> Result<Buffer> {
    upload(device, "open gates", &vec![1.0f32.to_bits(); words])
}
