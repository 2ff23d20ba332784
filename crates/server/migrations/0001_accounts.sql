-- Accounts and what proves them.

CREATE TABLE users (
    user_id       TEXT PRIMARY KEY,
    -- As the user wrote it; compared in lower case.
    email         TEXT NOT NULL,
    name          TEXT,
    -- Argon2id in PHC form; absent for accounts that dev_login made.
    password_hash TEXT,
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_email ON users (lower(email));

-- One login and everything that was refreshed from it: revoked as a whole (SEC-4).
CREATE TABLE token_families (
    family_id  TEXT PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- When the last token of the family has expired and the row may go.
    expires_at TIMESTAMPTZ NOT NULL,
    revoked_at TIMESTAMPTZ
);
CREATE INDEX token_families_user ON token_families (user_id);
CREATE INDEX token_families_revoked ON token_families (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX token_families_expiry ON token_families (expires_at);

CREATE TABLE refresh_tokens (
    -- SHA-256 of the token: a stolen database opens no account.
    token_hash BYTEA PRIMARY KEY,
    family_id  TEXT NOT NULL REFERENCES token_families ON DELETE CASCADE,
    expires_at TIMESTAMPTZ NOT NULL,
    -- Set by the one refresh that used it; a second use is theft.
    used_at    TIMESTAMPTZ
);
CREATE INDEX refresh_tokens_family ON refresh_tokens (family_id);

-- Failed logins, of existing accounts and of others alike, so that nobody learns which is which.
CREATE TABLE login_failures (
    -- SHA-256 of the e-mail address in lower case.
    email_hash   BYTEA PRIMARY KEY,
    failures     INTEGER NOT NULL,
    locked_until TIMESTAMPTZ,
    failed_at    TIMESTAMPTZ NOT NULL
);
CREATE INDEX login_failures_age ON login_failures (failed_at);
