-- Threads, messages, runs and the events that are their log.
--
-- JSON that users gave is text, not jsonb: it must come back exactly as it was (SEC-1).

CREATE TABLE threads (
    thread_id  text PRIMARY KEY,
    user_id    text NOT NULL REFERENCES users (user_id),
    -- Names this incarnation of the log (contract section 1); a restored backup would get a new one.
    epoch      text NOT NULL,
    title      text,
    metadata   text NOT NULL,
    -- What the agents keep about the thread, a JSON object.
    context    text NOT NULL DEFAULT '{}',
    -- A thread that was only offered in a handshake is listed from its first use on.
    listed     boolean NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz
);
CREATE INDEX threads_by_user ON threads (user_id, updated_at DESC, thread_id DESC) WHERE listed AND deleted_at IS NULL;

CREATE TABLE messages (
    thread_id  text NOT NULL,
    message_id text NOT NULL,
    role       text NOT NULL CHECK (role IN ('user', 'assistant')),
    content    text NOT NULL,
    metadata   text NOT NULL,
    -- What a user's message refers to, as it was.
    refs       text,
    created_at timestamptz NOT NULL,
    -- Order of saying within a thread; timestamps may be equal.
    place      bigint GENERATED ALWAYS AS IDENTITY,
    -- A message_id starts one run in a thread (SEQ-8); the answer to it has the same id and another role.
    PRIMARY KEY (thread_id, message_id, role)
);
CREATE INDEX messages_by_place ON messages (thread_id, place);

-- Nodes that are alive: each renews its lease; the runs of one that does not are taken over (SEQ-9).
CREATE TABLE nodes (
    node_id          text PRIMARY KEY,
    lease_expires_at timestamptz NOT NULL
);

CREATE TABLE runs (
    run_id         text PRIMARY KEY,
    thread_id      text NOT NULL,
    user_id        text NOT NULL,
    message_id     text NOT NULL,
    agent_name     text,
    input          text NOT NULL,
    context        text,
    phase          text NOT NULL,
    -- Who may write events of this run: the node with this fence and no other.
    node_id        text NOT NULL,
    fence          bigint NOT NULL,
    stop_reason    text,
    stop_cause     text,
    accepted_at    timestamptz NOT NULL,
    ended_at       timestamptz,
    final_response text,
    input_tokens   bigint NOT NULL DEFAULT 0,
    output_tokens  bigint NOT NULL DEFAULT 0,
    cost_microusd  bigint NOT NULL DEFAULT 0,
    UNIQUE (thread_id, message_id)
);
CREATE INDEX runs_open ON runs (node_id) WHERE ended_at IS NULL;
CREATE INDEX runs_by_user ON runs (user_id, ended_at);

-- No foreign keys: the writer checks the run's fence in the same statement, and this is the hottest table.
CREATE TABLE events (
    thread_id  text NOT NULL,
    seq        bigint NOT NULL,
    run_id     text NOT NULL,
    event_id   text NOT NULL,
    created_at timestamptz NOT NULL,
    -- The frame as it was first sent, byte for byte (SEQ-2).
    frame      text NOT NULL,
    PRIMARY KEY (thread_id, seq)
);
