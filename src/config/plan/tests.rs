//! Files of one experiment, and of several.

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
        (&format!("{BASE}[sweep]\ntraining.lr = [0.1, -1]\n"), "rounds=2", "a.toml: sweep.training.lr: the number -1"),
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
