//! The cost of the layer for a request that is answered from memory: nanoseconds and instructions of one
//! thread, and the throughput of two.
//!
//! Criterion and Divan measure one scene after the other. On a machine with other load, only measurements in
//! turn can be compared. `tests/allocations.rs` counts and asserts allocations.
//!
//! `cargo bench --bench hot --all-features -- hot_path` takes a minute, and longer with valgrind.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::common::hot;
use crate::common::hot::{
    Layered, Nothing, answer, audited, builder, checked, credential, layered, routed_request,
};
use crate::common::program;
use crate::common::table::{aside, collected, cpu_time, median, median_ratio, row, valgrind};
use http::HeaderValue;
use tower_api_token::ApiTokenCache;

const TOKENS: usize = 1_000;
const UNKNOWN: &str = "unknown-0123456789abcdef";

/// The number of requests in a batch, which are created outside of the measured time.
const BATCH: usize = 64;
const SLICE: Duration = Duration::from_millis(50);
const ROUNDS: usize = 21;

const SCENES: [&str; 8] = [
    "no layer",
    "local hit",
    "local hit, one hot token",
    "local hit, on_decision",
    "cached unknown token",
    "malformed token",
    "checksum fails",
    "no token",
];

/// A service and the credentials of its requests.
enum Scene {
    Bare(Vec<Option<HeaderValue>>),
    Layered(Box<Layered>, Vec<Option<HeaderValue>>),
}

impl Scene {
    fn new(name: &str, cache: &ApiTokenCache) -> Self {
        let one = |credential| vec![Some(credential)];
        let many = || (0..TOKENS).map(|n| Some(credential(&hot::token(n))));
        let layered = |credentials| Self::Layered(Box::new(layered(cache)), credentials);
        match name {
            "no layer" => Self::Bare(many().collect()),
            "local hit" => layered(many().collect()),
            "local hit, one hot token" => layered(one(credential(&hot::token(0)))),
            "local hit, on_decision" => Self::Layered(Box::new(audited(cache)), many().collect()),
            "cached unknown token" => layered(one(credential(UNKNOWN))),
            "malformed token" => layered(one(credential("what is this"))),
            "checksum fails" => Self::Layered(Box::new(checked(cache)), one(hot::mistyped())),
            "no token" => layered(vec![None]),
            other => panic!("no scene {other}"),
        }
    }

    /// Answers a batch of requests, from the nth credential on, and returns the time.
    fn batch(&mut self, nth: &mut usize) -> Duration {
        match self {
            Self::Bare(credentials) => run(&mut Nothing, credentials, nth),
            Self::Layered(service, credentials) => run(&mut **service, credentials, nth),
        }
    }
}

fn run<S>(service: &mut S, credentials: &[Option<HeaderValue>], nth: &mut usize) -> Duration
where
    S: tower::Service<http::Request<()>, Error = std::convert::Infallible>,
{
    let requests: [_; BATCH] = std::array::from_fn(|_| {
        // A stride that is coprime to the number of tokens.
        *nth = (*nth + 7_919) % credentials.len();
        routed_request(credentials[*nth].as_ref())
    });
    let start = Instant::now();
    for request in requests {
        black_box(answer(service, request));
    }
    start.elapsed()
}

/// Returns the nanoseconds per request of the median batch, because other load interrupts some batches.
fn nanos(scene: &mut Scene) -> f64 {
    let (start, mut nth, mut batches) = (Instant::now(), 0, Vec::new());
    while start.elapsed() < SLICE {
        batches.push(scene.batch(&mut nth).as_nanos() as f64);
    }
    median(batches) / BATCH as f64
}

/// Returns the requests per second, and per second of CPU time, of all threads together.
fn throughput(threads: usize, make: impl Fn(usize) -> Scene + Sync) -> (f64, f64) {
    let count = |thread: usize| {
        let mut scene = make(thread);
        let mut nth = thread;
        // All threads run before any is measured.
        let warm = Instant::now();
        while warm.elapsed() < SLICE / 5 {
            scene.batch(&mut nth);
        }
        let (start, cpu, mut batches) = (Instant::now(), cpu_time("thread-self"), 0_u32);
        while start.elapsed() < 2 * SLICE {
            scene.batch(&mut nth);
            batches += 1;
        }
        let requests = f64::from(batches) * BATCH as f64;
        let cpu = (cpu_time("thread-self") - cpu) / 1e9;
        (requests / start.elapsed().as_secs_f64(), requests / cpu)
    };
    std::thread::scope(|scope| {
        let count = &count;
        let all: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || count(thread)))
            .collect();
        all.into_iter()
            .map(|one| one.join().expect("no panic"))
            .fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    })
}

fn primed(runtime: &tokio::runtime::Runtime) -> ApiTokenCache {
    let cache = builder().build().expect("a configuration");
    runtime.block_on(async {
        for n in 0..TOKENS {
            cache.warm(&hot::token(n)).await.expect("a loader");
        }
        cache.warm(UNKNOWN).await.expect("a loader");
    });
    cache
}

fn times(cache: &ApiTokenCache) {
    let mut figures = [const { Vec::new() }; SCENES.len()];
    let mut scenes = SCENES.map(|name| Scene::new(name, cache));
    for _ in 0..ROUNDS {
        for (scene, figures) in scenes.iter_mut().zip(&mut figures) {
            figures.push(nanos(scene));
        }
    }
    let bare_counted = counted(SCENES[0]);
    let bare = figures[0].clone();
    let said = |nanos: f64, instructions: Option<f64>| match instructions {
        Some(instructions) => format!("{nanos:.0} ns, {instructions:.0} instructions"),
        None => format!("{nanos:.0} ns"),
    };
    // The instructions include creating the requests; the times do not.
    let no_layer = "no layer: the service, and the end of the request";
    aside(no_layer, said(median(bare.clone()), None));
    for (name, figures) in SCENES.into_iter().zip(figures).skip(1) {
        let whole = median(figures.clone());
        let own = figures.iter().zip(&bare).map(|(whole, bare)| whole - bare);
        let own = median(own.collect());
        let counted = counted(name)
            .zip(bare_counted)
            .map(|(all, bare)| all - bare);
        let measured = format!("{}; {whole:.0} ns with the service", said(own, counted));
        match name {
            "local hit" => row(name, "≤ 200 ns", measured, own <= 200.0),
            "malformed token" | "checksum fails" => {
                row(name, "≤ 150 ns", measured, own <= 150.0);
            }
            _ => aside(name, measured),
        }
    }
}

/// Returns the instructions per request, including its creation.
fn counted(name: &str) -> Option<f64> {
    const FEW: u32 = 200;
    const MANY: u32 = 1_200;
    let run = |batches: u32| {
        let mut valgrind = valgrind()?;
        let valgrind = valgrind.args(["count", name, &batches.to_string()]);
        let run = valgrind.output().expect("valgrind");
        collected(&String::from_utf8_lossy(&run.stderr))
    };
    let requests = f64::from(MANY - FEW) * BATCH as f64;
    Some((run(MANY)? - run(FEW)?) / requests)
}

fn scaling(cache: &ApiTokenCache) {
    let scenes = ["no layer", "local hit", "local hit, one hot token"];
    let mut wall = [const { Vec::new() }; 3];
    let mut cpu = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (nth, name) in scenes.into_iter().enumerate() {
            let of = |threads| throughput(threads, |_| Scene::new(name, cache));
            let (one, two) = (of(1), of(2));
            wall[nth].push(two.0 / one.0);
            cpu[nth].push(two.1 / one.1);
        }
    }
    for nth in [1, 2] {
        let ratio = median_ratio(&wall[nth], &wall[0]);
        let by_cpu = median_ratio(&cpu[nth], &cpu[0]);
        let said = format!("{ratio:.2}; by CPU time {by_cpu:.2}");
        let what = format!("two threads against one, {}", scenes[nth]);
        match nth {
            1 => row(&what, "≥ 0.9 of no layer's", said, ratio >= 0.9),
            _ => aside(&what, said),
        }
    }
}

pub(crate) fn main() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    let cache = primed(&runtime);
    let arguments = program::arguments();
    // Run by valgrind.
    if let [count, name, batches] = arguments.as_slice()
        && count == "count"
    {
        let (mut scene, mut nth) = (Scene::new(name, &cache), 0);
        for _ in 0..batches.parse().expect("a number") {
            scene.batch(&mut nth);
        }
        return;
    }
    times(&cache);
    scaling(&cache);
}
