//! Algorithms with the hyper-parameters that they come with, and gradients of any size.
use crate::{
    bounded,
    subject::{Real, bits, default_algorithm},
    trace,
};
use arbitrary::{Arbitrary, Result, Unstructured};
use ndarray::{ArrayD, IxDyn};
use ndarray_optim::{Error, NonFinite, Optimizer, Outcome, Params};

pub fn extremes(bytes: &[u8]) {
    let mut u = Unstructured::new(bytes);
    bounded(0, (300_000_000, 0), || {
        // The largest gradients are those whose squares have a sum.
        let _ = if bool::arbitrary(&mut u) == Ok(true) {
            run::<f32>(&mut u, -46..=18)
        } else {
            run::<f64>(&mut u, -324..=150)
        };
    });
}

fn run<A: Real>(u: &mut Unstructured<'_>, exponents: std::ops::RangeInclusive<i32>) -> Result<()> {
    let algorithm = default_algorithm(u)?;
    let mut optimizer = Optimizer::<A>::new(algorithm);
    optimizer.non_finite = NonFinite::Error;
    let shape: &[usize] = u.choose(&[&[4][..], &[2, 3], &[3, 2, 2], &[], &[20]])?;
    let start = *u.choose(&[0.0, 1.0, 1e-3, -100.0, 1e-30])?;
    let mut p = ArrayD::from_elem(IxDyn(shape), A::from_f64(start));
    trace(|| format!("{optimizer:?} from {p}"));
    let decay = optimizer
        .number_mut(None, "weight_decay")
        .map_or(0.0, |wd| *wd);
    // Fromage divides by sqrt(1 + lr^2) in each step; Ftrl has the parameter as a function of its
    // state, without the initial value.
    // Yogi, as in optax, begins with a first moment above 0. Asgd has a decay of its own.
    let mut moved = ["fromage", "ftrl", "yogi", "asgd"].contains(&&*optimizer.name());
    for _ in 0..u.int_in_range(1..=8)? {
        // Of one size, or of any two.
        let sizes = [exponent(u, &exponents)?, exponent(u, &exponents)?];
        let two = u.ratio(1, 3)?;
        let digits = u.int_in_range(1..=99)?;
        let zeros = u.ratio(1, 6)?;
        let mut i = 0;
        let g = ArrayD::from_shape_simple_fn(IxDyn(shape), || {
            i += 1;
            let size = sizes[usize::from(two && i % 3 == 1)];
            let digits = f64::from(digits * i % 100) / 100.0 - 0.3;
            A::from_f64(if zeros { 0.0 } else { digits * size })
        });
        let (before, loss) = (bits(p.view()), *u.choose(&[0.0, 1.5, 1e-30, 1e10])?);
        let mut params = Params::new();
        params
            .loss(loss)
            .add("p", &mut p, &g)
            .expect("the shapes are equal");
        let outcome = optimizer.step(params);
        trace(|| format!("{g} -> {p}, {outcome:?}"));
        if let Err(Error::Shape { .. }) = outcome {
            return Ok(()); // Some take matrices only.
        }
        assert_eq!(outcome, Ok(Outcome::Applied), "with {g}");
        assert!(
            p.iter().all(|p| p.f64().is_finite()),
            "{p} from finite gradients of {:e} and {:e}",
            sizes[0],
            sizes[1]
        );
        let point = optimizer.evaluate_param("p", &p).expect("it is known");
        assert!(
            point.iter().all(|p| p.f64().is_finite()),
            "evaluation {point}"
        );
        moved |= !zeros;
        assert!(
            moved || decay != 0.0 || bits(p.view()) == before,
            "gradients of zero have moved a parameter to {p}"
        );
        for (name, array) in optimizer.state("p") {
            assert!(
                array.iter().all(|x| !x.f64().is_nan()),
                "`{name}` is {array}"
            );
        }
    }
    Ok(())
}

/// A power of ten, mostly one at which something happens.
fn exponent(u: &mut Unstructured<'_>, range: &std::ops::RangeInclusive<i32>) -> Result<f64> {
    let exponent = if u.ratio(1, 3)? {
        u.int_in_range(-3..=3)?
    } else {
        u.int_in_range(range.clone())?
    };
    Ok(10_f64.powi(exponent))
}
