-- Double bottoms of the euro in 2025, at the European Central Bank's rates: it falls against another currency for two days
-- at least, recovers, falls again to about where it was, within one percent, and rises once more, all within eight weeks.

CREATE TABLE rates (
  `day` DATE, currency STRING, rate DOUBLE,
  at_noon AS CAST(`day` AS TIMESTAMP(3)),
  WATERMARK FOR at_noon AS at_noon
) WITH ('connector' = 'filesystem', 'path' = 'data/rates-2025.json', 'format' = 'json');

SET 'execution.runtime-mode' = 'streaming';

SELECT *
FROM rates MATCH_RECOGNIZE (
  PARTITION BY currency
  ORDER BY at_noon
  MEASURES
    TOP.`day` AS top_day, LAST(DOWN1.`day`) AS bottom1, LAST(UP1.`day`) AS peak, LAST(DOWN2.`day`) AS bottom2,
    LAST(DOWN1.rate) AS rate1, LAST(DOWN2.rate) AS rate2,
    COUNT(*) AS days
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (TOP DOWN1{2,} UP1{2,} DOWN2{2,} UP2{2,})
  WITHIN INTERVAL '56' DAY
  DEFINE
    DOWN1 AS rate < LAST(rate, 1),
    UP1 AS rate > LAST(rate, 1),
    DOWN2 AS rate < LAST(rate, 1) AND rate > LAST(DOWN1.rate) * 0.99e0,
    UP2 AS rate > LAST(rate, 1) AND LAST(DOWN2.rate) < LAST(DOWN1.rate) * 1.01e0
)
WHERE currency IN ('USD', 'GBP', 'JPY', 'CHF');
