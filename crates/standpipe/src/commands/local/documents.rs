//! What an OpenSearch destination sends, taken down in memory: a server that takes every document.
//!
//! A host's name is the destination's id. Never: opens a port.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use standpipe_destinations::http::dial::{BoxStream, Dial, DialError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;

/// Lines by destination and index.
type Taken = BTreeMap<(String, String), Vec<u8>>;

/// The lines that were sent, by destination and index: an action and its document by turns.
#[derive(Clone, Default)]
pub struct Documents {
    taken: Arc<Mutex<Taken>>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Documents")
    }
}

#[async_trait]
impl Dial for Documents {
    async fn dial(&self, host: &str, _: u16) -> Result<BoxStream, DialError> {
        let (ours, theirs) = tokio::io::duplex(256 << 10);
        let (documents, destination) = (self.clone(), host.to_owned());
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move {
            // A connection that breaks is one that nobody needs any more.
            let _ = documents.serve(&destination, theirs).await;
        });
        Ok(Box::new(ours))
    }
}

impl Documents {
    /// Where a destination of this id finds it.
    pub fn endpoint(id: &str) -> String {
        format!("http://{id}")
    }

    /// Everything that was taken: destination, index, lines.
    pub fn taken(&self) -> Vec<(String, String, Vec<u8>)> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        taken.into_iter().map(|((destination, index), lines)| (destination, index, lines)).collect()
    }

    async fn serve(&self, destination: &str, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        loop {
            let (head, body) = read(&mut stream).await?;
            let answer = if head.starts_with("POST ") { self.take(destination, &body) } else { "{}".to_owned() };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(answer.as_bytes()).await?;
        }
    }

    /// Takes the lines of a request; what OpenSearch would answer.
    fn take(&self, destination: &str, body: &[u8]) -> String {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut items = Vec::new();
        let lines: Vec<&[u8]> = body.split_inclusive(|byte| *byte == b'\n').collect();
        for pair in lines.chunks(2) {
            let action: serde_json::Value = serde_json::from_slice(pair[0]).unwrap_or_default();
            let Some((name, about)) = action.as_object().and_then(|action| action.iter().next()) else { continue };
            let index = about["_index"].as_str().unwrap_or_default().to_owned();
            taken.entry((destination.to_owned(), index)).or_default().extend(pair.concat());
            items.push(serde_json::json!({ name: { "status": 201 } }));
        }
        serde_json::json!({ "errors": false, "items": items }).to_string()
    }
}

/// A request: its head, as far as the empty line, and its body.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(String, Vec<u8>)> {
    let mut read = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let end = loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        let bytes = stream.read(&mut buffer).await?;
        if bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read.extend_from_slice(&buffer[..bytes]);
    };
    let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let mut body = read.split_off(end);
    let had = body.len();
    body.resize(length.unwrap_or(0).max(had), 0);
    stream.read_exact(&mut body[had..]).await?;
    Ok((String::from_utf8_lossy(&read).into_owned(), body))
}
