-- A cycle of a year is granted whole, and each refund of its year revokes its part of it as it opens, in the ledger (R-22a,
-- R-22b): what a refund took can be given back, should it fail in the end. No release has known the column.

alter table cycles drop column credits_withheld;
