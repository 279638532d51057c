//! How many retries all calls together may cause.

use std::sync::atomic::{AtomicU64, Ordering};

/// Hundredths of retries that may be made; each call pays some in, each retry takes a hundred out.
#[derive(Debug)]
pub(super) struct Budget {
    balance: AtomicU64,
    most: u64,
    pay: u64,
}

const RETRY: u64 = 100;

impl Budget {
    pub(super) fn new(percent: u32, reserve: u32) -> Self {
        // Without a reserve, what calls pay in must still have room.
        let (reserve, pay) = (u64::from(reserve) * RETRY, u64::from(percent));
        let most = if pay == 0 { reserve } else { reserve.max(pay).max(RETRY) };
        Self { balance: AtomicU64::new(reserve), most, pay }
    }

    pub(super) fn pay_in(&self) {
        let paid = |balance: u64| (balance < self.most).then(|| self.most.min(balance + self.pay));
        let _ = self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid);
    }

    /// Whether there was a retry left.
    pub(super) fn take_out(&self) -> bool {
        let taken = |balance: u64| balance.checked_sub(RETRY);
        self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries(budget: &Budget) -> u32 {
        let mut made = 0;
        while budget.take_out() {
            made += 1;
        }
        made
    }

    #[test]
    fn calls_pay_for_retries_and_no_more_than_the_reserve_is_kept() {
        let budget = Budget::new(20, 3);
        assert_eq!(retries(&budget), 3);
        (0..4).for_each(|_| budget.pay_in());
        assert_eq!(retries(&budget), 0);
        (0..6).for_each(|_| budget.pay_in());
        assert_eq!(retries(&budget), 2);
        (0..1_000).for_each(|_| budget.pay_in());
        assert_eq!(retries(&budget), 3);
    }

    #[test]
    fn without_a_reserve_each_call_has_what_it_pays_for() {
        let budget = Budget::new(300, 0);
        assert_eq!(retries(&budget), 0);
        budget.pay_in();
        assert_eq!(retries(&budget), 3);
        let none = Budget::new(0, 0);
        none.pay_in();
        assert_eq!(retries(&none), 0);
    }
}
