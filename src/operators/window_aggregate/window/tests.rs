use super::*;

const MINUTE: i64 = 60_000;

fn spec(kind: WindowKind, offset: i64) -> WindowSpec {
    let spec = WindowSpec { kind, offset, zone: None };
    spec.validate().unwrap();
    spec
}

#[test]
fn tumble() {
    let w = spec(WindowKind::Tumble { size: 10 }, 0);
    for (t, end) in [(0, 10), (9, 10), (10, 20), (-1, 0), (-10, 0), (-11, -10)] {
        assert_eq!(w.slice_end(t), end, "{t}");
        assert_eq!(w.last_window_end(end), end);
        assert_eq!(w.window_start(end), end - 10);
    }
    let w = spec(WindowKind::Tumble { size: 10 }, 3);
    for (t, end) in [(2, 3), (3, 13), (-7, 3), (-8, -7)] {
        assert_eq!(w.slice_end(t), end, "{t}");
    }
    assert_eq!(spec(WindowKind::Tumble { size: 10 }, -3).slice_end(7), 17);
}

#[test]
fn hop() {
    let w = spec(WindowKind::Hop { size: 10, slide: 2 }, 1);
    assert_eq!(w.slice_end(0), 1);
    assert_eq!(w.slice_end(1), 3);
    assert_eq!(w.last_window_end(3), 11);
    assert_eq!(w.window_start(11), 1);
}

#[test]
fn cumulate() {
    let w = spec(WindowKind::Cumulate { size: 10, step: 2 }, 1);
    assert_eq!(w.slice_end(1), 3);
    assert_eq!(w.last_window_end(3), 11);
    assert_eq!(w.last_window_end(11), 11);
    assert_eq!(w.last_window_end(13), 21);
    assert_eq!(w.window_start(3), 1);
    assert_eq!(w.window_start(11), 1);
    assert_eq!(w.window_start(13), 11);
}

#[test]
fn refused() {
    let bad = |kind, offset| WindowSpec { kind, offset, zone: None }.validate().unwrap_err().message();
    assert!(bad(WindowKind::Tumble { size: 0 }, 0).contains("positive"));
    assert!(bad(WindowKind::Tumble { size: 10 }, -10).contains("abs(offset) < size"));
    let uneven = WindowSpec { kind: WindowKind::Hop { size: 10, slide: 3 }, offset: 0, zone: None };
    assert!(uneven.validate_slices().unwrap_err().message().contains("integral multiple of slide"));
    assert!(bad(WindowKind::Session { gap: 0 }, 0).contains("gap to be positive"));
    assert!(bad(WindowKind::Cumulate { size: 10, step: 3 }, 0).contains("integral multiple of step"));
}

#[test]
fn extremes_do_not_overflow() {
    let w = spec(WindowKind::Hop { size: 10 * MINUTE, slide: MINUTE }, 5);
    for t in [i64::MIN, i64::MAX] {
        let end = w.slice_end(t);
        let _ = (w.last_window_end(end), w.window_start(end), w.due(end));
    }
    let mut clock = WallClock::new(Tz::Europe__Berlin);
    let _ = (clock.shift(i64::MIN), clock.shift(i64::MAX));
    let _ = timer_instant(Tz::Europe__Berlin, i64::MIN + 1);
}

fn at(text: &str) -> i64 {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap().and_utc().timestamp_millis()
}

#[test]
fn wall_clock_over_a_dst_change() {
    let mut clock = WallClock::new(Tz::America__Los_Angeles);
    assert_eq!(clock.shift(at("2021-11-07 08:30:00")), at("2021-11-07 01:30:00"));
    assert_eq!(clock.shift(at("2021-11-07 09:30:00")), at("2021-11-07 01:30:00"));
    assert_eq!(clock.shift(at("2021-11-07 10:30:00")), at("2021-11-07 02:30:00"));
    assert_eq!(clock.shift(at("2021-03-14 09:59:59")), at("2021-03-14 01:59:59"));
    assert_eq!(clock.shift(at("2021-03-14 10:00:00")), at("2021-03-14 03:00:00"));
    assert_eq!(clock.shift(at("2021-07-01 10:00:00")), at("2021-07-01 03:00:00"));
}

/// The cases of Flink's TimeWindowUtilTest.
#[test]
fn timers_over_a_dst_change() {
    let la = |text: &str| timer_instant(Tz::America__Los_Angeles, at(text));
    assert_eq!(la("2021-03-14 00:00:00"), 1_615_708_800_000);
    assert_eq!(la("2021-03-14 01:00:00"), 1_615_712_400_000);
    for t in ["02:00:00", "02:30:00", "02:59:59", "03:00:00"] {
        assert_eq!(la(&format!("2021-03-14 {t}")), 1_615_716_000_000, "{t}");
    }
    assert_eq!(la("2021-03-14 04:00:00"), 1_615_719_600_000);
    assert_eq!(la("2021-11-07 00:00:00"), 1_636_268_400_000);
    // 01:00 comes twice; the later one counts.
    assert_eq!(la("2021-11-07 01:00:00"), 1_636_275_600_000);
    assert_eq!(la("2021-11-07 02:00:00"), 1_636_279_200_000);
}

#[test]
fn instants_in_gaps_and_overlaps() {
    let la = |text: &str| to_instant(Tz::America__Los_Angeles, at(text));
    assert_eq!(la("2021-11-07 01:30:00"), at("2021-11-07 08:30:00"));
    assert_eq!(la("2021-03-14 02:30:00"), at("2021-03-14 10:30:00"));
    // Samoa had no 30 December 2011.
    assert_eq!(to_instant(Tz::Pacific__Apia, at("2011-12-30 12:00:00")), at("2011-12-30 22:00:00"));
}
