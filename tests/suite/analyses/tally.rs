//! Counting right answers, and those that float32 may tell otherwise.

use crate::reference::judge;

/// Two logits nearer than this may come in either order in float32.
pub const NEAR: f64 = 1e-5;

/// The first greatest of some scores, and whether the next is so near that float32 may tell otherwise.
pub fn best(scores: &[f64]) -> (usize, bool) {
    let verdict = judge(scores, 0);
    let first = scores.iter().position(|s| *s == scores.iter().copied().fold(f64::NEG_INFINITY, f64::max)).unwrap();
    (first, verdict.margin < NEAR)
}

/// Counts what holds, and what cannot be told.
#[derive(Default)]
pub struct Tally {
    pub right: f64,
    near: f64,
    pub all: f64,
}

impl Tally {
    pub fn add(&mut self, (guess, near): (usize, bool), truth: usize) {
        self.right += f64::from(u8::from(guess == truth));
        self.near += f64::from(u8::from(near));
        self.all += 1.0;
    }

    pub fn join(&mut self, other: &Tally) {
        self.right += other.right;
        self.near += other.near;
        self.all += other.all;
    }

    /// Fails where `share` is not that of what was right.
    pub fn expect(&self, share: f64, what: &str) {
        assert!(
            (share * self.all - self.right).abs() <= self.near + 1e-9,
            "{what}: {share}, not {}",
            self.right / self.all
        );
    }
}
