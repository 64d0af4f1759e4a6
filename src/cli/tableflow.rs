//! `tidelake tableflow`: topics into tables, and the proof.
//!
//! ```text
//!  arguments ─► TableflowConfig ─► tableflow::run ─► a line per topic when it ends; on a terminal one that is redrawn
//!             └ verify ─► tableflow::verify ─► a line per table, exit 0 only if all agree
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};

use super::args::Format;
use super::catalog_args::CatalogArgs;
use super::interrupt::Interrupts;
use super::progress::{count, counted, size};
use super::stderr::{self, say};
use super::{duration, parse_setting};
use crate::error::{Error, Result};
use crate::registry::SchemaKind;
use crate::runtime::job::{JobNature, StopHandle};
use crate::tableflow::{
    self, ChangeFormat, KeyFormat, Metadata, Observer, OnError, Phase, RecordFormat, RegistryOptions,
    RowMode, StartAt, Status, TableflowConfig, Topics, Verified,
};

/// Turn Kafka topics into Iceberg tables, exactly once.
///
/// Topic `a.b` becomes table `default.a_b`. Where it stands is in the table: the same command, started again, goes on.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct TableflowArgs {
    #[command(subcommand)]
    command: Option<TableflowCommand>,
    #[command(flatten)]
    run: RunFlow,
}

#[derive(Debug, Subcommand)]
enum TableflowCommand {
    /// Prove that tables are their topics: nothing missing, nothing twice. Exit 0 only if all agree.
    Verify(VerifyArgs),
}

/// Where topics and tables are.
#[derive(Debug, Args)]
struct Ends {
    /// Kafka: host:port,…; `embedded` is the broker inside the process.
    #[arg(long, value_name = "SERVERS", required = true)]
    bootstrap_servers: Option<String>,
    /// A property of the Kafka client, such as security.protocol=SASL_SSL. May be repeated.
    #[arg(long = "kafka-property", value_name = "KEY=VALUE", value_parser = parse_setting)]
    kafka_properties: Vec<(String, String)>,
    #[command(flatten)]
    catalog: CatalogArgs,
    /// The schema registry; schemas are those of the subject TOPIC-value.
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
    /// An option of the registry, such as basic-auth.user-info. May be repeated.
    #[arg(long = "registry-option", value_name = "KEY=VALUE", value_parser = parse_setting)]
    registry_options: Vec<(String, String)>,
    /// How records are read [default: json].
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// Namespace of the tables; {topic} stands for the topic.
    #[arg(long, default_value = "default", value_name = "NAME")]
    namespace: String,
    /// Sets an option of the session. May be repeated.
    #[arg(short = 's', long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct RunFlow {
    #[command(flatten)]
    ends: Ends,
    /// Name of a topic, or a regular expression of whole names. May be repeated; new topics are picked up.
    #[arg(long = "topic", value_name = "PATTERN", required = true)]
    topics: Vec<String>,
    /// What rows are to records. Formats of changes make them to the table in any case.
    #[arg(long, value_enum, default_value_t = ModeArg::Append)]
    mode: ModeArg,
    /// How keys are read with --mode upsert.
    #[arg(long, value_enum, default_value_t = KeyFormatArg::Raw)]
    key_format: KeyFormatArg,
    /// Fields by which rows replace each other [default: those of the record's key]. May be repeated.
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    primary_key: Vec<String>,
    /// Name of the tables; {topic} stands for the topic.
    #[arg(long, default_value = "{topic}", value_name = "NAME")]
    table_name: String,
    /// Partitioning of tables that are made: hours(_timestamp), bucket(16, id), a column. May be repeated.
    #[arg(long, value_name = "TRANSFORM")]
    partition_by: Vec<String>,
    /// Metadata columns besides _partition, _offset and _timestamp.
    #[arg(long, value_enum, value_delimiter = ',')]
    include: Vec<MetadataArg>,
    /// A property of tables that are made, such as write.target-file-size-bytes=134217728. May be repeated.
    #[arg(long = "table-property", value_name = "KEY=VALUE", value_parser = parse_setting)]
    table_properties: Vec<(String, String)>,
    /// What becomes of records that cannot be decoded.
    #[arg(long, value_enum, default_value_t = OnErrorArg::Suspend)]
    on_error: OnErrorArg,
    /// Where a topic without a table begins.
    #[arg(long, value_enum, default_value_t = StartArg::Earliest)]
    start_at: StartArg,
    /// Time between commits.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    commit_interval: Duration,
    /// Stop when what is there now is committed.
    #[arg(long)]
    once: bool,
    /// Append to tables that tableflow has not made.
    #[arg(long)]
    adopt: bool,
    /// A table that was rolled back: stop, or read again what was taken back.
    #[arg(long, value_enum, default_value_t = RollbackArg::Fail)]
    on_rollback: RollbackArg,
    /// Tasks per topic.
    #[arg(long, value_name = "N", default_value_t = 1)]
    parallelism: usize,
    /// Memory of the process, e.g. 2GB.
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Fill a topic of the embedded broker with the lines of a file first. May be repeated.
    #[arg(long, value_name = "TOPIC=FILE", value_parser = parse_setting)]
    load: Vec<(String, String)>,
    /// Print the SQL that it would run, with the columns that it has found, and stop.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    ends: Ends,
    /// Only the tables of these topics. May be repeated.
    #[arg(long = "topic", value_name = "PATTERN")]
    topics: Vec<String>,
    /// Read the topics again and compare every row with its record.
    #[arg(long)]
    deep: bool,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// Objects without a schema: columns are inferred and added, what has no column is in _rest.
    Json,
    /// The bytes of the value, in one column.
    Raw,
    /// The value as text, in one column.
    Text,
    /// Avro with the id of its schema in the registry.
    Avro,
    /// Protobuf with the id of its schema in the registry.
    Protobuf,
    /// JSON with the id of its JSON Schema in the registry.
    JsonSchema,
    /// Changes as Debezium tells them, with or without their schema: they are made to the table.
    DebeziumJson,
    /// Changes as Canal tells them.
    CanalJson,
    /// Changes as Maxwell tells them.
    MaxwellJson,
    /// Changes as Oracle GoldenGate tells them.
    OggJson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModeArg {
    /// Each record is a row.
    Append,
    /// A record sets the row of its key, and one without a value deletes it.
    Upsert,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KeyFormatArg {
    /// The bytes of the key, in the column _key.
    Raw,
    /// The key as text, in the column _key.
    Text,
    /// A JSON object: a column per field.
    Json,
    /// Avro with the id of its schema in the registry: a column per field.
    Avro,
    /// Protobuf with the id of its schema in the registry: a column per field.
    Protobuf,
    /// JSON with the id of its JSON Schema in the registry: a column per field.
    JsonSchema,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnErrorArg {
    /// The topic stops before it, others go on.
    Suspend,
    /// It is left out and counted.
    Skip,
    /// It is a row with its bytes and the error, in _bad_value and _error.
    Rescue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StartArg {
    Earliest,
    Latest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RollbackArg {
    Fail,
    Resume,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MetadataArg {
    Topic,
    Key,
    Headers,
}

impl Ends {
    fn config(self) -> Result<TableflowConfig> {
        let catalog = self.catalog.options()?;
        let is_registered =
            matches!(self.format, Some(FormatArg::Avro | FormatArg::Protobuf | FormatArg::JsonSchema));
        let registry = match self.registry {
            // Keys may have one though values have none.
            Some(url) => Some(RegistryOptions { url, options: self.registry_options.into_iter().collect() }),
            None if is_registered => {
                return Err(Error::validation("it is not said where the schemas are").hint("--registry URL"));
            }
            None => None,
        };
        Ok(TableflowConfig {
            servers: self.bootstrap_servers.unwrap_or_default(),
            kafka: self.kafka_properties.into_iter().collect(),
            catalog,
            namespace: self.namespace,
            table_name: "{topic}".to_owned(),
            table_properties: BTreeMap::new(),
            partition_by: Vec::new(),
            format: match self.format {
                None | Some(FormatArg::Json) => RecordFormat::Json,
                Some(FormatArg::Raw) => RecordFormat::Raw,
                Some(FormatArg::Text) => RecordFormat::Text,
                Some(FormatArg::Avro) => RecordFormat::Registered(SchemaKind::Avro),
                Some(FormatArg::Protobuf) => RecordFormat::Registered(SchemaKind::Protobuf),
                Some(FormatArg::JsonSchema) => RecordFormat::Registered(SchemaKind::Json),
                Some(FormatArg::DebeziumJson) => RecordFormat::Changes(ChangeFormat::Debezium),
                Some(FormatArg::CanalJson) => RecordFormat::Changes(ChangeFormat::Canal),
                Some(FormatArg::MaxwellJson) => RecordFormat::Changes(ChangeFormat::Maxwell),
                Some(FormatArg::OggJson) => RecordFormat::Changes(ChangeFormat::Ogg),
            },
            mode: RowMode::Append,
            primary_key: Vec::new(),
            registry,
            on_error: OnError::Suspend,
            start_at: StartAt::Earliest,
            include: BTreeSet::new(),
            commit_interval: Duration::from_secs(60),
            once: false,
            adopt: false,
            resume_rollback: false,
            parallelism: 1,
            set: self.set,
        })
    }
}

impl RunFlow {
    fn config(self) -> Result<TableflowConfig> {
        let mut config = self.ends.config()?;
        if let Some(size) = self.memory {
            config.set.push((crate::edges::PROCESS_MEMORY.to_owned(), size));
        }
        let has_schema =
            matches!(config.format, RecordFormat::Registered(SchemaKind::Avro | SchemaKind::Protobuf));
        if has_schema && self.on_error == OnErrorArg::Skip {
            return Err(Error::unsupported("--on-error skip is not supported for Avro and Protobuf")
                .hint("--on-error rescue keeps bad records as rows"));
        }
        let key = match self.key_format {
            KeyFormatArg::Raw => KeyFormat::Raw,
            KeyFormatArg::Text => KeyFormat::Text,
            KeyFormatArg::Json => KeyFormat::Json,
            KeyFormatArg::Avro => KeyFormat::Registered(SchemaKind::Avro),
            KeyFormatArg::Protobuf => KeyFormat::Registered(SchemaKind::Protobuf),
            KeyFormatArg::JsonSchema => KeyFormat::Registered(SchemaKind::Json),
        };
        let needs_registry =
            matches!(config.format, RecordFormat::Registered(_)) || matches!(key, KeyFormat::Registered(_));
        if config.registry.is_some() && !needs_registry {
            return Err(Error::validation("--registry is for records with the id of their schema")
                .hint("--format avro, protobuf or json-schema"));
        }
        if self.mode == ModeArg::Append && key != KeyFormat::Raw {
            return Err(Error::validation("--key-format is for --mode upsert")
                .hint("--include key keeps the bytes of keys in appended rows"));
        }
        Ok(TableflowConfig {
            mode: match self.mode {
                ModeArg::Append => RowMode::Append,
                ModeArg::Upsert => RowMode::Upsert(key),
            },
            primary_key: self.primary_key,
            table_name: self.table_name,
            table_properties: self.table_properties.into_iter().collect(),
            partition_by: self.partition_by,
            on_error: match self.on_error {
                OnErrorArg::Suspend => OnError::Suspend,
                OnErrorArg::Skip => OnError::Skip,
                OnErrorArg::Rescue => OnError::Rescue,
            },
            start_at: match self.start_at {
                StartArg::Earliest => StartAt::Earliest,
                StartArg::Latest => StartAt::Latest,
            },
            include: self
                .include
                .iter()
                .map(|m| match m {
                    MetadataArg::Topic => Metadata::Topic,
                    MetadataArg::Key => Metadata::Key,
                    MetadataArg::Headers => Metadata::Headers,
                })
                .collect(),
            commit_interval: self.commit_interval,
            once: self.once,
            adopt: self.adopt,
            resume_rollback: self.on_rollback == RollbackArg::Resume,
            parallelism: self.parallelism,
            ..config
        })
    }
}

pub(super) async fn main(args: TableflowArgs) -> ExitCode {
    let ended = match args.command {
        Some(TableflowCommand::Verify(args)) => verify(args).await,
        None => run(args.run).await,
    };
    ended.unwrap_or_else(|e| {
        say(&format!("error: {e}"));
        ExitCode::FAILURE
    })
}

async fn run(args: RunFlow) -> Result<ExitCode> {
    let interrupts = Interrupts::listen();
    let topics = Topics::new(&args.topics)?;
    let (load, dry_run) = (args.load.clone(), args.dry_run);
    let config = args.config()?;
    let once = config.once;
    for (topic, file) in load {
        tableflow::load(&config, &topic, std::path::Path::new(&file)).await?;
    }
    if dry_run {
        print!("{}", tableflow::dry_run(config, &topics).await?);
        return Ok(ExitCode::SUCCESS);
    }
    let stop = StopHandle::new();
    interrupts.begin("tableflow had not begun".to_owned());
    // With --once, too, what has come so far is committed.
    let _guard = interrupts.guard_stop(JobNature { endless: true, ..JobNature::default() }, stop.clone());
    let shown = Arc::new(Shown::default());
    let line = Line::start(&shown);
    let failed = tableflow::run(config, &topics, stop, Arc::clone(&shown) as Arc<dyn Observer>).await;
    drop(line);
    let failed = failed?;
    if let Some(signal) = interrupts.signal().filter(|_| once) {
        say("interrupted: what was there at the start is not all committed; run again it goes on");
        return Ok(ExitCode::from(signal.exit_code()));
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The topics that there are.
#[derive(Default)]
struct Shown(Mutex<Vec<Arc<Status>>>);

impl Shown {
    fn all(&self) -> Vec<Arc<Status>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Shown {
    fn topic(&self, status: &Arc<Status>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(status));
    }

    fn ended(&self, status: &Arc<Status>, failure: Option<&Error>) {
        let now = status.look();
        let p = now.progress;
        let mut text = format!("{}: {}", status.route, counted(p.rows_out, "row"));
        if p.skipped_records > 0 {
            text += &format!(", {} skipped", counted(p.skipped_records, "bad record"));
        }
        if p.rested_rows > 0 {
            text += &format!(", {} with fields in _rest", counted(p.rested_rows, "row"));
        }
        say(&text);
        if let Some(e) = failure {
            say(&format!("error: {e}"));
            say(&format!(
                "suspended: {}; what is committed stays, and the same command goes on there",
                status.route
            ));
        }
    }

    fn notice(&self, text: &str) {
        say(text);
    }
}

/// Draws the line of progress until it is dropped.
struct Line(Option<tokio::task::JoinHandle<()>>);

impl Line {
    fn start(shown: &Arc<Shown>) -> Self {
        if !stderr::is_terminal() {
            return Line(None);
        }
        let shown = Arc::clone(shown);
        Line(Some(tokio::spawn(async move {
            let mut before = (0, 0, Instant::now());
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let all = shown.all();
                let looks: Vec<_> = all.iter().map(|s| s.look()).collect();
                let rows: u64 = looks.iter().map(|l| l.progress.rows_in).sum();
                let bytes: u64 = looks.iter().map(|l| l.progress.bytes_in).sum();
                let seconds = before.2.elapsed().as_secs_f64().max(0.001);
                let rate = |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds) as u64;
                let mut parts = vec![
                    counted(all.len() as u64, "topic"),
                    format!("{} ({}/s)", counted(rows, "row"), count(rate(rows, before.0))),
                    format!("{} ({}/s)", size(bytes), size(rate(bytes, before.1))),
                ];
                let lags: Vec<u64> = looks.iter().filter_map(|l| l.progress.lag).collect();
                if looks.iter().any(|l| l.progress.lag_unknown) {
                    parts.push("lag unknown".to_owned());
                } else if !lags.is_empty() {
                    parts.push(format!("lag {}", count(lags.iter().sum())));
                }
                if let Some(ago) =
                    looks.iter().filter_map(|l| l.progress.last_commit).map(|(_, ago)| ago).min()
                {
                    parts.push(format!("last commit {} s ago", ago.as_secs()));
                }
                for phase in [Phase::Starting, Phase::Empty, Phase::Evolving, Phase::Suspended] {
                    let n = looks.iter().filter(|l| l.phase == phase).count();
                    if n > 0 {
                        parts.push(format!("{n} {}", phase.word()));
                    }
                }
                stderr::draw(&parts.join(" · "));
                before = (rows, bytes, Instant::now());
            }
        })))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
            stderr::clear();
        }
    }
}

async fn verify(args: VerifyArgs) -> Result<ExitCode> {
    let wanted = match args.topics.is_empty() {
        true => None,
        false => Some(Topics::new(&args.topics)?),
    };
    let (deep, output) = (args.deep, args.output);
    let config = args.ends.config()?;
    let wanted = |topic: &str| wanted.as_ref().is_none_or(|topics| topics.contains(topic));
    let all = tableflow::verify(&config, wanted, deep).await?;
    if all.is_empty() {
        return Err(Error::validation(format!("there is no table of tableflow in {}", config.namespace))
            .hint("--namespace names another one"));
    }
    for verified in &all {
        println!("{}", line_of(verified, output));
    }
    let agree = all.iter().all(|v| v.problems.is_empty());
    Ok(if agree { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line_of(v: &Verified, output: Format) -> String {
    if output == Format::Json {
        return serde_json::json!({
            "topic": v.route.topic,
            "table": format!("{}.{}", v.route.namespace, v.route.table),
            "rows": v.rows,
            "partitions": v.partitions,
            "commits": v.commits,
            "compared": v.compared,
            "gone": v.gone,
            "problems": v.problems,
        })
        .to_string();
    }
    let mut text = format!(
        "{}: {}, {}, {}",
        v.route,
        counted(v.rows, "row"),
        counted(v.partitions as u64, "partition"),
        counted(v.commits as u64, "commit")
    );
    if let Some(compared) = v.compared {
        text += &format!(", {} compared", counted(compared, "row"));
    }
    if v.gone > 0 {
        text += &format!(", {} whose records Kafka has deleted", counted(v.gone, "row"));
    }
    match v.problems.as_slice() {
        [] => text += ": ok",
        problems => problems.iter().for_each(|p| text += &format!("\n  {p}")),
    }
    text
}
