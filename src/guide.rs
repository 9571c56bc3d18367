//! Guides with complete examples.
//!
//! They are the files of the folder `docs` in the repository. Figures are not shown here.

// The guides link to each other by their file names. Of several definitions of a link the first one
// counts, so that the links lead to modules here and to files elsewhere.
macro_rules! guides {
    ($($(#[$on:meta])* $name:ident = $file:literal;)*) => {
        $(
            $(#[$on])*
            #[doc = "[coming-from-pytorch-or-optax.md]: crate::guide::coming_from_pytorch_or_optax"]
            #[cfg_attr(
                all(feature = "checkpoint", feature = "serde"),
                doc = "[checkpoints.md]: crate::guide::checkpoints"
            )]
            #[doc = "[composition.md]: crate::guide::composition"]
            #[doc = "[dialects.md]: crate::guide::dialects"]
            #[doc = "[edges.md]: crate::guide::edges"]
            #[doc = "[family.md]: crate::guide::speed"]
            #[doc = "[objectives.md]: crate::guide::objectives"]
            #[cfg_attr(feature = "serde", doc = "[lbfgs.md]: crate::guide::lbfgs")]
            #[doc = "[schedules.md]: crate::guide::schedules"]
            #[cfg_attr(feature = "serde", doc = "[state.md]: crate::guide::state")]
            #[doc = ""]
            #[doc = include_str!(concat!("../docs/", $file))]
            pub mod $name {}
        )*
    };
}

guides! {
    coming_from_pytorch_or_optax = "coming-from-pytorch-or-optax.md";
    objectives = "objectives.md";
    schedules = "schedules.md";
    composition = "composition.md";
    #[cfg(feature = "serde")]
    state = "state.md";
    #[cfg(all(feature = "checkpoint", feature = "serde"))]
    checkpoints = "checkpoints.md";
    dialects = "dialects.md";
    edges = "edges.md";
    speed = "family.md";
    #[cfg(feature = "serde")]
    lbfgs = "lbfgs.md";
}
