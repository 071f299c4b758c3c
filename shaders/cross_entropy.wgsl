// Softmax cross-entropy of a batch: its gradient, the sum of the losses, and the number of images guessed right.
//   loss = log(sum_c exp(x_c - m)) - (x_target - m)        grad = (softmax - onehot) / count,   m = max_c x_c
// One workgroup a slot. Lane l takes the images l, l + 64, ... in order, then the lanes are added as one fixed tree, so
// that no bit depends on B. A NaN among the logits passes through exp and the sum into the loss.

struct Params {
    stride: u32,     // B
    classes: u32,
    counts_at: u32,
    stats_at: u32,
}

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> counts: array<u32>;
@group(0) @binding(3) var<storage, read_write> grad: array<f32>;
@group(0) @binding(4) var<storage, read_write> stats: array<u32>;
@group(0) @binding(5) var<uniform> p: Params;

var<workgroup> losses: array<f32, 64>;
var<workgroup> hits: array<u32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.x;
    let row = slot * p.classes * p.stride;
    let count = counts[p.counts_at + slot];
    var loss = 0.0;
    var right = 0u;
    for (var b = lane; b < p.stride; b += 64u) {
        if (b >= count) {
            for (var c = 0u; c < p.classes; c++) {
                grad[row + c * p.stride + b] = 0.0;
            }
            continue;
        }
        var best = logits[row + b];
        var guess = 0u;
        for (var c = 1u; c < p.classes; c++) {
            let x = logits[row + c * p.stride + b];
            if (x > best) {
                best = x;
                guess = c;
            }
        }
        let label = targets[slot * p.stride + b];
        var total = 0.0;
        var own = 0.0;
        for (var c = 0u; c < p.classes; c++) {
            let x = logits[row + c * p.stride + b] - best;
            total += exp(x);
            own = select(own, x, c == label);
        }
        for (var c = 0u; c < p.classes; c++) {
            let share = exp(logits[row + c * p.stride + b] - best) / total;
            grad[row + c * p.stride + b] = (share - select(0.0, 1.0, c == label)) / f32(count);
        }
        loss += log(total) - own;
        right += select(0u, 1u, guess == label);
    }
    losses[lane] = loss;
    hits[lane] = right;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            losses[lane] += losses[lane + half];
            hits[lane] += hits[lane + half];
        }
    }
    if (lane == 0u) {
        stats[p.stats_at + 2u * slot] = bitcast<u32>(losses[0]);
        stats[p.stats_at + 2u * slot + 1u] = hits[0];
    }
}
