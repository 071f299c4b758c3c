//! `fedcircuit devices [--json]`.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::print;
use crate::device::{AdapterSummary, Cpu, adapters};
use crate::{Error, Result};

/// Flags of `fedcircuit devices`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fedcircuit devices            the CPU engine and every adapter; `fedcircuit run NAME --device` takes part of a name
  fedcircuit devices --json     the same for programs")]
pub struct DevicesArgs {
    /// Print JSON, for programs: a list of objects with name, backend, kind, driver and limits
    #[arg(long)]
    pub json: bool,
}

/// One device as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListedDevice {
    /// The name of which `--device` takes a part.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`, and `rayon` for the CPU engine, as in `environment.json`.
    pub backend: String,
    /// `discrete`, `integrated`, `software` or `engine`.
    pub kind: String,
    /// The driver and its version; of the CPU engine, the instructions that it uses.
    pub driver: String,
    /// The limits that decide how many clients fit, by name.
    pub limits: BTreeMap<String, u64>,
}

/// Lists what can compute.
pub fn execute(args: DevicesArgs) -> Result<()> {
    let devices: Vec<ListedDevice> = std::iter::once(cpu_engine()).chain(adapters().into_iter().map(adapter)).collect();
    print(&if args.json { json(&devices)? } else { text(&devices) })
}

/// The CPU engine, which every machine has.
fn cpu_engine() -> ListedDevice {
    ListedDevice {
        name: "cpu".into(),
        backend: Cpu::BACKEND.into(),
        kind: "engine".into(),
        driver: Cpu::instructions().into(),
        limits: [("threads".to_string(), std::thread::available_parallelism().map_or(1, usize::from) as u64)].into(),
    }
}

/// A GPU, real or software.
fn adapter(adapter: AdapterSummary) -> ListedDevice {
    let driver = match adapter.unusable {
        Some(reason) => format!("{}; cannot be used: {reason}", adapter.driver),
        None => adapter.driver,
    };
    let limits = [
        ("max_binding_bytes", adapter.max_binding_bytes),
        ("max_buffer_bytes", adapter.max_buffer_bytes),
        ("workgroup_bytes", adapter.workgroup_bytes.into()),
        ("workgroup_invocations", adapter.workgroup_invocations.into()),
        ("storage_buffers", adapter.storage_buffers.into()),
    ];
    ListedDevice {
        name: adapter.name,
        backend: adapter.backend,
        kind: adapter.kind.into(),
        driver,
        limits: limits.map(|(name, value)| (name.to_string(), value)).into(),
    }
}

fn json(devices: &[ListedDevice]) -> Result<String> {
    let text = serde_json::to_string_pretty(devices).map_err(|error| {
        Error::device(format!("devices cannot be listed as JSON: {error}"), "list them without --json")
    })?;
    Ok(text + "\n")
}

fn text(devices: &[ListedDevice]) -> String {
    let one = |device: &ListedDevice| {
        let about = [&device.backend, &device.kind, &device.driver].map(String::as_str);
        let about: Vec<&str> = about.into_iter().filter(|part| !part.is_empty()).collect();
        let limits: String = device.limits.iter().map(|(name, value)| format!("  {name}: {value}\n")).collect();
        format!("{} ({})\n{limits}", device.name, about.join(", "))
    };
    devices.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_listed_for_people_and_for_programs() {
        let device = ListedDevice {
            name: "llvmpipe".into(),
            backend: "vulkan".into(),
            kind: "software".into(),
            driver: "Mesa 25".into(),
            limits: [("max_binding_bytes".to_string(), 128)].into(),
        };
        assert_eq!(
            text(std::slice::from_ref(&device)),
            "llvmpipe (vulkan, software, Mesa 25)\n  max_binding_bytes: 128\n"
        );
        let value: serde_json::Value = serde_json::from_str(&json(&[device]).unwrap()).unwrap();
        assert_eq!(value[0]["limits"]["max_binding_bytes"], 128);
    }
}
