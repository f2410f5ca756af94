//! Maps for the local level: hits on 100,000 entries by one thread and by two, and the resident memory of a
//! million entries. The crate uses `quick_cache`.
//!
//! `cargo bench --bench compare --all-features -- local_maps`; half a minute.

use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::table::{median, resident_bytes};

const ENTRIES: u64 = 100_000;
const SLICE: Duration = Duration::from_millis(200);
const ROUNDS: usize = 9;

/// Returns a key like those of the local level, which are uniformly distributed.
fn key(n: u64) -> u128 {
    u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

trait Map: Sync {
    fn put(&self, key: u128, value: Arc<[u8; 200]>);
    fn hit(&self, key: u128) -> bool;
}

impl Map for quick_cache::sync::Cache<u128, Arc<[u8; 200]>> {
    fn put(&self, key: u128, value: Arc<[u8; 200]>) {
        self.insert(key, value);
    }

    fn hit(&self, key: u128) -> bool {
        self.get(&key).is_some()
    }
}

impl Map for moka::sync::Cache<u128, Arc<[u8; 200]>> {
    fn put(&self, key: u128, value: Arc<[u8; 200]>) {
        self.insert(key, value);
    }

    fn hit(&self, key: u128) -> bool {
        self.get(&key).is_some()
    }
}

/// The map of a simple hand-written cache.
struct Locked(Mutex<std::collections::HashMap<u128, Arc<[u8; 200]>>>);

impl Map for Locked {
    fn put(&self, key: u128, value: Arc<[u8; 200]>) {
        self.0.lock().expect("no panic inside").insert(key, value);
    }

    fn hit(&self, key: u128) -> bool {
        self.0
            .lock()
            .expect("no panic inside")
            .get(&key)
            .cloned()
            .is_some()
    }
}

/// Returns the hits per second of all threads together.
fn hits(map: &dyn Map, threads: u64) -> f64 {
    let count = |seed: u64| {
        let (start, mut hits, mut n) = (Instant::now(), 0_u64, seed);
        while start.elapsed() < SLICE {
            for _ in 0..256 {
                n = (n * 25_214_903_917 + 11) % ENTRIES;
                hits += u64::from(black_box(map.hit(key(n))));
            }
        }
        hits as f64 / start.elapsed().as_secs_f64()
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|seed| scope.spawn(move || count(seed * 7919)))
            .collect();
        all.into_iter()
            .map(|one| one.join().expect("no panic"))
            .sum()
    })
}

type Make = fn(u64) -> Box<dyn Map>;

pub(crate) fn main() {
    let make: [(&str, Make); 3] = [
        ("quick_cache", |n| {
            Box::new(quick_cache::sync::Cache::new(n as usize))
        }),
        ("moka", |n| Box::new(moka::sync::Cache::new(n))),
        ("Mutex<HashMap>", |_| Box::new(Locked(Mutex::default()))),
    ];
    let maps: Vec<(&str, Box<dyn Map>)> = make
        .iter()
        .map(|(name, make)| {
            let map = make(2 * ENTRIES);
            (0..ENTRIES).for_each(|n| map.put(key(n), Arc::new([0; 200])));
            (*name, map)
        })
        .collect();
    let mut figures = vec![[const { Vec::new() }; 2]; maps.len()];
    // In turn, so that noise of the machine affects all alike.
    for _ in 0..ROUNDS {
        for ((_, map), figures) in maps.iter().zip(&mut figures) {
            figures[0].push(hits(&**map, 1));
            figures[1].push(hits(&**map, 2));
        }
    }
    println!(
        "{:16} {:>14} {:>14} {:>16}",
        "median of 9", "ns/hit, 1", "M hits/s, 2", "bytes an entry"
    );
    for ((name, make), [one, two]) in make.iter().zip(figures) {
        let (one, two) = (1e9 / median(one), median(two) / 1e6);
        let before = resident_bytes();
        let map = make(1_100_000);
        let value = Arc::new([0; 200]);
        (0..1_000_000).for_each(|n| map.put(key(n), Arc::clone(&value)));
        let bytes = (resident_bytes() - before) / 1e6;
        println!("{name:16} {one:>14.0} {two:>14.1} {bytes:>16.0}");
        drop(map);
    }
}
