-- The version of the last change.
CREATE TABLE counter (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    version INTEGER NOT NULL
) STRICT;
INSERT INTO counter VALUES (1, 0);

-- The log: completed episodes in the order in which they came. The small columns come first, so that reading them does not touch the body.
CREATE TABLE episodes (
    version INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    domain TEXT,
    language TEXT,
    tags TEXT NOT NULL, -- JSON array
    verdict TEXT NOT NULL,
    trusted INTEGER NOT NULL, -- how far the source is trusted: 0 or 1
    reward REAL,
    steps INTEGER NOT NULL, -- how many
    words INTEGER NOT NULL, -- terms of the task, repeated ones counted each time
    started_at INTEGER NOT NULL, -- microseconds since 1970
    completed_at INTEGER NOT NULL, -- microseconds since 1970
    completed_nanos INTEGER NOT NULL, -- nanoseconds beyond completed_at
    body TEXT NOT NULL, -- JSON of the whole episode
    task TEXT GENERATED ALWAYS AS (body ->> '$.task.text') VIRTUAL
) STRICT;

-- All that search and filters need to know of an episode.
CREATE INDEX episodes_search ON episodes (
    scope, version, words, domain, language, verdict, tags, completed_at, completed_nanos, trusted, id
);

-- The vectors of the task texts: little-endian 32-bit floats.
CREATE TABLE vectors (
    episode INTEGER PRIMARY KEY REFERENCES episodes (version) ON DELETE CASCADE,
    vector BLOB NOT NULL
) STRICT;

-- The terms of the task texts. They are alphanumeric and in lower case already, so that this tokenizer leaves them as they are.
CREATE VIRTUAL TABLE episode_words USING fts5 (
    task, content = '', contentless_delete = 1, tokenize = 'ascii'
);
CREATE VIRTUAL TABLE episode_words_vocab USING fts5vocab (episode_words, instance);

-- What word search counts in each scope.
CREATE TABLE scopes (
    scope TEXT PRIMARY KEY,
    episodes INTEGER NOT NULL,
    words INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Everything else: vector space, watermarks, open episodes, their steps, patterns (those of habits are of a kind of their own).
CREATE TABLE records (
    kind TEXT NOT NULL,
    key BLOB NOT NULL, -- the UUID; of a step also its index, big-endian
    scope TEXT,
    version INTEGER NOT NULL,
    body TEXT NOT NULL, -- JSON
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX records_by_scope ON records (kind, scope, key) WHERE scope IS NOT NULL;

-- Deleted records of the kinds that are in the change feed.
CREATE TABLE deleted (
    version INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    key BLOB NOT NULL,
    UNIQUE (kind, key)
) STRICT;
