-- One row per reading. The key is the reading's identity, so that a redelivery finds its row; it begins with device and metric, so
-- that the readings of one sensor lie together in time order and new ones are added at one place per sensor.
-- There must be no second unique key: an upsert that meets another key would change a row that is not its own.
-- utf8mb4_bin: ids compare byte for byte. ts is in the key, so that the table can be partitioned by time.
CREATE TABLE IF NOT EXISTS sensor_readings (
    device_id   VARCHAR(128) NOT NULL,
    metric      VARCHAR(128) NOT NULL,
    ts          DATETIME(6)  NOT NULL COMMENT 'when it was measured, UTC',
    event_id    BINARY(16)   NOT NULL COMMENT 'UUID',
    value       DOUBLE       NULL     COMMENT 'numbers; booleans are 0 and 1',
    value_text  TEXT         NULL     COMMENT 'states such as open',
    unit        VARCHAR(64)  NULL,
    topic       TEXT         NOT NULL COMMENT 'MQTT topic it came on',
    received_at DATETIME(6)  NOT NULL COMMENT 'first arrival at sensorsync, UTC; a redelivery never changes it',
    revised_at  DATETIME(6)  NULL     COMMENT 'arrival of the copy whose content stands here, when it is not the first',
    payload     JSON         NOT NULL COMMENT 'the whole reading as decoded',
    PRIMARY KEY (device_id, metric, ts, event_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
