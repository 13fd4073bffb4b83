-- The same transform inside one server, a statement for each target table, over one session's part of the keys.

-- name: units
INSERT INTO hier.units (unit_id, layer, kind, activation, attention_focus, working_memory, processing_mode,
                        avg_response_time, created_at, updated_at, source_version)
SELECT s.neuron_id, s.layer, s.neuron_type, s.activation, s.context, s.memory,
       CASE WHEN s.is_async THEN 'async' ELSE 'sync' END, s.avg_response_time, s.created_at, s.updated_at, s.version
  FROM flat.neuron_states AS s
 WHERE s.neuron_id >= %(low)s::uuid AND s.neuron_id <= %(high)s::uuid
 ORDER BY s.neuron_id

-- name: learning
INSERT INTO hier.unit_learning (unit_id, weights, biases, learning_rate, momentum, momentum_given)
SELECT s.neuron_id, s.weights, s.biases, s.learning_rate, coalesce(s.momentum, 0.9), s.momentum IS NOT NULL
  FROM flat.neuron_states AS s
 WHERE s.neuron_id >= %(low)s::uuid AND s.neuron_id <= %(high)s::uuid
 ORDER BY s.neuron_id

-- name: connections
-- jsonb_to_recordset reads better and takes a fifth longer. The exact weight is that of a number whose last
-- zeros a double does not keep.
INSERT INTO hier.unit_connections (unit_id, ordinal, target_id, connection_type, weight, weight_exact)
SELECT s.neuron_id, c.ordinality, (c.value->>'target')::uuid, c.value->>'conn_type', (c.value->'weight')::float8,
       CASE WHEN c.value->>'weight' LIKE '%%.%%0' THEN (c.value->'weight')::numeric END
  FROM flat.neuron_states AS s
 CROSS JOIN LATERAL jsonb_array_elements(s.connections) WITH ORDINALITY AS c
 WHERE s.neuron_id >= %(low)s::uuid AND s.neuron_id <= %(high)s::uuid
 ORDER BY s.neuron_id, c.ordinality
