//! What flows are at, over HTTP: `/metrics` for Prometheus, `/status` as JSON.
//!
//! ```text
//!  GET /metrics ─► a line per topic and number, in Prometheus' text format
//!  GET /status  ─► [{"topic": …, "table": …, "phase": …, "rows": …, "lag": …}, …]
//! ```

use std::sync::Arc;

use super::shown::Shown;
use crate::cli::http::{Pages, label};
use crate::tableflow::{Snapshot, Status};

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

/// The pages of what is shown.
pub(super) fn pages(shown: &Arc<Shown>) -> Pages {
    let (a, b) = (Arc::clone(shown), Arc::clone(shown));
    Pages { metrics: Box::new(move || metrics(&a.all())), status: Box::new(move || status(&b.all())) }
}

fn table(status: &Status) -> String {
    format!("{}.{}", status.route.namespace, status.route.table)
}

/// Prometheus' text format.
fn metrics(all: &[Arc<Status>]) -> String {
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
