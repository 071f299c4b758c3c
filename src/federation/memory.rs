//! How many clients fit the device at once.

use crate::device::DeviceInfo;
use crate::error::{Error, Result};

/// Limits on a wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes all buffers of a wave may take together.
    pub bytes: u64,
    /// Largest buffer a kernel may see, in bytes.
    pub binding: u64,
    /// Most clients at once.
    pub max_wave: usize,
}

impl Budget {
    /// What a wave takes when the experiment does not say: it fits a small laptop.
    pub const DEFAULT_BYTES: u64 = 1 << 30;

    /// From the device's limits and the experiment's wishes.
    pub fn new(info: &DeviceInfo, bytes: Option<u64>, max_wave: Option<usize>) -> Self {
        Self {
            bytes: bytes.unwrap_or(Self::DEFAULT_BYTES),
            binding: info.max_binding_bytes.min(info.max_buffer_bytes),
            // A grid has a client in each z, and a GPU at most 65,535 of them.
            max_wave: max_wave.unwrap_or(usize::MAX).min(crate::device::grid::LIMIT as usize),
        }
    }
}

/// How many of `wanted` slots fit, when one takes `total` words of which `largest` lie in one buffer.
///
/// # Errors
/// [`Error::TooLarge`] when not even one does; `what` names it.
pub fn slots_that_fit(budget: Budget, wanted: usize, total: usize, largest: usize, what: &str) -> Result<usize> {
    let (total, largest) = (4 * total.max(1) as u64, 4 * largest.max(1) as u64);
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let smaller = "take a smaller training.batch_size or a smaller model";
    if largest > budget.binding {
        return Err(Error::TooLarge {
            what: what.to_string(),
            needed: format!("{} in one buffer", mib(largest)),
            limit: format!("the device allows {}", mib(budget.binding)),
            help: format!("{smaller}, or run with --device cpu"),
        });
    }
    if total > budget.bytes {
        return Err(Error::TooLarge {
            what: what.to_string(),
            needed: mib(total),
            limit: format!("device.memory allows {}", mib(budget.bytes)),
            help: format!("{smaller}, or raise device.memory"),
        });
    }
    let fit = (budget.bytes / total).min(budget.binding / largest);
    Ok(wanted.min(budget.max_wave).min(usize::try_from(fit).unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_decides() {
        let budget = Budget { bytes: 4000, binding: 1200, max_wave: 100 };
        let fit = |wanted, total, largest| slots_that_fit(budget, wanted, total, largest, "a client");
        assert_eq!(fit(50, 100, 10).unwrap(), 10);
        assert_eq!(fit(50, 100, 100).unwrap(), 3);
        assert_eq!(fit(2, 100, 100).unwrap(), 2);
        assert_eq!(slots_that_fit(Budget { max_wave: 1, ..budget }, 9, 1, 1, "a client").unwrap(), 1);
    }

    #[test]
    fn one_client_that_does_not_fit_is_refused_with_what_it_needs() {
        let budget = Budget { bytes: 1 << 20, binding: 1 << 19, max_wave: 100 };
        let error = slots_that_fit(budget, 1, 1 << 20, 1, "a client").unwrap_err();
        assert!(error.to_string().contains("4.0 MiB") && error.to_string().contains("device.memory"), "{error}");
        assert_eq!(error.exit_code(), 2);
        let error = slots_that_fit(budget, 1, 1 << 18, 1 << 18, "a client").unwrap_err();
        assert!(error.to_string().contains("1.0 MiB in one buffer"), "{error}");
    }
}
