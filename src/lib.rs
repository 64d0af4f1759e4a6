//! **tidelake**: Flink SQL over files, Kafka topics and Iceberg tables, as a batch query or as a stream that never
//! ends, with the same answer either way.
//!
//! ```text
//!  SQL text
//!    │ sql         text ─► statements with positions, every token consumed or refused
//!    ▼
//!  session         one statement after the other; its settings; what names mean: catalog
//!    │
//!    │ plan        DataFusion's SQL planner and optimizer ─► logical plan + own nodes (windows, watermarks, …)
//!    ├── batch ──────► DataFusion's execution plan
//!    └── streaming ──► stream graph ─► chains ─► tasks
//!                      runtime     messages, channels, watermarks, barriers, the memory budget, what rests on disk
//!                      operators   one operator, one file ─► state, by key
//!                      stream      what all of them speak of: change batches, time, key groups, snapshots
//!  both ends       edges: Source, Sink ◄── connectors (kafka, iceberg, …) × formats (json, csv, …)
//!  everywhere      functions: Flink's, on Arrow arrays   types, text: values   options   error
//!  around it       cli: run, explain, test, tableflow, broker
//! ```
//!
//! From lowest to highest, each importing only from those above it in this table:
//!
//! | module | what |
//! |---|---|
//! | [`failpoint`] | places at which tests kill the process |
//! | [`error`] | the one error type |
//! | [`types`] | Flink's types and their Arrow representation |
//! | [`text`] | values as text |
//! | [`options`] | options of tables, catalogs and formats; redaction |
//! | [`stream`] | the data of a stream: change batches, time, key groups, snapshots, watermarks |
//! | [`sql`] | Flink's dialect: statements, types, hints, with positions; its own syntax tree |
//! | [`functions`] | Flink's functions |
//! | [`edges`] | the contracts of sources, sinks and lookups |
//! | [`catalog`] | tables, views, catalogs |
//! | [`state`] | keyed state |
//! | [`checkpoint`] | state of a job in files: manifests, segments, recovery |
//! | [`runtime`] | operator contract, tasks, channels, barriers, spilling, sink driver; batch jobs |
//! | [`operators`] | one streaming operator, one file |
//! | [`registry`] | a client of schema registries |
//! | [`formats`] | json, csv, raw, avro, protobuf, parquet, change messages |
//! | [`connectors`] | kafka, iceberg, filesystem, jdbc, datagen, nexmark, print, … |
//! | [`plan`] | SQL to logical plans, and from there to batch plans or the stream graph |
//! | [`session`] | statements one after the other: plans and starts |
//! | [`tableflow`] | topics into Iceberg tables: routes, inference, flows, proof |
//! | [`cli`] | the commands |
//!
//! A program that embeds it, brings tables of its own and reads the rows of queries begins at [`session::Session`];
//! `examples/embed.rs` is one.

pub mod catalog;
pub mod checkpoint;
#[allow(clippy::disallowed_methods, reason = "shows how long things take")]
pub mod cli;
#[allow(
    clippy::disallowed_methods,
    reason = "the world outside has clocks; names of files and transactions are random"
)]
pub mod connectors;
pub mod edges;
pub mod error;
pub mod failpoint;
pub mod formats;
#[allow(clippy::indexing_slicing, reason = "positions within arrays and groups, checked once per batch")]
pub mod functions;
#[allow(
    clippy::indexing_slicing,
    reason = "slots and rows that the operator itself handed out, in inner loops"
)]
pub mod operators;
pub mod options;
#[allow(
    clippy::indexing_slicing,
    reason = "nodes of the graph and columns, by numbers that the planner itself handed out"
)]
pub mod plan;
pub mod registry;
#[allow(
    clippy::indexing_slicing,
    reason = "tasks, chains and nodes, by numbers that the runtime itself handed out"
)]
#[allow(
    clippy::disallowed_methods,
    reason = "processing time, idleness, intervals of checkpoints; names of spill folders"
)]
pub mod runtime;
#[allow(clippy::disallowed_methods, reason = "takes the time of a query")]
pub mod session;
pub mod sql;
#[allow(clippy::indexing_slicing, reason = "slots that the directory itself handed out, in inner loops")]
pub mod state;
#[allow(clippy::indexing_slicing, reason = "kinds beside rows, one per row")]
pub mod stream;
pub mod tableflow;
#[allow(clippy::indexing_slicing, reason = "tables of 16 or 256 entries, by half or whole bytes")]
pub mod text;
pub mod types;

/// Arrow, in the version of the batches that come and go.
pub use arrow;
pub use error::{Error, ErrorKind, Location, Result};
