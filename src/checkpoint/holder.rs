//! Who has a job.

use serde::{Deserialize, Serialize};

/// A process that runs a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Number of the process.
    pub pid: u32,
    /// Its machine.
    pub host: String,
    /// When it took the job, in milliseconds.
    pub since: i64,
    /// Checkpoints up to this number are left behind: the job was begun anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fresh_after: Option<u64>,
}

impl Holder {
    /// This process, at `now` (milliseconds).
    pub fn this(now: i64) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let host = host.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
        Holder { pid: std::process::id(), host: host.trim().to_owned(), since: now, fresh_after: None }
    }

    /// `process 4711 on host, since 2026-11-29 12:00:00 UTC`.
    pub fn shown(&self) -> String {
        format!("process {} on {}, since {}", self.pid, self.host, shown_time(self.since))
    }
}

/// A time as people read it.
pub fn shown_time(millis: i64) -> String {
    chrono::DateTime::from_timestamp_millis(millis)
        .map_or_else(|| millis.to_string(), |t| t.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}
