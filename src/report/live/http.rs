//! As much of HTTP as a page needs: a request's first line and headers, one answer, and the connection ends.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// Of a request's head; browsers send a tenth of it.
const MOST: usize = 16 << 10;
const HEADERS: usize = 64;
/// For a request to arrive, or an answer to leave.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `/`.
    Page,
    /// `/status`.
    Status,
}

/// What is given.
pub struct Answer {
    /// Its media type.
    pub kind: &'static str,
    /// Of the page.
    pub version: u64,
    /// Text.
    pub body: String,
}

/// Reads one request and answers it.
///
/// # Errors
/// Of the connection.
pub fn answer(connection: &TcpStream, port: u16, give: impl FnOnce(Asked) -> Answer) -> io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let (status, answer) = match read(connection, port)? {
        Ok(asked) => ("200 OK", give(asked)),
        Err(status) => (status, Answer { kind: "text/plain", version: 0, body: format!("{status}\n") }),
    };
    let Answer { kind, version, body } = answer;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nX-Version: {version}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: same-origin\r\n\
         Content-Security-Policy: frame-ancestors 'none'\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut connection = connection;
    connection.write_all(head.as_bytes())?;
    connection.write_all(body.as_bytes())?;
    connection.flush()?;
    // What is still to come is taken, since closing over it would take the answer back.
    connection.shutdown(Shutdown::Write)?;
    connection.set_read_timeout(Some(PATIENCE / 10))?;
    let _ = io::copy(&mut connection.take(4 * MOST as u64), &mut io::sink());
    Ok(())
}

/// The request, or the status that refuses it.
fn read(mut connection: &TcpStream, port: u16) -> io::Result<Result<Asked, &'static str>> {
    let (start, mut head, mut part) = (Instant::now(), Vec::new(), [0; 2048]);
    while head.len() < MOST && start.elapsed() < PATIENCE {
        let n = connection.read(&mut part)?;
        head.extend(&part[..n]);
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&head) {
            Ok(httparse::Status::Complete(_)) => return Ok(asked(&request, port)),
            Ok(httparse::Status::Partial) if n > 0 => {}
            Err(httparse::Error::TooManyHeaders) => return Ok(Err("431 Request Header Fields Too Large")),
            _ => return Ok(Err("400 Bad Request")),
        }
    }
    Ok(Err("431 Request Header Fields Too Large"))
}

fn asked(request: &httparse::Request<'_, '_>, port: u16) -> Result<Asked, &'static str> {
    let mut hosts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
    let mut own = vec![format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    if port == 80 {
        // The port of plain HTTP is left out.
        own.extend(["127.0.0.1", "localhost"].map(String::from));
    }
    let is_own = |header: &httparse::Header<'_>| own.iter().any(|own| own.as_bytes() == header.value);
    if !hosts.next().is_some_and(is_own) || hosts.next().is_some() {
        return Err("403 Forbidden");
    }
    if request.method != Some("GET") {
        return Err("405 Method Not Allowed");
    }
    match request.path.map(|path| path.split('?').next().unwrap_or_default()) {
        Some("/") => Ok(Asked::Page),
        Some("/status") => Ok(Asked::Status),
        _ => Err("404 Not Found"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_plain_http_may_be_left_out_and_no_other() {
        let ask = |host: &str, port| {
            let mut headers = [httparse::Header { name: "Host", value: host.as_bytes() }];
            let mut request = httparse::Request::new(&mut headers);
            (request.method, request.path) = (Some("GET"), Some("/"));
            asked(&request, port).is_ok()
        };
        assert!(["localhost", "127.0.0.1", "127.0.0.1:80"].iter().all(|host| ask(host, 80)));
        assert!(!ask("localhost", 8080) && !ask("evil.example", 80) && !ask("localhost:8080", 80));
    }
}
