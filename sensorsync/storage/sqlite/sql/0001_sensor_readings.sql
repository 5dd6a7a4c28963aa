-- One row per reading, in the order of its identity: the same table as on MySQL, and the same key.
-- Times are UTC texts of 26 characters, so that their order is the order of time. ts is checked in two parts, because datetime()
-- rounds, and rounds the last microseconds of the year 9999 out of its range. WITHOUT ROWID: the rows lie in the key's tree.
CREATE TABLE IF NOT EXISTS sensor_readings (
    device_id   TEXT NOT NULL CHECK (length(device_id) BETWEEN 1 AND 128),
    metric      TEXT NOT NULL CHECK (length(metric) BETWEEN 1 AND 128),
    ts          TEXT NOT NULL CHECK (
        length(ts) = 26 AND datetime(substr(ts, 1, 19), '+0 seconds') IS substr(ts, 1, 19) AND substr(ts, 20) GLOB '.[0-9][0-9][0-9][0-9][0-9][0-9]'
    ),
    event_id    BLOB NOT NULL CHECK (length(event_id) = 16),
    value       REAL,
    value_text  TEXT,
    unit        TEXT CHECK (length(unit) <= 64),
    topic       TEXT NOT NULL,
    received_at TEXT NOT NULL,
    revised_at  TEXT,
    payload     TEXT NOT NULL CHECK (json_valid(payload)),
    PRIMARY KEY (device_id, metric, ts, event_id)
) WITHOUT ROWID;
