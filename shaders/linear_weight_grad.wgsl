// Gradient of a fully connected layer's weights and biases, through its ReLU:
//   grads[weights_at + m N + n] = sum over images of dZ[m] X[n]       grads[bias_at + m] = sum over images of dZ[m]
// where dZ is output_grad, and 0 where the ReLU's output is 0.
//
// A thread owns 8 outputs and 8 inputs; the bias is the weight of an input that is always 1. The sums run over the
// images in ascending order, four at a time.

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
}

@group(0) @binding(0) var<storage, read> input: array<vec4f>;
@group(0) @binding(1) var<storage, read> output: array<vec4f>;
@group(0) @binding(2) var<storage, read> output_grad: array<vec4f>;
@group(0) @binding(3) var<storage, read> counts: array<u32>;
@group(0) @binding(4) var<storage, read_write> grads: array<f32>;
@group(0) @binding(5) var<uniform> p: Params;

const TILE = 8u;    // outputs, and inputs, of a thread

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let quads = p.stride / 4u;
    // The input past the last is the 1 of the biases.
    let tiles = (p.inputs + TILE) / TILE;
    let item = (group.x + group.y * 65535u) * 64u + lane;
    let first_n = item % tiles * TILE;
    let first_m = item / tiles * TILE;
    if (first_m >= p.outputs) {
        return;
    }
    let last_n = p.inputs - 1u;
    let last_m = p.outputs - 1u;

    //@ for i in 0..8
    //@ for j in 0..8
    var s$i_$j = 0.0;
    //@ end
    let z$i_at = (slot * p.outputs + min(first_m + $iu, last_m)) * quads;
    let x$i_at = (slot * p.inputs + min(first_n + $iu, last_n)) * quads;
    //@ end
    let end = (min(counts[p.counts_at + slot], p.stride) + 3u) / 4u;
    for (var quad = 0u; quad < end; quad++) {
        //@ for j in 0..8
        let x$j = select(input[x$j_at + quad], vec4f(1.0), first_n + $ju == p.inputs);
        //@ end
        //@ for i in 0..8
        var z$i = output_grad[z$i_at + quad];
        if (p.relu != 0u) {
            z$i = select(z$i, vec4f(0.0), output[z$i_at + quad] == vec4f(0.0));
        }
        //@ for j in 0..8
        s$i_$j += dot(z$i, x$j);
        //@ end
        //@ end
    }

    let to = slot * p.row_words;
    //@ for i in 0..8
    //@ for j in 0..8
    if (first_m + $iu <= last_m && first_n + $ju <= p.inputs) {
        let weight = p.weights_at + (first_m + $iu) * p.inputs + first_n + $ju;
        grads[to + select(weight, p.bias_at + first_m + $iu, first_n + $ju == p.inputs)] = s$i_$j;
    }
    //@ end
    //@ end
}
