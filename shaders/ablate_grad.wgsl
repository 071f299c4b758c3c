// The loss by every gate where closed channels give something else than zero, v = m z + (1 - m) fill:
//   gate_grads[slot][gates_at + m] = sum over outputs and images of gradient * (z - fill) at the place the code names
// and, where the gate is closed, the gradient set to zero: dv/dz = m.
// One workgroup a channel and slot; lanes and the order of their sum as in gate_grad.wgsl.

struct Params {
    slots: u32,
    quads: u32,
    channels: u32,
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    pool: u32,
    relu: u32,
    gate_words: u32,
    gates_at: u32,
    counts_at: u32,
    donors: u32,
}

@group(0) @binding(0) var<storage, read> z: array<f32>;             // [slots][M][H][W][B]
@group(0) @binding(1) var<storage, read> fill: array<f32>;
@group(0) @binding(2) var<storage, read> gates: array<f32>;         // [slots][G], hard
@group(0) @binding(3) var<storage, read> codes: array<u32>;
@group(0) @binding(4) var<storage, read_write> output_grad: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> gate_grads: array<f32>;
@group(0) @binding(6) var<uniform> p: Params;

const DEAD = 4u;

var<workgroup> lanes: array<vec4f, 64>;

// z - fill of image `image` at the place `code` of the window whose first value is at `first`.
fn difference(first: u32, code: u32, image: u32, gate: u32) -> f32 {
    // Where it passes nothing, the first place is read, which is there whatever the window's size.
    let place = select(code, 0u, code >= DEAD);
    let at = (first + place / p.pool * p.width + place % p.pool) * 4u * p.quads + image;
    let instead = fill[select(gate, at, p.donors != 0u)];
    return select(z[at] - instead, 0.0, code >= DEAD);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slot = group.y;
    let channel = slot * p.channels + group.x;
    let gate = slot * p.gate_words + p.gates_at + group.x;
    let closed = gates[gate] <= 0.0;
    let pixels = p.out_height * p.out_width;
    var own = vec4f(0.0);
    for (var pixel = lane / 8u; pixel < pixels; pixel += 8u) {
        let first = (channel * p.height + pixel / p.out_width * p.pool) * p.width + pixel % p.out_width * p.pool;
        for (var quad = lane % 8u; quad < p.quads; quad += 8u) {
            let at = (channel * pixels + pixel) * p.quads + quad;
            let code = codes[at];
            let image = 4u * quad;
            let d = vec4f(
                difference(first, code & 0xffu, image, gate),
                difference(first, (code >> 8u) & 0xffu, image + 1u, gate),
                difference(first, (code >> 16u) & 0xffu, image + 2u, gate),
                difference(first, code >> 24u, image + 3u, gate),
            );
            own += output_grad[at] * d;
            if (closed) {
                output_grad[at] = vec4f(0.0);
            }
        }
    }
    lanes[lane] = own;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            lanes[lane] += lanes[lane + half];
        }
    }
    if (lane == 0u) {
        let pair = lanes[0].xy + lanes[0].zw;
        gate_grads[gate] = pair.x + pair.y;
    }
}
