// The surviving weights of one layer, as a list for every output channel or every input channel:
//   lists[row][lists_at + l * longest + i] = the i-th place of list l whose weight is not zero
//   lists[row][counts_at + l]              = how many there are
// A place is (channel of the other side) << 8 | ky << 4 | kx, and places ascend. What stands beyond a list's end is left.
//
// Several lanes share a list: each counts its run of places, then writes after those of the lanes before it.

struct Params {
    lists: u32,
    longest: u32,     // places of a list
    kernel: u32,
    own_step: u32,    // weights from one list to the next
    other_step: u32,  // weights from one channel of the other side to the next
    row_words: u32,   // P
    weights_at: u32,
    list_words: u32,  // S
    lists_at: u32,
    counts_at: u32,
    lanes: u32,       // of a list; divides 64
    reserved: u32,
}

@group(0) @binding(0) var<storage, read> weights: array<u32>;
@group(0) @binding(1) var<storage, read_write> lists: array<u32>;
@group(0) @binding(2) var<uniform> p: Params;

var<workgroup> found: array<u32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let list = (group.x + group.y * 65535u) * (64u / p.lanes) + lane / p.lanes;
    let part = lane % p.lanes;
    let run = (p.longest + p.lanes - 1u) / p.lanes;
    let first = min(part * run, p.longest);
    let end = select(first, min(first + run, p.longest), list < p.lists);
    let square = p.kernel * p.kernel;
    let base = group.z * p.row_words + p.weights_at + list * p.own_step;
    var own = 0u;
    for (var i = first; i < end; i++) {
        own += select(0u, 1u, (weights[base + i / square * p.other_step + i % square] & 0x7fffffffu) != 0u);
    }
    found[lane] = own;
    workgroupBarrier();
    if (list >= p.lists) {
        return;
    }
    let row = group.z * p.list_words;
    let start = row + p.lists_at + list * p.longest;
    var to = start;
    for (var i = lane - part; i < lane; i++) {
        to += found[i];
    }
    for (var i = first; i < end; i++) {
        let tap = i % square;
        if ((weights[base + i / square * p.other_step + tap] & 0x7fffffffu) != 0u) {
            lists[to] = ((i / square) << 8u) | ((tap / p.kernel) << 4u) | (tap % p.kernel);
            to += 1u;
        }
    }
    if (part == p.lanes - 1u) {
        lists[row + p.counts_at + list] = to - start;
    }
}
