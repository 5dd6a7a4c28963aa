-- One row per distinct message. Large columns stand last, so that the indexes' columns are read without them.
-- AUTOINCREMENT: an id is never used again, so that a replay cannot remove a letter that replaced another one under the same id.
CREATE TABLE IF NOT EXISTS letters (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    sha256        BLOB    NOT NULL,        -- identity of the message (letters.message_identity); no two letters have the same
    state         TEXT    NOT NULL DEFAULT 'parked' CHECK (state IN ('parked', 'quarantined')),
    reason        TEXT    NOT NULL,        -- of the latest rejection, like errno and message
    errno         INTEGER,                 -- error number, when the database rejected the message
    device        TEXT,                    -- NULL where it is not known
    first_seen    REAL    NOT NULL,        -- Unix time of the message's first arrival
    last_seen     REAL    NOT NULL,
    seen          INTEGER NOT NULL DEFAULT 1,
    attempts      INTEGER NOT NULL DEFAULT 0, -- replays that rejected it again, since it was parked or released
    next_retry_at REAL    NOT NULL DEFAULT 0, -- Unix time; 0: at any time
    refused_at    REAL    NOT NULL,        -- Unix time of the latest rejection
    qos           INTEGER NOT NULL,
    topic         TEXT    NOT NULL,
    message       TEXT    NOT NULL,
    properties    TEXT,                    -- MQTT 5 properties, JSON
    history       TEXT,                    -- earlier rejections, JSON, the oldest first
    payload       BLOB    NOT NULL
);

-- The letter of each message. Hashes are spread over the whole tree, so that deleting one changes a page of its own: this is three
-- quarters of the cost of removing a letter. Therefore the row of a removed letter stays here, and the table is written again when half
-- of its rows are of that kind. Until then a row may name a letter that does not exist; its id is never used again.
CREATE TABLE IF NOT EXISTS known (
    sha256 BLOB    PRIMARY KEY,
    id     INTEGER NOT NULL
) WITHOUT ROWID;

-- A trigger, because a process of the previous version, which does not write to `known`, may still be parking letters.
CREATE TRIGGER IF NOT EXISTS letters_known AFTER INSERT ON letters
BEGIN INSERT OR REPLACE INTO known (sha256, id) VALUES (new.sha256, new.id); END;

-- All columns by which letters are filtered, counted and selected. With a million letters a scan of this index takes a fraction of a
-- second, and a scan of the table takes seconds.
CREATE INDEX IF NOT EXISTS letters_by_reason ON letters (reason, errno, state, last_seen, next_retry_at, device, topic);
