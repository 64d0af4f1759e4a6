//! What readers are told of the positions that are complete.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use super::{Counter, Recorded, Recorder, edge, node, schema};
use crate::checkpoint::JobSnapshot;
use crate::edges::{ScanRequest, Source, SourceEvent, SourceReader, SplitState, WriteMode};
use crate::error::Result;
use crate::runtime::coordinator::{JobOptions, run_graph};
use crate::runtime::exchange::Partitioning;
use crate::runtime::graph::{NodeKind, StreamGraph};
use crate::runtime::job::{JobMetrics, StopHandle};
use crate::runtime::source::SourceSpec;
use crate::stream::Epoch;

type Told = Arc<Mutex<BTreeMap<u64, String>>>;

/// A [`Counter`] that remembers what it is told.
#[derive(Debug)]
struct Listening(Counter, Told);

struct ListeningReader(Box<dyn SourceReader>, Told);

#[async_trait]
impl Source for Listening {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn bounded(&self) -> bool {
        self.0.bounded()
    }

    async fn readers(
        &self,
        scan: ScanRequest,
        parallelism: usize,
        restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let readers = self.0.readers(scan, parallelism, restored).await?;
        let listening = |r| Box::new(ListeningReader(r, self.1.clone())) as Box<dyn SourceReader>;
        Ok(readers.into_iter().map(listening).collect())
    }
}

#[async_trait]
impl SourceReader for ListeningReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        self.0.next().await
    }

    fn snapshot(&self) -> Result<Vec<SplitState>> {
        self.0.snapshot()
    }

    async fn on_commit(&mut self, epoch: Epoch, positions: &[SplitState]) -> Result<()> {
        self.1.lock().unwrap().insert(epoch.0, positions[0].position.clone());
        Ok(())
    }
}

/// Counts into a sink; the graph, what the reader is told, what is committed.
fn graph(rows: Option<i64>) -> (StreamGraph, Told, Arc<Recorded>) {
    let (told, out) = (Told::default(), Arc::new(Recorded::default()));
    let mut graph = StreamGraph::default();
    let source = NodeKind::Source {
        source: Arc::new(Listening(Counter { rows, chunk: 7 }, told.clone())),
        scan: ScanRequest::default(),
        spec: SourceSpec::default(),
    };
    let source = graph.add(node("source", 1, source, vec![]));
    let sink = NodeKind::Sink { sink: Arc::new(Recorder(out.clone())), mode: WriteMode::Append };
    graph.add(node("sink", 1, sink, vec![edge(source, Partitioning::Forward)]));
    (graph, told, out)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_hear_of_each_complete_epoch_and_of_the_last_one() {
    let (graph, told, out) = graph(None);
    let snapshots = Told::default();
    let (keep, stop) = (snapshots.clone(), StopHandle::new());
    let options = JobOptions {
        checkpoint_interval: Some(Duration::from_millis(3)),
        on_snapshot: Some(Arc::new(move |epoch, s: &JobSnapshot| {
            keep.lock().unwrap().insert(epoch.0, s.sources["source"][0].position.clone());
        })),
        ..JobOptions::default()
    };
    let ender = stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ender.stop();
    });
    run_graph(graph, options, JobMetrics::new(), stop).await.unwrap();
    let (told, snapshots) = (told.lock().unwrap().clone(), snapshots.lock().unwrap().clone());
    assert!(told.len() > 3, "{told:?}");
    for (epoch, position) in &told {
        assert_eq!(snapshots.get(epoch), Some(position), "epoch {epoch}");
    }
    assert_eq!(told.last_key_value(), snapshots.last_key_value());
    let rows = out.committed.lock().unwrap().len().to_string();
    assert_eq!(told.last_key_value().map(|(_, position)| position), Some(&rows));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_hear_of_the_end_of_bounded_input() {
    let (graph, told, out) = graph(Some(100));
    run_graph(graph, JobOptions::default(), JobMetrics::new(), StopHandle::new()).await.unwrap();
    assert_eq!(out.committed.lock().unwrap().len(), 100);
    assert_eq!(told.lock().unwrap().values().collect::<Vec<_>>(), ["100"]);
}
