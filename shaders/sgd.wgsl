// One step of stochastic gradient descent on the parameters of all training clients, as PyTorch computes it:
//   g = grad + weight_decay w        v = g at the first step, else momentum v + g        w = w - lr v
// Without momentum v is g, and the buffer is left alone. Each client has a learning rate of its own.

struct Params {
    quads: u32,         // vec4s of a client
    first: u32,         // 1 at a client's first step
    momentum: f32,
    weight_decay: f32,
}

@group(0) @binding(0) var<storage, read> rates: array<f32>;
@group(0) @binding(1) var<storage, read> grads: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> weights: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> velocity: array<vec4f>;
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let quad = (group.x + group.y * 65535u) * 64u + lane;
    if (quad >= p.quads) {
        return;
    }
    let i = group.z * p.quads + quad;
    let w = weights[i];
    var g = grads[i] + p.weight_decay * w;
    if (p.momentum != 0.0) {
        if (p.first == 0u) {
            g = p.momentum * velocity[i] + g;
        }
        velocity[i] = g;
    }
    weights[i] = w - rates[group.z] * g;
}
