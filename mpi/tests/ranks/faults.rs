//! Ranks that die or disagree: an error on every rank, which names the rank and the parameter.
use crate::{Run, model::*};
use ndarray::ArrayD;
use ndarray_optim::{AdamW, Momentum, NonFinite, Optimizer, Outcome, PolyakSgd};
use ndarray_optim_mpi::{Batch, Config, Distributed, Error, Mode, Ranks};
use std::{env, process, thread, time::Duration};

/// Cases, and what all ranks must say. Rank 1 is at fault.
const CASES: [(&str, &str); 17] = [
    ("dies", "rank 1 has sent nothing of"),
    ("dies between gradients", "rank 1 has sent nothing of"),
    ("hangs", "rank 1 has sent nothing of"),
    ("leaves", "rank 1 has left while"),
    (
        "has another shape",
        "rank 1 differs from rank 0 in `bias`: [12] of f32, rank 0 has [11] of f32",
    ),
    ("has another name", "rank 1 differs from rank 0 in `bias`"),
    (
        "has another gradient shape",
        "on rank 1: `bias` has shape [12], expected [11]",
    ),
    (
        "has another lr",
        "rank 1 differs from rank 0 in lr in `AdamW`: 0.02, rank 0 has 0.01",
    ),
    ("has another algorithm", "rank 1 differs from rank 0 in"),
    (
        "has a NaN",
        "on rank 1: the gradient of parameter `bias` contains NaN",
    ),
    (
        "has an infinity",
        "on rank 1: the gradient of parameter `scale` contains -inf",
    ),
    ("has an invalid lr", "on rank 1: hyper-parameter `lr` is -1"),
    (
        "has no gradient",
        "on rank 1: parameter `cube` has no gradient",
    ),
    (
        "has no loss",
        "on rank 1: the algorithm needs a finite loss, got none",
    ),
    ("has other weights", "on rank 1: the weight is NaN"),
    (
        "makes another call",
        "rank 1 is in a barrier, this rank in saving a checkpoint",
    ),
    ("skips", "skipped, then applied"),
];

pub fn runs() -> Vec<Run> {
    let mut runs = Vec::new();
    for ranks in 2..=4 {
        for (case, says) in CASES {
            let survives = |rank: usize| {
                let gone = rank == 1
                    && (case.starts_with("dies")
                        || ["hangs", "leaves", "makes another call"].contains(&case));
                (!gone).then(|| says.to_owned())
            };
            runs.push(Run {
                expected: (0..ranks).map(survives).collect(),
                ..Run::good(&format!("fault: rank 1 {case}"), ranks)
            });
        }
    }
    runs
}

pub fn run(case: &str, ranks: &Ranks) -> String {
    let case = case.trim_start_matches("fault: rank 1 ");
    let mut said = Vec::new();
    let mut modes = [Mode::Replicated, Mode::Sharded];
    // After a death there is no second mode.
    modes.rotate_left(ranks.size() % 2);
    for mode in modes {
        let outcome = fail(case, ranks, mode);
        let text = match outcome {
            Ok(text) => text,
            Err(error) => error.to_string(),
        };
        let dead = ["sent nothing", "has left", "in a barrier"]
            .iter()
            .any(|of| text.contains(of))
            || ranks.rank() == 1 && text.contains("this rank in a barrier");
        said.push(text);
        if said[0] == "left" {
            return said.remove(0);
        }
        if dead {
            return said.join("; ");
        }
    }
    assert_eq!(said[0], said[1]);
    said.remove(0)
}

fn fail(case: &str, ranks: &Ranks, mode: Mode) -> Result<String, Error> {
    let at_fault = ranks.rank() == 1;
    let mut model = model::<f32>(false);
    if at_fault && case == "has another shape" {
        model.insert("bias".into(), ArrayD::zeros(&[12][..]));
    }
    if at_fault && case == "has another name" {
        let array = model.remove("bias").unwrap();
        model.insert("other".into(), array);
    }
    let mut optimizer = Optimizer::new(AdamW::new(0.01));
    if at_fault && case == "has another algorithm" {
        optimizer = Optimizer::new(Momentum::new(0.01));
    }
    if case == "has no loss" {
        optimizer = Optimizer::new(PolyakSgd::default());
    }
    if case == "skips" {
        optimizer.non_finite = NonFinite::Skip;
    }
    let config = Config {
        bucket: 512,
        ..Config::new(mode)
    };
    let mut all = Distributed::new(ranks, config, optimizer, &model)?;
    let mut grads = gradient(&model, 0, 0, true);
    let good = Batch {
        weight: 1.0,
        loss: Some(2.0),
    };
    all.step(&mut model, &grads, good)?;
    let before = model.clone();
    let bad = |value: f32, name: &str, grads: &mut Model<f32>| {
        if let Some(x) = grads.get_mut(name).unwrap().iter_mut().last() {
            *x = value;
        }
    };
    if at_fault {
        match case {
            "dies" => process::abort(),
            "hangs" => thread::sleep(Duration::from_secs(5)),
            // The process ends in order.
            "leaves" => return Ok("left".into()),
            "has another gradient shape" => {
                grads.insert("bias".into(), ArrayD::zeros(&[12][..]));
            }
            "has a NaN" | "skips" => bad(f32::NAN, "bias", &mut grads),
            "has an infinity" => bad(f32::NEG_INFINITY, "scale", &mut grads),
            "has another lr" => all.optimizer_mut().set_lr(0.02),
            "has an invalid lr" => all.optimizer_mut().set_lr(-1.0),
            "has no gradient" => drop(grads.remove("cube")),
            _ => {}
        }
    }
    if case == "makes another call" {
        return match at_fault {
            true => ranks.barrier().map(|()| String::new()),
            false => all
                .save(env::temp_dir(), 1, 1, &model)
                .map(|()| String::new()),
        };
    }
    let mut batch = good;
    match case {
        "has no loss" if at_fault => batch.loss = None,
        "has other weights" if at_fault => batch.weight = f64::NAN,
        _ => {}
    }
    let mut round = all.begin()?;
    for (i, (name, grad)) in grads.iter().enumerate() {
        if at_fault && case == "dies between gradients" && i == 3 {
            process::abort();
        }
        round.add(name, grad);
    }
    let failed = round.finish(&mut model, batch);
    // Nothing has changed, and another step can follow if all ranks are alive.
    assert_eq!(difference(&before, &model), None);
    if case == "skips" {
        assert_eq!(failed?, Outcome::Skipped);
    } else {
        let error = failed.expect_err("one rank is at fault");
        let dead = matches!(
            error,
            Error::Silent { .. } | Error::Left { .. } | Error::GivenUp { .. }
        );
        if dead {
            let again = all.step(&mut model, &before.clone(), Batch::default());
            assert!(matches!(again, Err(Error::Broken(_))), "{again:?}");
            return Err(error);
        }
        if case != "has no loss" {
            all.optimizer_mut().set_lr(0.01);
        }
        let grads = gradient(&model, 1, 0, true);
        all.step(&mut model, &grads, good)?;
        all.check_equal(&model)?;
        assert!(difference(&before, &model).is_some());
        return Err(error);
    }
    let grads = gradient(&model, 1, 0, true);
    all.step(&mut model, &grads, good)?;
    all.check_equal(&model)?;
    Ok("skipped, then applied".into())
}
