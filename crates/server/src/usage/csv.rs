//! Splits CSV (RFC 4180) into rows that know the line at which they begin. Pure: bytes in, rows out, in any chunks.
//!
//! The usual reader counts lines where it stops reading, not where a row begins, which after blank lines and CRLF is not
//! what HTTP-1 asks for.

/// Bytes that one row may have; no row of usage comes near.
const ROW_BYTES_MAX: usize = 64 * 1024;

/// One row: its first line in the file, from 1, and its fields or why they cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CsvRow {
    pub line: u64,
    pub fields: Result<Vec<String>, &'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing of the field was read yet.
    FieldStart,
    Plain,
    Quoted,
    /// A quotation mark inside of quotes: the end, or the first half of a doubled one.
    QuoteInQuoted,
}

/// Reads a file in chunks.
#[derive(Debug)]
pub(super) struct CsvSplitter {
    state: State,
    line: u64,
    row_line: u64,
    row_bytes: usize,
    fields: Vec<String>,
    field: Vec<u8>,
    fault: Option<&'static str>,
    was_cr: bool,
    row_is_begun: bool,
}

impl CsvSplitter {
    pub(super) fn new() -> Self {
        Self {
            state: State::FieldStart,
            line: 1,
            row_line: 1,
            row_bytes: 0,
            fields: Vec::new(),
            field: Vec::new(),
            fault: None,
            was_cr: false,
            row_is_begun: false,
        }
    }

    /// Takes the next bytes and gives every row that ends in them.
    pub(super) fn push(&mut self, bytes: &[u8], mut row: impl FnMut(CsvRow)) {
        for byte in bytes {
            self.take(*byte, &mut row);
        }
    }

    /// The last row, where the file does not end with a line break.
    pub(super) fn finish(mut self, mut row: impl FnMut(CsvRow)) {
        if self.state == State::Quoted {
            self.fault.get_or_insert("a closing quotation mark");
        }
        if self.row_is_begun {
            self.end_row(&mut row);
        }
    }

    fn take(&mut self, byte: u8, row: &mut impl FnMut(CsvRow)) {
        let follows_cr = std::mem::replace(&mut self.was_cr, byte == b'\r');
        let is_second_half_of_break = byte == b'\n' && follows_cr;
        if self.state == State::Quoted {
            self.line += u64::from(byte == b'\r' || (byte == b'\n' && !is_second_half_of_break));
            match byte {
                b'"' => self.state = State::QuoteInQuoted,
                _ => self.keep(byte),
            }
            return;
        }
        match byte {
            b'\n' if is_second_half_of_break => {}
            b'\r' | b'\n' => {
                if self.row_is_begun {
                    self.end_row(row);
                }
                self.line += 1;
                self.row_line = self.line;
            }
            b',' => {
                self.row_is_begun = true;
                self.end_field();
            }
            b'"' if self.state == State::FieldStart => {
                self.row_is_begun = true;
                self.state = State::Quoted;
            }
            b'"' if self.state == State::QuoteInQuoted => {
                self.keep(b'"');
                self.state = State::Quoted;
            }
            _ => {
                if byte == b'"' || self.state == State::QuoteInQuoted {
                    self.fault
                        .get_or_insert("quotation marks around a whole field, doubled inside");
                }
                self.row_is_begun = true;
                self.state = State::Plain;
                self.keep(byte);
            }
        }
    }

    fn keep(&mut self, byte: u8) {
        self.row_bytes += 1;
        if self.row_bytes > ROW_BYTES_MAX {
            self.fault.get_or_insert("a row of at most 65,536 bytes");
        } else {
            self.field.push(byte);
        }
    }

    fn end_field(&mut self) {
        self.state = State::FieldStart;
        match String::from_utf8(std::mem::take(&mut self.field)) {
            Ok(text) if text.contains('\0') => {
                self.fault.get_or_insert("text without NUL");
            }
            // A row past its limit is kept no further.
            Ok(text) if self.fault.is_none() => self.fields.push(text),
            Ok(_) => {}
            Err(_) => {
                self.fault.get_or_insert("UTF-8 text");
            }
        }
    }

    fn end_row(&mut self, row: &mut impl FnMut(CsvRow)) {
        self.end_field();
        let fields = std::mem::take(&mut self.fields);
        row(CsvRow {
            line: self.row_line,
            fields: self.fault.take().map_or(Ok(fields), Err),
        });
        self.row_bytes = 0;
        self.row_is_begun = false;
        self.state = State::FieldStart;
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn split(bytes: &[u8], chunk: usize) -> Vec<CsvRow> {
        let mut rows = Vec::new();
        let mut splitter = CsvSplitter::new();
        for part in bytes.chunks(chunk) {
            splitter.push(part, |row| rows.push(row));
        }
        splitter.finish(|row| rows.push(row));
        rows
    }

    #[rstest]
    #[case("a,b\n1,2\n", &[(1, "a|b"), (2, "1|2")])]
    #[case("a,b\r\n1,2\r\n3,4", &[(1, "a|b"), (2, "1|2"), (3, "3|4")])]
    #[case("a,b\n\n\n1,2\n", &[(1, "a|b"), (4, "1|2")])]
    #[case("a,b\n\"x\ny\",2\n3,4\n", &[(1, "a|b"), (2, "x\ny|2"), (4, "3|4")])]
    #[case("a,b\r\n\"x\r\ny\",\"q\"\"q\"\r\n3,\r\n", &[(1, "a|b"), (2, "x\r\ny|q\"q"), (4, "3|")])]
    fn a_row_knows_its_first_line(#[case] text: &str, #[case] expected: &[(u64, &str)]) {
        let expected: Vec<CsvRow> = expected
            .iter()
            .map(|(line, fields)| CsvRow {
                line: *line,
                fields: Ok(fields.split('|').map(ToOwned::to_owned).collect()),
            })
            .collect();
        for chunk in 1..=text.len() {
            assert_eq!(split(text.as_bytes(), chunk), expected);
        }
    }

    #[rstest]
    #[case(b"a\n\"open\n", 2)]
    #[case(b"a\nx\"y\n", 2)]
    #[case(b"a\n\"x\"y\n", 2)]
    #[case(b"a\n\xff\n", 2)]
    #[case(b"a\nx\0y\n", 2)]
    fn a_row_that_cannot_be_read_is_told_by_its_line(#[case] bytes: &[u8], #[case] line: u64) {
        let row = split(bytes, 3).pop().expect("there is a row");
        assert_eq!((row.line, row.fields.is_err()), (line, true));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), chunk in 1usize..20) {
            split(&bytes, chunk);
        }

        #[test]
        fn what_is_quoted_comes_back_and_every_row_begins_where_it_stands(
            cells in prop::collection::vec(prop::collection::vec("[ab,\"\n]{0,6}", 2), 1..8)
        ) {
            let mut text = String::new();
            let mut expected = Vec::new();
            for fields in &cells {
                let line = text.matches('\n').count() as u64 + 1;
                expected.push(CsvRow { line, fields: Ok(fields.clone()) });
                let quoted: Vec<_> = fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
                text.push_str(&quoted.join(","));
                text.push('\n');
            }
            prop_assert_eq!(split(text.as_bytes(), 7), expected);
        }
    }
}
