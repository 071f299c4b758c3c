//! Progress on standard error: bars on a terminal, plain lines elsewhere, nothing when quiet.

use std::io::{IsTerminal, stderr};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Shows how far a run is.
pub struct Progress {
    look: Look,
}

enum Look {
    Bars { screen: MultiProgress, run: ProgressBar, round: ProgressBar },
    Lines,
    Quiet,
}

impl Progress {
    /// Bars if standard error is a terminal, else lines; nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        if quiet {
            return Self { look: Look::Quiet };
        }
        if !stderr().is_terminal() {
            return Self { look: Look::Lines };
        }
        let screen = MultiProgress::new();
        let run = screen.add(ProgressBar::no_length().with_style(style("rounds")));
        let round = screen.add(ProgressBar::no_length().with_style(style("steps")));
        Self { look: Look::Bars { screen, run, round } }
    }

    /// Begins a run of so many rounds; `name` is shown beside its bar.
    pub fn start_run(&self, name: &str, rounds: usize) {
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

    /// Says that the run goes on after so many rounds.
    pub fn resume_run(&self, done: usize) {
        self.message(&format!("going on after round {done}"));
        if let Look::Bars { run, .. } = &self.look {
            run.set_position(done as u64);
            run.reset_eta();
        }
    }

    /// Begins one-based `round`, of so many steps of work.
    pub fn start_round(&self, round: usize, total_steps: usize) {
        if let Look::Bars { round: bar, .. } = &self.look {
            bar.reset();
            bar.set_length(total_steps as u64);
            bar.set_message(format!("round {round}"));
            bar.tick();
        }
    }

    /// So many more steps are done.
    pub fn advance(&self, steps: usize) {
        if let Look::Bars { round, .. } = &self.look {
            round.inc(steps as u64);
        }
    }

    /// A line of its own, above the bars.
    pub fn message(&self, line: &str) {
        match &self.look {
            // A terminal that went away is no reason to stop a run.
            Look::Bars { screen, .. } => drop(screen.println(line)),
            Look::Lines => eprintln!("{line}"),
            Look::Quiet => {}
        }
    }

    /// Ends a round, and says in a line what came of it.
    pub fn finish_round(&self, summary: &str) {
        self.message(summary);
        if let Look::Bars { run, .. } = &self.look {
            run.inc(1);
        }
    }

    /// Clears the bars away.
    pub fn done(&self) {
        if let Look::Bars { run, round, .. } = &self.look {
            round.finish_and_clear();
            run.finish_and_clear();
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
        let progress = Progress { look: Look::Bars { screen, run: run.clone(), round: round.clone() } };
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
