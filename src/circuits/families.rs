//! Families of masks made from every circuit, each tried on a sample of the class's test images: random circuits as large,
//! the circuit and the network without one channel at a time, and the highest ranks at several sizes.

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
use crate::federation::{Pulse, slots_that_fit, upload};
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

/// Words of the masks that are tried at once: more of them would leave every cache behind, and keep no device busier.
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
        let (device, slots) = (subject.stage.device, subject.pairs.len());
        let removals = self.circuits.measures.removals;
        let (kept, whole) = (self.masks(device, slots, removals)?, self.masks(device, slots, removals)?);
        if removals > 0 {
            let rows = shape::Rows { slots, words: self.gate_words };
            without_one(device, rows, removals, found.hard.all(), kept.all(), whole.all())?;
        }
        let mut space = None;
        for (family, right) in Family::ALL.into_iter().zip(&counts.right) {
            let masks = family.masks(&self.circuits);
            if masks == 0 {
                continue;
            }
            let made = match family {
                Family::KeptBesideRandom | Family::Kept => found.hard.clone(),
                Family::Random => self.random(subject, finder, found)?,
                Family::WithoutKept => kept.clone(),
                Family::WithoutWhole => whole.clone(),
                Family::Ranked => self.ranked(device, slots, finder, found)?,
            };
            let count = self.try_out(subject, fills, (&made, masks), self.sample(family), &mut space, pulse)?;
            device.copy(count.all(), right.view(at * masks, count.words()))?;
        }
        Ok(())
    }

    fn sample(&self, family: Family) -> &[Vec<u32>] {
        match family {
            Family::KeptBesideRandom | Family::Random => &self.random_images,
            _ => &self.images,
        }
    }

    fn masks(&self, device: &dyn Device, slots: usize, each: usize) -> Result<Buffer> {
        device.alloc("masks of a family", slots * each * self.gate_words)
    }

    /// For every circuit random ones as large, `[slots][draws][G]`. Circuits of one federation draw alike, and as they
    /// would without the others.
    fn random(&self, subject: &Subject<'_>, finder: &Finder, found: &Found) -> Result<Buffer> {
        let (device, draws, width) = (subject.stage.device, self.circuits.controls.random, self.gate_words);
        let gates = self.masks(device, subject.pairs.len(), draws)?;
        let seed = |pair: &super::pair::Pair| subject.member(pair).seed;
        let mut at = 0;
        for run in subject.pairs.chunk_by(|a, b| seed(a) == seed(b)) {
            let mut rng = stream(seed(&run[0]), subject.round as u64, NO_CLIENT, Purpose::Controls);
            let keys: Vec<u32> = (0..draws * width).map(|_| rng.next_u32()).collect();
            let keys = upload(device, "keys of random circuits", &keys)?;
            let own = device.alloc("circuits of a seed", run.len() * width)?;
            device.copy(found.hard.view(at * width, own.words()), own.all())?;
            let drawn = self.masks(device, run.len(), draws)?;
            let spans = Spans { circuit: draws, keys: 1 };
            ranked_gates(device, spans, own.all(), keys.all(), finder.layers.all(), drawn.all())?;
            device.copy(drawn.all(), gates.view(at * width * draws, drawn.words()))?;
            at += run.len();
        }
        Ok(gates)
    }

    /// The highest ranks at every size of the curve, `[slots][T][G]`.
    fn ranked(&self, device: &dyn Device, slots: usize, finder: &Finder, found: &Found) -> Result<Buffer> {
        let sizes = self.circuits.measures.curve.len();
        let gates = self.masks(device, slots, sizes)?;
        let spans = Spans { circuit: 1, keys: sizes };
        ranked_gates(device, spans, self.sizes.all(), found.keys.all(), finder.layers.all(), gates.all())?;
        Ok(gates)
    }

    /// How many images of its class every mask gets right, `[slots][each]`; as many masks at once as fit. The
    /// workspace is used again.
    fn try_out(
        &self,
        subject: &Subject<'_>,
        fills: &Fills,
        (masks, each): (&Buffer, usize),
        images: &[Vec<u32>],
        space: &mut Option<Workspace>,
        pulse: &mut Pulse<'_>,
    ) -> Result<Buffer> {
        let (stage, width) = (subject.stage, self.gate_words);
        let (device, classes) = (stage.device, stage.network.classes);
        let repeat = |list: Vec<u32>| list.iter().flat_map(|v| vec![*v; each]).collect::<Vec<_>>();
        let (rows, targets) = (repeat(subject.rows()), repeat(subject.classes()));
        let right = device.alloc("right answers", rows.len())?;
        let (total, largest) =
            ablate::words(stage, self.circuits.ablation, images.iter().map(Vec::len).max().unwrap_or(0));
        let most = (AT_ONCE / total.max(1)).clamp(1, rows.len().max(1));
        let fit = slots_that_fit(stage.budget, most, total, largest, "one mask of a circuit")?;
        for (i, (rows, targets)) in rows.chunks(fit).zip(targets.chunks(fit)).enumerate() {
            let part = device.alloc("some masks", rows.len() * width)?;
            device.copy(masks.view(i * fit * width, part.words()), part.all())?;
            let rows = upload(device, "rows", rows)?;
            let ablation = Ablation::within(stage, subject.weights, &rows, targets, images, space.take())?;
            let pairs: Vec<usize> = (i * fit..i * fit + targets.len()).map(|slot| slot / each).collect();
            let counts = ablation.count_filled(stage, part.all(), fills, &pairs)?;
            // Of the table of a slot, the word where class and answer are the slot's.
            let place =
                |(slot, class): (usize, &u32)| (slot * classes * classes + *class as usize * classes) as u32 + class;
            let places = upload(device, "places", &targets.iter().enumerate().map(place).collect::<Vec<_>>())?;
            let some = device.alloc("some right answers", targets.len())?;
            pick(device, counts.all(), places.all(), some.all())?;
            device.copy(some.all(), right.view(i * fit, some.words()))?;
            *space = Some(ablation.into_space());
            // No step of a client, but it can take long.
            pulse.beat(0)?;
        }
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
    fn removals_by_hand() {
        let removals = Removals::new(0.9, &[0.9, 0.5, 0.1, 1.0], &[0.9, 0.9, 0.6, 1.0]).unwrap();
        assert!((removals.completeness - (1.0 - 0.9 / 4.0)).abs() < 1e-12);
        assert_eq!(removals.minimality, 0.5);
        assert_eq!(Removals::new(0.9, &[], &[]), None);
        assert_eq!(Removals::new(f64::NAN, &[f64::NAN], &[f64::NAN]), None);
    }
}
