//! Families of masks made from every circuit, each tried on a sample of the class's test images: random circuits as large,
//! the circuit and the network without one channel at a time, and the highest ranks at several sizes.

use std::ops::Range;

use rand::Rng;

use super::ablate::{self, Ablation};
use super::answers::evenly;
use super::controls::Against;
use super::fill::Fills;
use super::rank::{Finder, Found, cut_at};
use super::results::{CurvePoint, Removals};
use super::subject::Subject;
use crate::config::Circuits;
use crate::device::{Buffer, Device, View};
use crate::error::Result;
use crate::federation::{Pulse, Stage, upload, wave_that_fits};
use crate::kernels::pick::pick;
use crate::kernels::ranked_gates::{Spans, ranked_gates};
use crate::kernels::shape;
use crate::kernels::without_one::without_one;
use crate::model::{Network, Workspace};
use crate::rng::{NO_CLIENT, Purpose, stream};

/// A family of masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// The circuit itself, on the images of the random ones.
    KeptBesideRandom,
    Random,
    /// The circuit itself, on the images of the families below.
    Kept,
    /// The circuit without one of its channels.
    WithoutKept,
    /// The network without one of the circuit's channels.
    WithoutWhole,
    /// The channels that rank highest, at every share of the curve.
    Ranked,
}

impl Family {
    pub const ALL: [Family; 6] = [
        Family::KeptBesideRandom,
        Family::Random,
        Family::Kept,
        Family::WithoutKept,
        Family::WithoutWhole,
        Family::Ranked,
    ];

    /// Masks of a circuit.
    pub fn masks(self, circuits: &Circuits) -> usize {
        let (random, removals) = (circuits.controls.random, circuits.measures.removals);
        match self {
            Family::KeptBesideRandom => random.min(1),
            Family::Random => random,
            Family::Kept => removals.min(1),
            Family::WithoutKept | Family::WithoutWhole => removals,
            Family::Ranked => circuits.measures.curve.len(),
        }
    }
}

/// Words of the masks that are made and tried at once: more of them keep no device busier.
const AT_ONCE: usize = 1 << 24;

/// How many images each mask of each family got right, for the circuits of one model: by family, `[Q][masks]`.
#[derive(Debug)]
pub(super) struct Counts {
    right: Vec<Buffer>,
}

impl Counts {
    pub fn new(device: &dyn Device, circuits: &Circuits, pairs: usize) -> Result<Self> {
        let right = Family::ALL.iter().map(|f| device.alloc("right answers under masks", pairs * f.masks(circuits)));
        Ok(Self { right: right.collect::<Result<_>>()? })
    }

    pub fn views(&self) -> impl Iterator<Item = View<'_>> {
        self.right.iter().map(Buffer::all)
    }
}

/// Makes the masks and tries them.
pub(super) struct Families {
    circuits: Circuits,
    gate_words: usize,
    /// `[T][G]`: the sizes of the curve.
    sizes: Buffer,
    /// For every class the test images of the random circuits, and those of the other families.
    random_images: Vec<Vec<u32>>,
    images: Vec<Vec<u32>>,
}

impl Families {
    pub fn new(device: &dyn Device, network: &Network, circuits: &Circuits, images: &[Vec<u32>]) -> Result<Self> {
        let sizes: Vec<u32> = circuits.measures.curve.iter().flat_map(|share| cut_at(network, *share)).collect();
        let sample = |n: usize| images.iter().map(|list| evenly(list, n)).collect();
        Ok(Self {
            gate_words: network.layout.gate_words,
            sizes: upload(device, "sizes of the curve", &sizes)?,
            random_images: sample(circuits.controls.random_images),
            images: sample(circuits.measures.images),
            circuits: circuits.clone(),
        })
    }

    /// Tries all families of the subject's circuits, which are pairs `at..` of the round.
    pub fn count(
        &self,
        subject: &Subject<'_>,
        finder: &Finder,
        (found, fills): (&Found, &Fills),
        at: usize,
        counts: &Counts,
        pulse: &mut Pulse<'_>,
    ) -> Result<()> {
        let (device, mut space) = (subject.stage.device, None);
        for (family, right) in Family::ALL.into_iter().zip(&counts.right) {
            let each = family.masks(&self.circuits);
            if each == 0 {
                continue;
            }
            for some in portions(subject.pairs.len(), each, self.fitting(subject.stage, family)?) {
                let first = (at + some.pairs.start) * each + some.numbers.start;
                let masks = self.make(subject, finder, found, family, &some)?;
                let count = self.try_out(subject, fills, (&masks, &some), self.sample(family), &mut space)?;
                device.copy(count.all(), right.view(first, count.words()))?;
                // No step of a client, but it can take long.
                pulse.beat(0)?;
            }
        }
        Ok(())
    }

    fn sample(&self, family: Family) -> &[Vec<u32>] {
        match family {
            Family::KeptBesideRandom | Family::Random => &self.random_images,
            _ => &self.images,
        }
    }

    /// How many masks of a family fit at once.
    fn fitting(&self, stage: Stage<'_>, family: Family) -> Result<usize> {
        let images = self.sample(family).iter().map(Vec::len).max().unwrap_or(0);
        let (trial, largest) = ablate::words(stage, self.circuits.ablation, images);
        // The mask itself, and what it is made beside, or of.
        let total = trial + 3 * self.gate_words;
        let most = (AT_ONCE / total).max(1);
        wave_that_fits(stage.budget, most, total, largest.max(self.gate_words), "one mask of a circuit")
    }

    /// Some of a family's masks, `[pairs][numbers][G]`.
    fn make(
        &self,
        subject: &Subject<'_>,
        finder: &Finder,
        found: &Found,
        family: Family,
        some: &Portion,
    ) -> Result<Buffer> {
        let device = subject.stage.device;
        let circuits = || self.rows(device, &found.hard, some.pairs.clone());
        match family {
            Family::KeptBesideRandom | Family::Kept => circuits(),
            Family::Random => self.random(subject, finder, found, some),
            Family::WithoutKept | Family::WithoutWhole => {
                let (kept, whole) = (self.masks(device, some.masks())?, self.masks(device, some.masks())?);
                let rows = shape::Rows { slots: some.pairs.len(), words: self.gate_words };
                let removals = (self.circuits.measures.removals, some.numbers.clone());
                without_one(device, rows, removals, circuits()?.all(), kept.all(), whole.all())?;
                Ok(if family == Family::WithoutKept { kept } else { whole })
            }
            Family::Ranked => {
                let sizes = self.rows(device, &self.sizes, some.numbers.clone())?;
                let keys = self.rows(device, &found.keys, some.pairs.clone())?;
                let gates = self.masks(device, some.masks())?;
                let spans = Spans { circuit: 1, keys: some.numbers.len() };
                ranked_gates(device, spans, sizes.all(), keys.all(), finder.layers.all(), gates.all())?;
                Ok(gates)
            }
        }
    }

    fn masks(&self, device: &dyn Device, masks: usize) -> Result<Buffer> {
        device.alloc("masks of a family", masks * self.gate_words)
    }

    /// Some rows of `all`, `[rows][G]`.
    fn rows(&self, device: &dyn Device, all: &Buffer, rows: Range<usize>) -> Result<Buffer> {
        let some = self.masks(device, rows.len())?;
        device.copy(all.view(rows.start * self.gate_words, some.words()), some.all())?;
        Ok(some)
    }

    /// For some circuits random ones as large, `[pairs][numbers][G]`. Circuits of one federation draw alike, and as they
    /// would without the others.
    fn random(&self, subject: &Subject<'_>, finder: &Finder, found: &Found, some: &Portion) -> Result<Buffer> {
        let (device, draws, width) = (subject.stage.device, some.numbers.len(), self.gate_words);
        let gates = self.masks(device, some.masks())?;
        let seed = |pair: &super::pair::Pair| subject.member(pair).seed;
        let mut at = 0;
        for run in subject.pairs[some.pairs.clone()].chunk_by(|a, b| seed(a) == seed(b)) {
            let mut rng = stream(seed(&run[0]), subject.round as u64, NO_CLIENT, Purpose::Controls);
            rng.set_word_pos((some.numbers.start * width) as u128);
            let keys: Vec<u32> = (0..draws * width).map(|_| rng.next_u32()).collect();
            let keys = upload(device, "keys of random circuits", &keys)?;
            let first = some.pairs.start + at;
            let own = self.rows(device, &found.hard, first..first + run.len())?;
            let drawn = self.masks(device, run.len() * draws)?;
            let spans = Spans { circuit: draws, keys: 1 };
            ranked_gates(device, spans, own.all(), keys.all(), finder.layers.all(), drawn.all())?;
            device.copy(drawn.all(), gates.view(at * width * draws, drawn.words()))?;
            at += run.len();
        }
        Ok(gates)
    }

    /// How many images of its class each of these masks gets right, `[pairs][numbers]`. The workspace is used again.
    fn try_out(
        &self,
        subject: &Subject<'_>,
        fills: &Fills,
        (masks, some): (&Buffer, &Portion),
        images: &[Vec<u32>],
        space: &mut Option<Workspace>,
    ) -> Result<Buffer> {
        let (stage, classes) = (subject.stage, subject.stage.network.classes);
        let device = stage.device;
        let pairs: Vec<usize> = some.pairs.clone().flat_map(|pair| vec![pair; some.numbers.len()]).collect();
        let each = |list: Vec<u32>| pairs.iter().map(|pair| list[*pair]).collect::<Vec<_>>();
        let (rows, targets) = (upload(device, "rows", &each(subject.rows()))?, each(subject.classes()));
        let ablation = Ablation::within(stage, subject.weights, &rows, &targets, images, space.take())?;
        let counts = ablation.count_filled(stage, masks.all(), fills, &pairs)?;
        // Of the table of a slot, the word where class and answer are the slot's.
        let place =
            |(slot, class): (usize, &u32)| (slot * classes * classes + *class as usize * classes) as u32 + class;
        let places = upload(device, "places", &targets.iter().enumerate().map(place).collect::<Vec<_>>())?;
        let right = device.alloc("right answers", targets.len())?;
        pick(device, counts.all(), places.all(), right.all())?;
        *space = Some(ablation.into_space());
        Ok(right)
    }

    /// What was counted of pair `i`, of `class`, whose circuit has `size` channels. `right` is by family.
    pub fn read(&self, right: &[Vec<u32>], i: usize, class: u32, size: usize) -> Measured {
        let of = |family: Family| {
            let masks = family.masks(&self.circuits);
            &right[family as usize][i * masks..(i + 1) * masks]
        };
        let share = |n: u32, images: &[Vec<u32>]| f64::from(n) / images[class as usize].len() as f64;
        let tried = |n: &u32| share(*n, &self.images);
        let random = of(Family::KeptBesideRandom).first().map(|own| {
            let among = |n: u32| share(n, &self.random_images);
            Against::new(among(*own), &of(Family::Random).iter().map(|n| among(*n)).collect::<Vec<_>>())
        });
        let kept = of(Family::Kept).first().map(tried);
        let one_by_one = |family| of(family)[..size.min(of(family).len())].iter().map(tried).collect::<Vec<_>>();
        let curve = self.circuits.measures.curve.iter().zip(of(Family::Ranked));
        Measured {
            random,
            removals: kept.and_then(|kept| {
                Removals::new(kept, &one_by_one(Family::WithoutKept), &one_by_one(Family::WithoutWhole))
            }),
            curve: curve.map(|(share, n)| CurvePoint { share: *share, accuracy: tried(n) }).collect(),
        }
    }
}

/// Masks that are made and tried at once: of several pairs all of a family, or of one pair some.
#[derive(Clone, Debug, PartialEq)]
struct Portion {
    pairs: Range<usize>,
    numbers: Range<usize>,
}

impl Portion {
    fn masks(&self) -> usize {
        self.pairs.len() * self.numbers.len()
    }
}

/// The masks of `pairs` pairs, `each` of every one, in portions of at most `fit`.
fn portions(pairs: usize, each: usize, fit: usize) -> impl Iterator<Item = Portion> {
    let (some, few) = ((fit / each).max(1), fit.min(each));
    let starts = (0..pairs).step_by(some).flat_map(move |pair| (0..each).step_by(few).map(move |n| (pair, n)));
    starts.map(move |(pair, n)| Portion { pairs: pair..(pair + some).min(pairs), numbers: n..(n + few).min(each) })
}

/// What the families say of a circuit.
pub(super) struct Measured {
    pub random: Option<Against>,
    pub removals: Option<Removals>,
    pub curve: Vec<CurvePoint>,
}

impl Removals {
    /// From the circuit's accuracy, and the accuracies of circuit and network without one channel each.
    fn new(kept: f64, circuit: &[f64], network: &[f64]) -> Option<Self> {
        let n = circuit.len() as f64;
        let gap: f64 = circuit.iter().zip(network).map(|(c, m)| (c - m).abs()).sum();
        let needed = circuit.iter().filter(|c| **c < kept).count() as f64;
        (!circuit.is_empty() && kept.is_finite()).then(|| Self { completeness: 1.0 - gap / n, minimality: needed / n })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mask_is_in_one_portion_and_none_is_too_large() {
        for (pairs, each, fit) in [(5, 4, 100), (5, 4, 9), (5, 4, 8), (5, 4, 3), (3, 7, 1), (0, 4, 9), (1, 1, 1)] {
            let all: Vec<Portion> = portions(pairs, each, fit).collect();
            assert!(all.iter().all(|some| some.masks() > 0 && some.masks() <= fit), "{all:?}");
            // One after the other, as they lie in what is counted.
            let masks = all.iter().flat_map(|some| {
                let numbers = some.numbers.clone();
                some.pairs.clone().flat_map(move |pair| numbers.clone().map(move |number| pair * each + number))
            });
            assert_eq!(masks.collect::<Vec<_>>(), (0..pairs * each).collect::<Vec<_>>());
            assert!(all.iter().all(|some| some.pairs.len() == 1 || some.numbers.len() == each), "{all:?}");
        }
    }

    #[test]
    fn removals_by_hand() {
        let removals = Removals::new(0.9, &[0.9, 0.5, 0.1, 1.0], &[0.9, 0.9, 0.6, 1.0]).unwrap();
        assert!((removals.completeness - (1.0 - 0.9 / 4.0)).abs() < 1e-12);
        assert_eq!(removals.minimality, 0.5);
        assert_eq!(Removals::new(0.9, &[], &[]), None);
        assert_eq!(Removals::new(f64::NAN, &[f64::NAN], &[f64::NAN]), None);
    }
}
