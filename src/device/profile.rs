//! Which kernels the time of some work went to.

use std::time::Duration;

/// What every kernel took of some work, the longest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile(pub Vec<Took>);

/// What a kernel took of some work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Took {
    /// The kernel's name.
    pub kernel: &'static str,
    /// How often it was dispatched.
    pub dispatches: usize,
    /// Of all its dispatches.
    pub time: Duration,
}

impl Profile {
    /// Sums up dispatches, each a kernel's name and its time.
    pub fn new(dispatches: Vec<(&'static str, Duration)>) -> Self {
        let mut kernels: Vec<Took> = Vec::new();
        for (kernel, time) in dispatches {
            match kernels.iter_mut().find(|took| took.kernel == kernel) {
                Some(took) => (took.dispatches, took.time) = (took.dispatches + 1, took.time + time),
                None => kernels.push(Took { kernel, dispatches: 1, time }),
            }
        }
        kernels.sort_by_key(|took| std::cmp::Reverse(took.time));
        Self(kernels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispatches_of_a_kernel_are_summed_and_the_longest_comes_first() {
        let ms = Duration::from_millis;
        let took = |kernel, dispatches, time| Took { kernel, dispatches, time: ms(time) };
        let profile = Profile::new(vec![("adam", ms(2)), ("conv", ms(3)), ("adam", ms(4))]);
        assert_eq!(profile.0, [took("adam", 2, 6), took("conv", 1, 3)]);
    }

    #[test]
    fn the_longest_comes_first_whichever_began() {
        let ms = Duration::from_millis;
        let names = |list: Vec<(&'static str, Duration)>| -> Vec<&'static str> {
            Profile::new(list).0.iter().map(|took| took.kernel).collect()
        };
        assert_eq!(names(vec![("a", ms(1)), ("b", ms(5)), ("c", ms(3)), ("a", ms(1))]), ["b", "c", "a"]);
    }
}
