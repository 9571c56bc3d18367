//! A usual recipe for AdamW: the learning rate warms up and decays as a cosine, the weight decay
//! decays linearly, and the bias is in a group without weight decay. The problem is a linear
//! regression with random data.
//!
//! ```sh
//! cargo run --release --example groups_and_schedules
//! ```
use ndarray::{Array1, Array2, arr0};
use ndarray_optim::{
    AdamW, Group, Optimizer, Params,
    schedule::{Linear, Schedules, WarmupCosine},
};
use ndarray_rand::{RandomExt, rand_distr::StandardNormal};
use rand::{SeedableRng, rngs::StdRng};

const STEPS: u64 = 500;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // 200 rows of 20 features, of which the first three matter, with an offset of 5.
    let mut rng = StdRng::seed_from_u64(0);
    let x = Array2::<f64>::random_using((200, 20), StandardNormal, &mut rng);
    let noise = Array1::<f64>::random_using(200, StandardNormal, &mut rng);
    let y = 3.0 * &x.column(0) - 2.0 * &x.column(1) + x.column(2) + 5.0 + 0.1 * noise;

    let mut optimizer = Optimizer::new(AdamW::new(0.1));
    optimizer.add_group(Group::new("no_decay", ["bias"], AdamW::new(0.1)))?;
    let decay = Linear {
        start_factor: 1.0,
        end_factor: 0.0,
        total_steps: STEPS,
        ..Linear::new(0.1)
    };
    // Later schedules override earlier ones, so the group keeps a weight decay of 0.
    let schedules = Schedules::new()
        .drive("lr", WarmupCosine::new(0.0, 0.1, 50, STEPS))
        .drive("weight_decay", decay)
        .drive_group("no_decay", "weight_decay", 0.0);

    let (mut w, mut b) = (Array1::zeros(20), arr0(0.0));
    for step in 0..STEPS {
        schedules.apply(&mut optimizer, step)?;
        let residual = x.dot(&w) + &b - &y;
        if step % 100 == 0 {
            let (loss, lr) = (0.5 * residual.pow2().sum() / 200.0, optimizer.lr());
            println!("step {step:3}: lr {lr:.4}, loss {loss:.6}");
        }
        let (dw, db) = (x.t().dot(&residual) / 200.0, arr0(residual.sum() / 200.0));
        let mut params = Params::new();
        params
            .add("weight", &mut w, &dw)?
            .add("bias", &mut b, &db)?;
        optimizer.step(params)?;
    }
    println!("weights {:.3} {:.3} {:.3}, bias {b:.3}", w[0], w[1], w[2]);
    Ok(())
}
