// Adds the weighted rows of all clients to the running sums of their replicates, in the order of the clients:
//   sums[r][i] = (..((sums[r][i] + scale[a] rows[a][i]) + scale[b] rows[b][i]) + ..), a, b, .. the slots of replicate r
// so that how clients are split into waves changes no bit, nor does what other replicates there are.

struct Params {
    quads: u32,  // vec4s of a row
}

@group(0) @binding(0) var<storage, read> rows: array<vec4f>;
@group(0) @binding(1) var<storage, read> scales: array<f32>;
@group(0) @binding(2) var<storage, read> starts: array<u32>;  // [R + 1]: where each replicate's part of `slots` begins
@group(0) @binding(3) var<storage, read> slots: array<u32>;   // [K]: slots, replicate by replicate
@group(0) @binding(4) var<storage, read_write> sums: array<vec4f>;
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * 65535u) * 64u + lane;
    if (i >= p.quads) {
        return;
    }
    var total = sums[group.z * p.quads + i];
    let end = starts[group.z + 1u];
    var at = starts[group.z];
    // By fours, so that the reads of four rows are under way at a time.
    for (; at + 4u <= end; at += 4u) {
        //@ for j in 0..4
        let k$j = slots[at + $ju];
        let term$j = scales[k$j] * rows[k$j * p.quads + i];
        //@ end
        //@ for j in 0..4
        total += term$j;
        //@ end
    }
    for (; at < end; at++) {
        let k = slots[at];
        let term = scales[k] * rows[k * p.quads + i];
        total += term;
    }
    sums[group.z * p.quads + i] = total;
}
