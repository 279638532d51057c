-- How far the file has come.
CREATE TABLE state (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    version INTEGER NOT NULL, -- of the last change
    indexed INTEGER NOT NULL, -- episodes and notes up to this version are in the tables that are searched
    merges INTEGER NOT NULL -- how often blocks of patterns were rewritten
) STRICT;
INSERT INTO state VALUES (1, 0, 0, 0);

-- The log: completed episodes in the order in which they came.
CREATE TABLE episode_records (
    version INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE, -- the 16 bytes of the UUID
    body TEXT NOT NULL -- JSON of the whole episode
) STRICT;

-- Notes, each in its present state; among them candidates for notes of an agent.
CREATE TABLE note_records (
    version INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    body TEXT NOT NULL -- JSON of the whole note
) STRICT;

-- The same for people.
CREATE VIEW episodes AS SELECT
    version,
    body ->> '$.id' AS id,
    body ->> '$.scope' AS scope,
    body ->> '$.task.text' AS task,
    body ->> '$.task.domain' AS domain,
    body ->> '$.task.language' AS language,
    body -> '$.task.tags' AS tags,
    lower(body ->> '$.outcome.verdict') AS verdict,
    body ->> '$.outcome.reward' AS reward,
    body ->> '$.outcome.summary' AS summary,
    json_array_length(body, '$.steps') AS steps,
    body ->> '$.started_at' AS started_at,
    body ->> '$.completed_at' AS completed_at,
    body
FROM episode_records;
CREATE VIEW notes AS SELECT
    version,
    body ->> '$.id' AS id,
    body ->> '$.scope' AS scope,
    body ->> '$.text' AS text,
    lower(body ->> '$.kind') AS kind,
    body -> '$.tags' AS tags,
    body ->> '$.salience' AS salience,
    lower(body ->> '$.trust') AS trust,
    body ->> '$.place.thread' AS thread,
    body ->> '$.place.position' AS position,
    body ->> '$.updated_at' AS updated_at,
    body ->> '$.expires_at' AS expires_at,
    (SELECT count(*) FROM json_each(body, '$.tellings') WHERE key <> '') AS sessions,
    body
FROM note_records;

-- The vectors of episodes and notes: little-endian 32-bit floats.
CREATE TABLE vectors (
    version INTEGER PRIMARY KEY, -- of the episode or the note
    vector BLOB NOT NULL
) STRICT;

-- Everything else but patterns: vector space, watermarks, open episodes and their steps.
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

-- Commits that a server was asked for lately, so that one whose answer was lost is not made twice. Unused in a local file.
CREATE TABLE receipts (
    token BLOB PRIMARY KEY, -- of the commit; random
    version INTEGER NOT NULL, -- of its last change
    at INTEGER NOT NULL -- seconds since 1970
) STRICT, WITHOUT ROWID;
CREATE INDEX receipts_by_age ON receipts (at);

-- What follows can be derived from the log, and is, up to state.indexed or to a watermark.

-- What word search counts in each scope.
CREATE TABLE scopes (
    id INTEGER PRIMARY KEY, -- the version of the first of its records: no other scope ever has it
    scope TEXT NOT NULL UNIQUE,
    episodes INTEGER NOT NULL,
    words INTEGER NOT NULL, -- terms of tasks and tags, repeated ones counted each time
    trace_words INTEGER NOT NULL, -- the same of what happened
    notes INTEGER NOT NULL,
    note_words INTEGER NOT NULL
) STRICT;

-- Which records have which term how often. A token is the id of the scope, 'w' for words or 't' for what happened or 'n' for notes,
-- the term, '·' and how often it counts: what a search needs of a term stands in one place, and nothing else does. Terms are
-- alphanumeric and in lower case already, so that this tokenizer leaves them as they are.
CREATE VIRTUAL TABLE words USING fts5 (
    tokens, content = '', contentless_delete = 1, detail = 'none', tokenize = 'ascii'
);
CREATE VIRTUAL TABLE words_tokens USING fts5vocab (words, row);
CREATE VIRTUAL TABLE words_postings USING fts5vocab (words, instance);

-- All that search and filters need to know of an episode.
CREATE TABLE episode_index (
    scope INTEGER NOT NULL,
    version INTEGER NOT NULL,
    words INTEGER NOT NULL,
    trace_words INTEGER NOT NULL,
    domain TEXT,
    language TEXT,
    verdict TEXT NOT NULL,
    tags TEXT NOT NULL, -- JSON array
    completed_at INTEGER NOT NULL, -- microseconds since 1970
    completed_nanos INTEGER NOT NULL, -- nanoseconds beyond completed_at
    trusted INTEGER NOT NULL, -- how far the source is trusted: 0 or 1
    id BLOB NOT NULL,
    PRIMARY KEY (scope, version)
) STRICT, WITHOUT ROWID;

-- All that search and filters need to know of a note.
CREATE TABLE note_index (
    scope INTEGER NOT NULL,
    version INTEGER NOT NULL,
    words INTEGER NOT NULL, -- terms of the text and the tags, repeated ones counted each time
    told_here INTEGER NOT NULL, -- 1 if it was told in its own scope
    sessions INTEGER NOT NULL, -- distinct sessions in which it was told
    updated_at INTEGER NOT NULL, -- microseconds since 1970
    updated_nanos INTEGER NOT NULL, -- nanoseconds beyond updated_at
    expires_at INTEGER, -- microseconds since 1970
    expires_nanos INTEGER, -- nanoseconds beyond expires_at
    trusted INTEGER NOT NULL, -- how far its sources are trusted: 0 or 1
    kind TEXT NOT NULL,
    tags TEXT NOT NULL, -- JSON array
    thread TEXT, -- what it is part of
    id BLOB NOT NULL,
    PRIMARY KEY (scope, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX notes_by_scope ON note_index (scope, id);
CREATE INDEX notes_by_thread ON note_index (scope, thread, id) WHERE thread IS NOT NULL;
CREATE INDEX notes_by_expiry ON note_index (expires_at) WHERE expires_at IS NOT NULL;

-- What was learned, in blocks of patterns by rising key, and changes that the blocks have not taken in yet. The format is this
-- library's own.
CREATE TABLE pattern_blocks (
    block INTEGER PRIMARY KEY,
    first BLOB NOT NULL UNIQUE, -- the key from which on the patterns are in this block
    upto INTEGER NOT NULL, -- changes up to this one are in it
    patterns INTEGER NOT NULL, -- how many
    entries BLOB NOT NULL
) STRICT;
CREATE TABLE pattern_deltas (
    delta INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL,
    entries BLOB NOT NULL
) STRICT;
