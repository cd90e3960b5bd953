/// What to do about rows that another transaction has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// Leave them to it.
    Skip,
    /// Wait for it, and take them as it leaves them.
    Wait,
}
