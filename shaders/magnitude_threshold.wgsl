// The exact keep-th largest magnitude of every tensor of every client: a radix select over the 31 bits below the sign,
// 11 + 10 + 10, since magnitudes order as their bits do (NaN above infinity). One workgroup a tensor and slot.
// Zeros are never counted: a pruned tensor is mostly zeros, all of which would queue for one counter. A rank that lies
// beyond the nonzero weights is found nowhere and leaves 0, which is right.

struct Params {
    tensors: u32,
    row_words: u32,  // P
    keeps_at: u32,
}

@group(0) @binding(0) var<storage, read> weights: array<u32>;
@group(0) @binding(1) var<storage, read> table: array<vec4u>;  // (at, words, -, -)
@group(0) @binding(2) var<storage, read> keeps: array<u32>;
@group(0) @binding(3) var<storage, read_write> thresholds: array<u32>;
@group(0) @binding(4) var<uniform> p: Params;

var<workgroup> bins: array<atomic<u32>, 2048>;
// Weights in the bins of this lane and of all lanes after it.
var<workgroup> tail: array<u32, 256>;
var<workgroup> next_prefix: u32;
var<workgroup> next_rank: u32;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let tensor = group.x;
    let at = group.y * p.row_words + table[tensor].x;
    let words = table[tensor].y;
    var prefix = 0u;
    var rank = max(keeps[p.keeps_at + group.y * p.tensors + tensor], 1u);
    for (var digit = 0u; digit < 3u; digit++) {
        let shift = 20u - 10u * digit;
        let bits = select(10u, 11u, digit == 0u);
        for (var i = lane; i < 2048u; i += 256u) {
            atomicStore(&bins[i], 0u);
        }
        workgroupBarrier();
        // By eights, so that many reads are under way at a time.
        for (var i = lane; i < words; i += 2048u) {
            //@ for j in 0..8
            var magnitude$j = 0u;
            if (i + 256u * $ju < words) {
                magnitude$j = weights[at + i + 256u * $ju] & 0x7fffffffu;
            }
            //@ end
            //@ for j in 0..8
            if (magnitude$j != 0u && magnitude$j >> (shift + bits) == prefix) {
                atomicAdd(&bins[(magnitude$j >> shift) & ((1u << bits) - 1u)], 1u);
            }
            //@ end
        }
        workgroupBarrier();
        var own = 0u;
        for (var j = 0u; j < 8u; j++) {
            own += atomicLoad(&bins[8u * lane + j]);
        }
        tail[lane] = own;
        for (var reach = 1u; reach < 256u; reach *= 2u) {
            workgroupBarrier();
            var more = 0u;
            if (lane + reach < 256u) {
                more = tail[lane + reach];
            }
            workgroupBarrier();
            tail[lane] += more;
        }
        if (lane == 0u && rank > tail[0]) {
            next_prefix = prefix << bits;
            next_rank = rank;
        }
        var above = tail[lane] - own;
        if (above < rank && rank <= tail[lane]) {
            for (var j = 0u; j < 8u; j++) {
                let bin = 8u * lane + 7u - j;
                let here = atomicLoad(&bins[bin]);
                if (above < rank && rank <= above + here) {
                    next_prefix = (prefix << bits) | bin;
                    next_rank = rank - above;
                }
                above += here;
            }
        }
        workgroupBarrier();
        prefix = next_prefix;
        rank = next_rank;
    }
    if (lane == 0u) {
        thresholds[group.y * p.tensors + tensor] = prefix;
    }
}
