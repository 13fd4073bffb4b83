-- Where it is to go, in the hierarchical store: orders, and their lines in a table of their own.
CREATE SCHEMA IF NOT EXISTS shop;
CREATE TABLE shop.orders (
    order_id  bigint PRIMARY KEY,
    customer  text NOT NULL,
    placed_at timestamptz NOT NULL,
    paid      boolean NOT NULL,
    version   bigint NOT NULL
);
CREATE TABLE shop.order_lines (
    order_id bigint NOT NULL REFERENCES shop.orders,
    place    integer NOT NULL,
    sku      text NOT NULL,
    quantity integer NOT NULL,
    cents    bigint NOT NULL,
    PRIMARY KEY (order_id, place)
);
