-- The hierarchical store: sessions under users, what a unit is made of, patterns under units,
-- configuration as a tree, and a table for each type of operational metadata.
--
-- Foreign keys stand where volume is low. Units' parts and patterns have none: a check a row is what
-- a migration of millions would spend most of its time on, connections may point at units of a layer
-- that has not been migrated yet, and the verifier finds a part that lost its unit anyway.

CREATE TABLE hier.users (
    user_id text PRIMARY KEY
);

CREATE TABLE hier.sessions (
    session_id     uuid PRIMARY KEY,
    user_id        text NOT NULL REFERENCES hier.users DEFERRABLE,
    -- Deferrable: two sessions that swap their tokens in one transaction break it only in between.
    token_hash     text NOT NULL UNIQUE DEFERRABLE,
    ip_address     inet,
    user_agent     text,
    active         boolean NOT NULL,
    created_at     timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL,
    expires_at     timestamptz,
    source_version bigint NOT NULL
);
CREATE INDEX sessions_user_id ON hier.sessions (user_id);

CREATE TABLE hier.session_attributes (
    session_id uuid NOT NULL,
    name       text COLLATE "C" NOT NULL,
    value      jsonb NOT NULL,
    PRIMARY KEY (session_id, name)
);

CREATE TABLE hier.units (
    unit_id           uuid PRIMARY KEY,
    layer             text NOT NULL,
    kind              text NOT NULL,
    activation        real NOT NULL,
    attention_focus   jsonb,
    working_memory    jsonb,
    processing_mode   text NOT NULL CHECK (processing_mode IN ('async', 'sync')),
    avg_response_time real,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    source_version    bigint NOT NULL
);

CREATE TABLE hier.unit_learning (
    unit_id        uuid PRIMARY KEY,
    weights        real[] NOT NULL,
    biases         real[] NOT NULL,
    learning_rate  real NOT NULL,
    momentum       real NOT NULL DEFAULT 0.9,
    -- False where the flat store has no momentum, so that the default is not taken for a value given.
    momentum_given boolean NOT NULL DEFAULT true
);

CREATE TABLE hier.unit_connections (
    unit_id         uuid NOT NULL,
    ordinal         integer NOT NULL,
    target_id       uuid NOT NULL,
    connection_type text NOT NULL,
    weight          double precision NOT NULL,
    -- The number as it was given, where the double would give it back otherwise: 1.0 as 1, or fewer digits.
    weight_exact    numeric,
    PRIMARY KEY (unit_id, ordinal)
);

CREATE TABLE hier.patterns (
    pattern_id     uuid PRIMARY KEY,
    unit_id        uuid NOT NULL,
    kind           text NOT NULL,
    pattern        real[] NOT NULL,
    meta           jsonb NOT NULL,
    -- MessagePack of the optimiser's state; NULL where the flat record has no payload at all.
    optimiser      bytea,
    recorded_at    timestamptz NOT NULL,
    source_version bigint NOT NULL
);
CREATE INDEX patterns_unit_id ON hier.patterns (unit_id);

CREATE TABLE hier.pattern_gradients (
    pattern_id uuid NOT NULL,
    ordinal    integer NOT NULL,
    name       text NOT NULL,
    gradient   bytea NOT NULL,
    PRIMARY KEY (pattern_id, ordinal)
);
-- Packed floats do not compress; trying costs more than it saves.
ALTER TABLE hier.pattern_gradients ALTER COLUMN gradient SET STORAGE EXTERNAL;
ALTER TABLE hier.patterns ALTER COLUMN optimiser SET STORAGE EXTERNAL;

CREATE TABLE hier.config_nodes (
    path        text COLLATE "C" PRIMARY KEY,
    parent_path text COLLATE "C" REFERENCES hier.config_nodes DEFERRABLE,
    name        text NOT NULL,
    depth       integer NOT NULL CHECK (depth >= 1),
    CHECK ((parent_path IS NULL) = (depth = 1))
);
CREATE INDEX config_nodes_parent_path ON hier.config_nodes (parent_path);

CREATE TABLE hier.config_values (
    path           text COLLATE "C" PRIMARY KEY REFERENCES hier.config_nodes DEFERRABLE,
    value          jsonb NOT NULL,
    updated_by     text NOT NULL,
    updated_at     timestamptz NOT NULL,
    source_version bigint NOT NULL
);

-- The generated columns are what queries ask for; payload stays whole, so nothing is lost. A member of
-- an unexpected type gives NULL and never an error: it must not stop a record from being stored.
CREATE TABLE hier.metrics (
    id             bigint PRIMARY KEY,
    source         text NOT NULL,
    payload        jsonb NOT NULL,
    recorded_at    timestamptz NOT NULL,
    source_version bigint NOT NULL,
    name           text GENERATED ALWAYS AS (payload ->> 'name') STORED,
    value          numeric GENERATED ALWAYS AS
        (CASE WHEN jsonb_typeof(payload -> 'value') = 'number' THEN (payload -> 'value')::numeric END) STORED
);

CREATE TABLE hier.log_entries (
    id             bigint PRIMARY KEY,
    source         text NOT NULL,
    payload        jsonb NOT NULL,
    recorded_at    timestamptz NOT NULL,
    source_version bigint NOT NULL,
    level          text GENERATED ALWAYS AS (payload ->> 'level') STORED,
    message        text GENERATED ALWAYS AS (payload ->> 'message') STORED
);

CREATE TABLE hier.trace_spans (
    id             bigint PRIMARY KEY,
    source         text NOT NULL,
    payload        jsonb NOT NULL,
    recorded_at    timestamptz NOT NULL,
    source_version bigint NOT NULL,
    trace_id       text GENERATED ALWAYS AS (payload ->> 'trace_id') STORED,
    span_id        text GENERATED ALWAYS AS (payload ->> 'span_id') STORED,
    parent_span_id text GENERATED ALWAYS AS (payload ->> 'parent_span_id') STORED
);
-- A hash index: its entries have one size, however long a trace's id is.
CREATE INDEX trace_spans_trace_id ON hier.trace_spans USING hash (trace_id);

CREATE TABLE hier.audit_events (
    id             bigint PRIMARY KEY,
    source         text NOT NULL,
    payload        jsonb NOT NULL,
    recorded_at    timestamptz NOT NULL,
    source_version bigint NOT NULL,
    action         text GENERATED ALWAYS AS (payload ->> 'action') STORED,
    previous_hash  text GENERATED ALWAYS AS (payload ->> 'prev') STORED,
    entry_hash     text GENERATED ALWAYS AS (payload ->> 'hash') STORED
);

-- MessagePack heads in their shortest form, as the learning data's payload has them.
-- https://github.com/msgpack/msgpack/blob/master/spec.md; int4send gives four bytes, most significant first.
CREATE FUNCTION hier.msgpack_array(length integer) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN length < 16 THEN substr(int4send(144 + length), 4)
                WHEN length < 65536 THEN '\xdc'::bytea || substr(int4send(length), 3)
                ELSE '\xdd'::bytea || int4send(length) END
$$;

CREATE FUNCTION hier.msgpack_bin(value bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN octet_length(value) < 256 THEN '\xc4'::bytea || substr(int4send(octet_length(value)), 4)
                WHEN octet_length(value) < 65536 THEN '\xc5'::bytea || substr(int4send(octet_length(value)), 3)
                ELSE '\xc6'::bytea || int4send(octet_length(value)) END || value
$$;

-- The length counts bytes of UTF-8, whatever the database's encoding. STABLE, as convert_to is: under a
-- stricter promise the planner would call the function instead of putting its body into the query.
CREATE FUNCTION hier.msgpack_str(value text) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN octet_length(convert_to(value, 'UTF8')) < 32
                THEN substr(int4send(160 + octet_length(convert_to(value, 'UTF8'))), 4)
                WHEN octet_length(convert_to(value, 'UTF8')) < 256
                THEN '\xd9'::bytea || substr(int4send(octet_length(convert_to(value, 'UTF8'))), 4)
                WHEN octet_length(convert_to(value, 'UTF8')) < 65536
                THEN '\xda'::bytea || substr(int4send(octet_length(convert_to(value, 'UTF8'))), 3)
                ELSE '\xdb'::bytea || int4send(octet_length(convert_to(value, 'UTF8'))) END
           || convert_to(value, 'UTF8')
$$;
