//! Tableflow: Kafka topics become Iceberg tables, and stay so.
//!
//! ```text
//!  --topic PATTERN… ─► topics ─► Route (topic → table) ─► Flow, one per topic ─► jobs of the engine
//!        ▲ new ones, every 30 s       │                      │ columns: infer, config      │
//!        └────────────────────────────┘                      └─ Status ◄── rows, lag, commits
//! ```
//!
//! It is no engine beside the engine. What a flow runs is SQL that a user could write (`tableflow --dry-run` prints it): a Kafka
//! table, an Iceberg table with `'source-positions' = 'table'` and `'schema-evolution' = 'add-columns'`, and an INSERT.
//!
//! Exactly once: each commit to a table holds rows and how far the topic is read for them, in one snapshot (`tidelake.positions`;
//! see the marks of the Iceberg connector). Whoever starts the same command, wherever, goes on from the table; an older
//! process is fenced by its generation. The consumer group is told and never asked.
//!
//! [`live`] reads tables with the tails of their topics.
//!
//! [`verify`] proves it: ranges of offsets without gap or overlap, counts, and with `deep` every row against its record.

mod config;
mod flow;
mod forecast;
mod infer;
mod keyed_tail;
mod layout;
mod live;
mod load;
mod registered;
mod reprocess;
mod standing;
mod statements;
mod status;
mod verify;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};

pub use config::{
    ChangeFormat, KeyFormat, Metadata, OnError, RecordFormat, RegistryOptions, Route, RowMode, StartAt,
    TableflowConfig,
};
pub use live::live;
pub use load::load;
pub use reprocess::{Reprocessed, reprocess};
pub use standing::{Standing, ask_for_lag, standing};
pub use status::{Phase, Snapshot, Status};
pub use verify::{Verified, verify};

use self::flow::{Common, Flow};
use self::statements::pattern_table;
use crate::catalog::{CatalogObject, ResolvedTable};
use crate::connectors::iceberg::{self, Maintained, Maintenance};
use crate::connectors::kafka;
use crate::edges::{ConnectorEnv, Notices};
use crate::error::{Error, Location, Result};
use crate::runtime::job::StopHandle;
use crate::session::{Session, SessionOptions, StatementResult};
use crate::sql::ast::Name;

/// How often it is looked for new topics.
const DISCOVER_EVERY: Duration = Duration::from_secs(30);

/// Topics by patterns: `orders`, `orders.*` as a regular expression of whole names.
#[derive(Debug, Clone)]
pub struct Topics(Vec<String>);

impl Topics {
    /// # Errors
    /// Validation without a pattern, and for one that is no regular expression.
    pub fn new(patterns: &[String]) -> Result<Self> {
        if patterns.is_empty() {
            return Err(Error::validation("no topic is named").hint("--topic NAME or --topic 'PATTERN.*'"));
        }
        for pattern in patterns {
            regex::Regex::new(pattern).map_err(|e| {
                // What is wrong stands in the last line of the picture that is drawn of it.
                let why = e.to_string().lines().last().unwrap_or_default().replace("error: ", "");
                Error::validation(format!("--topic {pattern}: {why}")).hint("a name or a regular expression")
            })?;
        }
        Ok(Topics(patterns.to_vec()))
    }

    /// Whether a topic is meant.
    pub fn contains(&self, topic: &str) -> bool {
        regex::Regex::new(&format!("^(?:{})$", self.pattern())).is_ok_and(|r| r.is_match(topic))
    }

    fn pattern(&self) -> String {
        self.0.iter().map(|p| format!("(?:{p})")).collect::<Vec<_>>().join("|")
    }

    /// Those that are names and no patterns: they have to be there.
    fn named(&self) -> impl Iterator<Item = &String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        self.0.iter().filter(move |p| p.chars().all(legal))
    }
}

/// A session with the catalog `tableflow`.
pub(crate) async fn session(config: &TableflowConfig) -> Result<Session> {
    let interval = format!("{} ms", config.commit_interval.as_millis().max(1));
    let mut set = vec![
        ("execution.runtime-mode".to_owned(), "streaming".to_owned()),
        ("execution.checkpointing.interval".to_owned(), interval),
        ("parallelism.default".to_owned(), config.parallelism.max(1).to_string()),
    ];
    set.extend(config.set.clone());
    let mut session = Session::new(SessionOptions { config: set, ..SessionOptions::default() })?;
    session.execute_sql(&config.create_catalog()).await?;
    Ok(session)
}

/// The topics there are now.
///
/// # Errors
/// External if the cluster does not answer, or has none of a topic that is named.
async fn discover(session: &mut Session, config: &TableflowConfig, topics: &Topics) -> Result<Vec<String>> {
    let table = pattern_table(&config.servers, &config.kafka, "topics_there_are", &topics.pattern());
    session.execute_sql(&table).await?;
    let found = resolved(session, "topics_there_are").await;
    session.execute_sql("DROP TEMPORARY TABLE topics_there_are").await?;
    let (table, env) = found?;
    tokio::task::spawn_blocking(move || kafka::topics(&table, &env)).await?
}

/// A table of the session, as its connector sees it.
async fn resolved(session: &Session, name: &str) -> Result<(ResolvedTable, ConnectorEnv)> {
    let name = Name { parts: vec![name.to_owned()], location: Location::default() };
    let CatalogObject::Table(def) = session.catalogs().get(&name).await? else {
        return Err(Error::internal("a table that is none"));
    };
    let table = ResolvedTable::new(def, &std::collections::BTreeMap::new())?;
    let env = ConnectorEnv {
        config: Arc::new(session.config().values().clone()),
        time_zone: session.config().time_zone()?,
        batch: false,
        base_dir: std::env::current_dir()?,
        notices: Notices::default(),
    };
    Ok((table, env))
}

/// What there is to be told of a run, as it happens.
pub trait Observer: Send + Sync {
    /// A topic has been found.
    fn topic(&self, status: &Arc<Status>);
    /// A topic has ended, with a failure if there is one.
    fn ended(&self, status: &Arc<Status>, failure: Option<&Error>);
    /// Something else.
    fn notice(&self, text: &str);
}

/// Of a run that does nothing.
struct Deaf;

impl Observer for Deaf {
    fn topic(&self, _: &Arc<Status>) {}
    fn ended(&self, _: &Arc<Status>, _: Option<&Error>) {}
    fn notice(&self, _: &str) {}
}

/// Runs the topics into their tables until `stop` is asked for, or with [`TableflowConfig::once`] until what was there is
/// committed. A topic that fails does not end the others.
///
/// Gives the number of topics that have failed.
///
/// # Errors
/// What keeps it from starting: bad options, no cluster, no catalog, a topic that does not exist.
pub async fn run(
    config: TableflowConfig,
    topics: &Topics,
    stop: StopHandle,
    observer: Arc<dyn Observer>,
) -> Result<usize> {
    config.check()?;
    let mut session = session(&config).await?;
    let found = discover(&mut session, &config, topics).await?;
    for name in topics.named() {
        if !found.contains(name) && config.once {
            return Err(Error::external(format!(
                "topic {name} does not exist on Kafka at {}",
                config.servers
            ))
            .hint("create it, or leave --once out to wait for it"));
        }
    }
    let common = Arc::new(Common::new(session, config, stop, Arc::clone(&observer)));
    let mut flows = Flows {
        common,
        observer,
        known: BTreeSet::new(),
        running: JoinSet::new(),
        failed: 0,
        maintaining: None,
    };
    flows.add(&found)?;
    flows.run(topics).await?;
    Ok(flows.failed)
}

/// The flows of a process.
struct Flows {
    common: Arc<Common>,
    observer: Arc<dyn Observer>,
    known: BTreeSet<String>,
    running: JoinSet<(Arc<Status>, Result<()>)>,
    failed: usize,
    maintaining: Option<JoinHandle<()>>,
}

impl Drop for Flows {
    fn drop(&mut self) {
        if let Some(task) = self.maintaining.take() {
            // Like a process that dies: what it leaves behind is swept the next time.
            task.abort();
        }
    }
}

impl Flows {
    /// Starts what is new.
    fn add(&mut self, topics: &[String]) -> Result<()> {
        let mut all: Vec<String> = self.known.iter().cloned().collect();
        all.extend(topics.iter().filter(|t| !self.known.contains(*t)).cloned());
        let routes = self.common.config.routes(&all)?;
        for route in routes {
            if !self.known.insert(route.topic.clone()) {
                continue;
            }
            let status = Arc::new(Status::new(route.clone()));
            self.observer.topic(&status);
            let flow = Flow::new(route, Arc::clone(&status), Arc::clone(&self.common));
            self.running.spawn(async move {
                let ended = flow.run().await;
                (status, ended)
            });
        }
        Ok(())
    }

    /// Keeps the tables small, beside the flows that write to them. What fails is told, and tried again the next time.
    fn maintain(&mut self) {
        let config = &self.common.config;
        let tables: BTreeSet<String> = self
            .known
            .iter()
            .map(|topic| config.route(topic))
            .map(|route| format!("{}.{}", route.namespace, route.table))
            .collect();
        let (catalog, observer) = (config.catalog.clone(), Arc::clone(&self.observer));
        self.maintaining = Some(tokio::spawn(async move {
            let mut each = |name: &str, done: Result<Maintained>| {
                if let Err(e) = done {
                    observer.notice(&format!("{name} could not be maintained: {e}"));
                }
            };
            let wanted = |name: &str| tables.contains(name);
            let base = std::env::current_dir().unwrap_or_default();
            let done = iceberg::maintain(&catalog, &base, &wanted, &Maintenance::default(), &mut each).await;
            if let Err(e) = done {
                observer.notice(&format!("tables could not be maintained: {e}"));
            }
        }));
    }

    async fn run(&mut self, topics: &Topics) -> Result<()> {
        let (once, stop) = (self.common.config.once, self.common.stop.clone());
        let mut ticks = tokio::time::interval(DISCOVER_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        let every = self.common.config.maintain_every;
        let mut chores = tokio::time::interval(every.unwrap_or(DISCOVER_EVERY));
        chores.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        chores.tick().await;
        let mut unseen = None;
        loop {
            tokio::select! {
                ended = self.running.join_next(), if !self.running.is_empty() => {
                    let Some(ended) = ended else { continue };
                    let (status, result) = ended?;
                    self.failed += usize::from(result.is_err());
                    self.observer.ended(&status, result.as_ref().err());
                }
                () = stop.stopped(), if self.running.is_empty() => return Ok(()),
                _ = chores.tick(), if every.is_some() && !once && !stop.is_stopped() => {
                    if self.maintaining.as_ref().is_none_or(JoinHandle::is_finished) {
                        self.maintain();
                    }
                }
                _ = ticks.tick(), if !once && !stop.is_stopped() => {
                    let mut session = self.common.session.lock().await;
                    let found = discover(&mut session, &self.common.config, topics).await;
                    drop(session);
                    match found {
                        Ok(found) => {
                            unseen = None;
                            if let Err(e) = self.add(&found) {
                                self.observer.notice(&e.to_string());
                            }
                        }
                        // The flows notice an outage themselves, and are none the wiser about topics that are kept from us.
                        Err(e) => {
                            let text = format!("new topics cannot be looked for, which is tried again: {e}");
                            if unseen.as_ref() != Some(&text) {
                                self.observer.notice(&text);
                            }
                            unseen = Some(text);
                            continue;
                        }
                    }
                }
                else => return Ok(()),
            }
            if self.running.is_empty()
                && (once || stop.is_stopped() || self.failed == self.known.len() && self.failed > 0)
            {
                return Ok(());
            }
        }
    }
}

/// The statements that a run would execute, with what is known by now.
///
/// # Errors
/// As [`run`].
pub async fn dry_run(config: TableflowConfig, topics: &Topics) -> Result<String> {
    config.check()?;
    let mut session = session(&config).await?;
    let found = discover(&mut session, &config, topics).await?;
    let routes = config.routes(&found)?;
    let mut text = format!("{};\n\n", config.create_catalog());
    let common = Arc::new(Common::new(session, config, StopHandle::new(), Arc::new(Deaf)));
    for route in routes {
        let status = Arc::new(Status::new(route.clone()));
        text += &Flow::new(route, status, Arc::clone(&common)).explain().await?;
        text.push('\n');
    }
    Ok(text)
}

/// Runs a statement that gives no rows.
async fn execute(session: &mut Session, sql: &str) -> Result<()> {
    match session.execute_sql(sql).await? {
        StatementResult::Insert(job) => job.wait().await.map(|_| ()),
        _ => Ok(()),
    }
}
