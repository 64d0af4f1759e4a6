//! Differential tests: random queries over random histories, in batch and in streaming.
//!
//! ```text
//!  seed ─► tables (inserts, updates, deletes in splits) ─► query (operators up to four deep) ─► settings
//!            │ rows that are left ─► batch ─► rows ─┐
//!            └ changelog ─► streaming ─► changes ─► rows that they leave ─┴─► the same
//! ```
//!
//! Some tables have a row time; their rows come out of order, and queries over them use windows, joins over time, patterns
//! and OVER (`timed`, with a file for each family). Expressions call functions of users (`functions`).
//!
//! A streaming run has parallelism 1, 2 or 4 and bundles of a batch, one row or three; half of them are stopped after
//! some batches of every split and go on from the snapshot in a fresh job, mostly at another parallelism, up to three times.
//!
//! | variable | what |
//! |---|---|
//! | `TIDELAKE_DIFFERENTIAL_CASES` | number of cases |
//! | `TIDELAKE_DIFFERENTIAL_SEED` | the first seed; the others follow it |
//! | `TIDELAKE_DIFFERENTIAL_SECONDS` | end after so many seconds, whatever the number of cases |
//! | `TIDELAKE_DIFFERENTIAL_ONLY` | the one construct of `timed::CONSTRUCTS` that is wanted: other cases for the same seeds |
//! | `TIDELAKE_DIFFERENTIAL_EXPORT` | a folder: the cases are not run, but written there as `.slt` files for the oracle |
//!
//! A case that differs is made small and printed with its seed; the seed with one case shows it again.

mod chains;
mod export;
mod expr;
mod functions;
mod intervals;
mod minimize;
mod over;
mod patterns;
mod query;
pub(crate) mod random;
mod ranks;
pub(crate) mod run;
pub(crate) mod source;
mod tables;
mod temporal;
mod timed;
mod timed_tables;
mod windows;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use run::{Case, Outcome};

/// Cases in an ordinary run of the tests.
const CASES: u64 = 400;
/// Failures after which a run ends.
const FAILURES: usize = 5;

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(format!("TIDELAKE_DIFFERENTIAL_{name}")).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value}")))
}

fn only() -> Option<&'static str> {
    let wanted = std::env::var("TIDELAKE_DIFFERENTIAL_ONLY").ok()?;
    let found = timed::CONSTRUCTS.iter().find(|(name, _)| *name == wanted);
    Some(found.unwrap_or_else(|| panic!("{wanted} is no construct of timed::CONSTRUCTS")).0)
}

fn say(text: &str) {
    // Past the capture of the test harness: seeds are wanted of passing runs too.
    writeln!(std::io::stderr(), "note: {text}").ok();
}

#[test]
fn streaming_leaves_the_rows_of_batch() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .thread_stack_size(8 << 20)
        .build()
        .expect("a runtime");
    let failures = runtime.block_on(async { tokio::spawn(run_all()).await.expect("no panic") });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

async fn run_all() -> Vec<String> {
    let first = variable("SEED").unwrap_or(1);
    let cases = variable("CASES").unwrap_or(CASES);
    let until = variable("SECONDS").map(|s| Instant::now() + Duration::from_secs(s));
    let only = only();
    let folder = std::env::var_os("TIDELAKE_DIFFERENTIAL_EXPORT").map(std::path::PathBuf::from);
    let started = Instant::now();
    // Cases that were the same, by construct.
    let mut constructs: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut same, mut with_rows, mut run) = (0, 0, 0);
    // Why, how often, and the first seed.
    let mut refused: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut failures = Vec::new();
    for seed in first..first + cases {
        if until.is_some_and(|t| Instant::now() > t) || failures.len() >= FAILURES {
            break;
        }
        run += 1;
        let case = Case::random(seed, only);
        if cases == 1 {
            say(&case.to_string());
        }
        if let Some(folder) = &folder {
            export::write(&case, seed, folder).expect("a file is written");
            continue;
        }
        match run::run(&case).await {
            Outcome::Same(rows) => {
                same += 1;
                with_rows += u64::from(rows > 0);
                for construct in case.constructs() {
                    *constructs.entry(construct).or_default() += 1;
                }
            }
            Outcome::Refused(why) => refused.entry(why).or_insert((0, seed)).0 += 1,
            Outcome::Different(difference) => {
                let small = minimize::minimize(case.clone()).await;
                let small = minimize::report(&small).await;
                let failure = format!("seed {seed}\n{case}\n{difference}\nmade small:\n{small}");
                say(&failure);
                failures.push(failure);
            }
        }
    }
    say(&format!(
        "differential: {run} cases from seed {first}, {same} the same ({with_rows} with rows), {} different, {} not run, {:.1} s",
        failures.len(),
        refused.values().map(|(n, _)| n).sum::<u64>(),
        started.elapsed().as_secs_f64()
    ));
    let by_construct: Vec<String> = constructs.iter().map(|(name, n)| format!("{name} {n}")).collect();
    say(&format!("the same, by construct: {}", by_construct.join(", ")));
    let mut reasons: Vec<(&String, &(u64, u64))> = refused.iter().collect();
    reasons.sort_by_key(|(_, n)| std::cmp::Reverse(n.0));
    for (reason, (n, seed)) in reasons.into_iter().take(if cases > CASES { 30 } else { 12 }) {
        say(&format!(
            "not run, {n} times, first of seed {seed}: {}",
            reason.lines().next().unwrap_or_default()
        ));
    }
    failures
}
