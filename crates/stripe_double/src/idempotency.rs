//! `Idempotency-Key`, as Stripe has it: the first answer is kept with its status, errors of whatever
//! was begun included, and given again; the same key with other parameters is refused, and so is one
//! whose first request is still under way. What fails before it begins keeps nothing.

use std::collections::HashMap;

use serde_json::json;

use crate::objects::{Answer, error};

enum Kept {
    InFlight,
    Done(Answer),
}

/// Keys with what they were used for and what came of it.
#[derive(Default)]
pub(crate) struct Keys(HashMap<String, (String, Kept)>);

/// What to do with a request.
pub(crate) enum Claim {
    /// Go on, and [`Keys::finish`] or [`Keys::forget`].
    New,
    Answered(Answer),
}

impl Keys {
    pub(crate) fn claim(&mut self, key: &str, fingerprint: &str) -> Claim {
        match self.0.get(key) {
            None => {
                self.0.insert(key.to_owned(), (fingerprint.to_owned(), Kept::InFlight));
                Claim::New
            }
            Some((earlier, _)) if earlier != fingerprint => {
                let message = "Keys for idempotent requests can only be used with the same parameters they \
                    were first used with.";
                Claim::Answered(error(400, json!({"type": "idempotency_error", "message": message})))
            }
            Some((_, Kept::InFlight)) => {
                let body = json!({"type": "idempotency_error", "code": "idempotency_key_in_use"});
                Claim::Answered(error(409, body))
            }
            Some((_, Kept::Done(answer))) => Claim::Answered(answer.clone()),
        }
    }

    pub(crate) fn finish(&mut self, key: &str, answer: &Answer) {
        if let Some((_, kept)) = self.0.get_mut(key) {
            *kept = Kept::Done(answer.clone());
        }
    }

    pub(crate) fn forget(&mut self, key: &str) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(claim: Claim) -> Option<u16> {
        match claim {
            Claim::New => None,
            Claim::Answered(answer) => Some(answer.status),
        }
    }

    #[test]
    fn a_key_has_one_answer_for_one_request() {
        let mut keys = Keys::default();
        assert_eq!(status(keys.claim("k", "a")), None);
        assert_eq!(status(keys.claim("k", "a")), Some(409));
        keys.finish("k", &Answer { status: 402, body: json!({"error": {}}) });
        assert_eq!(status(keys.claim("k", "a")), Some(402));
        assert_eq!(status(keys.claim("k", "b")), Some(400));
        keys.claim("other", "a");
        keys.forget("other");
        assert_eq!(status(keys.claim("other", "b")), None);
    }
}
