//! Reads counts out of a JSON object, each refusal with the field's JSON pointer and its number.

use serde_json::{Map, Number, Value};

use super::{Quarantined, Reason};
use crate::usage::TokenCounts;

/// The longest piece of somebody else's text that a message repeats.
const SHOWN_CHARS_MAX: usize = 64;

/// An object and where it lies in the usage.
pub(super) struct Fields<'a> {
    pointer: String,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The object at `pointer`; the empty pointer is the usage itself.
    pub(super) fn of(pointer: String, value: &'a Value) -> Result<Fields<'a>, Quarantined> {
        match value {
            Value::Object(object) => Ok(Fields { pointer, object }),
            other => {
                let place = if pointer.is_empty() { "the usage" } else { &pointer };
                Err(Reason::WrongShape.because(format!("{place} is {}, not an object", kind(other))))
            }
        }
    }

    pub(super) fn of_map(object: &'a Map<String, Value>) -> Fields<'a> {
        Fields { pointer: String::new(), object }
    }

    /// A field's JSON pointer.
    pub(super) fn pointer(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, shown(name))
    }

    /// A field that is there and is not null.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A count that has to be there: neither missing nor null.
    pub(super) fn required(&self, name: &str) -> Result<u64, Quarantined> {
        match self.object.get(name) {
            None => Err(Reason::MissingCount.because(format!("{} is missing", self.pointer(name)))),
            Some(Value::Null) => Err(Reason::NullCount.because(format!("{} is null", self.pointer(name)))),
            Some(value) => count(&self.pointer(name), value),
        }
    }

    /// A count that may be left out, and may not be null.
    pub(super) fn missing_is_zero(&self, name: &str) -> Result<u64, Quarantined> {
        if self.object.contains_key(name) { self.required(name) } else { Ok(0) }
    }

    /// A count that may be left out or null.
    pub(super) fn optional(&self, name: &str) -> Result<Option<u64>, Quarantined> {
        self.get(name).map(|value| count(&self.pointer(name), value)).transpose()
    }

    /// A count that may be left out or null, and then is none.
    pub(super) fn or_zero(&self, name: &str) -> Result<u64, Quarantined> {
        Ok(self.optional(name)?.unwrap_or(0))
    }

    /// An object that may be left out or null.
    pub(super) fn object(&self, name: &str) -> Result<Option<Fields<'a>>, Quarantined> {
        self.get(name).map(|value| Fields::of(self.pointer(name), value)).transpose()
    }

    /// The counts of `parts`, where they are given, are each at most `whole`.
    pub(super) fn fit_into(&self, whole: u64, parts: &[&str]) -> Result<(), Quarantined> {
        for name in parts {
            let part = self.or_zero(name)?;
            if part > whole {
                let pointer = self.pointer(name);
                return Err(Reason::PartExceedsWhole
                    .because(format!("{pointer} is {part}, more than the {whole} that it is a part of")));
            }
        }
        Ok(())
    }

    /// Nothing but the fields of `known` is there.
    pub(super) fn nothing_but(&self, known: &[&str]) -> Result<(), Quarantined> {
        match self.object.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                Err(Reason::UnknownField
                    .because(format!("{} is not a field of this format", self.pointer(name))))
            }
        }
    }

    /// Nothing but the fields of `known` counts tokens. Others may be there, and zero.
    pub(super) fn no_other_tokens_than(&self, known: &[&str]) -> Result<(), Quarantined> {
        let is_other = |name: &str| is_about_tokens(name) && !known.contains(&name);
        match self.object.iter().find(|(name, value)| is_other(name) && counts_something(value)) {
            None => Ok(()),
            Some((name, _)) => Err(Reason::UnknownTokenField
                .because(format!("{} counts tokens that this format does not know of", self.pointer(name)))),
        }
    }
}

/// `whole - parts`, refused where the parts are more.
pub(super) fn rest_of(pointer: &str, whole: u64, parts: &[u64]) -> Result<u64, Quarantined> {
    let sum = sum(parts);
    u64::try_from(i128::from(whole) - sum).map_err(|_| {
        Reason::PartExceedsWhole
            .because(format!("{pointer} is {whole}, less than the {sum} cached tokens that are inside it"))
    })
}

/// The total is the sum of its terms.
pub(super) fn check_total(pointer: &str, total: u64, terms: &[u64]) -> Result<(), Quarantined> {
    let sum = sum(terms);
    if i128::from(total) == sum {
        return Ok(());
    }
    let terms: Vec<String> = terms.iter().map(u64::to_string).collect();
    Err(Reason::TotalDiffers
        .because(format!("{pointer} is {total}, which is not {} = {sum}", terms.join(" + "))))
}

/// Cannot overflow: there are a handful of terms, and each is a u64.
pub(super) fn sum(terms: &[u64]) -> i128 {
    terms.iter().map(|term| i128::from(*term)).sum()
}

fn count(pointer: &str, value: &Value) -> Result<u64, Quarantined> {
    match value {
        Value::Number(number) => whole(pointer, number),
        other => Err(Reason::NotANumber.because(format!("{pointer} is {}, not a number", kind(other)))),
    }
}

/// A number as it was written decides: 1.0 and 1e3 are no counts, as nobody who counts writes them.
fn whole(pointer: &str, number: &Number) -> Result<u64, Quarantined> {
    let text = number.to_string();
    let max = TokenCounts::COUNT_MAX;
    if let Some(count) = number.as_u64().filter(|count| *count <= max) {
        return Ok(count);
    }
    let is_huge = number.is_u64() || (text.contains('e') && !text.contains("e-"));
    Err(if text.starts_with('-') {
        Reason::NegativeCount.because(format!("{pointer} is {text}, below zero"))
    } else if is_huge {
        Reason::CountTooLarge.because(format!("{pointer} is {text}, above {max}"))
    } else {
        Reason::NotAWholeNumber.because(format!("{pointer} is {text}, not a whole number"))
    })
}

fn is_about_tokens(name: &str) -> bool {
    name.to_ascii_lowercase().contains("token")
}

/// A number that is not zero, also one in a string; not a word, as a tokenizer's name is.
fn counts_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) => false,
        Value::Number(number) => number.as_u64() != Some(0),
        Value::String(text) => text.starts_with(|c: char| c.is_ascii_digit() || c == '-'),
        Value::Array(values) => values.iter().any(counts_something),
        Value::Object(object) => object.values().any(counts_something),
    }
}

/// What a value is, in a sentence that does not repeat it.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The beginning of a text that somebody else wrote, without control characters.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect()
}
