//! Equality of types that keep JSON as the text it was: [`RawValue`] has none of its own. Two are equal here when their
//! texts are.

use serde_json::value::RawValue;

/// Whether kept JSON is the same text.
pub(crate) trait SameText {
    fn same_text(&self, other: &Self) -> bool;
}

impl SameText for Box<RawValue> {
    fn same_text(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<T: SameText> SameText for Option<T> {
    fn same_text(&self, other: &Self) -> bool {
        match (self, other) {
            (Some(own), Some(other)) => own.same_text(other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

impl<T: SameText> SameText for Vec<T> {
    fn same_text(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other).all(|(own, other)| own.same_text(other))
    }
}

/// Equality by every field: first those that have it, then those that keep text. A field that is forgotten does not
/// compile.
macro_rules! eq_by_text {
    ($name:ident { $($field:ident),* ; $($raw:ident),* }) => {
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                let Self { $($field,)* $($raw),* } = self;
                true $(&& *$field == other.$field)* $(&& $crate::raw::SameText::same_text($raw, &other.$raw))*
            }
        }

        impl Eq for $name {}
    };
}

pub(crate) use eq_by_text;
