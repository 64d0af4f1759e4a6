//! The `SET` options that there are.

use crate::edges::PROCESS_MEMORY;

/// Languages of functions that may be created.
pub const FUNCTION_LANGUAGES: &str = "table.functions.languages";

/// Keys with a meaning here: (key, default, what it does).
pub const KEYS: &[(&str, &str, &str)] = &[
    (
        "execution.runtime-mode",
        "automatic",
        "streaming, batch, or automatic: batch when every table is bounded and none is throttled",
    ),
    ("parallelism.default", "1", "number of parallel subtasks (batch: partitions)"),
    (
        "execution.checkpointing.interval",
        "",
        "time between checkpoints; sinks commit with each; 0: at the end only; empty: 10 s for INSERTs whose tables have no end or are throttled, or whose checkpoints are kept",
    ),
    (
        "execution.checkpointing.dir",
        "",
        "folder (a path or s3://…) in which checkpoints are kept, so that a job goes on after its process has died; empty: none are kept",
    ),
    (
        "execution.checkpointing.savepoint-dir",
        "",
        "folder for savepoints whose request names none (tidelake savepoint create)",
    ),
    (
        "execution.state-recovery.path",
        "",
        "savepoint, or checkpoint, that INSERTs start from; a job that goes on from a checkpoint since then goes on from that",
    ),
    (
        "execution.state-recovery.ignore-unclaimed-state",
        "false",
        "whether state of a savepoint that nothing in the plan takes up is left behind; otherwise it is an error",
    ),
    (
        "execution.state-recovery.claim-mode",
        "NO_CLAIM",
        "NO_CLAIM: a job never removes the savepoint it started from",
    ),
    ("execution.checkpointing.mode", "EXACTLY_ONCE", "EXACTLY_ONCE; AT_LEAST_ONCE means the same here"),
    ("execution.checkpointing.timeout", "10 min", "how long a checkpoint may take before the job fails"),
    (
        "execution.checkpointing.min-pause",
        "0 ms",
        "time between the end of a checkpoint and the begin of the next",
    ),
    (
        "execution.checkpointing.tolerable-failed-checkpoints",
        "0",
        "checkpoints in a row that may fail to be written before the job fails",
    ),
    ("execution.checkpointing.num-retained", "1", "complete checkpoints that are kept"),
    (
        "execution.checkpointing.externalized-checkpoint-retention",
        "RETAIN_ON_CANCELLATION",
        "whether a job that was stopped leaves its last checkpoint to go on from: RETAIN_ON_CANCELLATION or DELETE_ON_CANCELLATION",
    ),
    (
        "restart-strategy.type",
        "exponential-delay",
        "how a job whose checkpoints are kept starts again when something outside fails: exponential-delay, fixed-delay, failure-rate or none",
    ),
    ("restart-strategy.fixed-delay.attempts", "1", "restarts in all"),
    ("restart-strategy.fixed-delay.delay", "1 s", "time before each restart"),
    (
        "restart-strategy.failure-rate.max-failures-per-interval",
        "1",
        "failures within the interval that are allowed",
    ),
    ("restart-strategy.failure-rate.failure-rate-interval", "1 min", "the time that failures are counted in"),
    ("restart-strategy.failure-rate.delay", "1 s", "time before each restart"),
    ("restart-strategy.exponential-delay.initial-backoff", "1 s", "time before the first restart"),
    ("restart-strategy.exponential-delay.max-backoff", "1 min", "the longest time before a restart"),
    ("restart-strategy.exponential-delay.backoff-multiplier", "1.5", "how much longer each time is"),
    (
        "restart-strategy.exponential-delay.reset-backoff-threshold",
        "1 h",
        "after so long without a failure the times are short again",
    ),
    (
        "restart-strategy.exponential-delay.attempts-before-reset-backoff",
        "",
        "restarts until then; empty: any number",
    ),
    (
        "table.exec.source.idle-timeout",
        "0 ms",
        "a split without rows for so long no longer holds the watermark back",
    ),
    (
        "table.exec.mini-batch.size",
        "",
        "rows per bundle of updating aggregates; 1: a change per row; empty: one batch",
    ),
    (
        "table.exec.state.ttl",
        "0 ms",
        "how long joins, aggregates and top-N keep state that is not written again; 0: for ever",
    ),
    (
        "table.exec.emit.early-fire.enabled",
        "false",
        "whether windows of GROUP BY TUMBLE and HOP show results before they end",
    ),
    (
        "table.exec.emit.early-fire.delay",
        "",
        "how long after a window's first row, and between results; 0: with every row, or bundle of rows",
    ),
    (
        "table.exec.emit.late-fire.enabled",
        "false",
        "whether they show results of rows that come after the end",
    ),
    ("table.exec.emit.late-fire.delay", "", "how long after such a row; 0: at once"),
    (
        "table.exec.emit.allow-lateness",
        "",
        "how long after its end a window takes rows, with early or late fire; empty: the state TTL, if there is one",
    ),
    (
        "table.exec.late-data.table",
        "",
        "table that gets the rows which windows, OVER, MATCH_RECOGNIZE and ORDER BY a time would drop because they are late; columns by name, late_operator and late_watermark besides",
    ),
    (
        "table.exec.async-lookup.buffer-capacity",
        "100",
        "batches of a lookup join, per subtask, that wait for answers at the same time",
    ),
    (
        "table.exec.async-lookup.timeout",
        "3 min",
        "how long the answer of a lookup may take, with its retries",
    ),
    (
        "table.exec.async-lookup.output-mode",
        "ORDERED",
        "accepted: ORDERED or ALLOW_UNORDERED; rows come out in the order in which they came in",
    ),
    ("table.exec.mini-batch.enabled", "true", "true or false; false: bundles of one row, as in Flink"),
    ("table.exec.mini-batch.allow-latency", "0 ms", "accepted: bundles end whenever no more rows wait"),
    (
        "table.optimizer.agg-phase-strategy",
        "AUTO",
        "AUTO, ONE_PHASE, or TWO_PHASE: aggregate before the exchange as well",
    ),
    (
        "table.optimizer.multi-join.enabled",
        "true",
        "whether inner joins of three or more inputs on one key are one operator, which keeps no joined rows",
    ),
    ("table.exec.sink.not-null-enforcer", "ERROR", "ERROR or DROP rows with NULL in a NOT NULL column"),
    (
        "table.exec.sink.keyed-shuffle",
        "AUTO",
        "rows of one PRIMARY KEY go to one writer: NONE, AUTO when the query does not see to it, FORCE",
    ),
    (
        "table.exec.sink.require-on-conflict",
        "true",
        "whether an INSERT needs ON CONFLICT when the query's upsert key is not the sink's PRIMARY KEY",
    ),
    (
        "table.exec.sink.upsert-materialize",
        "AUTO",
        "whether rows that meet in one PRIMARY KEY are kept: NONE, AUTO when they can meet, FORCE",
    ),
    (
        "table.exec.source.cdc-events-duplicate",
        "false",
        "whether change messages may come twice: the last of each PRIMARY KEY counts",
    ),
    ("table.local-time-zone", "", "session zone for TIMESTAMP_LTZ; empty: the system's"),
    ("table.dynamic-table-options.enabled", "true", "whether /*+ OPTIONS */ hints are allowed"),
    ("table.display.max-column-width", "30", "columns wider than this are cut in tables on a terminal"),
    (
        "pipeline.name",
        "",
        "name of the job, by which it finds its checkpoints; empty: from the tables it writes to",
    ),
    (
        FUNCTION_LANGUAGES,
        "SQL, JAVASCRIPT, PYTHON",
        "languages that CREATE FUNCTION takes, or none; once it is set, SET can only take languages away",
    ),
    (
        PROCESS_MEMORY,
        "",
        "memory of the process, beyond which state rests on disk; empty: 70 % of the machine's (--memory sets it)",
    ),
    ("io.tmp.dirs", "", "folder for state that rests on disk; empty: the system's temporary folder"),
];
