//! Writes out the inner loops of a shader.
//!
//! A local array indexed by a loop variable spills to memory on most GPUs, because the shader compiler is given no
//! hint to unroll. So the shaders name every accumulator, and this function writes the repeated lines:
//!
//! ```text
//! //@ for i in 0..2
//! var acc$i = vec4f(0.0);
//! //@ end
//! ```

/// Expands every `//@ for NAME in A..B` ... `//@ end` block, innermost variables last; `$NAME` becomes the number.
/// Blocks nest. Text outside blocks is left as it is.
///
/// # Panics
/// When a block is malformed or not closed: shaders are part of the program, and the tests expand them all.
pub fn unroll(source: &str) -> String {
    let lines: Vec<&str> = source.lines().collect();
    let mut out = String::with_capacity(4 * source.len());
    let end = expand(&lines, 0, &mut out);
    assert!(end == lines.len(), "line {}: end without for", end + 1);
    out
}

/// As [`unroll`], after every `$NAME` of `with` has become its text.
///
/// # Panics
/// As [`unroll`].
pub fn unroll_with(source: &str, with: &[(&str, &str)]) -> String {
    unroll(&with.iter().fold(source.to_string(), |text, (name, is)| text.replace(&format!("${name}"), is)))
}

/// Expands from line `at` to the block's end (or the text's) and returns the line where it stopped.
fn expand(lines: &[&str], mut at: usize, out: &mut String) -> usize {
    while at < lines.len() {
        let line = lines[at].trim();
        if line == "//@ end" {
            return at;
        }
        let Some(head) = line.strip_prefix("//@ for ") else {
            out.push_str(lines[at]);
            out.push('\n');
            at += 1;
            continue;
        };
        let (name, from, to) = header(head).unwrap_or_else(|| panic!("line {}: {line:?}", at + 1));
        let mut body = String::new();
        let end = expand(lines, at + 1, &mut body);
        assert!(end < lines.len(), "line {}: for without end", at + 1);
        for i in from..to {
            out.push_str(&body.replace(&format!("${name}"), &i.to_string()));
        }
        at = end + 1;
    }
    at
}

fn header(text: &str) -> Option<(&str, u32, u32)> {
    let (name, range) = text.split_once(" in ")?;
    let (from, to) = range.split_once("..")?;
    Some((name, from.trim().parse().ok()?, to.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{unroll, unroll_with};

    #[test]
    fn nested_blocks_are_written_out_in_order() {
        let text = "a\n//@ for i in 0..2\nx$i\n  //@ for j in 1..3\n  y$i_$j\n  //@ end\n//@ end\nb";
        let text = text.replace("$i_", "$i.");
        assert_eq!(unroll(&text), "a\nx0\n  y0.1\n  y0.2\nx1\n  y1.1\n  y1.2\nb\n");
    }

    #[test]
    fn names_become_their_texts_before_blocks_are_written_out() {
        let text = "//@ for i in 0..$MANY\nx$i = $WHAT;\n//@ end";
        assert_eq!(unroll_with(text, &[("MANY", "2"), ("WHAT", "f($i)")]), "x0 = f(0);\nx1 = f(1);\n");
    }

    #[test]
    fn text_without_blocks_is_untouched() {
        assert_eq!(unroll("fn main() {}\n"), "fn main() {}\n");
    }

    #[test]
    #[should_panic(expected = "for without end")]
    fn an_open_block_is_refused() {
        unroll("//@ for i in 0..2\nx");
    }

    #[test]
    #[should_panic(expected = "end without for")]
    fn a_stray_end_is_refused() {
        unroll("x\n//@ end\n");
    }
}
