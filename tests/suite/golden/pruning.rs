//! Pruning where it is delicate: tensors full of ties, filters below every threshold, filters of zeros.

use fedcircuit::device::Device;
use fedcircuit::kernels::magnitude_threshold::magnitude_threshold;
use fedcircuit::kernels::prune::prune;
use fedcircuit::kernels::shape::Rows;

use super::check::Golden;
use super::{on_every_device, upload};

const LEVELS: [(&str, f64); 4] = [("00", 0.0), ("50", 0.5), ("90", 0.9), ("995", 0.995)];
const MIN_ALIVE: u32 = 4;

/// A tensor of the golden file.
struct Case {
    name: &'static str,
    /// Convolution or linear: the number of filters, and the floor of survivors in each.
    filters: u32,
    floor: u32,
}

const CASES: [Case; 4] = [
    Case { name: "conv", filters: 8, floor: MIN_ALIVE },
    // Three weights a filter: fewer than the floor asks for.
    Case { name: "conv_1x1", filters: 5, floor: 3 },
    Case { name: "linear", filters: 10, floor: 0 },
    Case { name: "zeros", filters: 10, floor: 0 },
];

/// The four tensors as one row, and a slot for each level.
struct Rowed {
    row: Vec<u32>,
    /// `[tensors][4]`, `[filters][4]` and `[slots][tensors]`, as the kernels want them.
    tensors: Vec<u32>,
    filters: Vec<u32>,
    keeps: Vec<u32>,
}

fn rowed(golden: &Golden) -> Rowed {
    let mut all = Rowed { row: Vec::new(), tensors: Vec::new(), filters: Vec::new(), keeps: Vec::new() };
    for (number, case) in (0..).zip(&CASES) {
        let weights = golden.words(&format!("{}.input", case.name));
        let (at, words) = (all.row.len() as u32, weights.len() as u32);
        let size = words / case.filters;
        all.row.extend(weights);
        all.row.resize(all.row.len().next_multiple_of(4), 0);
        all.tensors.extend([at, words, 0, 0]);
        all.filters.extend((0..case.filters).flat_map(|f| [at + f * size, size, number, case.floor]));
    }
    for (_, sparsity) in LEVELS {
        let keep = |t: &[u32]| (((1.0 - sparsity) * f64::from(t[1])) as u32).max(1);
        all.keeps.extend(all.tensors.chunks(4).map(keep));
    }
    all
}

/// Thresholds, `[slots][tensors]`, and pruned weights, `[slots][row]`.
fn pruned(device: &dyn Device, all: &Rowed) -> (Vec<u32>, Vec<u32>) {
    let rows = Rows { slots: LEVELS.len(), words: all.row.len() };
    let weights = upload(device, &all.row.repeat(LEVELS.len()));
    let [tensors, filters, keeps] = [&all.tensors, &all.filters, &all.keeps].map(|table| upload(device, table));
    let thresholds = device.alloc("thresholds", LEVELS.len() * CASES.len()).unwrap();
    magnitude_threshold(device, rows, weights.all(), tensors.all(), keeps.all(), 0, thresholds.all()).unwrap();
    prune(device, rows, CASES.len(), filters.all(), thresholds.all(), weights.all()).unwrap();
    let mut read = pollster::block_on(device.read(&[thresholds.all(), weights.all()])).unwrap();
    let weights = read.pop().unwrap();
    (read.pop().unwrap(), weights)
}

#[test]
fn golden_prune() {
    let golden = Golden::open("prune");
    let all = rowed(&golden);
    on_every_device(|device| {
        let (thresholds, weights) = pruned(device, &all);
        for (slot, (level, _)) in LEVELS.iter().enumerate() {
            for (t, case) in CASES.iter().enumerate() {
                let place = format!("{}: {}.mask_{level}", device.info().kind, case.name);
                let mask = golden.words(&format!("{}.mask_{level}", case.name));
                let input = golden.words(&format!("{}.input", case.name));
                let at = slot * all.row.len() + all.tensors[4 * t] as usize;
                let want: Vec<u32> = input.iter().zip(mask).map(|(w, kept)| w * kept).collect();
                assert_eq!(weights[at..at + want.len()], want, "{place}");
                // Whether a zero survived does not show in the weights; in the threshold it does.
                if case.floor == 0 {
                    let threshold = f32::from_bits(thresholds[slot * CASES.len() + t]);
                    let kept: Vec<u32> = input.iter().map(|w| (f32::from_bits(*w).abs() >= threshold).into()).collect();
                    assert_eq!(kept, mask, "{place}: threshold {threshold}");
                }
            }
        }
    });
    golden.all_used("");
}
