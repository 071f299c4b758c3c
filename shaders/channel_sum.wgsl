// Scaled sums over pixels and images, channel by channel: sums[slot][gates_at + m] += scales[slot] * sum of values.
// One workgroup a channel and slot; lanes and the order of their sum as in gate_grad.wgsl.

struct Params {
    quads: u32,         // B / 4
    channels: u32,      // M
    pixels: u32,
    gate_words: u32,    // G
    gates_at: u32,
}

@group(0) @binding(0) var<storage, read> values: array<vec4f>;      // [slots][M][pixels][B], 0 beyond the images
@group(0) @binding(1) var<storage, read> scales: array<f32>;        // [slots]
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;    // [slots][G]
@group(0) @binding(3) var<uniform> p: Params;

var<workgroup> lanes: array<vec4f, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let first = (group.y * p.channels + group.x) * p.pixels * p.quads;
    var own = vec4f(0.0);
    for (var pixel = lane / 8u; pixel < p.pixels; pixel += 8u) {
        for (var quad = lane % 8u; quad < p.quads; quad += 8u) {
            own += values[first + pixel * p.quads + quad];
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
        sums[group.y * p.gate_words + p.gates_at + group.x] += scales[group.y] * (pair.x + pair.y);
    }
}
