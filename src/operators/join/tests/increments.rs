//! What a checkpoint of a join holds.

use super::*;
use crate::stream::snapshot::PartKind;

#[test]
fn a_checkpoint_of_a_side_that_only_grows_costs_its_new_rows() {
    let mut config = config(JoinKind::Inner);
    (config.left.retracts, config.right.retracts) = (false, false);
    let mut joins = Joins::new(config);
    let rows = |side: &str, from: i64| -> String {
        (from..from + 20).map(|n| format!("{side} +I {} {n}\n", n % 2)).collect()
    };
    joins.run(&format!("{}{}|", rows("L", 0), rows("R", 0)));
    joins.run(&format!("{}L +I null 7\n|", rows("L", 20)));
    joins.run("|");
    joins.run(&format!("{}L +I 1 1000\n|", rows("R", 40)));
    let parts = |layer: usize, table: &str| {
        let of_table = |layer: &OperatorSnapshot| layer.get(table).cloned().unwrap_or_default();
        let parts = of_table(&joins.layers[layer]).into_iter();
        parts.map(|p| (p.kind, p.rows.num_rows())).collect::<Vec<_>>()
    };
    assert!(parts(0, "left").iter().all(|(kind, _)| *kind == PartKind::Increment(vec![0])));
    assert_eq!(parts(1, "left"), [(PartKind::Append, 20)]);
    assert!(parts(1, "right").is_empty() && parts(2, "left").is_empty());
    assert_eq!(
        (parts(3, "left"), parts(3, "right")),
        (vec![(PartKind::Append, 1)], vec![(PartKind::Append, 20)])
    );
    joins.run("| x3");
    let output = joins.run("R +I 1 5");
    assert_eq!(output.lines().count(), 21, "{output}");
}
