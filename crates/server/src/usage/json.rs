//! Reads `{"records": […]}` row by row.

use std::fmt;
use std::io::{BufReader, Read};

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::rows::{Refusal, RowReader};
use crate::tools::UsageRow;

/// Why the parser was told to stop; the refusal itself is kept beside it.
const STOPPED: &str = "rows are refused";

/// Reads the body of a JSON call.
pub(super) fn read<F>(body: impl Read, mut rows: RowReader<F>) -> Result<u64, Refusal>
where
    F: FnMut(Vec<UsageRow>) -> bool,
{
    let mut refusal = None;
    let mut parser = serde_json::Deserializer::from_reader(BufReader::new(body));
    let read = parser
        .deserialize_any(Body {
            rows: &mut rows,
            refusal: &mut refusal,
        })
        .and_then(|()| parser.end());
    match (refusal, read) {
        (Some(refusal), _) => Err(refusal),
        (None, Ok(())) => rows.finish(),
        (None, Err(error)) if error.is_data() => Err(Refusal::Body {
            pointer: if rows.rows() > 0 {
                "/records".to_owned()
            } else {
                String::new()
            },
            expected: "an object with `records`, a list of objects".to_owned(),
        }),
        (None, Err(error)) if error.to_string().contains("surrogate") => Err(Refusal::Body {
            pointer: "/records".to_owned(),
            expected: "text without lone surrogates".to_owned(),
        }),
        (None, Err(error)) => Err(Refusal::Json {
            line: error.line(),
            column: error.column(),
            reason: "it cannot be read from here on".to_owned(),
        }),
    }
}

struct Body<'r, F> {
    rows: &'r mut RowReader<F>,
    refusal: &'r mut Option<Refusal>,
}

impl<'de, F: FnMut(Vec<UsageRow>) -> bool> Visitor<'de> for Body<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `records`")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut fields: M) -> Result<(), M::Error> {
        let mut has_records = false;
        while let Some(name) = fields.next_key::<String>()? {
            if name != "records" {
                fields.next_value::<IgnoredAny>()?;
                continue;
            }
            if has_records {
                *self.refusal = Some(Refusal::Body {
                    pointer: "/records".to_owned(),
                    expected: "a field that stands once".to_owned(),
                });
                return Err(M::Error::custom(STOPPED));
            }
            has_records = true;
            fields.next_value_seed(Records {
                rows: &mut *self.rows,
                refusal: &mut *self.refusal,
            })?;
        }
        Ok(())
    }
}

struct Records<'r, F> {
    rows: &'r mut RowReader<F>,
    refusal: &'r mut Option<Refusal>,
}

impl<'de, F: FnMut(Vec<UsageRow>) -> bool> DeserializeSeed<'de> for Records<'_, F> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, parser: D) -> Result<(), D::Error> {
        parser.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Vec<UsageRow>) -> bool> Visitor<'de> for Records<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of usage records")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<(), S::Error> {
        let mut place = 0;
        while let Some(row) = items.next_element::<Box<RawValue>>()? {
            place += 1;
            if let Err(refusal) = self.rows.take(place, row.get()) {
                *self.refusal = Some(refusal);
                return Err(S::Error::custom(STOPPED));
            }
        }
        Ok(())
    }
}
