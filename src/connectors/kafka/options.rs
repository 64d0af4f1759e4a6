//! The options of a `kafka` table, judged before anything connects.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex::Regex;

use super::embedded;
use super::partitioner::Partitioner;
use super::parts::{Part, parts, upsert_parts};
use super::properties::Properties;
use crate::catalog::ResolvedTable;
use crate::edges::{ConnectorEnv, Notices, SourceChangelog};
use crate::error::{Error, Result};
use crate::options::Options;

/// Which topics.
#[derive(Debug, Clone)]
pub(super) enum Topics {
    /// `topic`.
    List(Vec<String>),
    /// `topic-pattern`, matching whole names.
    Pattern(Regex),
}

impl Topics {
    /// Whether a name is among them.
    pub(super) fn contains(&self, topic: &str) -> bool {
        match self {
            Topics::List(list) => list.iter().any(|t| t == topic),
            Topics::Pattern(pattern) => pattern.is_match(topic),
        }
    }

    /// The one topic, when there is exactly one.
    pub(super) fn single(&self) -> Option<&str> {
        match self {
            Topics::List(list) => match list.as_slice() {
                [one] => Some(one),
                _ => None,
            },
            Topics::Pattern(_) => None,
        }
    }
}

/// Offsets by partition number.
pub(super) type Offsets = BTreeMap<i32, i64>;

/// `scan.startup.mode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Startup {
    /// Where the group committed.
    Group,
    /// The oldest record.
    Earliest,
    /// The records to come.
    Latest,
    /// The first record at or after that many milliseconds.
    Timestamp(i64),
    /// As listed.
    Specific(Offsets),
}

/// `scan.bounded.mode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bounded {
    /// Never ends.
    Unbounded,
    /// What is there at the start.
    Latest,
    /// Where the group committed.
    Group,
    /// Before the first record at or after that many milliseconds.
    Timestamp(i64),
    /// As listed.
    Specific(Offsets),
}

/// Which connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connector {
    /// `kafka`: every record is a row, or a change if the format says so.
    Log,
    /// `upsert-kafka`: a record sets or deletes the row of its key.
    Upsert,
}

impl Connector {
    pub(super) fn name(self) -> &'static str {
        match self {
            Connector::Log => "kafka",
            Connector::Upsert => "upsert-kafka",
        }
    }
}

/// `sink.buffer-flush.*`: rows of one key are collected and only the last is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Buffering {
    pub(super) max_rows: usize,
    pub(super) interval: Duration,
}

/// Everything a table says.
#[derive(Debug)]
pub(super) struct TableOptions {
    pub(super) connector: Connector,
    /// `upsert-kafka` with both of its buffer options set.
    pub(super) buffering: Option<Buffering>,
    /// Name of the table, for messages.
    pub(super) table: String,
    pub(super) topics: Topics,
    pub(super) properties: Properties,
    pub(super) startup: Startup,
    pub(super) bounded: Bounded,
    /// How often to look for new partitions.
    pub(super) discovery: Option<Duration>,
    pub(super) partitioner: Partitioner,
    pub(super) key: Option<Part>,
    pub(super) value: Part,
    /// `sink.delivery-guarantee` = `exactly-once`.
    pub(super) exactly_once: bool,
    /// `sink.transactional-id-prefix`.
    pub(super) transactional_id_prefix: Option<String>,
    /// `embedded.partitions`.
    pub(super) embedded_partitions: Option<u32>,
    /// librdkafka's own log lines to stderr (`properties.debug`).
    pub(super) debug: bool,
    /// Where outages are told.
    pub(super) notices: Notices,
}

impl TableOptions {
    /// Reads and checks the options of a table.
    pub(super) fn parse(table: &ResolvedTable, connector: Connector, env: &ConnectorEnv) -> Result<Self> {
        let name = table.def.path.to_string();
        let options = Options::new(&name, connector.name(), &table.options);
        let fail = |text: String| Error::validation(format!("table {name}: {text}"));

        let topics = topics(&options, &name)?;
        let given = options.prefix("properties.");
        let debug = given.contains_key("debug");
        let properties = Properties::parse(&name, given, env.memory())?;
        let upsert = connector == Connector::Upsert;
        // The table is what the whole topic says.
        let startup = if upsert { Startup::Earliest } else { startup(&options, &topics, &name)? };
        let buffering = if upsert { buffering(&options)? } else { None };
        let bounded = bounded(&options, &topics, &properties, &name)?;
        let discovery =
            options.duration("scan.topic-partition-discovery.interval")?.unwrap_or(Duration::from_secs(300));
        // The records of a key have to stay in order.
        let partitioner = if upsert { None } else { options.take("sink.partitioner") };
        let partitioner = Partitioner::parse(partitioner).map_err(|e| e.context(format!("table {name}")))?;
        let guarantee =
            options.one_of("sink.delivery-guarantee", &["at-least-once", "none", "exactly-once"])?;
        let prefix = options.take("sink.transactional-id-prefix");
        let exactly_once = guarantee == Some("exactly-once");
        if exactly_once {
            if embedded::name_of(&properties.servers).is_some() {
                return Err(Error::unsupported(format!(
                    "table {name}: the embedded broker has no transactions for 'sink.delivery-guarantee' = 'exactly-once'"
                ))
                .hint("use 'at-least-once' with it, or a real Kafka"));
            }
            if matches!(topics, Topics::Pattern(_)) {
                return Err(Error::unsupported(format!(
                    "table {name}: 'sink.delivery-guarantee' = 'exactly-once' needs named topics, not a pattern"
                ))
                .hint("list the topics in 'topic'"));
            }
        } else if prefix.is_some() {
            return Err(fail(
                "'sink.transactional-id-prefix' is for 'sink.delivery-guarantee' = 'exactly-once'".to_owned(),
            ));
        }
        let embedded_partitions = options.parse::<u32>("embedded.partitions", "a number above 0")?;
        if embedded_partitions.is_some() && embedded::name_of(&properties.servers).is_none() {
            return Err(fail(
                "'embedded.partitions' is for 'properties.bootstrap.servers' = 'embedded'".to_owned(),
            )
            .hint("a real Kafka decides the partitions when the topic is created"));
        }

        let (key, value, value_format) = match connector {
            Connector::Log => parts(&options, table, &name, topics.single())?,
            Connector::Upsert => upsert_parts(&options, table, &name, topics.single())?,
        };
        if partitioner == Partitioner::RoundRobin && key.is_some() {
            return Err(fail(
                "Currently 'round-robin' partitioner only works when option 'key.fields' is not specified."
                    .to_owned(),
            ));
        }
        if let Some(pk) = &table.def.primary_key
            && !upsert
            && value.format.changelog() == SourceChangelog::AppendOnly
        {
            return Err(fail(format!(
                "The Kafka table with '{value_format}' format doesn't support defining PRIMARY KEY constraint on the table, because it can't guarantee the semantic of primary key."
            ))
            .hint(format!("remove PRIMARY KEY ({})", pk.columns.join(", "))));
        }
        options.finish()?;
        Ok(TableOptions {
            connector,
            buffering,
            table: name,
            topics,
            properties,
            startup,
            bounded,
            discovery: (!discovery.is_zero()).then_some(discovery),
            partitioner,
            key,
            value,
            exactly_once,
            transactional_id_prefix: prefix,
            embedded_partitions,
            debug,
            notices: env.notices.clone(),
        })
    }
}

fn topics(options: &Options, table: &str) -> Result<Topics> {
    match (options.take("topic"), options.take("topic-pattern")) {
        (Some(_), Some(_)) => Err(Error::validation(format!(
            "table {table}: Option 'topic' and 'topic-pattern' shouldn't be set together."
        ))),
        (None, None) => {
            Err(Error::validation(format!("table {table}: Either 'topic' or 'topic-pattern' must be set.")))
        }
        (Some(list), None) => {
            let names: Vec<String> =
                list.split(';').map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()).collect();
            for name in &names {
                let legal = name.len() <= 249
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
                    && name != "."
                    && name != "..";
                if !legal {
                    return Err(options.invalid(
                        "topic",
                        name,
                        "topic names of letters, digits, '.', '_' and '-', at most 249 long",
                    ));
                }
            }
            let distinct: BTreeSet<&String> = names.iter().collect();
            if names.is_empty() || distinct.len() != names.len() {
                return Err(options.invalid("topic", &list, "topic names separated by ';', each once"));
            }
            Ok(Topics::List(names))
        }
        (None, Some(pattern)) => Regex::new(&format!("^(?:{pattern})$"))
            .map(Topics::Pattern)
            .map_err(|e| options.invalid("topic-pattern", &pattern, &format!("a regular expression ({e})"))),
    }
}

fn startup(options: &Options, topics: &Topics, table: &str) -> Result<Startup> {
    let mode = options.one_of(
        "scan.startup.mode",
        &["group-offsets", "earliest-offset", "latest-offset", "timestamp", "specific-offsets"],
    )?;
    let millis = options.parse::<i64>("scan.startup.timestamp-millis", "milliseconds since 1970")?;
    let offsets = options.take("scan.startup.specific-offsets");
    Ok(match mode {
        None | Some("group-offsets") => Startup::Group,
        Some("earliest-offset") => Startup::Earliest,
        Some("latest-offset") => Startup::Latest,
        Some("timestamp") => Startup::Timestamp(needed(table, "scan.startup", "timestamp-millis", millis)?),
        Some(_) => Startup::Specific(specific(options, topics, table, "scan.startup", offsets)?),
    })
}

fn bounded(options: &Options, topics: &Topics, properties: &Properties, table: &str) -> Result<Bounded> {
    let mode = options.one_of(
        "scan.bounded.mode",
        &["unbounded", "latest-offset", "group-offsets", "timestamp", "specific-offsets"],
    )?;
    let millis = options.parse::<i64>("scan.bounded.timestamp-millis", "milliseconds since 1970")?;
    let offsets = options.take("scan.bounded.specific-offsets");
    Ok(match mode {
        None | Some("unbounded") => Bounded::Unbounded,
        Some("latest-offset") => Bounded::Latest,
        Some("group-offsets") if properties.group_id.is_none() => {
            return Err(Error::validation(format!(
                "table {table}: 'scan.bounded.mode' = 'group-offsets' needs 'properties.group.id'"
            )));
        }
        Some("group-offsets") => Bounded::Group,
        Some("timestamp") => Bounded::Timestamp(needed(table, "scan.bounded", "timestamp-millis", millis)?),
        Some(_) => Bounded::Specific(specific(options, topics, table, "scan.bounded", offsets)?),
    })
}

fn needed<T>(table: &str, side: &str, key: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| {
        Error::validation(format!("table {table}: '{side}.{key}' is required by '{side}.mode' but missing."))
    })
}

/// `partition:0,offset:42;partition:1,offset:300`.
fn specific(
    options: &Options,
    topics: &Topics,
    table: &str,
    side: &str,
    text: Option<String>,
) -> Result<Offsets> {
    let text = needed(table, side, "specific-offsets", text)?;
    if topics.single().is_none() {
        return Err(Error::validation(format!(
            "table {table}: '{side}.mode' = 'specific-offsets' works with exactly one topic"
        )));
    }
    let key = format!("{side}.specific-offsets");
    let bad = || options.invalid(&key, &text, "partition:0,offset:42;partition:1,offset:300");
    let mut offsets = Offsets::new();
    for pair in text.split(';').map(str::trim).filter(|p| !p.is_empty()) {
        let (mut partition, mut offset) = (None, None);
        for item in pair.split(',') {
            match item.split_once(':').map(|(k, v)| (k.trim(), v.trim())) {
                Some(("partition", v)) => partition = v.parse::<i32>().ok().filter(|p| *p >= 0),
                Some(("offset", v)) => offset = v.parse::<i64>().ok().filter(|o| *o >= 0),
                _ => return Err(bad()),
            }
        }
        let (Some(partition), Some(offset)) = (partition, offset) else { return Err(bad()) };
        if offsets.insert(partition, offset).is_some() {
            return Err(bad());
        }
    }
    if offsets.is_empty() { Err(bad()) } else { Ok(offsets) }
}

/// `sink.buffer-flush.*`; both have to be above zero to mean anything.
fn buffering(options: &Options) -> Result<Option<Buffering>> {
    let max_rows = options.parse::<usize>("sink.buffer-flush.max-rows", "a number of rows")?.unwrap_or(0);
    let interval = options.duration("sink.buffer-flush.interval")?.unwrap_or_default();
    Ok((max_rows > 0 && !interval.is_zero()).then_some(Buffering { max_rows, interval }))
}
