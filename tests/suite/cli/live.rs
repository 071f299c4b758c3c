//! `--live`: the report that grows, in a browser and to programs.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use fedcircuit::report::Live;

use super::{Desk, entries};
use crate::browser::Browser;

/// Puts what is in one folder over what is in another.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in entries(from) {
        let (from, to) = (from.join(&entry), to.join(&entry));
        if from.is_dir() {
            fs::create_dir_all(to).unwrap();
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

/// The order of a table, by a heading's arrow and by its column.
const TABLE: &str = "(() => {
    const heading = document.querySelector('#table-rounds thead th[aria-sort], table.sortable th[aria-sort]');
    if (!heading) return null;
    const cells = [...heading.closest('table').tBodies[0].rows].map((row) => Number(row.cells[heading.cellIndex].dataset.v));
    return { order: heading.getAttribute('aria-sort'), section: heading.closest('section').id, cells };
})()";

#[test]
fn the_page_grows_in_a_browser_and_what_is_read_stays_where_it_is() {
    let Some(mut browser) = Browser::open(900, 700) else { return };
    let desk = Desk::new();
    for rounds in ["2", "3"] {
        let ended = desk.run(&["tiny.toml", "--rounds", rounds, "--out", &format!("of-{rounds}")]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let served = desk.path("served");
    let live = Live::start(&served, 0).unwrap();
    browser.go(&live.address());
    browser.wait("document.getElementById('live')?.textContent === 'running, not in its first round yet'");
    copy(&desk.path("of-2"), &served);
    live.began("tiny", 3);
    live.resumed(2);
    browser.wait("document.getElementById('live').textContent === 'running, round 3 of 3: tiny'");
    browser.wait("document.querySelector('header .meta')?.textContent.startsWith('2 rounds')");

    // A table with a row a round or more, sorted downwards by its first column of numbers.
    browser.value("document.querySelectorAll('table.sortable th.n button')[0].click()");
    browser.value("document.querySelectorAll('table.sortable th.n button')[0].click()");
    let before = browser.value(TABLE);
    assert_eq!(before["order"], "descending", "{before}");
    browser.value("document.querySelectorAll('main section')[4].scrollIntoView()");
    browser.value("window.scrollBy(0, -40)");
    let place = "(() => { const s = document.querySelectorAll('main section')[4]; return [s.id, s.getBoundingClientRect().top, scrollY]; })()";
    let was = browser.value(place);
    assert!(was[2].as_f64().unwrap() > 100.0, "{was}");

    copy(&desk.path("of-3"), &served);
    live.landed();
    browser.wait("document.querySelector('header .meta').textContent.startsWith('3 rounds')");
    let now = browser.value(place);
    assert_eq!(now[0], was[0]);
    assert!((now[1].as_f64().unwrap() - was[1].as_f64().unwrap()).abs() <= 2.0, "{was} {now}");
    let after = browser.value(TABLE);
    assert_eq!((&after["order"], &after["section"]), (&before["order"], &before["section"]), "{after}");
    let cells: Vec<f64> = after["cells"].as_array().unwrap().iter().filter_map(|cell| cell.as_f64()).collect();
    assert!(cells.windows(2).all(|pair| pair[0] >= pair[1]), "{after}");
    // Pressing goes on from there: headings have one button each.
    assert_eq!(browser.value("document.querySelectorAll('th button button').length"), 0);

    live.done();
    browser.wait("document.getElementById('live').textContent === 'done'");
    drop(live);
    // The page of an ended run looks for no more news, and stays.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(browser.value("document.getElementById('live').textContent"), "done");
    assert_eq!(browser.value("document.querySelectorAll('script[src], link, img[src^=http]').length"), 0);
}

#[test]
fn a_run_says_where_its_page_is_and_takes_it_with_it() {
    let desk = Desk::new();
    let mut command = desk.command(env!("CARGO_BIN_EXE_fedcircuit"));
    command.args(["run", "tiny.toml", "--device", "cpu", "--rounds", "6", "--set", "circuits.steps=40", "--live"]);
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.find_map(|line| Some(line.strip_prefix("live: http://")?.trim_end_matches('/').to_string()));
    let address = address.expect("an address");
    let ask = |path: &str| -> std::io::Result<String> {
        let mut connection = TcpStream::connect(&address)?;
        connection.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let status = ask("/status").unwrap();
    assert!(status.contains("200 OK") && status.contains("\"rounds\":"), "{status}");
    lines.find(|line| line.starts_with("round 1/6")).expect("a round");
    let page = ask("/").unwrap();
    assert!(page.contains("<h1>tiny</h1>") && page.contains("connect-src 'self'"), "{page}");
    assert!(lines.any(|line| line.starts_with("written to")));
    assert!(run.wait().unwrap().success());
    ask("/status").unwrap_err();
    // Nothing of it is in the page that stays.
    let page = fs::read_to_string(desk.path("runs/tiny-3/report.html")).unwrap();
    assert!(!page.contains("connect-src") && !page.contains("/status"));
}

#[test]
fn ports_that_cannot_be_had_are_refused() {
    let desk = Desk::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let flag = format!("--live={}", taken.local_addr().unwrap().port());
    let ended = desk.run(&["tiny.toml", &flag]);
    assert!(ended.code == Some(2) && ended.err.contains("--live: port"), "{ended:?}");
    assert_eq!(desk.entries(), ["tiny.toml"]);
    for flags in [&["--no-open"][..], &["--live=70000"], &["--live=here"]] {
        assert_eq!(desk.run(&[&["tiny.toml"], flags].concat()).code, Some(2));
    }
}
