//! A training process that is killed again and again loses nothing but the steps since its last
//! checkpoint.
#![cfg(all(unix, feature = "checkpoint", feature = "serde"))]
use ndarray::Array1;
use ndarray_optim::{
    AdamW, Checkpoint, CheckpointError, Checkpoints, Compose, Optimizer,
    schedule::{AnySchedule, CosineWarmRestarts},
};
use std::{
    env, fs,
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Tells a process of this test that it is the one that trains, and in which directory.
const DIRECTORY: &str = "NDARRAY_OPTIM_KILL_DIRECTORY";
/// The step after which it ends by itself.
const STOP: &str = "NDARRAY_OPTIM_KILL_STOP";
const KILLS: usize = 120;
/// Steps from one checkpoint to the next.
const EVERY: u64 = 3;
const KEEP: usize = 3;
/// Large enough that a good part of the time is spent in saving.
const WEIGHTS: usize = 50_000;
const SAMPLES: u64 = 40;

/// Numbers that depend on a position alone: what is saved of the generator is the position.
struct Random {
    position: u64,
}

impl Random {
    fn next(&mut self) -> u64 {
        self.position += 1;
        let mut x = self.position.wrapping_mul(0xd129_0d3c_a5d4_7a4b);
        x = (x ^ (x >> 29)).wrapping_mul(0x8cb9_2ba7_2f3d_8dd7);
        x ^ (x >> 32)
    }

    /// In [-1, 1).
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Samples in an order of its own for each epoch.
struct Loader {
    epoch: u64,
    position: u64,
}

impl Loader {
    fn next(&mut self) -> u64 {
        let mut order: Vec<u64> = (0..SAMPLES).collect();
        let mut random = Random {
            position: self.epoch << 20,
        };
        for i in (1..order.len()).rev() {
            order.swap(i, (random.next() % (i as u64 + 1)) as usize);
        }
        let sample = order[self.position as usize];
        self.position += 1;
        if self.position == SAMPLES {
            *self = Loader {
                epoch: self.epoch + 1,
                position: 0,
            };
        }
        sample
    }
}

/// All that a run consists of.
struct Training {
    step: u64,
    weights: Array1<f32>,
    /// With moments, a clipped gradient and an average of the weights.
    optimizer: Optimizer<f32>,
    schedule: AnySchedule,
    loader: Loader,
    random: Random,
}

impl Training {
    fn new() -> Self {
        Training {
            step: 0,
            weights: Array1::zeros(WEIGHTS),
            optimizer: Optimizer::new(AdamW::default().clip_by_global_norm(1.0).ema(0.9)),
            schedule: CosineWarmRestarts::new(0.1, 50).into(),
            loader: Loader {
                epoch: 0,
                position: 0,
            },
            random: Random { position: 0 },
        }
    }

    fn step(&mut self) {
        self.optimizer.set_lr(self.schedule.value(self.step));
        // Towards the sample, with dropout.
        let mut sample = Random {
            position: self.loader.next() << 30,
        };
        let (shift, slope) = (sample.float(), sample.float());
        let mask = self.random.next() | 1;
        let grad = self.weights.iter().enumerate().map(|(i, w)| {
            let target = shift + slope * (i % 97) as f32;
            if mask >> (i % 64) & 1 == 1 {
                w - target
            } else {
                0.0
            }
        });
        let grad: Array1<f32> = grad.collect();
        self.optimizer.update(&mut self.weights, &grad).unwrap();
        self.step += 1;
    }

    fn checkpoint(&self) -> Checkpoint<'_> {
        let loader = [
            self.loader.epoch.to_le_bytes(),
            self.loader.position.to_le_bytes(),
        ]
        .concat();
        Checkpoint::new(self.step)
            .section("weights", &self.weights)
            .state("optimizer", self.optimizer.state_view())
            .unwrap()
            .section("loader", loader)
            .section("random", self.random.position.to_le_bytes())
    }

    fn resume(mut checkpoint: Checkpoint<'_>) -> Result<Self, CheckpointError> {
        let mut training = Training::new();
        training.step = checkpoint.step();
        checkpoint.restore([("weights", training.weights.view_mut().into_dyn())])?;
        training
            .optimizer
            .load_state_dict(checkpoint.take_state("optimizer")?)
            .unwrap();
        let [mut epoch, mut position] = [[0; 8]; 2];
        let loader = checkpoint.fixed::<16>("loader")?;
        epoch.copy_from_slice(&loader[..8]);
        position.copy_from_slice(&loader[8..]);
        training.loader = Loader {
            epoch: u64::from_le_bytes(epoch),
            position: u64::from_le_bytes(position),
        };
        training.random.position = u64::from_le_bytes(checkpoint.fixed("random")?);
        Ok(training)
    }
}

/// Runs in processes of their own; in the test itself there is nothing to do.
#[test]
fn train_until_killed() {
    let Some(dir) = env::var_os(DIRECTORY) else {
        return;
    };
    let stop: u64 = env::var(STOP).unwrap().parse().unwrap();
    let checkpoints = Checkpoints::open(dir, KEEP).unwrap();
    let mut training = match checkpoints.latest().unwrap() {
        Some(latest) => {
            assert!(latest.skipped.is_empty(), "{latest:?}");
            Training::resume(latest.checkpoint).unwrap()
        }
        None => Training::new(),
    };
    // Past the test's capture. What has been said before the kill can be read after it.
    let mut out = std::io::stdout();
    writeln!(out, "\nresumed {}", training.step).unwrap();
    while training.step < stop {
        training.step();
        if training.step.is_multiple_of(EVERY) || training.step == stop {
            checkpoints.save(&training.checkpoint()).unwrap();
            writeln!(out, "\nsaved {}", training.step).unwrap();
        }
    }
}

fn spawn(dir: &Path, stop: u64) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "train_until_killed", "--nocapture"])
        .env(DIRECTORY, dir)
        .env(STOP, stop.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The numbers behind a word in what a process has said.
fn said(output: &Output, word: &str) -> Vec<u64> {
    let text = String::from_utf8_lossy(&output.stdout);
    // The last line may have been cut by the kill.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .filter_map(|line| line.strip_prefix(word)?.trim().parse().ok())
        .collect()
}

#[test]
fn killed_at_any_moment_a_run_goes_on_from_its_last_checkpoint() {
    if env::var_os(DIRECTORY).is_some() {
        return;
    }
    let start = Instant::now();
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("kill");
    let _ = fs::remove_dir_all(&dir);
    let checkpoints = Checkpoints::open(&dir, KEEP).unwrap();
    // Trains along without ever being killed.
    let mut reference = Training::new();
    let mut delays = Random {
        position: u64::from(std::process::id()) << 20,
    };
    let (mut last, mut files, mut while_saving, mut before_training) = (0, 0, 0, 0);
    for kill in 1..=KILLS {
        let mut child = spawn(&dir, u64::MAX);
        let pid = child.id();
        thread::sleep(Duration::from_micros(delays.next() % 130_000));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            output.status.signal(),
            Some(9),
            "ended by itself: {output:?}"
        );
        match said(&output, "resumed ")[..] {
            [resumed] => assert_eq!(resumed, last, "kill {kill}"),
            _ => before_training += 1,
        }
        // Only its own: those of the ones before it stay until the next save.
        let own = format!(".tmp-{pid}-");
        let mut names = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        while_saving += usize::from(names.any(|name| name.contains(&own)));
        let steps = checkpoints.steps().unwrap();
        // Each kill between the rename and the cleaning leaves one more; the next save that ends
        // cleans up.
        let most = if said(&output, "saved ").is_empty() {
            files + 1
        } else {
            KEEP + 1
        };
        assert!(steps.len() <= most, "{steps:?}");
        files = steps.len();
        for &step in &steps {
            assert_eq!(checkpoints.load(step).unwrap().step(), step);
        }
        let Some(latest) = checkpoints.latest().unwrap() else {
            assert_eq!(last, 0);
            continue;
        };
        assert!(latest.skipped.is_empty(), "{latest:?}");
        let saved = said(&output, "saved ").last().copied().unwrap_or(last);
        let step = latest.checkpoint.step();
        // It may have been killed after the rename and before it could say so.
        assert!(
            [saved, saved + EVERY].contains(&step),
            "kill {kill}: {saved} was saved, {step} is there"
        );
        assert!(step >= last);
        last = step;
        while reference.step < step {
            reference.step();
        }
        let same =
            latest.checkpoint.to_bytes().unwrap() == reference.checkpoint().to_bytes().unwrap();
        assert!(
            same,
            "kill {kill}: step {step} is not that of a run without interruptions"
        );
    }
    assert!(
        last > 0 && while_saving > 0,
        "no kill has met the moment of saving"
    );
    let stop = last + 10;
    let output = spawn(&dir, stop).wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    while reference.step < stop {
        reference.step();
    }
    let resumed = Training::resume(checkpoints.latest().unwrap().unwrap().checkpoint).unwrap();
    assert_eq!(resumed.step, stop);
    assert!(
        resumed
            .weights
            .iter()
            .zip(&reference.weights)
            .all(|(a, b)| a.to_bits() == b.to_bits())
    );
    assert!(resumed.weights.iter().any(|w| *w != 0.0));
    println!(
        "{KILLS} kills survived, {while_saving} of them in the middle of a save and \
         {before_training} before the first step: {stop} steps in {:.1} s",
        start.elapsed().as_secs_f64()
    );
}
