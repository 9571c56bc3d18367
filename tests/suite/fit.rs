//! The parts of a training loop.
use ndarray_optim::{
    Error,
    fit::{Batches, History, LrRange, Stop, StopReason},
};
use std::{thread::sleep, time::Duration};

fn epoch(batches: &mut Batches) -> Vec<usize> {
    let number = batches.per_epoch();
    (0..number)
        .flat_map(|_| batches.next_batch().to_vec())
        .collect()
}

#[test]
fn the_order_of_rows_is_that_of_the_seed_and_the_epoch() {
    // SplitMix64 and the shuffle of Fisher and Yates in Python.
    let expected = [
        [4, 2, 6, 9, 3, 0, 8, 5, 1, 7],
        [7, 9, 1, 4, 8, 2, 5, 3, 6, 0],
        [5, 9, 3, 0, 4, 8, 7, 1, 6, 2],
    ];
    for size in [1, 3, 10, 11] {
        let mut batches = Batches::new(10, size, 42).unwrap();
        assert_eq!(epoch(&mut batches), expected[0]);
        assert_eq!(epoch(&mut batches), expected[1]);
        batches.seek(u64::MAX, 0).unwrap();
        assert_eq!(epoch(&mut batches), expected[2]);
        assert_eq!(batches.position(), (0, 0));
    }
    let mut in_order = Batches::new(10, 4, 42).unwrap().shuffle(false);
    assert!((0..3).all(|_| epoch(&mut in_order).into_iter().eq(0..10)));
}

#[test]
fn every_order_of_three_rows_is_about_as_frequent() {
    let mut batches = Batches::new(3, 3, 1).unwrap();
    let mut counts = std::collections::HashMap::new();
    for _ in 0..6000 {
        *counts.entry(epoch(&mut batches)).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 6);
    // Five standard deviations of a binomial distribution.
    assert!(
        counts
            .values()
            .all(|&count: &i32| (count - 1000).abs() < 145),
        "{counts:?}"
    );
}

#[test]
fn the_last_batch_is_smaller_or_left_out() {
    let sizes = |batches: &mut Batches, n: usize| -> Vec<usize> {
        (0..n).map(|_| batches.next_batch().len()).collect()
    };
    let mut all = Batches::new(10, 4, 0).unwrap();
    assert_eq!((all.per_epoch(), sizes(&mut all, 4)), (3, vec![4, 4, 2, 4]));
    let mut dropped = Batches::new(10, 4, 0).unwrap().drop_last(true).unwrap();
    assert_eq!(
        (dropped.per_epoch(), sizes(&mut dropped, 3)),
        (2, vec![4, 4, 4])
    );
    assert_eq!(dropped.position(), (1, 1));
    let whole = Batches::new(4, 4, 0).unwrap().drop_last(true).unwrap();
    assert_eq!(whole.per_epoch(), 1);
}

#[test]
fn batches_that_cannot_be_are_refused() {
    let refused = |result: Result<Batches, Error>, field: &str| {
        let error = result.unwrap_err();
        assert!(
            matches!(&error, Error::HyperParameter { field: f, .. } if f == field),
            "{error}"
        );
    };
    refused(Batches::new(0, 4, 0), "rows");
    refused(Batches::new(4, 0, 0), "batch_size");
    refused(Batches::new(4, 5, 0).unwrap().drop_last(true), "batch_size");
    let mut batches = Batches::new(10, 4, 0).unwrap();
    batches.next_batch();
    assert!(batches.seek(7, 3).is_err());
    assert_eq!(batches.position(), (0, 1));
}

#[test]
fn batches_resume_at_every_position() {
    for position in 0..12 {
        let make = || Batches::new(10, 3, 5).unwrap().drop_last(true).unwrap();
        let mut whole = make();
        for _ in 0..position {
            whole.next_batch();
        }
        let (epoch, batch) = whole.position();
        let mut sought = make();
        sought.seek(epoch, batch).unwrap();
        let file = serde_json::to_string(&whole).unwrap();
        let mut loaded: Batches = serde_json::from_str(&file).unwrap();
        for _ in 0..7 {
            let expected = whole.next_batch().to_vec();
            assert_eq!(sought.next_batch(), expected);
            assert_eq!(loaded.next_batch(), expected);
        }
    }
    let wrong = [
        r#"{"rows":0,"batch_size":3,"seed":5,"shuffle":true,"drop_last":true,"epoch":0,"batch":0}"#,
        r#"{"rows":9,"batch_size":3,"seed":5,"shuffle":true,"drop_last":true,"epoch":0,"batch":3}"#,
        r#"{"rows":9,"batch_size":3,"seed":5,"shuffle":true,"drop_last":true,"epoch":0,"batch":0,"x":1}"#,
    ];
    for file in wrong {
        assert!(serde_json::from_str::<Batches>(file).is_err(), "{file}");
    }
    // No memory is taken before the first batch.
    let huge = wrong[0].replace("\"rows\":0", "\"rows\":1000000000000000");
    assert!(serde_json::from_str::<Batches>(&huge).is_ok());
}

fn run(mut stop: Stop, values: &[f64]) -> (Option<StopReason>, u64) {
    let reason = values
        .iter()
        .find_map(|&value| stop.observe(value, Some(value)));
    (reason, stop.observed())
}

#[test]
fn each_condition_stops_at_its_observation() {
    let falling: Vec<f64> = (0..100).map(|i| 1.0 / (1.0 + f64::from(i))).collect();
    let stops = |stop, reason, at| assert_eq!(run(stop, &falling), (Some(reason), at));
    // After k steps there have been k + 1 observations.
    stops(Stop::new().steps(0), StopReason::Steps, 1);
    stops(Stop::new().steps(10), StopReason::Steps, 11);
    // 1/10 is observed after nine steps.
    stops(Stop::new().target(0.1), StopReason::Target, 10);
    stops(Stop::new().grad_norm(0.1), StopReason::GradNorm, 10);
    // 1/i - 1/(i + 1) <= 0.01 from i = 10 on.
    stops(Stop::new().change(0.01), StopReason::Change, 11);
    // Better by more than 0.04: 1, 1/2, 1/3, 1/4, 1/5, 1/7, 1/10, and then 1/17.
    stops(
        Stop::new().min_delta(0.04).patience(3),
        StopReason::Patience,
        13,
    );
    stops(Stop::new().time(Duration::ZERO), StopReason::Time, 1);
    assert_eq!(run(Stop::new(), &falling), (None, 100));
    // The first reason in their order.
    stops(
        Stop::new().steps(9).grad_norm(0.1).target(0.1),
        StopReason::Target,
        10,
    );

    let noisy = [3.0, 2.0, 2.5, 1.0, 1.0, 1.5, 0.9, 1.0, 1.1, 1.2];
    assert_eq!(
        run(Stop::new().patience(3), &noisy),
        (Some(StopReason::Patience), 10)
    );
    assert_eq!(
        run(Stop::new().patience(2), &noisy),
        (Some(StopReason::Patience), 6)
    );
    let scaled: Vec<f64> = falling.iter().map(|x| 1e9 * (1.0 + x)).collect();
    // Relative to the objective: (1/i - 1/(i + 1)) / (1 + 1/i) <= 0.01 from i = 10 on.
    assert_eq!(
        run(Stop::new().change(0.01), &scaled),
        (Some(StopReason::Change), 11)
    );
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let stop = Stop::new().target(-1e300).steps(0);
        assert_eq!(run(stop, &[value]), (Some(StopReason::NotFinite), 1));
    }
}

#[test]
fn the_best_observation_is_known_when_it_comes() {
    let mut stop = Stop::new();
    assert!(!stop.improved());
    let improved = [3.0, 4.0, 3.0, 2.0, f64::NAN, 1.0].map(|value| {
        stop.observe(value, None);
        stop.improved()
    });
    assert_eq!(improved, [true, false, false, true, false, true]);
    assert_eq!((stop.best(), stop.observed()), (Some(1.0), 6));
}

#[test]
fn a_rule_resumes_with_its_counts_and_its_time() {
    let rule = || {
        Stop::new()
            .patience(3)
            .change(1e-9)
            .time(Duration::from_secs(3600))
    };
    let values = [3.0, 2.0, 2.5, 2.25, 2.125, 1.0];
    for saved in 0..5 {
        let (mut whole, mut resumed) = (rule(), rule());
        for value in &values[..saved] {
            whole.observe(*value, None);
            resumed.observe(*value, None);
        }
        let file = serde_json::to_string(&resumed).unwrap();
        let mut resumed: Stop = serde_json::from_str(&file).unwrap();
        assert_eq!(serde_json::to_string(&resumed).unwrap(), file);
        for value in &values[saved..] {
            assert_eq!(resumed.observe(*value, None), whole.observe(*value, None));
            assert_eq!(
                (resumed.improved(), resumed.best()),
                (whole.improved(), whole.best())
            );
        }
    }
    let mut first = Stop::new().time(Duration::from_millis(30));
    first.observe(1.0, None);
    sleep(Duration::from_millis(20));
    first.observe(1.0, None);
    assert!(first.elapsed() >= Duration::from_millis(20));
    let mut second: Stop = serde_json::from_str(&serde_json::to_string(&first).unwrap()).unwrap();
    sleep(Duration::from_millis(1));
    second.observe(1.0, None);
    // The pause does not count.
    assert_eq!(second.elapsed(), first.elapsed());
    sleep(Duration::from_millis(20));
    assert_eq!(second.observe(1.0, None), Some(StopReason::Time));
}

fn odd_history() -> History {
    let mut history = History::new();
    history.push(0, [("loss", 1.0 / 3.0), ("a,\"b\"\nc", -0.0)]);
    history.push(1, [("lr", f64::INFINITY)]);
    history.push(1, [("loss", 1e300), ("loss", 5e-324)]);
    history.push(7, [("loss", f64::NAN), ("lr", f64::NEG_INFINITY)]);
    history.push(8, []);
    history
}

#[test]
fn a_history_reads_its_own_files() {
    let history = odd_history();
    assert!(history.names().eq(["loss", "a,\"b\"\nc", "lr"]));
    assert_eq!(history.len(), 4);
    assert!(
        history
            .values("lr")
            .eq([(1, f64::INFINITY), (7, f64::NEG_INFINITY)])
    );
    assert_eq!(
        (history.last("a,\"b\"\nc"), history.last("x")),
        (Some(-0.0), None)
    );
    let csv = history.to_csv();
    let lines = "0,0.3333333333333333,-0.0,\n1,5e-324,,inf\n7,NaN,,-inf\n8,,,\n";
    assert_eq!(csv, format!("step,loss,\"a,\"\"b\"\"\nc\",lr\n{lines}"));
    assert_eq!(History::from_csv(&csv), Ok(history.clone()));
    assert_eq!(
        History::from_csv(&csv.replace(",lr\n", ",lr\r\n")),
        Ok(history.clone())
    );
    assert_eq!(History::from_csv("step"), Ok(History::new()));

    let json = history.to_json_lines();
    assert_eq!(
        json.lines().nth(2),
        Some(r#"{"step":7,"loss":"NaN","lr":"-inf"}"#)
    );
    assert_eq!(History::from_json_lines(&json), Ok(history));
    assert_eq!(History::from_json_lines(""), Ok(History::new()));
}

#[test]
fn a_text_that_is_no_history_is_refused_with_its_line() {
    let csv = |text: &str| History::from_csv(text).unwrap_err().to_string();
    assert_eq!(csv(""), "line 1: expected `step` and the names of columns");
    assert_eq!(
        csv("steps,loss\n"),
        "line 1: expected `step` and the names of columns"
    );
    assert_eq!(
        csv("step,\"loss\n1,2\n"),
        "line 1: expected `step` and the names of columns"
    );
    assert_eq!(csv("step,a,a\n"), "line 1: column `a` appears twice");
    assert_eq!(csv("step,a\n1,2\n1,3\n"), "line 3: step 1 appears twice");
    assert_eq!(
        csv("step,\"a\nb\"\n1,2\nx,3\n"),
        "line 4: `x,3` does not begin with a step"
    );
    assert_eq!(csv("step,a\n1,2,3\n"), "line 2: 2 values, expected 1");
    assert_eq!(csv("step,a\n1,zwei\n"), "line 2: `zwei` is no number");
    let json = |text: &str| History::from_json_lines(text).unwrap_err().line;
    assert_eq!(json("{\"step\":1}\n{\"loss\":1}\n"), 2);
    assert_eq!(json("{\"step\":1,\"a\":1,\"a\":2}"), 1);
    assert_eq!(json("{\"step\":1}\n\n"), 2);
}

#[test]
fn the_range_test_grows_by_a_constant_factor_and_ends_when_the_loss_explodes() {
    let mut range = LrRange::new(1e-4, 1e4, 9).unwrap();
    // Falls fastest at the rate 1 and explodes after the rate 10.
    for loss in [5.0, 4.9, 4.7, 4.2, 3.0, 1.0, 50.0] {
        assert!(range.next_lr().is_some());
        range.observe(loss);
    }
    assert_eq!(range.next_lr(), None);
    let rates: Vec<f64> = range.curve().map(|(lr, _)| lr).collect();
    for (lr, expected) in rates.iter().zip([1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0]) {
        assert!((lr / expected - 1.0).abs() < 1e-14, "{lr} {expected}");
    }
    // 3 to 1 is the step with the rate 1.
    assert!((range.suggestion().unwrap() - 1.0).abs() < 1e-14);

    let mut rising = LrRange::new(1e-3, 1.0, 4).unwrap();
    for loss in [1.0, 1.1, 1.2, 1.3] {
        rising.observe(loss);
    }
    assert_eq!((rising.suggestion(), rising.next_lr()), (None, None));
    let mut nan = LrRange::new(1e-3, 1.0, 4).unwrap();
    nan.observe(f64::NAN);
    assert_eq!((nan.suggestion(), nan.next_lr()), (None, None));
    for (min, max, steps) in [
        (0.0, 1.0, 5),
        (1.0, 1.0, 5),
        (f64::NAN, 1.0, 5),
        (0.1, f64::INFINITY, 5),
        (0.1, 1.0, 1),
    ] {
        assert!(LrRange::new(min, max, steps).is_err());
    }
}
