//! Stripe, played: the part of its API that Tollgate calls, and its webhooks, for tests. It listens on
//! loopback, keeps everything in memory, and what it makes up (ids, faults, the order of webhooks) comes
//! from a seed. It was written from Stripe's public documentation, and takes no money from anybody.
//!
//! | part | here |
//! |---|---|
//! | customers, payment methods with fingerprints, setup intents | made, attached, detached, deleted |
//! | payment intents | created and confirmed, `requires_action`, processing, canceled, listed |
//! | checkout sessions in setup mode | with a page that a test, or a person, can complete |
//! | refunds, disputes | added up and checked; opened, won and lost by a control call |
//! | `Idempotency-Key` | the first status and body again, errors too; 400 for other parameters; 409 in flight |
//! | events | listed, and sent as signed webhooks with retries |
//! | faults | on order, a call at a time, or at random from the seed |
//!
//! A card behaves as it was [made](StripeDouble::card) to: see [`Behaviour`].

mod faults;
mod http;
mod idempotency;
mod objects;
mod page;
mod params;
mod state;
mod webhooks;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use actix_web::dev::ServerHandle;
use serde_json::Value;

pub use faults::{Call, Fault};
pub use objects::Behaviour;
pub use webhooks::{Endpoint, Plan, signature};

use state::State;

/// How a double is set up.
#[derive(Debug, Clone)]
pub struct Options {
    pub seed: u64,
    /// The secret keys that it takes.
    pub secret_keys: Vec<String>,
    /// The account that its events name; none, as for an account that is nobody's connected one.
    pub account: Option<String>,
    pub is_live: bool,
    /// Where its webhooks go. Nowhere, and they are only listed, unless set.
    pub endpoint: Option<Endpoint>,
    pub listen: SocketAddr,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            seed: 1,
            secret_keys: vec![SECRET_KEY.to_owned()],
            account: None,
            is_live: false,
            endpoint: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }
}

/// The key that a double takes unless told otherwise. No key of anybody's.
pub const SECRET_KEY: &str = "sk_test_double0000000000";

/// A running double, or one account of it; it stops when the last of them is dropped.
pub struct StripeDouble {
    shared: Shared,
    serving: Arc<Serving>,
}

struct Serving {
    address: SocketAddr,
    accounts: Accounts,
    server: ServerHandle,
}

pub(crate) type Shared = Arc<Mutex<State>>;
/// All accounts of a double, each with its own secret keys.
pub(crate) type Accounts = Arc<Mutex<Vec<Shared>>>;

pub(crate) fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked with the lock has failed already.
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl StripeDouble {
    /// Starts on the address of the options; needs a tokio runtime.
    pub fn start(options: Options) -> std::io::Result<StripeDouble> {
        let listen = options.listen;
        let shared: Shared = Arc::new(Mutex::new(State::new(options)));
        let accounts: Accounts = Arc::new(Mutex::new(vec![shared.clone()]));
        let (address, server) = http::start(listen, accounts.clone())?;
        locked(&shared).base = format!("http://{address}");
        Ok(StripeDouble { shared, serving: Arc::new(Serving { address, accounts, server }) })
    }

    /// Another account at the same address, which the secret keys of these options choose: it knows nothing of what the
    /// others know. Where to listen is not looked at.
    pub fn another_account(&self, options: Options) -> StripeDouble {
        let shared: Shared = Arc::new(Mutex::new(State::new(options)));
        locked(&shared).base = self.base();
        locked(&self.serving.accounts).push(shared.clone());
        StripeDouble { shared, serving: self.serving.clone() }
    }

    /// The URL to use instead of `https://api.stripe.com`.
    pub fn base(&self) -> String {
        format!("http://{}", self.serving.address)
    }

    /// Makes a payment method, saved for nobody. Those with one `card` have one fingerprint.
    pub fn card(&self, card: &str, behaviour: Behaviour) -> String {
        locked(&self.shared).make_method(card, behaviour)
    }

    /// Sends webhooks there from now on.
    pub fn send_to(&self, endpoint: Endpoint) {
        locked(&self.shared).endpoint = Some(endpoint);
    }

    /// Orders a fault for the next call of this kind that none is ordered for yet.
    pub fn fault(&self, call: Call, fault: Fault) {
        locked(&self.shared).faults.order(call, fault);
    }

    /// Forgets the faults that were ordered and that no call has met yet.
    pub fn forget_faults(&self) {
        locked(&self.shared).faults.forget();
    }

    /// How many ordered faults no call has met yet.
    pub fn faults_waiting(&self) -> usize {
        locked(&self.shared).faults.waiting()
    }

    /// From now on about `percent` of all changing calls go wrong in some way, by the seed.
    pub fn chaos(&self, percent: u8) {
        locked(&self.shared).faults.percent = percent;
    }

    /// The customer does what the bank asks for, or fails to.
    pub fn authenticate(&self, intent: &str, succeeds: bool) {
        let mut state = locked(&self.shared);
        state.authenticate(intent, succeeds);
        self.send(&mut state);
    }

    /// Decides a payment that is processing.
    pub fn settle(&self, intent: &str, succeeds: bool) {
        let mut state = locked(&self.shared);
        state.settle(intent, succeeds);
        self.send(&mut state);
    }

    /// The seller cancels a payment on Stripe's own site; nothing happens where that is not possible.
    pub fn cancel(&self, intent: &str) {
        let mut state = locked(&self.shared);
        state.cancel_by_hand(intent);
        self.send(&mut state);
    }

    /// A customer's default method is set there.
    pub fn set_default(&self, customer: &str, method: &str) {
        let mut state = locked(&self.shared);
        state.set_default(customer, method);
        self.send(&mut state);
    }

    /// Completes a checkout page with a card.
    pub fn complete_checkout(&self, session: &str, method: &str) {
        let mut state = locked(&self.shared);
        state.complete_checkout(session, method);
        self.send(&mut state);
    }

    /// Completes a setup intent, as the storefront's form does.
    pub fn complete_setup(&self, setup_intent: &str, method: &str) {
        let mut state = locked(&self.shared);
        state.complete_setup(setup_intent, method);
        self.send(&mut state);
    }

    /// The seller gives `amount` of a payment back on Stripe's own site.
    pub fn refund(&self, intent: &str, amount: i64) {
        let mut state = locked(&self.shared);
        state.refund_by_hand(intent, amount);
        self.send(&mut state);
    }

    /// The bank sends the last refund of a payment back: it has failed after all.
    pub fn fail_refund(&self, intent: &str) {
        let mut state = locked(&self.shared);
        state.fail_refund(intent);
        self.send(&mut state);
    }

    /// The customer goes to the bank. Returns the dispute's id.
    pub fn open_dispute(&self, intent: &str) -> String {
        let mut state = locked(&self.shared);
        let dispute = state.open_dispute(intent);
        self.send(&mut state);
        dispute
    }

    /// The bank decides, for the seller or against.
    pub fn close_dispute(&self, dispute: &str, is_won: bool) {
        let mut state = locked(&self.shared);
        state.close_dispute(dispute, is_won);
        self.send(&mut state);
    }

    /// A customer is deleted on Stripe's own site.
    pub fn delete_customer(&self, customer: &str) {
        let mut state = locked(&self.shared);
        state.delete_customer(customer);
        self.send(&mut state);
    }

    /// A method is detached there.
    pub fn detach(&self, method: &str) {
        let mut state = locked(&self.shared);
        state.detach(method);
        self.send(&mut state);
    }

    /// All events so far, the oldest first.
    pub fn events(&self) -> Vec<Value> {
        locked(&self.shared).events.clone()
    }

    /// All payment intents, the oldest first.
    pub fn intents(&self) -> Vec<Value> {
        locked(&self.shared).intents()
    }

    /// All customers, the oldest first.
    pub fn customers(&self) -> Vec<Value> {
        locked(&self.shared).customers()
    }

    /// How many calls of this kind have come in, those that went wrong included.
    pub fn calls(&self, call: Call) -> usize {
        locked(&self.shared).calls.iter().filter(|came| **came == call).count()
    }

    /// What was taken and not given back, in minor units, over all intents with this metadata.
    pub fn kept_of(&self, name: &str, value: &str) -> i64 {
        locked(&self.shared).kept_of(name, value)
    }

    fn send(&self, state: &mut State) {
        webhooks::send_new(state, &self.shared);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Polled once, it tells the server; nobody has to wait for the end.
        let stopping = self.server.stop(false);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(stopping);
        }
    }
}
