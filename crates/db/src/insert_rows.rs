//! Many rows in one insert.

use std::fmt::{self, Debug, Formatter};
use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::ToSql;
use diesel::sql_types::{Array, HasSqlType, Untyped};

/// An insert of many rows, which each connection prepares once. A column is sent as an array; or once, where it has the same
/// value in all rows: an array costs the sender and PostgreSQL something for every row.
///
/// Which columns are sent once is decided by groups: so few texts are prepared, two for each group at most.
#[derive(Debug)]
#[must_use = "a query does nothing before it is executed"]
pub struct InsertRows<'v> {
    table: &'static str,
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

impl<'v> InsertRows<'v> {
    pub fn into(table: &'static str) -> InsertRows<'v> {
        InsertRows { table, columns: Vec::new() }
    }

    /// Columns that differ from row to row. At least one is needed: it says how many rows there are.
    pub fn each<const N: usize>(self, columns: [Column<'v>; N]) -> Self {
        self.and(columns, Sent::AsArray)
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

impl QueryFragment<Pg> for InsertRows<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("insert into ");
        out.push_sql(self.table);
        let mut before = " (";
        for (column, _) in &self.columns {
            out.push_sql(before);
            out.push_sql(column.name);
            before = ", ";
        }
        out.push_sql(")");
        let mut before = " select ";
        for (column, sent) in &self.columns {
            out.push_sql(before);
            column.values.bind(*sent, out.reborrow())?;
            before = ", ";
        }
        Ok(())
    }
}

// Told apart by its text and the types that are bound.
impl QueryId for InsertRows<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for InsertRows<'_> {
    type SqlType = Untyped;
}

#[cfg(test)]
mod tests {
    use diesel::debug_query;
    use diesel::sql_types::{BigInt, Text};

    use super::*;

    #[test]
    fn a_group_whose_columns_are_all_alike_is_sent_once_and_any_other_as_arrays() {
        let insert = |bands: [i64; 2]| {
            let insert =
                InsertRows::into("events").each([column::<Text, _>("id", vec!["a", "b"])]).once_if_alike([
                    column::<Text, _>("model", vec!["m", "m"]),
                    column::<BigInt, _>("band", bands.to_vec()),
                ]);
            debug_query::<Pg, _>(&insert).to_string()
        };
        assert_eq!(
            insert([7, 7]),
            r#"insert into events (id, model, band) select unnest($1), $2, $3 -- binds: [["a", "b"], "m", 7]"#
        );
        assert_eq!(
            insert([7, 8]),
            "insert into events (id, model, band) select unnest($1), unnest($2), unnest($3) \
             -- binds: [[\"a\", \"b\"], [\"m\", \"m\"], [7, 8]]"
        );
    }

    #[test]
    fn of_what_is_known_for_all_rows_one_value_is_enough() {
        let insert = InsertRows::into("events")
            .once_if_alike([column::<Text, _>("tenant", vec!["t"])])
            .each([column::<Text, _>("id", vec!["a"])]);
        assert_eq!(
            debug_query::<Pg, _>(&insert).to_string(),
            r#"insert into events (tenant, id) select $1, unnest($2) -- binds: ["t", ["a"]]"#
        );
    }
}
