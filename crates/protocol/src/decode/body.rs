//! JSON bodies of HTTP requests (contract §11), refused like frames: with the pointer and what was expected.

use super::fields::{Fault, Fields, TextRule};
use super::message::{TITLE_CHARS_MAX, user_message};
use super::scan::Scan;
use super::{DecodeError, judge_payload, read_message_id, read_thread_id, readable_message_id};
use crate::client::{ClientMessage, ClientType};
use crate::http::{
    CreateThreadRequest, LoginRequest, RefreshRequest, RegisterRequest, RenameThreadRequest, TicketRequest,
};
use crate::{Limits, MessageId};

/// Unicode code points of an e-mail address: what a mail path can carry (RFC 5321 §4.5.3.1.3, less its brackets).
const EMAIL_CHARS_MAX: u64 = 254;
/// Unicode code points of a name: ours, the contract names none.
const NAME_CHARS_MAX: u64 = 256;
/// Unicode code points of a new password (contract §11).
const PASSWORD_CHARS_MIN: usize = 12;
const PASSWORD_CHARS_MAX: usize = 128;
/// Unicode code points of what a login brings as password: more than any password has, few enough to hash.
const LOGIN_PASSWORD_CHARS_MAX: u64 = 1_024;
/// Unicode code points of a refresh token: ours.
const REFRESH_TOKEN_CHARS_MAX: u64 = 4_096;

/// A JSON body that a request brings.
pub trait RequestBody: Sized {
    /// Reads the body. Unknown fields are accepted, `null` is the same as absent. Where every field is optional, so is
    /// the body.
    ///
    /// # Errors
    /// [`DecodeError::Json`] and [`DecodeError::Validation`].
    fn decode(text: &str) -> Result<Self, DecodeError>;
}

impl RequestBody for RegisterRequest {
    fn decode(text: &str) -> Result<Self, DecodeError> {
        read(text, |fields| {
            Ok(Self {
                email: email(fields)?,
                password: new_password(fields)?.into(),
                name: fields.text(&["name"], TextRule::FilledUpTo(NAME_CHARS_MAX))?,
            })
        })
    }
}

impl RequestBody for LoginRequest {
    fn decode(text: &str) -> Result<Self, DecodeError> {
        read(text, |fields| {
            Ok(Self {
                email: email(fields)?,
                password: fields
                    .required_text(&["password"], TextRule::Sized(LOGIN_PASSWORD_CHARS_MAX))?
                    .into(),
            })
        })
    }
}

impl RequestBody for RefreshRequest {
    fn decode(text: &str) -> Result<Self, DecodeError> {
        read(text, |fields| {
            Ok(Self {
                refresh_token: fields
                    .required_text(&["refresh_token"], TextRule::Sized(REFRESH_TOKEN_CHARS_MAX))?
                    .into(),
            })
        })
    }
}

impl RequestBody for TicketRequest {
    fn decode(text: &str) -> Result<Self, DecodeError> {
        read(or_empty(text), |fields| {
            Ok(Self {
                ttl_seconds: fields.integer_within("ttl_seconds", 30, 3_600)?,
                single_use: fields.boolean("single_use")?,
            })
        })
    }
}

impl RequestBody for CreateThreadRequest {
    fn decode(text: &str) -> Result<Self, DecodeError> {
        read(or_empty(text), |fields| {
            Ok(Self {
                title: fields.text(&["title"], TextRule::FilledUpTo(TITLE_CHARS_MAX))?,
                metadata: fields.raw_object("metadata")?,
            })
        })
    }
}

impl RequestBody for RenameThreadRequest {
    fn decode(text: &str) -> Result<Self, DecodeError> {
        read(text, |fields| {
            Ok(Self {
                title: fields.required_text(&["title"], TextRule::FilledUpTo(TITLE_CHARS_MAX))?,
            })
        })
    }
}

fn or_empty(text: &str) -> &str {
    if text.trim().is_empty() { "{}" } else { text }
}

pub(super) fn read<T>(text: &str, body: impl FnOnce(&Fields<'_>) -> Result<T, Fault>) -> Result<T, DecodeError> {
    let scan = read_object(text)?;
    body(&scan.fields).map_err(|fault| fault.of_message(None))
}

/// Reads the body of `POST /api/chat/messages`: the fields of a `user_message`, `type` optional.
///
/// # Errors
/// [`DecodeError::Json`] and [`DecodeError::Validation`].
pub(super) fn read_chat_message(text: &str, limits: &Limits) -> Result<ClientMessage, DecodeError> {
    let scan = read_object(text)?;
    let fields = &scan.fields;
    let correlation_id = readable_message_id(fields);
    let read = || {
        if let Some(field) = fields.at_root("type").filter(|field| field.raw != "null") {
            const EXPECTED: &str = "`user_message`, or absent";
            let name: String = field.read(EXPECTED)?;
            if ClientType::from_name(&name) != Some(ClientType::UserMessage) {
                return Err(Fault::new(field.pointer(), EXPECTED));
            }
        }
        judge_payload(fields)?;
        let message_id: Option<MessageId> = read_message_id(fields)?;
        let thread_id = read_thread_id(fields)?;
        fields.judge_timestamp()?;
        Ok(ClientMessage {
            message_id,
            thread_id,
            body: user_message(fields, limits)?.into(),
        })
    };
    read().map_err(|fault| fault.of_message(correlation_id))
}

fn read_object(text: &str) -> Result<Scan<'_>, DecodeError> {
    let mut scan = Scan::read(text)?;
    if !scan.is_object {
        return Err(Fault::new("", "an object").of_message(None));
    }
    match scan.refusal(false) {
        Some(fault) => Err(fault.of_message(readable_message_id(&scan.fields))),
        None => Ok(scan),
    }
}

/// An address only has to look like one: whether mail arrives there is not judged here.
fn email(fields: &Fields<'_>) -> Result<String, Fault> {
    const EXPECTED: &str = "an e-mail address";
    let email = fields.required_text(&["email"], TextRule::Any).map_err(|fault| Fault {
        expected: EXPECTED.to_owned(),
        ..fault
    })?;
    let looks_right = email
        .split_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'))
        && email.chars().all(|char| !char.is_whitespace() && !char.is_control())
        && email.chars().count() as u64 <= EMAIL_CHARS_MAX;
    match fields.find(&["email"]) {
        Some(field) if !looks_right => Err(Fault::new(field.pointer(), EXPECTED)),
        _ => Ok(email),
    }
}

fn new_password(fields: &Fields<'_>) -> Result<String, Fault> {
    const EXPECTED: &str = "a string of 12–128 characters";
    let password = fields
        .required_text(&["password"], TextRule::Any)
        .map_err(|fault| Fault {
            expected: EXPECTED.to_owned(),
            ..fault
        })?;
    match fields.find(&["password"]) {
        Some(field) if !(PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX).contains(&password.chars().count()) => {
            Err(Fault::new(field.pointer(), EXPECTED))
        }
        _ => Ok(password),
    }
}
