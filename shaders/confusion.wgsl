// Evaluation: adds a batch's images to a table of (class, guess) and their losses to a sum, call after call.
// One workgroup a slot; the sum runs as in cross_entropy.wgsl. The counters are whole numbers, so atomics keep the bits.

struct Params {
    stride: u32,     // B
    classes: u32,
    counts_at: u32,
}

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> counts: array<u32>;
@group(0) @binding(3) var<storage, read_write> counters: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> losses: array<f32>;
@group(0) @binding(5) var<uniform> p: Params;

var<workgroup> lanes: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.x;
    let row = slot * p.classes * p.stride;
    let count = min(counts[p.counts_at + slot], p.stride);
    var loss = 0.0;
    for (var b = lane; b < count; b += 64u) {
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
        loss += log(total) - own;
        if (label < p.classes) {
            atomicAdd(&counters[(slot * p.classes + label) * p.classes + guess], 1u);
        }
    }
    lanes[lane] = loss;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            lanes[lane] += lanes[lane + half];
        }
    }
    if (lane == 0u) {
        losses[slot] += lanes[0];
    }
}
