//! A closure on a stack of its own: entered, suspended from any depth, resumed, ended, or abandoned.
//!
//! Owns the life of one coroutine. It leaves to others: which one runs next, and what it waits for.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use corosensei::CoroutineResult;

use crate::stack::Stack;

/// Nothing passes through a switch: what the two sides tell each other lies in the driver's cells.
type Raw = corosensei::Coroutine<(), (), (), Stack>;
type RawYielder = corosensei::Yielder<(), ()>;

/// How [`Coroutine::resume`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It suspended itself and can be resumed.
    Suspended,
    /// Its closure returned; the stack can be used again.
    Ended,
}

/// A closure on a stack. Dropped while it is suspended it is abandoned, as by [`Coroutine::abandon`].
pub struct Coroutine {
    raw: ManuallyDrop<Raw>,
}

impl Coroutine {
    /// Puts `body` on `stack`; the first [`Coroutine::resume`] enters it.
    ///
    /// A panic that leaves `body` aborts the process, so it catches what may panic in it.
    #[inline]
    pub fn start(stack: Stack, body: impl FnOnce(&Yielder) + 'static) -> Self {
        let raw = Raw::with_stack(stack, |yielder, ()| body(Yielder::lent(yielder)));
        Self { raw: ManuallyDrop::new(raw) }
    }

    /// Runs it until it suspends itself or ends.
    ///
    /// The exclusive borrow lasts until then: a driver that keeps coroutines in a table takes this one out first, or
    /// boxes it, if what runs on it may reach the table.
    ///
    /// # Panics
    /// It has ended already.
    #[inline]
    pub fn resume(&mut self) -> State {
        match self.raw.resume(()) {
            CoroutineResult::Yield(()) => State::Suspended,
            CoroutineResult::Return(()) => State::Ended,
        }
    }

    /// Whether its closure has returned.
    #[inline]
    pub fn has_ended(&self) -> bool {
        self.raw.done()
    }

    /// The stack of a coroutine that has ended, for the next one.
    ///
    /// # Panics
    /// It has not ended; what is on its stack may still be in use.
    #[inline]
    pub fn into_stack(self) -> Stack {
        assert!(self.has_ended(), "the stack of a coroutine that has not ended");
        let mut this = ManuallyDrop::new(self);
        // SAFETY: `this` is never used or dropped again, so the value is taken once.
        unsafe { ManuallyDrop::take(&mut this.raw) }.into_stack()
    }

    /// Forgets it wherever it is. A suspended one leaks its stack and all that the frames on it own, and its frames
    /// never run again; one that never ran or has ended leaks nothing.
    pub fn abandon(self) {
        drop(self);
    }

    /// Whether frames are alive on its stack.
    #[inline]
    fn is_suspended(&self) -> bool {
        self.raw.started() && !self.raw.done()
    }
}

impl Drop for Coroutine {
    fn drop(&mut self) {
        if self.is_suspended() {
            // `raw` is left as it is: neither unwound nor unmapped. Pointers into the stack that somebody else holds (a
            // list of waiters, an interpreter's frame) stay valid.
            return;
        }
        // SAFETY: `raw` is not used after this; `into_stack`, which takes it too, does not let this run.
        unsafe { ManuallyDrop::drop(&mut self.raw) };
    }
}

impl fmt::Debug for Coroutine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.raw.started(), self.raw.done()) {
            (false, _) => "new",
            (true, false) => "suspended",
            (true, true) => "ended",
        };
        formatter.debug_tuple("Coroutine").field(&state).finish()
    }
}

/// The coroutine's end of the switch, lent to its closure.
#[repr(transparent)]
pub struct Yielder(RawYielder);

impl Yielder {
    #[inline]
    fn lent(raw: &RawYielder) -> &Self {
        // SAFETY: a transparent wrapper has the layout of what it wraps, and the borrow is as long as before.
        unsafe { &*std::ptr::from_ref(raw).cast::<Self>() }
    }

    /// Goes back to whoever resumed this coroutine; returns when it is resumed again.
    ///
    /// It cannot be called from elsewhere than this coroutine: the borrow does not leave the closure.
    #[inline]
    pub fn suspend(&self) {
        self.0.suspend(());
    }

    /// The same for code that is called by the closure but does not get the borrow (a C callback, an interpreter).
    #[inline]
    pub fn handle(&self) -> YielderHandle {
        YielderHandle(NonNull::from(&self.0))
    }
}

impl fmt::Debug for Yielder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Yielder").finish_non_exhaustive()
    }
}

/// A [`Yielder`] without its borrow: an address on the coroutine's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct YielderHandle(NonNull<RawYielder>);

impl YielderHandle {
    /// Goes back to whoever resumed the coroutine of this handle; returns when it is resumed again.
    ///
    /// # Safety
    /// The caller runs on that very coroutine: it was resumed, has neither ended nor suspended since, and no other
    /// coroutine that it resumed is running. A driver upholds this by keeping the running core's handle in one cell,
    /// set around each resume.
    #[inline]
    pub unsafe fn suspend(self) {
        // SAFETY: the yielder lies at the top of the running coroutine's stack, above every frame that can call this;
        // the caller warrants that it is the running one's.
        let yielder = unsafe { self.0.as_ref() };
        yielder.suspend(());
    }
}
