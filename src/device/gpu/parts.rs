//! Dispatches cut into parts: the same workgroups, by the same numbers, in several dispatches after one another. A kernel's
//! workgroups do not wait for each other, so that changes no bit.

/// How every kernel's shader begins.
const ENTRY: &str = "fn main(@builtin(workgroup_id) group: vec3u,";
/// The same where its workgroups are numbered from the first of a part.
const OF_PART: &str = "fn main(@builtin(workgroup_id) group_of_part: vec3u,";

/// A shader whose workgroups are numbered from those in the uniform block at `binding`; `None` for one that does not begin
/// as kernels do.
pub(super) fn from_part(source: &str, binding: usize) -> Option<String> {
    let (head, rest) = source.split_once(ENTRY)?;
    let (arguments, body) = rest.split_once('{')?;
    let first = "let group = group_of_part + part_start.xyz;";
    let start = format!("@group(0) @binding({binding}) var<uniform> part_start: vec4u;");
    Some(format!("{head}{OF_PART}{arguments}{{\n    {first}{body}\n{start}\n"))
}

/// Part of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Its first workgroup.
    pub start: [u32; 3],
    /// Workgroups in x, y and z.
    pub groups: [u32; 3],
}

impl Part {
    /// How many they are.
    pub fn count(&self) -> u64 {
        count(self.groups)
    }
}

/// Workgroups of a grid.
fn count(groups: [u32; 3]) -> u64 {
    groups.iter().map(|n| u64::from(*n)).product()
}

/// A grid, part after part: in x first, then in y, then in z.
pub(super) struct Parts {
    groups: [u32; 3],
    at: [u32; 3],
}

impl Parts {
    /// Of `groups` workgroups; no part where there are none.
    pub fn new(groups: [u32; 3]) -> Self {
        Self { groups, at: if groups.contains(&0) { [0, 0, groups[2]] } else { [0; 3] } }
    }

    /// The next part, of at most `most` workgroups; of one where `most` is 0.
    pub fn next(&mut self, most: u64) -> Option<Part> {
        let ([x, y, z], start @ [ax, ay, az]) = (self.groups, self.at);
        if az == z {
            return None;
        }
        let (most, row, plane) = (most.max(1), u64::from(x), u64::from(x) * u64::from(y));
        // Clipped to what is left, so that it fits.
        let fit = |n: u64, left: u32| n.min(u64::from(left)) as u32;
        let groups = if ax > 0 || most < row {
            [fit(most, x - ax), 1, 1]
        } else if ay > 0 || most < plane {
            [x, fit(most / row, y - ay), 1]
        } else {
            [x, y, fit(most / plane, z - az)]
        };
        self.at = if ax + groups[0] < x {
            [ax + groups[0], ay, az]
        } else if ay + groups[1] < y {
            [0, ay + groups[1], az]
        } else {
            [0, 0, az + groups[2]]
        };
        Some(Part { start, groups })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::ALL;
    use wgpu::naga;

    #[test]
    fn every_shader_can_be_numbered_from_a_part() {
        use naga::valid::{Capabilities, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
        for kernel in ALL {
            for source in std::iter::once(kernel.source).chain(kernel.variants.iter().map(|v| v.source)) {
                let source =
                    from_part(&source(), kernel.bindings.len() + 1).unwrap_or_else(|| panic!("{}", kernel.name));
                let module = naga::front::wgsl::parse_str(&source)
                    .unwrap_or_else(|e| panic!("{}: {}", kernel.name, e.emit_to_string(&source)));
                let mut validator =
                    Validator::new(ValidationFlags::all(), Capabilities::SUBGROUP | Capabilities::SHADER_INT64);
                validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
                validator
                    .validate(&module)
                    .unwrap_or_else(|e| panic!("{}: {}", kernel.name, e.emit_to_string(&source)));
            }
        }
        assert_eq!(from_part("fn main() {}", 1), None);
    }

    /// Whatever the sizes asked for, every workgroup is in exactly one part, and no part is larger than asked.
    #[test]
    fn parts_hold_every_workgroup_once() {
        for groups in [[0, 3, 2], [1, 2, 0], [1, 1, 1], [5, 1, 1], [1, 1, 7], [3, 4, 5], [7, 2, 1], [1, 6, 3]] {
            for sizes in [&[0][..], &[1], &[2, 9, 1], &[3], &[5, 100], &[12, 13], &[u64::MAX]] {
                let (mut parts, mut seen, mut i) = (Parts::new(groups), vec![0; count(groups) as usize], 0);
                let mut last = None;
                while let Some(Part { start, groups: part }) = parts.next(sizes[i % sizes.len()]) {
                    assert!((1..=sizes[i % sizes.len()].max(1)).contains(&count(part)), "{groups:?} {sizes:?}");
                    assert!(last.replace(start) != Some(start));
                    for z in start[2]..start[2] + part[2] {
                        for y in start[1]..start[1] + part[1] {
                            for x in start[0]..start[0] + part[0] {
                                seen[((z * groups[1] + y) * groups[0] + x) as usize] += 1;
                            }
                        }
                    }
                    i += 1;
                }
                assert!(seen.iter().all(|n| *n == 1), "{groups:?} {sizes:?}: {seen:?}");
                assert!(sizes[0] != u64::MAX || i == usize::from(!groups.contains(&0)), "one part where all fit");
            }
        }
    }
}
