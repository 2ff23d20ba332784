//! Judges rows one by one, whatever they are written in.

use std::io::{self, Read};
use std::sync::Arc;

use kingsguard_protocol::decode::RequestBody as _;
use kingsguard_protocol::http::{RowError, UsageRecord};
use kingsguard_protocol::{DecodeError, ErrorCode};
use serde_json::{Map, Value};

use super::ROWS_MAX;
use super::csv::{CsvRow, CsvSplitter};
use crate::error::ApiError;
use crate::tools::{PriceCatalogue, UsageRow};

/// Bad rows that a refusal lists; it says how many there are.
const LISTED_MAX: usize = 100;

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// Why nothing is stored.
#[derive(Debug)]
pub(super) enum Refusal {
    /// These rows are bad, and so many in all.
    BadRows(Vec<RowError>, u64),
    /// There is no row.
    NoRows,
    /// There are more than a call may bring.
    TooManyRows,
    /// The body as a whole is not what it should be.
    Body { pointer: String, expected: String },
    /// The body is no JSON.
    Json { line: usize, column: usize, reason: String },
    /// The rows go nowhere any more: the stage behind says why.
    Stopped,
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let rows = format!("1 to {ROWS_MAX} rows");
        match refusal {
            Refusal::BadRows(listed, total) => Self::new(ErrorCode::ValidationError)
                .with_message(format!(
                    "{total} rows do not fit, so nothing was stored. Correct them and send all again."
                ))
                .with_detail("rows", serde_json::to_value(listed).unwrap_or_default())
                .with_detail("rows_total", total),
            Refusal::NoRows | Refusal::TooManyRows => {
                Self::validation("/records", rows).with_detail("rows", Value::Array(Vec::new()))
            }
            Refusal::Body { pointer, expected } => Self::validation(pointer, expected),
            Refusal::Json { line, column, reason } => Self::from(DecodeError::Json { line, column, reason }),
            Refusal::Stopped => Self::internal("rows could not be handed on"),
        }
    }
}

/// Takes rows as text, judges them, and hands the good ones on in batches as long as all are good.
pub(super) struct RowReader<F> {
    catalogue: Arc<PriceCatalogue>,
    batch_rows: usize,
    hand_on: F,
    batch: Vec<UsageRow>,
    rows: u64,
    bad: Vec<RowError>,
    bad_total: u64,
}

impl<F: FnMut(Vec<UsageRow>) -> bool> RowReader<F> {
    pub(super) fn new(catalogue: Arc<PriceCatalogue>, batch_rows: usize, hand_on: F) -> Self {
        Self {
            catalogue,
            batch_rows,
            hand_on,
            batch: Vec::new(),
            rows: 0,
            bad: Vec::new(),
            bad_total: 0,
        }
    }

    /// Rows taken so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes the row that stands at `line`, as JSON.
    pub(super) fn take(&mut self, line: u64, row: &str) -> Result<(), Refusal> {
        match self.judge(row) {
            Ok(row) => self.keep(row),
            Err((pointer, expected)) => self.refuse(line, pointer, expected),
        }
    }

    /// Takes a row that cannot be read.
    pub(super) fn refuse(
        &mut self,
        line: u64,
        pointer: impl Into<String>,
        expected: impl Into<String>,
    ) -> Result<(), Refusal> {
        self.count()?;
        self.bad_total += 1;
        if self.bad.len() < LISTED_MAX {
            self.bad.push(RowError {
                line,
                pointer: pointer.into(),
                expected: expected.into(),
            });
        }
        self.batch.clear();
        Ok(())
    }

    fn count(&mut self) -> Result<(), Refusal> {
        self.rows += 1;
        if self.rows > ROWS_MAX {
            Err(Refusal::TooManyRows)
        } else {
            Ok(())
        }
    }

    fn keep(&mut self, row: UsageRow) -> Result<(), Refusal> {
        self.count()?;
        // After a bad row nothing is stored any more; the rest is only judged.
        if self.bad_total == 0 {
            self.batch.push(row);
            if self.batch.len() >= self.batch_rows && !(self.hand_on)(std::mem::take(&mut self.batch)) {
                return Err(Refusal::Stopped);
            }
        }
        Ok(())
    }

    fn judge(&self, row: &str) -> Result<UsageRow, (String, String)> {
        let record = UsageRecord::decode(row).map_err(|error| match error {
            DecodeError::Validation { pointer, expected, .. } => (pointer, expected),
            DecodeError::Json { .. } | DecodeError::UnknownType { .. } => (String::new(), "an object".to_owned()),
        })?;
        let texts = [
            ("/model", Some(&record.model)),
            ("/feature", record.feature.as_ref()),
            ("/prompt_hash", record.prompt_hash.as_ref()),
        ];
        // Postgres cannot hold NUL in a text.
        if let Some((pointer, _)) = texts
            .iter()
            .find(|(_, text)| text.is_some_and(|text| text.contains('\0')))
        {
            return Err(((*pointer).to_owned(), "text without NUL".to_owned()));
        }
        let by_catalogue = || {
            let price = self.catalogue.price(&record.model);
            price.map(|price| price.cost_microusd(record.input_tokens, record.output_tokens))
        };
        let cost_microusd = record.cost_microusd.or_else(by_catalogue).ok_or_else(|| {
            let expected = "an integer, because the model is not in the price catalogue";
            ("/cost_microusd".to_owned(), expected.to_owned())
        })?;
        Ok(UsageRow {
            at_ms: record.timestamp.as_unix_ms(),
            model: record.model.into(),
            feature: record.feature.map(Into::into),
            input_tokens: record.input_tokens,
            output_tokens: record.output_tokens,
            latency_ms: record.latency_ms,
            cost_microusd,
            prompt_hash: record.prompt_hash.map(Into::into),
            success: record.success.unwrap_or(true),
        })
    }

    /// Hands on what is left; the answer is how many rows there were.
    pub(super) fn finish(mut self) -> Result<u64, Refusal> {
        if self.bad_total > 0 {
            return Err(Refusal::BadRows(self.bad, self.bad_total));
        }
        if self.rows == 0 {
            return Err(Refusal::NoRows);
        }
        if !self.batch.is_empty() && !(self.hand_on)(self.batch) {
            return Err(Refusal::Stopped);
        }
        Ok(self.rows)
    }
}

/// Reads CSV with a header; its columns may stand in any order, and unknown ones are ignored.
pub(super) fn read_csv<F>(mut body: impl Read, mut rows: RowReader<F>) -> Result<u64, Refusal>
where
    F: FnMut(Vec<UsageRow>) -> bool,
{
    let mut splitter = CsvSplitter::new();
    let mut header: Option<Vec<String>> = None;
    let mut refusal: Option<Refusal> = None;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut take = |row: CsvRow| {
        if refusal.is_none() {
            refusal = take_csv(row, &mut header, &mut rows).err();
        }
        refusal.is_some()
    };
    let mut is_refused = false;
    while !is_refused {
        let length = body.read(&mut buffer).map_err(unreadable)?;
        if length == 0 {
            break;
        }
        splitter.push(&buffer[..length], |row| is_refused = take(row));
    }
    splitter.finish(|row| {
        take(row);
    });
    match refusal {
        Some(refusal) => Err(refusal),
        None => rows.finish(),
    }
}

fn unreadable(error: io::Error) -> Refusal {
    Refusal::Body {
        pointer: String::new(),
        expected: format!("readable: {error}"),
    }
}

fn take_csv<F>(row: CsvRow, header: &mut Option<Vec<String>>, rows: &mut RowReader<F>) -> Result<(), Refusal>
where
    F: FnMut(Vec<UsageRow>) -> bool,
{
    let fields = match row.fields {
        Ok(fields) => fields,
        Err(expected) => return rows.refuse(row.line, "", expected),
    };
    let Some(names) = header else {
        *header = Some(read_header(row.line, fields)?);
        return Ok(());
    };
    if fields.len() != names.len() {
        return rows.refuse(row.line, "", format!("{} fields, as the header has", names.len()));
    }
    let mut object = Map::new();
    for (name, field) in names.iter().zip(fields) {
        // An empty field of CSV is an absent one.
        if !field.is_empty() {
            object.insert(name.clone(), cell(name, field));
        }
    }
    rows.take(row.line, &Value::Object(object).to_string())
}

fn read_header(line: u64, fields: Vec<String>) -> Result<Vec<String>, Refusal> {
    let mut names: Vec<String> = fields.into_iter().map(|name| name.trim().to_owned()).collect();
    if let Some(first) = names.first_mut() {
        // Spreadsheets begin a file with a byte order mark.
        *first = first.trim_start_matches('\u{feff}').to_owned();
    }
    let refuse = |pointer: String, expected: &str| {
        let bad = RowError {
            line,
            pointer,
            expected: expected.to_owned(),
        };
        Err(Refusal::BadRows(vec![bad], 1))
    };
    for (place, name) in names.iter().enumerate() {
        if names[..place].contains(name) {
            return refuse(format!("/{name}"), "a column that stands once in the header");
        }
    }
    for required in ["timestamp", "model", "input_tokens", "output_tokens"] {
        if !names.iter().any(|name| name == required) {
            return refuse(format!("/{required}"), "a column of the header");
        }
    }
    Ok(names)
}

/// A field as JSON: a count where it is one, a truth where one is meant, else text.
fn cell(name: &str, field: String) -> Value {
    let trimmed = field.trim();
    let is_count = ["input_tokens", "output_tokens", "latency_ms", "cost_microusd"].contains(&name);
    match trimmed.parse::<u64>() {
        Ok(count) if is_count => return count.into(),
        _ => {}
    }
    match (name, trimmed.to_ascii_lowercase().as_str()) {
        ("success", "true" | "1") => Value::Bool(true),
        ("success", "false" | "0") => Value::Bool(false),
        ("timestamp", _) => Value::String(trimmed.to_owned()),
        _ => Value::String(field),
    }
}

#[cfg(test)]
mod tests;
