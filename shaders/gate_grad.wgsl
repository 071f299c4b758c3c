// The loss by every channel's gate: gate_grads[slot][gates_at + m] = sum over pixels and images of output * its gradient.
// One workgroup a channel and slot. Lane l takes the images l % 32, l % 32 + 32, ... and of each the pixels l / 32,
// l / 32 + 2, ...; then the lanes are added as one fixed tree, so that no bit depends on B.

struct Params {
    stride: u32,      // B
    channels: u32,    // M
    pixels: u32,      // H x W of the output
    gate_words: u32,  // G
    gates_at: u32,
}

@group(0) @binding(0) var<storage, read> output: array<f32>;
@group(0) @binding(1) var<storage, read> output_grad: array<f32>;
@group(0) @binding(2) var<storage, read_write> gate_grads: array<f32>;
@group(0) @binding(3) var<uniform> p: Params;

var<workgroup> lanes: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let first = (group.y * p.channels + group.x) * p.pixels * p.stride;
    var own = 0.0;
    for (var b = lane % 32u; b < p.stride; b += 32u) {
        for (var pixel = lane / 32u; pixel < p.pixels; pixel += 2u) {
            let i = first + pixel * p.stride + b;
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
        gate_grads[group.y * p.gate_words + p.gates_at + group.x] = lanes[0];
    }
}
