//! `tidelake tableflow`: topics into tables, and the proof.
//!
//! ```text
//!  arguments (args), or a file of them (file) ─► TableflowConfig ─► tableflow::run ─► shown, metrics
//!             ├ live: `tidelake run --tableflow FILE` ─► tableflow::live ─► views in the session
//!             ├ reprocess ─► tableflow::reprocess ─► a line per table
//!             ├ status ─► tableflow::standing ─► a line per table
//!             └ verify ─► tableflow::verify ─► a line per table, exit 0 only if all agree
//! ```

mod args;
mod file;
mod metrics;
mod shown;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::task::JoinSet;

use self::args::{ReprocessArgs, RunFlow, StatusArgs, TableflowCommand, VerifyArgs};
use self::shown::{Line, Shown};
use super::args::Format;
use super::http::Server;
use super::interrupt::Interrupts;
use super::progress::counted;
use super::stderr::say;
use crate::error::{Error, Result};
use crate::runtime::job::{JobNature, StopHandle};
use crate::session::Session;
use crate::tableflow::{self, Observer, Reprocessed, Topics, Verified};

pub(super) use self::args::TableflowArgs;

/// Makes the tables of a file of flows readable in a session, with the tails of their topics.
///
/// # Errors
/// Of the file, of Kafka and of the catalogs.
pub(super) async fn live(session: &mut Session, file: &Path) -> Result<()> {
    let mut flows = Vec::new();
    for flow in file::flows(file)? {
        let topics = Topics::new(&flow.topics)?;
        flows.push((flow.config()?, topics));
    }
    for told in tableflow::live(session, &flows).await? {
        say(&told);
    }
    Ok(())
}

pub(super) async fn main(args: TableflowArgs) -> ExitCode {
    let ended = match args.command {
        Some(TableflowCommand::Verify(args)) => verify(args).await,
        Some(TableflowCommand::Status(args)) => status(args).await,
        Some(TableflowCommand::Reprocess(args)) => reprocess(args).await,
        None => run(args.run).await,
    };
    ended.unwrap_or_else(|e| {
        say(&format!("error: {e}"));
        ExitCode::FAILURE
    })
}

async fn run(args: RunFlow) -> Result<ExitCode> {
    let interrupts = Interrupts::listen();
    let (once, dry_run, address) = (args.once, args.dry_run, args.metrics_addr);
    let flows = match args.config.clone() {
        Some(path) => file::read(&path, &args)?,
        None => vec![args],
    };
    let mut runs = Vec::with_capacity(flows.len());
    for flow in flows {
        let (topics, load) = (Topics::new(&flow.topics)?, flow.load.clone());
        let config = flow.config()?;
        for (topic, file) in load {
            tableflow::load(&config, &topic, std::path::Path::new(&file)).await?;
        }
        runs.push((config, topics));
    }
    if dry_run {
        for (config, topics) in runs {
            print!("{}", tableflow::dry_run(config, &topics).await?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let stop = StopHandle::new();
    interrupts.begin("tableflow had not begun".to_owned());
    // With --once, too, what has come so far is committed.
    let _guard = interrupts.guard_stop(JobNature { endless: true, ..JobNature::default() }, stop.clone());
    let shown = Arc::new(Shown::default());
    let _metrics = match address {
        Some(address) => Some(Server::serve(address, metrics::pages(&shown)).await?),
        None => None,
    };
    let line = Line::start(&shown);
    let mut all = JoinSet::new();
    for (config, topics) in runs {
        let (stop, shown) = (stop.clone(), Arc::clone(&shown) as Arc<dyn Observer>);
        all.spawn(async move { tableflow::run(config, &topics, stop, shown).await });
    }
    let (mut failed, mut first) = (0, None);
    while let Some(ended) = all.join_next().await {
        match ended? {
            Ok(topics) => failed += topics,
            // The others go on.
            Err(e) if all.is_empty() && first.is_none() => first = Some(e),
            Err(e) => {
                say(&format!("error: {e}"));
                failed += 1;
            }
        }
    }
    drop(line);
    if let Some(e) = first {
        return Err(e);
    }
    if let Some(signal) = interrupts.signal().filter(|_| once) {
        say("interrupted: what was there at the start is not all committed; run again it goes on");
        return Ok(ExitCode::from(signal.exit_code()));
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn status(args: StatusArgs) -> Result<ExitCode> {
    let catalog = args.catalog.options()?;
    let mut all = tableflow::standing(&catalog, &args.namespace).await?;
    if let Some(servers) = args.bootstrap_servers {
        let kafka = args.kafka_properties.into_iter().collect();
        tableflow::ask_for_lag(&servers, &kafka, &mut all).await?;
    }
    if all.is_empty() {
        return Err(Error::validation(format!("there is no table of tableflow in {}", args.namespace))
            .hint("--namespace names another one"));
    }
    for table in &all {
        match args.output {
            Format::Json => {
                println!("{}", serde_json::to_string(table).map_err(|e| Error::internal(e.to_string()))?)
            }
            _ => println!("{table}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn reprocess(args: ReprocessArgs) -> Result<ExitCode> {
    let wanted = match args.topics.is_empty() {
        true => None,
        false => Some(Topics::new(&args.topics)?),
    };
    let config = args.ends.config()?;
    let wanted = |topic: &str| wanted.as_ref().is_none_or(|topics| topics.contains(topic));
    let all = tableflow::reprocess(&config, wanted).await?;
    if all.is_empty() {
        return Err(Error::validation(format!("no table of {} has rescued records", config.namespace))
            .hint("--on-error rescue keeps bad records in their table; --namespace names another one"));
    }
    for Reprocessed { route, good, bad } in all {
        println!("{route}: {} made rows, {} still bad", counted(good, "record"), counted(bad, "record"));
    }
    Ok(ExitCode::SUCCESS)
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
