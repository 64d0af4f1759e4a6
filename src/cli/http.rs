//! A few pages over HTTP, for those who look on.
//!
//! ```text
//!  GET /metrics ─► Prometheus' text format        GET /status ─► JSON        everything else ─► 404, 405
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::error::{Error, Result};

/// How long a client may take for its request.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a request that are read.
const MOST: usize = 8 << 10;

/// Makes the body of a page.
type Body = Box<dyn Fn() -> String + Send + Sync>;

/// What there is to look at.
pub(super) struct Pages {
    /// `/metrics`, in Prometheus' text format.
    pub(super) metrics: Body,
    /// `/status`, as JSON.
    pub(super) status: Body,
}

/// Serves until it is dropped.
pub(super) struct Server {
    task: tokio::task::JoinHandle<()>,
    address: SocketAddr,
}

impl Server {
    /// Listens at the address of `--metrics-addr`.
    ///
    /// # Errors
    /// External if it is taken.
    pub(super) async fn serve(address: SocketAddr, pages: Pages) -> Result<Self> {
        let listener = TcpListener::bind(address).await.map_err(|e| {
            Error::external(format!("--metrics-addr {address}: {e}")).hint("choose another port; 0 takes any")
        })?;
        let address = listener.local_addr()?;
        let pages = Arc::new(pages);
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let pages = Arc::clone(&pages);
                        tokio::spawn(tokio::time::timeout(PATIENCE, async move {
                            // A client that goes away is no matter.
                            let _ = answer(stream, &pages).await;
                        }));
                    }
                    // Too many open files: it may get better.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        Ok(Server { task, address })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, pages: &Pages) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") && request.len() < MOST {
        match stream.read(&mut chunk).await? {
            0 => break,
            n => request.extend_from_slice(chunk.get(..n).unwrap_or_default()),
        }
    }
    let line = request.split(|b| *b == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, kind, body) = match (method, path.split('?').next().unwrap_or_default()) {
        ("GET", "/metrics") => ("200 OK", "text/plain; version=0.0.4; charset=utf-8", (pages.metrics)()),
        ("GET", "/status") => ("200 OK", "application/json", (pages.status)()),
        ("GET", _) => ("404 Not Found", "text/plain", "there is /metrics and /status\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain", "only GET\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// The text of a label of Prometheus.
pub(super) fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn pages_are_made_when_they_are_asked_for() {
        let pages = Pages { metrics: Box::new(|| "a 1\n".into()), status: Box::new(|| "[]".into()) };
        let server = Server::serve("127.0.0.1:0".parse().unwrap(), pages).await.unwrap();
        let (metrics, status) =
            (ask(server.address(), "GET /metrics").await, ask(server.address(), "GET /status?x").await);
        assert!(metrics.starts_with("HTTP/1.1 200 OK") && metrics.ends_with("\r\n\r\na 1\n"), "{metrics}");
        assert!(status.contains("application/json") && status.ends_with("[]"), "{status}");
        assert!(ask(server.address(), "GET /").await.contains("404 Not Found"));
        assert!(ask(server.address(), "POST /metrics").await.contains("405 "));
        let taken = Server::serve(
            server.address(),
            Pages { metrics: Box::new(String::new), status: Box::new(String::new) },
        );
        assert!(taken.await.err().unwrap().to_string().contains("--metrics-addr 127.0.0.1:"));
        assert_eq!(label("a\"b\\\n"), "a\\\"b\\\\\\n");
    }
}
