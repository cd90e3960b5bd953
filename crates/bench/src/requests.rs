//! The requests of both sides, as bytes, and what their answers must be.

use std::io::Write;

/// A small generator: every run asks for the same accounts in the same order.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    pub(crate) fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let index = self.below(u64::try_from(all.len()).unwrap_or(u64::MAX));
        &all[usize::try_from(index).unwrap_or_default()]
    }
}

/// Makes requests and knows their answers.
pub(crate) trait Requests {
    /// Writes the next request, and says its number.
    fn write_next(&mut self, bytes: &mut Vec<u8>) -> u64;

    /// Whether this answers the request of that number.
    fn is_right(&self, number: u64, status: u16, body: &[u8]) -> bool;
}

/// Which customers are asked for.
pub(crate) enum Order {
    Random(Random),
    /// One after the other, for a first touch of each.
    InTurn(usize),
}

/// The part before the body, and what is asked with it.
pub(crate) enum Form {
    /// `POST /v1/authorizations` with an API key.
    Product { key: String },
    /// `POST /hold` with the Credits that the product's estimate comes to.
    Baseline { credits: i64 },
}

/// Asks for holds, each under a new id.
pub(crate) struct Holds<'a> {
    pub(crate) form: &'a Form,
    pub(crate) customers: &'a [String],
    pub(crate) order: Order,
    /// Tells this run's hold ids from those of others.
    pub(crate) run: u32,
    pub(crate) expected_status: u16,
    pub(crate) number: u64,
}

impl<'a> Holds<'a> {
    pub(crate) fn granted(form: &'a Form, customers: &'a [String], run: u32) -> Holds<'a> {
        let order = Order::Random(Random::new(u64::from(run)));
        Holds { form, customers, order, run, expected_status: 201, number: 0 }
    }

    pub(crate) fn refused(form: &'a Form, customers: &'a [String], run: u32) -> Holds<'a> {
        Holds { expected_status: 402, ..Holds::granted(form, customers, run) }
    }

    /// Each customer once.
    pub(crate) fn in_turn(mut self) -> Holds<'a> {
        self.order = Order::InTurn(0);
        self
    }
}

/// What every request asks for: a short prompt and some output. 2 Credits a token, so 3,400 Credits.
pub(crate) const PROMPT_TOKENS: u64 = 1_200;
pub(crate) const OUTPUT_TOKENS: u64 = 500;
pub(crate) const MODEL: &str = "mimo-v2-pro";
pub(crate) const CREDITS_HELD: i64 = 3_400;

impl Requests for Holds<'_> {
    fn write_next(&mut self, bytes: &mut Vec<u8>) -> u64 {
        self.number += 1;
        let customer = match &mut self.order {
            Order::Random(random) => random.of(self.customers),
            Order::InTurn(next) => {
                *next += 1;
                &self.customers[(*next - 1) % self.customers.len()]
            }
        };
        let (run, number) = (self.run, self.number);
        let body = match self.form {
            Form::Product { .. } => format!(
                r#"{{"id":"{run:08x}-{number:08x}","customer":"{customer}","model":"{MODEL}","prompt":{{"input":{PROMPT_TOKENS}}},"max_output_tokens":{OUTPUT_TOKENS}}}"#
            ),
            Form::Baseline { credits } => {
                format!(r#"{{"id":"{run:08x}-{number:08x}","customer":"{customer}","credits":{credits}}}"#)
            }
        };
        let head = match self.form {
            Form::Product { key } => {
                format!("POST /v1/authorizations HTTP/1.1\r\nauthorization: Bearer {key}\r\n")
            }
            Form::Baseline { .. } => "POST /hold HTTP/1.1\r\n".to_owned(),
        };
        let length = body.len();
        write!(
            bytes,
            "{head}host: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .expect("memory takes bytes");
        number
    }

    fn is_right(&self, number: u64, status: u16, body: &[u8]) -> bool {
        let names_the_request = || {
            let expected = format!(r#"{{"id":"{:08x}-{number:08x}""#, self.run);
            body.starts_with(expected.as_bytes())
        };
        status == self.expected_status && (status != 201 || names_the_request())
    }
}

/// Reports usage events, each under a new id: `POST /v1/usage/events`.
pub(crate) struct Events<'a> {
    pub(crate) key: &'a str,
    pub(crate) customers: &'a [String],
    /// Whose events a request has: of each of so many requests one after the other, other customers.
    pub(crate) parts: usize,
    /// Tells this run's events from those of others.
    pub(crate) run: u32,
    /// 1 for events by themselves.
    pub(crate) batch: u64,
    /// After so many requests the first is sent again.
    pub(crate) distinct: u64,
    /// The answer to every event.
    pub(crate) expected: &'static str,
    pub(crate) number: u64,
}

impl Requests for Events<'_> {
    fn write_next(&mut self, bytes: &mut Vec<u8>) -> u64 {
        let Events { key, run, batch, .. } = *self;
        let number = self.number % self.distinct;
        let of_part = self.customers.len() / self.parts;
        let part = usize::try_from(number).unwrap_or_default() % self.parts;
        let customers = &self.customers[part * of_part..(part + 1) * of_part];
        self.number += 1;
        // A request that is sent again is the same to the byte.
        let mut random = Random::new((u64::from(run) << 32) + number + 1);
        let mut body = Vec::new();
        let events = (0..batch).map(|event| (event, random.of(customers)));
        for (event, customer) in events {
            let comma = if event == 0 { "" } else { "," };
            write!(
                body,
                r#"{comma}{{"source":"{SOURCE}","id":"{run:08x}-{number:08x}-{event:04x}","customer":"{customer}","model":"{MODEL}","usage":{{"input":{PROMPT_TOKENS},"output":{OUTPUT_TOKENS}}}}}"#
            )
            .expect("memory takes bytes");
        }
        let (open, close) = if batch == 1 { ("", "") } else { ("[", "]") };
        let length = body.len() + open.len() + close.len();
        write!(
            bytes,
            "POST /v1/usage/events HTTP/1.1\r\nauthorization: Bearer {key}\r\nhost: 127.0.0.1\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{open}"
        )
        .expect("memory takes bytes");
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(close.as_bytes());
        number
    }

    fn is_right(&self, _: u64, status: u16, body: &[u8]) -> bool {
        let expected = format!(r#""status":"{}""#, self.expected);
        let count = std::str::from_utf8(body).map_or(0, |body| body.matches(&expected).count());
        status == 200 && u64::try_from(count).is_ok_and(|count| count == self.batch)
    }
}

/// Who reports usage.
pub(crate) const SOURCE: &str = "urn:bench";
