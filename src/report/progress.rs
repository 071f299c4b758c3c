//! Progress on standard error: bars on a terminal, plain lines elsewhere, nothing when quiet; and on a page, where the run
//! serves one.

use std::collections::HashSet;
use std::io::{IsTerminal, Write, stderr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::live::Live;
use super::turns::Turns;

/// Shows how far a run is.
pub struct Progress {
    look: Look,
    /// Lines that are told once.
    told: Mutex<HashSet<String>>,
    live: Option<Live>,
}

enum Look {
    Bars(Box<Bars>),
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
    /// Ends a round that is in all files, and says in a line what came of it.
    fn finish_round(&self, summary: &str, news: News);
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
        self.message(&heading(name, rounds));
        if let Some(live) = &self.all.progress.live {
            live.joined(rounds);
        }
    }

    fn resume_run(&self, done: usize) {
        self.message(&gone_on(done));
        if let Some(live) = &self.all.progress.live {
            live.resumed(done);
        }
    }

    /// A bar that jumps between runs would say nothing.
    fn start_round(&self, _: usize, _: usize) {}

    fn advance(&self, _: usize) {}

    fn finish_round(&self, summary: &str, _: News) {
        self.message(summary);
        if let Some(live) = &self.all.progress.live {
            live.landed();
        }
    }

    fn message(&self, line: &str) {
        self.say(line, false);
    }

    fn once(&self, line: &str) {
        self.say(line, true);
    }
}

fn heading(name: &str, rounds: usize) -> String {
    format!("{name}: {rounds} {}", if rounds == 1 { "round" } else { "rounds" })
}

fn gone_on(done: usize) -> String {
    format!("going on after round {done}")
}

struct Bars {
    screen: MultiProgress,
    /// Of all rounds, each [`PARTS`] long, so that it also moves within a round and tells the time left from it.
    run: ProgressBar,
    /// Of the steps of the round.
    round: ProgressBar,
    /// Rounds.
    done: AtomicU64,
    rounds: AtomicU64,
}

/// Of a round, in the bar of all rounds.
const PARTS: u64 = 1000;

/// What a round gave, for the bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct News {
    /// Of the global model, between 0 and 1; the mean over seeds.
    pub accuracy: f64,
    /// Images trained on in a second of training, by all clients together.
    pub images_per_second: f64,
}

impl Progress {
    /// Bars if standard error is a terminal, else lines; nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let look = if quiet {
            Look::Quiet
        } else if stderr().is_terminal() {
            Look::Bars(Box::new(Bars::new(MultiProgress::new())))
        } else {
            Look::Lines
        };
        Self { look, told: Mutex::default(), live: None }
    }

    /// The same, which the page that is served follows too.
    pub fn followed_by(self, live: Live) -> Self {
        Self { live: Some(live), ..self }
    }

    /// For so many runs at the same time.
    pub fn together(&self, runs: usize) -> Together<'_> {
        if let Some(live) = &self.live {
            live.began(&format!("{runs} experiments"), 0);
        }
        Together { progress: self, turns: Turns::new(runs) }
    }

    fn tell(&self, (line, once): &(String, bool)) {
        if *once { self.once(line) } else { self.message(line) }
    }

    /// Clears the bars away.
    pub fn done(&self) {
        if let Look::Bars(bars) = &self.look {
            bars.round.finish_and_clear();
            bars.run.finish_and_clear();
        }
    }

    /// Everything is written: the page that is served says so.
    pub fn written(&self) {
        if let Some(live) = &self.live {
            live.done();
        }
    }
}

impl Teller for Progress {
    fn start_run(&self, name: &str, rounds: usize) {
        match &self.look {
            Look::Bars(bars) => bars.start_run(name, rounds as u64),
            Look::Lines => self.message(&heading(name, rounds)),
            Look::Quiet => {}
        }
        if let Some(live) = &self.live {
            live.began(name, rounds);
        }
    }

    fn resume_run(&self, done: usize) {
        self.message(&gone_on(done));
        if let Look::Bars(bars) = &self.look {
            bars.resume_run(done as u64);
        }
        if let Some(live) = &self.live {
            live.resumed(done);
        }
    }

    fn start_round(&self, round: usize, total_steps: usize) {
        if let Look::Bars(bars) = &self.look {
            bars.round.reset();
            bars.round.set_length(total_steps as u64);
            bars.round.set_message(format!("round {round}"));
            bars.round.tick();
        }
    }

    fn advance(&self, steps: usize) {
        if let Look::Bars(bars) = &self.look {
            bars.advance(steps as u64);
        }
    }

    fn message(&self, line: &str) {
        match &self.look {
            // A terminal that went away, or a reader, is no reason to stop a run.
            Look::Bars(bars) => drop(bars.screen.println(line)),
            Look::Lines => drop(writeln!(stderr(), "{line}")),
            Look::Quiet => {}
        }
    }

    fn finish_round(&self, summary: &str, news: News) {
        self.message(summary);
        if let Look::Bars(bars) = &self.look {
            bars.finish_round(news);
        }
        if let Some(live) = &self.live {
            live.landed();
        }
    }

    fn once(&self, line: &str) {
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(line.into()) {
            self.message(line);
        }
    }
}

impl Bars {
    fn new(screen: MultiProgress) -> Self {
        let run = screen.add(ProgressBar::no_length().with_style(style(RUN)));
        let round = screen.add(ProgressBar::no_length().with_style(style(ROUND)));
        Self { screen, run, round, done: AtomicU64::new(0), rounds: AtomicU64::new(0) }
    }

    fn start_run(&self, name: &str, rounds: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.rounds.store(rounds, Ordering::Relaxed);
        self.run.reset();
        self.run.set_length(rounds * PARTS);
        self.run.set_message(name.to_string());
        self.run.set_prefix(counted(0, rounds, None));
        self.run.tick();
    }

    fn resume_run(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.run.set_position(done * PARTS);
        self.run.set_prefix(counted(done, self.rounds.load(Ordering::Relaxed), None));
        self.run.reset_eta();
    }

    fn advance(&self, steps: u64) {
        self.round.inc(steps);
        let length = self.round.length().unwrap_or(0).max(1);
        let part = PARTS * self.round.position().min(length) / length;
        self.run.set_position(self.done.load(Ordering::Relaxed) * PARTS + part);
    }

    fn finish_round(&self, news: News) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        self.run.set_position(done * PARTS);
        self.run.set_prefix(counted(done, self.rounds.load(Ordering::Relaxed), Some(news)));
    }
}

/// `3/10 rounds, accuracy 86.7%, 12400 images/s`.
fn counted(done: u64, rounds: u64, news: Option<News>) -> String {
    let shown = news.filter(|news| news.accuracy.is_finite() && news.images_per_second.is_finite());
    let news = shown.map(|News { accuracy, images_per_second }| {
        format!(", accuracy {:.1}%, {images_per_second:.0} images/s", 100.0 * accuracy)
    });
    format!("{done}/{rounds} rounds{}", news.unwrap_or_default())
}

/// Name, bar, rounds and what the last one gave, time left.
const RUN: &str = "{msg:20!} [{bar:30}] {prefix}, {eta} left";
/// Round, bar, steps, time left.
const ROUND: &str = "{msg:20!} [{bar:30}] {pos}/{len} steps, {eta} left";

fn style(template: &str) -> ProgressStyle {
    let fixed = ProgressStyle::with_template(template);
    fixed.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::ProgressDrawTarget;

    #[test]
    fn bars_count_rounds_and_the_steps_of_the_current_one() {
        assert!([RUN, ROUND].iter().all(|template| ProgressStyle::with_template(template).is_ok()));
        let target = ProgressDrawTarget::hidden();
        let progress = Progress {
            look: Look::Bars(Box::new(Bars::new(MultiProgress::with_draw_target(target)))),
            told: Mutex::default(),
            live: None,
        };
        let Look::Bars(bars) = &progress.look else { unreachable!("made so") };
        let (run, round) = (&bars.run, &bars.round);
        progress.start_run("three-classes", 4);
        progress.start_round(1, 200);
        progress.advance(50);
        progress.advance(25);
        assert_eq!((run.position(), run.length(), run.message().as_str()), (375, Some(4000), "three-classes"));
        assert_eq!((round.position(), round.length(), round.message().as_str()), (75, Some(200), "round 1"));
        progress.finish_round("round 1: accuracy 50.0%", News { accuracy: 0.5, images_per_second: 1234.4 });
        progress.start_round(2, 100);
        assert_eq!((run.position(), round.position(), round.length()), (1000, 0, Some(100)));
        assert_eq!(run.prefix(), "1/4 rounds, accuracy 50.0%, 1234 images/s");
        // More steps than were thought.
        progress.advance(300);
        assert_eq!(run.position(), 2000);
        progress.start_run("another", 2);
        progress.resume_run(1);
        assert_eq!((run.position(), run.length(), run.prefix().as_str()), (1000, Some(2000), "1/2 rounds"));
        progress.done();
        assert!(run.is_finished() && round.is_finished());
    }

    #[test]
    fn a_page_that_is_served_follows() {
        let folder = tempfile::tempdir().unwrap();
        let live = Live::start(folder.path(), 0).unwrap();
        let progress = Progress::new(true).followed_by(live);
        progress.start_run("a", 3);
        progress.finish_round("", News { accuracy: f64::NAN, images_per_second: 0.0 });
        assert_eq!(progress.live.as_ref().unwrap().rounds(), (1, 3));
    }
}
