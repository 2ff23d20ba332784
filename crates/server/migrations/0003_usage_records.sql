-- Uses of AI models that users bring; agents compute their answers from them.

CREATE TABLE usage_records (
    record_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id       text NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
    at            timestamptz NOT NULL,
    model         text NOT NULL,
    feature       text,
    input_tokens  bigint NOT NULL,
    output_tokens bigint NOT NULL,
    latency_ms    bigint,
    cost_microusd bigint NOT NULL,
    prompt_hash   text,
    success       boolean NOT NULL
);
CREATE INDEX usage_records_by_user ON usage_records (user_id, at, record_id);

-- What a user's records add up to, kept with each import, so that it can be asked every second.
CREATE TABLE usage_totals (
    user_id          text PRIMARY KEY REFERENCES users (user_id) ON DELETE CASCADE,
    records          bigint NOT NULL,
    cost_microusd    bigint NOT NULL,
    with_feature     bigint NOT NULL,
    with_latency     bigint NOT NULL,
    with_prompt_hash bigint NOT NULL,
    first_at         timestamptz NOT NULL,
    last_at          timestamptz NOT NULL
);
