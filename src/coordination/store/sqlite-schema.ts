/**
 * Schema by version: entry n turns version n into n + 1. Entries that were released never change.
 * Records live in `body` as JSON; columns beside it exist for what the database itself must uphold.
 */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE users (id INTEGER PRIMARY KEY, login TEXT NOT NULL UNIQUE, body TEXT NOT NULL) STRICT;
  CREATE TABLE auth_keys (
    id TEXT PRIMARY KEY,
    user_id INTEGER REFERENCES users (id),
    reusable INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    last_used INTEGER,
    body TEXT NOT NULL
  ) STRICT;
  CREATE TABLE nodes (
    id INTEGER PRIMARY KEY,
    machine_key TEXT NOT NULL,
    node_key TEXT NOT NULL UNIQUE,
    user_id INTEGER REFERENCES users (id),
    name TEXT NOT NULL UNIQUE,
    ipv4 TEXT NOT NULL UNIQUE,
    ipv6 TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL
  ) STRICT;
  CREATE TABLE resting (ipv4 TEXT PRIMARY KEY, until INTEGER NOT NULL) STRICT;
  CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
  CREATE TABLE log (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    by TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT
  ) STRICT;
  `,
  `
  ALTER TABLE users ADD COLUMN identity TEXT;
  CREATE UNIQUE INDEX users_identity ON users (identity);
  `,
];

/** Versions before it may corrupt a database in WAL mode (the WAL-reset bug, sqlite.org/wal.html). */
export const LEAST_SQLITE: readonly [number, number, number] = [3, 51, 3];
