//! Lines of several runs at a time, told as if one ran after the other: those of the first at once, those of the others
//! when their turn comes.

use std::sync::{Mutex, MutexGuard};

/// A line, and whether it is told only once however often it comes.
type Line = (String, bool);

/// Whose turn it is, and what waits for the others'.
#[derive(Debug)]
pub(super) struct Turns {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    turn: usize,
    waiting: Vec<Vec<Line>>,
    ended: Vec<bool>,
}

impl Turns {
    /// Of so many runs.
    pub fn new(runs: usize) -> Self {
        Self { state: Mutex::new(State { turn: 0, waiting: vec![Vec::new(); runs], ended: vec![false; runs] }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A line of run number `run`.
    pub fn say(&self, run: usize, line: Line, tell: &dyn Fn(&Line)) {
        let mut state = self.state();
        if state.turn == run { tell(&line) } else { state.waiting[run].push(line) }
    }

    /// Run number `run` has nothing more to say.
    pub fn end(&self, run: usize, tell: &dyn Fn(&Line)) {
        let mut state = self.state();
        state.ended[run] = true;
        while state.ended.get(state.turn) == Some(&true) {
            state.turn += 1;
            let turn = state.turn;
            state.waiting.get_mut(turn).map(std::mem::take).iter().flatten().for_each(tell);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn lines_come_run_after_run() {
        let (turns, told) = (Turns::new(3), RefCell::new(String::new()));
        let tell = |(line, _): &Line| told.borrow_mut().push_str(line);
        let say = |run, line: &str| turns.say(run, (line.into(), false), &tell);
        say(1, "c");
        say(0, "a");
        say(2, "e");
        turns.end(1, &tell);
        say(0, "b");
        assert_eq!(*told.borrow(), "ab");
        turns.end(0, &tell);
        assert_eq!(*told.borrow(), "abce");
        say(2, "f");
        turns.end(2, &tell);
        assert_eq!(*told.borrow(), "abcef");
    }
}
