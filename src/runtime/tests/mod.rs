//! Whole graphs on the runtime: exchanges, barriers, restore, stop, failure. Here the sources, operators and sinks.

mod crashes;
mod graphs;
mod legs;
mod positions;
mod watermarks;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch, UInt8Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;

use crate::checkpoint::JobSnapshot;
use crate::edges::SinkContext;
use crate::edges::{
    Committable, OpenedSink, ScanRequest, Sink, SinkChangelog, SinkCommitter, SinkWriter, Source,
    SourceEvent, SourceReader, SplitState, WriteMode,
};
use crate::error::{Error, Result};
use crate::runtime::exchange::Partitioning;
use crate::runtime::graph::{
    ChangelogMode, Edge, Node, NodeKind, OperatorFactory, StreamGraph, UpdateBefore,
};
use crate::runtime::operator::{Operator, Output, Progress};
use crate::runtime::source::SourceSpec;
use crate::state::key::hash_columns;
use crate::stream::key_group::KeyGroup;
use crate::stream::snapshot::{SnapshotReader, SnapshotWriter};
use crate::stream::{ChangeBatch, Epoch};

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

/// Keeps the sum of what it has seen per value modulo 8; passes rows; emits nothing else. It fails at a value, and panics
/// at that of a negative one.
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
            assert!(self.fail_at != Some(-*v) || *v == 0, "{v} is too much");
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
    /// Rows of committables that were aborted, and the epoch in whose commit they had been tried.
    dropped: Mutex<Vec<(Option<u64>, i64)>>,
    /// Commits fail.
    fails: bool,
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

    async fn open(&self, context: &SinkContext) -> Result<OpenedSink> {
        let writers = (0..context.parallelism)
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
        if self.0.fails {
            return Err(Error::external("the catalog is gone"));
        }
        for c in committables {
            let (values, _) = c.as_chunks::<8>();
            self.0.committed.lock().unwrap().extend(values.iter().map(|v| i64::from_le_bytes(*v)));
        }
        Ok(())
    }

    async fn abort(&mut self, tried: Option<Epoch>, committables: Vec<Committable>) {
        let rows = committables.iter().map(|c| c.len() as i64 / 8).sum();
        if rows > 0 {
            self.0.dropped.lock().unwrap().push((tried.map(|e| e.0), rows));
        }
    }
}

fn node(uid: &str, parallelism: usize, kind: NodeKind, inputs: Vec<Edge>) -> Node {
    Node {
        uid: uid.to_owned(),
        name: "Node",
        detail: String::new(),
        parallelism,
        inputs,
        changelog: ChangelogMode::APPEND_ONLY,
        kind,
    }
}

fn edge(from: usize, partitioning: Partitioning) -> Edge {
    Edge { from, port: 0, partitioning, update_before: UpdateBefore::Required }
}

fn keyed_graph(source: Counter, parallelism: usize, out: Arc<Recorded>, fail_at: Option<i64>) -> StreamGraph {
    let mut graph = StreamGraph::default();
    let source = graph.add(node(
        "source",
        parallelism,
        NodeKind::Source {
            source: Arc::new(source),
            scan: ScanRequest::default(),
            spec: SourceSpec::default(),
        },
        vec![],
    ));
    let factory: OperatorFactory = Arc::new(move |_| Ok(Box::new(Sums { sums: BTreeMap::new(), fail_at })));
    let inputs = vec![edge(source, Partitioning::Hash(vec![0]))];
    let sums = graph.add(node("sums", parallelism, NodeKind::Operator(factory), inputs));
    let sink = NodeKind::Sink { sink: Arc::new(Recorder(out)), mode: WriteMode::Append };
    graph.add(node("sink", parallelism, sink, vec![edge(sums, Partitioning::Forward)]));
    graph
}

fn total(snapshot: &JobSnapshot) -> i64 {
    snapshot.operators["sums"]["sums"]
        .iter()
        .flat_map(|p| p.rows.column(1).as_primitive::<Int64Type>().values().to_vec())
        .sum()
}
