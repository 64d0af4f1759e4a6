//! What the operators of a job hold, as it stands: read while the job runs.
//!
//! ```text
//!  subtask 0 of `Match#3` ─┐ what has changed since it told last
//!  subtask 1 of `Match#3` ─┴─► gauge of the operator ─► progress line, /metrics
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::runtime::operator::OperatorMetrics;

/// What all subtasks of an operator hold.
#[derive(Debug, Default)]
pub struct OperatorGauge {
    entries: AtomicU64,
    bytes: AtomicU64,
    partial_matches: AtomicU64,
    late_rows: AtomicU64,
    most_entries: AtomicU64,
}

impl OperatorGauge {
    /// A subtask that held `before` holds `now`.
    pub(super) fn tell(&self, before: &OperatorMetrics, now: &OperatorMetrics) {
        // Adding what is missing to a whole turn is subtracting.
        let change = |of: &AtomicU64, before: u64, now: u64| {
            let by = now.wrapping_sub(before);
            if by == 0 {
                of.load(Ordering::Relaxed)
            } else {
                of.fetch_add(by, Ordering::Relaxed).wrapping_add(by)
            }
        };
        let entries = change(&self.entries, before.state_entries, now.state_entries);
        self.most_entries.fetch_max(entries, Ordering::Relaxed);
        change(&self.bytes, before.state_bytes, now.state_bytes);
        change(&self.partial_matches, before.partial_matches, now.partial_matches);
        change(&self.late_rows, before.late_rows_dropped, now.late_rows_dropped);
    }
}

/// An operator as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorState {
    /// As EXPLAIN prints it.
    pub uid: String,
    /// `WindowAggregate`
    pub name: &'static str,
    /// Keys, groups or rows in state.
    pub entries: u64,
    /// The most of them that there were behind a watermark.
    pub most_entries: u64,
    /// Bytes of state in memory.
    pub bytes: u64,
    /// Matches of a row pattern that have begun and are undecided.
    pub partial_matches: u64,
    /// Rows dropped because they came behind the watermark.
    pub late_rows_dropped: u64,
}

/// The gauges of all operators of a job, by uid.
#[derive(Debug, Default)]
pub struct Gauges(Mutex<BTreeMap<String, (&'static str, Arc<OperatorGauge>)>>);

impl Gauges {
    /// The gauge of an operator, which its subtasks share; also those that run after a restart.
    pub(super) fn of(&self, uid: &str, name: &'static str) -> Arc<OperatorGauge> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, gauge) = all.entry(uid.to_owned()).or_insert_with(|| (name, Arc::default()));
        Arc::clone(gauge)
    }

    /// Entries of state and partial matches of all operators.
    pub fn sums(&self) -> (u64, u64) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().fold((0, 0), |(entries, matches), (_, gauge)| {
            let entries = entries + gauge.entries.load(Ordering::Relaxed);
            (entries, matches + gauge.partial_matches.load(Ordering::Relaxed))
        })
    }

    /// All operators as they stand, by uid.
    pub fn all(&self) -> Vec<OperatorState> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = |(uid, (name, gauge)): (&String, &(&'static str, Arc<OperatorGauge>))| OperatorState {
            uid: uid.clone(),
            name,
            entries: gauge.entries.load(Ordering::Relaxed),
            most_entries: gauge.most_entries.load(Ordering::Relaxed),
            bytes: gauge.bytes.load(Ordering::Relaxed),
            partial_matches: gauge.partial_matches.load(Ordering::Relaxed),
            late_rows_dropped: gauge.late_rows.load(Ordering::Relaxed),
        };
        all.iter().map(state).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subtasks_add_up_and_what_they_give_back_is_gone() {
        let gauges = Gauges::default();
        let (a, b) = (gauges.of("m-1", "Match"), gauges.of("m-1", "Match"));
        let none = OperatorMetrics::default();
        let some = OperatorMetrics { state_entries: 5, state_bytes: 100, partial_matches: 2, ..none };
        let more = OperatorMetrics { state_entries: 1, late_rows_dropped: 3, ..none };
        a.tell(&none, &some);
        b.tell(&none, &more);
        a.tell(&some, &more);
        let all = gauges.all();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].name, all[0].entries, all[0].most_entries), ("Match", 2, 6));
        assert_eq!((all[0].bytes, all[0].partial_matches, all[0].late_rows_dropped), (0, 0, 6));
    }
}
