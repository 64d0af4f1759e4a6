//! `data/quickstart.sql` as a new user runs it, twice.

use std::time::Duration;

use super::support::{Place, finish, root, tidelake};

#[test]
fn quickstart_runs_and_can_be_run_again() {
    let place = Place::new();
    // A working directory of its own, so that the lake of a developer stays as it is.
    std::os::unix::fs::symlink(root().join("data"), place.path("data")).unwrap();
    for _ in 0..2 {
        let mut c = tidelake();
        c.current_dir(place.path("")).args(["run", "data/quickstart.sql", "--format", "json"]);
        let ran = finish(c, Duration::from_secs(120)).ok();
        let rows = ran.rows();
        assert_eq!(rows.len(), 10, "{}", ran.stdout);
        // Known from the data, worked out with another tool.
        let worst = &rows[0];
        assert_eq!(worst["window_start"], "2013-01-13 20:00:00", "{}", ran.stdout);
        assert_eq!(worst["origin"], "JFK", "{}", ran.stdout);
        assert_eq!((&worst["flights"], &worst["cancelled"]), (&15.into(), &3.into()), "{}", ran.stdout);
        assert_eq!(worst["max_delay"], 315, "{}", ran.stdout);
    }
    let metadata = std::fs::read_dir(place.path("target/quickstart-lake")).unwrap().count();
    assert!(metadata > 0, "the table is in target/quickstart-lake");
}

#[test]
fn quickstart_prints_a_table() {
    let place = Place::new();
    std::os::unix::fs::symlink(root().join("data"), place.path("data")).unwrap();
    let mut c = tidelake();
    c.current_dir(place.path("")).args(["run", "data/quickstart.sql"]);
    let ran = finish(c, Duration::from_secs(120)).ok();
    for name in ["window_start", "origin", "flights", "cancelled", "avg_delay", "max_delay"] {
        assert!(ran.stdout.contains(name), "{}", ran.stdout);
    }
}
