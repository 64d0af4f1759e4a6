//! Sessions as rows come, late ones too: against a list of sessions that is gone through for every row.

use std::collections::BTreeMap;

use super::*;

#[derive(Debug, Clone)]
struct Session {
    key: u64,
    start: i64,
    end: i64,
    values: Vec<i64>,
}

/// Takes a row into a list of sessions; false if it is late.
fn add(sessions: &mut Vec<Session>, watermark: i64, (time, key, value): (i64, u64, i64)) -> bool {
    let mut merged = Session { key, start: time, end: time + GAP, values: vec![value] };
    let (near, far): (Vec<Session>, Vec<Session>) =
        sessions.drain(..).partition(|s| s.key == key && s.start <= time + GAP && time <= s.end);
    *sessions = far;
    if near.is_empty() && watermark != i64::MIN && merged.end - 1 <= watermark {
        return false;
    }
    for session in near {
        merged.start = merged.start.min(session.start);
        merged.end = merged.end.max(session.end);
        merged.values.extend(session.values);
    }
    sessions.push(merged);
    true
}

fn show(session: &Session) -> String {
    let values = || session.values.iter();
    format!(
        "{} {} {} {} {} {} {}",
        session.start,
        session.end,
        session.key,
        session.values.len(),
        values().sum::<i64>(),
        values().min().unwrap(),
        values().max().unwrap()
    )
}

fn rows_of(output: &str) -> Vec<String> {
    output.lines().filter(|l| l.starts_with('+')).map(with_millis).collect()
}

/// Rows with their sessions, as one row a session.
fn as_sessions(output: &str) -> Vec<String> {
    let mut sessions: BTreeMap<(i64, i64, u64), Vec<i64>> = BTreeMap::new();
    for line in output.lines().filter(|l| l.starts_with('+')) {
        let words: Vec<&str> = line.split(' ').collect();
        let millis = |at: usize| crate::operators::harness::parse_time(words[at]);
        let key = (millis(4), millis(5), words[2].parse().unwrap());
        sessions.entry(key).or_default().push(words[3].parse().unwrap());
    }
    let session = |((start, end, key), values)| show(&Session { key, start, end, values });
    sessions.into_iter().map(session).collect()
}

fn check(seed: u64) {
    let dice = &mut Dice(seed * 7_919 + 1);
    let (mut aggregated, mut kept) = (aggregates(false), rows(vec![1], false));
    let mut sessions: Vec<Session> = Vec::new();
    let (mut watermark, mut late, mut now) = (i64::MIN, 0, 100_000);
    // Few keys have sessions that merge, many have some that end by themselves.
    let keys = [2, 5, 30][dice.roll(3) as usize];
    for step in 0..60 {
        let about = format!("seed {seed}, step {step}, watermark {watermark}");
        let batch: Vec<(i64, u64, i64)> = (0..dice.roll(8))
            .map(|_| {
                let behind = if dice.roll(6) == 0 { 60_000 } else { 8_000 };
                // On the second, so that some are just the gap apart.
                let time = (now + dice.roll(12_000) as i64 - dice.roll(behind) as i64) / 1000 * 1000;
                (time, dice.roll(keys), dice.roll(100) as i64)
            })
            .collect();
        late += batch.iter().filter(|row| !add(&mut sessions, watermark, **row)).count() as u64;
        let script: Vec<String> =
            batch.iter().map(|(t, k, v)| millis_as_time(&format!("+I {t} {k} {v}"))).collect();
        let script = script.join("\n");
        for harness in [&mut aggregated, &mut kept] {
            assert!(rows_of(&harness.run(&script)).is_empty(), "{about}: sessions end on watermarks");
            assert_eq!(harness.metrics().late_rows_dropped, late, "{about}\n{script}");
        }
        if dice.roll(5) == 0 {
            let barrier = format!("| {step} x{}", 1 + dice.roll(4));
            aggregated.run(&barrier);
            kept.run(&barrier);
            // Fresh subtasks count from zero.
            late = 0;
        }
        if dice.roll(2) == 0 {
            now += dice.roll(15_000) as i64;
            watermark = watermark.max((now - 6_000) / 1000 * 1000 - dice.roll(2) as i64);
            let (ended, open): (Vec<Session>, Vec<Session>) =
                sessions.into_iter().partition(|s| s.end - 1 <= watermark);
            sessions = open;
            let mut expected: Vec<String> = ended.iter().map(show).collect();
            expected.sort();
            let out = aggregated.run(&format!("~ {watermark}"));
            let mut got = rows_of(&out);
            got.sort();
            assert_eq!(got, expected, "{about}");
            let out = kept.run(&format!("~ {watermark}"));
            let mut got = as_sessions(&out);
            got.sort();
            assert_eq!(got, expected, "{about}");
            // Nothing is left of what has ended.
            let rows: usize = sessions.iter().map(|s| s.values.len()).sum();
            assert_eq!(kept.metrics().state_entries, rows as u64, "{about}");
            let pieces = aggregated.metrics().state_entries;
            assert!((sessions.len() as u64..=rows as u64).contains(&pieces), "{about}: {pieces} pieces");
        }
    }
    for harness in [&mut aggregated, &mut kept] {
        harness.run(".");
        assert_eq!(harness.metrics().state_entries, 0, "seed {seed}");
    }
}

#[test]
fn sessions_merge_end_and_refuse_late_rows_as_in_a_list_of_them() {
    for seed in 0..60 {
        check(seed);
    }
}
