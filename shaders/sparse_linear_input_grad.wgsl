// linear_input_grad over the surviving weights alone: the same sums with their zero terms left out, in the same order.
//   dX[n] = sum over n's list of W[m][n] dZ[m], where dZ is output_grad, and 0 where the ReLU's output is 0
// Outputs whose gates are closed are left out.
// An entry of the list is m << 8.
//
// A thread owns one input for 4 images.

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

@group(0) @binding(0) var<storage, read> output: array<vec4f>;
@group(0) @binding(1) var<storage, read> output_grad: array<vec4f>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
@group(0) @binding(5) var<storage, read> gates: array<f32>;
@group(0) @binding(6) var<storage, read> lists: array<u32>;
@group(0) @binding(7) var<storage, read_write> input_grad: array<vec4f>;
@group(0) @binding(8) var<uniform> p: Params;

// Whether nothing passes an output.
fn closed(slot: u32, m: u32) -> bool {
    if (p.gate_words == 0u) {
        return false;
    }
    return gates[slot * p.gate_words + p.gates_at + m] == 0.0;
}

// dZ: what of the gradient passes the ReLU.
fn passed(at: u32) -> vec4f {
    let grad = output_grad[at];
    if (p.relu == 0u) {
        return grad;
    }
    return select(grad, vec4f(0.0), output[at] == vec4f(0.0));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let quads = p.stride / 4u;
    let item = (group.x + group.y * 65535u) * 64u + lane;
    let quad = item % quads;
    let n = item / quads;
    if (n >= p.inputs) {
        return;
    }
    let count = counts[p.counts_at + slot];
    var d = vec4f(0.0);
    if (4u * quad < count) {
        let row = rows[slot];
        let weights_at = row * p.row_words + p.weights_at + n;
        let entries = row * p.list_words + p.lists_at + n * p.outputs;
        let end = entries + lists[row * p.list_words + p.list_counts_at + n];
        let at = slot * p.outputs * quads + quad;
        for (var e = entries; e < end; e++) {
            let m = lists[e] >> 8u;
            if (closed(slot, m)) {
                continue;
            }
            d += weights[weights_at + m * p.inputs] * passed(at + m * quads);
        }
    }
    let live = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u) < vec4u(count);
    input_grad[(slot * p.inputs + n) * quads + quad] = select(vec4f(0.0), d, live);
}
