//! Whole graphs on the runtime: exchanges, barriers, restore, stop, failure.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch, UInt8Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;

use crate::edges::{
    Committable, OpenedSink, ScanRequest, Sink, SinkChangelog, SinkCommitter, SinkWriter, Source,
    SourceEvent, SourceReader, SplitState, WriteMode,
};
use crate::error::{Error, Result};
use crate::runtime::coordinator::{JobOptions, JobSnapshot, run_graph};
use crate::runtime::exchange::{Partitioning, split};
use crate::runtime::graph::{
    ChangelogMode, Edge, Node, NodeKind, OperatorFactory, StreamGraph, UpdateBefore,
};
use crate::runtime::job::{JobMetrics, StopHandle};
use crate::runtime::operator::{Operator, Output, Progress};
use crate::runtime::source::SourceSpec;
use crate::state::key::hash_columns;
use crate::stream::key_group::KeyGroup;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{ChangeBatch, Epoch, RowKinds, Timestamp};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

fn batch(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from_iter_values(values))]).unwrap()
}

/// Counts up to `rows` per reader, reader r giving r, r + p, r + 2p, …; endless if `rows` is `None`.
#[derive(Debug)]
struct Counter {
    rows: Option<i64>,
    chunk: i64,
}

struct CounterReader {
    at: i64,
    step: i64,
    end: Option<i64>,
    chunk: i64,
    subtask: usize,
}

#[async_trait]
impl Source for Counter {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn bounded(&self) -> bool {
        self.rows.is_some()
    }

    async fn readers(
        &self,
        _scan: ScanRequest,
        parallelism: usize,
        restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        Ok((0..parallelism)
            .map(|subtask| {
                let name = subtask.to_string();
                let found = restored.iter().flatten().find(|s| s.split == name);
                let at = match (found, restored.is_some()) {
                    (Some(state), _) => state.position.parse().unwrap(),
                    (None, true) => i64::MAX,
                    (None, false) => subtask as i64,
                };
                let step = parallelism as i64;
                Box::new(CounterReader { at, step, end: self.rows, chunk: self.chunk, subtask })
                    as Box<dyn SourceReader>
            })
            .collect())
    }
}

#[async_trait]
impl SourceReader for CounterReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        if self.end.is_some_and(|end| self.at >= end) {
            return Ok(SourceEvent::End);
        }
        if self.end.is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut values = Vec::new();
        while values.len() < self.chunk as usize && self.end.is_none_or(|end| self.at < end) {
            values.push(self.at);
            self.at += self.step;
        }
        Ok(SourceEvent::Batch { split: 0, batch: ChangeBatch::insert_only(batch(values)) })
    }

    fn snapshot(&self) -> Result<Vec<SplitState>> {
        Ok(vec![SplitState { split: self.subtask.to_string(), position: self.at.to_string() }])
    }
}

/// Keeps the sum of what it has seen per value modulo 8; passes rows; emits nothing else.
struct Sums {
    sums: BTreeMap<i64, i64>,
    fail_at: Option<i64>,
}

impl Operator for Sums {
    fn name(&self) -> &'static str {
        "Sums"
    }

    fn process(&mut self, _port: usize, batch: ChangeBatch, out: &mut Output) -> Result<Progress> {
        for v in batch.rows.column(0).as_primitive::<Int64Type>().values() {
            if self.fail_at == Some(*v) {
                return Err(Error::data(format!("{v} is not liked")));
            }
            *self.sums.entry(v % 8).or_default() += v;
        }
        out.emit(batch);
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("k", DataType::Int64, false),
            Field::new("s", DataType::Int64, false),
        ]));
        let keys = Int64Array::from_iter_values(self.sums.keys().copied());
        let mut hashes = Vec::new();
        hash_columns(&[Arc::new(keys.clone())], keys.len(), &mut hashes)?;
        let groups = UInt8Array::from_iter_values(hashes.iter().map(|h| KeyGroup::of_hash(*h).0));
        let sums = Int64Array::from_iter_values(self.sums.values().copied());
        writer.keyed("sums", RecordBatch::try_new(schema, vec![Arc::new(keys), Arc::new(sums)])?, groups)
    }

    fn restore(&mut self, reader: &SnapshotReader) -> Result<()> {
        for rows in reader.table("sums")? {
            let keys = rows.column(0).as_primitive::<Int64Type>();
            let sums = rows.column(1).as_primitive::<Int64Type>();
            for (k, s) in keys.values().iter().zip(sums.values()) {
                *self.sums.entry(*k).or_default() += s;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Recorded {
    committed: Mutex<Vec<i64>>,
    epochs: Mutex<Vec<u64>>,
    aborted: AtomicU64,
}

#[derive(Debug)]
struct Recorder(Arc<Recorded>);

struct RecorderWriter {
    rows: Vec<i64>,
    shared: Arc<Recorded>,
}

#[async_trait]
impl Sink for Recorder {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn changelog(&self) -> SinkChangelog {
        SinkChangelog::All
    }

    async fn open(&self, _mode: WriteMode, parallelism: usize) -> Result<OpenedSink> {
        let writers = (0..parallelism)
            .map(|_| {
                Box::new(RecorderWriter { rows: Vec::new(), shared: self.0.clone() }) as Box<dyn SinkWriter>
            })
            .collect();
        Ok(OpenedSink { writers, committer: Box::new(RecorderCommitter(self.0.clone())) })
    }
}

#[async_trait]
impl SinkWriter for RecorderWriter {
    async fn write(&mut self, batch: ChangeBatch) -> Result<()> {
        self.rows.extend(batch.rows.column(0).as_primitive::<Int64Type>().values());
        Ok(())
    }

    async fn prepare(&mut self, _epoch: Epoch) -> Result<Option<Committable>> {
        let rows = std::mem::take(&mut self.rows);
        Ok(Some(rows.iter().flat_map(|r| r.to_le_bytes()).collect()))
    }

    async fn abort(&mut self) {
        self.shared.aborted.fetch_add(1, Ordering::SeqCst);
    }
}

struct RecorderCommitter(Arc<Recorded>);

#[async_trait]
impl SinkCommitter for RecorderCommitter {
    async fn commit(&mut self, epoch: Epoch, committables: Vec<Committable>) -> Result<()> {
        self.0.epochs.lock().unwrap().push(epoch.0);
        for c in committables {
            let (values, _) = c.as_chunks::<8>();
            self.0.committed.lock().unwrap().extend(values.iter().map(|v| i64::from_le_bytes(*v)));
        }
        Ok(())
    }
}

fn keyed_graph(source: Counter, parallelism: usize, out: Arc<Recorded>, fail_at: Option<i64>) -> StreamGraph {
    let mut graph = StreamGraph::default();
    let node = |uid: &str, kind, inputs| Node {
        uid: uid.to_owned(),
        name: "Node",
        detail: String::new(),
        parallelism,
        inputs,
        changelog: ChangelogMode::APPEND_ONLY,
        kind,
    };
    let source = graph.add(node(
        "source",
        NodeKind::Source {
            source: Arc::new(source),
            scan: ScanRequest::default(),
            spec: SourceSpec::default(),
        },
        vec![],
    ));
    let factory: OperatorFactory = Arc::new(move |_| Ok(Box::new(Sums { sums: BTreeMap::new(), fail_at })));
    let edge = Edge {
        from: source,
        port: 0,
        partitioning: Partitioning::Hash(vec![0]),
        update_before: UpdateBefore::Required,
    };
    let sums = graph.add(node("sums", NodeKind::Operator(factory), vec![edge]));
    let edge = Edge {
        from: sums,
        port: 0,
        partitioning: Partitioning::Forward,
        update_before: UpdateBefore::Required,
    };
    graph.add(node(
        "sink",
        NodeKind::Sink { sink: Arc::new(Recorder(out)), mode: WriteMode::Append },
        vec![edge],
    ));
    graph
}

fn total(snapshot: &JobSnapshot) -> i64 {
    snapshot.operators["sums"]["sums"]
        .iter()
        .flat_map(|p| p.rows.column(1).as_primitive::<Int64Type>().values().to_vec())
        .sum()
}

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
    let node = |uid: &str, kind, inputs| Node {
        uid: uid.to_owned(),
        name: "Node",
        detail: String::new(),
        parallelism,
        inputs,
        changelog: ChangelogMode::APPEND_ONLY,
        kind,
    };
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
    let edge =
        |from, partitioning| Edge { from, port: 0, partitioning, update_before: UpdateBefore::Required };
    let a = graph.add(node("a", source(10), vec![]));
    let b = graph.add(node("b", source(40), vec![]));
    let short = short.clone();
    let ends: OperatorFactory = Arc::new(move |_| Ok(Box::new(Ends(short.clone()))));
    let single = Node {
        parallelism: 1,
        ..node("ends", NodeKind::Operator(ends), vec![edge(a, Partitioning::Single)])
    };
    let ends = graph.add(single);
    for (uid, from, partitioning) in [("x", ends, Partitioning::Rebalance), ("y", b, Partitioning::Forward)] {
        let sink = NodeKind::Sink { sink: Arc::new(Recorder(out.clone())), mode: WriteMode::Append };
        graph.add(node(uid, sink, vec![edge(from, partitioning)]));
    }
    graph
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_goes_on_after_a_restore_and_nothing_ends_twice() {
    for parallelism in [[1, 1], [1, 2], [2, 1]] {
        let (out, short) = (Arc::new(Recorded::default()), Arc::new(Mutex::new(Vec::new())));
        let mut snapshot = None;
        let mut began = Vec::new();
        for leg_number in 0.. {
            let p =
                if snapshot.is_none() { parallelism[0] } else { parallelism[usize::from(leg_number > 3)] };
            let before = short.lock().unwrap().len();
            snapshot = leg(two_sources(p, &out, &short), snapshot, 1).await;
            began.push(short.lock().unwrap().get(before).copied());
            if snapshot.is_none() {
                break;
            }
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

#[test]
fn splitting_keeps_whole_update_pairs_and_heals_torn_ones() {
    let rows = batch([1, 1, 2, 3]);
    let kinds = RowKinds::new(vec![1, 2, 1, 2]);
    let mut hashes = vec![0u64, 0, 0, u64::MAX];
    let parts = split(&ChangeBatch::with_kinds(rows.clone(), kinds.clone()), &hashes, 2).unwrap();
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[0].1.kinds.as_ref().unwrap().codes(), &[1, 2, 3]);
    // The lone +U became +I, so that no kinds are needed.
    assert_eq!(parts[1].1.kinds, None);
    hashes.fill(u64::MAX);
    let whole = split(&ChangeBatch::with_kinds(rows, kinds.clone()), &hashes, 4).unwrap();
    assert_eq!(whole.len(), 1);
    assert_eq!((whole[0].0, whole[0].1.kinds.clone()), (3, Some(kinds)));
    assert!(split(&ChangeBatch::insert_only(batch([])), &[], 2).unwrap().is_empty());
}
