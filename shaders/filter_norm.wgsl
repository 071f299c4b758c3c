// The L1 norm of the filter behind every gate: scores[slot][gate] = sum of |w| over the weights of the gate's channel, in
// their order.

struct Params {
    slots: u32,
    gate_words: u32,    // G
    row_words: u32,     // P
}

@group(0) @binding(0) var<storage, read> weights: array<f32>;       // [rows][P]
@group(0) @binding(1) var<storage, read> rows: array<u32>;          // [slots]
@group(0) @binding(2) var<storage, read> filters: array<vec2u>;     // [G]: first word in the row, and words
@group(0) @binding(3) var<storage, read_write> scores: array<f32>;  // [slots][G]
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * 65535u) * 64u + lane;
    if (i >= p.slots * p.gate_words) {
        return;
    }
    let own = filters[i % p.gate_words];
    let first = rows[i / p.gate_words] * p.row_words + own.x;
    var sum = 0.0;
    for (var w = 0u; w < own.y; w++) {
        sum += abs(weights[first + w]);
    }
    scores[i] = sum;
}
