//! What cargo says of a crate and of a build, in its JSON.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// `cargo metadata --no-deps`.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    packages: Vec<Package>,
    pub target_directory: PathBuf,
}

/// A package of a workspace.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Package {
    pub id: String,
    pub name: String,
    pub manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Clone, Debug, Deserialize)]
struct Target {
    name: String,
    crate_types: Vec<String>,
}

/// What a folder holds, as far as jobs go.
#[derive(Debug)]
pub(crate) enum Jobs {
    /// This job.
    One(Package),
    /// No job; the folder's own package if it has one.
    None(Option<Package>),
    /// A workspace's jobs.
    Several(Vec<Package>),
}

impl Metadata {
    pub(crate) fn parse(json: &[u8]) -> Result<Metadata, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// The job of the manifest: its own package, or the only one of its workspace if it has none itself.
    pub(crate) fn jobs(&self, manifest: &Path) -> Jobs {
        if let Some(own) = self.packages.iter().find(|package| package.manifest_path == manifest) {
            return if own.is_job() {
                Jobs::One(own.clone())
            } else {
                Jobs::None(Some(own.clone()))
            };
        }
        let mut jobs: Vec<Package> =
            self.packages.iter().filter(|package| package.is_job()).cloned().collect();
        match (jobs.pop(), jobs.is_empty()) {
            (None, _) => Jobs::None(None),
            (Some(only), true) => Jobs::One(only),
            (Some(last), false) => {
                jobs.push(last);
                Jobs::Several(jobs)
            }
        }
    }
}

impl Package {
    fn is_job(&self) -> bool {
        self.targets.iter().any(Target::is_cdylib)
    }
}

impl Target {
    fn is_cdylib(&self) -> bool {
        self.crate_types.iter().any(|kind| kind == "cdylib")
    }
}

/// A line of `cargo build --message-format=json-render-diagnostics`, if it tells of an artifact.
#[derive(Debug, Deserialize)]
struct Artifact {
    package_id: String,
    target: Target,
    filenames: Vec<PathBuf>,
}

/// Reads a build's messages to their end and gives the module that it made of each package.
pub(crate) fn built_modules(
    messages: impl BufRead,
    packages: &[Package],
) -> std::io::Result<Vec<Option<PathBuf>>> {
    let library = |package: &Package, target: &Target| {
        target.is_cdylib() && package.targets.iter().any(|own| own.name == target.name)
    };
    let mut modules = vec![None; packages.len()];
    for line in messages.lines() {
        // Messages of other kinds don't parse as an artifact.
        let Ok(artifact) = serde_json::from_str::<Artifact>(&line?) else { continue };
        for (package, module) in packages.iter().zip(&mut modules) {
            if artifact.package_id == package.id && library(package, &artifact.target) {
                let mut files = artifact.filenames.iter();
                let wasm = files.find(|path| path.extension().is_some_and(|of| of == "wasm"));
                *module = wasm.cloned().or(module.take());
            }
        }
    }
    Ok(modules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(packages: &[(&str, &str)]) -> Metadata {
        let packages: Vec<String> = packages
            .iter()
            .map(|(name, kind)| {
                format!(
                    r#"{{"id":"{name}#1","name":"{name}","manifest_path":"/w/{name}/Cargo.toml",
                    "targets":[{{"name":"{name}","crate_types":["{kind}"]}}]}}"#
                )
            })
            .collect();
        let json =
            format!(r#"{{"packages":[{}],"target_directory":"/w/target"}}"#, packages.join(","));
        Metadata::parse(json.as_bytes()).expect("metadata")
    }

    #[test]
    fn the_folders_own_package_is_the_job_whatever_else_the_workspace_has() {
        let workspace = metadata(&[("one", "cdylib"), ("two", "cdylib"), ("lib", "lib")]);
        let Jobs::One(job) = workspace.jobs(Path::new("/w/two/Cargo.toml")) else {
            panic!("no job")
        };
        assert_eq!(job.name, "two");
        assert!(matches!(workspace.jobs(Path::new("/w/lib/Cargo.toml")), Jobs::None(Some(_))));
    }

    #[test]
    fn a_workspace_folder_stands_for_its_only_job() {
        let root = Path::new("/w/Cargo.toml");
        assert!(matches!(metadata(&[("one", "cdylib"), ("lib", "lib")]).jobs(root), Jobs::One(_)));
        assert!(matches!(metadata(&[("lib", "lib")]).jobs(root), Jobs::None(None)));
        let Jobs::Several(jobs) = metadata(&[("one", "cdylib"), ("two", "cdylib")]).jobs(root)
        else {
            panic!("not several")
        };
        assert_eq!(jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    fn the_module_of_each_package_is_found_among_a_builds_messages() {
        let metadata = metadata(&[("one", "cdylib"), ("two", "cdylib"), ("three", "cdylib")]);
        let artifact = |package: &str, name: &str, file: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"{package}",
                "target":{{"name":"{name}","crate_types":["cdylib"]}},"filenames":["/t/{file}"]}}"#
            )
            .replace('\n', "")
        };
        let messages = [
            artifact("other#1", "one", "other.wasm"),
            "not json".to_owned(),
            artifact("two#1", "two", "two.wasm"),
            artifact("one#1", "one", "one.wasm"),
            artifact("three#1", "three", "three.rlib"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ]
        .join("\n");
        let modules = built_modules(messages.as_bytes(), &metadata.packages).expect("readable");
        let found = |name: &str| Some(PathBuf::from(format!("/t/{name}.wasm")));
        assert_eq!(modules, [found("one"), found("two"), None]);
        assert_eq!(
            built_modules(&b""[..], &metadata.packages).expect("readable"),
            [const { None }; 3]
        );
    }
}
