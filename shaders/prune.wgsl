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

var<workgroup> magnitudes: array<u32, 64>;
var<workgroup> places: array<u32, 64>;

// Whether the first weight comes before the second in the order of magnitude: larger, or as large and earlier.
fn before(magnitude: u32, place: u32, than: u32, at: u32) -> bool {
    return magnitude > than || (magnitude == than && place < at);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = group.x + group.y * 65535u;
    if (i >= p.filters) {
        return;
    }
    let filter_row = filters[i];
    let at = group.z * p.row_words + filter_row.x;
    let words = filter_row.y;
    let threshold = thresholds[group.z * p.tensors + filter_row.z];
    let least = min(filter_row.w, words);
    // The weight that the floor keeps last so far, in the order of magnitude and place; nothing precedes this start.
    var last = 0xffffffffu;
    var last_place = 0u;
    var cut = threshold;
    if (least > 0u) {
        var alive = 0u;
        for (var w = lane; w < words; w += 64u) {
            alive += select(0u, 1u, (weights[at + w] & 0x7fffffffu) >= threshold);
        }
        magnitudes[lane] = alive;
        for (var half = 32u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if (lane < half) {
                magnitudes[lane] += magnitudes[lane + half];
            }
        }
        if (workgroupUniformLoad(&magnitudes[0]) < least) {
            for (var n = 0u; n < least; n++) {
                var best = 0u;
                var place = 0xffffffffu;
                for (var w = lane; w < words; w += 64u) {
                    let m = weights[at + w] & 0x7fffffffu;
                    if (before(last, last_place, m, w) && before(m, w, best, place)) {
                        best = m;
                        place = w;
                    }
                }
                magnitudes[lane] = best;
                places[lane] = place;
                for (var half = 32u; half > 0u; half /= 2u) {
                    workgroupBarrier();
                    if (lane < half) {
                        let other = lane + half;
                        if (before(magnitudes[other], places[other], magnitudes[lane], places[lane])) {
                            magnitudes[lane] = magnitudes[other];
                            places[lane] = places[other];
                        }
                    }
                }
                workgroupBarrier();
                last = magnitudes[0];
                last_place = places[0];
                workgroupBarrier();
            }
            cut = min(threshold, last);
        }
    }
    for (var w = lane; w < words; w += 64u) {
        if ((weights[at + w] & 0x7fffffffu) < cut) {
            weights[at + w] = 0u;
        }
    }
}
