//! How many clients fit the device at once.

use crate::device::DeviceInfo;
use crate::error::{Error, Result, mib};

/// Limits on a wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes all buffers of a wave may take together.
    pub bytes: u64,
    /// Largest buffer a kernel may see, in bytes.
    pub binding: u64,
    /// Most clients at once.
    pub max_wave: usize,
    /// Bytes of `bytes` that the global models of several federations side by side take.
    pub models: u64,
    /// What a wave of training or of searches should keep within, where nobody asked for a size.
    pub cache: Option<Cache>,
}

/// On the CPU engine: a wave's weights and activations that stay in the processor's caches from kernel to kernel are read
/// many times as fast as from memory. A GPU wants as many clients as it can get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Threads, each of which gets as many clients as the others: two or more.
    pub threads: usize,
}

impl Cache {
    /// Half of a common last-level cache.
    const BYTES: u64 = 16 << 20;

    fn of(info: &DeviceInfo) -> Option<Self> {
        (info.kind == "cpu").then_some(Self { threads: info.threads.max(1) })
    }

    /// As many clients of `words` as it holds.
    fn holds(self, words: usize) -> usize {
        let held = usize::try_from(Self::BYTES / (4 * words.max(1) as u64)).unwrap_or(usize::MAX);
        self.threads * (held / self.threads).max(2)
    }
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
            models: 0,
            cache: if bytes.is_none() && max_wave.is_none() { Cache::of(info) } else { None },
        }
    }

    /// Sets aside what the global models of `replicates` federations take, rows of `words` parameters, each with `sums` running
    /// sums. Those of the first are not counted: one federation's model is always there.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when they do not fit the device or leave nothing for a wave.
    pub fn beside_models(self, replicates: usize, words: usize, sums: usize) -> Result<Self> {
        let row = 4 * words as u64;
        let all = row * replicates as u64;
        let models = (1 + sums as u64) * row * replicates.saturating_sub(1) as u64;
        let refused = |needed: String, limit: String, help: &str| Error::TooLarge {
            what: format!("the global models of {replicates} seeds side by side"),
            needed,
            limit,
            help: format!("give fewer seeds in one run{help}"),
        };
        if replicates > 1 && all > self.binding {
            let limit = format!("the device allows {}", mib(self.binding));
            return Err(refused(format!("{} in one buffer", mib(all)), limit, ", or run with --device cpu"));
        }
        if models >= self.bytes {
            let limit = format!("device.memory allows {}", mib(self.bytes));
            return Err(refused(mib(models), limit, ", or raise device.memory"));
        }
        Ok(Self { models, ..self })
    }
}

/// How many of `wanted` slots fit, when one takes `total` words of which `largest` lie in one buffer.
///
/// # Errors
/// [`Error::TooLarge`] when not even one does; `what` names it.
pub fn slots_that_fit(budget: Budget, wanted: usize, total: usize, largest: usize, what: &str) -> Result<usize> {
    let (total, largest) = (4 * total.max(1) as u64, 4 * largest.max(1) as u64);
    let smaller = "take a smaller training.batch_size or a smaller model";
    if largest > budget.binding {
        return Err(Error::TooLarge {
            what: what.to_string(),
            needed: format!("{} in one buffer", mib(largest)),
            limit: format!("the device allows {}", mib(budget.binding)),
            help: format!("{smaller}, or run with --device cpu"),
        });
    }
    let left = budget.bytes.saturating_sub(budget.models);
    if total > left {
        let besides = match budget.models {
            0 => String::new(),
            models => format!(", of which the global models of the seeds take {}", mib(models)),
        };
        return Err(Error::TooLarge {
            what: what.to_string(),
            needed: mib(total),
            limit: format!("device.memory allows {}{besides}", mib(budget.bytes)),
            help: format!("{smaller}, or raise device.memory"),
        });
    }
    let fit = (left / total).min(budget.binding / largest);
    Ok(wanted.min(budget.max_wave).min(usize::try_from(fit).unwrap_or(usize::MAX)))
}

/// The same for clients that train, searches, and masks that are tried, which go over their activations layer after layer: they
/// are also kept to what a cache holds.
///
/// # Errors
/// As [`slots_that_fit`].
pub fn wave_that_fits(budget: Budget, wanted: usize, total: usize, largest: usize, what: &str) -> Result<usize> {
    let fit = slots_that_fit(budget, wanted, total, largest, what)?;
    Ok(budget.cache.map_or(fit, |cache| fit.min(cache.holds(total))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_on_the_cpu_engine_stays_in_the_cache_unless_told_otherwise() {
        let info = crate::device::Device::info(&crate::device::Cpu::new(Some(3)).unwrap()).clone();
        let wave = |bytes, max_wave, words| {
            wave_that_fits(Budget::new(&info, bytes, max_wave), 1000, words, 1, "a client").unwrap()
        };
        // Of 16 clients of 1 MiB as many as three threads share evenly; of those of 4 MiB two for each.
        assert_eq!((wave(None, None, 1 << 18), wave(None, None, 1 << 20)), (15, 6));
        assert_eq!((wave(Some(1 << 30), None, 1 << 18), wave(None, Some(100), 1 << 18)), (1000, 100));
        let gpu = DeviceInfo { kind: "gpu", ..info };
        assert_eq!(wave_that_fits(Budget::new(&gpu, None, None), 1000, 1 << 18, 1, "a client").unwrap(), 1000);
    }

    /// What a kernel adds up to find a word is itself a word.
    #[test]
    fn no_memory_is_enough_for_a_buffer_that_kernels_cannot_count_through() {
        let info = crate::device::Device::info(&crate::device::Cpu::new(Some(1)).unwrap()).clone();
        let budget = Budget::new(&info, Some(1 << 50), None);
        let row: usize = (1 << 20) + 4;
        let fit = slots_that_fit(budget, usize::MAX, row, row, "a client").unwrap();
        assert!(fit > 1000 && u32::try_from(fit * row).is_ok(), "{fit} rows of {row} words");
        assert!(slots_that_fit(budget, 1, 1 << 33, 1 << 33, "a client").is_err());
    }

    #[test]
    fn the_tightest_limit_decides() {
        let budget = Budget { bytes: 4000, binding: 1200, max_wave: 100, models: 0, cache: None };
        let fit = |wanted, total, largest| slots_that_fit(budget, wanted, total, largest, "a client");
        assert_eq!(fit(50, 100, 10).unwrap(), 10);
        assert_eq!(fit(50, 100, 100).unwrap(), 3);
        assert_eq!(fit(2, 100, 100).unwrap(), 2);
        assert_eq!(slots_that_fit(Budget { max_wave: 1, ..budget }, 9, 1, 1, "a client").unwrap(), 1);
    }

    #[test]
    fn one_client_that_does_not_fit_is_refused_with_what_it_needs() {
        let budget = Budget { bytes: 1 << 20, binding: 1 << 19, max_wave: 100, models: 0, cache: None };
        let error = slots_that_fit(budget, 1, 1 << 20, 1, "a client").unwrap_err();
        assert!(error.to_string().contains("4.0 MiB") && error.to_string().contains("device.memory"), "{error}");
        assert_eq!(error.exit_code(), 2);
        let error = slots_that_fit(budget, 1, 1 << 18, 1 << 18, "a client").unwrap_err();
        assert!(error.to_string().contains("1.0 MiB in one buffer"), "{error}");
    }

    #[test]
    fn the_models_of_several_seeds_leave_less_for_a_wave() {
        let budget = Budget { bytes: 4 << 20, binding: 2 << 20, max_wave: 100, models: 0, cache: None };
        // A model of 0.5 MiB: three more than one, and their sums, leave 1 MiB.
        let words = 1 << 17;
        assert_eq!(budget.beside_models(1, words, 1).unwrap(), budget);
        let four = budget.beside_models(4, words, 1).unwrap();
        assert_eq!(four.models, 3 << 20);
        assert_eq!(slots_that_fit(four, 99, 1 << 16, 1, "a client").unwrap(), 4);
        let error = slots_that_fit(four, 1, 1 << 19, 1, "a client").unwrap_err().to_string();
        assert!(error.contains("4.0 MiB, of which the global models of the seeds take 3.0 MiB"), "{error}");
        let error = budget.beside_models(5, words, 1).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("models of 5 seeds side by side needs 2.5 MiB in one buffer"), "{error}");
        let error = Budget { bytes: 3 << 20, ..budget }.beside_models(4, words, 1).unwrap_err().to_string();
        assert!(error.contains("needs 3.0 MiB, but device.memory allows 3.0 MiB") && error.contains("fewer seeds"));
    }

    /// What just fits is taken, and what nobody limits is limited by the device and the grid.
    #[test]
    fn limits_may_be_met_exactly() {
        let budget = Budget { bytes: 400, binding: 200, max_wave: 100, models: 0, cache: None };
        assert_eq!(slots_that_fit(budget, 9, 100, 50, "a client").unwrap(), 1);
        assert!(slots_that_fit(budget, 9, 101, 1, "a client").is_err());
        assert!(slots_that_fit(budget, 9, 100, 51, "a client").is_err());
        let cpu = crate::device::Device::info(&crate::device::Cpu::new(Some(1)).unwrap()).clone();
        let info = DeviceInfo { max_binding_bytes: 3000, max_buffer_bytes: 2000, ..cpu };
        assert_eq!(Budget::new(&info, None, None).binding, 2000);
        assert_eq!(Budget::new(&DeviceInfo { max_buffer_bytes: 5000, ..info.clone() }, None, None).binding, 3000);
        let wave = |max_wave| Budget::new(&info, None, max_wave).max_wave;
        assert_eq!([wave(None), wave(Some(100_000)), wave(Some(7))], [65_535, 65_535, 7]);
        assert_eq!((Budget::new(&info, None, None).bytes, Budget::new(&info, Some(5), None).bytes), (1 << 30, 5));
    }
}
