// The end of sparse_conv_forward.wgsl for a single input channel under 3x3 filters, and outputs that are all needed: 32 filters
// in some of the rows.

// Of each eight filters, one a lane.
var shown = 0u;
//@ for g in 0..4
let m$g = first_m + LANES * $gu + own;
var gate$g = 1.0;
var bias$g = 0.0;
if (m$g < out_channels) {
    if (own_gates) {
        gate$g = gates[own_gates_at + m$g];
    }
    bias$g = weights[biases_at + m$g];
}
// Behind a closed gate and a ReLU nothing is left of a sum, and of images that are not there nothing is wanted.
shown |= subgroupBallot(has_images && m$g < out_channels && (gate$g != 0.0 || !relu)).x << (LANES * $gu);
//@ end
// A thread computes all of them, in some rows of blocks.
if (shown != 0u) {
    var open = true;
    if (input_gates) {
        open = gates[input_gates_at] != 0.0;
    }
    //@ for g in 0..4
    //@ for t in 0..9
    var w$g_$t = 0.0;
    //@ end
    if (open && m$g < out_channels) {
        //@ for t in 0..9
        w$g_$t = weights[filters_at + m$g * 9u + $tu];
        //@ end
    }
    //@ end
    let ending = Ending(out_height, out_width, pool, quads, relu, in_batch, live);
    var by = part * LANES + lane / LANES;
    var bx = 0u;
    if (by < blocks_y) {
        loop {
            //@ for i in 0..4
            let y$i = 2u * by + $iu - padding;
            let x$i = 2u * bx + $iu - padding;
            //@ end
            //@ for i in 0..4
            //@ for j in 0..4
            var v$i$j = vec4f(0.0);
            if (in_batch && y$i < height && x$j < width) {
                v$i$j = narrow(input[in_at + y$i * line + x$j * quads]);
            }
            //@ end
            //@ end
            var left = shown;
            loop {
                let next = firstTrailingBit(left);
                let holder = next % LANES;
                let eight = next / LANES;
                //@ for t in 0..9
                let f$t = subgroupShuffle(one_of(w0_$t, w1_$t, w2_$t, w3_$t, eight), holder);
                let is$t = vec4<bool>(f$t != 0.0);
                //@ end
                //@ for i in 0..2
                //@ for j in 0..2
                var z$i$j = vec4f(0.0);
                //@ end
                //@ end
                z00 = select(z00, z00 + f0 * v00, is0);
                z01 = select(z01, z01 + f0 * v01, is0);
                z10 = select(z10, z10 + f0 * v10, is0);
                z11 = select(z11, z11 + f0 * v11, is0);
                z00 = select(z00, z00 + f1 * v01, is1);
                z01 = select(z01, z01 + f1 * v02, is1);
                z10 = select(z10, z10 + f1 * v11, is1);
                z11 = select(z11, z11 + f1 * v12, is1);
                z00 = select(z00, z00 + f2 * v02, is2);
                z01 = select(z01, z01 + f2 * v03, is2);
                z10 = select(z10, z10 + f2 * v12, is2);
                z11 = select(z11, z11 + f2 * v13, is2);
                z00 = select(z00, z00 + f3 * v10, is3);
                z01 = select(z01, z01 + f3 * v11, is3);
                z10 = select(z10, z10 + f3 * v20, is3);
                z11 = select(z11, z11 + f3 * v21, is3);
                z00 = select(z00, z00 + f4 * v11, is4);
                z01 = select(z01, z01 + f4 * v12, is4);
                z10 = select(z10, z10 + f4 * v21, is4);
                z11 = select(z11, z11 + f4 * v22, is4);
                z00 = select(z00, z00 + f5 * v12, is5);
                z01 = select(z01, z01 + f5 * v13, is5);
                z10 = select(z10, z10 + f5 * v22, is5);
                z11 = select(z11, z11 + f5 * v23, is5);
                z00 = select(z00, z00 + f6 * v20, is6);
                z01 = select(z01, z01 + f6 * v21, is6);
                z10 = select(z10, z10 + f6 * v30, is6);
                z11 = select(z11, z11 + f6 * v31, is6);
                z00 = select(z00, z00 + f7 * v21, is7);
                z01 = select(z01, z01 + f7 * v22, is7);
                z10 = select(z10, z10 + f7 * v31, is7);
                z11 = select(z11, z11 + f7 * v32, is7);
                z00 = select(z00, z00 + f8 * v22, is8);
                z01 = select(z01, z01 + f8 * v23, is8);
                z10 = select(z10, z10 + f8 * v32, is8);
                z11 = select(z11, z11 + f8 * v33, is8);
                let bias = subgroupShuffle(one_of(bias0, bias1, bias2, bias3, eight), holder);
                let gate = subgroupShuffle(one_of(gate0, gate1, gate2, gate3, eight), holder);
                let to = outputs_at + (first_m + next) * out_plane;
                finish(ending, array(z00, z01, z10, z11), bias, gate, to, by, bx);
                left &= left - 1u;
                if (left == 0u) {
                    break;
                }
            }
            bx += 1u;
            if (bx == blocks_x) {
                bx = 0u;
                by += LANES * PARTS;
            }
            if (by >= blocks_y) {
                break;
            }
        }
    }
}

// The others, eight planes at a time.
//@ for g in 0..4
{
    let m = first_m + LANES * $gu + lane / LANES;
    let gate = subgroupShuffle(gate$g, lane / LANES);
    let bias = subgroupShuffle(bias$g, lane / LANES);
    let closed = gate == 0.0 && relu;
    if (part == 0u && (closed || !has_images) && in_batch && m < out_channels && !(closed && closed_unread)) {
        let value = activate(vec4f((0.0 + bias) * gate), vec4u(0u), relu, gate == 0.0, live);
        fill(outputs_at + m * out_plane, out_plane, quads, value);
    }
}
//@ end
