//! The first pass over a frame: is it JSON at all, and JSON that can be kept and given back exactly?
//!
//! A scanner of its own, because two things must be told apart that JSON libraries report alike: text that is no JSON
//! (MSG-3, with line and column) and JSON that this contract refuses (SEC-1, with the pointer of the place). Text that
//! is no JSON is judged first (ERR-1), so a refusal is remembered and the scan goes on to the end. The stack is a
//! vector: no nesting, however deep, can exhaust the thread's own.

use std::borrow::Cow;
use std::collections::HashSet;

use super::fields::{Fault, Field, Fields, Place};

/// Levels of objects and arrays in a frame, the frame's own object being the first. The contract asks for a bound
/// (SEC-1); 64 leaves JSON libraries, which commonly stop at 128, far from theirs.
pub const NESTING_LEVELS_MAX: usize = 64;

/// Longest key that a pointer shows; of what lies under a longer one the pointer ends at the object that holds it, so
/// that an error stays small.
const POINTER_KEY_BYTES_MAX: usize = 256;

/// Why and where a text is no JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxFault {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) reason: &'static str,
}

/// What the first pass learned about a text that is JSON.
#[derive(Debug)]
pub(super) struct Scan<'t> {
    /// Whether the text is an object.
    pub(super) is_object: bool,
    /// The known fields at the root and in `payload`.
    pub(super) fields: Fields<'t>,
    /// The first refusal outside of the messages of a batch.
    outside_batch: Option<(usize, Fault)>,
    /// The first refusal inside of what would be a message of a batch.
    inside_batch: Option<(usize, Fault)>,
}

impl<'t> Scan<'t> {
    pub(super) fn read(text: &'t str) -> Result<Self, SyntaxFault> {
        let mut scanner = Scanner::new(text);
        scanner.run().map_err(|reason| scanner.syntax_fault(reason))?;
        Ok(scanner.scan)
    }

    /// The first refusal. In a batch, what is wrong inside of a message is answered for that message alone.
    pub(super) fn refusal(&mut self, is_batch: bool) -> Option<Fault> {
        let outside = self.outside_batch.take();
        let inside = self.inside_batch.take().filter(|_| !is_batch);
        match (outside, inside) {
            (Some(outside), Some(inside)) => Some(if inside.0 < outside.0 { inside.1 } else { outside.1 }),
            (outside, inside) => outside.or(inside).map(|(_, fault)| fault),
        }
    }
}

/// One open object or array whose path is kept.
enum Level<'t> {
    Object {
        keys: HashSet<Cow<'t, str>>,
        /// The key whose value is being read; `None` where it cannot be shown.
        key: Option<Cow<'t, str>>,
        value_start: usize,
    },
    Array {
        index: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Object,
    Array,
}

/// A string as it stands in the text, between its quotes.
struct ScannedText<'t> {
    inner: &'t str,
    escaped: bool,
    refused: Option<&'static str>,
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
    /// The outermost [`NESTING_LEVELS_MAX`] open levels.
    levels: Vec<Level<'t>>,
    /// Open levels beyond these: only what closes them matters.
    beyond: Vec<Kind>,
    scan: Scan<'t>,
}

impl<'t> Scanner<'t> {
    fn new(text: &'t str) -> Self {
        let scan = Scan {
            is_object: false,
            fields: Fields::default(),
            outside_batch: None,
            inside_batch: None,
        };
        Self {
            text,
            at: 0,
            levels: Vec::new(),
            beyond: Vec::new(),
            scan,
        }
    }

    fn run(&mut self) -> Result<(), &'static str> {
        self.skip_blanks();
        self.scan.is_object = self.peek() == Some(b'{');
        loop {
            if !self.begin_value()? {
                continue;
            }
            if self.after_value()? {
                return Ok(());
            }
        }
    }

    /// Reads a value, or opens one that holds others; says whether a value has ended.
    fn begin_value(&mut self) -> Result<bool, &'static str> {
        self.skip_blanks();
        let start = self.at;
        if self.beyond.is_empty()
            && let Some(Level::Object { value_start, .. }) = self.levels.last_mut()
        {
            *value_start = start;
        }
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                self.open(Kind::Object);
                self.skip_blanks();
                if self.peek() == Some(b'}') {
                    self.at += 1;
                    self.close();
                    return Ok(true);
                }
                self.key()?;
                Ok(false)
            }
            Some(b'[') => {
                self.at += 1;
                self.open(Kind::Array);
                self.skip_blanks();
                if self.peek() == Some(b']') {
                    self.at += 1;
                    self.close();
                    return Ok(true);
                }
                Ok(false)
            }
            Some(b'"') => {
                if let Some(expected) = self.string()?.refused {
                    self.refuse(expected);
                }
                Ok(true)
            }
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err("expected a value"),
            None => Err("the text ends where a value is expected"),
        }
    }

    /// Goes on after a value: closes what ends there and stands before the next value; says whether the text is over.
    fn after_value(&mut self) -> Result<bool, &'static str> {
        loop {
            self.note_field();
            self.skip_blanks();
            let Some(kind) = self.innermost() else {
                return if self.at == self.text.len() {
                    Ok(true)
                } else {
                    Err("expected the end of the text")
                };
            };
            match (kind, self.peek()) {
                (Kind::Array, Some(b']')) | (Kind::Object, Some(b'}')) => {
                    self.at += 1;
                    self.close();
                }
                (Kind::Array, Some(b',')) => {
                    self.at += 1;
                    if self.beyond.is_empty()
                        && let Some(Level::Array { index }) = self.levels.last_mut()
                    {
                        *index += 1;
                    }
                    return Ok(false);
                }
                (Kind::Object, Some(b',')) => {
                    self.at += 1;
                    self.skip_blanks();
                    self.key()?;
                    return Ok(false);
                }
                (Kind::Array, Some(_)) => return Err("expected `,` or `]`"),
                (Kind::Object, Some(_)) => return Err("expected `,` or `}`"),
                (_, None) => return Err("the text ends inside of an object or array"),
            }
        }
    }

    fn innermost(&self) -> Option<Kind> {
        self.beyond.last().copied().or_else(|| {
            self.levels.last().map(|level| match level {
                Level::Object { .. } => Kind::Object,
                Level::Array { .. } => Kind::Array,
            })
        })
    }

    fn open(&mut self, kind: Kind) {
        if self.levels.len() == NESTING_LEVELS_MAX {
            if self.beyond.is_empty() {
                self.refuse("at most 64 levels of objects and arrays");
            }
            self.beyond.push(kind);
            return;
        }
        self.levels.push(match kind {
            Kind::Object => Level::Object {
                keys: HashSet::new(),
                key: None,
                value_start: self.at,
            },
            Kind::Array => Level::Array { index: 0 },
        });
    }

    fn close(&mut self) {
        if self.beyond.pop().is_none() {
            self.levels.pop();
        }
    }

    /// Keeps where the value that just ended stands, where it is a known field at the root or in `payload`.
    fn note_field(&mut self) {
        if !self.beyond.is_empty() {
            return;
        }
        let (place, level) = match self.levels.as_slice() {
            [level] => (Place::Root, level),
            [outer, level] if is_at(outer, "payload") => (Place::Payload, level),
            _ => return,
        };
        if let Level::Object {
            key: Some(key),
            value_start,
            ..
        } = level
            && let Some(name) = Fields::known_name(key)
        {
            let raw = &self.text[*value_start..self.at];
            self.scan.fields.keep(Field { place, name, raw });
        }
    }

    /// Reads a key and the colon after it.
    fn key(&mut self) -> Result<(), &'static str> {
        if self.peek() != Some(b'"') {
            return Err("expected a key in double quotes");
        }
        let scanned = self.string()?;
        if self.beyond.is_empty() {
            self.enter(&scanned);
        }
        self.skip_blanks();
        if self.peek() != Some(b':') {
            return Err("expected `:` after a key");
        }
        self.at += 1;
        Ok(())
    }

    fn enter(&mut self, scanned: &ScannedText<'t>) {
        // A refused key cannot be shown: the pointer is that of its object.
        if let Some(Level::Object { key, .. }) = self.levels.last_mut() {
            *key = None;
        }
        if let Some(expected) = scanned.refused {
            self.refuse_here(expected);
            return;
        }
        let name = if scanned.escaped {
            match serde_json::from_str(&format!("\"{}\"", scanned.inner)) {
                Ok(name) => Cow::Owned(name),
                Err(_) => return,
            }
        } else {
            Cow::Borrowed(scanned.inner)
        };
        let Some(Level::Object { keys, key, .. }) = self.levels.last_mut() else {
            return;
        };
        *key = Some(name.clone());
        if !keys.insert(name) {
            self.refuse("a key that its object has only once");
        }
    }

    /// Reads a string, from its quote to its quote.
    fn string(&mut self) -> Result<ScannedText<'t>, &'static str> {
        self.at += 1;
        let start = self.at;
        let mut scanned = ScannedText {
            inner: "",
            escaped: false,
            refused: None,
        };
        loop {
            match self.peek() {
                None => return Err("the text ends inside of a string"),
                Some(b'"') => {
                    scanned.inner = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(scanned);
                }
                Some(b'\\') => {
                    scanned.escaped = true;
                    if let Some(expected) = self.escape()? {
                        scanned.refused.get_or_insert(expected);
                    }
                }
                Some(0..=0x1f) => return Err("a control character inside of a string is not escaped"),
                Some(_) => self.at += 1,
            }
        }
    }

    /// Reads one escape; says what was expected where it stands for something that cannot be kept.
    fn escape(&mut self) -> Result<Option<&'static str>, &'static str> {
        const SURROGATE: &str = "text without lone surrogates";
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(None)
            }
            Some(b'u') => match self.code_unit()? {
                0 => Ok(Some("text without U+0000")),
                0xDC00..=0xDFFF => Ok(Some(SURROGATE)),
                0xD800..=0xDBFF => {
                    if !self.rest().starts_with("\\u") {
                        return Ok(Some(SURROGATE));
                    }
                    self.at += 1;
                    Ok((!matches!(self.code_unit()?, 0xDC00..=0xDFFF)).then_some(SURROGATE))
                }
                _ => Ok(None),
            },
            Some(_) => Err("unknown escape inside of a string"),
            None => Err("the text ends inside of a string"),
        }
    }

    /// Reads `uXXXX`.
    fn code_unit(&mut self) -> Result<u32, &'static str> {
        self.at += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit * 16 + digit.ok_or("expected four hexadecimal digits after `\\u`")?;
            self.at += 1;
        }
        Ok(unit)
    }

    fn literal(&mut self, literal: &'static str) -> Result<bool, &'static str> {
        if !self.rest().starts_with(literal) {
            return Err("expected a value");
        }
        self.at += literal.len();
        Ok(true)
    }

    fn number(&mut self) -> Result<bool, &'static str> {
        const DIGIT: &str = "expected a digit";
        let start = self.at;
        self.skip_byte(b'-');
        if !self.skip_byte(b'0') {
            self.digits().ok_or(DIGIT)?;
        }
        if self.skip_byte(b'.') {
            self.digits().ok_or(DIGIT)?;
        }
        if self.skip_byte(b'e') || self.skip_byte(b'E') {
            let _signed = self.skip_byte(b'+') || self.skip_byte(b'-');
            self.digits().ok_or(DIGIT)?;
        }
        // What no double can hold would be lost, or end a JSON library, at whoever reads it back.
        let number = &self.text[start..self.at];
        if !number.parse::<f64>().is_ok_and(f64::is_finite) {
            self.refuse("a number that a double can hold");
        }
        Ok(true)
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn skip_byte(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Remembers the first refusal; beyond the counted levels the nesting itself was refused before.
    fn refuse(&mut self, expected: &'static str) {
        if self.beyond.is_empty() {
            self.refuse_here(expected);
        }
    }

    fn refuse_here(&mut self, expected: &'static str) {
        let slot = if self.is_inside_batch() {
            &mut self.scan.inside_batch
        } else {
            &mut self.scan.outside_batch
        };
        if slot.is_none() {
            *slot = Some((self.at, Fault::new(pointer(&self.levels), expected)));
        }
    }

    fn is_inside_batch(&self) -> bool {
        match self.levels.as_slice() {
            [root, Level::Array { .. }, ..] => is_at(root, "messages"),
            [root, payload, Level::Array { .. }, ..] => is_at(root, "payload") && is_at(payload, "messages"),
            _ => false,
        }
    }

    fn syntax_fault(&self, reason: &'static str) -> SyntaxFault {
        let before = &self.text.as_bytes()[..self.at.min(self.text.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let is_first_byte = |byte: &&u8| **byte & 0b1100_0000 != 0b1000_0000;
        SyntaxFault {
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: before[line_start..].iter().filter(is_first_byte).count() + 1,
            reason,
        }
    }
}

fn is_at(level: &Level<'_>, name: &str) -> bool {
    matches!(level, Level::Object { key: Some(key), .. } if key == name)
}

/// The RFC 6901 pointer of what is being read.
fn pointer(levels: &[Level<'_>]) -> String {
    let mut pointer = String::new();
    for level in levels {
        match level {
            Level::Object { key: Some(key), .. } if key.len() <= POINTER_KEY_BYTES_MAX => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Level::Object { .. } => break,
            Level::Array { index } => {
                pointer.push('/');
                pointer.push_str(&index.to_string());
            }
        }
    }
    pointer
}
