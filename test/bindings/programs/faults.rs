//! What Rust's runtime and libdsm both have to do with signals: stores of many threads, and a stack that overflows.
//! Argument "overflow": ends by that, after stores.
use std::hint::black_box;
use std::os::raw::{c_int, c_void};
use std::ptr::null;
use std::thread;

#[link(name = "dsm")]
extern "C" {
    fn dsm_open(config: *const c_void, session: *mut *mut c_void) -> c_int;
    fn dsm_close(session: *mut c_void) -> c_int;
    fn dsm_address(session: *const c_void) -> *mut u8;
    fn dsm_is_direct(session: *const c_void) -> c_int;
}

const THREADS: usize = 4;
const PART: usize = 64 << 10;

/// Stores of every kind that the compiler and the C library make, to one part of the map.
unsafe fn store(part: *mut u8, seed: u8) {
    let bytes = std::slice::from_raw_parts_mut(part, PART);
    bytes.fill(seed);
    let text: Vec<u8> = (0..5000).map(|i| (i as u8).wrapping_mul(seed)).collect();
    bytes[1001..6001].copy_from_slice(&text);
    let floats = part.add(8192) as *mut f64;
    for i in 0..500 {
        floats.add(i).write_volatile(black_box(i as f64) / 4.0);
    }
    let wide = part.add(16384) as *mut [u64; 8]; // vector registers, where there are any
    for i in 0..50u64 {
        wide.add(i as usize).write_volatile(black_box([i; 8]));
    }
}

unsafe fn check(part: *const u8, seed: u8) {
    let bytes = std::slice::from_raw_parts(part, PART);
    assert!(bytes[..1001].iter().all(|&byte| byte == seed));
    assert!((0..5000).all(|i| bytes[1001 + i] == (i as u8).wrapping_mul(seed)));
    assert!((0..500).all(|i| *(part.add(8192) as *const f64).add(i) == i as f64 / 4.0));
    assert!((0..50u64).all(|i| *(part.add(16384) as *const [u64; 8]).add(i as usize) == [i; 8]));
    assert!(bytes[20000..].iter().all(|&byte| byte == seed));
}

fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 100]);
    if black_box(depth) == u64::MAX {
        return 0;
    }
    overflow(depth + 1) + frame[7]
}

fn main() {
    unsafe {
        let mut session = std::ptr::null_mut();
        assert_eq!(dsm_open(null(), &mut session), 0);
        assert_eq!(dsm_is_direct(session), 0);
        let map = dsm_address(session) as usize;
        let threads: Vec<_> = (0..THREADS)
            .map(|i| thread::spawn(move || store((map + i * PART) as *mut u8, i as u8 + 1)))
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        for i in 0..THREADS {
            check((map + i * PART) as *const u8, i as u8 + 1);
        }
        if std::env::args().nth(1).as_deref() == Some("overflow") {
            thread::Builder::new().name("deep".into()).spawn(|| overflow(0)).unwrap().join().unwrap();
        }
        assert_eq!(dsm_close(session), 0);
    }
    println!("ok");
}
