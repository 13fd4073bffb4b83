-- What rounds that are forgotten have come to, so that sums over all rounds never fall.
CREATE TABLE hal9mig.pruned_rounds (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    rounds   bigint NOT NULL DEFAULT 0,
    failed   bigint NOT NULL DEFAULT 0,
    compared bigint NOT NULL DEFAULT 0,
    found    bigint NOT NULL DEFAULT 0,
    repaired bigint NOT NULL DEFAULT 0
);
INSERT INTO hal9mig.pruned_rounds DEFAULT VALUES;
