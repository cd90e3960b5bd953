//! The form fields of a request: `metadata[a]=b` is the field `metadata[a]`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Params(BTreeMap<String, String>);

impl Params {
    pub(crate) fn parse(query: &str, body: &str) -> Params {
        let pairs = |text: &str| -> Vec<(String, String)> {
            url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
        };
        Params(pairs(query).into_iter().chain(pairs(body)).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn integer(&self, name: &str) -> Option<i64> {
        self.get(name)?.parse().ok()
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// The object that `metadata[..]` fields make.
    pub(crate) fn metadata(&self) -> Value {
        let fields = self.0.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix("metadata[")?.strip_suffix(']')?;
            Some((name.to_owned(), Value::String(value.clone())))
        });
        Value::Object(fields.collect::<Map<_, _>>())
    }

    /// The same text for the same fields, in whichever order they came.
    pub(crate) fn canonical(&self) -> String {
        format!("{:?}", self.0)
    }
}
