//! Trains a two-layer network on handwritten digits with two algorithms in one optimizer: Muon for
//! the weight matrices, AdamW for the biases. Prints the accuracy on held-out digits.
//!
//! ```sh
//! cargo run --release --example mixed_groups
//! ```
use ndarray::{Array1, Array2, Axis, s};
use ndarray_optim::{AdamW, Group, Muon, Optimizer, Params, Select};
use ndarray_rand::{RandomExt, rand_distr::Normal};
use rand::{SeedableRng, rngs::StdRng};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // 8 x 8 pixels from 0 to 16 and the digit, in 1797 rows; the last 297 are held out.
    let lines = include_str!("data/digits.csv").lines().skip(1);
    let fields = lines.flat_map(|line| line.split(','));
    let values: Result<Vec<f32>, _> = fields.map(str::parse).collect();
    let table = Array2::from_shape_vec((1797, 65), values?)?;
    let pixels = table.slice(s![.., ..64]).to_owned() / 16.0;
    let one_hot = |(row, digit)| f32::from(table[[row, 64]] == digit as f32);
    let digits = Array2::from_shape_fn((1797, 10), one_hot);
    let (x, x_test) = pixels.view().split_at(Axis(0), 1500);
    let (y, y_test) = digits.view().split_at(Axis(0), 1500);

    let (normal, mut rng) = (Normal::new(0.0_f32, 0.1)?, StdRng::seed_from_u64(0));
    let mut w1 = Array2::random_using((64, 64), normal, &mut rng);
    let mut w2 = Array2::random_using((64, 10), normal, &mut rng);
    let (mut b1, mut b2) = (Array1::<f32>::zeros(64), Array1::<f32>::zeros(10));

    let mut optimizer = Optimizer::new(AdamW::new(0.01));
    optimizer.add_group(Group::new("matrices", Select::rank(2), Muon::new(0.02)))?;
    for _ in 0..100 {
        let hidden = (x.dot(&w1) + &b1).tanh();
        let exp = (hidden.dot(&w2) + &b2).exp();
        let softmax = &exp / &exp.sum_axis(Axis(1)).insert_axis(Axis(1));
        // Back-propagation of the mean cross entropy.
        let d2 = (softmax - y.view()) / 1500.0;
        let d1 = d2.dot(&w2.t()) * (1.0 - hidden.pow2());
        let (dw1, db1) = (x.t().dot(&d1), d1.sum_axis(Axis(0)));
        let (dw2, db2) = (hidden.t().dot(&d2), d2.sum_axis(Axis(0)));

        let mut params = Params::new();
        params.add("w1", &mut w1, &dw1)?.add("b1", &mut b1, &db1)?;
        params.add("w2", &mut w2, &dw2)?.add("b2", &mut b2, &db2)?;
        optimizer.step(params)?;
    }

    let scores = (x_test.dot(&w1) + &b1).tanh().dot(&w2) + &b2;
    let max = scores.fold_axis(Axis(1), f32::MIN, |max, &x| max.max(x));
    let chosen = (&scores - &max.insert_axis(Axis(1))).mapv(|x| f32::from(x == 0.0));
    let correct = (&chosen * &y_test).sum();
    println!("{correct} of {} held-out digits correct", x_test.nrows());
    Ok(())
}
