// The end of sparse_conv_forward.wgsl for any layer: eight filters' planes.

// Of eight filters, one a lane; then a thread has a filter's whole plane, of which it goes over the blocks that are needed.
let m = first_m + lane / LANES;
let is_filter = m < out_channels;
let filter_at = filters_at + m * filter_words;
let entries = lists_at + m * filter_words;
var gate = 1.0;
var bias = 0.0;
if (first_m + own < out_channels) {
    if (own_gates) {
        gate = gates[own_gates_at + first_m + own];
    }
    bias = weights[biases_at + first_m + own];
}
gate = subgroupShuffle(gate, lane / LANES);
bias = subgroupShuffle(bias, lane / LANES);
let out_at = outputs_at + m * out_plane;
let closed = gate == 0.0 && relu;
let shut = closed || !has_images;
let blocks = blocks_y * blocks_x;
let loads = !all_needed && own == 0u && is_filter;
let needed_at = needed_from + m * ((blocks + 31u) / 32u);
// A block's row is its number by this, rounded down; halves are far enough from where float32 rounds.
let a_row = 1.0 / f32(blocks_x);
var listed = 0u;
if (own == 0u && is_filter && !shut) {
    listed = lists[list_counts_at + m];
}
listed = subgroupShuffle(listed, 0u);
// Entries of the list, one a lane.
var mine = 0u;
var weight = 0.0;
var open = false;

let ending = Ending(out_height, out_width, pool, quads, relu, in_batch && is_filter, live);
if (!shut) {
    var loaded = false;
    var first_block = 0u;
    loop {
        var needed = wanted(first_block, blocks, all_needed, loads, needed_at);
        if (needed != 0u) {
            loop {
                let block = first_block + firstTrailingBit(needed);
                let by = u32((f32(block) + 0.5) * a_row);
                let bx = block - by * blocks_x;
                //@ for i in 0..2
                //@ for j in 0..2
                var z$i$j = vec4f(0.0);
                //@ end
                //@ end
                let top = 2u * by - padding;
                let before = 2u * bx - padding;
                var first = 0u;
                loop {
                    // Mostly the first eight are all, and are loaded for the first block alone.
                    if (listed > LANES || !loaded) {
                        open = false;
                        if (first + own < listed) {
                            mine = lists[entries + first + own];
                            let c = mine >> 8u;
                            weight = weights[filter_at + c * square + ((mine >> 4u) & 15u) * kernel + (mine & 15u)];
                            open = true;
                            if (input_gates) {
                                open = gates[input_gates_at + c] != 0.0;
                            }
                        }
                    }
                    var left = subgroupBallot(open).x;
                    if (left != 0u) {
                        loop {
                            let holder = firstTrailingBit(left);
                            let place = subgroupShuffle(mine, holder);
                            let factor = subgroupShuffle(weight, holder);
                            let y = top + ((place >> 4u) & 15u);
                            let x = before + (place & 15u);
                            let at = in_at + (place >> 8u) * plane + y * line + x * quads;
                            //@ for i in 0..2
                            //@ for j in 0..2
                            var v$i$j = vec4f(0.0);
                            if (in_batch && is_filter && y + $iu < height && x + $ju < width) {
                                v$i$j = narrow(input[at + $iu * line + $ju * quads]);
                            }
                            z$i$j += factor * v$i$j;
                            //@ end
                            //@ end
                            left &= left - 1u;
                            if (left == 0u) {
                                break;
                            }
                        }
                    }
                    first += LANES;
                    if (first >= listed) {
                        break;
                    }
                }
                loaded = true;
                finish(ending, array(z00, z01, z10, z11), bias, gate, out_at, by, bx);
                needed &= needed - 1u;
                if (needed == 0u) {
                    break;
                }
            }
        }
        first_block += 32u;
        if (first_block >= blocks) {
            break;
        }
    }
} else if (!(closed && closed_unread)) {
    let z = vec4f((0.0 + bias) * gate);
    var first_block = 0u;
    loop {
        var needed = wanted(first_block, blocks, all_needed, loads, needed_at);
        if (needed != 0u) {
            loop {
                let block = first_block + firstTrailingBit(needed);
                let by = u32((f32(block) + 0.5) * a_row);
                put(ending, array(z, z, z, z), vec4u(0u), gate == 0.0, out_at, by, block - by * blocks_x);
                needed &= needed - 1u;
                if (needed == 0u) {
                    break;
                }
            }
        }
        first_block += 32u;
        if (first_block >= blocks) {
            break;
        }
    }
}
