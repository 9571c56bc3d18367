//! Exponential, cube root and power of an element: the same bits on every machine, unlike the
//! functions of the system.
//!
//! They have no branches, tables, conversions between integers and floats of 64 bits, or other
//! operations that SSE2 and AVX2 lack, so loops over them vectorize. Subnormal numbers are numbers
//! like all others, as arguments and as results.
//!
//! Greatest errors measured, in units in the last place (ulp) of the result; 1/2 would be the
//! nearest number always:
//!
//! | | `f32` | `f64` |
//! |---|---|---|
//! | `exp` | 0.78 | 0.79 |
//! | `cbrt` | 0.64 | 0.501 |
//! | `powf` | 0.545 | 0.85 |
//!
//! In `f32`, `exp` was compared for every argument, `cbrt` for 4e7, `powf` for 2e8; those in `f64`
//! for 3e7, with quadruple precision. The greatest errors of `exp` are at subnormal results, which
//! are rounded twice.

/// `c0 + c1 x + (c2 + c3 x) x2 + ...` for `x2 = x x`, which is half as deep as Horner's form.
macro_rules! polynomial {
    ($x:expr, $x2:expr, [$c0:expr]) => {
        $c0
    };
    ($x:expr, $x2:expr, [$c0:expr, $c1:expr]) => {
        $c0 + $x * $c1
    };
    ($x:expr, $x2:expr, [$c0:expr, $c1:expr, $($rest:expr),+]) => {
        ($c0 + $x * $c1) + $x2 * polynomial!($x, $x2, [$($rest),+])
    };
}

/// Defines the functions that differ between the types in constants only.
macro_rules! functions {
    (
        $float:ident, $bits:ident, half: $half:literal,
        // Where the exponential is 0 and where it is infinite, ln 2 as a number with few bits and
        // the rest, and the coefficients of (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2.
        exp: $zero_below:literal, $infinite_above:literal, $ln_2:tt, $exp:tt,
        // A scale for numbers below 1 and its cube root, the bits of the guess for 0, a third of
        // half the bits, the number of bits to round off, and the coefficients of c^(-1/3) on the
        // range that the guess leaves.
        cbrt: $scale:literal, $root:literal, $magic:literal, $third:literal, $rounded:literal,
            $cbrt:tt,
    ) => {
        const MANTISSA: u32 = $float::MANTISSA_DIGITS - 1;
        const BIAS: $bits = $float::MAX_EXP as $bits - 1;

        /// Returns e to the power of `x`.
        #[inline(always)]
        pub fn exp(x: $float) -> $float {
            exp_of_sum(x, 0.0)
        }

        /// Returns e to the power of `x + low`, for a `low` that is small. It is ignored where the
        /// result is 0 or infinite anyway.
        #[inline(always)]
        fn exp_of_sum(x: $float, low: $float) -> $float {
            const LN_2: [$float; 2] = $ln_2;
            // Adding it rounds to an integer, which is then in the lowest bits of the mantissa,
            // plus twice the bias of exponents.
            const ROUND: $float = ((3 as $bits) << (MANTISSA - 1)) as $float + (2 * BIAS) as $float;
            // NaN stays NaN.
            let most = if x > $infinite_above {
                $infinite_above
            } else {
                x
            };
            let inside = if most < $zero_below {
                $zero_below
            } else {
                most
            };
            let low = if inside == x { low } else { 0.0 };
            let x = inside;
            // e^x = 2^k e^r
            let shifted = x * std::$float::consts::LOG2_E + ROUND;
            let k = shifted - ROUND;
            // Exact, as is the error of the sum below.
            let high = x - k * LN_2[0];
            let low = k * LN_2[1] - low;
            let r = high - low;
            let r2 = r * r;
            let tail = r2 * polynomial!(r, r2, $exp);
            let sum = 1.0 + high;
            let y = sum + ((high - (sum - 1.0)) - (low - tail));
            // 2^k as two factors: only the last product rounds, where the result is subnormal.
            let bits = shifted.to_bits();
            let half = bits >> 1;
            y * $float::from_bits(half << MANTISSA) * $float::from_bits((bits - half) << MANTISSA)
        }

        /// Returns the cube root of `x`, also of negative numbers.
        #[inline(always)]
        pub fn cbrt(x: $float) -> $float {
            let size = x.abs();
            // Away from subnormal numbers, and from those whose cube root, cubed, overflows.
            let small = size < 1.0;
            let a = size * if small { $scale } else { 0.125 };
            // 1 / cbrt(a), first to 3 bits by a division of the exponent, then to more than 19.
            let guess = $float::from_bits($magic - (a.to_bits() >> $half) * $third);
            let c = (a * guess) * (guess * guess);
            let y = guess * polynomial!(c, c * c, $cbrt);
            let y2 = y * y;
            // cbrt(a) to so few bits that its cube is exact, and so is its distance to a.
            let root = (a * y2).to_bits() + (1 << ($rounded - 1));
            let t = $float::from_bits(root & (!0 << $rounded));
            let distance = a - t * t * t;
            // cbrt(a) = t (1 - u)^(-1/3) with u = distance / a = distance y^3. In `f64` the error
            // of y matters there, to first order.
            let y2 = if MANTISSA > 23 {
                y2 + y2 * (1.0 - (a * y) * y2)
            } else {
                y2
            };
            let u = (distance * y) * y2;
            let unscale: $float = if small { $root } else { 2.0 };
            let t = t * unscale.copysign(x);
            let y = t + (t * u) * (1.0 / 3.0 + u * (2.0 / 9.0 + u * (14.0 / 81.0)));
            if size < $float::INFINITY { y } else { x }
        }

        /// Replaces `power`, which is `x` to the power of `y` for positive finite x, for other x.
        #[inline(always)]
        fn with_special(x: $float, y: $float, power: $float) -> $float {
            // These do not depend on x: a loop with one exponent computes them once.
            let infinite_to_the = |y: $float| {
                let up = if y > 0.0 { $float::INFINITY } else { 1.0 + y };
                if y < 0.0 { 0.0 } else { up }
            };
            let negative_to_the = |y: $float| if y == 0.0 { 1.0 } else { $float::NAN };
            let (of_zero, of_infinity, of_others) =
                (infinite_to_the(-y), infinite_to_the(y), negative_to_the(y));
            // One after another: nested branches are not turned into selections.
            let power = if x == 0.0 { of_zero } else { power };
            let power = if x == $float::INFINITY {
                of_infinity
            } else {
                power
            };
            if x >= 0.0 { power } else { of_others }
        }
    };
}

/// The functions in `f32`.
pub mod single {
    functions! {
        f32, u32, half: 16,
        exp: -104.0, 89.0, [0.693_145_75, 1.4286068e-6],
            [0.4999998, 0.16666518, 0.041671455, 0.008368953, 0.0013657036],
        cbrt: 134217728.0, 0.001953125, 0x54B8_BF25, 0x5555, 16,
            [1.5255795, -0.7861141, 0.30821848, -0.049279913],
    }

    /// Returns `x` to the power of `y` as IEEE 754 defines it for `x >= 0`; -0 is as 0. Negative
    /// bases and NaN as either argument give NaN, unless y is 0: then the result is 1.
    #[inline(always)]
    pub fn powf(x: f32, y: f32) -> f32 {
        // In `f64` without particular care, which is faster than `f32` with it.
        const SQRT_HALF: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
        const INTEGER: f64 = (1_u64 << 52) as f64;
        const ROUND: f64 = (3_u64 << 51) as f64 + 1023.0;
        // Beyond, all results are 0, 1 or infinite; a product with 0 is 0.
        let wide = f64::from(y).clamp(-1e15, 1e15);
        // x = 2^k m with m between sqrt(1/2) and sqrt(2). Subnormal numbers of `f32` are normal.
        let bits = f64::from(x)
            .to_bits()
            .wrapping_add(1.0_f64.to_bits() - SQRT_HALF);
        let m = f64::from_bits((bits & ((1 << 52) - 1)) + SQRT_HALF);
        let k = f64::from_bits((bits >> 52) | INTEGER.to_bits()) - (INTEGER + 1023.0);
        // ln(m) = 2 atanh(s)
        let s = (m - 1.0) / (m + 1.0);
        let z = s * s;
        let atanh = polynomial!(
            z,
            z * z,
            [
                0.6666666655256085,
                0.4000012312690239,
                0.2855069495885919,
                0.23333526364351145
            ]
        );
        let p = wide * (k * std::f64::consts::LN_2 + s * (2.0 + z * atanh));
        let p = if p > 89.0 { 89.0 } else { p };
        let p = if p < -104.0 { -104.0 } else { p };
        // As in `exp_of_sum`.
        let shifted = p * std::f64::consts::LOG2_E + ROUND;
        let r = p - (shifted - ROUND) * std::f64::consts::LN_2;
        let power = polynomial!(
            r,
            r * r,
            [
                1.0,
                1.0000000370827267,
                0.5000000135371737,
                0.16666417109673104,
                0.04166612399235978,
                0.008375035691442724,
                0.0013954516491007031
            ]
        );
        let power = power * f64::from_bits(shifted.to_bits() << 52);
        with_special(x, y, power as f32)
    }
}

/// The functions in `f64`.
pub mod double {
    functions! {
        f64, u64, half: 32,
        exp: -746.0, 710.0, [0.6931471804855391, 7.440617110012397e-11],
            [
                0.5000000000000012, 0.166666666666667, 0.04166666666651892, 0.00833333333330722,
                0.001388888894624102, 0.00019841269917345679, 2.4801490644223602e-5,
                2.7557216336742685e-6, 2.763105597208336e-7, 2.5117849346240862e-8
            ],
        cbrt: 18014398509481984.0, 3.814697265625e-6, 0x5541_C28F_5C28_F5C3, 0x5555_5555, 36,
            [
                1.6551920061079772, -1.1426578081854624, 0.675529692568081, -0.21723710548466815,
                0.028762196795741213
            ],
    }

    /// The number without the lower half of its mantissa, so that products of two are exact.
    #[inline(always)]
    fn upper(x: f64) -> f64 {
        f64::from_bits(x.to_bits() & (!0 << 27))
    }

    /// Returns `x` to the power of `y` as IEEE 754 defines it for `x >= 0`; -0 is as 0. Negative
    /// bases and NaN as either argument give NaN, unless y is 0: then the result is 1.
    #[inline(always)]
    pub fn powf(x: f64, y: f64) -> f64 {
        const SQRT_HALF: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
        const INTEGER: f64 = (1_u64 << 52) as f64;
        // 2/3 with 26 bits, and the rest.
        const TWO_THIRDS: [f64; 2] = [0.6666666567325592, 9.934107462565104e-9];
        // 3/2 ln 2 with so few bits that multiples are exact, and the rest.
        const LN_2: [f64; 2] = [1.039720770839267, 6.509030338887058e-13];
        // The logarithm is computed times 3/2, whose series begins with the numbers 3 s + s^3,
        // and with more digits than a number has: as a sum of two.
        //
        // 2/3 y. Beyond these bounds all results are 0, 1 or infinite.
        let y = y.clamp(-1e20, 1e20);
        let y1 = upper(y);
        let factor = y * (2.0 / 3.0);
        let factor1 = upper(factor);
        let factor2 =
            (y1 * TWO_THIRDS[0] - factor1) + (y1 * TWO_THIRDS[1] + (y - y1) * (2.0 / 3.0));

        // x = 2^k m with m between sqrt(1/2) and sqrt(2)
        let subnormal = x < f64::MIN_POSITIVE;
        let normal = x * if subnormal { (1_u64 << 54) as f64 } else { 1.0 };
        let bias = if subnormal {
            INTEGER + 1077.0
        } else {
            INTEGER + 1023.0
        };
        let bits = normal.to_bits().wrapping_add(1.0_f64.to_bits() - SQRT_HALF);
        let m = f64::from_bits((bits & ((1 << 52) - 1)) + SQRT_HALF);
        let k = f64::from_bits((bits >> 52) | INTEGER.to_bits()) - bias;

        // s = (m - 1) / (m + 1)
        let (n, d) = (m - 1.0, m + 1.0);
        let inverse = 1.0 / d;
        let d1 = upper(d);
        let d2 = m - (d1 - 1.0);
        let s = n * inverse;
        let s1 = upper(s);
        let s2 = inverse * ((n - s1 * d1) - s1 * d2);
        // 3/2 ln(m) = 3 atanh(s) = s (3 + z + ...) with z = s^2
        let square1 = s1 * s1;
        let square2 = s2 * (s1 + s);
        let z = square1 + square2;
        let z2 = z * z;
        let rest = square2
            + z2 * polynomial!(
                z,
                z2,
                [
                    0.6,
                    0.4285714285714653,
                    0.3333333333157041,
                    0.27272727651320583,
                    0.23076880100415,
                    0.20002757328674556,
                    0.1754686371036003,
                    0.1769815822570153
                ]
            );
        let series1 = upper(3.0 + (square1 + rest));
        let series2 = rest - ((series1 - 3.0) - square1);
        let product1 = s1 * series1;
        let product2 = s2 * series1 + series2 * s;
        // 3/2 ln(x)
        let multiple = k * LN_2[0];
        let log1 = upper(multiple + (product1 + product2));
        let log2 = (product2 + k * LN_2[1]) - ((log1 - multiple) - product1);

        let power = exp_of_sum(factor1 * log1, factor2 * log1 + factor * log2);
        with_special(x, y, power)
    }
}

#[cfg(test)]
mod tests {
    use super::{double, single};

    /// The distance to `exact` in units in the last place of the result.
    fn error(got: f32, exact: f64) -> f64 {
        let nearest = exact as f32;
        if got == nearest || got.is_nan() && exact.is_nan() {
            return 0.0;
        }
        let size = nearest.abs().clamp(f32::MIN_POSITIVE, f32::MAX);
        let ulp = f32::from_bits(size.to_bits() & 0x7F80_0000);
        (f64::from(got) - exact).abs() / f64::from(ulp) * f64::from(1 << 23)
    }

    /// The number of steps between neighbors from one number to the other.
    fn steps(x: f64, y: f64) -> u64 {
        if x == y || x.is_nan() && y.is_nan() {
            return 0;
        }
        assert!(
            x.is_sign_positive() == y.is_sign_positive(),
            "{x:e} and {y:e}"
        );
        x.to_bits().abs_diff(y.to_bits())
    }

    /// All kinds of numbers, NaN included.
    fn singles() -> impl Iterator<Item = f32> {
        (0..=u32::MAX).step_by(6007).map(f32::from_bits)
    }

    /// As many numbers, the exponents of half of them near 0.
    fn doubles() -> impl Iterator<Item = f64> {
        (0..700_000_u64).map(|i| {
            let bits = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            if i % 2 == 0 {
                return f64::from_bits(bits);
            }
            f64::from_bits((bits & 0x807F_FFFF_FFFF_FFFF) + (0x3FC0 << 48))
        })
    }

    /// Exponents for these bases: of powers of all sizes, and such as rules have.
    fn exponent(i: usize, x: f64) -> f64 {
        let fraction = i as f64 * 0.618_033_988_749_894_9 % 1.0;
        match i % 3 {
            0 => fraction,
            1 => 8.0 * fraction - 4.0,
            _ => (1460.0 * fraction - 747.0) / libm::log(x.abs()),
        }
    }

    #[test]
    fn errors_in_f32_are_below_one_ulp() {
        for (i, x) in singles().enumerate() {
            let wide = f64::from(x);
            let e = error(single::exp(x), libm::exp(wide));
            assert!(e < 0.8, "exp({x:e}): {e} ulp");
            let e = error(single::cbrt(x), libm::cbrt(wide));
            assert!(e < 0.65, "cbrt({x:e}): {e} ulp");
            let (x, y) = (x.abs(), exponent(i, wide) as f32);
            let e = error(single::powf(x, y), libm::pow(f64::from(x), f64::from(y)));
            assert!(e < 0.55, "{x:e} to the power of {y:e}: {e} ulp");
        }
    }

    #[test]
    fn results_in_f64_are_those_of_libm_or_their_neighbors() {
        let mut differ = [0; 3];
        for (i, x) in doubles().enumerate() {
            let (base, y) = (x.abs(), exponent(i, x));
            let both = [
                (double::exp(x), libm::exp(x)),
                (double::cbrt(x), libm::cbrt(x)),
                (double::powf(base, y), libm::pow(base, y)),
            ];
            for ((got, expected), differ) in both.into_iter().zip(&mut differ) {
                let steps = steps(got, expected);
                assert!(steps <= 1, "{got:e} for {expected:e} at {x:e}, {y:e}");
                *differ += steps;
            }
        }
        // `libm` rounds the cube root correctly.
        assert!(differ[1] < 200, "{differ:?}");
        assert!(differ[0] < 60_000 && differ[2] < 60_000, "{differ:?}");
    }

    #[test]
    fn errors_in_f64_at_hard_arguments_are_below_one_ulp() {
        // The nearest number, and what is missing to the exact result in ulp, by mpmath.
        let exp = |x, _| double::exp(x);
        let cbrt = |x, _| double::cbrt(x);
        type Function = fn(f64, f64) -> f64;
        let cases: [(Function, f64, f64, f64, f64); 23] = [
            (exp, 1.0, 0.0, std::f64::consts::E, 0.326),
            (exp, -1e-20, 0.0, 1.0, 0.0),
            (exp, 0.3466, 0.0, 1.4142509118505286, 0.123),
            (
                exp,
                -708.7439101577027,
                0.0,
                1.5719210725789296e-308,
                -0.214,
            ),
            (exp, 527.877317712504, 0.0, 1.7955859745188663e229, -0.156),
            (exp, -745.1, 0.0, 5e-324, -0.483),
            (exp, 709.78, 0.0, 1.7928227943945155e308, 0.415),
            (cbrt, 2.0, 0.0, 1.2599210498948732, -0.117),
            (
                cbrt,
                5.975917877553359e-7,
                0.0,
                0.008423027272825019,
                -0.500,
            ),
            (cbrt, 5e-324, 0.0, 1.7031839360032603e-108, 0.0),
            (
                cbrt,
                -1.3744784534845093e-308,
                0.0,
                -2.3954069873976795e-103,
                0.500,
            ),
            (cbrt, f64::MAX, 0.0, 5.643803094122362e102, -0.327),
            (
                double::powf,
                0.6919887582417792,
                -1605.1435035127793,
                4.613053761700065e256,
                0.215,
            ),
            (
                double::powf,
                1.4100424312396174,
                1861.467913161304,
                6.178995458765931e277,
                -0.275,
            ),
            (
                double::powf,
                1.628368564137216e241,
                -1.2758744599115779,
                1.7542249645913484e-308,
                0.238,
            ),
            (double::powf, 5e-324, 0.3, 1.018908996936868e-97, -0.063),
            (double::powf, 2.2e-308, -0.75, 5.535833116504121e230, 0.027),
            (
                double::powf,
                0.9999999999999999,
                1e18,
                6.076124616751106e-49,
                0.097,
            ),
            (double::powf, 1e300, 0.001, 1.9952623149688797, -0.474),
            (double::powf, 3.0, -650.0, 7.433347434967e-311, 0.114),
            (double::powf, 1e-8, 0.25, 0.01, -0.090),
            (double::powf, 10.0, 308.0, 1e308, -0.055),
            (
                double::powf,
                1.4215118380503058,
                1996.1409528654747,
                8.156243884708466e304,
                0.153,
            ),
        ];
        for (function, x, y, nearest, missing) in cases {
            let got = function(x, y);
            let steps = got.to_bits() as i64 - nearest.to_bits() as i64;
            let error = steps as f64 - missing * nearest.signum();
            assert!(error.abs() < 0.85, "{got:e} at {x:e}, {y:e}: {error} ulp");
        }
    }

    #[test]
    fn special_arguments_have_the_results_of_ieee_754() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        let same = |got: f64, expected: f64, what: &str| {
            assert!(
                got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(),
                "{what}: {got:e} for {expected:e}"
            );
        };
        for (x, exp, cbrt) in [
            (0.0, 1.0, 0.0),
            (-0.0, 1.0, -0.0),
            (1.0, std::f64::consts::E, 1.0),
            (-27.0, 1.8795288165390832e-12, -3.0),
            (64.0, 6.235149080811617e27, 4.0),
            (inf, inf, inf),
            (-inf, 0.0, -inf),
            (nan, nan, nan),
        ] {
            let single = x as f32;
            same(double::exp(x), exp, &format!("exp({x})"));
            same(double::cbrt(x), cbrt, &format!("cbrt({x})"));
            same(
                single::exp(single).into(),
                f64::from(exp as f32),
                &format!("exp({x}_f32)"),
            );
            same(single::cbrt(single).into(), cbrt, &format!("cbrt({x}_f32)"));
        }
        for (x, y, power) in [
            (0.0, 2.0, 0.0),
            (-0.0, 0.5, 0.0),
            (0.0, 0.0, 1.0),
            (0.0, -0.5, inf),
            (1.0, inf, 1.0),
            (2.0, inf, inf),
            (2.0, -inf, 0.0),
            (0.5, inf, 0.0),
            (inf, 0.5, inf),
            (inf, 0.0, 1.0),
            (inf, -0.5, 0.0),
            (2.0, 1100.0, inf),
            (2.0, -1100.0, 0.0),
            (nan, 0.0, 1.0),
            (nan, 0.5, nan),
            (0.0, nan, nan),
            (2.0, nan, nan),
            (inf, nan, nan),
            (-2.0, 0.5, nan),
            (-2.0, 0.0, 1.0),
            (4.0, 0.5, 2.0),
            (7.0, 1.0, 7.0),
            (3.0, 4.0, 81.0),
        ] {
            same(double::powf(x, y), power, &format!("{x}^{y}"));
            same(
                single::powf(x as f32, y as f32).into(),
                power,
                &format!("{x}^{y} in f32"),
            );
        }
    }

    /// All results as one number.
    macro_rules! digest {
        ($results:expr) => {
            $results.fold(0_u64, |digest, result| {
                let bits = if result.is_nan() {
                    1
                } else {
                    u64::from(result.to_bits())
                };
                (digest.rotate_left(5) ^ bits).wrapping_mul(0x0000_0100_0000_01B3)
            })
        };
    }

    #[test]
    fn the_bits_are_those_of_every_other_machine() {
        let (x, y): (Vec<f32>, Vec<f64>) = (singles().collect(), doubles().collect());
        let digests = [
            digest!(x.iter().map(|&x| single::exp(x))),
            digest!(x.iter().map(|&x| single::cbrt(x))),
            digest!(x.iter().map(|&x| single::powf(x, 0.3))),
            digest!(y.iter().map(|&x| double::exp(x))),
            digest!(y.iter().map(|&x| double::cbrt(x))),
            digest!(y.iter().map(|&x| double::powf(x, 0.3))),
        ];
        let expected = [
            11525135142346455729,
            9201603324183727866,
            404925312160193338,
            4956708930118922826,
            446686628201095968,
            9530350237583481274,
        ];
        assert_eq!(digests, expected);
    }

    #[test]
    fn a_loop_has_the_bits_of_single_calls() {
        #[multiversion::multiversion(targets("x86_64+avx512f+avx512dq+avx512vl", "x86_64+avx2"))]
        fn all<A: Copy>(x: &[A], y: A, out: &mut [[A; 3]], f: impl Fn(A, A) -> [A; 3] + Copy) {
            for (x, out) in x.iter().zip(out) {
                *out = f(*x, y);
            }
        }
        let of_single = |x, y| [single::exp(x), single::cbrt(x), single::powf(x, y)];
        let of_double = |x, y| [double::exp(x), double::cbrt(x), double::powf(x, y)];
        let (x, y): (Vec<f32>, Vec<f64>) = (singles().collect(), doubles().collect());
        let (mut x_out, mut y_out) = (vec![[0.0; 3]; x.len()], vec![[0.0; 3]; y.len()]);
        all(&x, 0.3, &mut x_out, of_single);
        all(&y, 0.3, &mut y_out, of_double);
        for (x, out) in x.iter().zip(&x_out) {
            let alone = of_single(std::hint::black_box(*x), 0.3);
            assert!(
                alone.map(f32::to_bits) == out.map(f32::to_bits) || x.is_nan(),
                "{x:e}"
            );
        }
        for (y, out) in y.iter().zip(&y_out) {
            let alone = of_double(std::hint::black_box(*y), 0.3);
            assert!(
                alone.map(f64::to_bits) == out.map(f64::to_bits) || y.is_nan(),
                "{y:e}"
            );
        }
    }
}
