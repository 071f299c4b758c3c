//! What a kernel is: its shader, its bindings, its twin in plain Rust, and the cases that test and time both.

use super::View;
use crate::error::{Error, Result};

/// How a kernel uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only read: `var<storage, read>`.
    Read,
    /// Written, and perhaps read first: `var<storage, read_write>`.
    Write,
}

/// How an output of two devices is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Compare {
    /// Every bit equal.
    Exact,
    /// Floats whose every bit is equal; NaN passes for NaN alone, whatever its bits, which differ from device to device.
    ExactFloats,
    /// Floats with `|a - b| <= tolerance * max(1, largest finite |b| of the output)`. The 1 is for the kernels' cases, whose
    /// numbers are about as large; the shadow device, which sees gradients of 1e-6, takes what is there. NaN passes for NaN
    /// alone, whatever its bits, and infinity for itself; the shadow device passes all of an output that shows a diverged run.
    Close(f32),
    /// Bytes (argmax codes) of which at most this share may differ: rounding can move a near tie. The shadow device looks at
    /// each of them, where the binding says how ([`Leeway::Choice`]).
    Codes(f32),
    /// Records of several kinds of words: word `i` follows rule `i % rules.len()`.
    Fields(&'static [Compare]),
}

/// What rounding may do to an output beyond its rule of comparison. The functions are given the words of the uniform block
/// and of all bindings, in the declared order, as the CPU engine has them after the kernel; only the shadow device asks.
#[derive(Clone, Copy, Debug)]
pub enum Leeway {
    /// Nothing.
    None,
    /// Of floats that are what larger numbers leave of each other: the size of those. An output may then differ by its
    /// tolerance of that size, where its own is less.
    Terms(fn(&[u32], &[Vec<u32>]) -> f32),
    /// Words or bytes that say which of several floats is the greatest.
    Choice {
        /// The output of the same kernel that the floats are as exact as.
        by: &'static str,
        /// See [`Scores`].
        scores: Scores,
    },
}

/// The words or bytes that may stand at a place of an output, each with its score, as exact as can be: that of the greatest
/// score should stand there. None where rounding decides nothing. As arguments those of [`Leeway`], and the place.
pub type Scores = fn(&[u32], &[Vec<u32>], usize) -> Vec<(u32, f64)>;

/// One storage buffer of a kernel. Bindings are numbered from 0 in the order declared; the uniform block comes last.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// Its name in the shader.
    pub name: &'static str,
    /// Read or written.
    pub access: Access,
    /// How two devices' results are compared; for inputs it says nothing.
    pub compare: Compare,
    /// What rounding may do to it besides.
    pub leeway: Leeway,
}

impl Binding {
    /// A binding that is only read.
    pub const fn read(name: &'static str) -> Self {
        Self { name, access: Access::Read, compare: Compare::Exact, leeway: Leeway::None }
    }

    /// A binding that is written.
    pub const fn write(name: &'static str, compare: Compare) -> Self {
        Self { name, access: Access::Write, compare, leeway: Leeway::None }
    }

    /// The same with leeway.
    pub const fn with(self, leeway: Leeway) -> Self {
        Self { leeway, ..self }
    }
}

/// Workgroups in x, y and z for the words of a uniform block.
pub type Grid = fn(&[u32]) -> [u32; 3];

/// Another way to cut a kernel's work into threads. It adds the same terms in the same order as the kernel itself, so the
/// choice changes no bit.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// What the tuning's notes call it.
    pub name: &'static str,
    /// The WGSL text: the kernel's bindings, parameters and workgroup.
    pub source: fn() -> String,
    /// Its grid.
    pub groups: Grid,
    /// The size every subgroup of the adapter must have; 0 where it shares nothing between lanes.
    pub lanes: u32,
    /// Whether it reads 64-bit integers, which not every adapter has.
    pub wide: bool,
    /// Whether it is made for hardware GPUs and adds in an order of its own. They run such a one wherever it suits, however
    /// fast the others are, so that what is picked changes no bit.
    pub own_order: bool,
    /// Whether it loads less, at the price of a longer loop: software Vulkan runs it where a processor's loads are dear.
    pub fewer_loads: bool,
    /// Whether it suits these parameters: with others it would be slow, or is not made for them, and another runs.
    pub suits: fn(&[u32]) -> bool,
}

impl Variant {
    /// One that any adapter can run.
    pub const fn new(name: &'static str, source: fn() -> String, groups: Grid, suits: fn(&[u32]) -> bool) -> Self {
        Self { name, source, groups, lanes: 0, wide: false, own_order: false, fewer_loads: false, suits }
    }

    /// One for software Vulkan, which has subgroups of 8 and loads 64 bits as fast as 32.
    pub const fn for_software(
        name: &'static str,
        source: fn() -> String,
        groups: Grid,
        suits: fn(&[u32]) -> bool,
    ) -> Self {
        Self { lanes: 8, wide: true, ..Self::new(name, source, groups, suits) }
    }

    /// The same, for where loads are dear.
    pub const fn with_fewer_loads(self) -> Self {
        Self { fewer_loads: true, ..self }
    }
}

/// Of variants for all parameters.
pub fn always(_: &[u32]) -> bool {
    true
}

/// A compute kernel and its CPU twin.
pub struct Kernel {
    /// Name of the shader file and of the Rust file beside it.
    pub name: &'static str,
    /// The WGSL text, with its unrolled loops written out. Entry point `main`.
    pub source: fn() -> String,
    /// Other cuts of the work, among which a GPU chooses.
    pub variants: &'static [Variant],
    /// Storage bindings: all that are read, then all that are written.
    pub bindings: &'static [Binding],
    /// Words of the uniform block.
    pub params_words: usize,
    /// Invocations of a workgroup.
    pub workgroup: [u32; 3],
    /// The same computation in plain Rust.
    pub twin: fn(Call<'_>),
    /// Inputs of odd and ordinary sizes, for the tests and the benchmarks.
    pub cases: fn() -> Vec<Case>,
    /// More of a size that fills a large GPU, for the benchmarks alone; none where the others do.
    pub large: fn() -> Vec<Case>,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Kernel {
    /// Checks what every device relies on: counts, sizes, alignment, and that nothing written is bound twice.
    pub(super) fn check(&self, params: &[u32], buffers: &[View<'_>], groups: [u32; 3]) -> Result<()> {
        let fault = |problem: String| Err(Error::Kernel { kernel: self.name, problem });
        if params.len() != self.params_words {
            return fault(format!("{} words of parameters, {} declared", params.len(), self.params_words));
        }
        if buffers.len() != self.bindings.len() {
            return fault(format!("{} buffers, {} declared", buffers.len(), self.bindings.len()));
        }
        if groups.iter().any(|&g| g > grid::LIMIT) {
            return fault(format!("a grid of {groups:?} workgroups; at most {} a dimension", grid::LIMIT));
        }
        for (i, (view, binding)) in buffers.iter().zip(self.bindings).enumerate() {
            if !view.fits() || view.words == 0 {
                let (start, words, has) = (view.start, view.words, view.buffer.words());
                return fault(format!("{}: words {start}.. + {words} of a buffer of {has}", binding.name));
            }
            if view.start % View::ALIGN != 0 {
                return fault(format!("{}: starts at word {}, not aligned", binding.name, view.start));
            }
            let twice = |j: usize| buffers[j].buffer.0.id == view.buffer.0.id;
            if binding.access == Access::Write && (0..buffers.len()).any(|j| j != i && twice(j)) {
                return fault(format!("{} is written and bound twice", binding.name));
            }
        }
        Ok(())
    }

    pub(super) fn reads(&self) -> usize {
        self.bindings.iter().filter(|b| b.access == Access::Read).count()
    }
}

/// What a twin receives: the uniform block, the grid, and the buffers' words.
pub struct Call<'a> {
    /// The uniform block.
    pub params: &'a [u32],
    /// Workgroups in x, y and z.
    pub groups: [u32; 3],
    pub(super) read: Vec<&'a [u32]>,
    pub(super) write: Vec<&'a mut [u32]>,
}

impl<'a> Call<'a> {
    /// The uniform block as the kernel's own struct.
    pub fn params<P: bytemuck::AnyBitPattern>(&self) -> P {
        bytemuck::pod_read_unaligned(bytemuck::cast_slice(self.params))
    }

    /// The buffers that are read, then those that are written, in the declared order.
    pub fn buffers<const R: usize, const W: usize>(self) -> ([&'a [u32]; R], [&'a mut [u32]; W]) {
        match (self.read.try_into(), self.write.try_into()) {
            (Ok(read), Ok(write)) => (read, write),
            _ => unreachable!("the device checked the number of bindings"),
        }
    }
}

/// The words of a buffer as floats.
pub fn f32s(words: &[u32]) -> &[f32] {
    bytemuck::cast_slice(words)
}

/// The words of a buffer as floats, to be written.
pub fn f32s_mut(words: &mut [u32]) -> &mut [f32] {
    bytemuck::cast_slice_mut(words)
}

/// One input of a kernel, for tests and benchmarks.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is special about it.
    pub name: &'static str,
    /// The uniform block.
    pub params: Vec<u32>,
    /// What each binding holds before the kernel runs.
    pub buffers: Vec<Vec<u32>>,
    /// Workgroups.
    pub groups: [u32; 3],
    /// Floating-point operations the case asks for (a multiplication and an addition are two).
    pub flops: u64,
}

impl Case {
    /// Bytes that have to move at least: every binding once.
    pub fn bytes(&self) -> u64 {
        self.buffers.iter().map(|b| 4 * b.len() as u64).sum()
    }
}

/// Grids of workgroups.
pub mod grid {
    /// Workgroups a dimension that every GPU accepts.
    pub const LIMIT: u32 = 65_535;

    /// A grid over `n` workgroups in x, folded into y where x alone cannot hold them. The shader computes its index
    /// as `workgroup.x + workgroup.y * 65535` and returns when it is past the end.
    pub fn folded(n: usize, z: u32) -> [u32; 3] {
        let n = n.max(1) as u64;
        let limit = u64::from(LIMIT);
        [n.min(limit) as u32, n.div_ceil(limit) as u32, z]
    }
}
