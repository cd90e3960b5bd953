//! Numbers as the scripts read and write them: seven bytes each, the lowest first.

use chrono::DateTime;
use domain::{Credits, Timestamp};

/// Stands for no instant: the first number that Lua's doubles do not tell from the next one.
const NEVER: i64 = 1 << 53;

/// Packs numbers below 2^53 one after the other.
pub(crate) struct Packed(pub(crate) Vec<u8>);

impl Packed {
    /// With room for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Packed {
        Packed(Vec::with_capacity(bytes))
    }

    pub(crate) fn number(mut self, number: i64) -> Packed {
        self.0.extend_from_slice(&number.to_le_bytes()[..7]);
        self
    }

    pub(crate) fn credits(self, credits: Credits) -> Packed {
        self.number(credits.get())
    }

    pub(crate) fn instant(self, instant: Timestamp) -> Packed {
        self.number(instant.timestamp_micros())
    }

    pub(crate) fn instant_or_never(self, instant: Option<Timestamp>) -> Packed {
        self.number(instant.map_or(NEVER, |instant| instant.timestamp_micros()))
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Packed {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// What was packed, number by number; `None` where it ends too early or is none of the kind.
pub(crate) struct Unpacked<'a>(pub(crate) &'a [u8]);

impl Unpacked<'_> {
    pub(crate) fn number(&mut self) -> Option<i64> {
        let (packed, rest) = self.0.split_first_chunk::<7>()?;
        self.0 = rest;
        // In the upper seven bytes, so that shifting it down brings its sign along.
        let mut upper = [0; 8];
        upper[1..].copy_from_slice(packed);
        Some(i64::from_le_bytes(upper) >> 8)
    }

    pub(crate) fn credits(&mut self) -> Option<Credits> {
        Credits::new(self.number()?).ok()
    }

    pub(crate) fn instant(&mut self) -> Option<Timestamp> {
        DateTime::from_timestamp_micros(self.number()?)
    }

    pub(crate) fn instant_or_never(&mut self) -> Option<Option<Timestamp>> {
        match self.number()? {
            NEVER => Some(None),
            micros => DateTime::from_timestamp_micros(micros).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_unpacked() {
        let numbers = [0, 1, -1, 255, 256, -256, NEVER - 1, 1 - NEVER];
        let packed = numbers.into_iter().fold(Packed::with_capacity(56), Packed::number);
        assert_eq!(packed.0.len(), 56);
        let mut unpacked = Unpacked(&packed.0);
        assert_eq!(numbers.map(|_| unpacked.number().unwrap()), numbers);
        assert_eq!(unpacked.number(), None);
        let mut none = Unpacked(b"\x01\x02");
        assert_eq!(none.number(), None, "it ends too early");
    }
}
