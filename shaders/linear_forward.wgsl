// A fully connected layer with bias, gates and an optional ReLU:
//   output[m] = relu((sum over n of W[m][n] X[n] + bias[m]) * gate[m])
//
// A thread owns $TILE outputs for $SPAN times 4 images. The sums run over n in ascending order; the bias comes last.
//
// $TILE, $SPAN and $TURN are what variants differ in: outputs of a thread, its vec4s of images, and the inputs, by fours, whose
// loads it has under way at a time.

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

const TILE = $TILEu;    // outputs of a thread
const TURN = 4u * $TURNu;   // inputs of a turn
const SPAN = $SPANu;        // vec4s of images of a thread

// Word `at` of the parameters.
fn word(at: u32) -> f32 {
    return weights[at >> 2u][at & 3u];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let quads = p.stride / 4u;
    let item = (group.x + group.y * 65535u) * 64u + lane;
    // A thread's vec4s lie apart, so that threads side by side read side by side.
    let part = (quads + SPAN - 1u) / SPAN;
    let first = item / part * TILE;
    //@ for q in 0..$SPAN
    let quad$q = item % part + $qu * part;
    //@ end
    if (first >= p.outputs) {
        return;
    }
    let row = rows[slot] * p.row_words;
    let count = counts[p.counts_at + slot];
    let last = p.outputs - 1u;

    //@ for m in 0..$TILE
    //@ for q in 0..$SPAN
    var z$m_$q = vec4f(0.0);
    //@ end
    let m$m = min(first + $mu, last);
    let w$m = row + p.weights_at + m$m * p.inputs;
    //@ end
    if (4u * quad0 < count) {
        //@ for q in 0..$SPAN
        var at$q = slot * p.inputs * quads + min(quad$q, quads - 1u);
        //@ end
        var n = 0u;
        // By fours where every row of them starts at a vec4.
        if (((p.weights_at | p.inputs) & 3u) == 0u) {
            for (; n + TURN <= p.inputs; n += TURN) {
                //@ for k in 0..$TURN
                //@ for i in 0..4
                //@ for q in 0..$SPAN
                let x$k_$i_$q = input[at$q + (4u * $ku + $iu) * quads];
                //@ end
                //@ end
                //@ end
                //@ for m in 0..$TILE
                //@ for k in 0..$TURN
                let f$m_$k = weights[((w$m + n) >> 2u) + $ku];
                //@ for q in 0..$SPAN
                z$m_$q = z$m_$q + f$m_$k.x * x$k_0_$q + f$m_$k.y * x$k_1_$q + f$m_$k.z * x$k_2_$q + f$m_$k.w * x$k_3_$q;
                //@ end
                //@ end
                //@ end
                //@ for q in 0..$SPAN
                at$q += TURN * quads;
                //@ end
            }
        }
        for (; n < p.inputs; n++) {
            //@ for q in 0..$SPAN
            let x$q = input[at$q];
            at$q += quads;
            //@ end
            //@ for m in 0..$TILE
            let f$m = word(w$m + n);
            //@ for q in 0..$SPAN
            z$m_$q += f$m * x$q;
            //@ end
            //@ end
        }
    }

    //@ for q in 0..$SPAN
    let live$q = vec4u(4u * quad$q) + vec4u(0u, 1u, 2u, 3u) < vec4u(count);
    //@ end
    //@ for m in 0..$TILE
    if (first + $mu <= last) {
        var gate = 1.0;
        if (p.gate_words > 0u) {
            gate = gates[slot * p.gate_words + p.gates_at + m$m];
        }
        let bias = word(row + p.bias_at + m$m);
        //@ for q in 0..$SPAN
        var z$q = (z$m_$q + bias) * gate;
        if (p.relu != 0u) {
            // Behind a closed gate nothing is left of a sum, whatever it is.
            z$q = select(z$q, vec4f(0.0), (z$q <= vec4f(0.0)) | vec4<bool>(gate == 0.0));
        }
        if (quad$q < quads) {
            output[(slot * p.outputs + m$m) * quads + quad$q] = select(vec4f(0.0), z$q, live$q);
        }
        //@ end
    }
    //@ end
}
