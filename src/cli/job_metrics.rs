//! What the job of `tidelake run` is at, over HTTP: `/metrics` for Prometheus, `/status` as JSON.
//!
//! ```text
//!  shell ─► the job at hand ─► its counters, and what each of its operators holds
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use super::http::{Pages, label};
use serde_json::Value;

use crate::runtime::gauges::OperatorState;
use crate::runtime::job::{JobMetrics, JobProgress, RunningJob};

/// The job that runs, or ran last.
#[derive(Debug, Clone, Default)]
pub(super) struct AtHand(Arc<Mutex<Option<Arc<JobMetrics>>>>);

impl AtHand {
    /// A job has begun.
    pub(super) fn begin(&self, job: &RunningJob) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(job.metrics());
    }

    fn look(&self) -> Option<(JobProgress, Vec<OperatorState>)> {
        let metrics = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some((metrics.progress(), metrics.operators.all()))
    }

    /// What there is to look at.
    pub(super) fn pages(&self) -> Pages {
        let (a, b) = (self.clone(), self.clone());
        Pages {
            metrics: Box::new(move || a.look().map_or_else(String::new, |(p, all)| metrics(&p, &all))),
            status: Box::new(move || b.look().map_or_else(|| "null".to_owned(), |(p, all)| status(&p, &all))),
        }
    }
}

/// A number of the job: name, kind, what it is, and how it is found.
type OfJob = (&'static str, &'static str, &'static str, fn(&JobProgress) -> Option<f64>);

const OF_JOB: &[OfJob] = &[
    ("rows_in_total", "counter", "Rows read by all sources.", |p| Some(p.rows_in as f64)),
    ("rows_out_total", "counter", "Rows handed to all sinks.", |p| Some(p.rows_out as f64)),
    ("read_bytes_total", "counter", "Bytes read, as stored.", |p| Some(p.bytes_in as f64)),
    ("written_bytes_total", "counter", "Bytes written.", |p| Some(p.bytes_out as f64)),
    ("late_rows_dropped_total", "counter", "Rows dropped because they came behind the watermark.", |p| {
        Some(p.late_rows_dropped as f64)
    }),
    ("null_times_dropped_total", "counter", "Rows dropped because their row time is NULL.", |p| {
        Some(p.null_times_dropped as f64)
    }),
    ("bad_records_total", "counter", "Records that were left out.", |p| Some(p.skipped_records as f64)),
    (
        "watermark_seconds",
        "gauge",
        "Lowest watermark of the sources; absent before the first and behind the last.",
        |p| p.watermark.map(|w| w.0 as f64 / 1000.0),
    ),
    ("lag_records", "gauge", "Records behind the newest; absent where it is not known.", |p| {
        p.lag.filter(|_| !p.lag_unknown).map(|n| n as f64)
    }),
    ("commits_total", "counter", "Completed checkpoints.", |p| {
        Some(p.last_commit.map_or(0, |(n, _)| n) as f64)
    }),
];

/// A number of an operator.
type OfOperator = (&'static str, &'static str, &'static str, fn(&OperatorState) -> u64);

const OF_OPERATOR: &[OfOperator] = &[
    ("state_entries", "gauge", "Keys, groups or rows in state.", |o| o.entries),
    ("state_entries_most", "gauge", "The most of them that there were behind a watermark.", |o| {
        o.most_entries
    }),
    ("state_bytes", "gauge", "Bytes of state in memory.", |o| o.bytes),
    ("late_rows_total", "counter", "Rows dropped because they came behind the watermark.", |o| {
        o.late_rows_dropped
    }),
];

/// Of MATCH_RECOGNIZE alone.
const PARTIAL_MATCHES: OfOperator =
    ("partial_matches", "gauge", "Keys with a match that has begun and is undecided.", |o| o.partial_matches);

fn is_match(operator: &OperatorState) -> bool {
    operator.name == "Match"
}

/// Prometheus' text format.
fn metrics(progress: &JobProgress, operators: &[OperatorState]) -> String {
    let mut text = String::new();
    let head = |text: &mut String, name: &str, kind: &str, what: &str| {
        *text += &format!("# HELP tidelake_{name} {what}\n# TYPE tidelake_{name} {kind}\n");
    };
    for (name, kind, what, number) in OF_JOB {
        if let Some(number) = number(progress) {
            head(&mut text, &format!("job_{name}"), kind, what);
            text += &format!("tidelake_job_{name} {number}\n");
        }
    }
    for of in OF_OPERATOR.iter().chain([&PARTIAL_MATCHES]) {
        let (name, kind, what, number) = of;
        let all = operators.iter().filter(|o| *name != PARTIAL_MATCHES.0 || is_match(o));
        let lines: String = all
            .map(|o| {
                let (uid, operator) = (label(&o.uid), label(o.name));
                format!("tidelake_operator_{name}{{uid=\"{uid}\",operator=\"{operator}\"}} {}\n", number(o))
            })
            .collect();
        if !lines.is_empty() {
            head(&mut text, &format!("operator_{name}"), kind, what);
            text += &lines;
        }
    }
    text
}

fn status(progress: &JobProgress, operators: &[OperatorState]) -> String {
    let operators = operators.iter().map(|o| {
        let numbers = OF_OPERATOR.iter().chain(is_match(o).then_some(&PARTIAL_MATCHES));
        let names = [("uid".to_owned(), o.uid.as_str().into()), ("operator".to_owned(), o.name.into())];
        let told =
            names.into_iter().chain(numbers.map(|(name, _, _, of)| ((*name).to_owned(), of(o).into())));
        Value::Object(told.collect())
    });
    let operators: Vec<Value> = operators.collect();
    let told = OF_JOB.iter().map(|(name, _, _, of)| ((*name).to_owned(), of(progress).into()));
    Value::Object(told.chain([("operators".to_owned(), operators.into())]).collect()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(uid: &str, name: &'static str) -> OperatorState {
        OperatorState {
            uid: uid.to_owned(),
            name,
            entries: 3,
            most_entries: 7,
            bytes: 100,
            partial_matches: 2,
            late_rows_dropped: 1,
        }
    }

    #[test]
    fn each_operator_has_its_numbers_and_a_pattern_its_partial_matches() {
        let progress = JobProgress { rows_in: 9, ..JobProgress::default() };
        let all = [operator("calc-1", "Calc"), operator("match-\"2\"", "Match")];
        let text = metrics(&progress, &all);
        assert!(
            text.contains("# TYPE tidelake_job_rows_in_total counter\ntidelake_job_rows_in_total 9\n"),
            "{text}"
        );
        assert!(
            text.contains("tidelake_operator_state_entries{uid=\"calc-1\",operator=\"Calc\"} 3\n"),
            "{text}"
        );
        let partial: Vec<&str> =
            text.lines().filter(|l| l.starts_with("tidelake_operator_partial")).collect();
        assert_eq!(
            partial,
            ["tidelake_operator_partial_matches{uid=\"match-\\\"2\\\"\",operator=\"Match\"} 2"]
        );
        assert!(!text.contains("watermark_seconds"), "{text}");
        let told: serde_json::Value = serde_json::from_str(&status(&progress, &all)).unwrap();
        assert_eq!(told["operators"][1]["partial_matches"], 2);
        assert!(told["operators"][0].get("partial_matches").is_none() && told["watermark_seconds"].is_null());
        assert_eq!((AtHand::default().pages().status)(), "null");
    }
}
