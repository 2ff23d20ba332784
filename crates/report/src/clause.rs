//! The clauses of the contract (`docs/contract.md`): id, level and sentence of each.
//!
//! This list is what `case!` of the test kit checks at compile time: a test that names a clause which does not exist does
//! not compile.

use crate::row::same;
use crate::summary::Level;

/// One clause of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Its id, such as `SEQ-1`.
    pub id: &'static str,
    /// How much it binds.
    pub level: Level,
    /// What it says; `docs/contract.md` has the whole text.
    pub sentence: &'static str,
}

impl Clause {
    /// The clause with this id.
    ///
    /// # Panics
    /// When there is none; in a constant, where `case!` calls it, that is a compile error.
    #[must_use]
    pub const fn named(id: &str) -> Self {
        match Self::find(id) {
            Some(clause) => clause,
            None => panic!("no clause of the contract has this id"),
        }
    }

    /// The clause with this id, if there is one.
    #[must_use]
    pub const fn find(id: &str) -> Option<Self> {
        let mut index = 0;
        while index < CLAUSES.len() {
            if same(CLAUSES[index].id, id) {
                return Some(CLAUSES[index]);
            }
            index += 1;
        }
        None
    }

    /// What it is about, as its id says: `SEQ` of `SEQ-1`.
    #[must_use]
    pub fn family(&self) -> &'static str {
        self.id.split('-').next().unwrap_or(self.id)
    }
}

const fn must(id: &'static str, sentence: &'static str) -> Clause {
    Clause {
        id,
        level: Level::Must,
        sentence,
    }
}

const fn should(id: &'static str, sentence: &'static str) -> Clause {
    Clause {
        id,
        level: Level::Should,
        sentence,
    }
}

/// Every clause, in the contract's order.
pub const CLAUSES: &[Clause] = &[
    must(
        "CON-1",
        "WebSocket at `GET /ws` (RFC 6455, version 13): masking, reserved bits, opcodes, fragmentation, control frames and the closing handshake as the RFC has them, a breach closed with 1002. A refused version answers 426 with `Sec-WebSocket-Version: 13`",
    ),
    must(
        "CON-2",
        "answers pings with pongs, sends its own ping at the heartbeat interval, drops a peer from which no frame of any kind came for two intervals, within three, by 1001 or a bare end",
    ),
    must(
        "CON-3",
        "binary data frame → close 1003; invalid UTF-8 → close 1007; message above the limit, whole or as the sum of its fragments → close 1009; the server reads on until its close frame can arrive",
    ),
    must(
        "CON-4",
        "while draining, refuses upgrades with HTTP 503 and `Retry-After`, sends `server_shutdown` to open connections, lets running runs finish up to the drain deadline, then closes with 1001 (1012 on restart)",
    ),
    should("CON-5", "negotiates permessage-deflate, or states that it does not"),
    must(
        "CON-6",
        "a peer whose TCP connection ended, with or without a close frame, frees its place at once; the next connection is not counted against it",
    ),
    must(
        "AUTH-1",
        "the credential is judged **before** the upgrade is accepted: missing, malformed, expired, revoked or wrongly signed → HTTP 401, JSON error body, no upgrade",
    ),
    must(
        "AUTH-2",
        "accepts, in this order: a sub-protocol `jwt.T`, `jwt-auth.T`, `bearer.T` or `staging-auth.T`, where `T` is a JWT, raw or base64url-encoded whole, optionally preceded by one segment of `local`, `development`, `staging`, `production` and a dot; `Authorization: Bearer T`; query `ticket`; query `token`",
    ),
    must(
        "AUTH-3",
        "when a sub-protocol carried the token, echoes exactly that offered value or none; never one that was not offered",
    ),
    must(
        "AUTH-4",
        "a ticket (`POST /api/websocket/ticket`, 30–3600 s, single use by default) works once and dies with its time",
    ),
    must(
        "AUTH-5",
        "`alg: none`, another algorithm, a changed payload, another issuer or audience → 401",
    ),
    must(
        "AUTH-6",
        "a token that expires or is revoked during a connection ends it with close 4401 within 5 s of the fact, after `error` `AUTH_TOKEN_EXPIRED` or `AUTH_TOKEN_REVOKED` (`auth` with a fresh token of the same user before that keeps it open; another user's → AUTH_FORBIDDEN and nothing changes); clock leeway is at most 5 s",
    ),
    must(
        "AUTH-7",
        "with an allow-list of origins configured, a foreign `Origin` → HTTP 403; no `Origin` is allowed. Refusals are judged in the order 503 draining, 403 origin, 401 credential, 426 version, 429 limits",
    ),
    must(
        "AUTH-8",
        "no credential ever appears in a log line, an event, an error or a recording. The answers that hand one out, and a user's own text in his own stored history, are not meant",
    ),
    must(
        "HSK-1",
        "`connection_established` {`connection_id`, `server_version`, `protocol_version`, `heartbeat_interval_ms`, `limits`{…}, `timestamp`} is the first frame, `handshake_response` {`thread_id`, `run_id`, `request_id`, `session_token`, `timestamp`, `message`} the second; both within 1 s of the upgrade",
    ),
    must(
        "HSK-2",
        "after the first `handshake_acknowledged` {`thread_id`?, `timestamp`?, `resume`?: [{`thread_id`, `epoch`, `after`}]} the very next frame is `handshake_complete` {`threads`: [{`thread_id`, `epoch`, `recovered`, `oldest_seq`, `last_seq`}]}",
    ),
    must(
        "HSK-3",
        "no event before `handshake_complete`; a message that needs the handshake and comes before it → `error` `HANDSHAKE_REQUIRED`",
    ),
    must(
        "HSK-4",
        "not acknowledged within the handshake deadline (10 s by default) → close 4408",
    ),
    must(
        "EVT-1",
        "`agent_started` carries `status` \"started\", `message` and `context` with `agent_names` and `input_chars`",
    ),
    must(
        "EVT-2",
        "`agent_thinking` carries `reasoning` of at least 10 characters, specific to the request, and `step_number` from 1",
    ),
    must(
        "EVT-3",
        "`tool_executing` carries `execution_id`, `tool_name`, `parameters` (an object, redacted) and `tool_purpose`",
    ),
    must(
        "EVT-4",
        "`tool_completed` carries `execution_id`, `tool_name`, `success`, `status`, `results` or `error`, and `duration_ms`",
    ),
    must(
        "EVT-5",
        "`agent_completed` carries `status`, `success`, a `final_response` that is not empty, `result`, `summary`, `duration_ms` and `usage`",
    ),
    must(
        "EVT-6",
        "the other events of the log carry the fields that belong to their type",
    ),
    must(
        "EVT-7",
        "every required field present, of its type, strings not blank; an unknown extra field is tolerated, an unknown event type is tolerated by clients and reported by the suite",
    ),
    must(
        "EVT-8",
        "parameters and results are redacted: values under keys that contain, in any case, password, secret, token, api_key, authorization or credential never leave the backend (a string that does not hold the value stands instead; numbers under keys ending in `tokens` are counts and stay); strings over 2,000 characters are cut and end with a mark that says how many were cut",
    ),
    must(
        "ORD-1",
        "exactly one `agent_started`, before every other event of the run",
    ),
    must("ORD-2", "at least one `agent_thinking` between start and completion"),
    must(
        "ORD-3",
        "every `tool_executing` is answered by exactly one later `tool_completed` with the same `execution_id` and `tool_name`, also when the tool fails, times out or the run is cancelled; no `tool_completed` without its `tool_executing`",
    ),
    must(
        "ORD-4",
        "exactly one `agent_completed`, after every other event of the run, on **every** path: success, failure, cancel, timeout, crash of the node that ran it",
    ),
    must(
        "ORD-5",
        "`subagent_started` / `subagent_completed` pair likewise, by agent name and step",
    ),
    must(
        "ORD-6",
        "tools may overlap in time; events of different runs may interleave; each run alone satisfies ORD-1…5",
    ),
    must(
        "ORD-7",
        "`duration_ms` agrees with the observed distance of the pair's timestamps within 50 ms + 10 %; timestamps never go backwards within a thread",
    ),
    must(
        "SEQ-1",
        "`seq` starts at 1 in a thread and rises by exactly 1: no hole, no repeat, over all runs, nodes and restarts",
    ),
    must(
        "SEQ-2",
        "an event that any client has seen is never lost or changed: it is durable before it is sent. A replay is byte-identical to the first delivery",
    ),
    must(
        "SEQ-3",
        "resume with (`epoch`, `after`) answers `recovered: true` and then every event above `after`, in order, each once, then live, with no gap or repeat between the two; or `recovered: false` with `oldest_seq` and the current `epoch`. Never a silent gap",
    ),
    must(
        "SEQ-4",
        "at least the newest 1,000 events of a thread stay resumable for at least 24 h (both configurable upwards); what was dropped → `recovered: false`; keeping more is allowed, `oldest_seq` tells",
    ),
    must(
        "SEQ-5",
        "a run outlives its connection; its end can be fetched by resume or by `get_thread_history`",
    ),
    must(
        "SEQ-6",
        "two connections following a thread see the same sequence; so do connections on different nodes",
    ),
    must(
        "SEQ-7",
        "a slow reader delays no one else; past its queue bound (count and bytes) it is closed with 4409 (after `error` `SLOW_CONSUMER` where that still gets through), and resume brings it all it missed; the bound is stated in `limits`",
    ),
    must(
        "SEQ-8",
        "a client message with a `message_id` seen before (in the thread, within 24 h) starts no second run, whatever its (valid) content; the reply names the first run and comes before any limit is judged",
    ),
    must(
        "SEQ-9",
        "after a crash of the node that owned a run, another node (or the restarted one) within 5 s of taking over goes on with it or ends it with `agent_completed` `failed`",
    ),
    must(
        "ISO-1",
        "a user receives only frames of his own; no id, text or timing field of another user appears anywhere",
    ),
    must(
        "ISO-2",
        "a foreign or unknown `thread_id` in any message, resume or REST call → `THREAD_NOT_FOUND` in the same shape and time class for both (no oracle)",
    ),
    must(
        "ISO-3",
        "agent state, tool context, memory, quotas and billing are per user",
    ),
    must(
        "SEC-1",
        "hostile input (10 kB id, NUL, path traversal, SQL, script, emoji, deep nesting, huge numbers, duplicate keys) is refused with a clear error or stored and returned verbatim; never executed, never a crash. Deep nesting, duplicate keys and lone surrogates → VALIDATION_ERROR; what is stored comes back as it was: text exactly, integers exactly, other numbers to double precision",
    ),
    must(
        "SEC-2",
        "no stack trace, SQL, file path, prompt or internal address of the backend in any frame; the user's own words quoted back are not meant",
    ),
    must(
        "SEC-3",
        "rate and connection limits hold per user and per address; a flood of one user leaves others within their latency bound",
    ),
    must(
        "SEC-4",
        "passwords are stored as Argon2id; after five failed logins the next answers 423, for 15 min; refresh tokens rotate and a reused one revokes its family, access tokens included",
    ),
    must(
        "MSG-0",
        "a client's frame is read tolerantly: unknown fields, `null` for an optional field, a client `run_id` of its own wording, `thread_id` inside `payload` or null (the connection's own thread is meant), `timestamp` with or without zone and fraction, are all accepted; nothing of them is taken on trust",
    ),
    must(
        "MSG-1",
        "each type above is answered as stated; the answer carries the `message_id` as `correlation_id`",
    ),
    must(
        "MSG-2",
        "an unknown type → `error` `UNKNOWN_MESSAGE_TYPE` naming it; the connection stays",
    ),
    must(
        "MSG-3",
        "JSON that does not parse → `error` `JSON_PARSE_ERROR` with line and column; the connection stays",
    ),
    must(
        "MSG-4",
        "a field missing or of the wrong type → `error` `VALIDATION_ERROR` with the JSON pointer of the field and what was expected",
    ),
    must(
        "MSG-5",
        "an accepted `user_message` is durable when `message_received` is sent: a crash right after loses nothing",
    ),
    must(
        "ERR-1",
        "every refused or failed request yields exactly one error with its code; none is silent",
    ),
    must(
        "ERR-2",
        "an error of one run, tool, user or connection disturbs no other",
    ),
    must(
        "ERR-3",
        "with Redis down, chat on one node goes on and health says degraded; with Postgres down, new work is refused with DATABASE_UNAVAILABLE, connections stay, and work resumes by itself within 5 s of its return",
    ),
    must(
        "ERR-4",
        "calls to model and services go through a circuit breaker and retries with exponential back-off and jitter; an open breaker fails fast (< 100 ms) with CIRCUIT_OPEN, and its state is visible in health and metrics",
    ),
    must(
        "TIM-1",
        "`message_received` within 500 ms, `agent_started` within 1 s of the message at normal load. Runs of one thread may follow one another: then `agent_started` counts from the end of the run before, and `message_received` does not wait",
    ),
    must(
        "TIM-2",
        "no silence longer than 5 s in an open run (`progress_update` or `agent_thinking` fills it)",
    ),
    must(
        "TIM-3",
        "event latency (durable append to arrival at the client) p99 < 50 ms at 1,000 events/s; the goal is 5 ms",
    ),
    must(
        "TIM-4",
        "a run ends within its deadline (30 s by default, from its `agent_started`) with `timed_out` at the latest",
    ),
    must(
        "TIM-5",
        "reconnect and resume within 3 s of the network's return; the goal is 1 s",
    ),
    must(
        "LIM-1",
        "limits are stated in `connection_established` and hold: `message_bytes_max` 5 MiB, `content_chars_max` 8,000 (Unicode code points; more → VALIDATION_ERROR at its pointer), `connections_per_user_max` 10, `messages_per_minute_max` 60 and `messages_burst_max` 20 (messages that start a run, over all connections of a user), `frames_per_second_max` ≥ 100 (all others), `threads_per_user_max` by plan, `queue_frames_max`, `queue_bytes_max`, `connections_per_address_max`, `logins_per_minute_max`",
    ),
    must(
        "HTTP-1",
        "each call answers as the table says; refusals carry the error body of §9; `/api/openapi.json` describes all of them truly",
    ),
    must(
        "OPS-1",
        "ready is false until migrations ran, Postgres and Redis answer and agents are registered; live stays true while a dependency is down",
    ),
    must(
        "OPS-2",
        "metrics count connections, events sent by type, resumes, drops, errors by code, runs by status, queue depths, breaker states, and give latency histograms",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_found_and_stands_once() {
        for (index, clause) in CLAUSES.iter().enumerate() {
            assert_eq!(Clause::find(clause.id), Some(*clause));
            assert!(
                CLAUSES[index + 1..].iter().all(|other| other.id != clause.id),
                "{} stands twice",
                clause.id
            );
            assert!(!clause.sentence.trim().is_empty());
        }
    }

    #[test]
    fn an_id_that_is_only_a_beginning_is_not_found() {
        assert_eq!(Clause::find("SEQ-"), None);
        assert_eq!(Clause::find("SEQ-10"), None);
        assert_eq!(Clause::find(""), None);
    }
}
