// What gates leave of a layer's values z before its activation, and what stands in for the rest:
//   v[m][y][x] = z[m][y][x] where gate m is open, fill elsewhere      (fill: a number a channel, or another image's z)
//   output     = relu(maximum of v over the window)      code = place of the first maximum, 4 where no gradient passes
// An invocation makes one output of four images.

struct Params {
    slots: u32,
    quads: u32,         // B / 4
    channels: u32,      // M
    height: u32,        // of z
    width: u32,
    out_height: u32,    // of the output, after the pooling
    out_width: u32,
    pool: u32,          // 1 or 2
    relu: u32,
    gate_words: u32,    // G
    gates_at: u32,
    counts_at: u32,
    donors: u32,        // 1: fill is another image's z; 0: fill is [slots][G]
}

@group(0) @binding(0) var<storage, read> z: array<vec4f>;           // [slots][M][H][W][B]
@group(0) @binding(1) var<storage, read> fill: array<f32>;
@group(0) @binding(2) var<storage, read> gates: array<f32>;         // [slots][G], hard
@group(0) @binding(3) var<storage, read> counts: array<u32>;
@group(0) @binding(4) var<storage, read_write> output: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> codes: array<u32>;
@group(0) @binding(6) var<uniform> p: Params;

const DEAD = 4u;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = (group.x + group.y * 65535u) * 64u + lane;
    let slot = group.z;
    let pixels = p.out_height * p.out_width;
    if (item >= p.channels * pixels * p.quads) {
        return;
    }
    let quad = item % p.quads;
    let pixel = item / p.quads % pixels;
    let channel = item / p.quads / pixels;
    let gate = slot * p.gate_words + p.gates_at + channel;
    let open = gates[gate] > 0.0;
    let plane = (slot * p.channels + channel) * p.height * p.width;
    let y = pixel / p.out_width * p.pool;
    let x = pixel % p.out_width * p.pool;
    var best = vec4f(0.0);
    var place = vec4u(0u);
    for (var i = 0u; i < p.pool * p.pool; i++) {
        let at = (plane + (y + i / p.pool) * p.width + x + i % p.pool) * p.quads + quad;
        var v = z[at];
        if (!open) {
            if (p.donors != 0u) {
                v = vec4f(fill[4u * at], fill[4u * at + 1u], fill[4u * at + 2u], fill[4u * at + 3u]);
            } else {
                v = vec4f(fill[gate]);
            }
        }
        let first = vec4<bool>(i == 0u);
        place = select(place, vec4u(i), (v > best) & !first);
        best = select(best, v, (v > best) | first);
    }
    let dead = vec4<bool>(p.relu != 0u) & (best <= vec4f(0.0));
    let live = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u) < vec4u(counts[p.counts_at + slot]);
    let to = ((slot * p.channels + channel) * pixels + pixel) * p.quads + quad;
    output[to] = select(vec4f(0.0), best, live & !dead);
    let c = select(vec4u(0u), select(place, vec4u(DEAD), dead), live);
    codes[to] = c.x | (c.y << 8u) | (c.z << 16u) | (c.w << 24u);
}
