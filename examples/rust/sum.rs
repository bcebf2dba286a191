//! Every process adds to shared variables, by plain stores and by atomic operations, and the first says what they are.
//!
//!   rustc --edition 2021 -O sum.rs && dsm run -n 4 -- ./sum [ROUNDS]
use std::ffi::{CStr, CString};
use std::mem::size_of;
use std::os::raw::{c_char, c_int, c_void};
use std::ptr::{addr_of, addr_of_mut};
use std::sync::atomic::{AtomicI64, Ordering};

/// The part of <dsm/dsm.h> that is used here.
mod ffi {
    use super::{c_char, c_int, c_void};

    /// A session: C alone knows what is inside.
    #[repr(C)]
    pub struct Session {
        _private: [u8; 0],
    }

    #[link(name = "dsm")]
    extern "C" {
        pub fn dsm_open(config: *const c_void, session: *mut *mut Session) -> c_int;
        pub fn dsm_close(session: *mut Session) -> c_int;
        pub fn dsm_rank(session: *const Session) -> c_int;
        pub fn dsm_processes(session: *const Session) -> c_int;
        pub fn dsm_barrier_wait(session: *mut Session) -> c_int;
        pub fn dsm_lock(session: *mut Session, name: *const c_char) -> c_int;
        pub fn dsm_unlock(session: *mut Session, name: *const c_char) -> c_int;
        pub fn dsm_unlock_unmended(session: *mut Session, name: *const c_char) -> c_int;
        pub fn dsm_named(session: *mut Session, name: *const c_char, size: usize, block: *mut *mut c_void) -> c_int;
        pub fn dsm_last_error() -> *const c_char;
    }
}

/// The lock is this process's, but its last owner died while it had it.
const OWNER_DIED: c_int = 19;

/// Why a call failed, in libdsm's words. They are kept per thread: asked at once, on the thread of the call.
fn check(status: c_int) -> Result<(), String> {
    if status == 0 {
        return Ok(());
    }
    Err(unsafe { CStr::from_ptr(ffi::dsm_last_error()) }.to_string_lossy().into_owned())
}

fn c_string(name: &str) -> Result<CString, String> {
    CString::new(name).map_err(|_| format!("{name:?} has a zero character"))
}

/// A process's place in a session; it leaves at the end of its scope.
struct Session(*mut ffi::Session);

// Every call may be made from any thread.
unsafe impl Send for Session {}
unsafe impl Sync for Session {}

impl Session {
    /// Joins the session that the environment names, which `dsm run` sets.
    fn open() -> Result<Self, String> {
        let mut session = std::ptr::null_mut();
        check(unsafe { ffi::dsm_open(std::ptr::null(), &mut session) })?;
        Ok(Self(session))
    }

    fn rank(&self) -> usize {
        unsafe { ffi::dsm_rank(self.0) as usize }
    }

    fn processes(&self) -> usize {
        unsafe { ffi::dsm_processes(self.0) as usize }
    }

    fn barrier(&self) -> Result<(), String> {
        check(unsafe { ffi::dsm_barrier_wait(self.0) })
    }

    /// Runs `scope` while this process has the lock. If the last owner died while it had it, what the lock guards may be
    /// half done: that is an error here, and the next owner is told, too. A program that can put things in order does so
    /// instead, and unlocks by `dsm_unlock()`.
    fn locked(&self, name: &str, scope: impl FnOnce()) -> Result<(), String> {
        let name = c_string(name)?;
        let status = unsafe { ffi::dsm_lock(self.0, name.as_ptr()) };
        let outcome = check(status);
        if status == OWNER_DIED {
            check(unsafe { ffi::dsm_unlock_unmended(self.0, name.as_ptr()) })?;
        }
        outcome?;
        scope();
        check(unsafe { ffi::dsm_unlock(self.0, name.as_ptr()) })
    }

    /// The block of that name, zeroed when it is made: the same in every process, and a `T` in all of them.
    ///
    /// A pointer, not a reference: other processes change what it leads to. Read and write it with `read_volatile()` and
    /// `write_volatile()`, or make it of atomics, which may be shared by reference.
    ///
    /// # Safety
    /// Zeroes must be a `T`, and it must mean the same in every process: `#[repr(C)]`, no references, no `Box`.
    unsafe fn named<T>(&self, name: &str) -> Result<*mut T, String> {
        let name = c_string(name)?;
        let mut block = std::ptr::null_mut();
        check(unsafe { ffi::dsm_named(self.0, name.as_ptr(), size_of::<T>(), &mut block) })?;
        Ok(block.cast())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        unsafe { ffi::dsm_close(self.0) };
    }
}

const PROCESSES_MAX: usize = 64;

/// What the processes share.
#[repr(C)]
struct Shared {
    /// Changed by all at any time.
    total: AtomicI64,
    /// Changed by whoever has the lock.
    sum: f64,
    /// Each process has its own.
    slots: [f64; PROCESSES_MAX],
}

fn run(rounds: usize) -> Result<(), String> {
    let session = Session::open()?;
    let (rank, processes) = (session.rank(), session.processes());
    if processes > PROCESSES_MAX {
        return Err(format!("{processes} processes; there is room for {PROCESSES_MAX}"));
    }
    let shared = unsafe { session.named::<Shared>("sum") }?;
    // The atomic part alone may be a reference.
    let total = unsafe { &(*shared).total };
    let slot = unsafe { addr_of_mut!((*shared).slots[rank]) };
    let sum = unsafe { addr_of_mut!((*shared).sum) };

    for _ in 0..rounds {
        total.fetch_add(1, Ordering::SeqCst);
        unsafe { slot.write_volatile(slot.read_volatile() + 1.0) }; // a plain store, shared by all
    }
    session.locked("sum.lock", || unsafe { sum.write_volatile(sum.read_volatile() + rounds as f64) })?;
    session.barrier()?;
    if rank == 0 {
        let slots: f64 = (0..processes).map(|i| unsafe { addr_of!((*shared).slots[i]).read_volatile() }).sum();
        let (total, sum) = (total.load(Ordering::SeqCst), unsafe { sum.read_volatile() });
        println!("{processes} processes: total {total}, sum {sum}, slots {slots}");
    }
    session.barrier()
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let rounds = match words.as_slice() {
        [] => Some(1000),
        [text] => text.parse().ok().filter(|&rounds| (1..=1_000_000_000).contains(&rounds)),
        _ => None,
    };
    let Some(rounds) = rounds else {
        eprintln!("sum: one argument, the number of rounds from 1 to 1000000000");
        std::process::exit(2);
    };
    if let Err(reason) = run(rounds) {
        eprintln!("sum: {reason}");
        std::process::exit(1);
    }
}
