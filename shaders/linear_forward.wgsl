// A fully connected layer with bias, gates and an optional ReLU:
//   output[m] = relu((sum over n of W[m][n] X[n] + bias[m]) * gate[m])
//
// A thread owns 8 outputs for 4 images. The sums run over n in ascending order; the bias comes last.

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
@group(0) @binding(1) var<storage, read> weights: array<vec4f>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read> counts: array<u32>;
@group(0) @binding(4) var<storage, read> gates: array<f32>;
@group(0) @binding(5) var<storage, read_write> output: array<vec4f>;
@group(0) @binding(6) var<uniform> p: Params;

const TILE = 8u;    // outputs of a thread

// Word `at` of the parameters.
fn word(at: u32) -> f32 {
    return weights[at >> 2u][at & 3u];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let quads = p.stride / 4u;
    let item = (group.x + group.y * 65535u) * 64u + lane;
    let quad = item % quads;
    let first = item / quads * TILE;
    if (first >= p.outputs) {
        return;
    }
    let row = rows[slot] * p.row_words;
    let count = counts[p.counts_at + slot];
    let last = p.outputs - 1u;

    //@ for m in 0..8
    var z$m = vec4f(0.0);
    let m$m = min(first + $mu, last);
    let w$m = row + p.weights_at + m$m * p.inputs;
    //@ end
    if (4u * quad < count) {
        var at = slot * p.inputs * quads + quad;
        var n = 0u;
        // Four weights at a time where every row of them starts at a vec4.
        if (((p.weights_at | p.inputs) & 3u) == 0u) {
            for (; n < p.inputs; n += 4u) {
                //@ for i in 0..4
                let x$i = input[at];
                at += quads;
                //@ end
                //@ for m in 0..8
                let f$m = weights[(w$m + n) >> 2u];
                z$m = z$m + f$m.x * x0 + f$m.y * x1 + f$m.z * x2 + f$m.w * x3;
                //@ end
            }
        }
        for (; n < p.inputs; n++) {
            let x = input[at];
            at += quads;
            //@ for m in 0..8
            z$m += word(w$m + n) * x;
            //@ end
        }
    }

    let live = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u) < vec4u(count);
    //@ for m in 0..8
    if (first + $mu <= last) {
        var gate = 1.0;
        if (p.gate_words > 0u) {
            gate = gates[slot * p.gate_words + p.gates_at + m$m];
        }
        var z = (z$m + word(row + p.bias_at + m$m)) * gate;
        if (p.relu != 0u) {
            z = select(z, vec4f(0.0), z <= vec4f(0.0));
        }
        output[(slot * p.outputs + m$m) * quads + quad] = select(vec4f(0.0), z, live);
    }
    //@ end
}
