//! `mnist`: 70,000 handwritten digits (LeCun, Cortes and Burges), read from the four IDX files as distributed.

use std::path::{Path, PathBuf};

use super::{Dataset, Split, digit_names, idx};
use crate::error::{Error, Result};

const SIDE: usize = 28;
const CLASSES: u8 = 10;

/// The stems of the files and their number of dimensions: pictures and labels, for training and for test.
const TRAIN: [(&str, u8); 2] = [("train-images", 3), ("train-labels", 1)];
const TEST: [(&str, u8); 2] = [("t10k-images", 3), ("t10k-labels", 1)];

/// The folder that holds MNIST files, `dir` itself or `dir/mnist`: the first with most of the four. `None` if neither has any.
pub fn find(dir: &Path) -> Option<PathBuf> {
    let count = |folder: &PathBuf| TRAIN.into_iter().chain(TEST).filter(|file| locate(folder, *file).is_some()).count();
    let found = candidates(dir).map(|folder| (count(&folder), folder));
    found.into_iter().rev().max_by_key(|(count, _)| *count).filter(|(count, _)| *count > 0).map(|(_, folder)| folder)
}

/// Refuses folders of which nobody knows whether they hold MNIST: they are there, and the system does not list them.
///
/// # Errors
/// `Io` with the system's reason.
pub fn check_listed(dir: &Path) -> Result<()> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    for folder in candidates(dir) {
        match std::fs::read_dir(&folder) {
            Err(error) if ![NotFound, NotADirectory].contains(&error.kind()) && !folder.is_file() => {
                return Err(Error::io("read", &folder)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Reads MNIST from `dir` or `dir/mnist`; each of the four files may be plain or gzip.
///
/// # Errors
/// `File` if the files are absent (naming which, and where they were sought), damaged, or do not fit together; `Io` if
/// the system cannot read them.
pub fn load(dir: &Path) -> Result<Dataset> {
    let Some(folder) = find(dir) else {
        check_listed(dir)?;
        let [first, second] = candidates(dir);
        let problem = format!("no MNIST files here; looked in {} and {}", first.display(), second.display());
        return Err(Error::file(dir, problem, help()));
    };
    Ok(Dataset {
        name: "mnist".into(),
        channels: 1,
        height: SIDE,
        width: SIDE,
        classes: usize::from(CLASSES),
        class_names: digit_names(),
        mean: vec![0.1307],
        std: vec![0.3081],
        train: load_split(&folder, TRAIN)?,
        test: load_split(&folder, TEST)?,
    })
}

fn load_split(folder: &Path, [pictures, labels]: [(&str, u8); 2]) -> Result<Split> {
    let pictures = require(folder, pictures)?;
    let labels_path = require(folder, labels)?;
    let pixels = idx::read(&pictures, &[SIDE, SIDE])?;
    let labels = idx::read(&labels_path, &[])?;
    let count = pixels.len() / (SIDE * SIDE);
    if count != labels.len() {
        let problem = format!("it has {} labels for the {count} pictures of {}", labels.len(), pictures.display());
        let help = "delete whichever of the two is wrong and get it again with `fedcircuit data fetch mnist`";
        return Err(Error::file(labels_path, problem, help));
    }
    if let Some(at) = labels.iter().position(|&label| label >= CLASSES) {
        let problem = format!("label number {} (counted from 0) is {}, not a digit from 0 to 9", at, labels[at]);
        let help = "delete it and get it again with `fedcircuit data fetch mnist`";
        return Err(Error::file(labels_path, problem, help));
    }
    Ok(Split { pixels, labels })
}

fn candidates(dir: &Path) -> [PathBuf; 2] {
    [dir.to_path_buf(), dir.join("mnist")]
}

/// The names a file goes by, unpacked before packed.
fn names((stem, dims): (&str, u8)) -> [String; 4] {
    ["-|", ".|", "-|.gz", ".|.gz"].map(|pattern| format!("{stem}{}", pattern.replace('|', &format!("idx{dims}-ubyte"))))
}

fn locate(folder: &Path, file: (&str, u8)) -> Option<PathBuf> {
    names(file).into_iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

fn require(folder: &Path, file: (&str, u8)) -> Result<PathBuf> {
    locate(folder, file).ok_or_else(|| {
        let names = names(file);
        let problem = format!("{} is missing; looked for {}", names[0], names.join(", "));
        Error::file(folder, problem, help())
    })
}

fn help() -> String {
    "get the four files with `fedcircuit data fetch mnist`, name their folder with --data, \
     or use the built-in data set: data.source = \"digits\""
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, dims: &[u32], values: &[u8]) {
        let mut bytes = vec![0, 0, 8, dims.len() as u8];
        dims.iter().for_each(|dim| bytes.extend(dim.to_be_bytes()));
        bytes.extend(values);
        std::fs::write(folder.join(name), bytes).unwrap();
    }

    /// Two training pictures and one test picture.
    fn small(folder: &Path) {
        let pixels: Vec<u8> = (0..2 * 784).map(|i| (i % 251) as u8).collect();
        write(folder, "train-images-idx3-ubyte", &[2, 28, 28], &pixels);
        write(folder, "train-labels.idx1-ubyte", &[2], &[9, 0]);
        write(folder, "t10k-images.idx3-ubyte", &[1, 28, 28], &pixels[..784]);
        write(folder, "t10k-labels-idx1-ubyte", &[1], &[4]);
    }

    /// Nobody knows that it holds none: drawn digits in its place would be a surprise.
    #[cfg(unix)]
    #[test]
    fn a_folder_that_cannot_be_listed_is_not_an_empty_one() {
        let root = tempfile::tempdir().unwrap();
        assert!(check_listed(root.path()).is_ok() && check_listed(&root.path().join("nowhere")).is_ok());
        let inner = root.path().join("mnist");
        // Whoever runs the tests may list every folder; nobody can follow a link to itself.
        std::os::unix::fs::symlink(&inner, &inner).unwrap();
        assert!(matches!(check_listed(root.path()), Err(Error::Io { .. })));
        let said = load(root.path()).unwrap_err().to_string();
        assert!(said.contains(&inner.display().to_string()) && !said.contains("no MNIST files"), "{said}");
    }

    #[test]
    fn finds_and_loads_either_spelling_in_either_folder() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(find(root.path()), None);
        let inner = root.path().join("mnist");
        std::fs::create_dir(&inner).unwrap();
        small(&inner);
        assert_eq!(find(root.path()), Some(inner.clone()));
        let data = load(root.path()).unwrap();
        assert_eq!(data, load(&inner).unwrap());
        assert_eq!((data.train.labels.as_slice(), data.test.labels.as_slice()), (&[9, 0][..], &[4][..]));
        assert_eq!(data.train.example(1)[0], (784 % 251) as u8);
        assert_eq!(data.example_len(), 784);
        // One file that strayed there does not hide the four.
        write(root.path(), "t10k-labels-idx1-ubyte", &[1], &[4]);
        assert_eq!(find(root.path()), Some(inner));
        small(root.path());
        assert_eq!(find(root.path()), Some(root.path().to_path_buf()));
    }

    #[test]
    fn errors_name_the_file_and_what_is_wrong() {
        let root = tempfile::tempdir().unwrap();
        let message = |what: &str| {
            let text = load(root.path()).unwrap_err().to_string();
            assert!(text.contains(what) && text.contains("data fetch mnist"), "{text}");
        };
        message("no MNIST files here");
        small(root.path());
        write(root.path(), "t10k-labels-idx1-ubyte", &[2], &[4, 4]);
        message("2 labels for the 1 pictures");
        write(root.path(), "t10k-labels-idx1-ubyte", &[1], &[10]);
        message("label number 0 (counted from 0) is 10");
        std::fs::remove_file(root.path().join("train-labels.idx1-ubyte")).unwrap();
        message("train-labels-idx1-ubyte is missing; looked for train-labels-idx1-ubyte, train-labels.idx1-ubyte, ");
    }

    #[test]
    fn the_real_files_have_the_published_counts_and_statistics() {
        let folder = std::env::var_os("FEDCIRCUIT_DATA").map(PathBuf::from);
        let Some(folder) = folder.filter(|folder| find(folder).is_some()) else {
            println!("skipped: FEDCIRCUIT_DATA names no folder with MNIST");
            return;
        };
        let data = load(&folder).unwrap();
        assert_eq!((data.train.len(), data.test.len()), (60_000, 10_000));
        let counts: Vec<usize> = data.train.by_class(10).iter().map(Vec::len).collect();
        assert_eq!(counts, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
        let moment = |power| data.train.pixels.iter().map(|p| (f64::from(*p) / 255.0).powi(power)).sum::<f64>();
        let [mean, square] = [1, 2].map(|power| moment(power) / 47_040_000.0);
        let found = [mean, (square - mean * mean).sqrt()];
        let near = |found: f64, told: f32| (found - f64::from(told)).abs() < 1e-4;
        assert!(near(found[0], data.mean[0]) && near(found[1], data.std[0]), "{found:?}");
        assert_eq!(data.test.labels[..5], [7, 2, 1, 0, 4]);
    }

    /// Of the 60,000 training pictures, as everybody who uses them rounds these.
    #[test]
    fn the_mean_and_the_deviation_are_the_published_ones() {
        let folder = tempfile::tempdir().unwrap();
        small(folder.path());
        let data = load(folder.path()).unwrap();
        assert_eq!((data.mean, data.std), (vec![0.1307], vec![0.3081]));
    }
}
