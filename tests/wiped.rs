//! A token's text is wiped from memory when its last holder is dropped. The test reads its own memory,
//! including freed parts and stacks, as a debugger or a core dump would.
//!
//! The test itself does not store the text: it computes the text where it needs it, and searches for it
//! byte by byte.

#![cfg(all(target_os = "linux", feature = "redis", feature = "test-util"))]

use std::fs::File;
use std::io::{BufRead, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use test_support::RedisServer;
use tower_api_token::{
    Answer, ApiTokenCache, ApiTokenCacheBuilder, BearerToken, Lookup, RedisStore, TokenRecord,
};
use zeroize::Zeroizing;

/// A text of 48 characters that occurs nowhere else.
#[derive(Clone, Copy)]
struct Hidden(u64);

const LENGTH: usize = 48;

/// The part of the text to search for. It is in the middle, because the allocator overwrites the beginning
/// of a freed block.
const PIECE: std::ops::Range<usize> = 20..36;

impl Hidden {
    fn byte(self, place: usize) -> u8 {
        // A thousand apart, so that no text is a shifted copy of another.
        let mut word = self.0 * 1000 + place as u64;
        for _ in 0..3 {
            word = (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        }
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"[(word >> 40) as usize % 32]
    }

    /// Returns the text, which is wiped when it is dropped. It never grows, so growth leaves no copy behind.
    fn text(self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(LENGTH));
        text.extend((0..LENGTH).map(|place| char::from(self.byte(place))));
        text
    }

    fn is_in(self, mut bytes: &[u8]) -> bool {
        // The standard library's search for a byte is optimized even in debug builds.
        while bytes.skip_until(self.byte(PIECE.start)).unwrap() > 0 {
            let piece = PIECE.skip(1);
            if bytes.len() >= piece.len()
                && piece
                    .zip(bytes)
                    .all(|(place, byte)| self.byte(place) == *byte)
            {
                return true;
            }
        }
        false
    }

    /// Returns whether the text is anywhere in this process's memory.
    fn is_there(self) -> bool {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux lists its maps");
        let mut memory = File::open("/proc/self/mem").expect("our own memory");
        let mut chunk = vec![0; 1 << 20];
        let mut there = false;
        for line in maps.lines() {
            let mut words = line.split(' ');
            let (range, rights) = (words.next().unwrap(), words.next().unwrap());
            if !rights.starts_with("rw") {
                continue;
            }
            let (start, end) = range.split_once('-').unwrap();
            let number = |text| u64::from_str_radix(text, 16).unwrap();
            there |= self.is_within(&mut memory, number(start)..number(end), &mut chunk);
        }
        chunk.fill(0);
        there
    }

    fn is_within(self, memory: &mut File, range: std::ops::Range<u64>, chunk: &mut [u8]) -> bool {
        let mut at = range.start;
        while at < range.end {
            let length = usize::try_from(range.end - at).unwrap().min(chunk.len());
            memory.seek(SeekFrom::Start(at)).unwrap();
            // The chunk is in this memory too, and must not contain an earlier read.
            chunk.fill(0);
            // The range may have been unmapped meanwhile.
            let Ok(read) = memory.read(&mut chunk[..length]) else {
                return false;
            };
            if self.is_in(&chunk[..read]) {
                return true;
            }
            if read < PIECE.len() || at + read as u64 == range.end {
                return false;
            }
            // Overlap the chunks, so that a piece across two is found.
            at += (read - PIECE.len() + 1) as u64;
        }
        false
    }
}

/// Runs one test at a time, because one would find the text that another reads.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the builder of a cache whose loader knows only this text.
fn builder(hidden: Hidden) -> ApiTokenCacheBuilder<()> {
    ApiTokenCache::builder(move |lookup: Lookup| async move {
        let known = lookup.token().expose() == hidden.text().as_str();
        Ok::<_, std::io::Error>(known.then(|| TokenRecord::new("tok-1").token_type("app")))
    })
}

/// Runs misses, hits and a revocation, for a known and for an unknown text.
async fn use_all(cache: &ApiTokenCache, hidden: Hidden, unknown: Hidden) {
    for _ in 0..3 {
        let answer = cache
            .authenticate_typed(&hidden.text(), "app")
            .await
            .unwrap();
        assert!(matches!(answer, Answer::Valid(_)));
        let answer = cache
            .authenticate_typed(&unknown.text(), "app")
            .await
            .unwrap();
        assert!(matches!(answer, Answer::Invalid(_)));
    }
    assert!(hidden.is_there(), "while it is cached");
    cache.invalidate(&hidden.text()).await.unwrap();
    let answer = cache
        .authenticate_typed(&hidden.text(), "app")
        .await
        .unwrap();
    assert!(answer.valid().is_some());
    cache.peek(&unknown.text()).await.unwrap();
}

#[test]
fn a_token_is_wiped_with_its_last_clone() {
    let _alone = alone();
    let hidden = Hidden(1);
    let token = BearerToken::new(hidden.text().as_str());
    let clone = token.clone();
    clone.digest();
    drop(token);
    assert!(hidden.is_there());
    drop(clone);
    assert!(!hidden.is_there());
}

/// A future that is moved into a box would take it along.
#[test]
fn a_digest_leaves_no_text_on_the_stack() {
    let _alone = alone();
    let hidden = Hidden(5);
    let [digested, searched] = [AtomicBool::new(false), AtomicBool::new(false)];
    // It calls nothing else that would use its stack.
    let wait_for = |flag: &AtomicBool| {
        while !flag.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let token = BearerToken::new(hidden.text().as_str());
            token.digest();
            drop(token);
            digested.store(true, Ordering::Relaxed);
            wait_for(&searched);
        });
        wait_for(&digested);
        let is_there = hidden.is_there();
        searched.store(true, Ordering::Relaxed);
        assert!(!is_there);
    });
}

#[test]
fn a_text_that_is_not_wiped_is_found() {
    let _alone = alone();
    let hidden = Hidden(2);
    let plain = hidden.text().to_string();
    drop(plain);
    assert!(hidden.is_there(), "freed, and still legible");
}

/// Runs the test to its end, including its background tasks.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(test);
}

#[test]
fn a_cache_in_memory_leaves_no_text_behind() {
    let _alone = alone();
    let (hidden, unknown) = (Hidden(3), Hidden(4));
    run(async { use_all(&builder(hidden).build().unwrap(), hidden, unknown).await });
    assert!(!hidden.is_there() && !unknown.is_there());
}

#[test]
fn a_cache_over_redis_leaves_no_text_behind() {
    let _alone = alone();
    let server = RedisServer::start();
    // What a future that is boxed takes along from the stack depends on the moment.
    for n in 0..10 {
        let (hidden, unknown) = (Hidden(10 + n), Hidden(100 + n));
        run(async {
            // Long enough for a busy machine.
            let patience = Duration::from_secs(5);
            let store = RedisStore::new(&server.url()).unwrap();
            let store = store.response_timeout(patience).connect_timeout(patience);
            let cache = builder(hidden).store(store).build().unwrap();
            use_all(&cache, hidden, unknown).await;
        });
        assert!(!hidden.is_there() && !unknown.is_there());
    }
}
