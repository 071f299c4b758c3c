// One Adam step on the parameters of all training clients (Kingma & Ba 2015, algorithm 1, as PyTorch computes it):
//   m = m + (1 - beta1) (g - m)        v = beta2 v + (1 - beta2) g^2
//   w = w - step_size * m / (sqrt(v) / bias2 + eps)
// Each client has a step size of its own.

struct Params {
    quads: u32,         // vec4s of a client
    sizes_at: u32,      // the first client's step size
    bias2: f32,         // sqrt(1 - beta2^t)
    eps: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    weight_decay: f32,  // added to the gradient as weight_decay * w
}

@group(0) @binding(0) var<storage, read> step_sizes: array<f32>;  // lr / (1 - beta1^t)
@group(0) @binding(1) var<storage, read> grads: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> weights: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> first: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> second: array<vec4f>;
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let quad = (group.x + group.y * 65535u) * 64u + lane;
    if (quad >= p.quads) {
        return;
    }
    let i = group.z * p.quads + quad;
    let w = weights[i];
    let g = grads[i] + p.weight_decay * w;
    let m = first[i] + p.one_minus_beta1 * (g - first[i]);
    let v = p.beta2 * second[i] + p.one_minus_beta2 * g * g;
    first[i] = m;
    second[i] = v;
    weights[i] = w - step_sizes[p.sizes_at + group.z] * (m / (sqrt(v) / p.bias2 + p.eps));
}
