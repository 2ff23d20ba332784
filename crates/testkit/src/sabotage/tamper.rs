//! What rules do to what passes, without any I/O.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use super::http::Head;
use super::{Acting, How, Place, Rule, sse};

/// Frames that wait for a client's connection to take them.
pub(super) type Outbox = mpsc::Sender<Outgoing>;

/// Something on its way to one side.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outgoing {
    pub(super) what: What,
    /// How long it waits before it passes.
    pub(super) after: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// A text frame.
    Text(String),
    /// Bytes as they came: frames of other kinds, what is no frame at all.
    Raw(Vec<u8>),
    /// The end of the connection.
    End,
}

impl Outgoing {
    pub(super) fn now(what: What) -> Self {
        Self {
            what,
            after: Duration::ZERO,
        }
    }
}

/// What all connections through the saboteurs of one test share.
#[derive(Debug)]
pub(super) struct State {
    pub(super) rules: Vec<Acting>,
    connections: AtomicU64,
    shared: Mutex<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Events that some client has had.
    delivered: HashSet<String>,
    /// Whether a rule chose an event: the same each time that it passes.
    decided: HashMap<(usize, String), bool>,
    /// Matches of a rule so far, by run or connection.
    counted: HashMap<(usize, String), u64>,
    /// A token that the backend gave or accepted.
    credential: Option<String>,
    outboxes: HashMap<u64, Outbox>,
}

impl State {
    pub(super) fn new(rules: Vec<Acting>) -> Self {
        Self {
            rules,
            connections: AtomicU64::default(),
            shared: Mutex::default(),
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn credential(&self) -> Option<String> {
        self.shared().credential.clone()
    }

    pub(super) fn remember_credential(&self, token: &str) {
        self.shared().credential = Some(token.to_owned());
    }

    fn happened(&self, rule: usize) {
        self.rules[rule].happened.fetch_add(1, Ordering::Relaxed);
    }

    /// Rules for a place, with their numbers.
    fn rules_at(&self, place: Place) -> impl Iterator<Item = (usize, &Rule)> {
        let rules = self.rules.iter().map(|acting| &acting.rule).enumerate();
        rules.filter(move |(_, rule)| rule.at == place)
    }

    /// The first rule for HTTP at a place that an exchange fulfils.
    fn http_rules(&self, place: Place, target: &str, code: Option<u16>) -> Vec<(usize, How)> {
        let fulfils = |rule: &Rule| {
            rule.path.as_ref().is_none_or(|path| target.starts_with(path.as_str()))
                && (rule.code.is_none() || rule.code == code)
        };
        let found = self.rules_at(place).filter(|(_, rule)| fulfils(rule));
        found.map(|(index, rule)| (index, rule.how.clone())).collect()
    }

    /// Whether some rule changes the body of this answer.
    pub(super) fn changes_body(&self, target: &str, code: u16) -> bool {
        let rules = self.http_rules(Place::Response, target, Some(code));
        rules.iter().any(|(_, how)| {
            matches!(
                how,
                How::Remove(_) | How::Set(_) | How::Add(_) | How::Rename(_) | How::Replace(_)
            )
        })
    }

    pub(super) fn change_request(&self, head: &mut Head) {
        for (index, how) in self.http_rules(Place::Request, &head.target(), None) {
            let changed = match how {
                How::RemoveHeader(name) => head.remove(&name),
                How::SetHeader((name, value)) => head.set(&name, &value),
                How::Replace((from, to)) => head.replace_in_target(&from, &to),
                _ => false,
            };
            if changed {
                self.happened(index);
            }
        }
    }

    /// The request again, with a credential that the backend takes; `None` where no rule wants that.
    pub(super) fn with_good_credential(&self, request: &Head) -> Option<Head> {
        let rules = self.http_rules(Place::Request, &request.target(), None);
        let (index, _) = rules.into_iter().find(|(_, how)| *how == How::GoodCredential)?;
        let token = self.credential()?;
        let mut again = request.clone();
        again.remove("sec-websocket-protocol");
        again.remove("authorization");
        again.without_query();
        again.set("authorization", &format!("Bearer {token}"));
        self.happened(index);
        Some(again)
    }

    pub(super) fn change_response(&self, target: &str, head: &mut Head, body: &mut Vec<u8>) {
        for (index, how) in self.http_rules(Place::Response, target, head.status()) {
            let changed = match &how {
                How::Code(status) => head.set_status(*status),
                How::RemoveHeader(name) => head.remove(name),
                How::SetHeader((name, value)) => head.set(name, value),
                How::Replace((from, to)) => replace_in(body, from, to),
                edit => {
                    let mut value = serde_json::from_slice(body).unwrap_or_default();
                    let changed = self.edit(edit, &mut value);
                    if changed {
                        *body = value.to_string().into_bytes();
                    }
                    changed
                }
            };
            if changed {
                self.happened(index);
            }
        }
    }

    /// Changes fields; whether something changed.
    fn edit(&self, how: &How, value: &mut Value) -> bool {
        match how {
            How::Remove(pointer) => take(value, pointer).is_some(),
            How::Set(fields) => fields.iter().all(|(pointer, new)| put(value, pointer, new.clone())),
            How::Credential(pointer) => {
                let token = self.credential();
                token.is_some_and(|token| put(value, pointer, Value::String(token)))
            }
            How::Add((pointer, amount)) => {
                let sum = value
                    .pointer(pointer)
                    .and_then(Value::as_i64)
                    .map(|number| number + amount);
                sum.is_some_and(|sum| put(value, pointer, Value::from(sum)))
            }
            How::Rename((pointer, name)) => match take(value, pointer) {
                Some(field) => {
                    let (parent, _) = pointer.rsplit_once('/').unwrap_or_default();
                    put(value, &format!("{parent}/{name}"), field)
                }
                None => false,
            },
            How::Replace((from, to)) => {
                let text = value.to_string();
                let Ok(changed) = serde_json::from_str(&text.replace(from.as_str(), to)) else {
                    return false;
                };
                std::mem::replace(value, changed) != *value
            }
            _ => false,
        }
    }
}

fn replace_in(body: &mut Vec<u8>, from: &str, to: &str) -> bool {
    let text = String::from_utf8_lossy(body);
    if !text.contains(from) {
        return false;
    }
    *body = text.replace(from, to).into_bytes();
    true
}

fn take(value: &mut Value, pointer: &str) -> Option<Value> {
    let (parent, key) = pointer.rsplit_once('/')?;
    value.pointer_mut(parent)?.as_object_mut()?.remove(key)
}

fn put(value: &mut Value, pointer: &str, new: Value) -> bool {
    let Some((parent, key)) = pointer.rsplit_once('/') else {
        return false;
    };
    match value.pointer_mut(parent).and_then(Value::as_object_mut) {
        Some(object) => {
            object.insert(key.to_owned(), new);
            true
        }
        None => false,
    }
}

/// One WebSocket connection or stream of Server-Sent Events as the rules see it.
#[derive(Debug)]
pub(super) struct Passage<'a> {
    state: &'a State,
    connection: u64,
    /// A frame that waits for the one that follows it.
    held: Option<String>,
    /// Runs that began and have not ended.
    open_runs: BTreeSet<String>,
}

impl<'a> Passage<'a> {
    pub(super) fn of_connection(state: &'a State, outbox: Outbox) -> Self {
        let passage = Self::of_stream(state);
        state.shared().outboxes.insert(passage.connection, outbox);
        passage
    }

    /// Nothing leaks into a stream.
    pub(super) fn of_stream(state: &'a State) -> Self {
        let connection = state.connections.fetch_add(1, Ordering::Relaxed);
        Self {
            state,
            connection,
            held: None,
            open_runs: BTreeSet::new(),
        }
    }

    /// What becomes of a text frame of the backend.
    pub(super) fn frame_for_client(&mut self, text: String) -> Vec<Outgoing> {
        let Ok(mut frame) = serde_json::from_str::<Value>(&text) else {
            return vec![Outgoing::now(What::Text(text))];
        };
        self.note_run(&frame);
        let fate = self.fate(Place::ToClient, &text, &mut frame);
        self.pass(fate, text, &frame, &frame, Value::to_string)
    }

    /// What becomes of one of the backend's Server-Sent Events, or of a comment between them.
    pub(super) fn server_sent_event(&mut self, block: String) -> Vec<Outgoing> {
        let Some(mut event) = sse::read(&block) else {
            return vec![Outgoing::now(What::Text(block))];
        };
        let fate = self.fate(Place::Sse, &block, &mut event);
        self.pass(fate, block, &event, &event["data"], sse::write)
    }

    /// Lets something pass to the client as its fate is; `body` is what of `frame` leaks.
    fn pass(
        &mut self,
        fate: Fate,
        text: String,
        frame: &Value,
        body: &Value,
        write: fn(&Value) -> String,
    ) -> Vec<Outgoing> {
        if let Some(event) = body["event_id"].as_str() {
            self.state.shared().delivered.insert(event.to_owned());
        }
        if fate.leaks {
            let others = self.state.shared().outboxes.clone();
            for (_, outbox) in others.iter().filter(|(connection, _)| **connection != self.connection) {
                // A connection that takes nothing any more has nothing leaked into it.
                outbox.try_send(Outgoing::now(What::Text(body.to_string()))).ok();
            }
        }
        let text = if fate.edited { write(frame) } else { text };
        let mut texts: Vec<_> = fate.before.iter().map(write).collect();
        match self.held.take() {
            _ if fate.swapped => self.held = Some(text),
            held => {
                texts.extend(std::iter::repeat_n(text, fate.copies));
                texts.extend(held);
            }
        }
        let outgoing = |text| Outgoing {
            what: What::Text(text),
            after: fate.delay,
        };
        let mut outgoing: Vec<_> = texts.into_iter().map(outgoing).collect();
        if fate.ends {
            outgoing.push(Outgoing::now(What::End));
        }
        outgoing
    }

    /// What becomes of a text frame of the client.
    pub(super) fn frame_for_server(&mut self, text: String) -> Vec<Outgoing> {
        let Ok(mut frame) = serde_json::from_str::<Value>(&text) else {
            return vec![Outgoing::now(What::Text(text))];
        };
        let fate = self.fate(Place::ToServer, &text, &mut frame);
        let text = if fate.edited { frame.to_string() } else { text };
        let outgoing = |text| Outgoing {
            what: What::Text(text),
            after: fate.delay,
        };
        std::iter::repeat_n(text, fate.copies).map(outgoing).collect()
    }

    /// The code with which a close frame passes; `None` where it does not.
    pub(super) fn close(&self, code: u16) -> Option<u16> {
        let mut rules = self.state.rules_at(Place::Close);
        let found = rules.find(|(_, rule)| rule.code.is_none_or(|wanted| wanted == code));
        let Some((index, rule)) = found else { return Some(code) };
        self.state.happened(index);
        match rule.how {
            How::Code(other) => Some(other),
            _ => None,
        }
    }

    /// Whether pongs pass.
    pub(super) fn lets_pongs_pass(&self) -> bool {
        let swallowing = self.state.rules_at(Place::Pong).next();
        if let Some((index, _)) = swallowing {
            self.state.happened(index);
        }
        swallowing.is_none()
    }

    /// What is done when the client is gone: whether the backend is told, and what it is told before.
    pub(super) fn leave(&self) -> (bool, Vec<Outgoing>) {
        let (mut told, mut last) = (true, Vec::new());
        for (index, rule) in self.state.rules_at(Place::Leave) {
            match rule.how {
                How::Stay => {
                    told = false;
                    self.state.happened(index);
                }
                How::StopRuns => {
                    for run in &self.open_runs {
                        let stop =
                            serde_json::json!({ "type": "stop_agent", "run_id": run, "reason": "the client left" });
                        last.push(Outgoing::now(What::Text(stop.to_string())));
                        self.state.happened(index);
                    }
                }
                _ => {}
            }
        }
        (told, last)
    }

    fn note_run(&mut self, frame: &Value) {
        let Some(run) = frame["run_id"].as_str() else { return };
        match frame["type"].as_str() {
            Some("agent_started") => self.open_runs.insert(run.to_owned()),
            Some("agent_completed") => self.open_runs.remove(run),
            _ => false,
        };
    }

    fn fate(&self, place: Place, text: &str, frame: &mut Value) -> Fate {
        let mut fate = Fate::default();
        for (index, rule) in self.state.rules_at(place) {
            let body = if place == Place::Sse { &frame["data"] } else { &*frame };
            if !self.chooses(index, rule, text, body) {
                continue;
            }
            let did = match &rule.how {
                How::Drop => std::mem::replace(&mut fate.copies, 0) > 0,
                How::Double => std::mem::replace(&mut fate.copies, 2) == 1,
                How::Delay(ms) => {
                    fate.delay = Duration::from_millis(*ms);
                    true
                }
                How::SwapWithNext => !std::mem::replace(&mut fate.swapped, true),
                How::Before(other) => {
                    fate.before.push(other.clone());
                    true
                }
                How::End => !std::mem::replace(&mut fate.ends, true),
                How::Leak => !std::mem::replace(&mut fate.leaks, true),
                edit => {
                    let changed = self.state.edit(edit, frame);
                    fate.edited |= changed;
                    changed
                }
            };
            if did {
                self.state.happened(index);
            }
        }
        fate
    }

    /// Whether a rule is about this frame.
    fn chooses(&self, index: usize, rule: &Rule, text: &str, frame: &Value) -> bool {
        let of_type = |name: &str| rule.types.iter().any(|wanted| wanted == name);
        if !rule.types.is_empty() && !frame["type"].as_str().is_some_and(of_type)
            || rule
                .containing
                .as_ref()
                .is_some_and(|part| !text.contains(part.as_str()))
            || rule.every_other_connection && self.connection.is_multiple_of(2)
        {
            return false;
        }
        let mut shared = self.state.shared();
        let event = frame["event_id"].as_str();
        if rule.repeated {
            return event.is_some_and(|event| shared.delivered.contains(event));
        }
        if rule.nth.is_none() && rule.from.is_none() {
            return true;
        }
        if let Some(decided) = event.and_then(|event| shared.decided.get(&(index, event.to_owned()))) {
            return *decided;
        }
        let whose = frame["run_id"]
            .as_str()
            .map_or_else(|| self.connection.to_string(), str::to_owned);
        let count = shared.counted.entry((index, whose)).or_default();
        *count += 1;
        let chosen = rule.nth.is_none_or(|nth| *count == nth) && rule.from.is_none_or(|from| *count >= from);
        if let Some(event) = event {
            shared.decided.insert((index, event.to_owned()), chosen);
        }
        chosen
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.state.shared().outboxes.remove(&self.connection);
    }
}

/// What all rules together do to one frame.
#[derive(Debug)]
struct Fate {
    before: Vec<Value>,
    copies: usize,
    delay: Duration,
    swapped: bool,
    edited: bool,
    leaks: bool,
    ends: bool,
}

impl Default for Fate {
    fn default() -> Self {
        Self {
            before: Vec::new(),
            copies: 1,
            delay: Duration::ZERO,
            swapped: false,
            edited: false,
            leaks: false,
            ends: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::super::Sabotage;
    use super::*;

    kingsguard_report::covers!("PROOF-1");

    fn sabotage(rules: Value) -> Sabotage {
        Sabotage::new(serde_json::from_value(rules).expect("rules"))
    }

    /// What arrives of these frames on one connection.
    fn arrives(sabotage: &Sabotage, frames: &[Value]) -> Vec<Value> {
        let (outbox, _inbox) = mpsc::channel(1);
        let mut passage = Passage::of_connection(&sabotage.state, outbox);
        let passed = frames
            .iter()
            .flat_map(|frame| passage.frame_for_client(frame.to_string()));
        passed
            .filter_map(|outgoing| match outgoing.what {
                What::Text(text) => Some(serde_json::from_str(&text).expect("it was JSON")),
                What::Raw(_) | What::End => None,
            })
            .collect()
    }

    fn event(kind: &str, id: &str) -> Value {
        json!({ "type": kind, "event_id": id, "run_id": "r", "seq": 1 })
    }

    #[test]
    fn frames_are_dropped_doubled_swapped_and_preceded() {
        let frames = [event("a", "1"), event("b", "2"), event("c", "3")];
        let [a, b, c] = frames.clone();
        for (how, expected) in [
            (json!("drop"), vec![a.clone(), c.clone()]),
            (json!("double"), vec![a.clone(), b.clone(), b.clone(), c.clone()]),
            (json!("swap_with_next"), vec![a.clone(), c.clone(), b.clone()]),
            (
                json!({ "before": { "type": "x" } }),
                vec![a, json!({ "type": "x" }), b, c],
            ),
        ] {
            let sabotage = sabotage(json!([{ "types": ["b"], "how": how }]));
            assert_eq!(arrives(&sabotage, &frames), expected);
            assert_eq!(sabotage.happened(), 1);
        }
    }

    #[test]
    fn fields_are_removed_set_raised_renamed_and_replaced() {
        let frame = json!({ "type": "a", "n": 1, "o": { "s": "hello" } });
        for (how, expected) in [
            (json!({ "remove": "/o/s" }), json!({ "type": "a", "n": 1, "o": {} })),
            (
                json!({ "set": [["/o/s", null]] }),
                json!({ "type": "a", "n": 1, "o": { "s": null } }),
            ),
            (
                json!({ "add": ["/n", 2] }),
                json!({ "type": "a", "n": 3, "o": { "s": "hello" } }),
            ),
            (
                json!({ "rename": ["/o/s", "t"] }),
                json!({ "type": "a", "n": 1, "o": { "t": "hello" } }),
            ),
            (
                json!({ "replace": ["hello", "bye"] }),
                json!({ "type": "a", "n": 1, "o": { "s": "bye" } }),
            ),
        ] {
            let sabotage = sabotage(json!([{ "how": how }]));
            assert_eq!(arrives(&sabotage, std::slice::from_ref(&frame)), [expected]);
            assert_eq!(sabotage.happened(), 1);
        }
    }

    #[test]
    fn what_changes_nothing_did_not_happen() {
        let sabotage = sabotage(json!([{ "how": { "remove": "/none" } }, { "types": ["z"], "how": "drop" }]));
        arrives(&sabotage, &[event("a", "1")]);
        assert_eq!(sabotage.happened(), 0);
    }

    #[test]
    fn an_event_meets_the_same_rule_each_time_that_it_passes() {
        let sabotage = sabotage(json!([{ "nth": 2, "how": { "set": [["/mark", true]] } }]));
        let frames = [event("a", "1"), event("a", "2"), event("a", "3")];
        let first = arrives(&sabotage, &frames);
        let again = arrives(&sabotage, &[frames[2].clone(), frames[1].clone()]);
        assert_eq!(first.iter().filter(|frame| frame["mark"] == true).count(), 1);
        assert_eq!((&again[0], &again[1]), (&first[2], &first[1]));
    }

    #[test]
    fn server_sent_events_meet_the_rules_for_them_and_comments_none() {
        let sabotage = sabotage(json!([
            { "at": "sse", "types": ["b"], "how": { "add": ["/data/seq", 1] } },
            { "at": "sse", "types": ["c"], "how": "drop" },
            { "types": ["a"], "how": "drop" },
        ]));
        let mut passage = Passage::of_stream(&sabotage.state);
        let mut passes = |block: &str| passage.server_sent_event(block.to_owned());
        for kept in [": here\n\n", "id: e:1\nevent: a\ndata: {\"type\":\"a\"}\n\n"] {
            assert_eq!(passes(kept), [Outgoing::now(What::Text(kept.to_owned()))]);
        }
        let changed = "event: b\nid: e:2\ndata: {\"seq\":3,\"type\":\"b\"}\n\n";
        assert_eq!(
            passes(&changed.replace('3', "2")),
            [Outgoing::now(What::Text(changed.to_owned()))]
        );
        assert_eq!(passes("event: c\ndata: {\"type\":\"c\"}\n\n"), []);
        assert_eq!(sabotage.happened(), 2);
    }

    #[test]
    fn only_what_was_delivered_before_is_repeated() {
        let sabotage = sabotage(json!([{ "repeated": true, "how": { "add": ["/seq", 1] } }]));
        let frames = [event("a", "1")];
        assert_eq!(arrives(&sabotage, &frames)[0]["seq"], 1);
        assert_eq!(arrives(&sabotage, &frames)[0]["seq"], 2);
    }
}
