-- The application's own table, in the flat store: an order with its lines in one wide row.
CREATE SCHEMA IF NOT EXISTS shop;
CREATE TABLE shop.orders (
    order_id  bigint PRIMARY KEY,
    customer  text NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT now(),
    paid      boolean NOT NULL DEFAULT false,
    lines     jsonb NOT NULL,
    version   bigint NOT NULL DEFAULT 1
);
INSERT INTO shop.orders (order_id, customer, paid, lines)
SELECT n, 'customer ' || n % 97, n % 3 = 0,
       (SELECT jsonb_agg(jsonb_build_object('sku', 'sku-' || n * k % 500, 'quantity', k, 'cents', n % 90 * 100 + k))
          FROM generate_series(1, n % 5) k)
  FROM generate_series(1, 2000) n WHERE n % 5 > 0;
INSERT INTO shop.orders (order_id, customer, lines) VALUES (0, 'nobody yet', '[]');
