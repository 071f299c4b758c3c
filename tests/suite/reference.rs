//! The network and its training once more, in float64 and as plainly as can be: what the engine is judged by.

use fedcircuit::data::{Dataset, Split};
use fedcircuit::model::Layout;

/// Picture `index` of `split`, normalised, `[H * W]`.
pub fn picture(dataset: &Dataset, split: &Split, index: usize) -> Vec<f64> {
    let (mean, std) = (f64::from(dataset.mean[0]), f64::from(dataset.std[0]));
    split.example(index).iter().map(|p| (f64::from(*p) / 255.0 - mean) / std).collect()
}

/// Logits of a network of convolutions that keep their size, each with ReLU and 2x2 max-pooling, and then linear layers
/// with ReLU between them. A channel of a layer that `open` closes is zero before its ReLU; the last layer is never asked.
pub fn logits(layout: &Layout, row: &[f64], image: &[f64], open: &dyn Fn(usize, usize) -> bool) -> Vec<f64> {
    pass(layout, row, image, open, &mut |_, _| ())
}

/// The same, with what each layer gives (after ReLU and pooling, channel by channel) shown to `between`, which may change it.
pub fn pass(
    layout: &Layout,
    row: &[f64],
    image: &[f64],
    open: &dyn Fn(usize, usize) -> bool,
    between: &mut dyn FnMut(usize, &mut [f64]),
) -> Vec<f64> {
    let layers = layout.tensors.len() / 2;
    let (mut side, mut values) = (image.len().isqrt(), image.to_vec());
    for layer in 0..layers {
        let (weight, bias) = (&layout.tensors[2 * layer], &layout.tensors[2 * layer + 1]);
        let w = &row[weight.at..weight.at + weight.words()];
        let b = &row[bias.at..bias.at + bias.words()];
        let size = weight.words() / b.len();
        let last = layer + 1 == layers;
        let conv = weight.shape.len() == 4;
        let mut next = Vec::new();
        for (channel, b) in b.iter().enumerate() {
            let w = &w[channel * size..(channel + 1) * size];
            let shut = !last && !open(layer, channel);
            let mut out =
                if conv { correlate(&values, side, w, weight.shape[3], *b) } else { vec![dot(w, &values) + b] };
            if shut {
                out.fill(0.0);
            }
            if !last {
                out.iter_mut().for_each(|v| *v = v.max(0.0));
            }
            next.extend(if conv { pool(&out, side) } else { out });
        }
        if conv {
            side /= 2;
        }
        between(layer, &mut next);
        values = next;
    }
    values
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// One output channel: `maps` is `[C][side][side]`, `filter` `[C][k][k]`, zeros around.
fn correlate(maps: &[f64], side: usize, filter: &[f64], k: usize, bias: f64) -> Vec<f64> {
    let mut out = vec![bias; side * side];
    for (map, taps) in maps.chunks(side * side).zip(filter.chunks(k * k)) {
        for (at, tap) in taps.iter().enumerate() {
            let (dy, dx) = (at / k, at % k);
            for y in 0..side {
                for x in 0..side {
                    let (v, u) = (y + dy, x + dx);
                    if (k / 2..side + k / 2).contains(&v) && (k / 2..side + k / 2).contains(&u) {
                        out[y * side + x] += tap * map[(v - k / 2) * side + u - k / 2];
                    }
                }
            }
        }
    }
    out
}

fn pool(map: &[f64], side: usize) -> Vec<f64> {
    let half = side / 2;
    let window = |y: usize, x: usize| [0, 1, side, side + 1].map(|d| map[2 * y * side + 2 * x + d]);
    let most = |w: [f64; 4]| w.into_iter().fold(f64::NEG_INFINITY, f64::max);
    (0..half * half).map(|i| most(window(i / half, i % half))).collect()
}

/// What the logits of a picture say about its label.
pub struct Verdict {
    pub loss: f64,
    pub right: bool,
    /// By how much the greatest logit exceeds the next.
    pub margin: f64,
    /// Softmax less the one-hot label.
    pub grad: Vec<f64>,
}

/// Judges the logits of a picture of class `label`; among equals, the first class is the guess.
pub fn judge(logits: &[f64], label: usize) -> Verdict {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    let (best, next) = (logits[order[0]], logits[order[1]]);
    let shares: Vec<f64> = logits.iter().map(|x| (x - best).exp()).collect();
    let total: f64 = shares.iter().sum();
    let grad = shares.iter().enumerate().map(|(c, s)| s / total - f64::from(u8::from(c == label)));
    Verdict {
        loss: total.ln() - (logits[label] - best),
        right: order[0] == label,
        margin: best - next,
        grad: grad.collect(),
    }
}

/// SGD as PyTorch has it, with heavy-ball momentum and weight decay.
#[derive(Clone, Copy)]
pub struct Sgd {
    pub lr: f64,
    pub momentum: f64,
    pub decay: f64,
}

/// What training a linear model gives.
pub struct Trained {
    pub row: Vec<f64>,
    /// Loss and correctness of every picture of the last epoch, each at its own step.
    pub last_epoch: Vec<(f64, bool)>,
}

/// Trains a linear model from `row` (`[10][784]` weights, then biases, as `layout` has them) on epochs of batches of
/// training pictures.
pub fn train_linear(layout: &Layout, row: &[f64], dataset: &Dataset, epochs: &[Vec<Vec<u32>>], rule: Sgd) -> Trained {
    let (weight, bias) = (&layout.tensors[0], &layout.tensors[1]);
    let size = weight.shape[1];
    let mut row = row.to_vec();
    let mut velocity = vec![0.0; row.len()];
    let mut last_epoch = Vec::new();
    for epoch in epochs {
        last_epoch.clear();
        for batch in epoch {
            let mut grad = vec![0.0; row.len()];
            for example in batch {
                let image = picture(dataset, &dataset.train, *example as usize);
                let label = usize::from(dataset.train.labels[*example as usize]);
                let verdict = judge(&logits(layout, &row, &image, &|_, _| true), label);
                last_epoch.push((verdict.loss, verdict.right));
                for (class, g) in verdict.grad.iter().enumerate() {
                    let g = g / batch.len() as f64;
                    let at = weight.at + class * size;
                    grad[at..at + size].iter_mut().zip(&image).for_each(|(sum, x)| *sum += g * x);
                    grad[bias.at + class] += g;
                }
            }
            for ((w, v), g) in row.iter_mut().zip(&mut velocity).zip(&grad) {
                *v = rule.momentum * *v + (g + rule.decay * *w);
                *w -= rule.lr * *v;
            }
        }
    }
    Trained { row, last_epoch }
}
