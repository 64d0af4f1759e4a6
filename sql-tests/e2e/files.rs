//! Every `.slt` file of this folder: in batch, and in streaming at several parallelisms and bundle sizes, restored in
//! mid-stream, and with state on disk.

use std::io::Write;

use tidelake::cli::test::{Mode, TestOptions, TestReport, run_blocking};

/// Queries there are at least, so that a broken search for files does not pass.
const QUERIES: usize = 300;

fn run(what: &str, mode: Mode, parallelism: &[usize], set: impl FnOnce(&mut TestOptions)) -> TestReport {
    let mut options = TestOptions::new(["sql-tests"]);
    options.mode = mode;
    options.parallelism = parallelism.to_vec();
    set(&mut options);
    let report = run_blocking(options).expect("the files are found");
    writeln!(std::io::stderr(), "note: {what}: {report}").ok();
    let failures: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{}\n{report}", failures.join("\n\n"));
    assert!(report.queries >= QUERIES, "only {} queries", report.queries);
    report
}

/// The disk of tests need not be one.
fn files_in_memory() -> Vec<(String, String)> {
    let shared = std::path::Path::new("/dev/shm");
    let folder = shared.is_dir().then(|| ("io.tmp.dirs".to_owned(), "/dev/shm".to_owned()));
    folder.into_iter().collect()
}

#[test]
fn batch() {
    run("batch", Mode::Batch, &[1], |_| {});
}

#[test]
fn streaming() {
    run("streaming", Mode::Streaming, &[1], |_| {});
}

#[test]
fn streaming_at_parallelism_2() {
    run("streaming at parallelism 2", Mode::Streaming, &[2], |_| {});
}

#[test]
fn streaming_at_parallelism_4() {
    run("streaming at parallelism 4", Mode::Streaming, &[4], |_| {});
}

#[test]
fn streaming_row_by_row() {
    run("streaming, bundles of one row", Mode::Streaming, &[1], |options| options.bundle_size = Some(1));
}

#[test]
fn streaming_restored_at_other_parallelisms() {
    let report = run("streaming, restored after every batch", Mode::Streaming, &[1, 2, 4], |options| {
        options.restore_every = vec![1];
    });
    assert!(report.restores > 5 * report.queries, "only {} restores", report.restores);
}

#[test]
fn streaming_with_state_on_disk() {
    let report = run("streaming, state on disk", Mode::Streaming, &[2], |options| {
        options.memory = Some("1".to_owned());
        options.config = files_in_memory();
    });
    assert!(report.spilled > report.queries / 3, "only {} jobs with state on disk", report.spilled);
}

/// With `TIDELAKE_SWEEP=1`: restores after so many batches of so many rows, through these parallelisms, with bundles of
/// one row, with state on disk. Takes some minutes.
#[test]
fn streaming_swept() {
    if std::env::var_os("TIDELAKE_SWEEP").is_none() {
        writeln!(std::io::stderr(), "note: the sweep was not run: TIDELAKE_SWEEP is not set").ok();
        return;
    }
    let restored = |batches: &[usize],
                    rows: usize,
                    parallelism: &[usize],
                    bundle: Option<usize>,
                    memory: Option<&str>| {
        run("streaming, swept", Mode::Streaming, parallelism, |options| {
            options.restore_every = batches.to_vec();
            options.batch_rows = Some(rows);
            options.bundle_size = bundle;
            options.memory = memory.map(str::to_owned);
            options.config = files_in_memory();
        });
    };
    restored(&[1, 2, 3, 7], 2, &[1, 2, 4], None, None);
    restored(&[1, 2, 3, 7], 1, &[4, 1, 2], Some(1), None);
    restored(&[2, 3], 5, &[2], None, Some("1"));
    restored(&[1, 7], 3, &[3, 1], None, Some("1"));
    for parallelism in [1, 4] {
        for bundle in [None, Some(1)] {
            run("streaming, swept", Mode::Streaming, &[parallelism], |options| {
                options.bundle_size = bundle;
                options.memory = Some("1".to_owned());
                options.batch_rows = Some(100);
                options.config = files_in_memory();
            });
        }
    }
}
