// Which 2x2 blocks of a convolution's sums anything needs, a bit each:
//   bit b of needed[row][needed_at + m * words + w]: whether any output of block 32 w + b of channel m is read by a surviving
//   weight of the next layer whose own block is needed
// A block is a pooling window, or four outputs where nothing is pooled; those of a channel are numbered row by row.
// Gone over from the last layer to the first, those are found from which a path of surviving weights leads to the logits.
//
// The next layer's lists are by input (survivors.wgsl); a fully connected one has a list for each of a channel's outputs.

struct Params {
    channels: u32,         // M
    height: u32,           // of the outputs
    width: u32,
    side: u32,             // outputs along a block's side
    blocks_x: u32,
    blocks: u32,           // of a channel
    row_words: u32,        // S, of the lists by output
    needed_at: u32,
    linear: u32,           // 1 where the next layer is fully connected; then what follows of it is not looked at
    longest: u32,          // places of a list
    list_words: u32,       // words of a row of lists by input
    lists_at: u32,
    counts_at: u32,
    padding: u32,
    next_height: u32,      // of its sums, as many as the pooling keeps
    next_width: u32,
    next_blocks_x: u32,
    next_words: u32,       // of bits, a channel
    next_needed_at: u32,   // ALL where all of its blocks are needed
}

@group(0) @binding(0) var<storage, read> lists: array<u32>;
@group(0) @binding(1) var<storage, read_write> needed: array<u32>;
@group(0) @binding(2) var<uniform> p: Params;

const ALL = 0xffffffffu;

// Whether the next layer reads output (y, x) of channel m for anything.
fn is_read(row: u32, m: u32, y: u32, x: u32) -> bool {
    let list = select(m, (m * p.height + y) * p.width + x, p.linear != 0u);
    let first = row * p.list_words + p.lists_at + list * p.longest;
    let end = first + lists[row * p.list_words + p.counts_at + list];
    for (var i = first; i < end; i++) {
        if (p.linear != 0u) {
            return true;
        }
        let place = lists[i];
        // Above and left of the sums there are none: these are far beyond the last.
        let at_y = y + p.padding - ((place >> 4u) & 15u);
        let at_x = x + p.padding - (place & 15u);
        if (at_y >= p.next_height || at_x >= p.next_width) {
            continue;
        }
        if (p.next_needed_at == ALL) {
            return true;
        }
        let block = at_y / 2u * p.next_blocks_x + at_x / 2u;
        let word = needed[row * p.row_words + p.next_needed_at + (place >> 8u) * p.next_words + block / 32u];
        if ((word >> (block % 32u) & 1u) != 0u) {
            return true;
        }
    }
    return false;
}

fn block_is_read(row: u32, m: u32, block: u32) -> bool {
    let top = block / p.blocks_x * p.side;
    let left = block % p.blocks_x * p.side;
    for (var y = top; y < min(top + p.side, p.height); y++) {
        for (var x = left; x < min(left + p.side, p.width); x++) {
            if (is_read(row, m, y, x)) {
                return true;
            }
        }
    }
    return false;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = group.x * 64u + lane;
    let words = (p.blocks + 31u) / 32u;
    if (item >= p.channels * words) {
        return;
    }
    let first = item % words * 32u;
    var bits = 0u;
    for (var block = first; block < min(first + 32u, p.blocks); block++) {
        bits |= select(0u, 1u << (block - first), block_is_read(group.y, item / words, block));
    }
    needed[group.y * p.row_words + p.needed_at + item] = bits;
}
