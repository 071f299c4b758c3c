// linear_forward over the surviving weights alone: the same sums with their zero terms left out, in the same order.
//   output[m] = relu((sum over m's list of W[m][n] X[n] + bias[m]) * gate[m])
// An entry of the list is n << 8.
//
// A thread owns one output for 4 images. The bias comes last.

struct Params {
    slots: u32,
    stride: u32,        // B, a multiple of 4
    inputs: u32,        // N
    outputs: u32,       // M
    relu: u32,
    row_words: u32,     // P
    weights_at: u32,
    bias_at: u32,
    counts_at: u32,
    gate_words: u32,    // G, or 0 where no gates apply
    gates_at: u32,
    reserved: u32,
    list_words: u32,    // S
    lists_at: u32,
    list_counts_at: u32,
    reserved_too: u32,
}

@group(0) @binding(0) var<storage, read> input: array<vec4f>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read> counts: array<u32>;
@group(0) @binding(4) var<storage, read> gates: array<f32>;
@group(0) @binding(5) var<storage, read> lists: array<u32>;
@group(0) @binding(6) var<storage, read_write> output: array<vec4f>;
@group(0) @binding(7) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let quads = p.stride / 4u;
    let item = (group.x + group.y * 65535u) * 64u + lane;
    let quad = item % quads;
    let m = item / quads;
    if (m >= p.outputs) {
        return;
    }
    let row = rows[slot];
    let count = counts[p.counts_at + slot];
    var gate = 1.0;
    if (p.gate_words > 0u) {
        gate = gates[slot * p.gate_words + p.gates_at + m];
    }
    var z = vec4f(0.0);
    // Behind a closed gate and a ReLU nothing is left of a sum.
    if (4u * quad < count && (gate != 0.0 || p.relu == 0u)) {
        let filter_at = row * p.row_words + p.weights_at + m * p.inputs;
        let entries = row * p.list_words + p.lists_at + m * p.inputs;
        let end = entries + lists[row * p.list_words + p.list_counts_at + m];
        let at = slot * p.inputs * quads + quad;
        for (var e = entries; e < end; e++) {
            let n = lists[e] >> 8u;
            z += weights[filter_at + n] * input[at + n * quads];
        }
    }
    let live = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u) < vec4u(count);
    z = (z + weights[row * p.row_words + p.bias_at + m]) * gate;
    if (p.relu != 0u) {
        // Behind a closed gate nothing is left of a sum, whatever it is.
        z = select(z, vec4f(0.0), (z <= vec4f(0.0)) | vec4<bool>(gate == 0.0));
    }
    output[(slot * p.outputs + m) * quads + quad] = select(vec4f(0.0), z, live);
}
