//! What shaders read four neighbouring floats as.
//!
//! Software Vulkan loads and stores for one lane after the other, and takes as long for 64 bits as for 32. So the variants
//! that are made for it read two 64-bit integers where others read a `vec4f`.

/// Replacements in a shader's text: `$QUAD`, the type, and `$NARROW`, a function `narrow` from it to `vec4f`.
pub type Quads = [(&'static str, &'static str); 2];

/// As they are.
pub const PLAIN: Quads = [("QUAD", "vec4f"), ("NARROW", "fn narrow(v: vec4f) -> vec4f {\n    return v;\n}")];

/// As 64-bit integers, with a function `wide` for the way back.
pub const WIDE: Quads = [
    ("QUAD", "vec2<u64>"),
    (
        "NARROW",
        "fn narrow(v: vec2<u64>) -> vec4f {
    let even = bitcast<vec2f>(vec2u(v));
    let odd = bitcast<vec2f>(vec2u(v >> vec2u(32u)));
    return vec4f(even.x, odd.x, even.y, odd.y);
}

fn wide(v: vec4f) -> vec2<u64> {
    let words = bitcast<vec4u>(v);
    return vec2<u64>(words.xz) | (vec2<u64>(words.yw) << vec2u(32u));
}",
    ),
];
