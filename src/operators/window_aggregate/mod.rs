//! Event-time window aggregates: `GROUP BY window_start, window_end` over TUMBLE, HOP and CUMULATE.

mod config;
mod window;

pub use config::{SLICE_END, WindowAggregateConfig, WindowOutput, WindowPhase};
pub use window::{WallClock, WindowKind, WindowSpec};
