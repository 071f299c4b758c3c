//! Which devices there are, and which one `--device` means.

use super::{Cpu, Device, Gpu, GpuOptions, Shadow};
use crate::error::{Error, Result};

/// What `--device` asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A hardware GPU where there is one, else the CPU engine.
    Auto,
    /// The CPU engine.
    Cpu,
    /// Any GPU, hardware before software.
    Gpu,
    /// The CPU engine and any GPU, every kernel compared.
    Shadow,
    /// The adapter whose name contains this text, or whose name, backend and kind contain its words.
    Named(String),
}

impl std::str::FromStr for Choice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "auto" => Self::Auto,
            "cpu" => Self::Cpu,
            "gpu" => Self::Gpu,
            "shadow" => Self::Shadow,
            _ => Self::Named(text.to_string()),
        })
    }
}

/// An adapter and the limits that matter here.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AdapterSummary {
    /// Its name.
    pub name: String,
    /// "vulkan", "metal" or "dx12".
    pub backend: String,
    /// Driver and version.
    pub driver: String,
    /// "discrete", "integrated", "virtual", "software" or "other".
    pub kind: &'static str,
    /// Largest range of a buffer that a kernel may see, in bytes: it bounds the clients of a wave.
    pub max_binding_bytes: u64,
    /// Largest buffer, in bytes.
    pub max_buffer_bytes: u64,
    /// Workgroup memory, in bytes.
    pub workgroup_bytes: u32,
    /// Invocations of a workgroup.
    pub workgroup_invocations: u32,
    /// Storage buffers a kernel may bind.
    pub storage_buffers: u32,
    /// Why it cannot be used, if so.
    pub unusable: Option<String>,
}

/// What every kernel needs: within the WebGPU defaults.
const WORKGROUP_BYTES: u32 = 16 << 10;
const INVOCATIONS: u32 = 256;
const STORAGE_BUFFERS: u32 = 8;

struct Found {
    adapter: wgpu::Adapter,
    summary: AdapterSummary,
}

fn find() -> Vec<Found> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let instance = wgpu::Instance::new(descriptor);
    let mut found: Vec<_> = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()))
        .into_iter()
        .map(|adapter| Found { summary: summarise(&adapter), adapter })
        .collect();
    found.sort_by_key(|f| match f.summary.kind {
        "discrete" => 0,
        "integrated" => 1,
        "virtual" => 2,
        "other" => 3,
        _ => 4,
    });
    found
}

fn summarise(adapter: &wgpu::Adapter) -> AdapterSummary {
    let (about, limits) = (adapter.get_info(), adapter.limits());
    let mut lacks = Vec::new();
    if limits.max_compute_workgroup_storage_size < WORKGROUP_BYTES {
        lacks.push(format!("{WORKGROUP_BYTES} bytes of workgroup memory"));
    }
    if limits.max_compute_invocations_per_workgroup < INVOCATIONS {
        lacks.push(format!("{INVOCATIONS} invocations a workgroup"));
    }
    if limits.max_storage_buffers_per_shader_stage < STORAGE_BUFFERS {
        lacks.push(format!("{STORAGE_BUFFERS} storage buffers a kernel"));
    }
    AdapterSummary {
        name: about.name,
        backend: about.backend.to_str().into(),
        driver: format!("{} {}", about.driver, about.driver_info).trim().into(),
        kind: match about.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Cpu => "software",
            wgpu::DeviceType::Other => "other",
        },
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        workgroup_invocations: limits.max_compute_invocations_per_workgroup,
        storage_buffers: limits.max_storage_buffers_per_shader_stage,
        unusable: (!lacks.is_empty()).then(|| format!("lacks {}", lacks.join(", "))),
    }
}

/// Every adapter that wgpu reaches, hardware first.
pub fn adapters() -> Vec<AdapterSummary> {
    find().into_iter().map(|f| f.summary).collect()
}

/// Opens the device that `choice` means, and says in one line which it is and why.
///
/// # Errors
/// [`Error::Config`] naming `--device` when no adapter or several match; [`Error::Device`] when it will not open.
pub fn open(choice: &Choice, options: GpuOptions, threads: Option<usize>) -> Result<(Box<dyn Device>, String)> {
    if *choice == Choice::Cpu {
        return Ok((Box::new(Cpu::new(threads)?), "CPU engine, as asked".into()));
    }
    let found: Vec<_> = find().into_iter().filter(|f| f.summary.unusable.is_none()).collect();
    let named = |f: &Found| format!("{} ({}, {})", f.summary.name, f.summary.backend, f.summary.kind);
    match choice {
        Choice::Auto => match found.iter().find(|f| f.summary.kind != "software") {
            Some(f) => Ok((Box::new(Gpu::open(&f.adapter, options)?), format!("{}, the first hardware GPU", named(f)))),
            None => {
                let why = match found.first() {
                    Some(f) => format!("CPU engine: no hardware GPU here ({} only when asked for)", f.summary.name),
                    None => "CPU engine: no GPU here".into(),
                };
                Ok((Box::new(Cpu::new(threads)?), why))
            }
        },
        Choice::Gpu | Choice::Shadow => {
            let f = found.first().ok_or_else(none_here)?;
            let gpu = Gpu::open(&f.adapter, options)?;
            if *choice == Choice::Gpu {
                return Ok((Box::new(gpu), format!("{}, as asked", named(f))));
            }
            Ok((Box::new(Shadow::new(Cpu::new(threads)?, gpu)), format!("CPU engine against {}", named(f))))
        }
        Choice::Named(part) if part.trim().is_empty() => {
            Err(Error::config("--device", "is empty", "accepted: auto, cpu, gpu, shadow, or part of an adapter's name"))
        }
        Choice::Named(part) => {
            let f = the_one(part, &found, |f| f.summary.name.clone(), named)?;
            Ok((Box::new(Gpu::open(&f.adapter, options)?), format!("{}, as asked", named(f))))
        }
        Choice::Cpu => unreachable!("handled above"),
    }
}

fn none_here() -> Error {
    Error::config(
        "--device",
        "no GPU adapter here",
        "install a Vulkan driver (software: mesa-vulkan-drivers), or use --device cpu",
    )
}

/// The item whose name contains `part`, or else whose label has every word of it, whatever the case. Of several of one name,
/// which are one card under two backends or cards that nothing tells apart, the first.
fn the_one<'a, T>(
    part: &str,
    items: &'a [T],
    name: impl Fn(&T) -> String,
    label: impl Fn(&T) -> String,
) -> Result<&'a T> {
    let wanted = part.to_lowercase();
    let has = |text: String, part: &str| text.to_lowercase().contains(part);
    let mut matches: Vec<_> = items.iter().filter(|item| has(name(item), &wanted)).collect();
    if matches.is_empty() {
        matches = items.iter().filter(|item| wanted.split_whitespace().all(|word| has(label(item), word))).collect();
    }
    let labels = |items: &mut dyn Iterator<Item = &T>| items.map(&label).collect::<Vec<_>>().join(", ");
    match matches.as_slice() {
        [first, others @ ..] if others.iter().all(|other| name(other) == name(first)) => Ok(first),
        [] => {
            let help = match labels(&mut items.iter()) {
                none if none.is_empty() => "(no adapters here)".into(),
                all => all,
            };
            let help = format!("accepted: auto, cpu, gpu, or part of the name of one of: {help}");
            Err(Error::config("--device", format!("no adapter's name contains {part:?}"), help))
        }
        several => {
            let problem = format!("{part:?} matches several adapters: {}", labels(&mut several.iter().copied()));
            Err(Error::config("--device", problem, "give a longer part of the name, or words of one of these alone"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Adapter = (&'static str, &'static str);

    fn pick<'a>(part: &str, adapters: &'a [Adapter]) -> Result<&'a Adapter> {
        the_one(part, adapters, |(name, _)| name.to_string(), |(name, about)| format!("{name} ({about})"))
    }

    #[test]
    fn a_name_must_match_one_adapter() {
        let adapters = [("NVIDIA H200", "vulkan"), ("AMD Radeon 780M", "vulkan"), ("AMD Radeon 7900", "vulkan")];
        assert_eq!(pick("h200", &adapters).unwrap(), &adapters[0]);
        assert_eq!(pick("780", &adapters).unwrap(), &adapters[1]);
        let none = pick("intel", &adapters).unwrap_err();
        assert!(none.to_string().contains("intel") && none.to_string().contains("NVIDIA H200"));
        assert_eq!(none.exit_code(), 2);
        let several = pick("radeon", &adapters).unwrap_err().to_string();
        assert!(several.contains("780M") && several.contains("7900"));
        assert!(pick("x", &[]).is_err());
    }

    /// As on Windows, where a card is there for each backend.
    #[test]
    fn a_card_under_two_backends_is_taken_under_the_first_or_the_one_named() {
        let adapters = [("NVIDIA RTX 4090", "vulkan"), ("NVIDIA RTX 4090", "dx12"), ("Intel UHD", "dx12")];
        assert_eq!(pick("nvidia", &adapters).unwrap(), &adapters[0]);
        assert_eq!(pick("4090 DX12", &adapters).unwrap(), &adapters[1]);
        let several = pick("dx12", &adapters).unwrap_err().to_string();
        assert!(several.contains("NVIDIA RTX 4090 (dx12), Intel UHD (dx12)"), "{several}");
    }

    #[test]
    fn words_of_the_command_line() {
        assert_eq!("AUTO".parse::<Choice>().unwrap(), Choice::Auto);
        assert_eq!("llvm".parse::<Choice>().unwrap(), Choice::Named("llvm".into()));
    }

    #[test]
    fn a_name_goes_before_what_stands_beside_it() {
        let adapters = [("Radeon", "vulkan"), ("Vulkan Reference", "dx12")];
        assert_eq!(pick("vulkan", &adapters).unwrap(), &adapters[1]);
    }
}
