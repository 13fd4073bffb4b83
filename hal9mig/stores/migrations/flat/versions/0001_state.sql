-- The flat store's five tables. A store that has them already keeps its own.

CREATE TABLE IF NOT EXISTS flat.user_sessions (
    session_id   uuid PRIMARY KEY,
    user_id      text NOT NULL,
    token_hash   text NOT NULL UNIQUE,
    ip_address   inet,
    user_agent   text,
    active       boolean NOT NULL,
    data         jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(data) = 'object'),
    created_at   timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    expires_at   timestamptz,
    version      bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS flat.neuron_states (
    neuron_id         uuid PRIMARY KEY,
    layer             text NOT NULL,
    neuron_type       text NOT NULL,
    activation        real NOT NULL,
    weights           real[] NOT NULL,
    biases            real[] NOT NULL,
    learning_rate     real NOT NULL,
    momentum          real,
    connections       jsonb NOT NULL DEFAULT '[]',
    memory            jsonb,
    context           jsonb,
    avg_response_time real,
    is_async          boolean NOT NULL,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    version           bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS flat.learning_data (
    pattern_id  uuid PRIMARY KEY,
    neuron_id   uuid NOT NULL,
    kind        text NOT NULL,
    pattern     real[] NOT NULL,
    payload     bytea,
    meta        jsonb NOT NULL DEFAULT '{}',
    recorded_at timestamptz NOT NULL,
    version     bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS flat.configuration (
    key        text PRIMARY KEY,
    value      jsonb NOT NULL,
    updated_by text NOT NULL,
    updated_at timestamptz NOT NULL,
    version    bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS flat.operational_metadata (
    id          bigint PRIMARY KEY,
    type        text NOT NULL,
    source      text NOT NULL,
    payload     jsonb NOT NULL,
    recorded_at timestamptz NOT NULL,
    version     bigint NOT NULL
);
