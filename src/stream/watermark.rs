//! Combining watermarks: the minimum over active inputs, never backwards.
//!
//! Used twice: over the splits of a source reader and over the input channels of a task.

use crate::stream::{Activity, Timestamp};

#[derive(Debug, Clone, Copy)]
struct Input {
    watermark: Timestamp,
    activity: Activity,
    ended: bool,
}

/// What changed after an update.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// The combined watermark rose to this.
    pub watermark: Option<Timestamp>,
    /// The combined activity changed to this.
    pub activity: Option<Activity>,
}

/// Watermarks of a set of inputs and their combination.
///
/// Ended inputs count as [`Timestamp::MAX`]. Idle inputs are ignored while another one is active; when the last active
/// input goes idle, the result first rises to the maximum of all inputs that are idle (Flink's valve does the same),
/// then the whole becomes idle.
#[derive(Debug, Default)]
pub struct WatermarkTracker {
    inputs: Vec<Input>,
    /// Indices of forgotten inputs.
    free: Vec<usize>,
    combined: Option<Timestamp>,
    idle: bool,
}

impl WatermarkTracker {
    /// `n` active inputs without watermark.
    pub fn new(n: usize) -> Self {
        let mut tracker = WatermarkTracker::default();
        for _ in 0..n {
            tracker.add();
        }
        tracker
    }

    /// Adds an active input without watermark and gives its index.
    pub fn add(&mut self) -> usize {
        let input = Input { watermark: Timestamp::MIN, activity: Activity::Active, ended: false };
        match self.free.pop() {
            Some(i) if i < self.inputs.len() => {
                self.inputs[i] = input;
                i
            }
            _ => {
                self.inputs.push(input);
                self.inputs.len() - 1
            }
        }
    }

    /// Inputs whose watermarks are held.
    pub fn len(&self) -> usize {
        self.inputs.len() - self.free.len()
    }

    /// Whether there is no input.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The combined watermark.
    pub fn current(&self) -> Timestamp {
        self.combined.unwrap_or(Timestamp::MIN)
    }

    /// Whether all open inputs are idle.
    pub fn activity(&self) -> Activity {
        if self.idle { Activity::Idle } else { Activity::Active }
    }

    /// The combination of inputs that have come so far.
    pub fn combined(inputs: &[(Timestamp, Activity)]) -> Timestamp {
        let mut tracker = WatermarkTracker::new(inputs.len());
        for (input, (watermark, _)) in inputs.iter().enumerate() {
            tracker.on_watermark(input, *watermark);
        }
        for (input, (_, activity)) in inputs.iter().enumerate() {
            tracker.on_activity(input, *activity);
        }
        tracker.current()
    }

    /// Sets the combined watermark at restore.
    pub fn restore(&mut self, watermark: Timestamp) {
        self.combined = (watermark > Timestamp::MIN).then_some(watermark);
    }

    /// Whether all inputs have ended.
    pub fn all_ended(&self) -> bool {
        self.inputs.iter().all(|i| i.ended)
    }

    /// Input `i` reached `watermark`; a lower one than before is ignored.
    pub fn on_watermark(&mut self, i: usize, watermark: Timestamp) -> Change {
        if let Some(input) = self.inputs.get_mut(i) {
            input.watermark = input.watermark.max(watermark);
        }
        self.combine()
    }

    /// Input `i` became idle or active.
    pub fn on_activity(&mut self, i: usize, activity: Activity) -> Change {
        if let Some(input) = self.inputs.get_mut(i) {
            input.activity = activity;
        }
        self.combine()
    }

    /// Input `i` has ended.
    pub fn on_end(&mut self, i: usize) -> Change {
        if let Some(input) = self.inputs.get_mut(i) {
            input.ended = true;
        }
        self.combine()
    }

    /// Input `i` has ended and its index may be given to another: what comes and goes in any number (the splits of a
    /// source) costs by what is open.
    pub fn forget(&mut self, i: usize) -> Change {
        let change = self.on_end(i);
        if i < self.inputs.len() {
            self.free.push(i);
        }
        change
    }

    fn combine(&mut self) -> Change {
        let mut change = Change::default();
        let open = || self.inputs.iter().filter(|i| !i.ended);
        let active_minimum = open().filter(|i| i.activity == Activity::Active).map(|i| i.watermark).min();
        let (candidate, idle) = match active_minimum {
            Some(minimum) => (Some(minimum), false),
            // All ended: the maximum. All that are left are idle: what the last of them had reached.
            None if open().next().is_none() => (Some(Timestamp::MAX), false),
            None => (open().map(|i| i.watermark).max(), true),
        };
        if let Some(candidate) = candidate
            && candidate > self.current()
        {
            self.combined = Some(candidate);
            change.watermark = Some(candidate);
        }
        if idle != self.idle {
            self.idle = idle;
            change.activity = Some(if idle { Activity::Idle } else { Activity::Active });
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minimum_of_active_inputs_never_backwards() {
        let mut t = WatermarkTracker::new(2);
        assert_eq!(t.on_watermark(0, Timestamp(10)), Change::default());
        assert_eq!(t.on_watermark(1, Timestamp(5)).watermark, Some(Timestamp(5)));
        assert_eq!(t.on_watermark(1, Timestamp(3)), Change::default());
        assert_eq!(t.on_watermark(1, Timestamp(20)).watermark, Some(Timestamp(10)));
    }

    #[test]
    fn idle_inputs_are_ignored_and_the_last_one_releases_the_rest() {
        let mut t = WatermarkTracker::new(2);
        t.on_watermark(0, Timestamp(10));
        t.on_watermark(1, Timestamp(5));
        assert_eq!(t.on_activity(1, Activity::Idle).watermark, Some(Timestamp(10)));
        let last = t.on_activity(0, Activity::Idle);
        assert_eq!(last, Change { watermark: None, activity: Some(Activity::Idle) });
        // Input 1 comes back behind the combined watermark: nothing goes backwards.
        assert_eq!(
            t.on_activity(1, Activity::Active),
            Change { watermark: None, activity: Some(Activity::Active) }
        );
        assert_eq!(t.on_watermark(1, Timestamp(12)).watermark, Some(Timestamp(12)));
    }

    #[test]
    fn the_last_active_input_going_idle_releases_the_highest_idle_one() {
        let mut t = WatermarkTracker::new(2);
        t.on_watermark(0, Timestamp(3));
        t.on_watermark(1, Timestamp(30));
        assert_eq!(t.on_activity(1, Activity::Idle), Change::default());
        let last = t.on_activity(0, Activity::Idle);
        assert_eq!(last, Change { watermark: Some(Timestamp(30)), activity: Some(Activity::Idle) });
    }

    #[test]
    fn inputs_are_combined_as_they_stand() {
        use Activity::{Active, Idle};
        let combined = WatermarkTracker::combined;
        assert_eq!(combined(&[]), Timestamp::MIN);
        assert_eq!(combined(&[(Timestamp(7), Active), (Timestamp(5), Active)]), Timestamp(5));
        assert_eq!(combined(&[(Timestamp::MIN, Idle), (Timestamp(5), Active)]), Timestamp(5));
        assert_eq!(combined(&[(Timestamp(9), Idle), (Timestamp(5), Active)]), Timestamp(5));
        assert_eq!(combined(&[(Timestamp(9), Idle), (Timestamp(5), Idle)]), Timestamp(9));
    }

    #[test]
    fn forgotten_inputs_make_room() {
        let mut t = WatermarkTracker::default();
        let first = t.add();
        assert_eq!(t.on_watermark(first, Timestamp(5)).watermark, Some(Timestamp(5)));
        for i in 0..10 {
            let next = t.add();
            assert_eq!((next, t.len()), (1, 2), "the place of the one before");
            t.on_watermark(next, Timestamp(100));
            assert_eq!(t.on_watermark(first, Timestamp(10 + i)).watermark, Some(Timestamp(10 + i)));
            t.forget(next);
        }
        assert_eq!((t.len(), t.all_ended()), (1, false));
    }

    #[test]
    fn ended_inputs_count_as_the_end_of_time() {
        let mut t = WatermarkTracker::new(2);
        assert_eq!(t.on_end(0), Change { watermark: None, activity: None });
        assert_eq!(t.on_watermark(1, Timestamp(7)).watermark, Some(Timestamp(7)));
        assert_eq!(t.on_end(1).watermark, Some(Timestamp::MAX));
        assert!(t.all_ended());
    }

    /// The watermark and the activity that inputs add up to, from the definition.
    fn model(inputs: &[(i64, bool, bool)], before: i64) -> (i64, bool) {
        let open: Vec<_> = inputs.iter().filter(|(_, _, ended)| !ended).collect();
        let active: Vec<i64> = open.iter().filter(|(_, idle, _)| !idle).map(|(w, ..)| *w).collect();
        let now = match (active.iter().min(), open.iter().map(|(w, ..)| *w).max()) {
            (Some(lowest), _) => *lowest,
            (None, Some(highest)) => highest,
            (None, None) => i64::MAX,
        };
        (now.max(before), active.is_empty() && !open.is_empty())
    }

    #[test]
    fn whatever_comes_in_whatever_order_it_is_the_minimum_of_active_inputs_and_never_goes_back() {
        let mut state = 1_u64;
        let mut random = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for _ in 0..300 {
            let n = 1 + random(5) as usize;
            let mut tracker = WatermarkTracker::new(n);
            let mut inputs = vec![(i64::MIN, false, false); n];
            let (mut watermark, mut idle) = (i64::MIN, false);
            for _ in 0..60 {
                let i = random(n as u64) as usize;
                let change = match random(12) {
                    0 => {
                        inputs[i].2 = true;
                        tracker.on_end(i)
                    }
                    1..=3 => {
                        inputs[i].1 = !inputs[i].1;
                        tracker.on_activity(i, if inputs[i].1 { Activity::Idle } else { Activity::Active })
                    }
                    _ => {
                        // Delayed ones among them.
                        let to = random(100) as i64;
                        inputs[i].0 = inputs[i].0.max(to);
                        tracker.on_watermark(i, Timestamp(to))
                    }
                };
                let expected = model(&inputs, watermark);
                assert_eq!(
                    (tracker.current().0, tracker.activity() == Activity::Idle),
                    expected,
                    "{inputs:?}"
                );
                assert_eq!(change.watermark.map(|w| w.0), (expected.0 > watermark).then_some(expected.0));
                assert_eq!(change.activity.is_some(), expected.1 != idle);
                (watermark, idle) = expected;
            }
        }
    }
}
