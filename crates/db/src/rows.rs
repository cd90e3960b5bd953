//! The rows of a statement that writes many of them.

use std::fmt::{self, Debug, Formatter};
use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{Array, HasSqlType, Untyped};

/// Rows for a statement that each connection prepares once. A column is sent as an array; or once, where it has the same
/// value in all rows: an array costs the sender and PostgreSQL something for every row.
///
/// Which columns are sent once is decided by groups: with each group there are twice as many texts to prepare, and no more.
#[derive(Debug, Default)]
#[must_use = "rows are not written before a statement is executed"]
pub struct Rows<'v> {
    columns: Vec<(Column<'v>, Sent)>,
}

/// A column with its values, in the order of the rows.
pub struct Column<'v> {
    name: &'static str,
    values: Box<dyn Values + Send + 'v>,
}

/// A column of this type in SQL.
pub fn column<'v, ST, V>(name: &'static str, values: Vec<V>) -> Column<'v>
where
    Pg: HasSqlType<ST> + HasSqlType<Array<ST>>,
    ST: Send + 'static,
    V: ToSql<ST, Pg> + PartialEq + Send + 'v,
    Vec<V>: ToSql<Array<ST>, Pg>,
{
    Column { name, values: Box::new(Typed { values, sql_type: PhantomData }) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Once,
    AsArray,
}

impl<'v> Rows<'v> {
    /// Columns that differ from row to row. At least one is needed: it says how many rows there are.
    pub fn each<const N: usize>(self, columns: [Column<'v>; N]) -> Self {
        self.and(columns, Sent::AsArray)
    }

    /// A column in which all rows have this.
    pub fn once<ST, V>(self, name: &'static str, value: V) -> Self
    where
        Pg: HasSqlType<ST> + HasSqlType<Array<ST>>,
        ST: Send + 'static,
        V: ToSql<ST, Pg> + PartialEq + Send + 'v,
        Vec<V>: ToSql<Array<ST>, Pg>,
    {
        self.and([column::<ST, V>(name, vec![value])], Sent::Once)
    }

    /// Columns that are sent once if in each of them all rows have the same value.
    pub fn once_if_alike<const N: usize>(self, columns: [Column<'v>; N]) -> Self {
        let are_alike = columns.iter().all(|column| column.values.are_alike());
        self.and(columns, if are_alike { Sent::Once } else { Sent::AsArray })
    }

    fn and<const N: usize>(mut self, columns: [Column<'v>; N], sent: Sent) -> Self {
        self.columns.extend(columns.into_iter().map(|column| (column, sent)));
        self
    }

    /// Inserts them.
    pub fn insert_into(self, table: &'static str) -> InsertRows<'v> {
        InsertRows { table, rows: self, rest: "" }
    }
}

/// See [`Rows::insert_into`].
#[derive(Debug)]
#[must_use = "a query does nothing before it is executed or loaded"]
pub struct InsertRows<'v> {
    table: &'static str,
    rows: Rows<'v>,
    rest: &'static str,
}

impl InsertRows<'_> {
    /// What the statement says after the rows: `on conflict`, `returning`.
    pub fn then(self, rest: &'static str) -> Self {
        InsertRows { rest, ..self }
    }
}

/// A query with rows in its text, where its parameters are bound before theirs: see [`crate::SqlQuery`].
#[derive(Debug)]
#[must_use = "a query does nothing before it is executed or loaded"]
pub struct WithRows<'v, Q> {
    pub(crate) query: Q,
    pub(crate) rows: Rows<'v>,
    pub(crate) rest: &'static str,
}

impl Debug for Column<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The values of a column, whatever their type.
trait Values {
    fn are_alike(&self) -> bool;
    fn bind<'b>(&'b self, sent: Sent, out: AstPass<'_, 'b, Pg>) -> QueryResult<()>;
}

struct Typed<ST, V> {
    values: Vec<V>,
    sql_type: PhantomData<ST>,
}

impl<ST: 'static, V> Values for Typed<ST, V>
where
    Pg: HasSqlType<ST> + HasSqlType<Array<ST>>,
    V: ToSql<ST, Pg> + PartialEq,
    Vec<V>: ToSql<Array<ST>, Pg>,
{
    fn are_alike(&self) -> bool {
        match self.values.split_first() {
            None => false,
            Some((first, rest)) => rest.iter().all(|value| value == first),
        }
    }

    fn bind<'b>(&'b self, sent: Sent, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        match (sent, self.values.first()) {
            (Sent::Once, Some(first)) => out.push_bind_param::<ST, V>(first),
            _ => {
                out.push_sql("unnest(");
                out.push_bind_param::<Array<ST>, Vec<V>>(&self.values)?;
                out.push_sql(")");
                Ok(())
            }
        }
    }
}

/// `select` of the rows, with the columns' names.
impl QueryFragment<Pg> for Rows<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let mut before = "select ";
        for (column, sent) in &self.columns {
            out.push_sql(before);
            column.values.bind(*sent, out.reborrow())?;
            out.push_sql(" as ");
            out.push_sql(column.name);
            before = ", ";
        }
        Ok(())
    }
}

impl QueryFragment<Pg> for InsertRows<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("insert into ");
        out.push_sql(self.table);
        let mut before = " (";
        for (column, _) in &self.rows.columns {
            out.push_sql(before);
            out.push_sql(column.name);
            before = ", ";
        }
        out.push_sql(") ");
        self.rows.walk_ast(out.reborrow())?;
        out.push_sql(self.rest);
        Ok(())
    }
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for WithRows<'_, Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.query.walk_ast(out.reborrow())?;
        self.rows.walk_ast(out.reborrow())?;
        out.push_sql(self.rest);
        Ok(())
    }
}

// Told apart by their text and the types that are bound.
impl QueryId for InsertRows<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q> QueryId for WithRows<'_, Q> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for InsertRows<'_> {
    type SqlType = Untyped;
}

impl<Q: Query> Query for WithRows<'_, Q> {
    type SqlType = Q::SqlType;
}
