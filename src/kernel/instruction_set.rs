//! The instruction set that kernels use, detected at run time.
use multiversion::{multiversion, target::match_target};
use std::{
    env, fmt,
    sync::atomic::{AtomicU8, Ordering},
};

/// The instruction sets that the loops of the crate are compiled for, in ascending order.
///
/// All give the same bits, except for matrix products: see [`instruction_set`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
#[non_exhaustive]
pub enum InstructionSet {
    /// What every processor of the target has: SSE2 for `x86_64`, NEON for `aarch64`.
    Baseline,
    /// AVX2 (x86-64-v3).
    Avx2,
    /// AVX-512 as of Intel's Ice Lake and AMD's Zen 4.
    Avx512,
}

impl InstructionSet {
    /// All of them, in ascending order.
    pub const ALL: [InstructionSet; 3] = [
        InstructionSet::Baseline,
        InstructionSet::Avx2,
        InstructionSet::Avx512,
    ];

    /// The name, as in the environment variable of [`instruction_set`].
    pub fn name(self) -> &'static str {
        match self {
            InstructionSet::Baseline => "baseline",
            InstructionSet::Avx2 => "avx2",
            InstructionSet::Avx512 => "avx512",
        }
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Returns the instruction set that steps use: the best one of this processor, or the one named by
/// the environment variable `NDARRAY_OPTIM_INSTRUCTION_SET` (`baseline`, `avx2`, `avx512`) if that
/// is lower. The variable is read once. It serves tests and benchmarks: the results are the same
/// bits for every instruction set. Matrix products, which ndarray computes, do not obey it, and
/// code that was compiled for one processor (`-C target-cpu`) does not go below that.
///
/// ```
/// println!("AdamW with {}", ndarray_optim::instruction_set());
/// ```
#[inline]
pub fn instruction_set() -> InstructionSet {
    // The index in `ALL`, or anything else before the first call.
    static USED: AtomicU8 = AtomicU8::new(u8::MAX);
    match USED.load(Ordering::Relaxed) {
        0 => InstructionSet::Baseline,
        1 => InstructionSet::Avx2,
        2 => InstructionSet::Avx512,
        _ => {
            let set = choose();
            USED.store(set as u8, Ordering::Relaxed);
            set
        }
    }
}

#[cold]
fn choose() -> InstructionSet {
    let asked_for = env::var("NDARRAY_OPTIM_INSTRUCTION_SET").unwrap_or_default();
    let mut sets = InstructionSet::ALL.into_iter();
    let limit = sets.find(|set| asked_for.eq_ignore_ascii_case(set.name()));
    // What the compiler was told to use everywhere cannot be left out.
    let lowest = if cfg!(target_feature = "avx512f") {
        InstructionSet::Avx512
    } else if cfg!(target_feature = "avx2") {
        InstructionSet::Avx2
    } else {
        InstructionSet::Baseline
    };
    limit.map_or(detected(), |limit| limit.max(lowest).min(detected()))
}

/// The targets are those of [`for_each_instruction_set`].
#[multiversion(targets(
    "x86_64+avx+avx2+avx512bw+avx512cd+avx512dq+avx512f+avx512vl\
     +bmi1+bmi2+fma+lzcnt+movbe+popcnt",
    "x86_64+avx+avx2+bmi1+bmi2+fma+lzcnt+movbe+popcnt",
))]
fn detected() -> InstructionSet {
    match_target! {
        "x86_64+avx512f" => InstructionSet::Avx512,
        "x86_64+avx2" => InstructionSet::Avx2,
        _ => InstructionSet::Baseline,
    }
}

/// Compiles a function for every [`InstructionSet`]; calls choose one at run time. Another
/// instruction set would add a fifth to the compile time of the crate.
///
/// Each version is compiled once: that for a higher instruction set is a function of its own. It
/// passes on to the next what this processor lacks or [`instruction_set`] rules out.
macro_rules! for_each_instruction_set {
    (
        $(#[$about:meta])*
        $vis:vis fn $name:ident<$($generic:ident: $bound:path),+>(
            $($arg:ident: $type:ty),* $(,)?
        ) $(-> $out:ty)? $body:block
    ) => {
        $(#[$about])*
        #[inline]
        $vis fn $name<$($generic: $bound),+>($($arg: $type),*) $(-> $out)? {
            use $crate::kernel::{InstructionSet, instruction_set};
            use multiversion::{multiversion, target::match_target};

            #[multiversion(targets(
                "x86_64+avx+avx2+avx512bw+avx512cd+avx512dq+avx512f+avx512vl\
                 +bmi1+bmi2+fma+lzcnt+movbe+popcnt"
            ))]
            fn avx512<$($generic: $bound),+>($($arg: $type),*) $(-> $out)? {
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
            fn avx2<$($generic: $bound),+>($($arg: $type),*) $(-> $out)? {
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
            fn baseline<$($generic: $bound),+>($($arg: $type),*) $(-> $out)? $body

            avx512($($arg),*)
        }
    };
}
pub(crate) use for_each_instruction_set;
