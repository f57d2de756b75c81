//! Random interleavings of everything that can happen to a few mitras, on two nodes with real Valkey and Postgres, beside a plain
//! model. Whatever comes late, twice or from elsewhere: after an acknowledged `offline` or deactivation nothing makes a mitra
//! available until an acknowledged `online`; nothing goes back; at rest the mirror is the store.
//!
//! The seed is printed when a run fails; `HADIR_TEST_SEED=<seed> cargo test --test it -- interleavings` repeats its steps.

mod model;
mod steps;

use futures_util::future::join_all;
use hadir::domain::Mode;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use self::{model::Model, steps::Stage};
use crate::support::{Backend, World};

/// Rounds of one run; each has a command at most per mitra, and noise around it.
const ROUNDS: usize = 120;
/// Rounds between two looks at everything.
const REST: usize = 20;

/// Four runs side by side, each with its own seed and its own stores.
macro_rules! runs {
    ($($name:ident),*) => { $(#[tokio::test] async fn $name() { run(stringify!($name)).await; })* };
}
runs!(one, two, three, four);

/// The seed of the environment, or a new one; tells it when the run fails.
struct Seed(u64, &'static str);

impl Seed {
    fn new(name: &'static str) -> Self {
        let given = std::env::var("HADIR_TEST_SEED").ok();
        let given = given.map(|text| text.parse().expect("HADIR_TEST_SEED is a whole number"));
        Self(given.unwrap_or_else(|| rand::rng().random()), name)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("run `{}` failed; repeat its steps with HADIR_TEST_SEED={}", self.1, self.0);
        }
    }
}

async fn run(name: &'static str) {
    let seed = Seed::new(name);
    let mut random = StdRng::seed_from_u64(seed.0);
    let world = World::new(Backend::Clustered).await;
    let mut stage = Stage::new(&world).await;
    let mut model = Model::of(stage.mitras.len());
    let mut steps = 0;
    for round in 1..=ROUNDS {
        let commands = model.commands(&mut random);
        let noise = stage.noise(&mut random);
        steps += commands.len() + noise.len();
        // All at once: only commands to the same mitra have an order.
        let (done, ()) =
            tokio::join!(join_all(commands.iter().map(|(mitra, command)| stage.command(*mitra, *command))), async {
                drop(join_all(noise.iter().map(|noise| stage.make(noise))).await)
            },);
        for ((mitra, command), answer) in commands.into_iter().zip(done) {
            model.acknowledged(mitra, command, &answer);
        }
        if random.random_ratio(1, 12) {
            let expired = stage.expire(&mut random).await;
            steps += 1;
            expired.into_iter().for_each(|mitra| model.expired(mitra));
        }
        stage.remember(&mut random).await;
        if random.random_ratio(1, 40) {
            stage.empty().await;
            steps += 1;
        }
        stage.watch(&model).await;
        if round % REST == 0 {
            stage.rest(&world, &model).await;
        }
    }
    stage.went_nowhere_back();
    assert!(stage.nodes.iter().all(|node| node.presence().mode() == Mode::Live));
    println!("{name}: {steps} steps, seed {}", seed.0);
}
