//! Reports of small folders, written by hand.

mod seeds;
mod texts;

use std::fs;
use std::path::Path;

use super::*;

const HOSTILE: &str = "<script>alert('x')</script>&\"";

fn circuit(channels: &str) -> String {
    format!(
        r#"{{"active_nodes": {{"conv1": [{channels}], "conv2": [1]}}, "connectivity": {{"conv1": {{"1": [0]}},
        "conv2": {{"1": [{channels}]}}, "fc": {{}}}}, "metrics": {{"accuracy": 100.0, "necessity": null}}}}"#
    )
}

/// A run of two rounds, so many clients with the class 0 each, whose name and class are hostile.
fn write_run(folder: &Path, name: &str, clients: usize) {
    let write = |file: &str, text: String| fs::write(folder.join(file), text).unwrap();
    fs::create_dir_all(folder).unwrap();
    write("experiment.toml", format!("name = {name:?}\n[data]\nsource = \"digits\"\n[training]\nlr = 0.{clients}\n"));
    write("environment.json", r#"{"device": {"name": "</pre><script>"}}"#.into());
    let round = |n: usize| {
        format!(
            r#"{{"round":{n},"seconds":{{"total":1.5}},"global":{{"loss":null,"accuracy":0.{n}5,"trained_accuracy":0.5,"per_class_accuracy":[0.5,null]}},"clients":[{{"client":0,"examples":3,"steps":1,"loss":0.5,"accuracy":1.0}}],"sparsity":{{"conv1":0.5}},"readbacks":1,"bytes_read_back":8}}"#
        )
    };
    write("rounds.jsonl", format!("{}\n{}\n", round(1), round(2)));
    let (mut partition, mut circuits, mut overlap) = (String::new(), String::new(), String::new());
    let (mut controls, mut curve, mut json) = (String::new(), String::new(), Vec::new());
    for client in 0..clients {
        partition += &format!("{client},0,5\n{client},1,7\n");
        for (model, cross, answers) in [("local", "", ""), ("global", "0.5", "0:7 9:2")] {
            circuits +=
                &format!("2,{model},{client},0,2,1,1,0,{cross},0.75,preserved,0.9,0.1,0.25,0.95,0.04,0.5,{answers}\n");
            curve += &format!("2,{model},{client},0,0.5,0.25\n2,{model},{client},0,1,0.75\n");
        }
        for layer in ["conv1", "conv2", "all"] {
            overlap += &format!("2,local_global,node,{layer},{client},0,{client},0,2,2,0.5,0.25\n");
        }
        controls += &format!("2,repeat,{client},0,2,1,0.9,1,0.5,0.75,0.25\n");
        json.push(format!(r#""client_{client}": {{"0 - <b>zero": {}}}"#, circuit("1, 3")));
    }
    write("partition.csv", format!("client,class,examples\n{partition}"));
    let head = "round,model,client,class,size_conv1,size_conv2,sufficiency,necessity,cross,false_positive,diagnosis,accuracy,\
        damage,random_sufficiency,random_percentile,random_p,ceiling,cross_answers\n";
    write("circuits.csv", format!("{head}{circuits}"));
    let head = "round,comparison,level,layer,client_a,class_a,client_b,class_b,size_a,size_b,iou,chance\n";
    write("overlap.csv", format!("{head}{overlap}"));
    let head = "round,control,client,class,size_conv1,size_conv2,accuracy,sufficiency,false_positive,iou,chance\n";
    write("controls.csv", format!("{head}{controls}"));
    write("curve.csv", format!("round,model,client,class,share,accuracy\n{curve}"));
    let json = json.join(",\n");
    let sides = format!(r#""clients_local_model": {{{json}}}, "clients_global_model": {{{json}}}"#);
    write("circuits.json", format!("{{\n\"round_2\": {{{sides}}}\n}}\n"));
}

fn report(folders: &[&Path]) -> String {
    let out = tempfile::tempdir().unwrap();
    let folders: Vec<PathBuf> = folders.iter().map(|folder| folder.to_path_buf()).collect();
    let path = write(&folders, out.path()).unwrap();
    fs::read_to_string(path).unwrap()
}

/// From the heading of a section to its end.
fn section<'a>(page: &'a str, id: &str) -> &'a str {
    let from = page.find(&format!("<section id=\"{id}\">")).unwrap();
    page[from..].split("</section>").next().unwrap()
}

fn count(page: &str, what: &str) -> usize {
    page.matches(what).count()
}

/// What every report must have.
fn check(page: &str) {
    let figures = count(page, "<figure>");
    assert!(figures > 0 && figures == count(page, "<figcaption>"), "every figure has a caption");
    assert!(!page.contains("<figcaption></figcaption>"));
    let plots = count(page, "<svg class=\"plot\"");
    assert!(plots >= figures, "every figure has a picture");
    for part in ["role=\"img\"", "<title id=", "<desc id="] {
        assert_eq!(count(page, part), plots, "every picture has a text alternative: {part}");
    }
    assert!(!page.contains("></title>") && !page.contains("></desc>"), "and none is empty");
    let mut ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "ids are one of a kind");
    for target in page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(ids.binary_search(&target).is_ok(), "#{target} leads nowhere");
    }
    for outside in ["http:", "https:", "src=", "url(", "@import", "//fonts"] {
        assert!(!page.contains(outside), "nothing is loaded: {outside}");
    }
    assert!(page.contains("default-src &#39;none&#39;") || page.contains("default-src 'none'"));
    let (before_script, _) = page.rsplit_once("<script>").unwrap();
    for no in ["NaN", "inf%"] {
        assert!(!before_script.contains(no), "{no}");
    }
}

#[test]
fn a_report_has_every_figure_that_the_run_has_data_for() {
    let parent = tempfile::tempdir().unwrap();
    write_run(parent.path(), "small", 2);
    let page = report(&[parent.path()]);
    check(&page);
    for id in [
        "claim",
        "accuracy",
        "local-global",
        "local-global-pairs",
        "diagnoses",
        "measures",
        "cross-answers",
        "whole-clients",
        "sizes",
        "graphs",
        "channels",
        "overlap-matrices",
        "curve",
        "scatter",
        "partition",
        "clients",
        "table-rounds",
        "table-controls",
        "table-overlaps",
        "table-circuit-table",
        "configuration",
    ] {
        assert!(page.contains(&format!("<section id=\"{id}\">")), "{id}");
    }
    for said in [
        "25.0%",
        "noise ceiling",
        "One seed",
        "call at least half",
        "built-in digits",
        "2 preserved",
        "chance",
        "called 9 2",
    ] {
        assert!(page.contains(said), "{said}");
    }
}

#[test]
fn a_run_without_circuits_has_the_rest() {
    let parent = tempfile::tempdir().unwrap();
    write_run(parent.path(), "bare", 1);
    for file in [
        "circuits.csv",
        "circuits.json",
        "overlap.csv",
        "controls.csv",
        "curve.csv",
        "environment.json",
        "experiment.toml",
    ] {
        fs::remove_file(parent.path().join(file)).unwrap();
    }
    let page = report(&[parent.path()]);
    check(&page);
    assert!(page.contains("<section id=\"accuracy\">") && !page.contains("<section id=\"measures\">"));
}

#[test]
fn a_run_that_is_not_finished_says_so() {
    let parent = tempfile::tempdir().unwrap();
    write_run(parent.path(), "half", 1);
    let with_rounds = |rounds| {
        fs::write(parent.path().join("experiment.toml"), format!("name = \"half\"\nrounds = {rounds}\n")).unwrap();
        report(&[parent.path()])
    };
    let half = with_rounds(4);
    assert!(half.contains("2 of 4 rounds ·") && half.contains("Not finished: 2 of 4 rounds are done"), "{half}");
    let done = with_rounds(2);
    assert!(done.contains("2 rounds ·") && !done.contains("Not finished"));
}

#[test]
fn hostile_names_stay_text() {
    let parent = tempfile::tempdir().unwrap();
    write_run(parent.path(), HOSTILE, 2);
    let page = report(&[parent.path()]);
    check(&page);
    // Ours, at the end.
    assert_eq!(count(&page, "<script"), 1);
    assert!(!page.contains("<b>") && page.contains("&lt;b&gt;zero") && page.contains("&lt;script&gt;alert("));
}

/// Runs as a sweep leaves them, of two seeds each: by name, the values of its keys.
fn write_sweep(folder: &Path, keys: &str, variants: &[(&str, &str)]) {
    let mut table = format!("variant,{keys},round,figure,mean,std,low,high,n,undefined\n");
    for (i, (name, values)) in variants.iter().enumerate() {
        for (seed, clients) in [("seed_1", 1), ("seed_2", i + 2)] {
            write_run(&folder.join(name).join(seed), name, clients);
        }
        fs::write(folder.join(name).join("experiment.toml"), format!("name = \"{name}\"\n")).unwrap();
        table += &format!("{name},{values},2,accuracy,0.5,,,,1,0\n{name},{values},2,loss,0.5,,,,1,0\n");
    }
    fs::write(folder.join("sweep.csv"), table).unwrap();
}

#[test]
fn a_sweep_has_a_figure_against_each_key() {
    let parent = tempfile::tempdir().unwrap();
    let variants = [("a", "0.9,adam"), ("b", "0.99,adam"), ("c", "0.9,sgd"), ("d", "0.99,sgd")];
    write_sweep(parent.path(), "sparsity.target,training.optimizer", &variants);
    let page = report(&[parent.path()]);
    check(&page);
    for said in [
        "<section id=\"against-1\">",
        "Against sparsity.target",
        "<section id=\"against-2\">",
        "Against training.optimizer",
        "by the logarithm of 1 − value",
        "optimizer adam: 25.0% at 0.9, 25.0% at 0.99.",
        "A colour for each value of training.optimizer",
        "intervals of the mean over seeds (Student's t)",
        // A column of the table, sorted as numbers.
        "data-v=\"0.99\">0.99</td>",
        "zeros conv1",
    ] {
        assert!(page.contains(said), "{said}");
    }
    let files = tempfile::tempdir().unwrap();
    write(&[parent.path().into()], files.path()).unwrap();
    for name in ["against-1.svg", "against-1.png", "against-2.svg", "against-2.png"] {
        assert!(files.path().join("plots").join(name).is_file(), "{name}");
    }
    fs::write(parent.path().join("sweep.csv"), "variant,a\nb\n").unwrap();
    let error = write(&[parent.path().into()], files.path()).unwrap_err().to_string();
    assert!(error.contains("sweep.csv: line 2: 1 cells"), "{error}");
}

#[test]
fn variants_of_one_file_are_told_apart_by_their_own_names() {
    let parent = tempfile::tempdir().unwrap();
    write_sweep(parent.path(), "training.lr", &[("lr-0.1", "0.1"), ("lr-0.2", "0.2")]);
    for variant in ["lr-0.1", "lr-0.2"] {
        let toml = format!("name = \"wide-{variant}\"\npartition.kind = \"iid\"\nmodel.preset = \"{variant}\"\n");
        fs::write(parent.path().join(variant).join("experiment.toml"), toml).unwrap();
    }
    let page = report(&[parent.path()]);
    check(&page);
    for said in ["<h1>wide</h1>", "2 runs compared · 2 rounds · 2 seeds · iid</p>", "From training.lr 0.1 to 0.2, "]
    {
        assert!(page.contains(said), "{said}");
    }
    assert!(page.contains("Highest accuracy on trained classes: lr-0.1 and lr-0.2, "), "{page}");
    // Others are told apart by their experiments.
    fs::write(parent.path().join("lr-0.2/experiment.toml"), "name = \"other\"\n").unwrap();
    assert!(report(&[parent.path()]).contains("<h1>wide-lr-0.1, other</h1>"));
}

#[test]
fn runs_that_differ_in_one_key_are_a_sweep_too() {
    let parent = tempfile::tempdir().unwrap();
    for clients in 1..=3 {
        write_run(&parent.path().join(format!("run-{clients}")), &format!("run-{clients}"), clients);
    }
    let page = report(&[parent.path()]);
    check(&page);
    assert!(page.contains("Against training.lr") && !page.contains("against-2"));
    assert!(page.contains("One seed each") && page.contains("all classes: 25.0% at 0.1, 25.0% at 0.3."));
}

#[test]
fn a_thousand_clients_make_a_page_that_opens() {
    let parent = tempfile::tempdir().unwrap();
    write_run(parent.path(), "many", 1000);
    let page = report(&[parent.path()]);
    check(&page);
    assert!(page.len() < 3 << 20, "{} bytes", page.len());
    for said in ["40 of 1000 clients", "984 more clients", "1800 more rows", "class=\"left-out\""] {
        assert!(page.contains(said), "{said}");
    }
}

/// Of which `partition.csv` lists a tenth.
#[test]
fn a_million_clients_are_counted() {
    let parent = tempfile::tempdir().unwrap();
    write_run(parent.path(), "million", 1);
    let toml = "name = \"million\"\npartition = { kind = \"bootstrap\", num_clients = 1000000 }\n";
    fs::write(parent.path().join("experiment.toml"), toml).unwrap();
    let listed: String = (0..100_000).map(|client| format!("{client},0,5\n")).collect();
    fs::write(parent.path().join("partition.csv"), format!("client,class,examples\n{listed}")).unwrap();
    let page = report(&[parent.path()]);
    check(&page);
    let said = "40 of the first 100000 of 1000000 clients, evenly spaced; partition.csv has the first 100000.";
    assert!(page.contains(said));
}

/// As a broken or hostile table may have it.
#[test]
fn answers_of_any_number_of_classes_have_twenty_colours() {
    let parent = tempfile::tempdir().unwrap();
    write_run(parent.path(), "answers", 1);
    let path = parent.path().join("circuits.csv");
    let answers: Vec<String> = (1..1000).map(|class| format!("{class}:1")).collect();
    let table = fs::read_to_string(&path).unwrap().replace("0:7 9:2", &answers.join(" "));
    fs::write(path, table).unwrap();
    let page = report(&[parent.path()]);
    check(&page);
    assert!(page.contains(">called 20</text>") && page.contains(">called another</text>"));
    assert!(!page.contains(">called 21</text>"));
}

/// Circuits of hundreds of channels, every one connected with every other, in as many clients as are read.
#[test]
fn large_circuits_make_a_page_that_opens() {
    let parent = tempfile::tempdir().unwrap();
    write_run(parent.path(), "large", 40);
    let list = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>().join(", ");
    let feeds: Vec<String> = (0..500).map(|i| format!("\"{i}\": [{}]", list(60))).collect();
    let entry = format!(
        r#"{{"active_nodes": {{"conv1": [{}], "conv2": [{}]}}, "connectivity": {{"conv2": {{{}}}}}, "metrics": {{}}}}"#,
        list(500),
        list(1000),
        feeds.join(", ")
    );
    let classes: Vec<String> = (0..10).map(|class| format!(r#""{class} - c": {entry}"#)).collect();
    let clients: Vec<String> =
        (0..16).map(|client| format!("\"client_{client}\": {{{}}}", classes.join(","))).collect();
    let side = format!("{{{}}}", clients.join(","));
    let json = format!(r#"{{"round_2": {{"clients_local_model": {side}, "clients_global_model": {side}}}}}"#);
    fs::write(parent.path().join("circuits.json"), json).unwrap();
    let page = report(&[parent.path()]);
    check(&page);
    assert!(page.len() < 10 << 20, "{} bytes", page.len());
    for said in ["The first 48 of 160 circuits", "Channels of 1 of 2 layers.", "Drawn: 0 circuits"] {
        assert!(page.contains(said), "{said}");
    }
}

#[test]
fn figures_are_files_too() {
    let parent = tempfile::tempdir().unwrap();
    write_run(parent.path(), "small", 2);
    fs::create_dir(parent.path().join("plots")).unwrap();
    fs::write(parent.path().join("plots/accuracy.svg"), "an earlier one").unwrap();
    write(&[parent.path().into()], parent.path()).unwrap();
    for id in ["accuracy", "graphs", "partition"] {
        let svg = fs::read_to_string(parent.path().join(format!("plots/{id}.svg"))).unwrap();
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
        assert!(fs::read(parent.path().join(format!("plots/{id}.png"))).unwrap().starts_with(b"\x89PNG"));
    }
}

#[test]
fn what_is_wrong_with_a_folder_is_said() {
    let parent = tempfile::tempdir().unwrap();
    let run = parent.path().join("run");
    let fails = |says: &str| {
        let error = write(std::slice::from_ref(&run), &parent.path().join("out")).unwrap_err();
        assert!(error.to_string().contains(says) && error.exit_code() == 2, "{error}");
        assert!(!parent.path().join("out").exists(), "nothing is written");
    };
    fails("cannot read");
    fs::create_dir(&run).unwrap();
    fails("has no rounds.jsonl");
    for (file, text, says) in [
        ("rounds.jsonl", "{\"round\":1}\n", "rounds.jsonl: line 1, column"),
        ("circuits.csv", "round,client\n1,0\nx,1\n", "circuits.csv: line 2: class is \"\""),
        ("overlap.csv", "round,level\n1,node\n2\n", "overlap.csv: line"),
        ("circuits.json", "{\"round_1\": {}}", "circuits.json: line 1, column"),
        ("partition.csv", "client,class,examples\n0,0,many\n", "partition.csv: line 2: examples is \"many\""),
    ] {
        write_run(&run, "a", 1);
        fs::write(run.join(file), text).unwrap();
        fails(says);
    }
}
