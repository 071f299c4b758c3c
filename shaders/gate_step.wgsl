// One Adam step (adam.wgsl) on the gate logits of all slots, through the straight-through sigmoid:
//   g = (dL/dm + l0) s (1 - s),   s = sigmoid(logit);   hard = 1 where the new logit is positive, else 0
//   shown = hard, and 0 for channels that reach nothing (reach.wgsl)
// l0 is the price of an open gate: the gradient of l0 * sum of s by s.

struct Params {
    words: u32,         // gates of all slots together
    l0: f32,
    step_size: f32,     // lr / (1 - beta1^t)
    bias2: f32,         // from here on as in adam.wgsl
    eps: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    weight_decay: f32,
}

@group(0) @binding(0) var<storage, read> gate_grads: array<f32>;
@group(0) @binding(1) var<storage, read> reaching: array<f32>;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> first: array<f32>;
@group(0) @binding(4) var<storage, read_write> second: array<f32>;
@group(0) @binding(5) var<storage, read_write> hard: array<f32>;
@group(0) @binding(6) var<storage, read_write> shown: array<f32>;
@group(0) @binding(7) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * 65535u) * 64u + lane;
    if (i >= p.words) {
        return;
    }
    let logit = logits[i];
    let s = 1.0 / (1.0 + exp(-logit));
    let g = (gate_grads[i] + p.l0) * (s * (1.0 - s)) + p.weight_decay * logit;
    let m = first[i] + p.one_minus_beta1 * (g - first[i]);
    let v = p.beta2 * second[i] + p.one_minus_beta2 * g * g;
    let moved = logit - p.step_size * (m / (sqrt(v) / p.bias2 + p.eps));
    first[i] = m;
    second[i] = v;
    logits[i] = moved;
    hard[i] = select(0.0, 1.0, moved > 0.0);
    shown[i] = select(0.0, 1.0, moved > 0.0 && reaching[i] != 0.0);
}
