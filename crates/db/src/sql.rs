//! Queries in plain SQL whose plans are kept.

use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::HasSqlType;
use diesel::sql_types::Untyped;

use crate::rows::{Rows, WithRows};

/// A query in SQL that each connection prepares once. `diesel::sql_query` has its text parsed and planned
/// anew each time, with a round trip for that: it cannot know that a text comes again, and texts that are
/// made at run time would fill the connection's memory. So the text is a constant here.
pub fn sql_query(text: &'static str) -> SqlQuery {
    SqlQuery { text, columns: PhantomData }
}

/// The same of columns of these types, in their order: where rows come by the thousand, to look for each of their columns by
/// its name costs more than the query.
pub fn sql_query_of<Columns>(text: &'static str) -> SqlQuery<Columns> {
    SqlQuery { text, columns: PhantomData }
}

/// See [`sql_query`].
#[derive(Debug, Clone, Copy)]
#[must_use = "a query does nothing before it is executed or loaded"]
pub struct SqlQuery<Columns = Untyped> {
    text: &'static str,
    columns: PhantomData<Columns>,
}

/// A query and the value of its next parameter.
#[derive(Debug, Clone, Copy)]
#[must_use = "a query does nothing before it is executed or loaded"]
pub struct Bound<Q, V, ST> {
    query: Q,
    value: V,
    sql_type: PhantomData<ST>,
}

impl<Columns> SqlQuery<Columns> {
    /// Binds `$1`.
    pub fn bind<ST, V>(self, value: V) -> Bound<Self, V, ST> {
        Bound { query: self, value, sql_type: PhantomData }
    }
}

impl<Q, V, ST> Bound<Q, V, ST> {
    /// Binds the next parameter.
    pub fn bind<ST2, V2>(self, value: V2) -> Bound<Self, V2, ST2> {
        Bound { query: self, value, sql_type: PhantomData }
    }

    /// Goes on with a `select` of the rows, and with what comes after it.
    pub fn rows<'v>(self, rows: Rows<'v>, rest: &'static str) -> WithRows<'v, Self> {
        WithRows { query: self, rows, rest }
    }
}

impl<Columns> QueryFragment<Pg> for SqlQuery<Columns> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(self.text);
        Ok(())
    }
}

impl<Q, V, ST> QueryFragment<Pg> for Bound<Q, V, ST>
where
    Pg: HasSqlType<ST>,
    Q: QueryFragment<Pg>,
    V: ToSql<ST, Pg>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.query.walk_ast(out.reborrow())?;
        out.push_bind_param_value_only(&self.value)
    }
}

// Told apart by its text and the types that are bound, not by its Rust type.
impl<Columns> QueryId for SqlQuery<Columns> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q, V, ST> QueryId for Bound<Q, V, ST> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Columns> Query for SqlQuery<Columns> {
    type SqlType = Columns;
}

impl<Q: Query, V, ST> Query for Bound<Q, V, ST> {
    type SqlType = Q::SqlType;
}
