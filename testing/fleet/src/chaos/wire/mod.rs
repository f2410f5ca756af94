//! The protocol of the driver and its workers: each message is a line of words.

mod order;
mod report;

use std::str::{FromStr, SplitWhitespace};

pub use order::Order;
pub use report::{Answered, Counted, Origin, Report, Said, Wrong};

/// The line is not a message of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

struct Words<'a>(SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Self {
        Self(line.split_whitespace())
    }

    fn next(&mut self) -> Result<&'a str, Unreadable> {
        self.0.next().ok_or(Unreadable)
    }

    fn value<T: FromStr>(&mut self) -> Result<T, Unreadable> {
        self.next()?.parse().map_err(|_| Unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::ledger::{Target, Version};

    #[test]
    fn orders_and_reports_round_trip() {
        let orders = [
            Order::Load,
            Order::Herd {
                requests: 3,
                token: 4,
            },
            Order::Invalidate {
                id: 5,
                target: Target::Tenant(2),
                by_digest: false,
                wait: true,
            },
            Order::Invalidate {
                id: 6,
                target: Target::All,
                by_digest: false,
                wait: false,
            },
        ];
        for order in orders {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        let version = Version {
            token: 9,
            tenant: 8,
        };
        let answered = |token, said| {
            Report::Answered(Answered {
                token,
                start: 1,
                end: 2,
                said,
            })
        };
        let reports = [
            Report::Ready,
            answered(Some(7), Said::Found(version, Origin::Shared)),
            answered(Some(7), Said::Denied(version)),
            answered(None, Said::Absent),
            answered(None, Said::Unavailable),
            answered(None, Said::Wrong(Wrong::Denial)),
            Report::Confirmed { id: 1, at: 2 },
            Report::Failed { id: 1 },
            Report::Counted(Counted::of([1, 2, 3, 4, 5, 6])),
            Report::Herd {
                found: 1,
                absent: 2,
                other: 3,
            },
        ];
        for report in reports {
            assert_eq!(report.to_string().parse(), Ok(report));
        }
        assert_eq!("a 1 2".parse::<Report>(), Err(Unreadable), "a cut line");
    }
}
