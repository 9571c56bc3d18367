//! Loops to compare with: hand-written steps, and the memory limit.
#![allow(dead_code)]
pub mod by_hand;

use ndarray_optim::algorithm::{Arrays, Element, Kernel, KernelArgs, Rule, RuleState};
use std::time::Instant;

/// Compiles a function for every instruction set and calls that of
/// [`instruction_set`](ndarray_optim::instruction_set), in the same way as the crate does it for
/// steps: what is compared obeys the same environment variable.
macro_rules! for_each_instruction_set {
    (
        $(#[$about:meta])*
        $vis:vis fn $name:ident $(<$generic:ident: $bound:path>)? (
            $($arg:ident: $type:ty),* $(,)?
        ) $(-> $out:ty)? $body:block
    ) => {
        $(#[$about])*
        #[inline]
        $vis fn $name $(<$generic: $bound>)? ($($arg: $type),*) $(-> $out)? {
            use multiversion::{multiversion, target::match_target};
            use ndarray_optim::{InstructionSet, instruction_set};

            #[multiversion(targets(
                "x86_64+avx+avx2+avx512bw+avx512cd+avx512dq+avx512f+avx512vl\
                 +bmi1+bmi2+fma+lzcnt+movbe+popcnt"
            ))]
            fn avx512 $(<$generic: $bound>)? ($($arg: $type),*) $(-> $out)? {
                match_target! {
                    "x86_64+avx512f" => if instruction_set() == InstructionSet::Avx512 {
                        $body
                    } else {
                        avx2($($arg),*)
                    },
                    _ => avx2($($arg),*),
                }
            }
            #[multiversion(targets("x86_64+avx+avx2+bmi1+bmi2+fma+lzcnt+movbe+popcnt"))]
            fn avx2 $(<$generic: $bound>)? ($($arg: $type),*) $(-> $out)? {
                match_target! {
                    "x86_64+avx2" => if instruction_set() == InstructionSet::Baseline {
                        baseline($($arg),*)
                    } else {
                        $body
                    },
                    _ => baseline($($arg),*),
                }
            }
            #[inline(never)]
            fn baseline $(<$generic: $bound>)? ($($arg: $type),*) $(-> $out)? $body

            avx512($($arg),*)
        }
    };
}
use for_each_instruction_set;

for_each_instruction_set! {
    /// The memory limit of Adam: reads p, g, m, v and writes p, m, v, with almost no arithmetic.
    pub fn limit_of_two_moments<A: Element>(p: &mut [A], g: &[A], m: &mut [A], v: &mut [A]) {
        let n = p.len();
        let (g, m, v) = (&g[..n], &mut m[..n], &mut v[..n]);
        for i in 0..n {
            let x = g[i];
            p[i] += x;
            m[i] += x;
            v[i] += x;
        }
    }
}

for_each_instruction_set! {
    /// The memory limit of Momentum and RMSProp: reads p, g, m and writes p, m.
    pub fn limit_of_one_moment<A: Element>(p: &mut [A], g: &[A], m: &mut [A]) {
        let n = p.len();
        let (g, m) = (&g[..n], &mut m[..n]);
        for i in 0..n {
            let x = g[i];
            p[i] += x;
            m[i] += x;
        }
    }
}

/// Reads and writes the parameter and `S` arrays, reads the gradient.
#[derive(Clone, Copy)]
pub struct Traffic<const S: usize>;

impl<const S: usize> Rule for Traffic<S>
where
    [f32; S]: RuleState<f32>,
{
    type Elem = f32;
    type State = [f32; S];
    const STATE: &'static [&'static str] = ["a", "b", "c", "d", "e", "f"].split_at(S).0;
    const COST: u64 = 1;
    #[inline(always)]
    fn delta(&self, _p: f32, g: f32, state: [f32; S]) -> (f32, [f32; S]) {
        (g, state.map(|s| s + g))
    }
}

/// The memory limit of a rule with this many state arrays.
pub fn limit(arrays: usize, p: &mut [f32], g: &[f32], state: &mut [Vec<f32>; 6]) {
    traffic(
        arrays,
        p,
        g,
        Arrays::new(state.each_mut().map(Vec::as_mut_slice)),
    );
}

/// As [`limit`], over chunks.
pub fn traffic(arrays: usize, p: &mut [f32], g: &[f32], state: Arrays<'_, f32>) {
    let args = &KernelArgs::default();
    match arrays {
        0 => Traffic::<0>.run(args, p, g, state),
        1 => Traffic::<1>.run(args, p, g, state),
        2 => Traffic::<2>.run(args, p, g, state),
        3 => Traffic::<3>.run(args, p, g, state),
        4 => Traffic::<4>.run(args, p, g, state),
        5 => Traffic::<5>.run(args, p, g, state),
        _ => Traffic::<6>.run(args, p, g, state),
    }
}

for_each_instruction_set! {
    /// The memory limit of a pass that only reads.
    pub fn read(arrays: &[&[f32]]) -> u32 {
        let mut sum = 0_u32;
        let n = arrays.first().map_or(0, |a| a.len());
        // The arrays side by side, as a rule reads them.
        for start in (0..n).step_by(1024) {
            for array in arrays {
                for x in &array[start..n.min(start + 1024)] {
                    sum = sum.wrapping_add(x.to_bits());
                }
            }
        }
        sum
    }
}

/// `n` pseudo-random numbers in (-1, 1), the same in every run.
pub fn numbers<A: Element>(n: usize, mut seed: u64) -> Vec<A> {
    seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        A::from_f64((seed >> 11) as f64 / (1_u64 << 52) as f64 - 1.0)
    };
    (0..n).map(|_| next()).collect()
}

/// One of several functions that are timed in turn.
pub struct Variant<'a> {
    pub name: &'static str,
    /// The timed function.
    pub before: Box<dyn FnMut() + 'a>,
    pub run: Box<dyn FnMut() + 'a>,
}

impl<'a> Variant<'a> {
    pub fn new(name: &'static str, run: impl FnMut() + 'a) -> Self {
        Variant {
            name,
            before: Box::new(|| {}),
            run: Box::new(run),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// Median of the seconds per call.
    pub seconds: f64,
    /// Median over the rounds of the time divided by that of the first variant.
    pub ratio: f64,
}

pub fn median(mut x: Vec<f64>) -> f64 {
    x.sort_by(f64::total_cmp);
    x[x.len() / 2]
}

/// Times the variants in turn, round by round, so that a change of the machine's speed affects all
/// of them. A sample takes at least `sample` seconds; if `sample` is 0, it is one call after
/// `before`.
pub fn compare(variants: &mut [Variant], sample: f64, rounds: usize) -> Vec<Time> {
    let calls: Vec<usize> = variants
        .iter_mut()
        .map(|variant| {
            (variant.before)();
            (variant.run)();
            if sample == 0.0 {
                return 1;
            }
            let mut calls = 1;
            loop {
                let start = Instant::now();
                (0..calls).for_each(|_| (variant.run)());
                let seconds = start.elapsed().as_secs_f64();
                if seconds > sample / 4.0 {
                    return ((calls as f64 * sample / seconds).ceil() as usize).max(1);
                }
                calls *= 2;
            }
        })
        .collect();
    let mut times = vec![Vec::with_capacity(rounds); variants.len()];
    for round in 0..rounds {
        for k in 0..variants.len() {
            let k = if round % 2 == 0 {
                k
            } else {
                variants.len() - 1 - k
            };
            (variants[k].before)();
            let start = Instant::now();
            (0..calls[k]).for_each(|_| (variants[k].run)());
            times[k].push(start.elapsed().as_secs_f64() / calls[k] as f64);
        }
    }
    let first = times[0].clone();
    times
        .into_iter()
        .map(|times| Time {
            ratio: median(times.iter().zip(&first).map(|(a, b)| a / b).collect()),
            seconds: median(times),
        })
        .collect()
}
