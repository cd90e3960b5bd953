//! The two ways in which a service says no: a refusal (a value of `domain`) or a fault.

use std::time::Duration;

use deadpool::managed::TimeoutType;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_async::pooled_connection::deadpool::PoolError;
use domain::Refusal;

/// What every service of Tollgate returns when it cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An expected "no". Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A store is away or too slow: the same request may succeed later.
    #[error("storage unavailable: {0}")]
    Unavailable(String),
    /// A bug or a broken row: retrying does not help.
    #[error(transparent)]
    Fault(Box<dyn std::error::Error + Send + Sync>),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A fault that is not another error's consequence, such as a row that cannot be.
    pub fn broken(what: impl Into<String>) -> Error {
        Error::Fault(what.into().into())
    }

    /// The same, for each of those that shared the work that failed.
    pub fn to_each(&self) -> Error {
        match self {
            Error::Refused(refusal) => Error::Refused(refusal.clone()),
            Error::Unavailable(why) => Error::Unavailable(why.clone()),
            Error::Fault(source) => Error::broken(source.to_string()),
        }
    }

    pub(crate) fn past_deadline(deadline: Duration) -> Error {
        Error::Unavailable(format!("a transaction took longer than {} ms", deadline.as_millis()))
    }
}

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        if is_outage(&error) { Error::Unavailable(error.to_string()) } else { Error::Fault(Box::new(error)) }
    }
}

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        Error::Unavailable(match error {
            PoolError::Timeout(TimeoutType::Wait) => "every connection was in use for too long".to_owned(),
            PoolError::Timeout(_) => "PostgreSQL took too long to accept a connection".to_owned(),
            error => error.to_string(),
        })
    }
}

/// Whether an insert met this unique constraint or index.
pub fn is_unique_violation(error: &DieselError, constraint: &str) -> bool {
    matches!(
        error,
        DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, info)
            if info.constraint_name() == Some(constraint)
    )
}

/// Errors that a later try may not meet. diesel does not pass the SQLSTATE on, so those of
/// classes 53 (out of resources) and 57 (shutting down, canceled) are known by their messages.
pub(crate) fn is_outage(error: &DieselError) -> bool {
    const MESSAGES: [&str; 9] = [
        "terminating connection",
        "the database system is",
        "canceling statement",
        "could not extend file",
        "No space left on device",
        "remaining connection slots",
        "sorry, too many clients",
        "out of memory",
        "deadlock detected",
    ];
    match error {
        DieselError::BrokenTransactionManager => true,
        DieselError::DatabaseError(
            DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::UnableToSendCommand
            | DatabaseErrorKind::SerializationFailure,
            _,
        ) => true,
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, info) => {
            MESSAGES.iter().any(|message| info.message().contains(message))
        }
        _ => false,
    }
}

/// Whether the whole transaction should be run again (R-35a).
pub(crate) fn is_retryable(error: &Error) -> bool {
    match error {
        Error::Unavailable(message) => {
            message.contains("deadlock detected") || message.contains("could not serialize access")
        }
        Error::Refused(_) | Error::Fault(_) => false,
    }
}
