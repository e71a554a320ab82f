//! `standpipe healthcheck`: asks a worker's HTTP port, for the HEALTHCHECK of an image that has no curl.
//!
//! Plain HTTP/1.1 with one request. Ends with 0 for a 2xx answer, otherwise with 1.

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::args::Healthcheck;
use crate::exit::{Exit, Usage};
use crate::terminal;

/// More than any status line.
const HEAD_BYTES_MAX: u64 = 1024;

pub fn run(args: Healthcheck) -> Result<Exit> {
    let target = Target::parse(&args.url)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let asked = runtime.block_on(async { tokio::time::timeout(args.timeout, ask(&target)).await });
    let status = asked.with_context(|| format!("{} does not answer within {:?}", args.url, args.timeout))?;
    let status = status.with_context(|| format!("{} does not answer", args.url))?;
    if (200..300).contains(&status) {
        terminal::out(&format!("ok: {} answers {status}\n", args.url))?;
        return Ok(Exit::Ok);
    }
    terminal::err(&format!("{} answers {status}\n", args.url));
    Ok(Exit::Failed)
}

#[derive(Debug, PartialEq, Eq)]
struct Target {
    host: String,
    address: String,
    path: String,
}

impl Target {
    fn parse(url: &str) -> Result<Self, Usage> {
        let wrong = || Usage(format!("{url} is no address: expected http://HOST:PORT/PATH"));
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let sound = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || host.contains('@') || !sound(host) || !sound(path) {
            return Err(wrong());
        }
        let named = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
        let address = match named {
            Some((name, port)) if !name.is_empty() && port.parse::<u16>().is_ok() => host.to_owned(),
            Some(_) => return Err(wrong()),
            None => format!("{host}:80"),
        };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { host: host.to_owned(), address, path: path.to_owned() })
    }
}

/// The status of the answer.
async fn ask(target: &Target) -> Result<u16> {
    let mut stream = TcpStream::connect(&target.address).await?;
    let Target { host, path, .. } = target;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    let mut limited = stream.take(HEAD_BYTES_MAX);
    while !head.contains(&b'\n') {
        if limited.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let line = String::from_utf8_lossy(&head);
    let line = line.lines().next().unwrap_or_default();
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    let Some(status) = status else { bail!("the answer is not HTTP/1") };
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let target = Target::parse("http://127.0.0.1:9464/livez").expect("it is one");
        assert_eq!((target.address.as_str(), target.path.as_str()), ("127.0.0.1:9464", "/livez"));
        assert_eq!(Target::parse("http://worker").expect("it is one").address, "worker:80");
        assert_eq!(Target::parse("http://[::1]/x").expect("it is one").address, "[::1]:80");
        assert_eq!(Target::parse("http://[::1]:9464").expect("it is one").address, "[::1]:9464");
        for bad in ["https://h/", "h:1/", "http://", "http://h:x/", "http://u@h/", "http://h/a b", "http://h/\r\n"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_status_of_an_answer_is_read() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let served = |answer: &'static str| {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
                let address = listener.local_addr().expect("an address");
                let serve = async {
                    let (mut stream, _) = listener.accept().await.expect("a caller");
                    let mut request = [0; 4];
                    stream.read_exact(&mut request).await.expect("a request");
                    assert_eq!(&request, b"GET ");
                    stream.write_all(answer.as_bytes()).await.expect("answered");
                };
                let target = Target::parse(&format!("http://{address}/livez")).expect("it is one");
                tokio::join!(ask(&target), serve).0
            })
        };
        assert_eq!(served("HTTP/1.1 200 OK\r\n\r\nok").ok(), Some(200));
        assert_eq!(served("HTTP/1.1 503 Service Unavailable\r\n\r\n").ok(), Some(503));
        assert!(served("SSH-2.0-x\r\n").is_err());
        assert!(served("").is_err());
    }
}
