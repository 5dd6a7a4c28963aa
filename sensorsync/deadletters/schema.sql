-- One row per distinct message. What is large stands last, so that the indexes' columns are read without it.
-- AUTOINCREMENT: a number is never given again, so a replay can't take out a letter that came in the place of its own.
CREATE TABLE IF NOT EXISTS letters (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    sha256        BLOB    NOT NULL,        -- which message it is (letters.identity); no two letters have the same
    state         TEXT    NOT NULL DEFAULT 'parked' CHECK (state IN ('parked', 'quarantined')),
    reason        TEXT    NOT NULL,        -- of the latest refusal, as errno and message
    errno         INTEGER,                 -- the database's, when it was the database that refused
    device        TEXT,                    -- as far as it can be told
    first_seen    REAL    NOT NULL,        -- Unix time of the message's first arrival
    last_seen     REAL    NOT NULL,
    seen          INTEGER NOT NULL DEFAULT 1,
    attempts      INTEGER NOT NULL DEFAULT 0, -- replays that refused it again, since it was parked or released
    next_retry_at REAL    NOT NULL DEFAULT 0, -- Unix time; 0: at any time
    refused_at    REAL    NOT NULL,        -- Unix time of the latest refusal
    qos           INTEGER NOT NULL,
    topic         TEXT    NOT NULL,
    message       TEXT    NOT NULL,
    properties    TEXT,                    -- MQTT 5 properties, JSON
    history       TEXT,                    -- earlier refusals, JSON, the oldest first
    payload       BLOB    NOT NULL
);

-- Which letter a message is. Hashes lie all over a tree, so to take one out costs a page of its own: three quarters of what it costs to
-- take a letter out. So a letter that leaves stays in here, and this is written anew when half of it are such. Until then a row may
-- name a letter that is not there; its number is never given again.
CREATE TABLE IF NOT EXISTS known (
    sha256 BLOB    PRIMARY KEY,
    id     INTEGER NOT NULL
) WITHOUT ROWID;

-- A trigger, for a process of the version before, which knows nothing of `known`, may still be putting letters in.
CREATE TRIGGER IF NOT EXISTS letters_known AFTER INSERT ON letters
BEGIN INSERT OR REPLACE INTO known (sha256, id) VALUES (new.sha256, new.id); END;

-- All that letters are filtered, counted and chosen by: with a million letters, a scan of this index takes a fraction of a second,
-- and one of the table seconds.
CREATE INDEX IF NOT EXISTS letters_by_reason ON letters (reason, errno, state, last_seen, next_retry_at, device, topic);
