//! `run` on a file of two lines starts and ends quickly.

use std::io::Write;
use std::time::Duration;

use super::support::{Place, finish, tidelake};

#[test]
fn two_lines_run_in_a_tenth_of_a_second() {
    let place = Place::new();
    let script = place.write("two.sql", "SELECT 1;\nSELECT 2;\n");
    // The best of many: other tests run at the same time.
    let mut best = Duration::MAX;
    for _ in 0..30 {
        let mut c = tidelake();
        c.arg("run").arg(&script);
        best = best.min(finish(c, Duration::from_secs(60)).ok().elapsed);
        if best < Duration::from_millis(50) {
            break;
        }
    }
    writeln!(std::io::stderr(), "note: `run` on a file of two lines took {} ms at best", best.as_millis())
        .ok();
    if !cfg!(debug_assertions) {
        assert!(best < Duration::from_millis(100), "start-up took {best:?}");
    }
}
