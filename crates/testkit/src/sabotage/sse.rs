//! Server-Sent Events in a body, as values that can be changed (WHATWG HTML, section 9.2.6).

use serde_json::{Map, Value};

/// How an event may end: with an empty line, each line in any of the three ways.
const ENDS: [&[u8]; 3] = [b"\n\n", b"\r\n\r\n", b"\r\r"];

/// Takes the first whole block off what has arrived: an event or a comment, with the empty line at its end.
pub(super) fn cut(arrived: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end_of = |end: &&[u8]| {
        let at = arrived.windows(end.len()).position(|bytes| bytes == *end)?;
        Some(at + end.len())
    };
    let length = ENDS.iter().filter_map(end_of).min()?;
    let rest = arrived.split_off(length);
    Some(std::mem::replace(arrived, rest))
}

/// The fields of an event whose data are JSON; `None` of anything else.
pub(super) fn read(block: &str) -> Option<Value> {
    let mut event = Map::new();
    let mut data = Vec::new();
    for line in block.split(['\r', '\n']).filter(|line| !line.is_empty()) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => data.push(value),
            "" => {}
            _ => {
                event.insert(field.to_owned(), Value::from(value));
            }
        }
    }
    let data = serde_json::from_str(&data.join("\n")).ok()?;
    event.insert("data".to_owned(), data);
    Some(Value::Object(event))
}

/// An event as it is sent, its data last.
pub(super) fn write(event: &Value) -> String {
    let fields = event.as_object().into_iter().flatten();
    let mut block: String = fields
        .filter(|(field, _)| *field != "data")
        .map(|(field, value)| format!("{field}: {}\n", value.as_str().map_or(value.to_string(), str::to_owned)))
        .collect();
    block.push_str(&format!("data: {}\n\n", event["data"]));
    block
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_are_cut_however_their_lines_end() {
        let mut arrived = b": here\n\nid: 1\r\ndata: 2\r\n\r\ndata: 3\r\rdata".to_vec();
        let blocks: Vec<_> = std::iter::from_fn(|| cut(&mut arrived)).collect();
        let expected: [&[u8]; 3] = [b": here\n\n", b"id: 1\r\ndata: 2\r\n\r\n", b"data: 3\r\r"];
        assert_eq!(
            (blocks, arrived),
            (expected.map(<[u8]>::to_vec).to_vec(), b"data".to_vec())
        );
    }

    #[test]
    fn an_event_is_written_as_it_was_read() {
        let block = "event: a\nid: e:1\ndata: {\"n\":1}\n\n";
        let event = json!({ "event": "a", "id": "e:1", "data": { "n": 1 } });
        assert_eq!(read(block), Some(event.clone()));
        assert_eq!(write(&event), block);
        assert_eq!(
            read("id:e:1\r\nevent:a\r\ndata:{\r\ndata:\"n\":1}\r\n\r\n"),
            Some(event)
        );
    }

    #[test]
    fn what_holds_no_json_is_left_alone() {
        assert_eq!(read(": a comment\n\n"), None);
        assert_eq!(read("data: [DONE\n\n"), None);
    }
}
