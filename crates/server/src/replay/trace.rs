//! Reads a request trace: CSV with a header line, one request a line.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use domain::id::{CustomerId, ExternalId};
use domain::usage::TokenCounts;
use sha2::{Digest, Sha256};

/// A whole trace, every line of it checked.
#[derive(Debug)]
pub(crate) struct Trace {
    /// SHA-256 over the file's bytes.
    digest: [u8; 32],
    pub(crate) rows: Vec<Row>,
}

/// One request of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Counted from 1, without the header.
    pub(crate) number: u64,
    pub(crate) usage: TokenCounts,
}

impl Trace {
    pub(crate) fn read(file: &Path) -> anyhow::Result<Trace> {
        let name = file.display().to_string();
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
        Trace::parse(&name, &bytes)
    }

    /// Columns are found by their names, in any order; those that are not known are ignored. The
    /// last line may lack its newline.
    fn parse(name: &str, bytes: &[u8]) -> anyhow::Result<Trace> {
        let digest = Sha256::digest(bytes).into();
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let mut lines = (1_u64..).zip(text.split(|byte| *byte == b'\n')).map(|(line, bytes)| {
            let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
            let cells = std::str::from_utf8(bytes).map(|text| text.split(',').collect::<Vec<_>>());
            (line, cells.map_err(|_| anyhow!("{name}, line {line}: not text in UTF-8")))
        });
        let (_, header) = lines.next().ok_or_else(|| anyhow!("{name} is empty"))?;
        let columns = Columns::find(&header?).map_err(|wrong| anyhow!("{name}, line 1: {wrong}"))?;
        let mut rows = Vec::new();
        for (number, (line, cells)) in (1..).zip(lines) {
            let usage = columns.read(&cells?).map_err(|wrong| anyhow!("{name}, line {line}: {wrong}"))?;
            rows.push(Row { number, usage });
        }
        if rows.is_empty() {
            bail!("{name} has no request under its header");
        }
        Ok(Trace { digest, rows })
    }
}

/// Where a trace has which count.
struct Columns {
    len: usize,
    input: usize,
    output: usize,
    cache_read: Option<usize>,
    cache_write: Option<usize>,
}

const INPUT: &str = "ContextTokens";
const OUTPUT: &str = "GeneratedTokens";
const CACHE_READ: &str = "CacheReadTokens";
const CACHE_WRITE: &str = "CacheWriteTokens";

impl Columns {
    fn find(header: &[&str]) -> anyhow::Result<Columns> {
        let find = |name: &str| {
            let mut found = (0..header.len()).filter(|n| header[*n].trim() == name);
            match (found.next(), found.next()) {
                (first, None) => Ok(first),
                (_, Some(_)) => Err(anyhow!("column {name} is there twice")),
            }
        };
        let required = |name: &str| {
            let found = header.join(", ");
            find(name)?.with_context(|| format!("column {name} is missing; the columns are: {found}"))
        };
        Ok(Columns {
            len: header.len(),
            input: required(INPUT)?,
            output: required(OUTPUT)?,
            cache_read: find(CACHE_READ)?,
            cache_write: find(CACHE_WRITE)?,
        })
    }

    fn read(&self, cells: &[&str]) -> anyhow::Result<TokenCounts> {
        if cells.len() < self.len {
            bail!("column {} is missing: there are {} of {}", cells.len() + 1, cells.len(), self.len);
        }
        if cells.len() > self.len {
            bail!("column {} is one too many: the header has {}", self.len + 1, self.len);
        }
        let optional =
            |name, column: Option<usize>| column.map(|column| count(name, cells[column])).transpose();
        let usage = TokenCounts {
            input: count(INPUT, cells[self.input])?,
            output: count(OUTPUT, cells[self.output])?,
            // A trace without the column has no such tokens.
            cache_read: optional(CACHE_READ, self.cache_read)?.unwrap_or_default(),
            cache_write: optional(CACHE_WRITE, self.cache_write)?.unwrap_or_default(),
            reasoning: 0,
        };
        usage
            .check()
            .map_err(|_| anyhow!("column {INPUT}: the whole prompt is more than Tollgate counts"))?;
        Ok(usage)
    }
}

/// Digits, and nothing else.
fn count(column: &str, cell: &str) -> anyhow::Result<u64> {
    if cell.is_empty() || !cell.bytes().all(|byte| byte.is_ascii_digit()) {
        bail!("column {column}: {cell:?} is not a count of tokens");
    }
    match cell.parse() {
        Ok(count) if count <= TokenCounts::COUNT_MAX => Ok(count),
        _ => bail!("column {column}: {cell} is more than Tollgate counts"),
    }
}

/// Gives every request of a run the id of its authorization and of its event: the same whenever the
/// same file is sent for the same customer and model under the same name.
pub(crate) struct RequestIds<'a> {
    pub(crate) customer: CustomerId,
    pub(crate) model: &'a ExternalId,
    /// The run's name.
    pub(crate) run: &'a str,
}

impl RequestIds<'_> {
    /// 64 hex digits.
    pub(crate) fn of(&self, trace: &Trace, row: &Row) -> String {
        let mut digest = Sha256::new();
        digest.update(trace.digest);
        digest.update(row.number.to_be_bytes());
        digest.update(self.customer.uuid().as_bytes());
        // Its length before it, so that no two pairs of model and run read alike.
        digest.update((self.model.as_str().len() as u64).to_be_bytes());
        digest.update(self.model.as_str());
        digest.update(self.run);
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
        2023-11-16 18:17:03.9799600,4808,10\n\
        2023-11-16 18:17:04.0319600,3180,8";
    const CONV: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n\
        2023-11-16 18:15:46.6805900,374,44\r\n\
        2023-11-16 18:15:50.9951690,396,109\r\n\
        2023-11-16 18:15:51.2224670,879,55\r\n";

    fn parse(text: &str) -> Trace {
        Trace::parse("t.csv", text.as_bytes()).unwrap()
    }

    fn totals(trace: &Trace) -> (usize, u64, u64) {
        let sum = |of: fn(&TokenCounts) -> u64| trace.rows.iter().map(|row| of(&row.usage)).sum();
        (trace.rows.len(), sum(|usage| usage.input), sum(|usage| usage.output))
    }

    #[test]
    fn each_line_under_the_header_is_a_request_with_or_without_a_last_newline() {
        assert_eq!(totals(&parse(CODE)), (2, 7_988, 18));
        assert_eq!(totals(&parse(&format!("{CODE}\n"))), (2, 7_988, 18));
        assert_eq!(totals(&parse(CONV)), (3, 1_649, 208));
        assert_eq!(totals(&parse(&format!("\u{feff}{CONV}"))), (3, 1_649, 208));
        let numbers: Vec<u64> = parse(CONV).rows.iter().map(|row| row.number).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let trace = parse(
            "CacheReadTokens,GeneratedTokens,note,ContextTokens,CacheWriteTokens\n\
             1,20,\"x\",300,4000\n0,0,,0,1000000000000\n",
        );
        let none = TokenCounts::default();
        assert_eq!(
            trace.rows.iter().map(|row| row.usage).collect::<Vec<_>>(),
            [
                TokenCounts { input: 300, cache_read: 1, cache_write: 4_000, output: 20, reasoning: 0 },
                TokenCounts { cache_write: TokenCounts::COUNT_MAX, ..none },
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_file_line_and_column() {
        for (text, wrong) in [
            ("", "t.csv, line 1: column ContextTokens is missing; the columns are: "),
            (
                "TIMESTAMP,context,GeneratedTokens\n",
                "t.csv, line 1: column ContextTokens is missing; the columns are: TIMESTAMP, context, GeneratedTokens",
            ),
            (
                "ContextTokens\n1",
                "t.csv, line 1: column GeneratedTokens is missing; the columns are: ContextTokens",
            ),
            (
                "ContextTokens,GeneratedTokens,ContextTokens\n1,2,3",
                "t.csv, line 1: column ContextTokens is there twice",
            ),
            ("ContextTokens,GeneratedTokens\n", "t.csv has no request under its header"),
            (
                "ContextTokens,GeneratedTokens\n1,2\n3,4x\n",
                "t.csv, line 3: column GeneratedTokens: \"4x\" is not a count of tokens",
            ),
            (
                "ContextTokens,GeneratedTokens\n-1,2",
                "t.csv, line 2: column ContextTokens: \"-1\" is not a count of tokens",
            ),
            (
                "ContextTokens,GeneratedTokens\n1.0,2",
                "t.csv, line 2: column ContextTokens: \"1.0\" is not a count of tokens",
            ),
            (
                "ContextTokens,GeneratedTokens\n1,",
                "t.csv, line 2: column GeneratedTokens: \"\" is not a count of tokens",
            ),
            (
                "ContextTokens,GeneratedTokens\n9223372036854775808,2",
                "t.csv, line 2: column ContextTokens: 9223372036854775808 is more than Tollgate counts",
            ),
            (
                "ContextTokens,GeneratedTokens,CacheReadTokens\n1000000000000,2,1",
                "t.csv, line 2: column ContextTokens: the whole prompt is more than Tollgate counts",
            ),
            (
                "ContextTokens,GeneratedTokens\n1,2\n\n3,4",
                "t.csv, line 3: column 2 is missing: there are 1 of 2",
            ),
            (
                "ContextTokens,GeneratedTokens\n1,2,3",
                "t.csv, line 2: column 3 is one too many: the header has 2",
            ),
        ] {
            let error = Trace::parse("t.csv", text.as_bytes()).unwrap_err();
            assert_eq!(format!("{error:#}"), wrong, "{text:?}");
        }
        let error = Trace::parse("t.csv", b"ContextTokens,GeneratedTokens\n1,\xff").unwrap_err();
        assert_eq!(error.to_string(), "t.csv, line 2: not text in UTF-8");
    }

    #[test]
    fn ids_stay_the_same_from_run_to_run_and_change_with_every_part() {
        let customer: CustomerId = "cus_0192f0c1d2e37a4b8c9d0e1f2a3b4c5d".parse().unwrap();
        let model: ExternalId = "mimo-v2-pro".parse().unwrap();
        let trace = parse(CODE);
        let ids = RequestIds { customer, model: &model, run: "1" };
        let id = ids.of(&trace, &trace.rows[0]);
        // Written down: an id that changed with a release would charge an interrupted run twice.
        assert_eq!(id, "090580e3fcb8b8cdcea5ed53fa320b9583721a755b87abd4da53ded4b75e8133");
        assert!(id.parse::<ExternalId>().is_ok());

        let other_customer = "cus_0192f0c1d2e37a4b8c9d0e1f2a3b4c5e".parse().unwrap();
        let (other_model, longer_model) = ("mimo-v2-omni".parse().unwrap(), "mimo-v2-pro1".parse().unwrap());
        let others = [
            ids.of(&trace, &trace.rows[1]),
            ids.of(&parse(CONV), &trace.rows[0]),
            RequestIds { customer: other_customer, ..ids }.of(&trace, &trace.rows[0]),
            RequestIds { model: &other_model, ..ids }.of(&trace, &trace.rows[0]),
            RequestIds { run: "2", ..ids }.of(&trace, &trace.rows[0]),
            RequestIds { run: "", model: &longer_model, ..ids }.of(&trace, &trace.rows[0]),
        ];
        for other in others {
            assert_ne!(id, other);
        }
    }
}
