//! A kernel compiled for a GPU, and the groups of buffers it is bound to.

use std::num::NonZeroU64;

use super::PART_START;
use super::faults::guarded;
use super::parts::from_part;
use crate::device::kernel::Grid;
use crate::device::{Access, Kernel};

/// Where a kernel's shader finds the row of its grid that a workgroup is in, as [`crate::device::grid::folded`] makes them.
const FOLD: &str = "group.y * 65535u";

/// What kernels are compiled with.
pub(super) struct Compiler<'a> {
    pub device: &'a wgpu::Device,
    /// Whether to keep wgpu's bounds checks.
    pub checked: bool,
    /// Workgroups of a row of folded grids, where they are not as many as may be.
    pub row: Option<u32>,
    /// What the driver remembers of earlier compilations.
    pub cache: Option<&'a wgpu::PipelineCache>,
}

pub(super) struct Pipeline {
    /// The kernel's name.
    pub kernel: &'static str,
    pub raw: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    /// The grid, where it is not the kernel's own.
    groups: Option<Grid>,
    /// Workgroups of a row, if its grids are folded at another length than the kernel says.
    row: Option<u32>,
    /// Whether its dispatches can be cut into parts.
    pub in_parts: bool,
}

impl Compiler<'_> {
    /// Variant number `n` of `kernel`, if the driver takes it: there are others.
    pub fn attempt(&self, kernel: &'static Kernel, n: usize) -> Option<Pipeline> {
        let (pipeline, problem) = guarded(self.device, || self.compile(kernel, n));
        let Some(problem) = problem else { return Some(pipeline) };
        tracing::debug!("variant {n} of {} is left out: {problem}", kernel.name);
        None
    }

    /// Variant number `n` of `kernel`, counted from 1; for 0 the kernel itself.
    #[allow(unsafe_code)]
    pub fn compile(&self, kernel: &'static Kernel, n: usize) -> Pipeline {
        let device = self.device;
        let variant = n.checked_sub(1).map(|n| &kernel.variants[n]);
        let source = variant.map_or(kernel.source, |v| v.source)();
        let row = self.row.filter(|_| source.contains(FOLD));
        let source = match row {
            Some(row) => source.replace(FOLD, &format!("group.y * {row}u")),
            None => source,
        };
        let part = from_part(&source, kernel.bindings.len() + 1);
        let (in_parts, source) = (part.is_some(), part.unwrap_or(source));
        let module =
            wgpu::ShaderModuleDescriptor { label: Some(kernel.name), source: wgpu::ShaderSource::Wgsl(source.into()) };
        let module = if self.checked {
            device.create_shader_module(module)
        } else {
            // SAFETY: the shader is one of ours; the tests run every kernel and variant with the checks on, over odd sizes
            // with sentinel words around each buffer, bound with it so that the checks do not hide a write behind its end,
            // and the typed calls check every size before a dispatch.
            unsafe { device.create_shader_module_trusted(module, wgpu::ShaderRuntimeChecks::unchecked()) }
        };
        let mut entries: Vec<_> = kernel
            .bindings
            .iter()
            .map(|b| wgpu::BufferBindingType::Storage { read_only: b.access == Access::Read })
            .map(|ty| (ty, false))
            .collect();
        // The parameters, and the first workgroup of a part.
        entries.extend([(wgpu::BufferBindingType::Uniform, true); 2]);
        let entries: Vec<_> = (0..)
            .zip(entries)
            .map(|(binding, (ty, has_dynamic_offset))| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
                count: None,
            })
            .collect();
        let layout = device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(kernel.name), entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel.name),
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        let raw = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: self.cache,
        });
        Pipeline { kernel: kernel.name, raw, layout, groups: variant.map(|v| v.groups), row, in_parts }
    }
}

impl Pipeline {
    /// Workgroups for these parameters, of which the kernel itself would take `declared`.
    pub fn grid(&self, params: &[u32], declared: [u32; 3]) -> [u32; 3] {
        let groups = self.groups.map_or(declared, |groups| groups(params));
        match (self.row, groups) {
            (Some(row), [x, 1, z]) => [x.min(row), x.div_ceil(row), z],
            _ => groups,
        }
    }

    /// Binds `storage` (buffer, first word, words), and the ring of parameters, whose offsets come with the dispatch.
    pub fn group(
        &self,
        device: &wgpu::Device,
        kernel: &'static Kernel,
        storage: &[(&wgpu::Buffer, usize, usize)],
        ring: &wgpu::Buffer,
    ) -> wgpu::BindGroup {
        let ring = [(ring, 0, kernel.params_words), (ring, PART_START / 4, 4)];
        let entries: Vec<_> = (0..)
            .zip(storage.iter().chain(&ring))
            .map(|(binding, (buffer, start, words))| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: 4 * *start as u64,
                    size: NonZeroU64::new(4 * *words as u64),
                }),
            })
            .collect();
        device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.name),
            layout: &self.layout,
            entries: &entries,
        })
    }
}
