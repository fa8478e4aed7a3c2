//! Core modules into components.

use std::borrow::Cow;
use std::collections::BTreeSet;

use anyhow::ensure;
use thiserror::Error;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Parser, Payload, Validator};
use wit_component::ComponentEncoder;

/// Why bytes can't become a component.
#[derive(Debug, Error)]
pub enum ComponentError {
    /// The bytes aren't WebAssembly, or not valid WebAssembly.
    #[error("not WebAssembly: {0}")]
    NotWasm(String),
    /// A valid core module that says nothing of the interfaces it speaks.
    #[error(
        "a core module without a `component-type` section, so it is no Ingle job: \
         build it with the `ingle` crate (`ingle new` writes one that works) or with wit-bindgen and Ingle's WIT"
    )]
    NoContract,
    /// A core module whose imports or exports don't fit what its `component-type` section says.
    #[error("the core module can't be made a component: {0}")]
    Encode(String),
}

/// Makes a component of a core module built for `wasm32-wasip1`. A component comes back as it is, unchecked: whoever
/// loads it checks it.
pub fn componentize(bytes: &[u8]) -> Result<Cow<'_, [u8]>, ComponentError> {
    if Parser::is_component(bytes) {
        return Ok(Cow::Borrowed(bytes));
    }
    // The encoder trusts its input, so the input is made trustworthy first.
    Validator::new().validate_all(bytes).map_err(not_wasm)?;
    let contracts = contracts(bytes)?;
    if contracts.is_empty() {
        return Err(ComponentError::NoContract);
    }
    for contract in contracts {
        check(contract).map_err(|e| ComponentError::Encode(format!("{e:#}")))?;
    }
    encode(bytes).map(Cow::Owned).map_err(|e| ComponentError::Encode(format!("{e:#}")))
}

/// What wit-bindgen left to describe the interfaces.
fn contracts(bytes: &[u8]) -> Result<Vec<&[u8]>, ComponentError> {
    let mut contracts = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(not_wasm)? {
            Payload::CustomSection(section) if section.name().starts_with("component-type") => {
                contracts.push(section.data());
            }
            // The encoder takes what an adapter imports of the module for something that is there already, and panics where that is the module itself.
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    if import.map_err(not_wasm)?.module == "__main_module__" {
                        let why = "it imports `__main_module__`, which is itself: only adapters do";
                        return Err(ComponentError::Encode(why.into()));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(contracts)
}

fn not_wasm(error: wasmparser::BinaryReaderError) -> ComponentError {
    ComponentError::NotWasm(error.to_string())
}

/// The encoder walks from each package to those that it needs, and never ends where they lead in a circle: it runs out of stack, which ends
/// the process.
fn check(contract: &[u8]) -> anyhow::Result<()> {
    ensure!(Parser::is_component(contract), "its contract is of a form that is no longer used");
    let decoded = wit_component::decode(contract)?;
    let resolve = decoded.resolve();
    let mut left: Vec<_> = resolve.packages.iter().map(|(id, _)| id).collect();
    let mut sound = BTreeSet::new();
    // Those that need only such ones as are known to be sound, time and again.
    while !left.is_empty() {
        let before = left.len();
        left.retain(|id| {
            let is_sound = resolve.package_direct_deps(*id).all(|dep| sound.contains(&dep));
            if is_sound {
                sound.insert(*id);
            }
            !is_sound
        });
        ensure!(left.len() < before, "packages of its contract need each other in a circle");
    }
    Ok(())
}

fn encode(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    ComponentEncoder::default()
        .validate(true)
        .module(module)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?
        .encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_MODULE: &[u8] = b"\0asm\x01\0\0\0";
    const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn a_component_comes_back_as_it_is() {
        let same = componentize(EMPTY_COMPONENT).expect("a component");
        assert_eq!(&*same, EMPTY_COMPONENT);
    }

    #[test]
    fn a_module_without_a_contract_is_named_as_such() {
        assert!(matches!(componentize(EMPTY_MODULE), Err(ComponentError::NoContract)));
    }

    #[test]
    fn other_bytes_are_not_wasm() {
        for bytes in [&b""[..], b"\0as", b"fn main() {}", &[0xff; 64]] {
            assert!(matches!(componentize(bytes), Err(ComponentError::NotWasm(_))), "{bytes:?}");
        }
    }

    #[test]
    fn a_truncated_module_is_not_wasm() {
        // A type section that claims five bytes and has one.
        let bytes = [EMPTY_MODULE, b"\x01\x05\x01"].concat();
        assert!(matches!(componentize(&bytes), Err(ComponentError::NotWasm(_))));
    }

    #[test]
    fn a_contract_that_is_garbage_is_refused_not_trusted() {
        let name = b"component-type:ingle";
        let mut bytes = EMPTY_MODULE.to_vec();
        bytes.extend([0, name.len() as u8 + 3, name.len() as u8]);
        bytes.extend(name);
        bytes.extend([1, 2]);
        assert!(matches!(componentize(&bytes), Err(ComponentError::Encode(_))));
    }

    #[test]
    fn a_contract_that_leads_in_a_circle_is_refused() {
        let job = include_bytes!("../../../tests/fuzz/corpus/module/packages-in-a-circle");
        let refused = componentize(job).expect_err("it can't be a component");
        assert!(refused.to_string().contains("in a circle"), "{refused}");
        let sound = include_bytes!("../../../tests/fuzz/corpus/module/all");
        assert!(componentize(sound).is_ok());
    }

    #[test]
    fn a_module_that_imports_itself_is_refused() {
        let sound = include_bytes!("../../../tests/fuzz/corpus/module/job0");
        // Behind its types: one import, of a memory, as it has one.
        let import = b"\x02\x16\x01\x0f__main_module__\x01m\x02\0\0";
        let no_memory = 8 + 2 + 17 + 2 + 4;
        let module = [
            &sound[..8 + 2 + 17],
            import,
            &sound[8 + 2 + 17..no_memory],
            &sound[no_memory + 2 + 3..],
        ];
        let refused = componentize(&module.concat()).expect_err("it can't be a component");
        assert!(refused.to_string().contains("only adapters do"), "{refused}");
    }
}
