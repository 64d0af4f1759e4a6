//! The arguments.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{duration, parse_setting};

/// Flink SQL over files, Kafka topics and Iceberg tables, batch or streaming.
#[derive(Debug, Parser)]
#[command(name = "tidelake", version, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run SQL scripts.
    Run(RunArgs),
    /// Print the plans of a script's queries and inserts without running them.
    Explain(ExplainArgs),
    /// Run sqllogictest files in batch and in streaming.
    Test(TestArgs),
    /// Turn Kafka topics into Iceberg tables, exactly once.
    Tableflow(Box<super::tableflow::TableflowArgs>),
    /// Keep Iceberg tables small: compaction, expiry of snapshots, files that nothing names.
    Maintain(super::maintain::MaintainArgs),
    /// Look at the checkpoints of jobs.
    #[command(subcommand)]
    Checkpoint(CheckpointCommand),
    /// Take, look at and remove savepoints of jobs.
    #[command(subcommand)]
    Savepoint(SavepointCommand),
    /// Run the embedded Kafka broker alone.
    Broker(super::broker::BrokerArgs),
}

/// Where SQL comes from and the options it starts with.
#[derive(Debug, Args)]
pub(super) struct Input {
    /// SQL files, run in order in one session; `-` is standard input.
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<String>,
    /// SQL text, run after the files. May be repeated.
    #[arg(short = 'e', long = "execute", value_name = "SQL", allow_hyphen_values = true)]
    pub(super) execute: Vec<String>,
    /// Sets an option before the first statement. May be repeated.
    #[arg(short = 's', long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub(super) set: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
pub(super) enum CheckpointCommand {
    /// List the checkpoints in a folder that execution.checkpointing.dir names, of all jobs.
    List(ListArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The folder: a path or s3://…
    #[arg(value_name = "DIR")]
    pub(super) dir: String,
    /// How they are printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(super) format: Format,
    /// Sets an option of the store, such as s3.endpoint. May be repeated.
    #[arg(short = 's', long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub(super) set: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
pub(super) enum SavepointCommand {
    /// Take a savepoint of a job whose checkpoints are kept, and print where it is.
    ///
    /// A job that runs takes a checkpoint for it. Of one that does not, the newest complete checkpoint is copied.
    Create(SavepointCreateArgs),
    /// List the savepoints in a folder.
    List(ListArgs),
    /// Show what a savepoint holds: its plan, the positions of its sources, the tables of its operators.
    Inspect(SavepointPathArgs),
    /// Remove a savepoint.
    Drop(SavepointPathArgs),
}

#[derive(Debug, Args)]
pub(super) struct SavepointCreateArgs {
    /// The folder that execution.checkpointing.dir names: a path or s3://…
    #[arg(value_name = "CHECKPOINT_DIR")]
    pub(super) dir: String,
    /// Folder to put it in [default: the job's execution.checkpointing.savepoint-dir].
    #[arg(long, value_name = "DIR")]
    pub(super) to: Option<String>,
    /// Name of the job; not needed if there is only one.
    #[arg(long, value_name = "NAME")]
    pub(super) job: Option<String>,
    /// Stop the job with it.
    #[arg(long)]
    pub(super) stop: bool,
    /// End the job for good: its sources end before the savepoint, so that every window is closed. Nothing can start
    /// from it.
    #[arg(long)]
    pub(super) drain: bool,
    /// How long to wait for the job.
    #[arg(long, value_name = "DURATION", default_value = "10min", value_parser = duration)]
    pub(super) timeout: std::time::Duration,
    /// The job does not run: copy its newest complete checkpoint without asking it. On local disks this is found out.
    #[arg(long, conflicts_with_all = ["stop", "drain"])]
    pub(super) offline: bool,
    /// Sets an option of the store, such as s3.endpoint. May be repeated.
    #[arg(short = 's', long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub(super) set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(super) struct SavepointPathArgs {
    /// The savepoint: a path or s3://…
    #[arg(value_name = "SAVEPOINT")]
    pub(super) path: String,
    /// Sets an option of the store, such as s3.endpoint. May be repeated.
    #[arg(short = 's', long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub(super) set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) input: Input,
    /// A file of flows, as `tidelake tableflow --config` takes it: scripts begin in the catalog `live`, where each of their tables
    /// is what is committed and what has come to its topic since.
    #[arg(long, value_name = "FILE")]
    pub(super) tableflow: Option<PathBuf>,
    /// Memory of the process, e.g. 2GB, beyond which state rests on disk [default: 70 % of the machine's].
    #[arg(long, value_name = "SIZE")]
    pub(super) memory: Option<String>,
    /// Serve what the job at hand is at for Prometheus at http://ADDRESS/metrics, and as JSON at /status.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) metrics_addr: Option<SocketAddr>,
    /// Begin jobs anew, whatever checkpoints there are of them (see execution.checkpointing.dir).
    #[arg(long)]
    pub(super) fresh: bool,
    /// How queries are printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(super) format: Format,
    /// What of a streaming query is printed: every change as it comes, or the rows that are left at the end.
    #[arg(long, value_enum, default_value_t = ResultMode::Changelog)]
    pub(super) result_mode: ResultMode,
}

/// How queries are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns.
    Table,
    /// RFC 4180 with a header line; NULL is empty, an empty text is "".
    Csv,
    /// One JSON object a line.
    Json,
}

/// What of a streaming query is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResultMode {
    /// Every change as it comes.
    Changelog,
    /// The rows that are left at the end, as in batch.
    Final,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    pub(super) input: Input,
    /// Also print what kinds of changes each operator sends.
    #[arg(long)]
    pub(super) changelog_mode: bool,
}

#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// `.slt` files, or folders that are searched for them.
    #[arg(value_name = "PATH", required = true)]
    pub(super) paths: Vec<PathBuf>,
    /// The modes to run every file in.
    #[arg(long, value_enum, default_value_t = Mode::Both)]
    pub(super) mode: Mode,
    /// Parallelism of streaming runs; several numbers run every file at each. With --restore-every one run goes
    /// through them in turns.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub(super) parallelism: Vec<usize>,
    /// Rows per bundle in streaming runs (table.exec.mini-batch.size).
    #[arg(long)]
    pub(super) bundle_size: Option<usize>,
    /// Rows per source batch in streaming runs [default: 8192, with --restore-every 2].
    #[arg(long, value_name = "N", value_parser = above_zero)]
    pub(super) batch_rows: Option<usize>,
    /// Stop every streaming job after so many batches of each source, take a snapshot and go on from it in a fresh
    /// job, until the sources end; several numbers run every file with each.
    #[arg(long, value_name = "BATCHES", value_delimiter = ',', value_parser = above_zero)]
    pub(super) restore_every: Vec<usize>,
    /// Memory of streaming runs, e.g. 1 for next to none: state rests on disk.
    #[arg(long, value_name = "SIZE")]
    pub(super) memory: Option<String>,
    /// Rewrite the expectations from what batch (or, where only that runs, streaming) gives.
    #[arg(long)]
    pub(super) update: bool,
    /// Sets an option before the first statement of every file. May be repeated.
    #[arg(short = 's', long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub(super) set: Vec<(String, String)>,
    /// Run only files whose path contains this.
    #[arg(long)]
    pub(super) filter: Option<String>,
    /// Files to run at a time.
    #[arg(short = 'j', long, default_value_t = 1)]
    pub(super) jobs: usize,
}

fn above_zero(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected a number above 0".to_owned())
}

/// The modes a test file runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Batch only.
    Batch,
    /// Streaming only.
    Streaming,
    /// Both, against the same expectations.
    Both,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("tidelake").chain(args.iter().copied()))
    }

    #[test]
    fn run_takes_files_texts_and_settings() {
        let cli = parse(&[
            "run",
            "a.sql",
            "-",
            "-e",
            "SELECT -1",
            "-e",
            "-- x",
            "-s",
            "a.b=c=d",
            "-s",
            "x = y",
            "--format",
            "json",
        ])
        .unwrap();
        let Command::Run(run) = cli.command else { panic!("run") };
        assert_eq!(run.input.files, ["a.sql", "-"]);
        assert_eq!(run.input.execute, ["SELECT -1", "-- x"]);
        assert_eq!(run.input.set, [("a.b".into(), "c=d".into()), ("x".into(), "y".into())]);
        assert_eq!((run.format, run.result_mode), (Format::Json, ResultMode::Changelog));
    }

    #[test]
    fn test_takes_a_sweep() {
        let cli =
            parse(&["test", "dir", "--parallelism", "1,2,4", "--mode", "streaming", "-j", "2"]).unwrap();
        let Command::Test(test) = cli.command else { panic!("test") };
        assert_eq!(test.parallelism, [1, 2, 4]);
        assert_eq!((test.mode, test.jobs, test.update), (Mode::Streaming, 2, false));
        let cli = parse(&["test", "dir", "--restore-every", "1,7", "--batch-rows", "3", "--memory", "1 kb"]);
        let Command::Test(test) = cli.unwrap().command else { panic!("test") };
        assert_eq!((test.restore_every, test.batch_rows), (vec![1, 7], Some(3)));
        assert_eq!(test.memory.as_deref(), Some("1 kb"));
    }

    #[test]
    fn mistakes_are_refused() {
        for bad in [
            &["run", "--format", "xml"][..],
            &["run", "-s", "novalue"],
            &["run", "-s", "=x"],
            &["test"],
            &["test", "d", "--mode", "both-ways"],
            &["test", "d", "--parallelism", "x"],
            &["test", "d", "--restore-every", "0"],
            &["walk"],
            &[],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
