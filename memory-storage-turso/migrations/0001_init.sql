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
    words INTEGER NOT NULL, -- terms of the task and its tags, repeated ones counted each time
    trace_words INTEGER NOT NULL, -- the same of what happened
    started_at INTEGER NOT NULL, -- microseconds since 1970
    completed_at INTEGER NOT NULL, -- microseconds since 1970
    completed_nanos INTEGER NOT NULL, -- nanoseconds beyond completed_at
    body TEXT NOT NULL, -- JSON of the whole episode
    task TEXT GENERATED ALWAYS AS (body ->> '$.task.text') VIRTUAL
) STRICT;

-- All that search and filters need to know of an episode.
CREATE INDEX episodes_search ON episodes (
    scope, version, words, trace_words, domain, language, verdict, tags, completed_at, completed_nanos, trusted, id
);

-- The vectors of the task texts: little-endian 32-bit floats.
CREATE TABLE vectors (
    episode INTEGER PRIMARY KEY REFERENCES episodes (version) ON DELETE CASCADE,
    vector BLOB NOT NULL
) STRICT;

-- Which episodes have which term how often. A token is the id of the scope, 'w' for words or 't' for what happened, the term, '·' and
-- how often it counts: what a search needs of a term stands in one place, and nothing else does. Terms are alphanumeric and in
-- lower case already, so that this tokenizer leaves them as they are.
CREATE VIRTUAL TABLE episode_words USING fts5 (
    tokens, content = '', contentless_delete = 1, detail = 'none', tokenize = 'ascii'
);
CREATE VIRTUAL TABLE episode_words_tokens USING fts5vocab (episode_words, row);
CREATE VIRTUAL TABLE episode_words_postings USING fts5vocab (episode_words, instance);

-- What word search counts in each scope.
CREATE TABLE scopes (
    scope TEXT PRIMARY KEY,
    id INTEGER NOT NULL, -- the version of the first of its episodes: no other scope ever has it
    episodes INTEGER NOT NULL,
    words INTEGER NOT NULL,
    trace_words INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Notes, each in its present state; among them candidates for notes of an agent. The small columns come first.
CREATE TABLE notes (
    version INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    kind TEXT NOT NULL,
    tags TEXT NOT NULL, -- JSON array
    salience REAL NOT NULL,
    thread TEXT, -- what it is part of
    position INTEGER, -- its place in there
    trusted INTEGER NOT NULL, -- how far its sources are trusted: 0 or 1
    told_here INTEGER NOT NULL, -- 1 if it was told in its own scope
    sessions INTEGER NOT NULL, -- distinct sessions in which it was told
    words INTEGER NOT NULL, -- terms of the text and the tags, repeated ones counted each time
    updated_at INTEGER NOT NULL, -- microseconds since 1970
    updated_nanos INTEGER NOT NULL, -- nanoseconds beyond updated_at
    expires_at INTEGER, -- microseconds since 1970
    expires_nanos INTEGER, -- nanoseconds beyond expires_at
    body TEXT NOT NULL, -- JSON of the whole note
    text TEXT GENERATED ALWAYS AS (body ->> '$.text') VIRTUAL
) STRICT;

-- All that search and filters need to know of a note.
CREATE INDEX notes_search ON notes (
    scope, version, words, told_here, sessions, updated_at, updated_nanos, expires_at, expires_nanos, trusted, kind, tags, thread, id
);
CREATE INDEX notes_by_scope ON notes (scope, id);
CREATE INDEX notes_by_thread ON notes (scope, thread, id) WHERE thread IS NOT NULL;
CREATE INDEX notes_by_expiry ON notes (expires_at) WHERE expires_at IS NOT NULL;

-- Vectors, terms and counts of notes, as those of episodes above.
CREATE TABLE note_vectors (
    note INTEGER PRIMARY KEY REFERENCES notes (version) ON DELETE CASCADE,
    vector BLOB NOT NULL
) STRICT;
CREATE VIRTUAL TABLE note_words USING fts5 (
    tokens, content = '', contentless_delete = 1, detail = 'none', tokenize = 'ascii'
);
CREATE VIRTUAL TABLE note_words_tokens USING fts5vocab (note_words, row);
CREATE VIRTUAL TABLE note_words_postings USING fts5vocab (note_words, instance);
CREATE TABLE note_scopes (
    scope TEXT PRIMARY KEY,
    id INTEGER NOT NULL,
    notes INTEGER NOT NULL,
    words INTEGER NOT NULL,
    trace_words INTEGER NOT NULL -- none
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
