// Gradient of a fully connected layer's input, through its ReLU:
//   dX[n] = sum over m of W[m][n] dZ[m], where dZ is output_grad, and 0 where the ReLU's output is 0 or m's gate is closed
//
// A thread owns 16 inputs for $SPAN times 4 images, in which variants differ. The sums run over m in ascending order.

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

@group(0) @binding(0) var<storage, read> output: array<vec4f>;
@group(0) @binding(1) var<storage, read> output_grad: array<vec4f>;
@group(0) @binding(2) var<storage, read> weights: array<vec4f>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
@group(0) @binding(5) var<storage, read> gates: array<f32>;
@group(0) @binding(6) var<storage, read_write> input_grad: array<vec4f>;
@group(0) @binding(7) var<uniform> p: Params;

const TILE = 16u;   // inputs of a thread
const SPAN = $SPANu;    // its vec4s of images

// Word `at` of the parameters.
fn word(at: u32) -> f32 {
    return weights[at >> 2u][at & 3u];
}

// Whether nothing passes an output.
fn closed(slot: u32, m: u32) -> bool {
    if (p.gate_words == 0u) {
        return false;
    }
    return gates[slot * p.gate_words + p.gates_at + m] == 0.0;
}

// dZ: what of the gradient passes gate and ReLU.
fn passed(at: u32, closed: bool) -> vec4f {
    let grad = select(output_grad[at], vec4f(0.0), closed);
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
    // A thread's vec4s lie apart, so that threads side by side read side by side.
    let part = (quads + SPAN - 1u) / SPAN;
    let first = item / part * TILE;
    //@ for q in 0..$SPAN
    let quad$q = item % part + $qu * part;
    //@ end
    if (first >= p.inputs) {
        return;
    }
    let last = p.inputs - 1u;
    let count = counts[p.counts_at + slot];

    //@ for i in 0..4
    //@ for j in 0..4
    //@ for q in 0..$SPAN
    var d$i$j_$q = vec4f(0.0);
    //@ end
    //@ end
    // First of four neighbouring inputs.
    let n$i = first + 4u * $iu;
    //@ end
    if (4u * quad0 < count) {
        var w = rows[slot] * p.row_words + p.weights_at;
        //@ for q in 0..$SPAN
        var at$q = slot * p.outputs * quads + min(quad$q, quads - 1u);
        //@ end
        var m = 0u;
        // Four weights at a time where every row of them starts at a vec4; then the inputs come in fours too.
        if (((p.weights_at | p.inputs) & 3u) == 0u) {
            for (; m < p.outputs; m++) {
                let shut = closed(slot, m);
                //@ for q in 0..$SPAN
                let z$q = passed(at$q, shut);
                at$q += quads;
                //@ end
                //@ for i in 0..4
                let f$i = weights[(w + min(n$i, last)) >> 2u];
                //@ for j in 0..4
                //@ for q in 0..$SPAN
                d$i$j_$q += f$i[$j] * z$q;
                //@ end
                //@ end
                //@ end
                w += p.inputs;
            }
        }
        for (; m < p.outputs; m++) {
            let shut = closed(slot, m);
            //@ for q in 0..$SPAN
            let z$q = passed(at$q, shut);
            at$q += quads;
            //@ end
            //@ for i in 0..4
            //@ for j in 0..4
            let f$i$j = word(w + min(n$i + $ju, last));
            //@ for q in 0..$SPAN
            d$i$j_$q += f$i$j * z$q;
            //@ end
            //@ end
            //@ end
            w += p.inputs;
        }
    }

    //@ for q in 0..$SPAN
    let live$q = vec4u(4u * quad$q) + vec4u(0u, 1u, 2u, 3u) < vec4u(count);
    let to$q = slot * p.inputs * quads + quad$q;
    //@ for i in 0..4
    //@ for j in 0..4
    if (quad$q < quads && n$i + $ju <= last) {
        input_grad[to$q + (n$i + $ju) * quads] = select(vec4f(0.0), d$i$j_$q, live$q);
    }
    //@ end
    //@ end
    //@ end
}
