//! What `--resume` finds in a run's folder.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, Newest, Origin, Store, remove};
use super::finished::Finished;
use super::folders::{Folders, Start, folder_of};
use super::journal::history;
use crate::config::{Analysis, Experiment, Plan};
use crate::error::{Error, Result};
use crate::files::replace_whole;
use crate::report::begin::{EXPERIMENT, is_unfinished};
use crate::report::read_history;

/// A run's folder, before the run.
pub(super) enum Found {
    /// It must be free: nothing is resumed.
    New,
    /// The run was ended before its first checkpoint.
    Unstarted,
    /// It was ended later, or was to have fewer rounds, and goes on from here.
    Ended { checkpoint: Box<Checkpoint>, longer: bool },
    /// Nothing is left to do.
    Finished,
}

impl Found {
    /// How the run begins in its folders; one that is finished would begin as a new one, for which they are not free.
    pub fn start(&self) -> Start<'_> {
        match self {
            Found::New | Found::Finished => Start::New,
            Found::Unstarted => Start::Again,
            Found::Ended { checkpoint, .. } => Start::At(&checkpoint.marks),
        }
    }
}

/// Looks into the folder `run` for what is left of the run of `origin`, whose experiment is `experiment` with circuits in
/// the layers `gated`. `tell` is told of checkpoints that are refused where an earlier one is good.
///
/// # Errors
/// [`Error::Config`] when the folder is that of another run, and [`Error::File`] when no checkpoint of it is good.
pub(super) fn look(
    run: &Path,
    origin: &Origin,
    experiment: &Experiment,
    gated: &[String],
    tell: &dyn Fn(&str),
) -> Result<Found> {
    let toml = run.join(EXPERIMENT);
    let longer = match fs::read_to_string(&toml) {
        Ok(text) => origin.check_experiment(&text, &toml)?,
        Err(error) if error.kind() == ErrorKind::NotFound && is_unfinished(run)? => return Ok(Found::Unstarted),
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(no_run(run)),
        Err(error) => return Err(Error::io("read", &toml)(error)),
    };
    if !longer && run.join(SUMMARY).is_file() {
        return Ok(Found::Finished);
    }
    let Newest { found, refused } = Store::new(run).newest(&|file: &Path, checkpoint: &Checkpoint| {
        origin.check(&checkpoint.origin, file)?;
        Folders::check(run, experiment, gated, &checkpoint.marks)?;
        read_history(&history(run), checkpoint.state.round, experiment.seeds.all().len()).map(drop)
    })?;
    match found {
        Some(checkpoint) => {
            for error in refused {
                tell(&format!("note: {error}\n  going on from the checkpoint after round {}", checkpoint.state.round));
            }
            Ok(Found::Ended { checkpoint: Box::new(checkpoint), longer })
        }
        None => match refused.into_iter().next() {
            Some(error) => Err(error),
            None if has_rounds(run, experiment) => {
                let problem = format!("{} holds rounds and no checkpoint to go on from", run.display());
                Err(Error::config("--resume", problem, "start the run in another folder, with --out"))
            }
            None => Ok(Found::Unstarted),
        },
    }
}

/// With it a run is finished.
const SUMMARY: &str = "summary.json";

/// Makes the run in `run`, which was to have fewer rounds, one of `experiment` that was ended after `round`: as the rounds
/// that come are no longer after its end, what only an end has goes. Wherever that is ended itself, it can be done again: the
/// folder that [`look`] looks into is the last that is changed.
///
/// # Errors
/// What the system says.
pub(super) fn lengthen(run: &Path, experiment: &Experiment, round: usize) -> Result<()> {
    let seeds = experiment.seeds.all();
    let folders = (0..seeds.len()).map(|i| (folder_of(experiment, i, run), experiment.with_seed(seeds[i])));
    let mut folders: Vec<(PathBuf, Experiment)> = folders.collect();
    if experiment.seeds.several() {
        folders.push((run.into(), experiment.clone()));
    }
    for (folder, experiment) in &folders {
        let analyses = Analysis::ALL.iter().map(|(name, _)| format!("analyses/{name}.csv"));
        let ends = [SUMMARY.to_string(), "analyses.json".to_string()].into_iter().chain(analyses);
        ends.map(|name| folder.join(name)).try_for_each(|path| remove(&path))?;
        models(folder)?
            .iter()
            .filter(|(of, _)| *of > round && !experiment.output.saves(*of, experiment.rounds))
            .try_for_each(|(_, path)| remove(path))?;
    }
    folders
        .iter()
        .try_for_each(|(folder, experiment)| replace_whole(&folder.join(EXPERIMENT), experiment.to_toml()?.as_bytes()))
}

/// The saved models in a folder, each with its round.
fn models(folder: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let folder = folder.join("model");
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("read", &folder))?,
    };
    let round = |path: &Path| -> Option<usize> {
        let digits = path.file_name()?.to_str()?.strip_prefix("round_")?.split(['_', '.']).next()?;
        digits.parse().ok()
    };
    Ok(entries.flatten().filter_map(|entry| Some((round(&entry.path())?, entry.path()))).collect())
}

/// Gives `done` what an earlier process did of the run in `run`, which is `rounds` rounds.
///
/// # Errors
/// What is wrong with the run's history.
pub(super) fn recall(run: &Path, experiment: &Experiment, rounds: usize, done: &mut Finished) -> Result<()> {
    done.recall(read_history(&history(run), rounds, experiment.seeds.all().len())?);
    Ok(())
}

/// Refuses to resume what was never started, and to mix a plan's variants with others that are there.
///
/// # Errors
/// [`Error::Config`] when there is no folder `path`, or in it something else than a run, or experiments of which the plan has
/// none.
pub fn check_resumable(path: &Path, plan: &Plan) -> Result<()> {
    if !path.is_dir() {
        return Err(no_run(path));
    }
    let labels: Vec<&str> = plan.variants.iter().filter_map(|variant| variant.label.as_deref()).collect();
    if labels.is_empty() {
        return Ok(());
    }
    let help = "accepted: the experiments that the folder has, and more; give another folder with --out for others";
    if path.join(EXPERIMENT).is_file() {
        let problem = format!("{} is of one experiment, and the file has several", path.display());
        return Err(Error::config("--resume", problem, help));
    }
    let entries = fs::read_dir(path).map_err(Error::io("read", path))?.flatten();
    let others = entries.filter(|entry| entry.path().join(EXPERIMENT).is_file()).map(|entry| entry.file_name());
    let mut others: Vec<String> = others.map(|name| name.to_string_lossy().into_owned()).collect();
    others.retain(|name| !labels.contains(&name.as_str()));
    others.sort();
    match others.first() {
        // The first thing that was made there is the folder of an experiment.
        None if !labels.iter().any(|label| path.join(label).is_dir()) && !is_unfinished(path)? => Err(no_run(path)),
        Some(other) => {
            let problem = format!("{} has an experiment {other}, and the file has none of that name", path.display());
            Err(Error::config("--resume", problem, help))
        }
        None => Ok(()),
    }
}

/// The error for a folder in which nothing was run.
fn no_run(path: &Path) -> Error {
    let empty = fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none());
    let (besides, help) = match empty {
        true => ("", "leave --resume out to start it there, or give the run's folder with --out"),
        false => (
            ", which is not empty",
            "give the run's folder with --out, of several experiments in one file that of all of them with that file; to start \
             anew, leave --resume out and give another folder",
        ),
    };
    Error::config("--resume", format!("there is no run in {}{besides}", path.display()), help)
}

/// Whether some seed has a round on disk.
fn has_rounds(run: &Path, experiment: &Experiment) -> bool {
    let file = |i: usize| folder_of(experiment, i, run).join("rounds.jsonl");
    (0..experiment.seeds.all().len()).any(|i| fs::metadata(file(i)).is_ok_and(|file| file.len() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Override, load};

    /// As a full disk would, the last seed's file cannot be written.
    #[test]
    fn what_ends_while_it_is_lengthened_can_be_lengthened_again() {
        let text =
            "name = \"a\"\nseeds = [1, 2]\ndata.source = \"digits\"\npartition = { kind = \"iid\", num_clients = 2 }\n";
        let of = |rounds: i64| -> Experiment {
            load(text, "a.toml", &[Override::new("rounds", rounds)]).unwrap().variants.remove(0).experiment
        };
        let run = tempfile::tempdir().unwrap();
        let [first, second] = [0, 1].map(|i| folder_of(&of(2), i, run.path()).join(EXPERIMENT));
        let parent = run.path().join(EXPERIMENT);
        for path in [&first, &second, &parent] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, of(2).to_toml().unwrap()).unwrap();
        }
        fs::remove_file(&second).unwrap();
        fs::create_dir(&second).unwrap();
        let rounds =
            |path: &Path| load(&fs::read_to_string(path).unwrap(), "", &[]).unwrap().variants[0].experiment.rounds;
        assert!(lengthen(run.path(), &of(4), 2).is_err());
        assert_eq!((rounds(&first), rounds(&parent)), (4, 2), "seen as shorter still");
        fs::remove_dir(&second).unwrap();
        lengthen(run.path(), &of(4), 2).unwrap();
        assert_eq!([first, second, parent].map(|path| rounds(&path)), [4; 3]);
    }
}
