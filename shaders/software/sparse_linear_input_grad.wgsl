// sparse_linear_input_grad for software Vulkan, with the same terms in the same order; what is peculiar to it is told in
// sparse_conv_forward.wgsl beside this file. A subgroup owns eight inputs for 32 images, each lane the length of one's list:
// mostly there is none, and zeros are all there is to do.
//
// An entry of the list is m << 8.

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

@group(0) @binding(0) var<storage, read> output: array<$QUAD>;
@group(0) @binding(1) var<storage, read> output_grad: array<$QUAD>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
@group(0) @binding(5) var<storage, read> gates: array<f32>;
@group(0) @binding(6) var<storage, read> lists: array<u32>;
@group(0) @binding(7) var<storage, read_write> input_grad: array<$QUAD>;
@group(0) @binding(8) var<uniform> p: Params;

const LANES = 8u;   // threads of a subgroup, which read a chunk of 32 images

$NARROW

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.z;
    let quads = p.stride / 4u;
    let inputs = p.inputs;
    let outputs = p.outputs;
    let relu = p.relu != 0u;
    let gated = p.gate_words != 0u;
    let gates_at = slot * p.gate_words + p.gates_at;
    let count = counts[p.counts_at + slot];
    let row = rows[slot];
    let weights_at = row * p.row_words + p.weights_at;
    let lists_at = row * p.list_words + p.lists_at;
    let listed_at = row * p.list_words + p.list_counts_at;

    let tiles = (inputs + 63u) / 64u;
    let work = group.x + group.y * 65535u;
    let chunk = work / tiles;
    let own = lane % LANES;
    let first = (work - chunk * tiles) * 64u + lane / LANES * LANES;
    let quad = chunk * LANES + own;
    let in_batch = quad < quads;
    let live = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u) < vec4u(count);
    let to = slot * inputs * quads + quad;

    var length = 0u;
    if (first + own < inputs && 4u * (quad - own) < count) {
        length = lists[listed_at + first + own];
    }
    let listed = subgroupBallot(length > 0u).x;
    var n = first;
    loop {
        if (in_batch && n < inputs && ((listed >> (n - first)) & 1u) == 0u) {
            input_grad[to + n * quads] = vec2<u64>();
        }
        n += 1u;
        if (n == first + LANES) {
            break;
        }
    }
    var left = listed;
    if (left != 0u) {
        loop {
            let holder = firstTrailingBit(left);
            let end = subgroupShuffle(length, holder);
            let n = first + holder;
            var d = vec4f(0.0);
            var e = 0u;
            loop {
                if (in_batch) {
                    let m = lists[lists_at + n * outputs + e] >> 8u;
                    let at = (slot * outputs + m) * quads + quad;
                    // dZ: what of the gradient passes gate and ReLU.
                    var dz = narrow(output_grad[at]);
                    if (relu) {
                        dz = select(dz, vec4f(0.0), narrow(output[at]) == vec4f(0.0));
                    }
                    if (gated) {
                        dz = select(dz, vec4f(0.0), gates[gates_at + m] == 0.0);
                    }
                    d += weights[weights_at + m * inputs + n] * dz;
                }
                e += 1u;
                if (e == end) {
                    break;
                }
            }
            if (in_batch) {
                input_grad[to + n * quads] = wide(select(vec4f(0.0), d, live));
            }
            left &= left - 1u;
            if (left == 0u) {
                break;
            }
        }
    }
}
