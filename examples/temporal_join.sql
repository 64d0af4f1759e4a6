-- Orders in the currency of their customers, each at the European Central Bank's rate of its time: an event-time
-- temporal join. The rate of a Friday is valid until Monday's comes.

CREATE TABLE orders (
  id INT, `at` TIMESTAMP(3), currency STRING, amount DECIMAL(10, 2),
  WATERMARK FOR `at` AS `at`
) WITH ('connector' = 'filesystem', 'path' = 'examples/orders.csv', 'format' = 'csv');

-- Rows of one key are its versions, from their row time on.
CREATE TABLE rates (
  `day` DATE, currency STRING, rate DOUBLE,
  valid_from AS CAST(`day` AS TIMESTAMP(3)),
  WATERMARK FOR valid_from AS valid_from,
  PRIMARY KEY (currency) NOT ENFORCED
) WITH ('connector' = 'filesystem', 'path' = 'data/rates-2025.json', 'format' = 'json');

SET 'execution.runtime-mode' = 'streaming';

SELECT o.id, o.`at`, o.amount, o.currency, r.`day` AS rate_of, r.rate,
  CAST(o.amount / r.rate AS DECIMAL(10, 2)) AS euros
FROM orders AS o
LEFT JOIN rates FOR SYSTEM_TIME AS OF o.`at` AS r ON o.currency = r.currency;
