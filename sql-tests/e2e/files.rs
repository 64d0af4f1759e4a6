//! Every `.slt` file of this folder: in batch, and in streaming at several parallelisms and bundle sizes.

use std::io::Write;

use tidelake::cli::test::{Mode, TestOptions, run_blocking};

/// Queries there are at least, so that a broken search for files does not pass.
const QUERIES: usize = 300;

fn run(what: &str, mode: Mode, parallelism: usize, bundle_size: Option<usize>) {
    let mut options = TestOptions::new(["sql-tests"]);
    options.mode = mode;
    options.parallelism = vec![parallelism];
    options.bundle_size = bundle_size;
    let report = run_blocking(options).expect("the files are found");
    writeln!(std::io::stderr(), "note: {what}: {report}").ok();
    let failures: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{}\n{report}", failures.join("\n\n"));
    assert!(report.queries >= QUERIES, "only {} queries", report.queries);
}

#[test]
fn batch() {
    run("batch", Mode::Batch, 1, None);
}

#[test]
fn streaming() {
    run("streaming", Mode::Streaming, 1, None);
}

#[test]
fn streaming_at_parallelism_2() {
    run("streaming at parallelism 2", Mode::Streaming, 2, None);
}

#[test]
fn streaming_at_parallelism_4() {
    run("streaming at parallelism 4", Mode::Streaming, 4, None);
}

#[test]
fn streaming_row_by_row() {
    run("streaming, bundles of one row", Mode::Streaming, 1, Some(1));
}
