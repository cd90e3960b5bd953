//! The life of an invoice and of the payments that try to settle it. Monotone: "settled" beats
//! "failed" in whichever order they arrive.

use crate::Refusal;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvoiceStatus {
    Open,
    Paid,
    /// Never to be paid: its purchase expired or was withdrawn.
    Void,
}

impl InvoiceStatus {
    pub const ALL: [InvoiceStatus; 3] = [InvoiceStatus::Open, InvoiceStatus::Paid, InvoiceStatus::Void];

    pub fn name(self) -> &'static str {
        match self {
            InvoiceStatus::Open => "open",
            InvoiceStatus::Paid => "paid",
            InvoiceStatus::Void => "void",
        }
    }
}

/// One attempt to collect an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentStatus {
    /// Stored, and the provider may or may not have heard of it.
    Created,
    /// The customer has to do something first: 3-D Secure, or a page of the provider's.
    RequiresAction,
    /// With the provider, undecided.
    Pending,
    Succeeded,
    Failed,
    /// The provider confirmed that it will never succeed.
    Canceled,
    /// Succeeded for a purchase that had ended, and given back in full (R-10a, R-14b).
    Refunded,
}

impl PaymentStatus {
    pub const ALL: [PaymentStatus; 7] = [
        PaymentStatus::Created,
        PaymentStatus::RequiresAction,
        PaymentStatus::Pending,
        PaymentStatus::Succeeded,
        PaymentStatus::Failed,
        PaymentStatus::Canceled,
        PaymentStatus::Refunded,
    ];

    pub fn name(self) -> &'static str {
        match self {
            PaymentStatus::Created => "created",
            PaymentStatus::RequiresAction => "requires_action",
            PaymentStatus::Pending => "pending",
            PaymentStatus::Succeeded => "succeeded",
            PaymentStatus::Failed => "failed",
            PaymentStatus::Canceled => "canceled",
            PaymentStatus::Refunded => "refunded",
        }
    }

    /// Whether the provider may still take money for it.
    pub fn is_undecided(self) -> bool {
        Self::UNDECIDED.contains(&self)
    }

    /// The states in which the provider may still take money.
    pub const UNDECIDED: [PaymentStatus; 3] =
        [PaymentStatus::Created, PaymentStatus::RequiresAction, PaymentStatus::Pending];
}

/// What the provider says about a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentReport {
    Succeeded,
    Failed,
    /// The customer's turn.
    RequiresAction,
    Pending,
    Canceled,
}

/// The payment's state after a report: a later state never moves back (R-10a). Created, requires
/// action, pending are in this order, so that late reports end in one state in every order.
pub fn payment_after(status: PaymentStatus, report: PaymentReport) -> PaymentStatus {
    use {PaymentReport as Report, PaymentStatus as Status};
    match (status, report) {
        (
            Status::Succeeded | Status::Refunded,
            Report::Succeeded | Report::Failed | Report::RequiresAction | Report::Pending | Report::Canceled,
        ) => status,
        (
            Status::Created | Status::RequiresAction | Status::Pending | Status::Failed | Status::Canceled,
            Report::Succeeded,
        ) => Status::Succeeded,
        (
            Status::Failed | Status::Canceled,
            Report::Failed | Report::RequiresAction | Report::Pending | Report::Canceled,
        ) => status,
        (Status::Created | Status::RequiresAction | Status::Pending, Report::Failed) => Status::Failed,
        (Status::Created | Status::RequiresAction, Report::RequiresAction) => Status::RequiresAction,
        (Status::Pending, Report::RequiresAction) => Status::Pending,
        (Status::Created | Status::RequiresAction | Status::Pending, Report::Pending) => Status::Pending,
        (Status::Created | Status::RequiresAction | Status::Pending, Report::Canceled) => Status::Canceled,
    }
}

/// Whether an invoice in this state can take another payment.
pub fn check_payable(status: InvoiceStatus) -> Result<(), Refusal> {
    match status {
        InvoiceStatus::Open => Ok(()),
        InvoiceStatus::Paid | InvoiceStatus::Void => Err(Refusal::InvoiceNotOpen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORTS: [PaymentReport; 5] = [
        PaymentReport::Succeeded,
        PaymentReport::Failed,
        PaymentReport::RequiresAction,
        PaymentReport::Pending,
        PaymentReport::Canceled,
    ];

    #[test]
    fn a_success_wins_in_every_order_of_reports() {
        for first in REPORTS {
            for second in REPORTS {
                let end = payment_after(payment_after(PaymentStatus::Created, first), second);
                let has_success = [first, second].contains(&PaymentReport::Succeeded);
                assert_eq!(end == PaymentStatus::Succeeded, has_success, "{first:?} {second:?}");
            }
        }
    }

    #[test]
    fn every_report_on_every_payment_has_its_outcome() {
        use PaymentStatus::{Canceled, Created, Failed, Pending, Refunded, RequiresAction, Succeeded};
        // The state after: succeeded, failed, requires action, pending, canceled.
        for (status, outcomes) in [
            (Created, [Succeeded, Failed, RequiresAction, Pending, Canceled]),
            (RequiresAction, [Succeeded, Failed, RequiresAction, Pending, Canceled]),
            (Pending, [Succeeded, Failed, Pending, Pending, Canceled]),
            (Succeeded, [Succeeded; 5]),
            (Failed, [Succeeded, Failed, Failed, Failed, Failed]),
            (Canceled, [Succeeded, Canceled, Canceled, Canceled, Canceled]),
            (Refunded, [Refunded; 5]),
        ] {
            assert_eq!(REPORTS.map(|report| payment_after(status, report)), outcomes, "{status:?}");
        }
    }

    #[test]
    fn a_payment_that_was_decided_is_never_undecided_again() {
        for status in PaymentStatus::ALL {
            for report in REPORTS {
                assert!(status.is_undecided() || !payment_after(status, report).is_undecided());
            }
        }
        assert_eq!(
            PaymentStatus::ALL.map(PaymentStatus::is_undecided),
            [true, true, true, false, false, false, false]
        );
    }

    #[test]
    fn only_an_open_invoice_can_be_paid() {
        let payable = InvoiceStatus::ALL.map(check_payable);
        assert_eq!(payable, [Ok(()), Err(Refusal::InvoiceNotOpen), Err(Refusal::InvoiceNotOpen)]);
    }

    #[test]
    fn a_repeated_report_changes_nothing() {
        for status in PaymentStatus::ALL {
            for report in REPORTS {
                let once = payment_after(status, report);
                assert_eq!(payment_after(once, report), once, "{status:?} {report:?}");
            }
        }
    }
}
