//! Downloads of public data sets: checked against published SHA-256 sums, never leaving half a file.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::Agent;

use super::hex;
use crate::error::{Error, Result};
use crate::files::replace_whole;

/// Where MNIST is mirrored, in the order they are tried.
pub const MNIST_MIRRORS: [&str; 2] =
    ["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"];

/// A file as its publisher made it.
struct Published {
    name: &'static str,
    /// Size; no mirror is listened to beyond it.
    bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    sha256: &'static str,
}

const MNIST: [Published; 4] = [
    Published {
        name: "train-images-idx3-ubyte.gz",
        bytes: 9_912_422,
        sha256: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    },
    Published {
        name: "train-labels-idx1-ubyte.gz",
        bytes: 28_881,
        sha256: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    },
    Published {
        name: "t10k-images-idx3-ubyte.gz",
        bytes: 1_648_877,
        sha256: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    },
    Published {
        name: "t10k-labels-idx1-ubyte.gz",
        bytes: 4_542,
        sha256: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
];

/// Told of every piece that arrives: the file's name, bytes so far, and bytes in all where the server says.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64, Option<u64>);

/// Puts the four MNIST files into `dir`, trying `base_urls` in turn (`MNIST_MIRRORS` if empty). A file that is there
/// with the published checksum is kept; one with another is replaced once its successor has been checked.
///
/// # Errors
/// `Download` if no mirror sends a file with the published checksum, saying what each did; `Io` if `dir` cannot be
/// written. Files that were finished before stay; the one at fault leaves no trace.
pub fn fetch_mnist(dir: &Path, base_urls: &[String], progress: Progress) -> Result<()> {
    let agent: Agent = Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(30)))
        .timeout_per_read(Some(Duration::from_secs(30)))
        .user_agent(concat!("fedcircuit/", env!("CARGO_PKG_VERSION")))
        // The files are gzip themselves: a transparent decoder would unpack them and break their checksum.
        .accept_encoding("identity")
        .build()
        .into();
    let mirrors = MNIST_MIRRORS.map(String::from);
    fetch(&agent, dir, &MNIST, if base_urls.is_empty() { &mirrors } else { base_urls }, progress)
}

fn fetch(agent: &Agent, dir: &Path, files: &[Published], base_urls: &[String], progress: Progress) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    for file in files {
        let path = dir.join(file.name);
        if path.is_file() && file_sha256(&path)? == file.sha256 {
            progress(file.name, file.bytes, Some(file.bytes));
            continue;
        }
        let bytes = from_any_mirror(agent, dir, file, base_urls, progress)?;
        replace_whole(&path, &bytes)?;
    }
    Ok(())
}

/// The checked contents of `file`: few enough to hold, so that a download that is broken off, however it is, leaves nothing.
fn from_any_mirror(
    agent: &Agent,
    dir: &Path,
    file: &Published,
    base_urls: &[String],
    progress: Progress,
) -> Result<Vec<u8>> {
    let mut refusals = Vec::new();
    for base in base_urls {
        let url = format!("{}/{}", base.trim_end_matches('/'), file.name);
        match download(agent, &url, file, progress) {
            Ok(bytes) => return Ok(bytes),
            Err(problem) => refusals.push((url, problem)),
        }
    }
    let (url, mut problem) = refusals.pop().unwrap_or_default();
    for (url, earlier) in refusals {
        problem.push_str(&format!("; before that, {url}: {earlier}"));
    }
    let help = format!(
        "check the connection and try again, or put {} (SHA-256 {}) into {} yourself",
        file.name,
        file.sha256,
        dir.display()
    );
    Err(Error::Download { url, problem, help })
}

/// What `url` sends, or what is wrong with this mirror.
fn download(agent: &Agent, url: &str, file: &Published, progress: Progress) -> std::result::Result<Vec<u8>, String> {
    let response = agent.get(url).call().map_err(|error| error.to_string())?;
    let total = response.body().content_length();
    let mut body = response.into_body().into_reader();
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => return Err(format!("the connection broke after {} bytes ({error})", bytes.len())),
        };
        bytes.extend_from_slice(&buffer[..count]);
        if bytes.len() as u64 > file.bytes {
            return Err(format!("it sends more than the {} bytes of the published file", file.bytes));
        }
        progress(file.name, bytes.len() as u64, total);
    }
    let found = hex(&Sha256::digest(&bytes));
    if found == file.sha256 {
        return Ok(bytes);
    }
    Err(format!("it sent {} bytes with the SHA-256 {found}, not {}", bytes.len(), file.sha256))
}

fn file_sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// SHA-256 of "abc" and of the empty message: FIPS 180-4, and every text book.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    const FILE: Published = Published { name: "letters.gz", bytes: 3, sha256: ABC };

    /// Answers one request a response, in order, and returns the address to ask.
    fn serve(responses: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/folder/", listener.local_addr().unwrap());
        thread::spawn(move || {
            for response in responses {
                let (mut connection, _) = listener.accept().unwrap();
                let request = BufReader::new(connection.try_clone().unwrap());
                let lines: Vec<String> =
                    request.lines().map(|line| line.unwrap()).take_while(|line| !line.is_empty()).collect();
                assert!(lines[0].starts_with("GET /folder/"), "{lines:?}");
                connection.write_all(response.as_bytes()).unwrap();
            }
        });
        address
    }

    const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    const WRONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabd";
    const CUT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nab";
    const LONG: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcabcabc";
    const ABSENT: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnone";

    fn fetch_from(dir: &Path, base_urls: &[String]) -> Result<Vec<(u64, Option<u64>)>> {
        let agent: Agent =
            Agent::config_builder().proxy(None).timeout_global(Some(Duration::from_secs(20))).build().into();
        let mut seen = Vec::new();
        fetch(&agent, dir, &[FILE], base_urls, &mut |name, done, total| {
            assert_eq!(name, FILE.name);
            seen.push((done, total));
        })?;
        Ok(seen)
    }

    fn listing(dir: &Path) -> Vec<String> {
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_good_file_is_stored_and_reported() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("new/folder");
        let seen = fetch_from(&dir, &[serve(vec![GOOD])]).unwrap();
        assert_eq!(seen.last(), Some(&(3, Some(3))));
        assert_eq!(listing(&dir), [FILE.name]);
        assert_eq!(std::fs::read(dir.join(FILE.name)).unwrap(), b"abc");
    }

    #[test]
    fn a_file_that_is_there_is_not_fetched_again() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE.name), "abc").unwrap();
        // Nobody listens at this address: asking it would fail.
        assert_eq!(fetch_from(dir.path(), &["http://127.0.0.1:1/".into()]).unwrap(), [(3, Some(3))]);
    }

    #[test]
    fn a_file_with_another_checksum_is_replaced_only_by_a_good_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE.name);
        std::fs::write(&path, "old").unwrap();
        fetch_from(dir.path(), &[serve(vec![WRONG])]).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        fetch_from(dir.path(), &[serve(vec![GOOD])]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"abc");
        assert_eq!(listing(dir.path()), [FILE.name]);
    }

    #[test]
    fn failures_say_what_happened_and_leave_nothing_behind() {
        let cases = [
            (WRONG, "it sent 3 bytes with the SHA-256"),
            (CUT, "the connection broke after 2 bytes"),
            (LONG, "more than the 3 bytes"),
            (ABSENT, "404"),
        ];
        for (response, expected) in cases {
            let dir = tempfile::tempdir().unwrap();
            let base = serve(vec![response]);
            let error = fetch_from(dir.path(), std::slice::from_ref(&base)).unwrap_err();
            assert!(matches!(error, Error::Download { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.starts_with(&format!("{base}letters.gz: ")) && text.contains(expected), "{text}");
            assert!(text.contains(ABC) && text.contains("try again"), "{text}");
            assert!(listing(dir.path()).is_empty(), "{response}: {:?}", listing(dir.path()));
        }
    }

    #[test]
    fn mirrors_are_tried_in_turn() {
        let dir = tempfile::tempdir().unwrap();
        fetch_from(dir.path(), &[serve(vec![ABSENT]), serve(vec![CUT]), serve(vec![GOOD])]).unwrap();
        assert_eq!(listing(dir.path()), [FILE.name]);
        let other = tempfile::tempdir().unwrap();
        let text = fetch_from(other.path(), &[serve(vec![ABSENT]), serve(vec![CUT])]).unwrap_err().to_string();
        assert!(text.contains("404") && text.contains("broke"), "{text}");
    }

    #[test]
    fn published_sums_are_well_formed() {
        assert_eq!(hex(&Sha256::digest(b"")), EMPTY);
        for file in &MNIST {
            assert!(file.sha256.len() == 64 && file.sha256.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')));
        }
    }
}
