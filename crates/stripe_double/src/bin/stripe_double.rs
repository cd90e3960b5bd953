//! The double as a process of its own, to try a storefront against: `stripe_double [WEBHOOK_URL SECRET]`.
//! Prints its address, the key it takes and a card for each behaviour, and runs until it is stopped.

use stripe_double::{Behaviour, Endpoint, Options, Plan, SECRET_KEY, StripeDouble};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = match (arguments.next(), arguments.next()) {
        (Some(url), Some(secret)) => Some(Endpoint { url, secret, plan: Plan::default() }),
        (None, _) => None,
        (Some(_), None) => {
            return Err(std::io::Error::other("name the webhook's URL and its secret, or neither"));
        }
    };
    let double = StripeDouble::start(Options { endpoint, ..Options::default() })?;
    println!("TOLLGATE_STRIPE_API={}", double.base());
    println!("secret key     {SECRET_KEY}");
    for (name, behaviour) in [
        ("succeeds", Behaviour::Succeeds),
        ("declines", Behaviour::Declines("insufficient_funds".to_owned())),
        ("needs the customer", Behaviour::NeedsCustomer),
        ("stays processing", Behaviour::Processes),
    ] {
        println!("{}  {name}", double.card(&name.replace(' ', "-"), behaviour));
    }
    std::future::pending::<()>().await;
    Ok(())
}
