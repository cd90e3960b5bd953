//! What PostgreSQL holds, read by statements of our own as its superuser.

use std::collections::BTreeMap;

use anyhow::Context;
use tokio_postgres::{Client, NoTls, Row};
use uuid::Uuid;

use crate::history::Name;

/// The role that the servers under test log in as. Its password is no secret: the cluster is private
/// and goes with the run.
const LOGIN: &str = "tollgate_torture";

/// All that the checker compares the clients' histories with.
#[derive(Debug, Clone, Default)]
pub struct Books {
    pub accounts: Vec<AccountRow>,
    pub grants: Vec<GrantRow>,
    /// By customer, in the order of versions.
    pub transfers: BTreeMap<Uuid, Vec<TransferRow>>,
    pub events: Vec<EventRow>,
    pub subscriptions: Vec<SubscriptionRow>,
    pub invoices: Vec<InvoiceRow>,
    pub purchases: Vec<PurchaseRow>,
}

#[derive(Debug, Clone)]
pub struct AccountRow {
    pub customer: Uuid,
    pub version: i64,
    pub issued: i64,
    pub available: i64,
    pub spent: i64,
    pub expired: i64,
    pub revoked: i64,
    pub overage: i64,
}

#[derive(Debug, Clone)]
pub struct GrantRow {
    pub customer: Uuid,
    pub grant: Uuid,
    pub amount: i64,
    pub spent: i64,
    pub expired: i64,
    pub revoked: i64,
    pub remaining: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferRow {
    pub version: i64,
    pub debit: String,
    pub credit: String,
    pub grant: Option<Uuid>,
    pub credits: i64,
    pub cause_kind: String,
    pub cause_id: Uuid,
}

#[derive(Debug, Clone)]
pub struct EventRow {
    pub customer: Uuid,
    pub identity: Uuid,
    /// `None` for an event that no client of the run can have sent.
    pub name: Option<Name>,
    pub model: String,
    pub input: i64,
    pub cache_read: i64,
    pub output: i64,
    pub is_unrated: bool,
    pub captured: bool,
    pub credits: i64,
    pub overage: i64,
    pub balance_after: i64,
    pub version: i64,
    pub draws: i64,
}

#[derive(Debug, Clone)]
pub struct SubscriptionRow {
    pub subscription: Uuid,
    pub status: String,
}

#[derive(Debug, Clone)]
pub struct InvoiceRow {
    pub customer: Uuid,
    pub invoice: Uuid,
    pub status: String,
}

#[derive(Debug, Clone)]
pub struct PurchaseRow {
    pub purchase: Uuid,
    pub invoice: Uuid,
    pub status: String,
    pub credits: i64,
}

/// A connection; it ends with the returned client.
pub async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.context("no connection to PostgreSQL")?;
    tokio::spawn(async move {
        // A connection that breaks says so to whoever uses the client.
        let _ = connection.await;
    });
    Ok(client)
}

/// Makes the database of the run.
pub async fn create_database(url: &str, name: &str) -> anyhow::Result<()> {
    connect(url).await?.batch_execute(&format!("create database {name}")).await.context("no database")
}

/// Makes the role that the servers log in as and returns the database's URL for it.
pub async fn create_login(url: &str) -> anyhow::Result<String> {
    let statement = format!("create role {LOGIN} login password '{LOGIN}' in role tollgate_app");
    connect(url).await?.batch_execute(&statement).await.context("no role for the servers")?;
    let (scheme, rest) = url.split_once("://").context("a URL")?;
    let host = rest.split_once('@').map_or(rest, |(_, host)| host);
    Ok(format!("{scheme}://{LOGIN}:{LOGIN}@{host}"))
}

/// Reads everything, all of one instant.
pub async fn read_books(url: &str) -> anyhow::Result<Books> {
    let client = connect_to_read(url).await?;
    let mut books = Books::default();
    read_ledger(&client, &mut books).await?;
    read_events(&client, &mut books).await?;
    read_purchases(&client, &mut books).await?;
    Ok(books)
}

/// Reads accounts, grants and transfers alone.
pub async fn read_accounts(url: &str) -> anyhow::Result<Books> {
    let mut books = Books::default();
    read_ledger(&connect_to_read(url).await?, &mut books).await?;
    Ok(books)
}

/// What the worker has to do, or has given up.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    /// Messages by the id that they are sent with.
    pub messages: Vec<String>,
    /// Deliveries that are not made yet, messages whose deliveries are not planned yet among them.
    pub waiting: i64,
    pub parked_jobs: Vec<String>,
}

pub async fn read_outbox(url: &str) -> anyhow::Result<Outbox> {
    let client = connect_to_read(url).await?;
    let messages = client.query("select event_id::text from outbox", &[]).await?;
    let waiting = "select (select count(*) from outbox where dispatched_at is null)
                       + (select count(*) from webhook_deliveries where state = 'waiting')";
    let parked =
        client.query("select kind || ' ' || coalesce(last_error, '') from jobs where state = 'parked'", &[]);
    Ok(Outbox {
        messages: messages
            .iter()
            .map(|row| Ok(format!("evt_{}", uuid(row, 0)?.simple())))
            .collect::<anyhow::Result<_>>()?,
        waiting: client.query_one(waiting, &[]).await?.get(0),
        parked_jobs: parked.await?.iter().map(|row| row.get(0)).collect(),
    })
}

/// What it reads is all of one instant.
async fn connect_to_read(url: &str) -> anyhow::Result<Client> {
    let client = connect(url).await?;
    client.batch_execute("begin isolation level repeatable read read only").await?;
    Ok(client)
}

async fn read_ledger(client: &Client, books: &mut Books) -> anyhow::Result<()> {
    let statement = "select customer_id::text, version, issued, available, spent, expired, revoked, overage
                     from credit_accounts";
    for row in client.query(statement, &[]).await? {
        books.accounts.push(AccountRow {
            customer: uuid(&row, 0)?,
            version: row.get(1),
            issued: row.get(2),
            available: row.get(3),
            spent: row.get(4),
            expired: row.get(5),
            revoked: row.get(6),
            overage: row.get(7),
        });
    }
    let statement =
        "select customer_id::text, grant_id::text, amount, spent, expired, revoked, remaining from grants";
    for row in client.query(statement, &[]).await? {
        books.grants.push(GrantRow {
            customer: uuid(&row, 0)?,
            grant: uuid(&row, 1)?,
            amount: row.get(2),
            spent: row.get(3),
            expired: row.get(4),
            revoked: row.get(5),
            remaining: row.get(6),
        });
    }
    read_transfers(client, books).await
}

async fn read_transfers(client: &Client, books: &mut Books) -> anyhow::Result<()> {
    let statement = "select customer_id::text, version, debit, credit, grant_id::text, credits, cause_kind,
                         cause_id::text
                     from transfers order by tenant_id, customer_id, version";
    for row in client.query(statement, &[]).await? {
        let grant: Option<&str> = row.get(4);
        books.transfers.entry(uuid(&row, 0)?).or_default().push(TransferRow {
            version: row.get(1),
            debit: row.get(2),
            credit: row.get(3),
            grant: grant.map(Uuid::parse_str).transpose()?,
            credits: row.get(5),
            cause_kind: row.get(6),
            cause_id: uuid(&row, 7)?,
        });
    }
    Ok(())
}

async fn read_events(client: &Client, books: &mut Books) -> anyhow::Result<()> {
    let statement =
        "select customer_id::text, identity::text, event_id, model, input_tokens, cache_read_tokens,
                         output_tokens, unrated_reason is not null, hold = 'captured', credits, overage,
                         balance_after, account_version, jsonb_array_length(draws)::bigint
                     from usage_events";
    for row in client.query(statement, &[]).await? {
        let name: &str = row.get(2);
        books.events.push(EventRow {
            customer: uuid(&row, 0)?,
            identity: uuid(&row, 1)?,
            name: name.parse().ok(),
            model: row.get(3),
            input: row.get(4),
            cache_read: row.get(5),
            output: row.get(6),
            is_unrated: row.get(7),
            captured: row.get(8),
            credits: row.get(9),
            overage: row.get(10),
            balance_after: row.get(11),
            version: row.get(12),
            draws: row.get(13),
        });
    }
    Ok(())
}

async fn read_purchases(client: &Client, books: &mut Books) -> anyhow::Result<()> {
    let statement = "select subscription_id::text, status from subscriptions";
    for row in client.query(statement, &[]).await? {
        books.subscriptions.push(SubscriptionRow { subscription: uuid(&row, 0)?, status: row.get(1) });
    }
    let statement = "select customer_id::text, invoice_id::text, status from invoices";
    for row in client.query(statement, &[]).await? {
        let (customer, invoice) = (uuid(&row, 0)?, uuid(&row, 1)?);
        books.invoices.push(InvoiceRow { customer, invoice, status: row.get(2) });
    }
    let statement = "select purchase_id::text, invoice_id::text, status, credits from purchases";
    for row in client.query(statement, &[]).await? {
        books.purchases.push(PurchaseRow {
            purchase: uuid(&row, 0)?,
            invoice: uuid(&row, 1)?,
            status: row.get(2),
            credits: row.get(3),
        });
    }
    Ok(())
}

fn uuid(row: &Row, column: usize) -> anyhow::Result<Uuid> {
    let text: &str = row.get(column);
    Ok(Uuid::parse_str(text)?)
}
