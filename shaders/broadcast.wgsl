// Copies a row to every slot, each its own: rows[k][i] = models[which[k]][i].

struct Params {
    quads: u32,  // vec4s of a row
}

@group(0) @binding(0) var<storage, read> models: array<vec4u>;
@group(0) @binding(1) var<storage, read> which: array<u32>;
@group(0) @binding(2) var<storage, read_write> rows: array<vec4u>;
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = (group.x + group.y * 65535u) * 64u + lane;
    if (i >= p.quads) {
        return;
    }
    rows[group.z * p.quads + i] = models[which[group.z] * p.quads + i];
}
