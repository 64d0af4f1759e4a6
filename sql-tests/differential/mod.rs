//! Differential tests: random queries over random histories, in batch and in streaming.
//!
//! ```text
//!  seed ─► tables (inserts, updates, deletes in splits) ─► query (operators up to four deep) ─► settings
//!            │ rows that are left ─► batch ─► rows ─┐
//!            └ changelog ─► streaming ─► changes ─► rows that they leave ─┴─► the same
//! ```
//!
//! Some tables have a row time; their rows come out of order, and queries over them use windows, joins over time and OVER
//! (`timed`).
//!
//! A streaming run has parallelism 1, 2 or 4 and bundles of a batch, one row or three; half of them are stopped after
//! some batches of every split and go on from the snapshot in a fresh job, mostly at another parallelism.
//!
//! | variable | what |
//! |---|---|
//! | `TIDELAKE_DIFFERENTIAL_CASES` | number of cases |
//! | `TIDELAKE_DIFFERENTIAL_SEED` | the first seed; the others follow it |
//! | `TIDELAKE_DIFFERENTIAL_SECONDS` | end after so many seconds, whatever the number of cases |
//!
//! A case that differs is made small and printed with its seed; the seed with one case shows it again.

mod expr;
mod minimize;
mod query;
pub(crate) mod random;
pub(crate) mod run;
pub(crate) mod source;
mod tables;
mod timed;

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
    let started = Instant::now();
    let (mut same, mut run) = (0, 0);
    // Why, how often, and the first seed.
    let mut refused: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut failures = Vec::new();
    for seed in first..first + cases {
        if until.is_some_and(|t| Instant::now() > t) || failures.len() >= FAILURES {
            break;
        }
        run += 1;
        let case = Case::random(seed);
        if cases == 1 {
            say(&case.to_string());
        }
        match run::run(&case).await {
            Outcome::Same => same += 1,
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
        "differential: {run} cases from seed {first}, {same} the same, {} different, {} not run, {:.1} s",
        failures.len(),
        refused.values().map(|(n, _)| n).sum::<u64>(),
        started.elapsed().as_secs_f64()
    ));
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
