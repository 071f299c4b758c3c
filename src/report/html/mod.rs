//! `report.html`: what a run's folder, or several runs' folders, say, as one page for people, made from their files
//! alone: those of old runs too, and of runs that were stopped.

mod analyses;
mod comparison;
mod drawing;
mod figures;
mod page;
mod reading;
mod specialists;
mod tables;
#[cfg(test)]
mod tests;
mod words;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use self::drawing::{png, scene, svg};
use self::figures::Figure;
pub(super) use self::page::POLICY;
use self::page::{Page, SUFFIX};
use self::reading::run::{self, Run};
use crate::files::replace_whole;
use crate::{Error, Result};

/// Bytes at the start of a page in which its title is.
const HEAD: u64 = 64 << 10;

/// The page in its folder.
pub const PAGE: &str = "report.html";

/// Writes `report.html` and the figures in `plots/`, as SVG and PNG, into `out`: about the run of one folder, or of
/// several folders, or of folders that hold several, about all of them beside each other. Reports that are there are
/// replaced, and their figures that this one lacks go. Returns where the page is.
///
/// # Errors
/// Folders that hold no run, files that are broken, by name and line, and whatever stands in the way of writing, such as a page
/// that is no report.
pub fn write(folders: &[PathBuf], out: &Path) -> Result<PathBuf> {
    check_replaceable(&out.join(PAGE))?;
    let runs = Runs::read(folders)?;
    let figures = runs.figures();
    let page = runs.page_with(&figures);
    fs::create_dir_all(out).map_err(Error::io("create", out))?;
    let path = out.join(PAGE);
    replace_whole(&path, page.as_bytes())?;
    let plots = out.join("plots");
    fs::create_dir_all(&plots).map_err(Error::io("create", &plots))?;
    figures.par_iter().try_for_each(|figure| draw(figure, &plots))?;
    remove_others(&figures, &plots)?;
    Ok(path)
}

/// Refuses to take the place of a page that is no report.
fn check_replaceable(page: &Path) -> Result<()> {
    let Ok(file) = File::open(page) else { return Ok(()) };
    let mut start = Vec::new();
    file.take(HEAD).read_to_end(&mut start).map_err(Error::io("read", page))?;
    if String::from_utf8_lossy(&start).contains(&format!("{SUFFIX}</title>")) {
        return Ok(());
    }
    let help = "accepted: a folder without one of that name, or with an earlier report; move it away, or see --out";
    Err(Error::file(page, "is no report of fedcircuit's, and nothing else is replaced", help))
}

/// Takes away the figures of an earlier report that are not in this one, as of a run that has been lengthened since.
fn remove_others(figures: &[Figure], plots: &Path) -> Result<()> {
    for id in figures::IDS.iter().filter(|id| !figures.iter().any(|figure| figure.id == **id)) {
        for path in ["svg", "png"].map(|kind| plots.join(format!("{id}.{kind}"))) {
            if path.is_file() {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
    }
    Ok(())
}

/// The page alone, of which nothing is written.
///
/// # Errors
/// Folders that hold no run, and files that are broken.
pub fn render(folders: &[PathBuf]) -> Result<String> {
    Ok(Runs::read(folders)?.page())
}

/// What folders say, read and not yet written about.
pub struct Runs {
    runs: Vec<Run>,
    /// Of the experiment of which they are variants, if they are.
    name: Option<String>,
}

impl Runs {
    /// Reads them, as [`write()`] does. Their files may hold anything.
    ///
    /// # Errors
    /// Folders that hold no run, and files that are broken, by name and line.
    pub fn read(folders: &[PathBuf]) -> Result<Self> {
        let mut runs = Vec::new();
        for folder in folders {
            runs.extend(run::read_runs(folder)?);
        }
        let name = of_one_file(&mut runs);
        name_apart(&mut runs);
        Ok(Self { runs, name })
    }

    /// The page about them.
    pub fn page(&self) -> String {
        self.page_with(&self.figures())
    }

    fn page_with(&self, figures: &[Figure]) -> String {
        let runs = &self.runs[..];
        let (title, words, tables) = match runs {
            [run] => (run.label.clone(), words::of_run(run), tables::of_run(run)),
            runs => {
                let labels: Vec<&str> = runs.iter().map(|run| run.label.as_str()).collect();
                let title = self.name.clone().unwrap_or_else(|| labels.join(", "));
                (title, words::of_runs(runs), comparison::tables(runs))
            }
        };
        Page { title, runs, words, figures, tables: &tables }.html()
    }

    fn figures(&self) -> Vec<Figure> {
        match &self.runs[..] {
            [run] => figures::of_run(run),
            runs => figures::of_runs(runs),
        }
    }
}

/// A figure's files.
fn draw(figure: &Figure, plots: &Path) -> Result<()> {
    let sheet = scene::sheet(&figure.title, &figure.scenes, &figure.left_out);
    replace_whole(&plots.join(format!("{}.svg", figure.id)), svg::file(&sheet).as_bytes())?;
    let path = plots.join(format!("{}.png", figure.id));
    let bytes = png::file(&sheet).map_err(Error::io("draw", &path))?;
    replace_whole(&path, &bytes)
}

/// The name of the experiment whose variants these are, each of which has its own after it: the folder's. Then that alone
/// tells them apart.
fn of_one_file(runs: &mut [Run]) -> Option<String> {
    let base = |run: &Run| Some(run.label.strip_suffix(&run::folder_name(&run.folder))?.strip_suffix('-')?.to_string());
    let name = base(runs.first()?).filter(|name| !name.is_empty())?;
    if runs.len() < 2 || runs.iter().any(|run| base(run).as_ref() != Some(&name)) {
        return None;
    }
    runs.iter_mut().for_each(|run| run.label = run::folder_name(&run.folder));
    Some(name)
}

/// Runs of one name are told apart by their folders, which those of one name by their order.
fn name_apart(runs: &mut [Run]) {
    let twice = |runs: &[Run], label: &str| runs.iter().filter(|run| run.label == label).count() > 1;
    let labels: Vec<bool> = runs.iter().map(|run| twice(runs, &run.label)).collect();
    for (run, _) in runs.iter_mut().zip(labels).filter(|(_, twice)| *twice) {
        run.label = run::folder_name(&run.folder);
    }
    let labels: Vec<bool> = runs.iter().map(|run| twice(runs, &run.label)).collect();
    for (i, (run, _)) in runs.iter_mut().zip(labels).enumerate().filter(|(_, (_, twice))| *twice) {
        run.label = format!("{} ({})", run.label, i + 1);
    }
}
