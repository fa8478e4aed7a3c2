//! `#[ingle::main]`: makes a function the driver of a job.

use proc_macro::TokenStream;
use quote::quote;
use syn::{Error, ItemFn, parse_macro_input};

/// Makes a function the driver of a job.
///
/// The function takes one `&Context` and returns nothing or a `Result<()>`. In a native build it stays an ordinary
/// function, so that the crate's tests build; in a WebAssembly build it is what the component runs.
#[proc_macro_attribute]
pub fn main(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    if !attribute.is_empty() {
        let text = "#[ingle::main] takes no arguments";
        return Error::new_spanned(&function.sig.ident, text).to_compile_error().into();
    }
    expand(&function).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(function: &ItemFn) -> Result<proc_macro2::TokenStream, Error> {
    let signature = &function.sig;
    if let Some(token) = &signature.asyncness {
        return Err(Error::new_spanned(token, "a driver is not async"));
    }
    if signature.inputs.len() != 1 || !signature.generics.params.is_empty() {
        let text = "a driver looks like `fn main(ctx: &Context) -> Result<()>`";
        return Err(Error::new_spanned(signature, text));
    }
    let name = &signature.ident;
    Ok(quote! {
        #[cfg_attr(not(target_family = "wasm"), allow(dead_code))]
        #function

        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Job;

            impl ::ingle::__private::Guest for Job {
                fn drive() -> ::core::result::Result<(), ::std::string::String> {
                    ::ingle::__private::drive(|ctx| ::ingle::__private::Outcome::into_result(#name(ctx)))
                }

                fn run(entry: u64) {
                    ::ingle::__private::run(entry)
                }
            }

            ::ingle::__private::export!(Job with_types_in ::ingle::__private::bindings);
        };
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let function = syn::parse_str::<ItemFn>(text).unwrap();
        expand(&function).unwrap_err().to_string()
    }

    #[test]
    fn a_driver_stays_an_ordinary_function() {
        let function: ItemFn = syn::parse_quote! {
            pub fn main(ctx: &Context) -> Result<()> {
                Ok(())
            }
        };
        let expanded = expand(&function).unwrap().to_string();
        assert!(expanded.contains(&quote!(#function).to_string()), "{expanded}");
    }

    #[test]
    fn other_functions_are_refused_with_what_a_driver_looks_like() {
        for text in ["fn main() {}", "fn main(a: &Context, b: u8) {}", "fn main<T>(ctx: &T) {}"] {
            assert!(refusal(text).contains("fn main(ctx: &Context)"), "{text}");
        }
    }

    #[test]
    fn async_drivers_are_refused() {
        assert_eq!(refusal("async fn main(ctx: &Context) {}"), "a driver is not async");
    }
}
