//! Lengths of constant intervals.

use datafusion::common::ScalarValue;

/// Nanoseconds of an interval that is always as long: of days and shorter parts. Days have 24 hours, as no row time is in a
/// zone with other ones.
pub(super) fn nanoseconds(value: &ScalarValue) -> Option<i128> {
    const DAY: i128 = 86_400_000_000_000;
    match value {
        ScalarValue::IntervalMonthDayNano(Some(i)) if i.months == 0 => {
            Some(i128::from(i.days) * DAY + i128::from(i.nanoseconds))
        }
        ScalarValue::IntervalDayTime(Some(i)) => {
            Some(i128::from(i.days) * DAY + i128::from(i.milliseconds) * 1_000_000)
        }
        _ => None,
    }
}

/// The same in milliseconds, rounded down.
pub(super) fn milliseconds(value: &ScalarValue) -> Option<i64> {
    i64::try_from(nanoseconds(value)?.div_euclid(1_000_000)).ok()
}
