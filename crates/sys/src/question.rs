//! Asking a process what it does: by posix signals that it answers itself, and by what the kernel tells of it.
//!
//! Who asks when, and who answers how, is decided elsewhere.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::process::Signal;

use crate::process::Pid;

/// Real-time signals of the server's own. From the upper end, where few others look for one: C libraries take theirs from
/// the lower end, and debuggers the very last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Print the stacks of the requests in flight: needs the interpreter's attention.
    Stacks,
    /// Print what stands on the thread's stack, from within the handler: works in the middle of a C call, too.
    Dump,
    /// Say which code keeps the loop from its work. A process asks itself.
    Blocker,
}

impl Question {
    /// The posix signal's number.
    pub fn number(self) -> i32 {
        match self {
            Self::Stacks => libc::SIGRTMAX() - 7,
            Self::Dump => libc::SIGRTMAX() - 6,
            Self::Blocker => libc::SIGRTMAX() - 5,
        }
    }

    fn signal(self) -> Signal {
        // SAFETY: between `SIGRTMIN` and `SIGRTMAX` as the C library has them, so a valid signal, and none of its own.
        unsafe { Signal::from_raw_unchecked(self.number()) }
    }
}

/// From now on no question reaches the calling thread: for a process that is about to end, whose handlers go before it does. A
/// question without a handler would end it, with another status than its own.
pub fn refuse() -> io::Result<()> {
    // SAFETY: `sigset_t` is plain data, filled by the next call.
    let mut questions = unsafe { std::mem::zeroed::<libc::sigset_t>() };
    // SAFETY: a valid pointer to a set of our own.
    unsafe { libc::sigemptyset(&raw mut questions) };
    for question in [Question::Stacks, Question::Dump, Question::Blocker] {
        // SAFETY: as above, and a valid number.
        unsafe { libc::sigaddset(&raw mut questions, question.number()) };
    }
    // SAFETY: a valid set, and no old one asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const questions, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Asks the process behind `pidfd`.
pub fn ask_by_pidfd(pidfd: BorrowedFd<'_>, question: Question) -> io::Result<()> {
    Ok(rustix::process::pidfd_send_signal(pidfd, question.signal())?)
}

/// Asks `pid`: for one's own children that were not reaped yet, whose number nobody else can have.
pub fn ask(pid: Pid, question: Question) -> io::Result<()> {
    let pid = pid.rustix().ok_or(Errno::SRCH)?;
    Ok(rustix::process::kill_process(pid, question.signal())?)
}

/// A thread of this process.
#[derive(Clone, Copy, Debug)]
pub struct Thread(rustix::process::Pid);

impl Thread {
    /// The one that calls.
    pub fn this() -> Self {
        Self(rustix::thread::gettid())
    }

    /// Whether it has or wants a CPU, instead of waiting in the kernel; a signal to such a one interrupts no system call.
    pub fn computes(self) -> bool {
        let path = format!("/proc/self/task/{}/stat", self.0);
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        // The name, in brackets, may be anything.
        stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('R'))
    }

    /// Asks this thread of the process.
    pub fn ask(self, question: Question) -> io::Result<()> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        // SAFETY: numbers of this process, of a thread of it, and of a signal.
        let sent =
            unsafe { libc::syscall(libc::SYS_tgkill, pid, self.0.as_raw_nonzero().get(), question.number()) };
        if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Whether the process has a handler for the question: without one the signal would end it.
pub fn is_understood(pid: Pid, question: Question) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = field(&status, "SigCgt:").and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    caught >> (question.number() - 1) & 1 == 1
}

/// What the kernel says of a process at the moment (proc(5)); `None`: it does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelView {
    /// Its state: the letter and the word, as `S (sleeping)`.
    pub state: Option<String>,
    /// Its system call: the number and the arguments, or `running`.
    pub syscall: Option<String>,
    /// The function of the kernel in which it sleeps.
    pub wchan: Option<String>,
}

/// Asks the kernel. Never blocks for the process.
pub fn kernel_view(pid: Pid) -> KernelView {
    let read = |what: &str| std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let said = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    KernelView {
        state: field(&read("status"), "State:").and_then(said),
        syscall: said(&read("syscall")),
        // 0: it does not sleep.
        wchan: said(&read("wchan")).filter(|name| name != "0"),
    }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_refuses_survives_every_question() {
        std::thread::spawn(|| {
            refuse().unwrap();
            let thread = Thread::this();
            for question in [Question::Stacks, Question::Dump, Question::Blocker] {
                thread.ask(question).unwrap();
            }
        })
        .join()
        .unwrap();
    }
    use std::process::{Child, Command, Stdio};

    /// A process that waits for the end of its input, started; it says when it is there.
    fn shell(prepare: &str) -> (Child, Pid) {
        let mut child = Command::new("/bin/bash")
            .args(["-c", &format!("{prepare} echo; read")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut byte = [0];
        io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
        let pid = Pid::new(i32::try_from(child.id()).unwrap()).unwrap();
        (child, pid)
    }

    #[test]
    fn only_who_has_a_handler_understands() {
        let (mut without, pid) = shell("");
        assert!(!is_understood(pid, Question::Stacks));
        without.kill().unwrap();
        without.wait().unwrap();
        assert!(!is_understood(pid, Question::Stacks), "nor does one that is gone");

        let number = Question::Stacks.number();
        let (mut with, pid) = shell(&format!("trap 'exit 9' {number};"));
        assert!(is_understood(pid, Question::Stacks) && !is_understood(pid, Question::Dump));
        ask(pid, Question::Stacks).unwrap();
        // The shell runs its trap once its read was interrupted, or has ended.
        drop(with.stdin.take());
        assert_eq!(with.wait().unwrap().code(), Some(9));
    }

    #[test]
    fn a_thread_computes_or_waits() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || {
            sender.send(Thread::this()).unwrap();
            std::thread::park();
        });
        let thread = receiver.recv().unwrap();
        assert!(Thread::this().computes());
        while thread.computes() {
            std::thread::yield_now();
        }
        waiting.thread().unpark();
        waiting.join().unwrap();
        assert!(!thread.computes(), "one that is gone does not");
    }

    #[test]
    fn the_kernel_tells_of_others() {
        let (mut child, pid) = shell("");
        assert!(kernel_view(pid).state.is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(kernel_view(pid), KernelView::default());
    }
}
