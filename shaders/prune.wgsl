// Sets to +0 every weight below its tensor's threshold; a filter of which fewer than its floor would survive keeps every
// weight as large as its floor-th largest. One workgroup a filter and slot; magnitudes are compared as their bits.

struct Params {
    filters: u32,
    tensors: u32,
    row_words: u32,  // P
}

@group(0) @binding(0) var<storage, read> filters: array<vec4u>;  // (at, words, tensor, floor)
@group(0) @binding(1) var<storage, read> thresholds: array<u32>;
@group(0) @binding(2) var<storage, read_write> weights: array<u32>;
@group(0) @binding(3) var<uniform> p: Params;

var<workgroup> reached: array<u32, 64>;
var<workgroup> below: array<u32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = group.x + group.y * 65535u;
    if (i >= p.filters) {
        return;
    }
    let filter_row = filters[i];
    let at = group.z * p.row_words + filter_row.x;
    let words = filter_row.y;
    let least = min(filter_row.w, words);
    // Lowered from one magnitude to the next until enough weights reach it: every round adds at least one.
    var bound = thresholds[group.z * p.tensors + filter_row.z];
    for (var n = 0u; n < least; n++) {
        var alive = 0u;
        var next = 0u;
        for (var w = lane; w < words; w += 64u) {
            let m = weights[at + w] & 0x7fffffffu;
            alive += select(0u, 1u, m >= bound);
            next = max(next, select(m, 0u, m >= bound));
        }
        reached[lane] = alive;
        below[lane] = next;
        for (var half = 32u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if (lane < half) {
                reached[lane] += reached[lane + half];
                below[lane] = max(below[lane], below[lane + half]);
            }
        }
        if (workgroupUniformLoad(&reached[0]) >= least) {
            break;
        }
        bound = below[0];
        workgroupBarrier();
    }
    for (var w = lane; w < words; w += 64u) {
        if ((weights[at + w] & 0x7fffffffu) < bound) {
            weights[at + w] = 0u;
        }
    }
}
