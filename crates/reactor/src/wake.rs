//! Waking the reactor from another thread.

use std::sync::Arc;

use greenloom_sys::eventfd::EventFd;

/// A handle that makes the reactor's descriptor readable; may be cloned and sent anywhere.
#[derive(Clone, Debug)]
pub struct Wake(pub(crate) Arc<EventFd>);

impl Wake {
    /// The reactor's next poll returns at once.
    pub fn notify(&self) {
        self.0.notify();
    }
}
