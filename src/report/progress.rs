//! Progress on standard error: bars on a terminal, plain lines elsewhere, nothing when quiet.

use std::collections::HashSet;
use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::turns::Turns;

/// Shows how far a run is.
pub struct Progress {
    look: Look,
    /// Lines that are told once.
    told: Mutex<HashSet<String>>,
}

enum Look {
    Bars { screen: MultiProgress, run: ProgressBar, round: ProgressBar },
    Lines,
    Quiet,
}

/// How several runs at the same time show how far they are.
pub struct Together<'p> {
    progress: &'p Progress,
    turns: Turns,
}

/// What a run tells of itself.
pub trait Teller {
    /// Begins a run of so many rounds; `name` is shown with it.
    fn start_run(&self, name: &str, rounds: usize);
    /// Says that the run goes on after so many rounds.
    fn resume_run(&self, done: usize);
    /// Begins one-based `round`, of so many steps of work.
    fn start_round(&self, round: usize, total_steps: usize);
    /// So many more steps are done.
    fn advance(&self, steps: usize);
    /// Ends a round, and says in a line what came of it.
    fn finish_round(&self, summary: &str);
    /// A line of its own.
    fn message(&self, line: &str);
    /// A line that is told once, whatever runs come after this one.
    fn once(&self, line: &str);
}

/// One of several runs.
pub struct InTurn<'p> {
    all: &'p Together<'p>,
    run: usize,
}

impl Together<'_> {
    /// Run number `run`.
    pub fn run(&self, run: usize) -> InTurn<'_> {
        InTurn { all: self, run }
    }

    /// Run number `run` is over.
    pub fn end(&self, run: usize) {
        self.turns.end(run, &|line| self.progress.tell(line));
    }
}

impl InTurn<'_> {
    fn say(&self, line: &str, once: bool) {
        self.all.turns.say(self.run, (line.into(), once), &|line| self.all.progress.tell(line));
    }
}

impl Teller for InTurn<'_> {
    fn start_run(&self, name: &str, rounds: usize) {
        self.message(&format!("{name}: {rounds} rounds"));
    }

    fn resume_run(&self, done: usize) {
        self.message(&gone_on(done));
    }

    /// A bar that jumps between runs would say nothing.
    fn start_round(&self, _: usize, _: usize) {}

    fn advance(&self, _: usize) {}

    fn finish_round(&self, summary: &str) {
        self.message(summary);
    }

    fn message(&self, line: &str) {
        self.say(line, false);
    }

    fn once(&self, line: &str) {
        self.say(line, true);
    }
}

fn gone_on(done: usize) -> String {
    format!("going on after round {done}")
}

impl Progress {
    /// Bars if standard error is a terminal, else lines; nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let of = |look| Self { look, told: Mutex::default() };
        if quiet {
            return of(Look::Quiet);
        }
        if !stderr().is_terminal() {
            return of(Look::Lines);
        }
        let screen = MultiProgress::new();
        let run = screen.add(ProgressBar::no_length().with_style(style("rounds")));
        let round = screen.add(ProgressBar::no_length().with_style(style("steps")));
        of(Look::Bars { screen, run, round })
    }

    /// For so many runs at the same time.
    pub fn together(&self, runs: usize) -> Together<'_> {
        Together { progress: self, turns: Turns::new(runs) }
    }

    fn tell(&self, (line, once): &(String, bool)) {
        if *once { self.once(line) } else { self.message(line) }
    }

    /// Clears the bars away.
    pub fn done(&self) {
        if let Look::Bars { run, round, .. } = &self.look {
            round.finish_and_clear();
            run.finish_and_clear();
        }
    }
}

impl Teller for Progress {
    fn start_run(&self, name: &str, rounds: usize) {
        match &self.look {
            Look::Bars { run, .. } => {
                run.reset();
                run.set_length(rounds as u64);
                run.set_message(name.to_string());
                run.tick();
            }
            Look::Lines => self.message(&format!("{name}: {rounds} rounds")),
            Look::Quiet => {}
        }
    }

    fn resume_run(&self, done: usize) {
        self.message(&gone_on(done));
        if let Look::Bars { run, .. } = &self.look {
            run.set_position(done as u64);
            run.reset_eta();
        }
    }

    fn start_round(&self, round: usize, total_steps: usize) {
        if let Look::Bars { round: bar, .. } = &self.look {
            bar.reset();
            bar.set_length(total_steps as u64);
            bar.set_message(format!("round {round}"));
            bar.tick();
        }
    }

    fn advance(&self, steps: usize) {
        if let Look::Bars { round, .. } = &self.look {
            round.inc(steps as u64);
        }
    }

    fn message(&self, line: &str) {
        match &self.look {
            // A terminal that went away is no reason to stop a run.
            Look::Bars { screen, .. } => drop(screen.println(line)),
            Look::Lines => eprintln!("{line}"),
            Look::Quiet => {}
        }
    }

    fn finish_round(&self, summary: &str) {
        self.message(summary);
        if let Look::Bars { run, .. } = &self.look {
            run.inc(1);
        }
    }

    fn once(&self, line: &str) {
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(line.into()) {
            self.message(line);
        }
    }
}

/// Name, bar, count, time left.
fn template(unit: &str) -> String {
    format!("{{msg:20!}} [{{bar:30}}] {{pos}}/{{len}} {unit}, {{eta}} left")
}

fn style(unit: &str) -> ProgressStyle {
    let fixed = ProgressStyle::with_template(&template(unit));
    fixed.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::ProgressDrawTarget;

    #[test]
    fn bars_count_rounds_and_the_steps_of_the_current_one() {
        assert!(ProgressStyle::with_template(&template("steps")).is_ok());
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let (run, round) = (screen.add(ProgressBar::no_length()), screen.add(ProgressBar::no_length()));
        let look = Look::Bars { screen, run: run.clone(), round: round.clone() };
        let progress = Progress { look, told: Mutex::default() };
        progress.start_run("three-classes", 4);
        progress.start_round(1, 200);
        progress.advance(50);
        progress.advance(25);
        assert_eq!((run.position(), run.length(), run.message().as_str()), (0, Some(4), "three-classes"));
        assert_eq!((round.position(), round.length(), round.message().as_str()), (75, Some(200), "round 1"));
        progress.finish_round("round 1: accuracy 50.0%");
        progress.start_round(2, 100);
        assert_eq!((run.position(), round.position(), round.length()), (1, 0, Some(100)));
        progress.start_run("another", 2);
        assert_eq!((run.position(), run.length()), (0, Some(2)));
        progress.done();
        assert!(run.is_finished() && round.is_finished());
    }
}
