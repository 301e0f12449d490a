//! Memory shared between processes: an unnamed file (`memfd_create(2)`) seen as an array of 64-bit atomics.
//!
//! Owns the mapping. What each word means belongs to its users.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

/// Words shared by every process that maps the same file; zero at first.
#[derive(Debug)]
pub struct SharedMemory {
    file: OwnedFd,
    start: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping is only reached through `&[AtomicU64]`, which any thread may use.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// A new file of `words` words. `name` shows in /proc/PID/maps.
    pub fn create(name: &str, words: usize) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create(name, flags)?;
        rustix::fs::ftruncate(&file, u64::try_from(words * size_of::<u64>()).unwrap_or(u64::MAX))?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::map(file)
    }

    /// Maps a file that [`SharedMemory::create`] made in another process.
    ///
    /// # Errors
    /// `InvalidInput` when the file could still be made shorter (reading behind its end would kill the process).
    pub fn map(file: OwnedFd) -> io::Result<Self> {
        if !rustix::fs::fcntl_get_seals(&file)?.contains(SealFlags::SHRINK) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the shared memory is not sealed"));
        }
        let bytes = usize::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
        let words = bytes / size_of::<u64>();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address the kernel chooses disturbs no other memory.
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes, protection, MapFlags::SHARED, &file, 0) }?;
        let start = NonNull::new(start.cast::<AtomicU64>()).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Self { file, start, words })
    }

    /// All words.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page aligned, `words` long (from fstat, and sealed against shrinking), lives as long
        // as `self`, and every process touches it through atomics only.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl AsFd for SharedMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        let bytes = self.words * size_of::<u64>();
        // SAFETY: this is the mapping that `map` made, and no borrow of it outlives `self`. A failure leaves it mapped,
        // which harms nobody.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn two_mappings_of_one_file_are_the_same_words() {
        let ours = SharedMemory::create("test", 40).unwrap();
        let theirs = SharedMemory::map(ours.as_fd().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!((ours.words().len(), theirs.words().len()), (40, 40));
        ours.words()[39].store(7, Ordering::Relaxed);
        assert_eq!(theirs.words()[39].load(Ordering::Relaxed), 7);
    }

    #[test]
    fn a_file_that_can_shrink_is_refused() {
        let file = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert_eq!(SharedMemory::map(file).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
