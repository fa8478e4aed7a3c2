//! Landlock: which files a process may open, which ports it may connect to, and whom it may signal.

use std::os::fd::AsFd;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    Scope,
};

use rustix::fs::{FileType, fstat};

use crate::{Needs, Place, Sockets};

/// The kernel's rights as of Linux 6.12; what an older one doesn't know it doesn't hold against anybody.
const KNOWN: ABI = ABI::V6;

/// What any program with a network needs of the system, where it is: names, certificates, time zones, the C library's modules.
const SYSTEM: [&str; 31] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    // Where they lead is open, wherever that is.
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust",
    "/etc/ca-certificates",
    "/var/lib/ca-certificates",
    "/run/systemd/resolve",
    "/run/NetworkManager/resolv.conf",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/zoneinfo",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/dev/urandom",
    "/dev/null",
];

/// Keeps this thread, and all that it starts, to the files and ports of `needs` and a few files of the system's, and away from others'
/// processes. Whether files and processes are guarded; ports are if nothing else guards them (`calls.rs`).
///
/// It is one ruleset: a second one, for other things, would forbid to move files from folder to folder.
pub(crate) fn restrict(needs: &Needs) -> [Result<(), String>; 2] {
    let status = match rules(needs).and_then(RulesetCreated::restrict_self) {
        Ok(status) => status,
        Err(error) => return [Err(error.to_string()), Err(error.to_string())],
    };
    let has = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => ABI::Unsupported,
    };
    let none = match status.landlock {
        LandlockStatus::NotEnabled => "landlock isn't switched on",
        LandlockStatus::NotImplemented => "this kernel has no landlock",
        LandlockStatus::Available { .. } => "this kernel's landlock doesn't know it",
    };
    [ABI::V1, KNOWN].map(|needed| if has >= needed { Ok(()) } else { Err(none.to_owned()) })
}

fn rules(needs: &Needs) -> Result<RulesetCreated, RulesetError> {
    let handled = AccessFs::from_all(KNOWN);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = Ruleset::default()
        // Without it, nothing could be moved from folder to folder: then rather none.
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(handled)?
        .scope(Scope::Signal | Scope::AbstractUnixSocket)?;
    // As of Linux 6.7. Of UDP it knows nothing.
    let (ports, handled_ports) = match &needs.sockets {
        Sockets::Handed => (&[][..], AccessNet::BindTcp | AccessNet::ConnectTcp),
        Sockets::Own(Some(ports)) => (&ports[..], AccessNet::ConnectTcp.into()),
        Sockets::Own(None) => (&[][..], BitFlags::EMPTY),
    };
    if !handled_ports.is_empty() {
        rules = rules.handle_access(handled_ports)?;
    }
    let mut rules = rules.create()?;
    for port in ports {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    for path in SYSTEM {
        rules = allow(rules, Path::new(path), read)?;
    }
    for place in &needs.read {
        rules = allow_place(rules, place, read)?;
    }
    rules = allow(rules, Path::new("/dev/null"), read | AccessFs::WriteFile)?;
    for path in &needs.clear {
        rules = allow(rules, path, AccessFs::RemoveDir.into())?;
    }
    // Devices and sockets are nothing that a job makes, and programs nothing that it starts.
    let made = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeSock | AccessFs::MakeFifo;
    for place in &needs.write {
        rules = allow_place(rules, place, handled & !(made | AccessFs::Execute))?;
    }
    proc_self(rules, read)
}

/// Allows what is there; what isn't can't be opened anyway.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    rights: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(opened) => allow_open(rules, opened, rights),
        Err(_) => Ok(rules),
    }
}

/// As [`allow`]; of what is open, that itself and not what has its name now.
fn allow_place(
    rules: RulesetCreated,
    place: &Place,
    rights: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    match place {
        Place::Path(path) => allow(rules, path, rights),
        Place::Open(opened) => allow_open(rules, opened, rights),
    }
}

fn allow_open(
    rules: RulesetCreated,
    opened: impl AsFd,
    rights: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let is_folder = fstat(&opened)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    // A file takes fewer rights than a folder.
    let rights = if is_folder { rights } else { rights & AccessFs::from_file(KNOWN) };
    rules.add_rule(PathBeneath::new(opened, rights))
}

/// Allows the process to look at itself. The kernel may forget its folder under /proc and make another, which no rule knows; so it is kept open.
fn proc_self(
    rules: RulesetCreated,
    read: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(own) = PathFd::new("/proc/self") else { return Ok(rules) };
    let rules = rules.add_rule(PathBeneath::new(&own, read))?;
    std::mem::forget(own);
    Ok(rules)
}
