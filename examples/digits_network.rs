//! Images of digits, a network of two layers: AdamW with warm-up and cosine, two micro-batches a
//! step, an average of the parameters. Stopped within a step and resumed: the same bits.
//!
//! ```sh
//! cargo run --release --example digits_network
//! ```
mod common;

use ndarray_optim::schedule::{Schedule, WarmupCosine};
use ndarray_optim::{AdamW, Checkpoint, Compose, Evaluating, Optimizer, fit::Batches};
use ndarray_optim::{NamedArrays, NamedArraysMut};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (x, y) = common::read_csv("digits.csv")?;
    let x = x / 16.0;
    let new_optimizer = || Optimizer::new(AdamW::new(0.01).ema(0.99));
    let schedule = WarmupCosine::new(0.0, 0.01, 50, 1000);
    let mut results = Vec::new();
    for stop_at in [None, Some(1001)] {
        let start = std::time::Instant::now();
        let (mut net, mut optimizer) = (common::Net::new(64, 64, 10), new_optimizer());
        optimizer.set_accumulation(2);
        let mut batches = Batches::new(1500, 32, 0)?;
        for call in 0..2000 {
            if stop_at == Some(call) {
                let file = Checkpoint::new(call).arrays(net.views());
                let file = file.section("batches", serde_json::to_vec(&batches)?);
                let file = file.state("optimizer", optimizer.state_view())?;
                let mut file = Checkpoint::from_bytes(&file.to_bytes()?)?;
                (net, optimizer) = (common::Net::new(64, 64, 10), new_optimizer());
                file.restore(net.views_mut())?;
                optimizer.load_state_dict(file.take_state("optimizer")?)?;
                batches = serde_json::from_slice(file.bytes("batches")?)?;
            }
            optimizer.set_lr(schedule.value(call / 2));
            let grads = net.gradient(&x, &y, batches.next_batch());
            optimizer.step_with(&mut net, &grads)?;
        }
        Evaluating::new(&mut optimizer).enter_all(&mut net)?;
        let (correct, time) = (net.correct(&x, &y, 1500..1797), start.elapsed());
        println!("{correct} of 297 held-out digits correct, {time:.1?}");
        results.push(Checkpoint::new(0).arrays(net.views()).to_bytes()?);
    }
    assert!(results[0] == results[1], "not the same bits");
    Ok(())
}
