//! How much work goes to the device at a time, so that nothing of it comes near a watchdog (Windows ends what takes two
//! seconds) and a screen on the same device stays alive. What a kernel takes is found by waiting for it alone, now and then.

use std::collections::HashMap;
use std::time::Duration;

/// How long a device may be busy at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// With one dispatch; longer ones are cut into parts.
    pub dispatch: Duration,
    /// With one submission.
    pub submission: Duration,
    /// Workgroups of the first part of a dispatch of which nothing is known.
    pub first: u64,
}

impl Pace {
    /// What suits a device with a watchdog. 256 workgroups of the slowest kernel are 2.4 GFLOP.
    pub const WATCHDOG: Self =
        Self { dispatch: Duration::from_millis(50), submission: Duration::from_millis(200), first: 256 };
    /// Nothing is ever cut.
    pub const ENDLESS: Self = Self { dispatch: Duration::MAX, submission: Duration::MAX, first: u64::MAX };
}

/// What dispatches have in common that take the same time a workgroup: the kernel, the grid's x and y, and the words bound
/// for each z.
pub(super) type Kind = (&'static str, [u32; 2], u64);

/// More kinds than a run has; beyond it, all are found out again.
const MOST_KINDS: usize = 4096;

/// A part this much larger than the largest that was timed is timed itself: a few workgroups do not fill a device.
const LARGER: u64 = 4;

/// What was timed.
#[derive(Clone, Copy, Debug)]
struct Timed {
    groups: u64,
    /// Seconds a workgroup.
    each: f64,
}

/// The pace of a device.
pub(super) struct Pacer {
    /// None for one that nothing watches.
    pace: Option<Pace>,
    known: HashMap<Kind, Timed>,
    /// Seconds that the recorded work is expected to take.
    recorded: f64,
}

impl Pacer {
    pub fn new(pace: Option<Pace>) -> Self {
        Self { pace, known: HashMap::new(), recorded: 0.0 }
    }

    /// Workgroups that the next part of such a dispatch may have.
    pub fn most(&self, kind: &Kind) -> u64 {
        let Some(pace) = self.pace else { return u64::MAX };
        // As many as fit; the conversion ends at the largest number.
        self.known.get(kind).map_or(pace.first, |timed| (pace.dispatch.as_secs_f64() / timed.each) as u64).max(1)
    }

    /// Whether a part of `groups` workgroups is to be waited for alone.
    pub fn alone(&self, kind: &Kind, groups: u64) -> bool {
        let Some(pace) = self.pace else { return false };
        // What takes long is timed each time, which costs it little and keeps up with a device that slows down.
        let long = |timed: &Timed| timed.each * groups as f64 >= pace.dispatch.as_secs_f64() / 4.0;
        self.known.get(kind).is_none_or(|timed| groups > LARGER * timed.groups || long(timed))
    }

    /// A part took so long.
    pub fn note(&mut self, kind: Kind, groups: u64, took: Duration) {
        if self.known.len() >= MOST_KINDS {
            self.known.clear();
        }
        // Never nothing, so that every number of workgroups has a time.
        let each = took.as_secs_f64().max(1e-9) / groups.max(1) as f64;
        self.known.insert(kind, Timed { groups, each });
    }

    /// Seconds that a part is expected to take.
    fn takes(&self, kind: &Kind, groups: u64) -> f64 {
        self.known.get(kind).map_or(0.0, |timed| timed.each * groups as f64)
    }

    /// Whether what is recorded has to be submitted before a part is recorded too.
    pub fn full(&self, kind: &Kind, groups: u64) -> bool {
        let longest = |pace: Pace| pace.submission.as_secs_f64();
        let takes = |pace| self.recorded + self.takes(kind, groups) > longest(pace);
        self.recorded > 0.0 && self.pace.is_some_and(takes)
    }

    /// A part is recorded, to be submitted with others.
    pub fn add(&mut self, kind: &Kind, groups: u64) {
        if self.pace.is_some() {
            self.recorded += self.takes(kind, groups);
        }
    }

    /// What was recorded is submitted.
    pub fn submitted(&mut self) {
        self.recorded = 0.0;
    }

    /// The host waited so long for one submission. Where that is more than one may take, some expectation is wrong, and all
    /// are given up.
    pub fn waited(&mut self, waited: Duration) {
        if self.pace.is_some_and(|pace| waited > pace.submission) {
            self.known.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = ("adam", [8, 1], 100);
    const OTHER: Kind = ("sgd", [8, 1], 100);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_device_that_nothing_watches_gets_everything_at_once() {
        let mut pacer = Pacer::new(None);
        pacer.note(KIND, 1, ms(1000));
        pacer.add(&KIND, 9);
        assert_eq!((pacer.most(&KIND), pacer.alone(&KIND, 9), pacer.full(&KIND, 9)), (u64::MAX, false, false));
    }

    #[test]
    fn parts_grow_until_they_take_as_long_as_they_may() {
        let mut pacer = Pacer::new(Some(Pace::WATCHDOG));
        assert!(pacer.most(&KIND) == 256 && pacer.alone(&KIND, 256));
        pacer.note(KIND, 256, ms(1));
        // 12,800 take 50 ms as 256 take 1; more than 1,024 are timed again, since they may take less each.
        assert_eq!((pacer.most(&KIND), pacer.alone(&KIND, 1024), pacer.alone(&KIND, 1025)), (12_800, false, true));
        pacer.note(KIND, 12_800, ms(10));
        assert_eq!(pacer.most(&KIND), 64_000);
        // What takes a quarter of 50 ms is timed each time.
        assert!(!pacer.alone(&KIND, 15_999) && pacer.alone(&KIND, 16_000));
        // A device that slowed down gets less, and one workgroup at least.
        pacer.note(KIND, 64_000, ms(500));
        assert_eq!(pacer.most(&KIND), 6_400);
        pacer.note(KIND, 1, ms(500));
        assert_eq!((pacer.most(&KIND), pacer.most(&OTHER)), (1, 256));
        pacer.note(KIND, 9, Duration::ZERO);
        assert!(pacer.most(&KIND) > 1 << 28);
    }

    #[test]
    fn submissions_are_closed_before_they_take_too_long() {
        let mut pacer = Pacer::new(Some(Pace::WATCHDOG));
        pacer.note(KIND, 100, ms(30));
        let mut closed = Vec::new();
        for part in 0..14 {
            if pacer.full(&KIND, 100) {
                pacer.submitted();
                closed.push(part);
            }
            pacer.add(&KIND, 100);
        }
        // Six take 180 ms.
        assert_eq!(closed, [6, 12]);
        pacer.submitted();
        // One that takes too long by itself goes alone.
        assert!(!pacer.full(&KIND, 1000));
        pacer.add(&KIND, 600);
        assert!(pacer.full(&KIND, 100));
        pacer.waited(ms(200));
        assert!(!pacer.alone(&KIND, 1));
        pacer.waited(ms(201));
        assert!(pacer.alone(&KIND, 1) && pacer.most(&KIND) == 256);
    }
}
