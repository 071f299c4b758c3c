// How many weights of every tensor of every client are not zero. One workgroup a tensor and slot.

struct Params {
    tensors: u32,
    row_words: u32,  // P
}

@group(0) @binding(0) var<storage, read> table: array<vec4u>;  // (at, words, -, -)
@group(0) @binding(1) var<storage, read> weights: array<u32>;
@group(0) @binding(2) var<storage, read_write> counts: array<u32>;
@group(0) @binding(3) var<uniform> p: Params;

var<workgroup> lanes: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let at = group.y * p.row_words + table[group.x].x;
    let words = table[group.x].y;
    var own = 0u;
    for (var i = lane; i < words; i += 256u) {
        own += select(0u, 1u, (weights[at + i] & 0x7fffffffu) != 0u);
    }
    lanes[lane] = own;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            lanes[lane] += lanes[lane + half];
        }
    }
    if (lane == 0u) {
        counts[group.y * p.tensors + group.x] = lanes[0];
    }
}
