//! `'connector' = 'nexmark'`: the events of the Nexmark benchmark, with the table, the options and the event semantics
//! of nexmark-flink, so that its DDL runs unchanged.
//!
//! ```text
//!  event numbers ─► segments (runs of persons, auctions, bids) ─► one loop per column that is read ─► Arrow
//! ```
//!
//! An event is a function of its number and the seed (nexmark-flink seeds nothing and gives each subtask a timeline of
//! its own): any parallelism gives the same rows, in batch as in streaming. Two options of our own make them the same
//! from run to run: `base-time` (default: now) and `seed` (default 0).
//!
//! `rate.shape`, `rate.period`, `rate.limited` and `next-event.rate` are understood and change nothing, exactly as in
//! nexmark-flink, whose generator reads `first-event.rate` alone.

mod bid;
mod columns;
mod person_auction;
mod schema;
mod segments;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use crate::catalog::ResolvedTable;
use crate::connectors::synthetic::pace::{Pace, takes_time};
use crate::connectors::synthetic::{self, BLOCK_ROWS, Origin, Plan};
use crate::connectors::{ConnectorFactory, not_a};
use crate::edges::{ConnectorEnv, ScanRequest, Sink, Source, SourceReader, SplitState};
use crate::error::{Error, Result};
use crate::options::Options;

use columns::Events;
use segments::EventKind;

/// Makes `nexmark` sources.
#[derive(Debug, Default)]
pub struct NexmarkFactory;

impl ConnectorFactory for NexmarkFactory {
    fn identifier(&self) -> &'static str {
        "nexmark"
    }

    fn source(&self, table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        synthetic::refuse_metadata(table, "nexmark")?;
        schema::check(table)?;
        let (config, base_time, seed) = Config::read(table)?;
        let base_time = base_time.unwrap_or_else(|| chrono::Utc::now().timestamp_millis());
        let origin = Origin { seed, base_time };
        Ok(Arc::new(NexmarkSource { schema: table.scan_schema(), config, origin }))
    }

    fn sink(&self, table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        Err(not_a("sink", table, "nexmark"))
    }
}

/// The options that shape events.
#[derive(Debug, Clone)]
struct Config {
    rate: u32,
    person_size: i64,
    auction_size: i64,
    bid_size: i64,
    persons: u32,
    auctions: u32,
    bids: u32,
    hot_auctions: u32,
    hot_bidders: u32,
    hot_sellers: u32,
    /// `u64::MAX` for no end.
    events: u64,
    keep_alive: bool,
    max_speed: bool,
}

impl Config {
    fn read(table: &ResolvedTable) -> Result<(Self, Option<i64>, u64)> {
        let options = Options::new(&table.def.path, "nexmark", &table.options);
        let count = |key: &str, default: u32, least: u32| -> Result<u32> {
            let value = options.parse::<i32>(key, "a whole number")?;
            let value = value.map_or(Ok(default), |v| u32::try_from(v).map_err(|_| v.to_string()));
            match value {
                Ok(v) if v >= least => Ok(v),
                Ok(v) => Err(options.invalid(key, &v.to_string(), &format!("at least {least}"))),
                Err(v) => Err(options.invalid(key, &v, &format!("at least {least}"))),
            }
        };
        let size = |key: &str, default: i64| -> Result<i64> {
            Ok(options.bytes(key)?.map_or(default, |b| i64::try_from(b).unwrap_or(i64::MAX).min(1 << 19)))
        };
        options.one_of("rate.shape", &["SQUARE", "SINE"])?;
        options.duration("rate.period")?;
        options.bool("rate.limited", false)?;
        count("next-event.rate", 10_000, 1)?;
        let number = |key: &str, none: i64| -> Result<Option<u64>> {
            match options.parse::<i64>(key, "a whole number")? {
                Some(v) if v < 0 && v != none => {
                    Err(options.invalid(key, &v.to_string(), "a number that is not negative"))
                }
                Some(v) => Ok(u64::try_from(v).ok().filter(|_| v != none)),
                None => Ok(None),
            }
        };
        let events = number("events.num", 0)?;
        let stop_at = number("stop-at", -1)?;
        let config = Config {
            rate: count("first-event.rate", 10_000, 1)?,
            person_size: size("person.avg-size", 200)?,
            auction_size: size("auction.avg-size", 500)?,
            bid_size: size("bid.avg-size", 100)?,
            persons: count("person.proportion", 1, 0)?,
            auctions: count("auction.proportion", 3, 0)?,
            bids: count("bid.proportion", 46, 0)?,
            hot_auctions: count("bid.hot-ratio.auctions", 2, 1)?,
            hot_bidders: count("bid.hot-ratio.bidders", 4, 1)?,
            hot_sellers: count("auction.hot-ratio.sellers", 4, 1)?,
            events: events.unwrap_or(u64::MAX).min(stop_at.unwrap_or(u64::MAX)),
            keep_alive: options.bool("keep-alive", false)?,
            max_speed: options.bool("max-emit-speed", true)?,
        };
        let base_time = match options.take("base-time") {
            None => None,
            Some(text) => Some(synthetic::parse_time(&text).ok_or_else(|| {
                options.invalid("base-time", &text, "milliseconds since the epoch or 'YYYY-MM-DD HH:MM:SS'")
            })?),
        };
        let seed = options.parse::<u64>("seed", "a whole number")?.unwrap_or(0);
        options.finish()?;
        if config.total() == 0 {
            return Err(Error::validation(format!(
                "table {}: the proportions of persons, auctions and bids are all 0",
                table.def.path
            )));
        }
        Ok((config, base_time, seed))
    }

    fn total(&self) -> u64 {
        u64::from(self.persons) + u64::from(self.auctions) + u64::from(self.bids)
    }

    fn count_of(&self, kind: EventKind) -> u32 {
        match kind {
            EventKind::Person => self.persons,
            EventKind::Auction => self.auctions,
            EventKind::Bid => self.bids,
        }
    }

    /// Microseconds between events.
    fn delay(&self) -> f64 {
        1_000_000.0 / f64::from(self.rate)
    }
}

#[derive(Debug)]
struct NexmarkSource {
    schema: SchemaRef,
    config: Config,
    origin: Origin,
}

#[async_trait]
impl Source for NexmarkSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn bounded(&self) -> bool {
        self.config.events != u64::MAX && !self.config.keep_alive
    }

    fn paced(&self) -> bool {
        !self.config.max_speed && takes_time(self.config.events, f64::from(self.config.rate))
    }

    async fn readers(
        &self,
        scan: ScanRequest,
        parallelism: usize,
        restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let (lanes, origin) = match synthetic::restore(restored.as_deref().unwrap_or_default())? {
            Some((lanes, origin)) => (Some(lanes), origin),
            None => (None, self.origin),
        };
        let events = Events::new(self.config.clone(), origin, &self.schema, &scan)?;
        let (pace, block) = if self.config.max_speed {
            (Pace::Unlimited, BLOCK_ROWS)
        } else {
            // Small blocks: the readers share one timeline, and each is ahead of the others by its block.
            let block = u64::from(self.config.rate / 50).clamp(1, BLOCK_ROWS);
            (Pace::Timeline { micros: self.config.delay(), start: None }, block)
        };
        let plan = Plan {
            generator: Arc::new(events),
            origin,
            end: self.config.events,
            keep_alive: self.config.keep_alive,
            pace,
            block,
        };
        Ok(plan.readers(&scan, parallelism, lanes))
    }
}

#[cfg(test)]
mod tests;
