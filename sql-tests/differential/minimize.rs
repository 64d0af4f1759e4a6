//! Makes a failing case small: fewer changes first, then a simpler query, then fewer changes again.

use super::query::{Op, Rel};
use super::run::{Case, Outcome, run};
use super::tables::Table;

/// Runs there may be.
const RUNS: usize = 600;

/// The smallest case found that still gives different answers.
pub(crate) async fn minimize(mut case: Case) -> Case {
    let mut runs = RUNS;
    loop {
        let before = size(&case);
        simplify_settings(&mut case, &mut runs).await;
        simplify_query(&mut case, &mut runs).await;
        drop_changes(&mut case, &mut runs).await;
        if size(&case) == before || runs == 0 {
            return case;
        }
    }
}

fn size(case: &Case) -> (usize, usize, bool, usize) {
    let changes = case.tables.iter().flat_map(|t| &t.splits).map(Vec::len).sum();
    (case.query.size(), changes, !case.settings.restarts.is_empty(), case.settings.parallelism)
}

async fn fails(case: &Case, runs: &mut usize) -> bool {
    if *runs == 0 {
        return false;
    }
    *runs -= 1;
    // Some failures depend on which task is first.
    for _ in 0..2 {
        if run(case).await.is_different() {
            return true;
        }
    }
    false
}

async fn simplify_settings(case: &mut Case, runs: &mut usize) {
    let mut attempts: Vec<Case> = Vec::new();
    let mut with = |change: &dyn Fn(&mut Case)| {
        let mut attempt = case.clone();
        change(&mut attempt);
        attempts.push(attempt);
    };
    with(&|c| {
        c.settings = super::run::Settings {
            parallelism: 1,
            bundle: None,
            phases: "ONE_PHASE",
            restarts: Vec::new(),
            memory: None,
            early: false,
            zone: c.settings.zone,
        }
    });
    with(&|c| c.settings.restarts.clear());
    with(&|c| c.settings.memory = None);
    with(&|c| c.settings.early = false);
    with(&|c| c.settings.bundle = None);
    with(&|c| c.settings.phases = "ONE_PHASE");
    with(&|c| c.settings.parallelism = 1);
    for attempt in attempts {
        if format!("{:?}", attempt.settings) != format!("{:?}", case.settings) && fails(&attempt, runs).await
        {
            *case = attempt;
            break;
        }
    }
}

/// Removes runs of changes, long ones first.
async fn drop_changes(case: &mut Case, runs: &mut usize) {
    for table in 0..case.tables.len() {
        for split in 0..case.tables[table].splits.len() {
            let mut length = case.tables[table].splits[split].len();
            while length > 0 {
                let mut from = 0;
                while from < case.tables[table].splits[split].len() {
                    let mut attempt = case.clone();
                    let changed: &mut Table = &mut attempt.tables[table];
                    let changes = &mut changed.splits[split];
                    let to = (from + length).min(changes.len());
                    changes.drain(from..to);
                    changed.make_consistent();
                    if fails(&attempt, runs).await {
                        *case = attempt;
                    } else {
                        from += length;
                    }
                    if *runs == 0 {
                        return;
                    }
                }
                length /= 2;
            }
        }
    }
}

/// Puts inputs in the place of relations with the same columns, and leaves out parts of relations.
async fn simplify_query(case: &mut Case, runs: &mut usize) {
    let mut at = 0;
    loop {
        let simpler = simplifications(&case.query);
        let Some(query) = simpler.get(at) else { return };
        let attempt = Case { query: query.clone(), ..case.clone() };
        if fails(&attempt, runs).await {
            *case = attempt;
            at = 0;
        } else {
            at += 1;
        }
        if *runs == 0 {
            return;
        }
    }
}

/// Queries with one thing less, simplest first.
fn simplifications(rel: &Rel) -> Vec<Rel> {
    // Any part of it, if that fails too.
    let mut found: Vec<Rel> = rel.inputs.clone();
    found.extend(simpler(rel));
    found
}

/// Relations with the columns of `rel` and less in it.
fn simpler(rel: &Rel) -> Vec<Rel> {
    let mut found: Vec<Rel> = rel.inputs.iter().filter(|i| i.types == rel.types).cloned().collect();
    let with = |change: &dyn Fn(&mut Op)| {
        let mut op = rel.op.clone();
        change(&mut op);
        Rel { op, ..rel.clone() }
    };
    match &rel.op {
        Op::Select { condition, distinct, .. } => {
            if condition.is_some() {
                found.push(with(&|op| {
                    if let Op::Select { condition, .. } = op {
                        *condition = None;
                    }
                }));
            }
            if *distinct {
                found.push(with(&|op| {
                    if let Op::Select { distinct, .. } = op {
                        *distinct = false;
                    }
                }));
            }
        }
        Op::Aggregate { having: Some(_), .. } => found.push(with(&|op| {
            if let Op::Aggregate { having, .. } = op {
                *having = None;
            }
        })),
        Op::Join { residual: Some(_), .. } => found.push(with(&|op| {
            if let Op::Join { residual, .. } = op {
                *residual = None;
            }
        })),
        Op::Semi { residual: Some(_), .. } => found.push(with(&|op| {
            if let Op::Semi { residual, .. } = op {
                *residual = None;
            }
        })),
        Op::Union if rel.inputs.len() > 2 => {
            for i in 0..rel.inputs.len() {
                let mut less = rel.clone();
                less.inputs.remove(i);
                found.push(less);
            }
        }
        _ => {}
    }
    for (i, input) in rel.inputs.iter().enumerate() {
        for simpler in simpler(input) {
            let mut less = rel.clone();
            less.inputs[i] = simpler;
            found.push(less);
        }
    }
    found
}

/// The case as it is reported, with the difference.
pub(crate) async fn report(case: &Case) -> String {
    for _ in 0..3 {
        if let Outcome::Different(difference) = run(case).await {
            return format!("{case}\n{difference}");
        }
    }
    format!("{case}\n  (the difference does not show every time)")
}
