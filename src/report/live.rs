//! The report of a run while it goes on: served to browsers on this machine, and made only when one asks for it.
//!
//! Two things are there to get: `/`, the page about the run's folder, and `/status`, how far the run is. There is no other
//! path, no method but GET, and no address but the loopback's; and the `Host` must be the one that was printed, so that no
//! other site can have a browser read the page under a name of its own (DNS rebinding).

mod http;

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::html;
use crate::{Error, Result};
use http::{Answer, Asked};

const SCRIPT: &str = include_str!("../../assets/report/live.js");
const STYLE: &str = "#live{position:sticky;top:0;z-index:1;max-width:none;margin:0;padding:6px 16px;background:var(--link,#0b57a4);\
                     color:var(--ground,#fff);font-variant-numeric:tabular-nums}";
/// Before there is anything to show.
const WAITING: &str = "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>fedcircuit</title></head><body>\
                       <header></header><main><p>The page comes with the first round.</p></main></body></html>";

/// A page is not made more often than this, nor in more than a tenth of the time: the run has better use for it.
const APART: Duration = Duration::from_secs(1);
/// Browsers look for news this often, and a little more.
const LOOKS: Duration = Duration::from_secs(3);
/// Connections at once: a browser opens a few, and some of them only in case.
const CONNECTIONS: usize = 32;

/// Serves one run's report until it is dropped.
pub struct Live {
    shared: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    port: u16,
    status: Mutex<Status>,
    page: Mutex<Page>,
    /// When a browser last looked for news.
    seen: Mutex<Option<Instant>>,
    /// Whether one was given the last page.
    told: AtomicBool,
    ended: AtomicBool,
    connections: AtomicUsize,
}

/// How far the run is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Status {
    /// Another number, another page.
    version: u64,
    state: State,
    /// What is under way: of several variants, the one.
    run: String,
    /// Done.
    round: usize,
    rounds: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Running,
    Done,
}

/// The page as it was last made.
#[derive(Default)]
struct Page {
    version: Option<u64>,
    made: Option<Instant>,
    /// How long that took.
    took: Duration,
    /// Without the script, which has the version in it.
    html: String,
}

impl Live {
    /// Serves the run in `folder`, which may not be there yet, on a port of the loopback; 0 is any that is free.
    ///
    /// # Errors
    /// [`Error::Config`] when the port cannot be had.
    pub fn start(folder: &Path, port: u16) -> Result<Self> {
        let refused = |error: std::io::Error| {
            let help = "accepted: --live=PORT with a free port such as 8080, or --live alone for any that is free";
            Error::config("--live", format!("port {port} cannot be had: {error}"), help)
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(refused)?;
        let port = listener.local_addr().map_err(refused)?.port();
        let shared = Arc::new(Shared {
            folder: folder.into(),
            port,
            status: Mutex::default(),
            page: Mutex::default(),
            seen: Mutex::default(),
            told: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
        });
        let served = shared.clone();
        thread::spawn(move || serve(&listener, &served));
        Ok(Self { shared })
    }

    /// Where the page is.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}/", self.shared.port)
    }

    /// Rounds done of the run under way, and all of them.
    pub fn rounds(&self) -> (usize, usize) {
        let status = lock(&self.shared.status);
        (status.round, status.rounds)
    }

    /// A run begins, of so many rounds.
    pub fn began(&self, run: &str, rounds: usize) {
        self.shared.tell(|status| *status = Status { run: run.into(), rounds, round: 0, ..status.clone() });
    }

    /// Another of several at a time joins it, of so many rounds.
    pub fn joined(&self, rounds: usize) {
        self.shared.tell(|status| status.rounds += rounds);
    }

    /// So many rounds of it were done by an earlier process.
    pub fn resumed(&self, rounds: usize) {
        self.shared.tell(|status| status.round += rounds);
    }

    /// Another round is in all files.
    pub fn landed(&self) {
        self.shared.tell(|status| status.round += 1);
    }

    /// The run is done and everything written: waits a moment until a browser that is watching has the last page.
    pub fn done(&self) {
        self.shared.tell(|status| status.state = State::Done);
        let watched = lock(&self.shared.seen).is_some_and(|seen| seen.elapsed() < LOOKS);
        let start = Instant::now();
        while watched && start.elapsed() < LOOKS && !self.shared.told.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // The listener waits for a connection, after which it looks whether to go on.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.shared.port)));
    }
}

/// A thread that panicked leaves what it had: a page to be made again.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers until the run ends, each connection in a thread of its own: a browser opens some that it never uses.
fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for connection in listener.incoming() {
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        let Ok(connection) = connection else { continue };
        if shared.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let shared = shared.clone();
        thread::spawn(move || {
            let mut last = false;
            let given = http::answer(&connection, shared.port, |asked| {
                let (answer, is_last) = shared.answer(asked);
                last = is_last;
                answer
            });
            // What a browser does not wait for is no fault of the run.
            if last && given.is_ok() {
                shared.told.store(true, Ordering::Relaxed);
            }
            shared.connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

impl Shared {
    fn tell(&self, change: impl FnOnce(&mut Status)) {
        let mut status = lock(&self.status);
        change(&mut status);
        status.version += 1;
    }

    /// What is asked for, and whether it is the last page.
    fn answer(&self, asked: Asked) -> (Answer, bool) {
        let status = lock(&self.status).clone();
        match asked {
            Asked::Status => {
                *lock(&self.seen) = Some(Instant::now());
                let body = serde_json::to_string(&status).unwrap_or_default();
                (Answer { kind: "application/json", version: status.version, body }, false)
            }
            Asked::Page => {
                let done = status.state == State::Done;
                let (version, html) = self.page(status.version, done);
                let body = with_script(&html, version);
                (Answer { kind: "text/html; charset=utf-8", version, body }, done && version == status.version)
            }
        }
    }

    /// The page, and the version it is of: `wanted`, unless one was made just before and this is not the `last`.
    fn page(&self, wanted: u64, last: bool) -> (u64, String) {
        let mut page = lock(&self.page);
        let fresh = page.made.is_some_and(|made| made.elapsed() < APART.max(10 * page.took));
        if page.version != Some(wanted) && (last || !fresh) {
            let start = Instant::now();
            page.made = Some(start);
            // A file that is just being written is read again when the page is next asked for.
            match html::render(std::slice::from_ref(&self.folder)) {
                Ok(html) => (page.version, page.html) = (Some(wanted), html),
                Err(error) => tracing::debug!("no page yet: {error}"),
            }
            page.took = start.elapsed();
        }
        match page.version {
            Some(version) => (version, page.html.clone()),
            None => (0, WAITING.into()),
        }
    }
}

/// The page with what makes it grow, and the permission to ask this server.
fn with_script(html: &str, version: u64) -> String {
    let own = format!("{}; connect-src 'self'", html::POLICY);
    let script = format!("<style>{STYLE}</style><script data-version=\"{version}\">{SCRIPT}</script></body>");
    html.replacen(html::POLICY, &own, 1).replacen("</body>", &script, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// What the server says to these lines.
    fn ask(live: &Live, lines: &str) -> String {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, live.shared.port)).unwrap();
        connection.write_all(lines.replace('\n', "\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = connection.read_to_string(&mut answer);
        answer
    }

    fn get(live: &Live, path: &str) -> String {
        ask(live, &format!("GET {path} HTTP/1.1\nHost: 127.0.0.1:{}\n\n", live.shared.port))
    }

    #[test]
    fn the_status_follows_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let live = Live::start(folder.path(), 0).unwrap();
        live.began("a \"b\"", 4);
        live.resumed(1);
        live.landed();
        let answer = get(&live, "/status");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\r\nX-Version: 3\r\n") && answer.contains("Connection: close"), "{answer}");
        let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let expected = serde_json::json!(
            { "version": 3, "state": "running", "run": "a \"b\"", "round": 2, "rounds": 4 }
        );
        assert_eq!(body, expected);
        let page = get(&live, "/");
        assert!(page.contains("The page comes with the first round") && page.contains("data-version=\"0\""), "{page}");
        let start = Instant::now();
        live.done();
        assert!(get(&live, "/status?again").contains("\"state\":\"done\""));
        assert!(start.elapsed() < 2 * LOOKS);
    }

    #[test]
    fn only_this_page_is_given_and_only_to_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret.txt"), "secret").unwrap();
        let live = Live::start(folder.path(), 0).unwrap();
        let host = format!("Host: 127.0.0.1:{}", live.shared.port);
        let long = "x".repeat(20_000);
        for (lines, says) in [
            (format!("GET /secret.txt HTTP/1.1\n{host}\n\n"), "404"),
            (format!("GET /../secret.txt HTTP/1.1\n{host}\n\n"), "404"),
            (format!("POST / HTTP/1.1\n{host}\n\n"), "405"),
            (format!("HEAD / HTTP/1.1\n{host}\n\n"), "405"),
            ("GET / HTTP/1.1\nHost: evil.example\n\n".into(), "403"),
            (format!("GET / HTTP/1.1\nHost: evil.example:{}\n\n", live.shared.port), "403"),
            ("GET / HTTP/1.1\n\n".into(), "403"),
            (format!("GET / HTTP/1.1\n{host}\nHost: evil.example\n\n"), "403"),
            ("nonsense\n\n".into(), "400"),
            (format!("GET / HTTP/1.1\n{host}\nX: {long}\n\n"), "431"),
        ] {
            let answer = ask(&live, &lines);
            assert!(answer.starts_with(&format!("HTTP/1.1 {says}")) && !answer.contains("secret"), "{lines}: {answer}");
        }
        let localhost = format!("GET / HTTP/1.1\nhost: localhost:{}\n\n", live.shared.port);
        assert!(ask(&live, &localhost).starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn a_port_that_is_taken_is_named_and_one_that_ends_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let live = Live::start(folder.path(), 0).unwrap();
        let port = live.shared.port;
        let error = Live::start(folder.path(), port).err().unwrap();
        assert!(error.exit_code() == 2 && error.to_string().contains(&format!("port {port}")), "{error}");
        drop(live);
        let again = (0..50).find_map(|_| {
            thread::sleep(Duration::from_millis(20));
            Live::start(folder.path(), port).ok()
        });
        assert!(again.is_some());
    }
}
