//! The SQL tests, and tests through the built binary.
//!
//! | module | what |
//! |---|---|
//! | [`files`] | every `.slt` file of this folder: in batch, in streaming at several parallelisms and bundle sizes, restored, with state on disk |
//! | [`quickstart`] | `data/quickstart.sql` as a new user runs it |
//! | [`bad_input`] | what is wrong gives one clear error, exit code 1, no panic and no half-visible file |
//! | [`catalogs`] | processes that create the same thing at once, the job of the README |
//! | [`changelog_modes`] | what kinds of changes each operator sends |
//! | [`checkpoints`] | jobs that are killed, stopped, started twice and changed |
//! | [`commits`] | what is seen before the end of a job |
//! | [`databases`] | tables of PostgreSQL and MariaDB, read, looked up and written |
//! | [`event_time`] | event time that stands still or has run away |
//! | [`large_text`] | texts of 1 MB, more of them than fit memory or a column |
//! | [`memory`] | what a process holds under `--memory` |
//! | [`recovery`] | jobs whose broker, catalog, store or disk fails for a while |
//! | [`savepoints`] | savepoints taken, started from, copied and read |
//! | [`signals`] | Ctrl-C and SIGTERM |
//! | [`outages`] | a Kafka broker that goes away |
//! | [`pipes`] | standard input and named pipes as tables |
//! | [`examples`] | the pages show what the examples print |
//! | [`pipelines`] | Kafka to windows to Iceberg, on real services where they are given |
//! | [`tableflow`] | topics that become tables, killed and fenced and evolved on the way |
//! | [`startup`] | time to run two lines |
//! | [`crash`] | a job killed again and again on real services: nothing lost, nothing twice |
//! | [`differential`] | random queries over random changelogs, streaming against batch |
//! | [`layers`] | imports between the folders of `src` go one way |
//! | [`tpch`] | TPC-H over changing tables, streaming against batch |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, reason = "tests wait for the world outside")]

mod e2e {
    pub(crate) mod bad_input;
    pub(crate) mod catalogs;
    pub(crate) mod changelog_modes;
    pub(crate) mod checkpoints;
    pub(crate) mod commits;
    pub(crate) mod databases;
    pub(crate) mod event_time;
    pub(crate) mod examples;
    pub(crate) mod files;
    pub(crate) mod large_text;
    pub(crate) mod memory;
    pub(crate) mod outages;
    pub(crate) mod pipelines;
    pub(crate) mod pipes;
    pub(crate) mod quickstart;
    pub(crate) mod recovery;
    pub(crate) mod savepoints;
    pub(crate) mod signals;
    pub(crate) mod startup;
    pub(crate) mod support;
    pub(crate) mod tableflow;
    pub(crate) mod tableflow_records;
}

mod crash;
mod differential;
mod layers;
mod tpch;
