//! A tenant's own server: takes webhooks and remembers which messages came.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A message is smaller than this.
const MESSAGE_BYTES_MAX: usize = 256 << 10;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Answers every message with 200, for as long as the run lasts.
pub(crate) struct Receiver {
    pub(crate) url: String,
    /// `webhook-id` of all that came.
    received: Arc<Mutex<HashSet<String>>>,
}

impl Receiver {
    pub(crate) async fn start() -> anyhow::Result<Receiver> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for webhooks")?;
        let url = format!("http://{}/hooks", listener.local_addr()?);
        let received = Arc::new(Mutex::new(HashSet::new()));
        let remembered = received.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let remembered = remembered.clone();
                tokio::spawn(async move {
                    if let Ok(Some(id)) = receive(stream).await {
                        remembered.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
                    }
                });
            }
        });
        Ok(Receiver { url, received })
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }
}

/// Reads one message and answers it. Returns its id; `None` where the sender died over it.
async fn receive(mut stream: TcpStream) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4_096];
    while bytes.len() < MESSAGE_BYTES_MAX {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = header(head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        if body.len() >= length {
            let id = header(head, "webhook-id").map(str::to_owned);
            stream.write_all(ANSWER).await?;
            return Ok(id);
        }
    }
    Ok(None)
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}
