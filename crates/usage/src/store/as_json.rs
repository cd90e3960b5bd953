//! Values that go to PostgreSQL as JSON, written once and not as a tree before.

use std::io::Write;

use diesel::pg::Pg;
use diesel::serialize::{IsNull, Output, Result, ToSql};
use diesel::sql_types::Jsonb;
use domain::account::Draw;
use serde::{Serialize, Serializer};

/// A value in a column of JSON.
#[derive(Debug, PartialEq)]
pub(super) struct AsJson<T>(pub(super) T);

impl<T: Serialize + std::fmt::Debug> ToSql<Jsonb, Pg> for AsJson<T> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> Result {
        // The version of the format.
        out.write_all(&[1])?;
        serde_json::to_writer(out, &self.0)?;
        Ok(IsNull::No)
    }
}

/// The grants that paid, each with its Credits.
#[derive(Debug, PartialEq)]
pub(super) struct Draws<'r>(pub(super) &'r [Draw]);

impl Serialize for Draws<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|draw| (draw.grant, draw.credits)))
    }
}
