// Adds the weighted rows of all clients to a running sum, in the order of the clients:
//   sum[i] = (..((sum[i] + scale[0] rows[0][i]) + scale[1] rows[1][i]) + ..)
// so that how clients are split into waves changes no bit.

struct Params {
    quads: u32,  // vec4s of a row
    slots: u32,  // K
}

@group(0) @binding(0) var<storage, read> rows: array<vec4f>;
@group(0) @binding(1) var<storage, read> scales: array<f32>;
@group(0) @binding(2) var<storage, read_write> sum: array<vec4f>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * 65535u) * 64u + lane;
    if (i >= p.quads) {
        return;
    }
    var total = sum[i];
    for (var k = 0u; k < p.slots; k++) {
        let term = scales[k] * rows[k * p.quads + i];
        total += term;
    }
    sum[i] = total;
}
