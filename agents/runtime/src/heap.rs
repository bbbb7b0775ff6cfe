//! Keeps an agent's heap small: glibc gives each thread a heap of its own and keeps what was freed.
//!
//! An agent allocates at its start, when its schema changes and when it connects; between two frames
//! nearly nothing. So one heap serves all its threads, and free pages are given back now and then.

/// One heap for all threads; before the first is started.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "glibc is told in no other way")]
pub(crate) fn share() {
    // SAFETY: `mallopt` takes two integers and only sets a parameter of the allocator.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Gives free pages back.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "glibc is told in no other way")]
pub(crate) fn trim() {
    // SAFETY: `malloc_trim` may be called at any time by any thread; it touches free memory only.
    unsafe { libc::malloc_trim(0) };
}

/// Other libraries look after themselves.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn share() {}

/// Other libraries look after themselves.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn trim() {}
