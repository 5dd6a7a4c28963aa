-- One row per distinct message. What is large stands last, so that lists and counts do not read it.
CREATE TABLE IF NOT EXISTS letters (
    id            INTEGER PRIMARY KEY,
    sha256        BLOB    NOT NULL UNIQUE, -- of topic and payload
    state         TEXT    NOT NULL DEFAULT 'parked' CHECK (state IN ('parked', 'quarantined')),
    reason        TEXT    NOT NULL,
    errno         INTEGER,                 -- the database's, when it was the database that refused
    first_seen    REAL    NOT NULL,        -- Unix time of the message's first arrival
    last_seen     REAL    NOT NULL,
    seen          INTEGER NOT NULL DEFAULT 1,
    attempts      INTEGER NOT NULL DEFAULT 0, -- replays
    next_retry_at REAL,                    -- Unix time; NULL: at any time
    qos           INTEGER NOT NULL,
    topic         TEXT    NOT NULL,
    message       TEXT    NOT NULL,
    properties    TEXT,                    -- MQTT 5 properties, JSON
    payload       BLOB    NOT NULL
);

-- Counts by reason read this index alone.
CREATE INDEX IF NOT EXISTS letters_by_reason ON letters (reason, state);

-- The latest first.
CREATE INDEX IF NOT EXISTS letters_by_time ON letters (last_seen);

-- What a replay may take now.
CREATE INDEX IF NOT EXISTS letters_by_retry ON letters (state, next_retry_at);
