//! Whole runs, snapshots and failures.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Counter, Recorded, Recorder, batch, edge, keyed_graph, node, total};
use crate::checkpoint::JobSnapshot;
use crate::edges::{SplitState, WriteMode};
use crate::error::{ErrorKind, Result};
use crate::runtime::coordinator::{JobOptions, run_graph};
use crate::runtime::exchange::Partitioning;
use crate::runtime::graph::{NodeKind, OperatorFactory};
use crate::runtime::job::{JobMetrics, StopHandle};
use crate::runtime::operator::{Operator, Output, Progress};
use crate::stream::ChangeBatch;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_arrives_once_at_any_parallelism() {
    for parallelism in [1, 2, 4] {
        let out = Arc::new(Recorded::default());
        let source = Counter { rows: Some(50_000), chunk: 777 };
        let graph = keyed_graph(source, parallelism, out.clone(), None);
        let metrics = JobMetrics::new();
        run_graph(graph, JobOptions::default(), metrics.clone(), StopHandle::new()).await.unwrap();
        let mut rows = out.committed.lock().unwrap().clone();
        rows.sort_unstable();
        assert_eq!(rows, (0..50_000).collect::<Vec<_>>(), "parallelism {parallelism}");
        assert_eq!(*out.epochs.lock().unwrap(), vec![1]);
        assert_eq!(metrics.progress().rows_in, 50_000);
        assert_eq!(metrics.progress().rows_out, 50_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_restored_into_fresh_tasks_goes_on_exactly_where_it_was() {
    let out = Arc::new(Recorded::default());
    let snapshots = Arc::new(Mutex::new(Vec::new()));
    let (seen, stop) = (snapshots.clone(), StopHandle::new());
    let stopper = stop.clone();
    let options = JobOptions {
        checkpoint_interval: Some(Duration::from_millis(20)),
        on_snapshot: Some(Arc::new(move |_, s: &JobSnapshot| {
            let mut all = seen.lock().unwrap();
            all.push(s.clone());
            if all.len() == 3 {
                stopper.stop();
            }
        })),
        ..JobOptions::default()
    };
    let graph = keyed_graph(Counter { rows: None, chunk: 50 }, 2, out.clone(), None);
    run_graph(graph, options, JobMetrics::new(), stop).await.unwrap();
    let snapshots = snapshots.lock().unwrap().clone();
    assert!(snapshots.len() >= 4, "three periodic ones and the final one");
    // The final snapshot covers exactly what was committed.
    let last = snapshots.last().unwrap();
    let committed = out.committed.lock().unwrap().clone();
    assert_eq!(total(last), committed.iter().sum::<i64>());
    // Every snapshot is a consistent cut: the sums hold exactly the rows before the positions of both readers.
    for snapshot in &snapshots {
        let below = |s: &SplitState| {
            let (at, subtask) = (s.position.parse::<i64>().unwrap(), s.split.parse::<i64>().unwrap());
            (subtask..at).step_by(2).sum::<i64>()
        };
        assert_eq!(total(snapshot), snapshot.sources["source"].iter().map(below).sum::<i64>());
    }
    // Go on from the first one, to a bounded end, and compare with a run that was never interrupted.
    let end = 20_000.max(
        snapshots[0].sources["source"].iter().map(|s| s.position.parse::<i64>().unwrap()).max().unwrap(),
    );
    let finished = Arc::new(Mutex::new(None));
    let keep = finished.clone();
    let options = JobOptions {
        checkpoint_interval: Some(Duration::from_millis(1)),
        restore: Some(Arc::new(snapshots[0].clone())),
        on_snapshot: Some(Arc::new(move |_, s: &JobSnapshot| *keep.lock().unwrap() = Some(s.clone()))),
        ..JobOptions::default()
    };
    let out = Arc::new(Recorded::default());
    let graph = keyed_graph(Counter { rows: Some(end), chunk: 13 }, 2, out.clone(), None);
    run_graph(graph, options, JobMetrics::new(), StopHandle::new()).await.unwrap();
    let resumed: i64 = out.committed.lock().unwrap().iter().sum();
    assert_eq!(total(&snapshots[0]) + resumed, (0..end).sum::<i64>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_failure_ends_the_job_and_aborts_the_writers() {
    for parallelism in [1, 4] {
        let out = Arc::new(Recorded::default());
        let graph = keyed_graph(Counter { rows: None, chunk: 10 }, parallelism, out.clone(), Some(500));
        let error =
            run_graph(graph, JobOptions::default(), JobMetrics::new(), StopHandle::new()).await.unwrap_err();
        assert_eq!(error.message(), "Sums: 500 is not liked");
        assert!(out.committed.lock().unwrap().is_empty());
        assert_eq!(out.aborted.load(Ordering::SeqCst), parallelism as u64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_a_failure_and_aborts_the_writers() {
    let out = Arc::new(Recorded::default());
    let graph = keyed_graph(Counter { rows: None, chunk: 10 }, 2, out.clone(), Some(-500));
    let error =
        run_graph(graph, JobOptions::default(), JobMetrics::new(), StopHandle::new()).await.unwrap_err();
    assert_eq!(error.message(), "a task panicked: 500 is too much");
    assert!(out.committed.lock().unwrap().is_empty());
    assert_eq!(out.aborted.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_aborts_its_rows_and_those_of_the_sinks_after_it() {
    let first = Arc::new(Recorded { fails: true, ..Recorded::default() });
    let second = Arc::new(Recorded::default());
    let mut graph = keyed_graph(Counter { rows: Some(100), chunk: 10 }, 1, first.clone(), None);
    let sink = NodeKind::Sink { sink: Arc::new(Recorder(second.clone())), mode: WriteMode::Append };
    graph.add(node("second", 1, sink, vec![edge(1, Partitioning::Forward)]));
    let error =
        run_graph(graph, JobOptions::default(), JobMetrics::new(), StopHandle::new()).await.unwrap_err();
    assert_eq!(error.message(), "the catalog is gone");
    assert_eq!(*first.dropped.lock().unwrap(), [(Some(1), 100)]);
    assert_eq!(*second.dropped.lock().unwrap(), [(None, 100)]);
    assert!(second.committed.lock().unwrap().is_empty() && second.epochs.lock().unwrap().is_empty());
}

/// Gives a row for ever for its first batch.
struct Endless(i64);

impl Operator for Endless {
    fn name(&self) -> &'static str {
        "Endless"
    }

    fn process(&mut self, _port: usize, _batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        self.resume(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        out.emit(ChangeBatch::insert_only(batch([self.0])));
        self.0 += 1;
        Ok(Progress::More)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_explodes_is_handed_on_in_parts_and_left_when_the_job_is_cancelled() {
    // In the chain of its source, and behind an exchange.
    for partitioning in [Partitioning::Forward, Partitioning::Hash(vec![0])] {
        let out = Arc::new(Recorded::default());
        let mut graph = keyed_graph(Counter { rows: Some(10), chunk: 10 }, 1, out.clone(), None);
        let endless: OperatorFactory = Arc::new(|_| Ok(Box::new(Endless(0))));
        let endless = graph.add(node("endless", 1, NodeKind::Operator(endless), vec![edge(0, partitioning)]));
        let sink = NodeKind::Sink { sink: Arc::new(Recorder(out.clone())), mode: WriteMode::Append };
        graph.add(node("its sink", 1, sink, vec![edge(endless, Partitioning::Hash(vec![0]))]));
        let (metrics, stop) = (JobMetrics::new(), StopHandle::new());
        let job = tokio::spawn(run_graph(graph, JobOptions::default(), metrics.clone(), stop.clone()));
        let arrived = async {
            while metrics.progress().rows_out < 1_000 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), arrived).await.expect("rows arrive meanwhile");
        stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(20), job).await.expect("it does not end");
        assert_eq!(ended.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(out.committed.lock().unwrap().is_empty());
    }
}
