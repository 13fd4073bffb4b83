-- The whole transform inside one server, one statement a target table, over one session's part of the keys.

-- name: units
INSERT INTO hier.units (unit_id, layer, kind, activation, attention_focus, working_memory, processing_mode,
                        avg_response_time, created_at, updated_at, source_version)
SELECT s.neuron_id, s.layer, s.neuron_type, s.activation, s.context, s.memory,
       CASE WHEN s.is_async THEN 'async' ELSE 'sync' END, s.avg_response_time, s.created_at, s.updated_at, s.version
  FROM flat.neuron_states AS s
 WHERE {range}
 ORDER BY s.neuron_id

-- name: learning
INSERT INTO hier.unit_learning (unit_id, weights, biases, learning_rate, momentum, momentum_given)
SELECT s.neuron_id, s.weights, s.biases, s.learning_rate, coalesce(s.momentum, 0.9), s.momentum IS NOT NULL
  FROM flat.neuron_states AS s
 WHERE {range}
 ORDER BY s.neuron_id

-- name: connections
INSERT INTO hier.unit_connections (unit_id, ordinal, target_id, connection_type, weight)
SELECT s.neuron_id, c.ordinality, c.target, c.conn_type, c.weight
  FROM flat.neuron_states AS s
 CROSS JOIN LATERAL ROWS FROM (jsonb_to_recordset(s.connections) AS (target uuid, weight double precision, conn_type text))
       WITH ORDINALITY AS c
 WHERE {range}
 ORDER BY s.neuron_id, c.ordinality
