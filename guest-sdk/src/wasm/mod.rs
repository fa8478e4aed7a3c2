//! What only a component needs, and all of the SDK's `unsafe` but one line of [`Str`](crate::Str): the generated
//! bindings, the guest's half of the fork, the allocator.
#![allow(unsafe_code)]

pub(crate) mod allocator;
pub(crate) mod fork;
pub mod roles;

/// The WIT contract, as generated.
#[allow(missing_docs, clippy::all)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "job",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "ingle::__private::bindings",
    });
}
