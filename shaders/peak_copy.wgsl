// The device's rate of moving memory: copied[i] = source[i]. A thread moves several vec4s, or starting threads takes longer than
// moving.

struct Params {
    quads: u32,  // vec4s
}

@group(0) @binding(0) var<storage, read> source: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> copied: array<vec4u>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let first = (group.x + group.y * 65535u) * 512u + lane;
    if (first + 448u < p.quads) {
        //@ for j in 0..8
        let v$j = source[first + 64u * $ju];
        //@ end
        //@ for j in 0..8
        copied[first + 64u * $ju] = v$j;
        //@ end
        return;
    }
    for (var i = first; i < p.quads; i += 64u) {
        copied[i] = source[i];
    }
}
