// The loss by every channel's gate: gate_grads[slot][gates_at + m] = sum over pixels and images of output * its gradient.
// One workgroup a channel and slot. A lane takes four images of every 32 and every eighth pixel; then the lanes are added
// as one fixed tree, so that no bit depends on B: what padding adds is 0.

struct Params {
    slots: u32,       // a row of workgroups each
    quads: u32,       // B / 4
    channels: u32,    // M
    pixels: u32,      // H x W of the output
    gate_words: u32,  // G
    gates_at: u32,
}

@group(0) @binding(0) var<storage, read> output: array<vec4f>;
@group(0) @binding(1) var<storage, read> output_grad: array<vec4f>;
@group(0) @binding(2) var<storage, read> hard: array<f32>;
@group(0) @binding(3) var<storage, read_write> gate_grads: array<f32>;
@group(0) @binding(4) var<uniform> p: Params;

var<workgroup> lanes: array<vec4f, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let gate = group.y * p.gate_words + p.gates_at + group.x;
    // A closed gate feels nothing. Its lanes still meet at the barriers, with nothing to add.
    let pixels = select(p.pixels, 0u, hard[gate] == 0.0);
    let first = (group.y * p.channels + group.x) * p.pixels * p.quads;
    var own = vec4f(0.0);
    for (var pixel = lane / 8u; pixel < pixels; pixel += 8u) {
        for (var quad = lane % 8u; quad < p.quads; quad += 8u) {
            let i = first + pixel * p.quads + quad;
            own += output[i] * output_grad[i];
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
