//! Jobs that pause and go on from the snapshot, again and again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, Field, Schema};

use super::{Counter, Recorded, Recorder, edge, keyed_graph, node, schema, total};
use crate::checkpoint::JobSnapshot;
use crate::edges::{ScanRequest, WriteMode};
use crate::error::Result;
use crate::runtime::coordinator::{JobOptions, run_graph};
use crate::runtime::exchange::Partitioning;
use crate::runtime::graph::{NodeKind, OperatorFactory, StreamGraph};
use crate::runtime::job::{JobMetrics, StopHandle};
use crate::runtime::operator::{Operator, Output, Progress};
use crate::runtime::source::SourceSpec;
use crate::stream::{ChangeBatch, Timestamp};

/// Runs a graph until its sources have paused; gives the last snapshot if it is not the end.
async fn leg(
    graph: StreamGraph,
    restore: Option<Arc<JobSnapshot>>,
    batches: usize,
) -> Option<Arc<JobSnapshot>> {
    let taken = Arc::new(Mutex::new(None));
    let (keep, stop) = (taken.clone(), StopHandle::new());
    let options = JobOptions {
        restore,
        on_snapshot: Some(Arc::new(move |_, s: &JobSnapshot| *keep.lock().unwrap() = Some(s.clone()))),
        pause_after: Some(batches),
        ..JobOptions::default()
    };
    run_graph(graph, options, JobMetrics::new(), stop.clone()).await.unwrap();
    let snapshot = taken.lock().unwrap().take().map(Arc::new);
    assert_eq!(stop.is_stopped(), snapshot.is_some());
    snapshot
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_in_legs() {
    for batches in [0, 1, 3] {
        let out = Arc::new(Recorded::default());
        let mut snapshot = None;
        let mut legs = 0;
        loop {
            let graph = keyed_graph(Counter { rows: Some(100), chunk: 7 }, 2, out.clone(), None);
            snapshot = leg(graph, snapshot, batches).await;
            legs += 1;
            let Some(snapshot) = &snapshot else { break };
            assert_eq!(snapshot.epoch, legs);
            assert_eq!(total(snapshot), out.committed.lock().unwrap().iter().sum::<i64>());
        }
        let mut rows = out.committed.lock().unwrap().clone();
        rows.sort_unstable();
        assert_eq!(rows, (0..100).collect::<Vec<_>>());
        // Each reader has 50 rows in 8 batches; the end is found by the leg after the last batch.
        assert_eq!(legs, if batches == 3 { 3 } else { 9 });
        // Epochs are counted on.
        let epochs = out.epochs.lock().unwrap().clone();
        assert!(epochs.is_sorted() && epochs[0] == 1 && epochs.len() >= legs as usize - 1, "{epochs:?}");
    }
}

/// Passes rows on; records watermarks and its end.
struct Ends(Arc<Mutex<Vec<i64>>>);

impl Operator for Ends {
    fn name(&self) -> &'static str {
        "Ends"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        out.emit(batch);
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Timestamp, _out: &mut Output) -> Result<Progress> {
        self.0.lock().unwrap().push(watermark.0);
        Ok(Progress::Done)
    }

    fn on_end(&mut self, _out: &mut Output) -> Result<Progress> {
        self.0.lock().unwrap().push(-1);
        Ok(Progress::Done)
    }
}

/// Two sources, of which `short` ends early; what stands behind it records its watermarks and ends.
fn two_sources(parallelism: usize, out: &Arc<Recorded>, short: &Arc<Mutex<Vec<i64>>>) -> StreamGraph {
    let mut graph = StreamGraph::default();
    let column = Arc::new(datafusion::physical_expr::expressions::Column::new("t", 1));
    let n: Arc<dyn datafusion::physical_plan::PhysicalExpr> =
        Arc::new(datafusion::physical_expr::expressions::Column::new("n", 0));
    let millis = DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None);
    let time = datafusion::physical_expr::expressions::cast(n.clone(), &schema(), millis.clone()).unwrap();
    let timed =
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false), Field::new("t", millis, true)]));
    let source = |rows| NodeKind::Source {
        source: Arc::new(Counter { rows: Some(rows), chunk: 5 }),
        scan: ScanRequest::default(),
        spec: SourceSpec {
            projection: Some((vec![n.clone(), time.clone()], timed.clone())),
            watermark: Some(crate::runtime::source::WatermarkExpr::Delay {
                column: column.index(),
                delay_ms: 1,
            }),
            ..SourceSpec::default()
        },
    };
    let a = graph.add(node("a", parallelism, source(10), vec![]));
    let b = graph.add(node("b", parallelism, source(40), vec![]));
    let short = short.clone();
    let ends: OperatorFactory = Arc::new(move |_| Ok(Box::new(Ends(short.clone()))));
    let ends = graph.add(node("ends", 1, NodeKind::Operator(ends), vec![edge(a, Partitioning::Single)]));
    for (uid, from, partitioning) in [("x", ends, Partitioning::Rebalance), ("y", b, Partitioning::Forward)] {
        let sink = NodeKind::Sink { sink: Arc::new(Recorder(out.clone())), mode: WriteMode::Append };
        graph.add(node(uid, parallelism, sink, vec![edge(from, partitioning)]));
    }
    graph
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_goes_on_after_a_restore_and_nothing_ends_twice() {
    for parallelism in [[1, 1], [1, 2], [2, 1]] {
        let (out, short) = (Arc::new(Recorded::default()), Arc::new(Mutex::new(Vec::new())));
        let mut snapshot = None;
        let mut began = Vec::new();
        let mut ended = BTreeSet::new();
        for leg_number in 0.. {
            let p =
                if snapshot.is_none() { parallelism[0] } else { parallelism[usize::from(leg_number > 3)] };
            let before = short.lock().unwrap().len();
            snapshot = leg(two_sources(p, &out, &short), snapshot, 1).await;
            began.push(short.lock().unwrap().get(before).copied());
            let Some(snapshot) = &snapshot else { break };
            // Also where a leg is over before the tasks that had ended have come to their end again.
            assert!(
                snapshot.ended.is_superset(&ended),
                "{parallelism:?}: {:?} after {ended:?}",
                snapshot.ended
            );
            ended.clone_from(&snapshot.ended);
        }
        let seen = short.lock().unwrap().clone();
        assert_eq!(seen.iter().filter(|w| **w == -1).count(), 1, "{parallelism:?}: one end in {seen:?}");
        assert_eq!(seen.iter().filter(|w| **w == i64::MAX).count(), 1, "{parallelism:?}: {seen:?}");
        let times: Vec<i64> = seen.iter().copied().filter(|w| *w != -1).collect();
        assert!(times.is_sorted(), "{parallelism:?}: {seen:?}");
        // The second leg begins with what the first one had reached, before its first row.
        assert_eq!(began[1], began[0], "{parallelism:?}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_node_claims_is_an_error() {
    let graph = || keyed_graph(Counter { rows: Some(100), chunk: 7 }, 2, Arc::default(), None);
    let snapshot = leg(graph(), None, 1).await.unwrap();
    assert!(snapshot.sources.contains_key("source") && snapshot.operators.contains_key("sums"));
    let of = |change: &dyn Fn(&mut JobSnapshot)| {
        let mut changed = (*snapshot).clone();
        change(&mut changed);
        let options = JobOptions { restore: Some(Arc::new(changed)), ..JobOptions::default() };
        async {
            let ran = run_graph(graph(), options, JobMetrics::new(), StopHandle::new()).await;
            ran.map_err(|e| e.message())
        }
    };
    of(&|_| ()).await.unwrap();
    let renamed = of(&|s| {
        let positions = s.sources.remove("source").unwrap();
        s.sources.insert("orders".to_owned(), positions);
    });
    let message = renamed.await.unwrap_err();
    assert_eq!(message, "the plan has no source orders, whose position is in the snapshot");
    let time = of(&|s| {
        s.watermarks.insert("orders".to_owned(), Timestamp(1));
    });
    assert!(time.await.unwrap_err().contains("no source orders"));
    let ended = of(&|s| {
        s.ended.insert("filter".to_owned());
    });
    assert!(ended.await.unwrap_err().contains("no operator filter, which had ended"));
    let state = of(&|s| {
        let state = s.operators.remove("sums").unwrap();
        s.operators.insert("totals".to_owned(), state);
    });
    assert!(state.await.unwrap_err().contains("no operator totals, whose state"));
}
