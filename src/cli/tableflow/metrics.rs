//! What flows are at, over HTTP: `/metrics` for Prometheus, `/status` as JSON.
//!
//! ```text
//!  GET /metrics ─► a line per topic and number, in Prometheus' text format
//!  GET /status  ─► [{"topic": …, "table": …, "phase": …, "rows": …, "lag": …}, …]
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::shown::Shown;
use crate::error::{Error, Result};
use crate::tableflow::{Snapshot, Status};

/// How long a client may take for its request.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a request that are read.
const MOST: usize = 8 << 10;

/// A number of each topic: name, kind, what it is, and how it is found.
type Number = (&'static str, &'static str, &'static str, fn(&Snapshot) -> Option<f64>);

const NUMBERS: &[Number] = &[
    ("rows_total", "counter", "Rows written to the table.", |s| Some(s.progress.rows_out as f64)),
    ("read_bytes_total", "counter", "Bytes of records that were read.", |s| Some(s.progress.bytes_in as f64)),
    ("bad_records_total", "counter", "Records that were left out.", |s| {
        Some(s.progress.skipped_records as f64)
    }),
    ("rest_rows_total", "counter", "Rows with fields that have no column.", |s| {
        Some(s.progress.rested_rows as f64)
    }),
    ("lag_records", "gauge", "Records behind the newest; absent where it is not known.", |s| {
        s.progress.lag.filter(|_| !s.progress.lag_unknown).map(|n| n as f64)
    }),
    ("commits_total", "counter", "Commits to the table.", |s| {
        Some(s.progress.last_commit.map_or(0, |(n, _)| n) as f64)
    }),
    ("last_commit_age_seconds", "gauge", "Time since the last commit.", |s| {
        s.progress.last_commit.map(|(_, ago)| ago.as_secs_f64())
    }),
];

/// Serves until it is dropped.
pub(super) struct Metrics(tokio::task::JoinHandle<()>);

impl Metrics {
    /// Listens at an address.
    ///
    /// # Errors
    /// External if it is taken.
    pub(super) async fn serve(address: SocketAddr, shown: &Arc<Shown>) -> Result<Self> {
        let listener = TcpListener::bind(address).await.map_err(|e| {
            Error::external(format!("--metrics-addr {address}: {e}")).hint("choose another port; 0 takes any")
        })?;
        let shown = Arc::clone(shown);
        Ok(Metrics(tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let shown = Arc::clone(&shown);
                        tokio::spawn(tokio::time::timeout(PATIENCE, async move {
                            // A client that goes away is no matter.
                            let _ = answer(stream, &shown).await;
                        }));
                    }
                    // Too many open files: it may get better.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        })))
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn answer(mut stream: TcpStream, shown: &Shown) -> std::io::Result<()> {
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
        ("GET", "/metrics") => ("200 OK", "text/plain; version=0.0.4; charset=utf-8", metrics(&shown.all())),
        ("GET", "/status") => ("200 OK", "application/json", status(&shown.all())),
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

fn table(status: &Status) -> String {
    format!("{}.{}", status.route.namespace, status.route.table)
}

/// Prometheus' text format.
fn metrics(all: &[Arc<Status>]) -> String {
    let label = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let looks: Vec<(String, Snapshot)> = all
        .iter()
        .map(|s| (format!("topic=\"{}\",table=\"{}\"", label(&s.route.topic), label(&table(s))), s.look()))
        .collect();
    let mut text = String::new();
    for (name, kind, what, number) in NUMBERS {
        text +=
            &format!("# HELP tidelake_tableflow_{name} {what}\n# TYPE tidelake_tableflow_{name} {kind}\n");
        for (labels, look) in &looks {
            if let Some(number) = number(look) {
                text += &format!("tidelake_tableflow_{name}{{{labels}}} {number}\n");
            }
        }
    }
    text += "# HELP tidelake_tableflow_phase What a topic is at.\n# TYPE tidelake_tableflow_phase gauge\n";
    for (labels, look) in &looks {
        text += &format!("tidelake_tableflow_phase{{{labels},phase=\"{}\"}} 1\n", look.phase.word());
    }
    text
}

fn status(all: &[Arc<Status>]) -> String {
    let one = |s: &Arc<Status>| {
        let look = s.look();
        let p = look.progress;
        serde_json::json!({
            "topic": s.route.topic,
            "table": table(s),
            "phase": look.phase.word(),
            "rows": p.rows_out,
            "bytes": p.bytes_in,
            "bad_records": p.skipped_records,
            "rest_rows": p.rested_rows,
            "lag": p.lag.filter(|_| !p.lag_unknown),
            "commits": p.last_commit.map_or(0, |(n, _)| n),
            "last_commit_age_seconds": p.last_commit.map(|(_, ago)| ago.as_secs_f64()),
        })
    };
    serde_json::Value::from_iter(all.iter().map(one)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tableflow::Route;

    #[test]
    fn topics_are_labels() {
        let route = Route { topic: "a\"b".into(), namespace: "n".into(), table: "t".into() };
        let all = [Arc::new(Status::new(route))];
        let text = metrics(&all);
        assert!(text.contains("tidelake_tableflow_rows_total{topic=\"a\\\"b\",table=\"n.t\"} 0\n"), "{text}");
        assert!(text.contains("phase=\"starting\"} 1"), "{text}");
        assert!(!text.contains("lag_records{"), "{text}");
        let told: serde_json::Value = serde_json::from_str(&status(&all)).unwrap();
        assert_eq!((&told[0]["topic"], &told[0]["lag"]), (&"a\"b".into(), &serde_json::Value::Null));
    }
}
