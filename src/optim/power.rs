use crate::array::Element;

/// A power x^e of a number x >= 0, with an exponent that is the same for all elements. It is a type
/// parameter of rules, so that the loop for a square root contains no other power.
pub trait Power<A>: Copy + Send + Sync {
    /// Returns the power of `x`.
    fn of(self, x: A) -> A;
}

/// The exponent 1/2.
#[derive(Clone, Copy, Debug)]
pub struct Root;

/// The exponent 1, or else 0.
#[derive(Clone, Copy, Debug)]
pub struct IsFirst(pub bool);

/// Any other exponent.
#[derive(Clone, Copy, Debug)]
pub struct Other<A>(pub A);

impl<A: Element> Power<A> for Root {
    #[inline(always)]
    fn of(self, x: A) -> A {
        x.sqrt()
    }
}

impl<A: Element> Power<A> for IsFirst {
    #[inline(always)]
    fn of(self, x: A) -> A {
        if self.0 { x } else { A::one() }
    }
}

impl<A: Element> Power<A> for Other<A> {
    #[inline(always)]
    fn of(self, x: A) -> A {
        x.portable_powf(self.0)
    }
}

/// A kernel whose rule `$rule<A, P>` depends on a [`Power`].
macro_rules! ByPower {
    ($rule:ident, $A:ident) => {
        Either<
            $rule<$A, crate::optim::power::Root>,
            Either<
                $rule<$A, crate::optim::power::IsFirst>,
                $rule<$A, crate::optim::power::Other<$A>>,
            >,
        >
    };
}
pub(super) use ByPower;

/// Evaluates an expression for the power with an exponent, to a [`ByPower`] kernel.
macro_rules! by_power {
    ($exponent:expr, $power:ident => $rule:expr) => {
        match $exponent {
            0.5 => {
                let $power = crate::optim::power::Root;
                Either::Left($rule)
            }
            exponent @ (0.0 | 1.0) => {
                let $power = crate::optim::power::IsFirst(exponent == 1.0);
                Either::Right(Either::Left($rule))
            }
            exponent => {
                let $power = crate::optim::power::Other(A::from_f64(exponent));
                Either::Right(Either::Right($rule))
            }
        }
    };
}
pub(super) use by_power;
