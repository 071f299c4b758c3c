//! The page about a run: the same from the folder as at the run's end, and honest about folders that are broken.

use std::fs;
use std::path::Path;

use super::{Desk, entries};
use crate::browser::Browser;

#[test]
fn a_report_can_be_made_again_from_the_folder_alone() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["tiny.toml"]).code, Some(0));
    let run = desk.path("runs/tiny-3");
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    let before = entries(&run);
    fs::remove_file(run.join("report.html")).unwrap();
    fs::remove_file(run.join("plots/accuracy.svg")).unwrap();
    let ended = desk.fedcircuit(&["report", "runs/tiny-3"]);
    assert_eq!(
        (ended.code, Path::new(ended.out.trim_end())),
        (Some(0), Path::new("runs/tiny-3/report.html")),
        "{ended:?}"
    );
    assert!(fs::read_to_string(run.join("report.html")).unwrap() == page, "the same page");
    assert_eq!(entries(&run), before);

    let ended = desk.fedcircuit(&["report", "runs/tiny-3", "runs/tiny-3"]);
    assert_eq!(
        (ended.code, Path::new(ended.out.trim_end())),
        (Some(0), Path::new("runs/comparison/report.html")),
        "{ended:?}"
    );
    let page = fs::read_to_string(desk.path("runs/comparison/report.html")).unwrap();
    assert!(page.contains("2 runs compared") && page.contains("tiny-3 (2)"));
    assert_eq!(entries(&run), before);
}

/// The size of the paper's runs: five clients with four classes each, ten rounds.
#[test]
fn a_report_of_the_papers_size_stays_small() {
    let desk = Desk::new();
    let more = ["--rounds", "10", "--set", "partition.num_clients=5", "--set", "circuits.classes=[0,1,2,7]"];
    let ended = desk.run(&[&["tiny.toml", "--set", "output.save_clients=true"][..], &more].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let page = fs::read_to_string(desk.path("runs/tiny-3/report.html")).unwrap();
    assert!(page.len() < 3 << 20, "{} bytes", page.len());
    // Strengths come from the weights that were saved, of all clients.
    assert!(page.contains("of lost connections in the client's model") && page.contains("strongest into conv2"));
}

#[test]
fn a_broken_folder_is_named_with_its_line_and_keeps_its_report() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["tiny.toml", "--rounds", "1"]).code, Some(0));
    let run = desk.path("runs/tiny-3");
    let page = fs::read(run.join("report.html")).unwrap();
    let table = fs::read_to_string(run.join("partition.csv")).unwrap();
    fs::write(run.join("partition.csv"), format!("{table}0,none,3\n")).unwrap();
    let ended = desk.fedcircuit(&["report", "runs/tiny-3"]);
    let line = table.lines().count() + 1;
    let says = format!("partition.csv: line {line}: class is \"none\"\n  accepted: a whole number");
    assert!(ended.code == Some(2) && ended.err.contains(&says), "{ended:?}");
    assert!(fs::read(run.join("report.html")).unwrap() == page);
    let ended = desk.fedcircuit(&["report", "runs/tiny-3", "--out", "tiny.toml"]);
    assert!(ended.code == Some(2) && ended.err.contains("--out: tiny.toml is a file"), "{ended:?}");
    for folder in ["nowhere", "runs/tiny-3/model"] {
        let ended = desk.fedcircuit(&["report", folder]);
        assert!(ended.code == Some(2) && ended.err.contains(folder), "{ended:?}");
    }
}

#[test]
fn cells_without_a_number_are_last_in_a_sorted_table() {
    let Some(mut browser) = Browser::open(900, 700) else { return };
    let desk = Desk::new();
    assert_eq!(desk.run(&["tiny.toml", "--rounds", "3"]).code, Some(0));
    browser.go(&format!("file://{}", desk.path("runs/tiny-3/report.html").display()));
    browser.value("document.querySelector('#table-rounds tbody tr').cells[1].removeAttribute('data-v')");
    for order in ["ascending", "descending"] {
        browser.value("document.querySelectorAll('#table-rounds th button')[1].click()");
        let sorted = browser.value("document.querySelectorAll('#table-rounds th')[1].getAttribute('aria-sort')");
        assert_eq!(sorted, order);
        let known =
            "[...document.querySelectorAll('#table-rounds tbody tr')].map((row) => 'v' in row.cells[1].dataset)";
        assert_eq!(browser.value(known), serde_json::json!([true, true, false]), "{order}");
    }
}
