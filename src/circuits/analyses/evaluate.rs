//! Test images through variants of a model, and what their logits say.

use crate::device::{View, f32s, within};
use crate::error::Result;
use crate::federation::{Orders, Stage, slots_that_fit, upload};
use crate::model::{Depth, Rows};

/// Images of a batch.
const BATCH: usize = 256;

/// Runs test images through models on the device.
#[derive(Clone, Copy)]
pub(super) struct Evaluator<'a> {
    pub stage: Stage<'a>,
}

impl Evaluator<'_> {
    /// How many rows of parameters one buffer of the device holds.
    pub fn rows_that_fit(self) -> usize {
        (self.stage.budget.binding as usize / 4 / self.stage.network.layout.words).max(1)
    }

    /// Logits of `images` under each variant, `[images][classes]`: variant v has row `rows[v]` of `weights`
    /// (`[rows][P]`) and the gates `gates[v]`, of `[G]` each.
    pub fn logits(
        self,
        weights: View<'_>,
        rows: &[u32],
        gates: Option<&[Vec<f32>]>,
        images: &[u32],
    ) -> Result<Vec<Vec<f32>>> {
        self.outputs(weights, rows, gates, images, self.stage.network.layers.len() - 1)
    }

    /// Logits of `images` under each model, a row of parameters on the host.
    pub fn logits_of(self, models: &[Vec<f32>], images: &[u32]) -> Result<Vec<Vec<f32>>> {
        let mut logits = Vec::new();
        for models in models.chunks(self.rows_that_fit()) {
            let words: Vec<u32> = models.iter().flatten().map(|w| w.to_bits()).collect();
            let weights = upload(self.stage.device, "models analysed", &words)?;
            let rows: Vec<u32> = (0..models.len() as u32).collect();
            logits.extend(self.logits(weights.all(), &rows, None, images)?);
        }
        Ok(logits)
    }

    /// The same for the output of any layer: for each variant `[images][outputs]`. Reads back once.
    pub fn outputs(
        self,
        weights: View<'_>,
        rows: &[u32],
        gates: Option<&[Vec<f32>]>,
        images: &[u32],
        layer: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let Stage { device, network, .. } = self.stage;
        let stride = images.len().clamp(1, BATCH).next_multiple_of(4);
        let (steps, width) = (images.len().div_ceil(stride), network.layers[layer].sizes().1);
        let out_words = steps * stride * width;
        let (space, largest) = network.workspace_words(stride, Depth::Forward);
        let total = space + out_words + images.len() + network.layout.gate_words;
        let fit = slots_that_fit(self.stage.budget, rows.len(), total, largest.max(out_words), "one analysed model")?;
        let mut kept = Vec::new();
        for (i, rows) in rows.chunks(fit).enumerate() {
            let slots = rows.len();
            let batches: Vec<_> = vec![images.chunks(stride).map(<[u32]>::to_vec).collect::<Vec<_>>(); slots];
            let orders = Orders::upload(device, &batches, stride)?;
            let space = network.workspace(device, slots, stride, Depth::Forward)?;
            let rows = upload(device, "rows", rows)?;
            let gates = gates.map(|gates| {
                let gates: Vec<u32> = gates[i * fit..][..slots].iter().flatten().map(|g| g.to_bits()).collect();
                upload(device, "gates", &gates)
            });
            let gates = gates.transpose()?;
            let from = Rows { weights: weights.into(), rows: rows.all(), counts: orders.counts.all() };
            let out = device.alloc("analysed outputs", slots * out_words)?;
            within(device, || {
                (0..steps).try_for_each(|step| {
                    let batch = orders.batch(step, slots);
                    self.stage.test.gather(device, &orders, step, batch, &space)?;
                    network.forward(device, &space, batch, from, gates.as_ref().map(|g| g.all()))?;
                    let words = slots * width * stride;
                    device.copy(space.output(layer), out.view(step * words, words))
                })
            })?;
            kept.push((slots, out));
        }
        let views: Vec<View<'_>> = kept.iter().map(|(_, out)| out.all()).collect();
        let read = pollster::block_on(device.read(&views))?;
        let slots = kept.iter().zip(&read).flat_map(|((slots, _), words)| (0..*slots).map(move |s| (s, *slots, words)));
        let one = |(slot, slots, words): (usize, usize, &Vec<u32>)| {
            let words = f32s(words);
            let image = |i: usize| {
                let at = ((i / stride) * slots + slot) * width * stride + i % stride;
                words[at..].iter().step_by(stride).take(width).copied().collect::<Vec<f32>>()
            };
            (0..images.len()).flat_map(image).collect()
        };
        Ok(slots.map(one).collect())
    }
}

/// The first greatest of `scores`: the prediction, as the kernels count it.
pub(super) fn winner(scores: impl IntoIterator<Item = f32>) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (i, score) in scores.into_iter().enumerate() {
        if score > best.1 {
            best = (i, score);
        }
    }
    best.0
}

/// How a model does on the test images of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Standing {
    pub top1: f64,
    pub top3: f64,
    /// Mean probability of the class.
    pub probability: f64,
}

/// From the logits of some images of class `class`, `[classes]` each; `None` without images.
pub(super) fn standing<'l>(logits: impl Iterator<Item = &'l [f32]>, class: usize) -> Option<Standing> {
    let (mut sum, mut images) = (Standing::default(), 0.0);
    for logits in logits {
        let own = logits[class];
        let above = logits.iter().enumerate().filter(|(c, x)| **x > own || (**x == own && *c < class)).count();
        let shares: f64 = logits.iter().map(|x| (f64::from(*x) - f64::from(own)).exp()).sum();
        sum.top1 += f64::from(u8::from(above == 0));
        sum.top3 += f64::from(u8::from(above < 3));
        sum.probability += 1.0 / shares;
        images += 1.0;
    }
    let mean = Standing { top1: sum.top1 / images, top3: sum.top3 / images, probability: sum.probability / images };
    (images > 0.0).then_some(mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standings_by_hand() {
        // Ties go to the lower class; p is 1/4, and then 1/(1 + e^(ln 9)) with two classes out of reach.
        let far = -1000.0;
        let images = [[1.0f32, 1.0, 1.0, 1.0], [9.0f32.ln(), 0.0, far, far]];
        let of = |class| standing(images.iter().map(|l| &l[..]), class).unwrap();
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-7, "{a}, not {b}");
        assert_eq!((of(0).top1, of(0).top3), (1.0, 1.0));
        assert_eq!((of(1).top1, of(1).top3), (0.0, 1.0));
        assert_eq!((of(3).top1, of(3).top3), (0.0, 0.0));
        near(of(1).probability, (0.25 + 0.1) / 2.0);
        near(of(0).probability, (0.25 + 0.9) / 2.0);
        assert_eq!(standing([].into_iter(), 0), None);
        assert_eq!(winner([0.5, 2.0, 2.0]), 1);
    }
}
