// linear_weight_grad for hardware GPUs:
//   grads[weights_at + m N + n] = sum over images of dZ[m] X[n]       grads[bias_at + m] = sum over images of dZ[m]
// where dZ is output_grad, and 0 where the ReLU's output is 0.
//
// A workgroup owns 64 outputs and 64 inputs, a thread 8 of each; the bias is the weight of an input that is always 1. What
// they need of 8 images is brought to workgroup memory, or every thread would read rows that lie far apart. The sums run
// over the images in ascending order, four at a time.

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

const SIDE = 64u;   // outputs, and inputs, of a workgroup
const QUADS = 2u;   // vec4s of images at a time
const LINE = 65u;   // of a vec4 of images: one more than the rows, so that no two threads meet in a bank

// [QUADS][LINE], by row of the workgroup's.
var<workgroup> zs: array<vec4f, 130>;
var<workgroup> xs: array<vec4f, 130>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let quads = p.stride / 4u;
    // The input past the last is the 1 of the biases.
    let tiles = (p.inputs + SIDE) / SIDE;
    let item = group.x + group.y * 65535u;
    let first_n = item % tiles * SIDE;
    let first_m = item / tiles * SIDE;
    if (first_m >= p.outputs) {
        return;
    }
    let tx = lane % 8u;
    let ty = lane / 8u;
    //@ for i in 0..8
    //@ for j in 0..8
    var s$i_$j = 0.0;
    //@ end
    //@ end
    let end = (min(counts[p.counts_at + slot], p.stride) + 3u) / 4u;
    for (var first = 0u; first < end; first += QUADS) {
        let quad = first + lane % QUADS;
        //@ for k in 0..2
        {
            let row = lane / QUADS + 32u * $ku;
            let m = first_m + row;
            let n = first_n + row;
            var z = vec4f(0.0);
            var x = vec4f(select(0.0, 1.0, n == p.inputs));
            if (quad < end && m < p.outputs) {
                let at = (slot * p.outputs + m) * quads + quad;
                z = output_grad[at];
                if (p.relu != 0u) {
                    z = select(z, vec4f(0.0), output[at] == vec4f(0.0));
                }
            }
            if (quad < end && n < p.inputs) {
                x = input[(slot * p.inputs + n) * quads + quad];
            }
            zs[lane % QUADS * LINE + row] = z;
            xs[lane % QUADS * LINE + row] = x;
        }
        //@ end
        workgroupBarrier();
        for (var q = 0u; q < QUADS; q++) {
            //@ for j in 0..8
            let x$j = xs[q * LINE + tx + 8u * $ju];
            //@ end
            //@ for i in 0..8
            let z$i = zs[q * LINE + ty + 8u * $iu];
            //@ for j in 0..8
            s$i_$j += dot(z$i, x$j);
            //@ end
            //@ end
        }
        workgroupBarrier();
    }

    let to = slot * p.row_words;
    //@ for i in 0..8
    //@ for j in 0..8
    {
        let m = first_m + ty + 8u * $iu;
        let n = first_n + tx + 8u * $ju;
        if (m < p.outputs && n <= p.inputs) {
            grads[to + select(p.weights_at + m * p.inputs + n, p.bias_at + m, n == p.inputs)] = s$i_$j;
        }
    }
    //@ end
    //@ end
}
