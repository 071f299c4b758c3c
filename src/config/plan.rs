//! What one command runs: a single experiment, or the variants that its `[[compare]]` entries set side by side or that its
//! `[sweep]` asks for.
//!
//! ```toml
//! [[compare]]
//! name = "iid"                                           # the variant's folder and its column in the tables
//! set = { partition = { kind = "iid", num_clients = 10 } }  # keys or whole sections, as --set would change them
//! ```

use toml::{Table, Value};

use super::keys::{Keys, UNKNOWN, refused};
use super::overrides::{collide, within};
use super::sweep::{Point, points};
use super::{Experiment, Override, names_seed, read, seeds};
use crate::{Error, Result};

/// The experiments of one file, in the order in which they run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The file's `name`.
    pub name: String,
    /// One, or as many as the file compares.
    pub variants: Vec<Variant>,
}

/// One experiment of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// The name under `[[compare]]`; `None` where the file compares nothing. The experiment is then called after the
    /// file and the variant, `quickstart-iid`.
    pub label: Option<String>,
    /// The swept keys and what they are set to; empty where nothing is swept.
    pub swept: Vec<Override>,
    /// The resolved experiment.
    pub experiment: Experiment,
}

impl Variant {
    fn alone(experiment: Experiment) -> Self {
        Self { label: None, swept: Vec::new(), experiment }
    }
}

impl Plan {
    /// Where the run goes without `--out`: `runs/<name>-<seed>`, after the first of several seeds. Variants are folders inside it.
    pub fn default_folder(&self) -> std::path::PathBuf {
        let seed = self.variants.first().map_or(0, |variant| variant.experiment.seeds.first());
        format!("runs/{}-{seed}", self.name).into()
    }
}

pub(super) const MAX_VARIANTS: usize = 100;

/// What else is written beside the folders of variants: pictures of all, and what `fedcircuit report` says of some of them.
const TAKEN: [&str; 2] = ["plots", "comparison"];

/// What cannot differ between the experiments of a file.
pub(super) const NOT_VARIED: [&str; 3] = ["name", "compare", "sweep"];

/// Bytes of an experiment, at most: classes for ten thousand clients take half of them. Parsed, a text takes a hundred times
/// as much.
pub const LONGEST: usize = 128 << 10;

/// Reads an experiment file. `origin` is the file's name as messages give it; `overrides` are applied last, to every
/// variant.
pub fn load(text: &str, origin: &str, overrides: &[Override]) -> Result<Plan> {
    check_size(text.len(), origin)?;
    let mut table: Table = toml::from_str(text).map_err(|error| {
        let help = "accepted: a TOML file, see `fedcircuit presets show quickstart`";
        Error::config(origin, format!("is not valid TOML: {}", fault(&error, text)), help)
    })?;
    let blame = |error| blame(error, origin, overrides);
    if let Some(set) = overrides.iter().find(|set| ["compare", "sweep"].iter().any(|key| within(key, &set.key))) {
        let help = "accepted: keys of the experiments; which there are stands in the file";
        return Err(blame(Error::config(set.key.as_str(), "cannot be set", help)));
    }
    let variants = match (&table.remove("compare"), &table.remove("sweep")) {
        (None, None) => resolve(table.clone(), &[], overrides).map(|experiment| vec![Variant::alone(experiment)]),
        (Some(compare), None) => compared(&table, compare, overrides),
        (None, Some(sweep)) => swept(&table, sweep, overrides),
        (Some(_), Some(_)) => {
            Err(Error::config("sweep", "stands beside [[compare]]", "accepted: one of the two in a file"))
        }
    };
    let variants = variants.map_err(blame)?;
    check_threads(&variants).map_err(blame)?;
    check_length(&variants, origin)?;
    let mut base = table;
    for change in overrides {
        change.apply(&mut base).map_err(blame)?;
    }
    let name = base.get("name").and_then(Value::as_str).unwrap_or_default().to_string();
    Ok(Plan { name, variants })
}

/// Refuses variants with threads of their own: the device is opened once, before all of them.
fn check_threads(variants: &[Variant]) -> Result<()> {
    let mut threads = variants.iter().map(|variant| variant.experiment.device.threads);
    let first = threads.next();
    if threads.all(|other| Some(other) == first) {
        return Ok(());
    }
    let problem = "differs between variants, for all of which the device is opened once";
    Err(Error::config("device.threads", problem, "accepted: one number for the whole file, in [device] or with --set"))
}

/// Refuses experiments that, with their defaults spelled out, would be too long to be read again from their folders.
/// Refuses an experiment of more `bytes` than it may have.
pub fn check_size(bytes: usize, origin: &str) -> Result<()> {
    if bytes <= LONGEST {
        return Ok(());
    }
    let help = format!("accepted: an experiment in TOML of at most {LONGEST} bytes");
    Err(Error::config(origin, format!("is longer than {LONGEST} bytes"), help))
}

/// What is wrong with a text, with its line where that can be read.
fn fault(error: &toml::de::Error, text: &str) -> String {
    let shown = error.to_string();
    if shown.lines().all(|line| line.chars().count() <= 200) {
        return shown.trim_end().into();
    }
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let (line, column) =
        (before.matches('\n').count() + 1, before.chars().rev().take_while(|c| *c != '\n').count() + 1);
    format!("line {line}, column {column}: {}", error.message())
}

fn check_length(variants: &[Variant], origin: &str) -> Result<()> {
    for variant in variants {
        let length = variant.experiment.to_toml()?.len();
        if length > LONGEST {
            let problem =
                format!("takes {length} bytes with every default and space spelled out, as experiment.toml has it");
            let help =
                format!("accepted: at most {LONGEST} bytes of it: fewer clients, or a partition that lists none");
            return Err(Error::config(origin, problem, help));
        }
    }
    Ok(())
}

fn compared(table: &Table, compare: &Value, overrides: &[Override]) -> Result<Vec<Variant>> {
    let help = "accepted: [[compare]] entries, each with a name and set = { ... }";
    let entries = compare.as_array().ok_or_else(|| refused("compare".into(), compare, help))?;
    if entries.is_empty() || entries.len() > MAX_VARIANTS {
        let help = format!("{help}, 1 to {MAX_VARIANTS} of them");
        return Err(Error::config("compare", format!("has {} entries", entries.len()), help));
    }
    let mut variants: Vec<Variant> = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        let at = format!("compare[{i}]");
        let entry = entry.as_table().ok_or_else(|| refused(at.clone(), entry, help))?;
        let (label, changes) = read_entry(Keys::new(entry, at.as_str()))?;
        // Some file systems know no case.
        let same = |other: &String| other.eq_ignore_ascii_case(&label);
        if variants.iter().any(|variant| variant.label.as_ref().is_some_and(same)) {
            let problem = format!("{label:?} names two variants");
            return Err(Error::config(format!("{at}.name"), problem, "accepted: each name once, in capitals or not"));
        }
        let resolved = resolve(table.clone(), &changes, overrides);
        let mut experiment = resolved.map_err(|error| of_variant(error, &format!("{at}.set"), &changes, overrides))?;
        experiment.name = name_of(&experiment.name, &label)?;
        variants.push(Variant { label: Some(label), swept: Vec::new(), experiment });
    }
    Ok(variants)
}

fn swept(table: &Table, sweep: &Value, overrides: &[Override]) -> Result<Vec<Variant>> {
    let variant = |point: Point| {
        for set in overrides {
            if let Some(swept) = point.changes.iter().find(|change| collide(&set.key, &change.key)) {
                let problem = format!("is swept by the file, as {}", swept.key);
                let help = "accepted: keys that [sweep] does not name; --seed sets seeds, and --rounds rounds";
                return Err(Error::config(set.key.as_str(), problem, help));
            }
        }
        let resolved = resolve(table.clone(), &point.changes, overrides);
        let mut experiment = resolved.map_err(|error| of_variant(error, "sweep", &point.changes, overrides))?;
        experiment.name = name_of(&experiment.name, &point.label)?;
        Ok(Variant { label: Some(point.label), swept: point.changes, experiment })
    };
    points(sweep, MAX_VARIANTS)?.into_iter().map(variant).collect()
}

/// What a variant's experiment is called. Refused where `experiment.toml` in its folder could not be read again.
fn name_of(name: &str, label: &str) -> Result<String> {
    let whole = format!("{name}-{label}");
    if whole.len() > read::MAX_NAME {
        let problem = format!("makes {whole:?}, of {} characters, with the variant's name", whole.len());
        let most = read::MAX_NAME;
        let help = format!("accepted: at most {most} characters for both and the - between them: shorten one of them");
        return Err(Error::config("name", problem, help));
    }
    Ok(whole)
}

fn read_entry(mut keys: Keys<'_>) -> Result<(String, Vec<Override>)> {
    let accepted = "a name of at most 40 letters, digits, - and _";
    let help = format!("accepted: {accepted}");
    let label = keys.text("name", accepted)?.ok_or_else(|| keys.missing("name", &help))?;
    let plain = label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if !plain || label.is_empty() || label.len() > 40 {
        return Err(Error::config(keys.path_of("name"), format!("{label:?} cannot name a folder"), help));
    }
    // Some file systems know no case.
    if names_seed(&label.to_lowercase()) || TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(label)) {
        let problem = format!("{label:?} is what a folder of the run's own is called");
        let help = "accepted: another name than seed_N, plots and comparison, such as one that says what differs";
        return Err(Error::config(keys.path_of("name"), problem, help));
    }
    let path = keys.path_of("set");
    let help = "accepted: a table of dotted keys, such as { \"training.lr\" = 0.01 }";
    let set = match keys.value("set") {
        None => return Err(keys.missing("set", help)),
        Some(Value::Table(set)) => set,
        Some(other) => return Err(refused(path, other, help)),
    };
    keys.finish("[[compare]]")?;
    if let Some(key) = set.keys().find(|key| NOT_VARIED.iter().any(|taken| within(taken, key))) {
        return Err(Error::config(format!("{path}.{key}"), "cannot differ between variants", help));
    }
    // Set one after the other, the list would silently take the seed's place.
    if set.contains_key("seed") && set.get("seeds").is_some_and(Value::is_array) {
        return Err(seeds::beside(&format!("{path}.seeds")));
    }
    Ok((label.to_string(), set.iter().map(|(key, value)| Override::new(key, value.clone())).collect()))
}

fn resolve(mut table: Table, changes: &[Override], overrides: &[Override]) -> Result<Experiment> {
    for change in changes.iter().chain(overrides) {
        change.apply(&mut table)?;
    }
    read::experiment(&table)
}

/// Puts before a faulty key which variant's it is, where its value is among the variant's `changes`, which stand at `at`, and
/// not the command line's.
fn of_variant(error: Error, at: &str, changes: &[Override], overrides: &[Override]) -> Error {
    let Error::Config { key, problem, help } = error else { return error };
    let among = |all: &[Override]| all.iter().any(|o| within(&o.key, &key) || within(&key, &o.key));
    let key = if among(changes) && !among(overrides) { format!("{at}.{key}") } else { key };
    Error::Config { key, problem, help }
}

/// Puts before a faulty key where its value came from: the command line or the file.
fn blame(error: Error, origin: &str, overrides: &[Override]) -> Error {
    let Error::Config { key, problem, help } = error else { return error };
    let from_command_line = overrides.iter().any(|o| within(&o.key, &key) || within(&key, &o.key));
    if from_command_line {
        return Error::Config { key: format!("--set {key}"), problem, help };
    }
    // A kind that the command line sets leaves the keys of the file's kind where they are.
    let section = |key: &str| key.rsplit_once('.').map(|(section, _)| section.to_string());
    let beside =
        overrides.iter().find(|o| problem == UNKNOWN && section(&key).is_some_and(|s| section(&o.key) == Some(s)));
    let help = match beside.and_then(|o| Some((o, section(&o.key)?))) {
        None => help,
        Some((set, section)) => {
            format!(
                "{help}; beside --set {}: --set '{section}={{ ... }}' replaces all that the file has in it",
                set.key
            )
        }
    };
    Error::Config { key: format!("{origin}: {key}"), problem, help }
}

#[cfg(test)]
mod tests {
    use super::super::{Optimizer, Partition};
    use super::*;

    const BASE: &str =
        "name = \"a\"\nseed = 3\n[data]\nsource = \"digits\"\n[partition]\nkind = \"iid\"\nnum_clients = 5\n";

    fn refusal(rest: &str) -> String {
        load(&format!("{BASE}{rest}"), "a.toml", &[]).unwrap_err().to_string()
    }

    /// As messages write keys of a sweep; set under that name, they would change nothing.
    #[test]
    fn keys_that_are_no_experiments_cannot_be_varied() {
        for (rest, names) in [
            ("[sweep]\n\"sweep.training.lr\" = [0.1, 0.2]\n", "sweep.sweep.training.lr: cannot be swept"),
            ("[sweep]\n\"sweep.mode\" = [1]\n", "cannot be swept"),
            ("[sweep]\n\"compare.x\" = [1, 2]\n", "cannot be swept"),
            ("[sweep.compare]\nx = [1, 2]\n", "cannot be swept"),
            (
                "[[compare]]\nname = \"b\"\nset = { \"sweep.training.lr\" = 0.1 }\n",
                "compare[0].set.sweep.training.lr: cannot differ",
            ),
            ("[[compare]]\nname = \"b\"\nset = { \"compare.training.lr\" = 0.1 }\n", "cannot differ"),
        ] {
            let said = refusal(rest);
            assert!(said.contains(names), "{said}");
        }
        assert!(refusal("[sweep]\n\"training.lr\" = [1, 0.5, 1.0]\n").contains("has 1.0 twice"));
        let number = |values: &str| load(&format!("{BASE}[sweep]\nseed = {values}\n"), "a.toml", &[]).is_ok();
        assert!(number("[9007199254740992, 9007199254740993]"), "as floats they would be equal");
    }

    #[test]
    fn a_faulty_value_of_a_variant_is_looked_for_in_it() {
        let compare = "[[compare]]\nname = \"b\"\nset = { \"training.momentum\" = 0.1 }\n";
        for (rest, names) in [
            (compare, "a.toml: compare[0].set.training.momentum: unknown key"),
            ("[sweep]\n\"training.lr\" = [0.1, -0.1]\n", "a.toml: sweep.training.lr: the number -0.1"),
            ("[sweep]\na = [1]\n", "a.toml: sweep.a: unknown key"),
            // Not the variant's.
            ("[training]\nlr = -1\n[sweep]\nrounds = [1, 2]\n", "a.toml: training.lr: the number -1"),
        ] {
            let said = refusal(rest);
            assert!(said.contains(names), "{said}");
        }
        // A kind of the command line beside keys of the file's.
        let by_class = BASE.replace("kind = \"iid\"\nnum_clients = 5", "kind = \"by_class\"\nclasses = [[0], [1]]");
        let iid = [Override::new("partition.kind", "iid"), Override::new("partition.num_clients", 5)];
        let said = load(&by_class, "a.toml", &iid).unwrap_err().to_string();
        let way_out = "beside --set partition.kind: --set 'partition={ ... }' replaces all that the file has in it";
        assert!(said.contains("a.toml: partition.classes: unknown key") && said.contains(way_out), "{said}");
        assert!(!refusal("[training]\nrl = 1\n").contains("beside --set"));
        let over = load(&format!("{BASE}{compare}"), "a.toml", &[Override::new("training.momentum", 2)]);
        assert!(over.unwrap_err().to_string().contains("--set training.momentum: unknown key"));
    }

    #[test]
    fn a_section_that_is_none_is_told_its_whole_name() {
        let said = refusal("[circuits]\ncontrols = true\n");
        assert!(said.contains("accepted: a table, written [circuits.controls]"), "{said}");
        // Each key once.
        let said = refusal("[sweep]\n\"training.lr\" = { from = 0.1, to = 0.2, step = 3, steps = 2 }\n");
        assert!(said.contains("accepted in a range of [sweep]: from, to, steps, scale"), "{said}");
    }

    #[test]
    fn variants_change_keys_and_sections_and_the_command_line_has_the_last_word() {
        let text = format!(
            "{BASE}[[compare]]\nname = \"one\"\nset = {{ \"training.lr\" = 0.5, rounds = 7 }}\n\
             [[compare]]\nname = \"two\"\nset = {{ partition = {{ kind = \"by_class\", classes = [[0], [1]] }} }}\n"
        );
        let plan = load(&text, "a.toml", &[Override::new("rounds", 2)]).unwrap();
        assert_eq!(plan.default_folder().to_str(), Some("runs/a-3"));
        let [one, two] = &plan.variants[..] else { panic!("two variants") };
        assert_eq!((one.label.as_deref(), one.experiment.name.as_str()), (Some("one"), "a-one"));
        assert_eq!((one.experiment.training.lr, one.experiment.rounds), (0.5, 2));
        assert_eq!(two.experiment.partition, Partition::ByClass { classes: vec![vec![0], vec![1]] });
        assert_eq!((two.experiment.training.lr, two.experiment.rounds), (0.001, 2));
    }

    #[test]
    fn a_sweep_makes_a_variant_of_every_point() {
        let text = format!("{BASE}[sweep]\ntraining.lr = [0.1, 0.2]\n");
        let plan = load(&text, "a.toml", &[Override::new("rounds", 2)]).unwrap();
        let found: Vec<_> = plan.variants.iter().map(|v| (v.label.as_deref(), v.experiment.training.lr)).collect();
        assert_eq!(found, [(Some("lr-0.1"), 0.1), (Some("lr-0.2"), 0.2)]);
        assert_eq!(plan.variants[1].experiment.name, "a-lr-0.2");
        assert_eq!(plan.variants[1].swept, [Override::new("training.lr", 0.2)]);
        for (text, set, says) in [
            (&text, "training.lr=0.3", "--set training.lr: is swept by the file, as training.lr"),
            (&text, "training={ lr = 0.3 }", "--set training: is swept by the file, as training.lr"),
            // As --seed does: a seed and a list of seeds exclude each other, and every variant would have had that one.
            (&format!("{BASE}[sweep]\nseed = [1, 2]\n"), "seeds=[7]", "--set seeds: is swept by the file, as seed"),
            (&format!("{BASE}[sweep]\nseeds = [[1], [2]]\n"), "seed=5", "--set seed: is swept by the file, as seeds"),
            (&format!("{text}[[compare]]\nname = \"b\"\nset = {{}}\n"), "rounds=2", "a.toml: sweep: stands beside"),
            (
                &format!("{BASE}[sweep]\ntraining.lr = [0.1, -1]\n"),
                "rounds=2",
                "a.toml: sweep.training.lr: the number -1",
            ),
            (&format!("{BASE}[sweep]\ntraining.rl = [0.1]\n"), "rounds=2", "did you mean lr?"),
            (&format!("{text}{}", "# \n".repeat(LONGEST / 3)), "rounds=2", "a.toml: is longer than 131072 bytes"),
            (&format!("{text}a = [{}", "1,".repeat(200)), "rounds=2", "a.toml: is not valid TOML: line "),
            (
                &format!("{BASE}[swep]\ntraining.lr = [0.1]\n"),
                "rounds=2",
                "a.toml: swep: unknown key\n  did you mean sweep?",
            ),
        ] {
            let error = load(text, "a.toml", &[Override::parse(set).unwrap()]).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(says), "{set}: {error}");
        }
    }

    /// A space after every comma makes it longer than what it was read from.
    #[test]
    fn an_experiment_that_its_folder_could_not_give_again_is_refused() {
        let of = |clients: usize| {
            let classes = vec!["[0]"; clients].join(",");
            let partition = format!("kind = \"by_class\"\nclasses = [{classes}]\n");
            load(&BASE.replace("kind = \"iid\"\nnum_clients = 5\n", &partition), "a.toml", &[])
        };
        let largest = of(26_000).unwrap().variants.remove(0).experiment;
        let again = load(&largest.to_toml().unwrap(), "again.toml", &[]).unwrap();
        assert_eq!(again.variants[0].experiment, largest);
        let message = of(30_000).unwrap_err().to_string();
        assert!(message.starts_with("a.toml: takes 15"), "{message}");
    }

    #[test]
    fn a_variants_name_is_one_that_can_be_read_again() {
        let compare = |length: usize| {
            let name = Override::new("name", "n".repeat(length));
            load(&format!("{BASE}[[compare]]\nname = \"one\"\nset = {{}}\n"), "a.toml", &[name])
        };
        let longest = compare(96).unwrap().variants.remove(0).experiment;
        let again = load(&longest.to_toml().unwrap(), "again.toml", &[]).unwrap();
        assert_eq!(again.variants[0].experiment, longest);
        let message = compare(97).unwrap_err().to_string();
        assert!(message.starts_with("--set name: makes \"nnn") && message.contains("of 101 characters"), "{message}");
        let swept = format!("{BASE}[sweep]\ntraining.lr = [0.1]\n").replace("\"a\"", &format!("{:?}", "n".repeat(99)));
        assert!(load(&swept, "a.toml", &[]).unwrap_err().to_string().contains("-lr-0.1\", of 106 characters"));
    }

    /// The device is opened with the threads of the first; what a wave may take is each one's own.
    #[test]
    fn threads_are_the_same_for_all_variants() {
        let read = |sweep: &str, sets: &[Override]| load(&format!("{BASE}[sweep]\n{sweep}\n"), "a.toml", sets);
        for sweep in ["device.threads = [1, 2]", "device = [{ threads = 1 }, { max_wave = 3 }]"] {
            let message = read(sweep, &[]).unwrap_err().to_string();
            assert!(message.starts_with("a.toml: device.threads: differs between variants"), "{sweep}: {message}");
        }
        let all = read("device.max_wave = [1, 2]", &[Override::new("device.threads", 2)]).unwrap();
        assert!(all.variants.iter().all(|variant| variant.experiment.device.threads == Some(2)));
    }

    #[test]
    fn a_new_name_on_the_command_line_names_the_folder() {
        let text = format!("{BASE}[[compare]]\nname = \"one\"\nset = {{}}\n");
        let plan = load(&text, "a.toml", &[Override::new("name", "b"), Override::new("seed", 9)]).unwrap();
        assert_eq!(plan.default_folder().to_str(), Some("runs/b-9"));
        assert_eq!(plan.variants[0].experiment.name, "b-one");
    }

    #[test]
    fn a_section_set_whole_is_replaced() {
        let set = Override::parse("training={ optimizer = \"sgd\", momentum = 0.9 }").unwrap();
        let experiment = load(BASE, "a.toml", &[set]).unwrap().variants.remove(0).experiment;
        assert_eq!(experiment.training.optimizer, Optimizer::Sgd { momentum: 0.9, weight_decay: 0.0 });
    }
}
