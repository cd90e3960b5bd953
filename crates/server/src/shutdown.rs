//! One signal to stop, for everything that runs.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Tells everything to stop. Dropped, it tells so too.
pub(crate) struct Stopper(watch::Sender<bool>);

pub(crate) type Stop = watch::Receiver<bool>;

impl Stopper {
    pub(crate) fn new() -> (Stopper, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Stopper(sender), receiver)
    }

    pub(crate) fn stop(&self) {
        // Nobody listens any more: then everything has stopped.
        let _ = self.0.send(true);
    }

    /// Waits for Ctrl-C or SIGTERM.
    pub(crate) async fn asked(&self) -> anyhow::Result<()> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    }
}
